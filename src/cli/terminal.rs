//! What standard output and standard error are: terminals or not, how wide, with colours or not.

use std::{
    env,
    io::{self, IsTerminal as _},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::tcgetwinsize,
};

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl Colour {
    /// Whether standard output gets colours.
    pub(super) fn on_stdout(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => io::stdout().is_terminal() && environment_allows_colour(),
        }
    }
}

/// Whether the environment allows colours.
pub(super) fn environment_allows_colour() -> bool {
    let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
    !no_colour && !dumb
}

/// How many columns the terminal of standard output has; `None` where it is none.
pub(super) fn width() -> Option<usize> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Whether the reader of standard output has left. A pipe reports it without a write.
pub(super) fn reader_has_left() -> bool {
    let stdout = io::stdout();
    // Asks for nothing: errors are always reported.
    let mut descriptors = [PollFd::new(&stdout, PollFlags::empty())];
    let asked = poll(&mut descriptors, Some(&Timespec::default()));
    asked.is_ok() && descriptors[0].revents().contains(PollFlags::ERR)
}

/// The colours that are used, by what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// The terminal's default.
    Plain,
    /// Dimmed.
    Faint,
    /// Headings, bold.
    Bold,
    /// Success.
    Good,
    /// A notable change.
    Notable,
    /// A change of ownership.
    Move,
    /// An error.
    Bad,
}

impl Tone {
    /// The text in this tone, where colours are used.
    pub(super) fn paint(self, text: &str, colours: bool) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Faint => "2",
            Self::Bold => "1",
            Self::Good => "32",
            Self::Notable => "33",
            Self::Move => "36",
            Self::Bad => "1;31",
        };
        if colours && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tone;

    #[test]
    fn a_colour_is_given_only_where_colours_are_used() {
        assert_eq!(Tone::Bad.paint("x", false), "x");
        assert_eq!(Tone::Bad.paint("x", true), "\u{1b}[1;31mx\u{1b}[0m");
        assert_eq!(Tone::Plain.paint("x", true), "x");
    }
}
