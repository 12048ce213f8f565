//! Logs, to standard error. Not metrics, not health.

mod throttle;

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, registry, util::SubscriberInitExt};

use crate::config::{Log, LogFormat};

pub use throttle::LogThrottle;

/// Where nothing else is asked for.
const LEVEL: &str = "info";
/// What holds unless the level names the target itself. openraft reports each message that a dead
/// replica does not take and each task that ends normally as a warning or an error; `raft` reports
/// what matters of that, once for each change, and ends the replica where something is fatal. So
/// does sled, each time a disk refuses.
const BELOW: &str = "openraft=off,sled=off";

/// Why logs are not set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid level. It prints the error of the parser, which prints its own cause.
    #[error("log level: use error, warn, info, debug or trace, or target=level pairs: {0}")]
    Level(tracing_subscriber::filter::ParseError),
    /// Logging is already set up in this process.
    #[error("set up the log")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up the log of this process, once.
pub fn start(log: &Log) -> Result<(), Error> {
    let terminal = io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let lines = registry().with(filter(&log.level)?);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    if json {
        let layer = layer.json().flatten_event(true).with_current_span(true);
        lines.with(layer.with_span_list(false)).try_init()?;
    } else {
        lines.with(layer.with_ansi(terminal)).try_init()?;
    }
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    let level = if level.is_empty() { LEVEL } else { level };
    // Of two directives for one target, the later holds.
    let directives = format!("{BELOW},{level}");
    EnvFilter::builder().parse(directives).map_err(Error::Level)
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn openraft_is_quiet_unless_it_is_named() {
        for (level, expected) in [
            ("", "openraft=off,sled=off,info"),
            ("debug", "openraft=off,sled=off,debug"),
            ("info,openraft=warn", "openraft=warn,sled=off,info"),
        ] {
            assert_eq!(filter(level).unwrap().to_string(), expected, "{level:?}");
        }
    }
}
