//! What the program is asked to do.

use std::{ops::Range, path::PathBuf, str::FromStr};

pub(crate) const USAGE: &str = "\
usage: cargo test --test simulation -- [OPTIONS]

  --seed N [--trace FILE]   run one seed in this process; the trace goes to FILE
  --seeds A..B              run the seeds from A up to B, each in a process of its own
  --determinism N           run a seed in two processes, and compare their traces

Without options, some seeds run, and one of them twice.";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// One seed, in this process.
    Seed { seed: u64, trace: Option<PathBuf> },
    /// A process for each.
    Seeds(Range<u64>),
    /// One seed in two processes.
    Determinism(u64),
    /// What `cargo test` runs.
    Usual,
    /// `cargo test` runs other tests alone.
    Nothing,
}

/// Options of the standard harness, which `cargo test` hands to every test program.
const OF_THE_HARNESS: &[&str] = &[
    "--nocapture",
    "--no-capture",
    "--show-output",
    "--quiet",
    "-q",
    "--exact",
    "--include-ignored",
];

/// Those that have a value.
const OF_THE_HARNESS_VALUED: &[&str] = &["--test-threads", "--skip", "--format", "--color"];

/// Reads the arguments; the error says which one cannot be read.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Task, String> {
    let mut task = Task::Usual;
    let mut trace = None;
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--seed" => {
                let seed = number(&value()?)?;
                task = Task::Seed { seed, trace: None };
            }
            "--seeds" => task = Task::Seeds(range(&value()?)?),
            "--determinism" => task = Task::Determinism(number(&value()?)?),
            "--trace" => trace = Some(PathBuf::from(value()?)),
            "--list" | "--ignored" => task = Task::Nothing,
            known if OF_THE_HARNESS_VALUED.contains(&known) => drop(value()?),
            known if OF_THE_HARNESS.contains(&known) => {}
            known if is_assigned(known) => {}
            option if option.starts_with('-') => return Err(format!("{option} is not an option")),
            // The name of a test.
            name if "simulation".contains(name) => {}
            _ => task = Task::Nothing,
        }
    }
    match task {
        Task::Seed { seed, .. } => Ok(Task::Seed { seed, trace }),
        _ if trace.is_some() => Err("--trace goes with --seed".into()),
        task => Ok(task),
    }
}

/// Whether it is an option of the standard harness with its value, as `--test-threads=1`.
fn is_assigned(argument: &str) -> bool {
    let name = argument.split_once('=').map(|(name, _)| name);
    name.is_some_and(|name| OF_THE_HARNESS_VALUED.contains(&name))
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text
        .split_once("..")
        .ok_or_else(|| format!("{text:?} is not of the form A..B"))?;
    let range = number(from)?..number(to)?;
    if range.is_empty() {
        return Err(format!("there is no seed in {text}"));
    }
    Ok(range)
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    let number = text.parse();
    number.map_err(|_| format!("{text:?} is not a number"))
}
