//! One seed, from the first step to the verdict.

use std::{
    fmt::Write as _,
    fs, panic,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use mad_turmoil::time::SimClocksGuard;
use rand::{SeedableRng as _, rngs::SmallRng};

use crate::{
    faults::{self, Planned},
    judges::{self, Agreement},
    report::{self, Report},
    stage::Stage,
};

/// How long a group may take to form, with everything owned and subscribed.
const FORMS_WITHIN: Duration = Duration::from_secs(20);

/// How long faults come and go.
const DISTURBED_FOR: Duration = Duration::from_secs(12);

/// How long everything may take to be well once all faults are over. The longest pause that a
/// replica makes before it asks an API server again, and some.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// How often it is checked whether that is so.
const CHECKED_EVERY: Duration = Duration::from_millis(100);

/// How often the trace says what the hosts have received so far.
const SUMMED_EVERY: Duration = Duration::from_millis(500);

/// How long a step may take of real time. It usually takes milliseconds.
const STEP_TAKES: Duration = Duration::from_secs(15);

/// Lines of a trace that are shown where a run fails.
const LINES_SHOWN: usize = 60;

struct Run {
    stage: Stage,
    agreement: Agreement,
    faults: Vec<Planned>,
    steps: u64,
    summed: Duration,
}

/// Runs a seed, and ends the process with the verdict.
pub(crate) fn run(seed: u64, trace: Option<PathBuf>) -> ! {
    // Before anything draws a random number.
    let random = rand_of_libc::SeedableRng::seed_from_u64(seed);
    mad_turmoil::rand::set_rng(random);
    let clocks = SimClocksGuard::init();
    let trace = trace.unwrap_or_else(|| trace_of(seed));
    end_with_a_panic(seed, trace.clone());
    end_with_an_endless_step(seed, trace.clone());
    report::start();
    let mut run = Run {
        stage: Stage::new(seed),
        agreement: Agreement::default(),
        faults: Vec::new(),
        steps: 0,
        summed: Duration::ZERO,
    };
    run.all_phases(seed);
    drop(clocks);
    let report = report::so_far();
    print!("{}", run.verdict(seed, &report));
    keep(&report, &trace);
    if report.violations.is_empty() {
        process::exit(0);
    }
    print!("{}", failure(seed, &report, &trace));
    process::exit(1)
}

impl Run {
    fn all_phases(&mut self, seed: u64) {
        self.settle("the group forms", FORMS_WITHIN);
        if !report::is_violated() {
            self.disturb(seed);
        }
        if self.stage.is_unjudged {
            report::reached("not judged: a restore that nobody can notice");
        } else if !report::is_violated() {
            self.end();
        }
        let panicked = report::so_far().trace.contains("panicked");
        if panicked {
            report::violated("something has panicked, and was caught");
        }
    }

    /// One step, after which everything is judged.
    fn step(&mut self) {
        self.stage.step();
        self.steps += 1;
        self.agreement.look(&self.stage);
        let now = self.stage.sim.elapsed();
        if now >= self.summed + SUMMED_EVERY {
            self.summed = now;
            let hosts = self.stage.hosts().into_iter();
            let sums = hosts.map(|host| format!("{:08x}", self.stage.fabric.received(&host)));
            report::note("received", sums.collect::<Vec<_>>().join(" "));
        }
    }

    /// Runs until everything is well, for so long at most.
    fn settle(&mut self, what: &str, within: Duration) {
        report::note("run", format_args!("{what}, within {within:?}"));
        let until = self.stage.sim.elapsed() + within;
        let mut missing;
        loop {
            let next = self.stage.sim.elapsed() + CHECKED_EVERY;
            while self.stage.sim.elapsed() < next {
                self.step();
            }
            missing = judges::missing(&self.stage);
            if missing.is_none() || report::is_violated() {
                break;
            }
            if self.stage.sim.elapsed() >= until {
                break;
            }
        }
        if let Some(missing) = missing
            && !report::is_violated()
        {
            report::violated(format!("{what}: not within {within:?}: {missing}"));
        }
    }

    /// Lets faults come and go.
    fn disturb(&mut self, seed: u64) {
        let mut random = SmallRng::seed_from_u64(seed ^ 0xfa17);
        self.faults = faults::plan(&self.stage, &mut random, DISTURBED_FOR);
        let begun = self.stage.sim.elapsed();
        let mut coming = self.faults.clone();
        let mut present: Vec<Planned> = Vec::new();
        loop {
            let now = self.stage.sim.elapsed() - begun;
            for over in present.extract_if(.., |it| it.until <= now) {
                over.fault.end(&mut self.stage);
            }
            for due in coming.extract_if(.., |it| it.at <= now) {
                due.fault.begin(&mut self.stage);
                present.push(due);
            }
            let is_over = now >= DISTURBED_FOR && present.is_empty();
            if is_over && self.stage.cuts.is_empty() {
                return;
            }
            if now >= DISTURBED_FOR + SETTLES_WITHIN {
                let cuts = &self.stage.cuts;
                report::violated(format!("a replaced history was not noticed: {cuts:?}"));
            }
            self.step();
            if report::is_violated() || self.stage.is_unjudged {
                return;
            }
        }
    }

    /// All faults are over: everything that was written arrives.
    fn end(&mut self) {
        self.stage.select_all();
        for server in &self.stage.servers {
            server.stop_writing();
            server.mark("the-end");
            server.mark("after-the-end");
        }
        self.settle("everything is well again", SETTLES_WITHIN);
        judges::judge(&self.stage, &self.agreement);
    }

    fn verdict(&self, seed: u64, report: &Report) -> String {
        let elapsed = self.stage.sim.elapsed();
        let passed = report.violations.is_empty();
        let verdict = if passed { "passed" } else { "FAILED" };
        let records = self.stage.subscribers.iter().map(|it| it.record());
        let (mut events, mut gaps) = (0, 0);
        for record in records {
            events += record.events;
            gaps += record.gaps.len();
        }
        let (faults, moves) = (self.faults.len(), self.agreement.moves());
        let steps = self.steps;
        let mut text = format!(
            "seed {seed} {verdict}: {elapsed:?} in {steps} steps, {faults} faults, {moves} owners, \
             {events} events, {gaps} gaps\n"
        );
        for (what, times) in &report.reached {
            let _ = writeln!(text, "reached {times} {what}");
        }
        text
    }
}

/// Where the trace of a seed goes where nothing else is asked for.
fn trace_of(seed: u64) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("simulation-{seed}.trace"))
}

fn keep(report: &Report, trace: &Path) {
    if let Err(error) = fs::write(trace, &report.trace) {
        eprintln!("cannot write the trace to {}: {error}", trace.display());
    }
}

/// What is wrong, how it came about, and how to see it again.
fn failure(seed: u64, report: &Report, trace: &Path) -> String {
    let mut text = String::new();
    for violation in &report.violations {
        let _ = writeln!(text, "violated: {violation}");
    }
    let lines: Vec<&str> = report.trace.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    let _ = writeln!(text, "the end of the trace:\n{}", shown.join("\n"));
    let _ = writeln!(text, "the trace: {}", trace.display());
    let _ = writeln!(
        text,
        "to replay it: cargo test --test simulation -- --seed {seed}"
    );
    text
}

/// A panic that nobody catches ends the process, as it ends a replica's.
fn end_with_a_panic(seed: u64, trace: PathBuf) {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        usual(panicked);
        report::violated(panicked);
        fail(seed, &trace);
    }));
    quorumwatch::panics::end_process();
}

/// Ends the process where a step does not end: something that never waits takes part.
#[expect(
    clippy::disallowed_methods,
    reason = "only real time shows that simulated time stands still"
)]
fn end_with_an_endless_step(seed: u64, trace: PathBuf) {
    thread::spawn(move || {
        let mut before = report::so_far().now;
        loop {
            // poll: nothing says that a step does not end
            thread::sleep(STEP_TAKES);
            let now = report::so_far().now;
            if now == before {
                report::violated(format!("a step does not end within {STEP_TAKES:?}"));
                fail(seed, &trace);
                process::exit(1);
            }
            before = now;
        }
    });
}

/// Keeps and shows what has come of a run that ends here.
fn fail(seed: u64, trace: &Path) {
    let report = report::so_far();
    keep(&report, trace);
    print!("{}", failure(seed, &report, trace));
}
