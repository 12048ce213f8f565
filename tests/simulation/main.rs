//! Whole replicas, simulated API servers and subscribers in one process per seed, on a network,
//! disks and a clock that are simulated: everything that happens follows from the seed.
//!
//! ```text
//! cargo test --test simulation                        # some seeds, one of them twice
//! cargo test --test simulation -- --seeds 1..101      # a process for each, two at a time; so
//!                                                     # many must reach everything that counts
//! cargo test --test simulation -- --seed 7            # this one, in this process
//! cargo test --test simulation -- --determinism 7     # this one twice: the traces must be equal
//! ```
//!
//! A run has three phases. Replicas form a group, own every shard, and subscribers follow. Then
//! faults come and go, as the seed has it, while objects are written. Then all faults end, and
//! within a limit everything must be owned, delivered and checkpointed. What must hold at every
//! moment is in `judges`, what goes wrong in `faults`, who takes part in `hosts`, and what many seeds
//! together must reach in `reach`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the program has its own harness"
)]

mod arguments;
mod faults;
mod hosts;
mod judges;
mod network;
mod processes;
mod reach;
mod report;
mod run;
mod stage;

use std::{env, process::ExitCode};

use arguments::Task;

/// What runs where nothing is asked for. The first of them runs twice.
const SEEDS: std::ops::Range<u64> = 1..21;

fn main() -> ExitCode {
    let task = match arguments::parse(env::args().skip(1)) {
        Ok(task) => task,
        Err(mistake) => {
            eprintln!("{mistake}\n\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    let succeeded = match task {
        // It ends the process by itself: what is left of the simulated world is not taken down.
        Task::Seed { seed, trace } => run::run(seed, trace),
        Task::Seeds(seeds) => processes::seeds(seeds, None),
        Task::Determinism(seed) => processes::seeds(seed..seed + 1, Some(seed)),
        Task::Usual => processes::seeds(SEEDS, Some(SEEDS.start)),
        Task::Nothing => true,
    };
    ExitCode::from(u8::from(!succeeded))
}
