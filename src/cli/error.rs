//! Why a command failed, and the exit code that it gives.

use std::io;

use tonic::Code;

use crate::{client, config, server, telemetry};

/// The exit code of a failure.
const FAILURE: u8 = 1;
/// The exit code of wrong usage.
const USAGE: u8 = 2;
/// The exit code of `status` where something is wrong.
const UNHEALTHY: u8 = 3;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments contradict each other or name what is not there.
    #[error("{0}")]
    Usage(String),
    /// The configuration is not valid.
    #[error(transparent)]
    Configuration(#[from] config::Invalid),
    /// A check failed: something is unreachable or not permitted.
    #[error("{0} of the checks FAILED; each shows what to change")]
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
    /// The simulation failed.
    #[error("simulate clusters")]
    Simulation(#[from] crate::sim::Error),
    /// The demo failed.
    #[error("{0}")]
    Demo(String),
    /// Interrupted by Ctrl-C before it was complete.
    #[error("interrupted")]
    Interrupted,
    /// A drain has not come to its end: why.
    #[error("{0}")]
    NotDrained(String),
    /// `status` found something wrong, and has shown it.
    #[error("something is wrong")]
    Unhealthy,
    /// The group cannot be reached, or refuses.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// A cursor file that cannot be resumed from.
    #[error(
        "{path} cannot be resumed from: {why}. The file is left as it is; name another file, or \
         remove it to start over"
    )]
    CursorFile {
        /// The cursor file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Standard output is gone or full.
    #[error("write the output")]
    Output(#[source] io::Error),
    /// A file cannot be read or written.
    #[error("{action} {path}")]
    File {
        /// A verb phrase, such as "read the kubeconfig".
        action: &'static str,
        /// The file.
        path: String,
        /// The error of the system call.
        source: io::Error,
    },
}

impl Error {
    /// The exit code, for scripts.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Configuration(_) | Self::CursorFile { .. } => USAGE,
            Self::Client(error) if error.code() == Some(Code::InvalidArgument) => USAGE,
            Self::Unhealthy => UNHEALTHY,
            _ => FAILURE,
        }
    }

    /// Whether nothing is written to standard error: the reader of the output has left, or the output
    /// itself has shown it.
    pub(super) fn is_silent(&self) -> bool {
        match self {
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            error => matches!(error, Self::Unhealthy),
        }
    }

    /// Whether the reader of the output has left: that is no failure.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, client::chain, io, server};
    use crate::sim;

    #[test]
    fn the_cause_of_an_error_is_shown_once() {
        let in_use = || io::Error::from(io::ErrorKind::AddrInUse);
        let address = ([127, 0, 0, 1], 7400).into();
        let replica = server::Error::Listen {
            who: "clients",
            flag: "client-listen",
            address,
            why: in_use(),
        };
        assert_eq!(
            chain(&Error::from(replica)),
            "run the replica: listen on 127.0.0.1:7400 for clients: address in use; another \
             process listens there: stop it, or choose another port with --client-listen"
        );
        let simulated = sim::Error::Listen {
            address,
            source: in_use(),
        };
        assert_eq!(
            chain(&Error::from(simulated)),
            "simulate clusters: cannot listen on 127.0.0.1:7400; choose a free address, or port 0 \
             for any: address in use"
        );
    }
}
