//! Runs seeds, each in a process of its own, two at a time.

use std::{
    collections::BTreeMap,
    env, fs,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Mutex,
    thread,
};

use crate::reach;

/// Processes at a time. Each has one thread.
const AT_A_TIME: usize = 2;

/// What is to be run: a seed, and where its trace goes.
#[derive(Clone, Debug)]
struct Job {
    seed: u64,
    trace: PathBuf,
}

/// What came of it, over all seeds.
#[derive(Default)]
struct Tally {
    failed: Vec<u64>,
    reached: BTreeMap<String, u64>,
}

/// Runs these seeds, and `twice` a second time, whose traces must be equal; whether all is well.
pub(crate) fn seeds(seeds: Range<u64>, twice: Option<u64>) -> bool {
    let begun = seconds();
    let count = seeds.end - seeds.start;
    let first = seeds.map(|seed| Job::new(seed, ""));
    let again = twice.map(|seed| Job::new(seed, "-again"));
    let jobs = Mutex::new(first.chain(again));
    let tally = Mutex::new(Tally::default());
    let work = || {
        loop {
            let job = jobs.lock().unwrap().next();
            let Some(job) = job else { return };
            let output = job.run();
            tally.lock().unwrap().add(&job, &output);
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(work);
        }
    });
    let tally = tally.into_inner().unwrap();
    for (what, times) in &tally.reached {
        println!("{times:>8} {what}");
    }
    let is_deterministic = twice.is_none_or(is_deterministic);
    let has_reached_all = tally.has_reached_all(count);
    let failed = &tally.failed;
    let took = seconds() - begun;
    println!("{count} seeds in {took:.1} s, failed: {failed:?}");
    failed.is_empty() && is_deterministic && has_reached_all
}

impl Job {
    fn new(seed: u64, suffix: &str) -> Self {
        let name = format!("simulation-{seed}{suffix}.trace");
        let trace = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        Self { seed, trace }
    }

    fn run(&self) -> Output {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("--seed").arg(self.seed.to_string());
        command.arg("--trace").arg(&self.trace);
        command.output().unwrap()
    }
}

impl Tally {
    fn add(&mut self, job: &Job, output: &Output) {
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text.lines() {
            let reached = line.strip_prefix("reached ");
            let reached = reached.and_then(|line| line.split_once(' '));
            match reached {
                Some((times, what)) => {
                    let times: u64 = times.parse().unwrap();
                    *self.reached.entry(what.to_owned()).or_default() += times;
                }
                None => println!("{line}"),
            }
        }
        if !output.status.success() {
            self.failed.push(job.seed);
            println!("{}", String::from_utf8_lossy(&output.stderr));
            println!("seed {} ended with {}", job.seed, output.status);
        }
    }

    /// Prints what was never reached; whether that is nothing, or there were too few seeds to ask for
    /// it.
    fn has_reached_all(&self, seeds: u64) -> bool {
        let missing = reach::missing(&self.reached);
        for what in &missing {
            println!("   never {what}");
        }
        missing.is_empty() || seeds < reach::SEEDS_ENOUGH
    }
}

/// Whether two processes have done the same.
fn is_deterministic(seed: u64) -> bool {
    let read = |suffix| fs::read_to_string(Job::new(seed, suffix).trace).unwrap_or_default();
    let (first, second) = (read(""), read("-again"));
    if first == second && !first.is_empty() {
        println!("seed {seed} is the same twice");
        return true;
    }
    let mut lines = first.lines().zip(second.lines()).enumerate();
    match lines.find(|(_, (first, second))| first != second) {
        Some((at, (first, second))) => println!(
            "seed {seed} is not the same twice, from line {}:\n{first}\n{second}",
            at + 1
        ),
        None => println!("seed {seed} is not the same twice: one trace is longer"),
    }
    false
}

/// Seconds of real time, of which only the difference counts. The clocks of this program are those
/// of the simulation.
fn seconds() -> f64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let first = uptime.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or(0.0)
}
