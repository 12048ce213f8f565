//! The one place that turns our errors into gRPC statuses.

use tonic::Status;

use crate::{
    domain::{
        command::{Outcome, Rejection},
        cursor::InvalidCursor,
    },
    raft::{ProposeError, Proposed},
};

/// An argument that is not valid; the text says what would be.
pub(super) fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// A cursor that is refused.
pub(super) fn invalid_cursor(error: &InvalidCursor) -> Status {
    Status::invalid_argument(format!("cursor: {error}"))
}

/// A command that has no outcome.
pub(super) fn propose_error(error: &ProposeError) -> Status {
    match error {
        ProposeError::NotLeader { .. } | ProposeError::NoLeader(_) => {
            Status::unavailable(format!("{error}; try again"))
        }
        ProposeError::Unknown(_) => Status::unknown(error.to_string()),
        ProposeError::TooLarge(..) => Status::invalid_argument(error.to_string()),
        ProposeError::Refused(_) => Status::failed_precondition(error.to_string()),
        ProposeError::Stopped(_) => Status::unavailable(error.to_string()),
    }
}

/// The outcome of a command, a rejection being an error.
pub(super) fn outcome(result: Result<Proposed, ProposeError>) -> Result<Proposed, Status> {
    let proposed = result.map_err(|error| propose_error(&error))?;
    match &proposed.outcome {
        Outcome::Rejected(rejection) => Err(rejected(rejection)),
        _ => Ok(proposed),
    }
}

fn rejected(rejection: &Rejection) -> Status {
    let text = rejection.to_string();
    match rejection {
        Rejection::NameTaken(_) | Rejection::MemberNameTaken(..) => Status::already_exists(text),
        Rejection::NoSuchCluster | Rejection::NoSuchStream => Status::not_found(text),
        Rejection::Renamed | Rejection::InvalidSpec(_) => Status::invalid_argument(text),
        Rejection::RevisionMismatch(_) | Rejection::StaleEpoch(_) => Status::aborted(text),
        Rejection::Full(_) => Status::resource_exhausted(text),
    }
}
