//! Standard output: what it looks like, and where it goes.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use super::Error;

/// What a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Human-readable text.
    Table,
    /// One JSON document.
    Json,
}

/// The `-o` of commands that print one answer.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Output {
    /// What is printed.
    #[arg(short = 'o', long = "output", value_enum, default_value = "table")]
    pub(super) format: Format,
}

/// Moves the terminal's cursor to the top left and clears the screen.
pub(super) const CLEAR: &str = "\x1b[H\x1b[2J";

/// Buffered standard output; the caller flushes when no more output is pending.
pub(super) type Out = BufWriter<StdoutLock<'static>>;

/// Opens standard output. It is locked: one writer per process.
pub(super) fn open() -> Out {
    BufWriter::new(io::stdout().lock())
}

/// Writes one indented JSON document, and flushes.
pub(super) fn write_json(out: &mut impl Write, value: &impl Serialize) -> Result<(), Error> {
    let written = serde_json::to_writer_pretty(&mut *out, value)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(out))
        .and_then(|()| out.flush());
    written.map_err(Error::Output)
}

/// Writes one line of JSON, without a flush.
pub(super) fn write_json_line(out: &mut impl Write, value: &impl Serialize) -> Result<(), Error> {
    let written = serde_json::to_writer(&mut *out, value)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(out));
    written.map_err(Error::Output)
}

/// Prints a note on standard error, beside the data.
pub(super) fn note(text: &str) {
    // Nobody is left who could read of a failure here.
    let _ = writeln!(io::stderr(), "# {text}");
}
