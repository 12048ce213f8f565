//! Why a call failed, and what a client does then.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::Endpoint;
use crate::proto::v1::ErrorReason;

/// Whose reasons [`ErrorReason`] are, in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "quorumwatch.dev";
/// Before the names of reasons in the descriptors, and nowhere else.
const PREFIX: &str = "ERROR_REASON_";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No endpoint answers.
    #[error(
        "no replica answers at the address{} {origin}. Is one running, and does it listen for \
         clients there? Tried: {}",
        if .tried.len() == 1 { "" } else { "es" }, .tried.join("; ")
    )]
    NoAnswer {
        /// Each endpoint, with why it did not answer.
        tried: Vec<String>,
        /// Where the endpoints come from, as "that --endpoints names".
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
        /// The replica that was called.
        endpoint: Endpoint,
        /// The status that it returned.
        status: Box<Status>,
    },
    /// The connection broke while a replica worked on a change.
    #[error(
        "{endpoint} did not answer ({why}): the change may or may not have been made. Read before \
         retrying"
    )]
    Unanswered {
        /// The replica that was called.
        endpoint: Endpoint,
        /// The transport error.
        why: String,
    },
}

/// What a client does after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Correct the request; repeating it is of no use.
    Fix,
    /// Ask another replica at once, this one again after [`Error::retry_delay`].
    Elsewhere,
    /// Repeat the request, with the same `request_id`, at any replica.
    Repeat,
    /// Read again, then decide.
    Read,
}

/// A field of the request that is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its path, as `cluster.labels`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub description: String,
}

impl Error {
    /// The code of the replica's answer; `None` where none answered.
    pub fn code(&self) -> Option<Code> {
        self.status().map(Status::code)
    }

    /// The replica's own words; `None` where none answered.
    pub fn message(&self) -> Option<&str> {
        self.status().map(Status::message)
    }

    /// The reason that the replica gave; `None` where none answered, or with a reason that this
    /// version does not know.
    pub fn reason(&self) -> Option<ErrorReason> {
        self.status().and_then(reason)
    }

    /// The fields of the request that are not valid.
    pub fn field_violations(&self) -> Vec<FieldViolation> {
        let details = self
            .status()
            .and_then(|status| status.get_details_bad_request());
        let violations = details.map_or_else(Vec::new, |details| details.field_violations);
        violations
            .into_iter()
            .map(|violation| FieldViolation {
                field: violation.field,
                description: violation.description,
            })
            .collect()
    }

    /// How long to leave this replica alone.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.status().and_then(retry_delay)
    }

    /// What a client does then.
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::NoAnswer { .. } => Reaction::Elsewhere,
            Self::NotAReplica(_) => Reaction::Fix,
            Self::Refused { status, .. } => reaction(status),
            Self::Unanswered { .. } => Reaction::Repeat,
        }
    }

    /// Whether repeating the same call is of no use, here and elsewhere.
    pub fn is_final(&self) -> bool {
        matches!(self.reaction(), Reaction::Fix | Reaction::Read)
    }

    fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused { status, .. } => Some(status),
            _ => None,
        }
    }
}

/// An error with its causes, in one line. An error of ours prints its cause or has it as its
/// source, not both. tonic's `ConnectError` does both, with the text of its cause and nothing else:
/// a cause that reads as what it caused is left out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut last = error.to_string();
    let mut text = last.clone();
    let mut next = error.source();
    while let Some(cause) = next {
        let shown = cause.to_string();
        if shown != last {
            text.push_str(": ");
            text.push_str(&shown);
        }
        last = shown;
        next = cause.source();
    }
    text
}

/// What a replica does when it answers with a code.
fn verb(code: Code) -> String {
    match code {
        Code::InvalidArgument => "refuses".to_owned(),
        Code::NotFound => "answers".to_owned(),
        code => format!("answers {code:?}"),
    }
}

fn reason(status: &Status) -> Option<ErrorReason> {
    let info = status.get_details_error_info()?;
    if info.domain != DOMAIN {
        return None;
    }
    let reason = ErrorReason::from_str_name(&format!("{PREFIX}{}", info.reason))?;
    Some(reason).filter(|reason| *reason != ErrorReason::Unspecified)
}

pub(super) fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// By the reason; by the code only without a reason.
pub(super) fn reaction(status: &Status) -> Reaction {
    let Some(reason) = reason(status) else {
        return reaction_to_code(status.code());
    };
    match reason {
        ErrorReason::CursorTooNew
        | ErrorReason::ReplicaBehind
        | ErrorReason::GroupNotFormed
        | ErrorReason::NoQuorum
        | ErrorReason::ReplicaStopping
        | ErrorReason::ReplicaFull => Reaction::Elsewhere,
        ErrorReason::OutcomeUnknown | ErrorReason::SubscriberTooSlow => Reaction::Repeat,
        ErrorReason::EtagMismatch | ErrorReason::ShardNotMoved => Reaction::Read,
        ErrorReason::Unspecified
        | ErrorReason::InvalidRequest
        | ErrorReason::CursorInvalid
        | ErrorReason::CursorForeign
        | ErrorReason::CursorFromLostState
        | ErrorReason::ClusterExists
        | ErrorReason::ClusterNotFound
        | ErrorReason::ShardNotFound
        | ErrorReason::MemberNotFound
        | ErrorReason::LimitReached
        | ErrorReason::MemberInUse
        | ErrorReason::MemberTakesNone
        | ErrorReason::ClusterOutOfReach
        | ErrorReason::TooLarge
        | ErrorReason::RequestIdReused
        | ErrorReason::Refused => Reaction::Fix,
    }
}

/// For answers of what stands between a client and a replica, and of the library itself.
fn reaction_to_code(code: Code) -> Reaction {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::DataLoss => Reaction::Fix,
        // It may have begun.
        Code::Unknown | Code::DeadlineExceeded | Code::Cancelled | Code::Internal => {
            Reaction::Repeat
        }
        _ => Reaction::Elsewhere,
    }
}

/// For a status that no replica sent: the connection broke.
pub(super) fn cause(status: &Status) -> Option<String> {
    std::error::Error::source(status).map(chain)
}

/// Why a stream broke, in plain words: the transport's own are not helpful.
pub(super) fn why_broken(cause: &str) -> &'static str {
    if cause.contains("timed out") {
        "it no longer answers"
    } else {
        "the connection broke"
    }
}

/// What an answer that is an error means.
pub(super) fn refused(endpoint: Endpoint, status: Box<Status>) -> Error {
    if is_foreign(&status) {
        Error::NotAReplica(endpoint)
    } else {
        Error::Refused { endpoint, status }
    }
}

/// Whether a gRPC server answers that lacks our services, or an HTTP server that knows no gRPC.
pub(super) fn is_foreign(status: &Status) -> bool {
    match status.code() {
        Code::Unimplemented => true,
        Code::Internal => status.message().contains("protocol error"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::{ErrorDetails, FieldViolation as Violation, StatusExt as _};

    use super::{Code, Error, ErrorReason, FieldViolation, Reaction, Status, chain, reaction};

    /// An error that prints only itself.
    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Level {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    fn chain_of(texts: &[&'static str]) -> String {
        let outermost = texts
            .iter()
            .rev()
            .fold(None, |source, &text| Some(Box::new(Level { text, source })));
        chain(&*outermost.unwrap())
    }

    #[test]
    fn a_chain_shows_each_cause_once() {
        let shown = chain_of(&["start", "listen", "address in use"]);
        assert_eq!(shown, "start: listen: address in use");
        // A cause is shown, whatever words it shares with the others.
        let shown = chain_of(&["reading failed", "read", "failed"]);
        assert_eq!(shown, "reading failed: read: failed");
        let shown = chain_of(&["failed", "read", "failed"]);
        assert_eq!(shown, "failed: read: failed");
    }

    #[test]
    fn a_cause_that_an_error_of_tonic_repeats_is_shown_once() {
        let refused = Level {
            text: "tcp connect error",
            source: Some(Box::new(Level {
                text: "refused",
                source: None,
            })),
        };
        let error = tonic::ConnectError(Box::new(refused));
        assert_eq!(chain(&error), "tcp connect error: refused");
    }

    fn error(code: Code, details: ErrorDetails) -> Error {
        Error::Refused {
            endpoint: "h:1".parse().unwrap(),
            status: Box::new(Status::with_error_details(code, "because", details)),
        }
    }

    fn of_reason(domain: &str, reason: &str) -> Error {
        error(
            Code::Unavailable,
            ErrorDetails::with_error_info(reason, domain, []),
        )
    }

    #[test]
    fn details_are_read() {
        let mut details = ErrorDetails::with_error_info("NO_QUORUM", "quorumwatch.dev", []);
        let violation = Violation::new("cluster.name", "is empty");
        details.set_bad_request(vec![violation]);
        details.set_retry_info(Some(Duration::from_millis(1500)));
        let error = error(Code::Unavailable, details);
        assert_eq!(error.reason(), Some(ErrorReason::NoQuorum));
        assert_eq!(error.retry_delay(), Some(Duration::from_millis(1500)));
        let expected = FieldViolation {
            field: "cluster.name".into(),
            description: "is empty".into(),
        };
        assert_eq!(error.field_violations(), [expected]);
        assert_eq!(error.to_string(), "h:1 answers Unavailable: because");
    }

    #[test]
    fn every_reason_has_the_reaction_that_the_proto_file_names() {
        let documented = include_str!("../../proto/quorumwatch/v1/error.proto");
        let lines: Vec<_> = documented.lines().map(str::trim).collect();
        let mut seen = 0;
        for (at, line) in lines.iter().enumerate() {
            let Some((name, _)) = line
                .strip_prefix("ERROR_REASON_")
                .and_then(|l| l.split_once(' '))
            else {
                continue;
            };
            let comment = lines[at - 1].trim_start_matches("// ");
            let expected = match comment.split('.').next() {
                Some("FIX") => Reaction::Fix,
                Some("ELSEWHERE") => Reaction::Elsewhere,
                Some("REPEAT") => Reaction::Repeat,
                Some("READ") => Reaction::Read,
                _ => continue,
            };
            let error = of_reason("quorumwatch.dev", name);
            assert!(error.reason().is_some(), "{name}");
            assert_eq!(error.reaction(), expected, "{name}");
            assert_eq!(
                error.is_final(),
                matches!(expected, Reaction::Fix | Reaction::Read)
            );
            seen += 1;
        }
        assert_eq!(seen, 24);
    }

    #[test]
    fn without_a_reason_of_ours_the_code_decides() {
        for (domain, reason) in [("quorumwatch.dev", "LATER"), ("other.dev", "TOO_LARGE")] {
            let error = of_reason(domain, reason);
            assert_eq!(error.reason(), None);
            assert_eq!(error.reaction(), Reaction::Elsewhere);
        }
        for code in 0..=16 {
            let code = Code::from_i32(code);
            let is_final = matches!(
                code,
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::FailedPrecondition
                    | Code::OutOfRange
                    | Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::Unimplemented
                    | Code::DataLoss
            );
            let reaction = reaction(&Status::new(code, ""));
            assert_eq!(reaction == Reaction::Fix, is_final, "{code:?}");
        }
    }
}
