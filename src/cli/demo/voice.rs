//! What the demo says while it runs: plain lines with the time, coloured on a terminal.

use std::io::{self, IsTerminal, Write};

use tokio::time::Instant;

use crate::cli::{Error, table::plain};

/// The weight of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// What goes on.
    Plain,
    /// Beside the point.
    Faint,
    /// Something begins.
    Bold,
    /// As it should be.
    Good,
    /// Ownership moves.
    Notable,
    /// Something dies, or fails.
    Bad,
}

impl Tone {
    /// The terminal's code.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Faint => "2",
            Self::Bold => "1",
            Self::Good => "32",
            Self::Notable => "33",
            Self::Bad => "1;31",
        }
    }
}

/// Says lines, each with the time since the beginning.
#[derive(Debug)]
pub(super) struct Voice {
    begun: Instant,
    to_stderr: bool,
    colours: bool,
}

impl Voice {
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
            colours: terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// Says one line.
    pub(super) fn say(&self, tone: Tone, text: &str) -> Result<(), Error> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let text = plain(text);
        self.line(tone, &format!("{seconds:6.1}s"), &text)
    }

    /// Says a line without a time.
    pub(super) fn add(&self, tone: Tone, text: &str) -> Result<(), Error> {
        self.line(tone, "", &plain(text))
    }

    fn line(&self, tone: Tone, time: &str, text: &str) -> Result<(), Error> {
        let space = if time.is_empty() { "" } else { "  " };
        let line = if self.colours {
            let code = tone.code();
            format!("\x1b[2m{time}\x1b[0m{space}\x1b[{code}m{text}\x1b[0m\n")
        } else {
            format!("{time}{space}{text}\n")
        };
        let written = if self.to_stderr {
            io::stderr().write_all(line.as_bytes())
        } else {
            let mut out = io::stdout().lock();
            out.write_all(line.as_bytes()).and_then(|()| out.flush())
        };
        written.map_err(Error::Output)
    }
}
