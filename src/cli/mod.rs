//! The command line: one file per command. It is a client of the public API like any other, but
//! for `serve`, which is the replica itself.

mod check;
mod clusters;
mod configuration;
mod connection;
mod demo;
mod duration;
mod events;
mod interrupt;
mod json;
mod members;
mod output;
mod serve;
mod shard_watch;
mod shards;
mod sim;
pub mod subscription;
mod table;
mod time;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;

pub use connection::{Endpoint, Endpoints, NotAnEndpoint};

use crate::{
    config::{self, Log, LogFormat},
    server, telemetry,
};

/// One live, complete, duplicate-free stream of what happens in many Kubernetes clusters.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 success, also where Ctrl-C ends a stream; 1 failure; 2 wrong usage."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a replica.
    Serve(Box<serve::Arguments>),
    /// Check a configuration, and whether what it names can be reached.
    Check(Box<check::Arguments>),
    /// See it work: a group of three, a death, a takeover, and an account of every event.
    Demo(Box<demo::Arguments>),
    /// Run simulated clusters to try things with.
    Sim(sim::Arguments),
    /// Follow what happens in the clusters.
    Events(Box<events::Arguments>),
    /// Show who owns what.
    Shards(shards::Arguments),
    /// Show and change which clusters are monitored.
    Clusters(clusters::Arguments),
    /// Show the replicas of the group.
    Members(members::Arguments),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments contradict each other or name what is not there.
    #[error("{0}")]
    Usage(String),
    /// The configuration is not valid.
    #[error(transparent)]
    Configuration(#[from] config::Invalid),
    /// What was to be reached, or may not be used.
    #[error("{0} of the checks FAILED; each says what to change")]
    ChecksFailed(usize),
    /// The log cannot be set up.
    #[error(transparent)]
    Log(#[from] telemetry::Error),
    /// The runtime or the handling of signals did not start.
    #[error("start the process")]
    Start(#[source] io::Error),
    /// The replica ended with an error.
    #[error("run the replica")]
    Serve(#[from] server::Error),
    /// The simulation refuses.
    #[error("simulate clusters")]
    Simulation(#[from] crate::sim::Error),
    /// The demo went wrong.
    #[error("{0}")]
    Demo(String),
    /// Ctrl-C ended what should have come to an end by itself.
    #[error("interrupted")]
    Interrupted,
    /// No endpoint answers.
    #[error("no replica answers; is one running, and does --endpoints name it? Tried: {}", .0.join("; "))]
    NoAnswer(Vec<String>),
    /// Something answered, but nothing that knows our calls.
    #[error(
        "{0} is not where a replica answers clients (--client-listen of `serve`, 7400 where it is \
         not set); does --endpoints name it?"
    )]
    NotAReplica(Endpoint),
    /// A replica answered with an error.
    #[error("{endpoint} answers {:?}: {}", status.code(), status.message())]
    Refused {
        /// Which replica.
        endpoint: Endpoint,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// Standard output is gone or full.
    #[error("write the output")]
    Output(#[source] io::Error),
    /// A file cannot be read or written.
    #[error("{action} {path}")]
    File {
        /// What was to be done.
        action: &'static str,
        /// With which file.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told where this fails.
            let _ = writeln!(io::stderr(), "quorumwatch: {}", chain(&error));
            match error {
                Error::Usage(_) | Error::Configuration(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(command: Command) -> Result<(), Error> {
    let runtime = tokio::runtime::Runtime::new().map_err(Error::Start)?;
    if !matches!(command, Command::Serve(_)) {
        telemetry::start(&Log {
            format: LogFormat::Text,
            level: "warn".into(),
        })?;
    }
    let result = runtime.block_on(async {
        match command {
            Command::Serve(arguments) => serve::run(*arguments).await,
            Command::Check(arguments) => check::run(*arguments).await,
            Command::Demo(arguments) => demo::run(*arguments).await,
            Command::Sim(arguments) => sim::run(arguments).await,
            Command::Events(arguments) => events::run(*arguments).await,
            Command::Shards(arguments) => shards::run(arguments).await,
            Command::Clusters(arguments) => clusters::run(arguments).await,
            Command::Members(arguments) => members::run(arguments).await,
        }
    });
    // A task that hangs must not keep the process alive.
    runtime.shutdown_background();
    result
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_contradicts_itself_is_wrong_usage() {
        for line in [
            "quorumwatch",
            "quorumwatch events --cursor c --snapshot",
            "quorumwatch events --object Pod",
            "quorumwatch events --type warn",
            "quorumwatch clusters --endpoints h:1 list",
            "quorumwatch clusters add a",
            "quorumwatch clusters add a --in-cluster --source s",
            "quorumwatch clusters add a --in-cluster --label l",
            "quorumwatch demo --for 1s",
            "quorumwatch demo --context c",
            "quorumwatch shards --endpoints https://h:1",
        ] {
            let parsed = Arguments::try_parse_from(line.split(' '));
            assert_eq!(parsed.unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_usual_line_is_read() {
        for line in [
            "quorumwatch serve --name a --peers a=h:1,b=h:2 --exit-with-parent",
            "quorumwatch events -n shop -l env=prod --object Pod/web-0 --since-cursor f -o jsonl",
            "quorumwatch events --type warning --object pod/web-0",
            "quorumwatch clusters -o json",
            "quorumwatch clusters add a --kubeconfig f --context c -l k=v --resource v1/pods",
            "quorumwatch shards -w -o json --endpoints a:1,http://b:2",
            "quorumwatch demo --kill leader --for 10s --clusters 9 --rate 50",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
