//! Figures, as text and as JSON.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::{Value, json};

use crate::{
    asked::Asked,
    options::Arguments,
    silence::percentile,
    timeline::{Passed, STAGES},
    window::{Faults, Sample},
    world::World,
};

/// The upper ends of the histogram's columns, in milliseconds.
const HISTOGRAM: [f64; 12] = [
    10.0, 20.0, 50.0, 100.0, 200.0, 300.0, 500.0, 1_000.0, 1_500.0, 2_000.0, 5_000.0, 10_000.0,
];

/// What was disturbed, which decides what the figures mean.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// A replica: its shards move, its subscribers fail over.
    Replica(usize),
    /// Nothing any more: the group settles.
    Nobody,
    /// The routes to these clusters.
    Silent(BTreeSet<usize>),
    /// These clusters are down: nothing can arrive from them, and nothing may move.
    Down(BTreeSet<usize>),
    /// These clusters are back: how long until the first change arrives.
    Back(BTreeSet<usize>),
}

/// One line of figures, in milliseconds.
#[derive(Debug, Default)]
struct Row {
    label: String,
    silence: Vec<f64>,
    latest: Vec<f64>,
    /// How many silences had not ended.
    open: u64,
    /// Where the longest silence was.
    worst: String,
}

/// One takeover.
#[derive(Debug)]
struct Takeover {
    silence: f64,
    label: String,
    passed: Passed,
}

/// The results of one scenario.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    name: String,
    pub(crate) rounds: u32,
    rows: Vec<Row>,
    /// How often the epoch of a stream changed.
    moves: usize,
    asked: Asked,
    pub(crate) faults: Faults,
    takeovers: Vec<Takeover>,
    /// Why subscribers were disconnected, and how often.
    left: BTreeMap<String, usize>,
    /// Whether real API servers restart.
    pub(crate) may_have_gaps: bool,
    /// Why it was not measured at all.
    pub(crate) skipped: Option<String>,
    /// Why it ended early.
    pub(crate) failed: Option<String>,
}

impl Tally {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// Whether nothing was lost or duplicated, and nothing failed. A real API server that restarts
    /// may have lost the content of its cache: then gaps are allowed.
    pub(crate) fn is_clean(&self) -> bool {
        let mut faults = self.faults;
        if self.may_have_gaps {
            (faults.gaps, faults.coalesced) = (0, 0);
        }
        faults.is_clean() && self.failed.is_none()
    }

    /// Adds what all subscribers have received since the window was opened.
    pub(crate) fn window(&mut self, world: &mut World, window: &str, scope: &Scope) {
        let samples = world.take();
        self.count(world, &samples);
        for sample in &samples {
            let Some((who, value)) = judged(world, sample, scope) else {
                continue;
            };
            let label = [window, &who].join(if window.is_empty() { "" } else { ": " });
            let place = self.place(world, sample);
            let row = self.row(label);
            if row.silence.iter().all(|known| *known < millis(value)) {
                row.worst = place;
            }
            row.silence.push(millis(value));
            row.latest.push(millis(sample.silence.latest));
            row.open += u64::from(sample.silence.is_open);
        }
        if let Scope::Replica(victim) = scope {
            self.takeovers(world, &samples, *victim);
        }
    }

    /// Which round, stream and subscriber a sample is of.
    fn place(&self, world: &World, sample: &Sample) -> String {
        let cluster = world.writer.streams[sample.stream].cluster;
        let cluster = world.clusters.all[cluster].name();
        let (round, subscriber) = (self.rounds + 1, sample.subscriber);
        format!("round {round}, {cluster}, subscriber {subscriber}")
    }

    fn row(&mut self, label: String) -> &mut Row {
        let known = self.rows.iter().position(|row| row.label == label);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row {
                label,
                ..Row::default()
            });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }

    fn count(&mut self, world: &mut World, samples: &[Sample]) {
        let moved = samples.iter().filter(|sample| sample.is_moved);
        let streams: BTreeSet<_> = moved.map(|sample| sample.stream).collect();
        self.moves += streams.len();
        self.asked.add(world.clusters.asked());
        for subscriber in &world.subscribers {
            for (at, why) in std::mem::take(&mut subscriber.seen().left) {
                if at >= world.opened {
                    let why = why.split_once(": ").map_or(&*why, |(_, why)| why);
                    *self.left.entry(why.to_owned()).or_default() += 1;
                }
            }
        }
    }

    fn takeovers(&mut self, world: &mut World, samples: &[Sample], victim: usize) {
        let lines = world.logs.read();
        for sample in samples {
            let is_own = world.served[sample.subscriber] == Some(victim);
            let (false, Some(first)) = (is_own, sample.first_moved) else {
                continue;
            };
            let stream = &world.writer.streams[sample.stream];
            let cluster = world.clusters.all[stream.cluster].name().to_owned();
            let opened = world.clusters.watch_opened(stream.cluster, world.opened);
            let passed = lines.passed(
                &cluster,
                world.opened,
                opened,
                crate::clock::of_unix(first.arrival.read_unix),
                first.arrival.at,
            );
            self.takeovers.push(Takeover {
                silence: millis(sample.silence.longest),
                label: self.place(world, sample),
                passed,
            });
        }
    }

    /// Prints the progress on standard error: a run takes minutes.
    pub(crate) fn progress(&self) {
        let beside = ["not moved", "own subscribers", "other clusters"];
        let is_beside = |row: &Row| beside.iter().any(|words| row.label.contains(words));
        let row = self
            .rows
            .iter()
            .find(|row| !is_beside(row))
            .map(Row::figures);
        let [p50, p99, max] = row.unwrap_or([f64::NAN; 3]);
        let Self { name, rounds, .. } = self;
        eprintln!("{name}: {rounds} rounds, p50 {p50:.0} p99 {p99:.0} max {max:.0} ms");
    }

    fn table(&self, before: Option<&Value>) -> String {
        let mut text = format!("\n{}\n", self.heading());
        let label = "silence at subscribers";
        let _ = writeln!(
            text,
            "  {label:<34} {:>6} {:>9} {:>9} {:>9} {:>11}",
            "n", "p50 ms", "p99 ms", "max ms", "latest ms"
        );
        for row in &self.rows {
            let [p50, p99, max] = row.figures();
            let latest = row.latest.iter().copied().fold(0.0, f64::max);
            let mut remark = String::new();
            if row.open > 0 {
                let _ = write!(remark, "  {} had not ended", row.open);
            }
            if let Some([p50, p99, max]) = before.and_then(|before| self.before(before, row)) {
                let _ = write!(remark, "  before: {p50:.1} {p99:.1} {max:.1}");
            }
            let (label, n) = (&row.label, row.silence.len());
            let _ = writeln!(
                text,
                "  {label:<34} {n:>6} {p50:>9.1} {p99:>9.1} {max:>9.1} {latest:>11.1}{remark}"
            );
        }
        self.takeover_lines(&mut text);
        text
    }

    /// The figures of the same line in an earlier document.
    fn before(&self, document: &Value, row: &Row) -> Option<[f64; 3]> {
        let named = |list: &Value, key: &str, name: &str| {
            let mut all = list.as_array()?.iter();
            all.find(|one| one[key] == name).cloned()
        };
        let scenario = named(&document["scenarios"], "name", &self.name)?;
        let line = named(&scenario["rows"], "who", &row.label)?;
        let figure = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
        Some([figure("p50_ms"), figure("p99_ms"), figure("max_ms")])
    }

    fn heading(&self) -> String {
        if let Some(why) = &self.skipped {
            return format!("{}: SKIPPED: {why}", self.name);
        }
        let Faults {
            lost,
            duplicated,
            unknown,
            gaps,
            coalesced,
        } = self.faults;
        let Asked {
            lists,
            busiest_second,
            ..
        } = self.asked;
        let mut heading = format!(
            "{}: {} rounds, {} moves; lost {lost}, duplicated {duplicated}, never committed \
             {unknown}, gaps {gaps} ({coalesced} coalesced); lists {lists}, most requests in a second {busiest_second}",
            self.name, self.rounds, self.moves
        );
        if let Some(why) = &self.failed {
            let _ = write!(heading, "\n  FAILED: {why}");
        }
        heading
    }

    /// The histogram, and the stages of the median and of the longest takeover.
    fn takeover_lines(&self, text: &mut String) {
        let Some(worst) = self.sorted_takeovers().last().copied() else {
            return;
        };
        let silences: Vec<_> = self.takeovers.iter().map(|one| one.silence).collect();
        let columns = histogram(&silences);
        let columns = columns
            .iter()
            .map(|(end, count)| format!("<={end:.0}: {count}"));
        let columns: Vec<_> = columns.collect();
        let _ = writeln!(text, "  histogram, ms   {}", columns.join("  "));
        let sorted = self.sorted_takeovers();
        for (which, one) in [("median", sorted[sorted.len() / 2]), ("worst", worst)] {
            let stages = STAGES.iter().zip(one.passed).map(|(stage, passed)| {
                let passed = passed.map(millis);
                passed.map_or_else(|| format!("{stage} ?"), |at| format!("{stage} {at:.1}"))
            });
            let stages: Vec<_> = stages.collect();
            let _ = writeln!(
                text,
                "  {which:<7} {:>8.1} ms ({}), after: {}",
                one.silence,
                one.label,
                stages.join(", ")
            );
        }
    }

    fn sorted_takeovers(&self) -> Vec<&Takeover> {
        let mut sorted: Vec<_> = self.takeovers.iter().collect();
        sorted.sort_by(|a, b| a.silence.total_cmp(&b.silence));
        sorted
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let [p50, p99, max] = row.figures();
            json!({
                "who": row.label, "n": row.silence.len(), "p50_ms": p50, "p99_ms": p99,
                "max_ms": max, "worst": row.worst, "not_ended": row.open,
                "latest_max_ms": row.latest.iter().copied().fold(0.0, f64::max),
                "histogram": histogram(&row.silence),
            })
        });
        let sorted = self.sorted_takeovers();
        let stages = |one: Option<&&Takeover>| {
            let one = one?;
            let passed = STAGES.iter().zip(one.passed);
            let passed: BTreeMap<_, _> = passed.map(|(s, at)| (*s, at.map(millis))).collect();
            Some(json!({ "silence_ms": one.silence, "which": one.label, "after_ms": passed }))
        };
        json!({
            "name": self.name, "rounds": self.rounds, "moves": self.moves,
            "lost": self.faults.lost, "duplicated": self.faults.duplicated,
            "never_committed": self.faults.unknown, "gaps": self.faults.gaps,
            "coalesced_in_gaps": self.faults.coalesced,
            "lists": self.asked.lists, "requests": self.asked.requests,
            "most_requests_in_a_second": self.asked.busiest_second,
            "skipped": self.skipped, "failed": self.failed,
            "rows": rows.collect::<Vec<_>>(),
            "left": self.left,
            "median": stages(sorted.get(sorted.len() / 2)),
            "worst": stages(sorted.last()),
        })
    }
}

impl Row {
    fn figures(&self) -> [f64; 3] {
        let mut sorted = self.silence.clone();
        sorted.sort_by(f64::total_cmp);
        [0.5, 0.99, 1.0].map(|share| percentile(&sorted, share))
    }
}

/// The line that a sample belongs to, and its value there.
fn judged(world: &World, sample: &Sample, scope: &Scope) -> Option<(String, u64)> {
    let silence = sample.silence;
    let stream = &world.writer.streams[sample.stream];
    let moved = if sample.is_moved {
        "moved"
    } else {
        "not moved"
    };
    let served = world.served[sample.subscriber];
    let who = match scope {
        Scope::Replica(victim) if served == Some(*victim) => "its own subscribers".to_owned(),
        Scope::Replica(_) => format!("other subscribers, {moved}"),
        Scope::Nobody => moved.to_owned(),
        Scope::Silent(clusters) if clusters.contains(&stream.cluster) => {
            format!("these clusters, {moved}")
        }
        Scope::Back(clusters) if clusters.contains(&stream.cluster) => {
            return Some((format!("back, {}", stream.resource), silence.first));
        }
        Scope::Down(clusters) if clusters.contains(&stream.cluster) => return None,
        Scope::Silent(_) | Scope::Back(_) | Scope::Down(_) => "other clusters".to_owned(),
    };
    Some((who, silence.longest))
}

fn histogram(values: &[f64]) -> Vec<(f64, usize)> {
    let ends = HISTOGRAM.into_iter().chain([f64::INFINITY]);
    let starts = [f64::NEG_INFINITY].into_iter().chain(HISTOGRAM);
    let columns = starts.zip(ends).map(|(start, end)| {
        let within = values
            .iter()
            .filter(|value| **value > start && **value <= end);
        (end, within.count())
    });
    columns.collect()
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// All figures as text, with those of an earlier document for comparison.
pub(crate) fn table(tallies: &[Tally], before: Option<&Value>) -> String {
    tallies.iter().map(|tally| tally.table(before)).collect()
}

/// All figures as JSON.
pub(crate) fn json(tallies: &[Tally], asked: &Arguments) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "executable": std::env::var("EXECUTABLE").ok(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "shards": asked.shards,
        "rate": asked.rate,
        "smoke": asked.smoke,
        "scenarios": tallies.iter().map(Tally::json).collect::<Vec<_>>(),
    })
}
