//! `quorumwatch contexts`: the groups that this command line knows.

use std::{io::Write, path::PathBuf};

use serde_json::json;

use super::{
    Endpoint, Error,
    client_config::{self, ClientConfig},
    output::{self, Format, Output},
    table::Table,
};

/// Show and choose the groups in the client configuration.
///
/// Like contexts of kubectl. They are stored in ~/.config/quorumwatch/config.toml, which can also
/// be edited by hand.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    file: File,
    #[command(flatten)]
    output: Output,
}

const AFTER_HELP: &str = "\
Examples:
  quorumwatch contexts set prod --endpoints 10.0.0.10:7400,10.0.0.11:7400
  quorumwatch contexts use prod
  quorumwatch contexts
  quorumwatch status --context prod

The file:
  current_context = \"prod\"
  [contexts.prod]
  endpoints = [\"10.0.0.10:7400\", \"10.0.0.11:7400\"]";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show all contexts.
    List {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        output: Output,
    },
    /// Make a context the current one.
    Use {
        /// The context's name.
        name: String,
        #[command(flatten)]
        file: File,
    },
    /// Create or change a context. Comments in the file are lost.
    Set {
        /// The context's name.
        name: String,
        /// Its replicas, like host:7400, separated by ','.
        #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true)]
        endpoints: Vec<Endpoint>,
        #[command(flatten)]
        file: File,
    },
    /// Remove a context. Comments in the file are lost.
    Remove {
        /// The context's name.
        name: String,
        #[command(flatten)]
        file: File,
    },
}

#[derive(Debug, clap::Args)]
struct File {
    /// The client configuration [env: QUORUMWATCH_CLIENT_CONFIG] [default:
    /// ~/.config/quorumwatch/config.toml].
    #[arg(long, value_name = "FILE")]
    client_config: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Error> {
    let Arguments {
        action,
        file,
        output,
    } = arguments;
    match action.unwrap_or(Action::List { file, output }) {
        Action::List { file, output } => {
            let path = client_config::path(file.client_config);
            let config = ClientConfig::read(&path)?.unwrap_or_default();
            show(output.format, &config)
        }
        Action::Use { name, file } => change(file, |config| {
            config.choose(&name)?;
            Ok(format!("{name} is the current context"))
        }),
        Action::Set {
            name,
            endpoints,
            file,
        } => change(file, |config| {
            config.set(&name, &endpoints);
            Ok(format!("{name} is set"))
        }),
        Action::Remove { name, file } => change(file, |config| {
            if config.remove(&name) {
                return Ok(format!("{name} is removed"));
            }
            Err(Error::Usage(format!("there is no context {name:?}")))
        }),
    }
}

fn change(
    file: File,
    change: impl FnOnce(&mut ClientConfig) -> Result<String, Error>,
) -> Result<(), Error> {
    let path = client_config::path(file.client_config);
    let mut config = ClientConfig::read(&path)?.unwrap_or_default();
    let done = change(&mut config)?;
    config.write(&path)?;
    output::note(&format!("{done} in {}", path.display()));
    Ok(())
}

fn show(format: Format, config: &ClientConfig) -> Result<(), Error> {
    let mut out = output::open();
    if format == Format::Json {
        let context = |(name, endpoints)| json!({ "name": name, "endpoints": endpoints });
        let contexts: Vec<_> = config.contexts().map(context).collect();
        let all = json!({ "currentContext": config.current(), "contexts": contexts });
        return output::write_json(&mut out, &all);
    }
    let row = |(name, endpoints): (&str, &[String])| {
        let current = if config.current() == Some(name) {
            "*"
        } else {
            ""
        };
        [current.to_owned(), name.to_owned(), endpoints.join(",")]
    };
    let rows: Vec<_> = config.contexts().map(row).collect();
    if rows.is_empty() {
        output::note(
            "no contexts yet; add one with `quorumwatch contexts set NAME --endpoints HOST:PORT`",
        );
        return Ok(());
    }
    let written = Table::new(["CURRENT", "NAME", "ENDPOINTS"]).write(&mut out, &rows);
    written.and_then(|()| out.flush()).map_err(Error::Output)
}
