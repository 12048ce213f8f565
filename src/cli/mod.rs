//! The command line: one file per command. It is a client of the public API like any other, but
//! for `serve`, which is the replica itself.

mod attempts;
mod check;
mod client_config;
mod clusters;
mod completions;
mod configuration;
mod connection;
mod contexts;
mod demo;
mod duration;
mod error;
mod events;
mod interrupt;
mod json;
mod members;
mod output;
mod position;
mod serve;
mod shards;
mod sim;
mod status;
mod table;
mod terminal;
mod time;
mod version;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;

pub use error::Error;

use crate::{
    client::{Endpoint, Endpoints, chain},
    config::{Log, LogFormat},
    telemetry,
};

/// One live, complete, duplicate-free stream of what happens in many Kubernetes clusters.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Each command is described where its arguments are.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a replica.
    Serve(Box<serve::Arguments>),
    Check(Box<check::Arguments>),
    Demo(Box<demo::Arguments>),
    Sim(sim::Arguments),
    Events(Box<events::Arguments>),
    Shards(shards::Arguments),
    Clusters(clusters::Arguments),
    Members(members::Arguments),
    Status(status::Arguments),
    Contexts(contexts::Arguments),
    Version(version::Arguments),
    Completions(completions::Arguments),
}

const AFTER_HELP: &str = "\
Examples:
  quorumwatch demo                        run a demo: a replica is killed, another takes over
  quorumwatch serve                       run a group of one on this machine
  quorumwatch check --config FILE         validate a configuration
  quorumwatch clusters add prod-eu --kubeconfig /etc/kube/config --kube-context prod-eu
  quorumwatch events --type Warning       follow the Warnings of all clusters
  quorumwatch status                      leader, ownership, and problems

Where the group is found, strongest first:
  --endpoints or --context; QUORUMWATCH_ENDPOINTS; QUORUMWATCH_CONTEXT; current_context of
  ~/.config/quorumwatch/config.toml (see `quorumwatch contexts --help`); 127.0.0.1:7400

Exit codes:
  0    success, also where Ctrl-C, --limit or --duration ends a stream
  1    failure: no replica answers, a request fails, output or a file cannot be written
  2    wrong usage: the command line, a configuration file, or a request that cannot be right
  3    `status` only: the group answers, and something is wrong
  130  a second Ctrl-C ended what the first one could not";

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Err(error) = run(arguments.command) else {
        return ExitCode::SUCCESS;
    };
    if !error.is_silent() {
        // Nobody is left who could read of a failure here.
        let _ = writeln!(io::stderr(), "quorumwatch: {}", chain(&error));
    }
    if error.is_broken_pipe() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(error.exit_code())
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
            Command::Status(arguments) => status::run(arguments).await,
            Command::Contexts(arguments) => contexts::run(arguments),
            Command::Version(arguments) => version::run(&arguments),
            Command::Completions(arguments) => completions::run(&arguments),
        }
    });
    // A task that hangs must not keep the process alive.
    runtime.shutdown_background();
    result
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
    fn the_reference_names_every_command_variable_and_exit_code() {
        let reference = include_str!("../docs/commands.md");
        for command in Arguments::command().get_subcommands() {
            let row = format!("| `{}` |", command.get_name());
            assert!(reference.contains(&row), "{row}");
        }
        for format in <super::events::EventFormat as clap::ValueEnum>::value_variants() {
            let name = format!("{format:?}").to_lowercase();
            assert!(reference.contains(&format!("| `{name}` |")), "{name}");
        }
        for row in ["ENDPOINTS", "CONTEXT", "CLIENT_CONFIG"] {
            assert!(
                reference.contains(&format!("| `QUORUMWATCH_{row}` |")),
                "{row}"
            );
        }
        for code in [0, 1, 2, 3, 130] {
            assert!(reference.contains(&format!("\n| {code} |")), "{code}");
        }
    }

    #[test]
    fn every_command_shows_examples() {
        for command in Arguments::command().get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{help}");
        }
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
            "quorumwatch clusters update a --in-cluster --source s",
            "quorumwatch clusters update a --label l",
            "quorumwatch clusters apply",
            "quorumwatch clusters --watch list",
            "quorumwatch demo --for 1s",
            "quorumwatch demo --kube-context c",
            "quorumwatch events -n a -A",
            "quorumwatch events --for web-0",
            "quorumwatch shards prod-eu --watch",
            "quorumwatch shards prod-eu --owner a",
            "quorumwatch members --watch remove a",
            "quorumwatch members --watch drain a",
            "quorumwatch members drain",
            "quorumwatch shards move prod-eu",
            "quorumwatch shards --watch move prod-eu --to a",
            "quorumwatch status --endpoints h:1 --context c",
            "quorumwatch contexts set a",
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
            "quorumwatch events -A --watch --types Normal,Warning --for Pod/web-0 -o yaml",
            "quorumwatch status --watch --context prod",
            "quorumwatch clusters -o json",
            "quorumwatch clusters add a --kubeconfig f --kube-context c -l k=v --resource v1/pods",
            "quorumwatch clusters add a --in-cluster -n shop,web --field-selector type=Warning",
            "quorumwatch clusters update a -l k=v -l old- --etag 3 --dry-run -o json",
            "quorumwatch clusters remove a --allow-missing --etag 3",
            "quorumwatch clusters -l env=prod -w",
            "quorumwatch clusters export a b -o json",
            "quorumwatch clusters apply -f - --validate-only --use-etags",
            "quorumwatch members -w",
            "quorumwatch members drain a --no-wait -o json",
            "quorumwatch members resume a --context c",
            "quorumwatch shards move prod-eu --to a --dry-run -o json",
            "quorumwatch shards move/0",
            "quorumwatch shards -w --cluster a,b --owner x --unowned",
            "quorumwatch shards -w -o json --endpoints a:1,http://b:2",
            "quorumwatch demo --kill leader --for 10s --clusters 9 --rate 50",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
