//! Prints the demo's progress: plain lines with the time, coloured on a terminal.

use std::io::{self, IsTerminal, Write};

use tokio::time::Instant;

use crate::cli::{
    Error,
    table::plain,
    terminal::{Tone, environment_allows_colour},
};

/// Prints lines, each with the time since the start.
#[derive(Debug)]
pub(super) struct Printer {
    begun: Instant,
    to_stderr: bool,
    colours: bool,
}

impl Printer {
    /// On standard error where standard output belongs to the report.
    pub(super) fn new(to_stderr: bool) -> Self {
        let terminal = if to_stderr {
            io::stderr().is_terminal()
        } else {
            io::stdout().is_terminal()
        };
        Self {
            begun: Instant::now(),
            to_stderr,
            colours: terminal && environment_allows_colour(),
        }
    }

    /// Prints one line with the time.
    pub(super) fn print(&self, tone: Tone, text: &str) -> Result<(), Error> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let text = plain(text);
        self.line(tone, &format!("{seconds:6.1}s"), &text)
    }

    /// Prints a line without the time.
    pub(super) fn print_plain(&self, tone: Tone, text: &str) -> Result<(), Error> {
        self.line(tone, "", &plain(text))
    }

    fn line(&self, tone: Tone, time: &str, text: &str) -> Result<(), Error> {
        let space = if time.is_empty() { "" } else { "  " };
        let time = Tone::Faint.paint(time, self.colours);
        let line = format!("{time}{space}{}\n", tone.paint(text, self.colours));
        let written = if self.to_stderr {
            io::stderr().write_all(line.as_bytes())
        } else {
            let mut out = io::stdout().lock();
            out.write_all(line.as_bytes()).and_then(|()| out.flush())
        };
        written.map_err(Error::Output)
    }
}
