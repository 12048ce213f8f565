//! Why a command failed, how that is told, and the exit code that it gives.

use std::io;

use tonic::Code;

use super::Endpoint;
use crate::{config, server, telemetry};

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
    /// What was to be reached, or may not be used.
    #[error("{0} of the checks FAILED; each says what to change")]
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
    /// The simulation refuses.
    #[error("simulate clusters")]
    Simulation(#[from] crate::sim::Error),
    /// The demo went wrong.
    #[error("{0}")]
    Demo(String),
    /// Ctrl-C ended what should have come to an end by itself.
    #[error("interrupted")]
    Interrupted,
    /// `status` found something wrong, and has told it.
    #[error("something is wrong")]
    Unhealthy,
    /// No endpoint answers.
    #[error(
        "no replica answers at the address{} {origin}. Is one running, and does it listen for \
         clients there? Tried: {}",
        if .tried.len() == 1 { "" } else { "es" }, .tried.join("; ")
    )]
    NoAnswer {
        /// Each endpoint, with why it did not answer.
        tried: Vec<String>,
        /// Who named the endpoints.
        origin: String,
    },
    /// Something answered, but nothing that knows our calls.
    #[error(
        "{0} is not where a replica answers clients (--client-listen of `serve`, 7400 where it is \
         not set); does --endpoints name it?"
    )]
    NotAReplica(Endpoint),
    /// A replica answered with an error.
    #[error("{endpoint} {}: {}", verb(status.code()), status.message())]
    Refused {
        /// Which replica.
        endpoint: Endpoint,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// The connection broke while a replica worked on a change.
    #[error(
        "{endpoint} did not answer ({why}): the change may have been made or not. Look before \
         trying again"
    )]
    Unanswered {
        /// Which replica.
        endpoint: Endpoint,
        /// What broke.
        why: String,
    },
    /// A cursor file that cannot be resumed from.
    #[error(
        "{path} cannot be resumed from: {why}. The file is left as it is; name another file, or \
         remove it to begin anew"
    )]
    CursorFile {
        /// Which file.
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
        /// What was to be done.
        action: &'static str,
        /// With which file.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// What a replica does when it answers with a code.
fn verb(code: Code) -> String {
    match code {
        Code::InvalidArgument => "refuses".to_owned(),
        Code::NotFound => "answers".to_owned(),
        code => format!("answers {code:?}"),
    }
}

impl Error {
    /// The exit code that tells scripts of it.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Configuration(_) | Self::CursorFile { .. } => USAGE,
            Self::Refused { status, .. } if status.code() == Code::InvalidArgument => USAGE,
            Self::Unhealthy => UNHEALTHY,
            _ => FAILURE,
        }
    }

    /// Whether there is nothing to tell on standard error: whoever read the output has seen
    /// enough, or the output itself has told it.
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

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        next = cause.source();
    }
    text
}
