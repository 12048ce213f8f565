//! `quorumwatch version`: what this executable is.

use std::io::Write;

use serde_json::json;

use super::{
    Error,
    output::{self, Format, Output},
};
use crate::server::STORAGE_FORMAT;

/// The package of the public API.
const API: &str = "quorumwatch.v1";
/// The commit it was built from; set in release builds.
const COMMIT: Option<&str> = option_env!("QUORUMWATCH_COMMIT");

/// Show the version of this executable, of its API and of its storage format.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  quorumwatch version
  quorumwatch version -o json")]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut out = output::open();
    let version = env!("CARGO_PKG_VERSION");
    if arguments.output.format == Format::Json {
        let all = json!({
            "version": version,
            "commit": COMMIT,
            "api": API,
            "storageFormat": STORAGE_FORMAT,
        });
        return output::write_json(&mut out, &all);
    }
    let commit = COMMIT.map_or_else(String::new, |commit| format!(" ({commit})"));
    let written = writeln!(
        out,
        "quorumwatch {version}{commit}   API {API}   storage format {STORAGE_FORMAT}"
    );
    written.and_then(|()| out.flush()).map_err(Error::Output)
}
