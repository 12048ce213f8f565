//! `quorumwatch completions`: a completion script for a shell.

use std::io::Write;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Error, output};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(quorumwatch completions bash)                       in this shell; put it in ~/.bashrc
  quorumwatch completions zsh > \"${fpath[1]}/_quorumwatch\"     then start a new shell
  quorumwatch completions fish > ~/.config/fish/completions/quorumwatch.fish")]
pub(super) struct Arguments {
    /// The shell to generate for.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Error> {
    // The generator panics where it cannot write; a buffer takes everything.
    let mut script = Vec::new();
    let mut command = super::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "quorumwatch", &mut script);
    let mut out = output::open();
    let written = out.write_all(&script);
    written.and_then(|()| out.flush()).map_err(Error::Output)
}
