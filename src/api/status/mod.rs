//! The one place that makes the statuses of the public services.
//!
//! Each carries `google.rpc.ErrorInfo` with one of the reasons of `ErrorReason`, because every
//! function here ends in [`status`]. The reason decides the code and the delay before another try.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    domain::{command::Rejection, cursor::InvalidCursor},
    proto::{internal::v1::NotMovedKind, v1::ErrorReason},
    raft::ProposeError,
};

/// `ErrorInfo.domain`: whose reasons these are.
const DOMAIN: &str = "quorumwatch.dev";

/// `ErrorReason`'s names begin with this, `ErrorInfo.reason` does not.
const REASON_PREFIX: &str = "ERROR_REASON_";

/// Longest text of a status. It travels in HTTP/2 trailers twice, as the message and in the
/// details, and gRPC's C core takes 8 KiB of trailers.
const TEXT_BYTES_MAX: usize = 1024;

/// Longest name of a field, of a thing, or of what would be right.
const FIELD_BYTES_MAX: usize = TEXT_BYTES_MAX / 2;

/// What all fields that are named may take. Further ones are left out: who corrects the first ones
/// learns of them then.
const FIELDS_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX;

/// The details of a status besides its reason and its text.
#[derive(Default)]
struct Details {
    /// Fields of the request that are not valid, and what would be.
    fields: Vec<(String, String)>,
    /// The limit that is reached: what it is for, and how much.
    quota: Option<(&'static str, String)>,
    /// The `metadata` of `google.rpc.ErrorInfo`.
    metadata: HashMap<String, String>,
}

/// The only constructor.
fn status(reason: ErrorReason, text: &str, details: Details) -> Status {
    let name = reason.as_str_name().trim_start_matches(REASON_PREFIX);
    let mut out = ErrorDetails::new();
    out.set_error_info(name, DOMAIN, details.metadata);
    if let Some(delay) = retry_delay(reason) {
        out.set_retry_info(Some(delay));
    }
    let mut fields_bytes = 0;
    for (field, description) in &details.fields {
        let field = shortened(field, FIELD_BYTES_MAX);
        let description = shortened(description, FIELD_BYTES_MAX);
        fields_bytes += field.len() + description.len();
        if fields_bytes > FIELDS_BYTES_MAX {
            break;
        }
        out.add_bad_request_violation(field, description);
    }
    if let Some((subject, description)) = details.quota {
        out.add_quota_failure_violation(subject, description);
    }
    Status::with_error_details(code(reason), shortened(text, TEXT_BYTES_MAX), out)
}

/// The status code of a reason, as `error.proto` documents it.
fn code(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::InvalidRequest
        | ErrorReason::CursorInvalid
        | ErrorReason::CursorForeign
        | ErrorReason::CursorFromLostState
        | ErrorReason::TooLarge
        | ErrorReason::RequestIdReused => Code::InvalidArgument,
        ErrorReason::CursorTooNew
        | ErrorReason::ReplicaBehind
        | ErrorReason::GroupNotFormed
        | ErrorReason::NoQuorum
        | ErrorReason::ReplicaStopping => Code::Unavailable,
        ErrorReason::Unspecified | ErrorReason::OutcomeUnknown => Code::Unknown,
        ErrorReason::ClusterExists => Code::AlreadyExists,
        ErrorReason::ClusterNotFound | ErrorReason::ShardNotFound | ErrorReason::MemberNotFound => {
            Code::NotFound
        }
        ErrorReason::EtagMismatch | ErrorReason::ShardNotMoved => Code::Aborted,
        ErrorReason::LimitReached | ErrorReason::ReplicaFull | ErrorReason::SubscriberTooSlow => {
            Code::ResourceExhausted
        }
        ErrorReason::MemberInUse
        | ErrorReason::MemberTakesNone
        | ErrorReason::ClusterOutOfReach
        | ErrorReason::Refused => Code::FailedPrecondition,
    }
}

/// How long to wait before this replica is asked again; `None` where that is of no use.
fn retry_delay(reason: ErrorReason) -> Option<Duration> {
    let millis = match reason {
        // Apply is milliseconds behind, except after a freeze.
        ErrorReason::ReplicaBehind => 500,
        // As long as an election takes, and as a slow subscriber needs to read what it has.
        ErrorReason::NoQuorum | ErrorReason::OutcomeUnknown | ErrorReason::SubscriberTooSlow => {
            1_000
        }
        // As long as a process takes to start again, or a group to form.
        ErrorReason::ReplicaStopping | ErrorReason::GroupNotFormed => 2_000,
        // As long as slow subscribers need to be noticed, at least in part.
        ErrorReason::ReplicaFull => 5_000,
        // As long as a rolling upgrade takes for one replica.
        ErrorReason::CursorTooNew => 10_000,
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}

/// The text, or its beginning where it is longer than `bytes_max`.
fn shortened(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max.saturating_sub('…'.len_utf8()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    format!("{}…", &text[..end.unwrap_or_default()])
}

/// A status that has nothing to add to its text.
fn plain(reason: ErrorReason, text: impl std::fmt::Display) -> Status {
    status(reason, &text.to_string(), Details::default())
}

/// A field of the request that is not valid, by its path; the text explains what is valid.
pub(super) fn invalid(field: &str, text: impl std::fmt::Display) -> Status {
    invalid_fields(vec![(field.to_owned(), text.to_string())])
}

/// Several fields that are not valid.
pub(super) fn invalid_fields(fields: Vec<(String, String)>) -> Status {
    let texts: Vec<_> = fields
        .iter()
        .map(|(field, text)| format!("{field}: {text}"))
        .collect();
    let details = Details {
        fields,
        ..Details::default()
    };
    status(ErrorReason::InvalidRequest, &texts.join("; "), details)
}

/// A cursor that is refused.
pub(super) fn invalid_cursor(error: &InvalidCursor) -> Status {
    let reason = match error {
        InvalidCursor::Damaged(_) | InvalidCursor::NoWhole | InvalidCursor::TooLong => {
            ErrorReason::CursorInvalid
        }
        InvalidCursor::Foreign => ErrorReason::CursorForeign,
        InvalidCursor::Future(_) => ErrorReason::CursorTooNew,
        // Until the leader confirms that it is not only this replica that is behind.
        InvalidCursor::Ahead(_) => ErrorReason::ReplicaBehind,
    };
    plain(reason, error)
}

/// A cursor that is ahead of everything that the group has committed.
pub(super) fn cursor_from_lost_state() -> Status {
    plain(
        ErrorReason::CursorFromLostState,
        "the cursor is ahead of everything that the group has committed: the group lost data, or \
         was restored from a backup. Subscribe without the cursor, as the first time",
    )
}

/// This replica has not applied what the request refers to.
pub(super) fn replica_behind(text: impl std::fmt::Display) -> Status {
    plain(ErrorReason::ReplicaBehind, text)
}

/// There is no group yet.
pub(super) fn not_formed() -> Status {
    plain(
        ErrorReason::GroupNotFormed,
        "the group is not formed yet: `quorumwatch members` shows which replicas are missing; try \
         again",
    )
}

/// No leader, or no contact with a majority.
pub(super) fn no_quorum(text: impl std::fmt::Display) -> Status {
    plain(ErrorReason::NoQuorum, text)
}

/// Nothing new can be sent from here, and another replica may be better off.
pub(super) fn cut_off() -> Status {
    no_quorum(
        "this replica has no contact with a majority of the group, so nothing new reaches it; \
         continue at another one. `quorumwatch members` shows which replicas are missing",
    )
}

/// This replica stops.
pub(super) fn stopping() -> Status {
    plain(
        ErrorReason::ReplicaStopping,
        "this replica is stopping; continue at another one",
    )
}

/// A subscriber or watcher that reads too slowly.
pub(super) fn too_slow(text: impl std::fmt::Display) -> Status {
    plain(ErrorReason::SubscriberTooSlow, text)
}

/// A limit of this replica is reached, which a configuration key sets.
pub(super) fn replica_full(key: &'static str, limit: usize) -> Status {
    let text = format!(
        "replica limit reached: {key} = {limit}. Use another replica, close what is no longer \
         needed, or raise {key}"
    );
    let details = Details {
        quota: Some((key, text.clone())),
        metadata: [("limit".to_owned(), key.to_owned())].into(),
        ..Details::default()
    };
    status(ErrorReason::ReplicaFull, &text, details)
}

/// What a request can name that may not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Cluster,
    Shard,
    Member,
}

/// `NOT_FOUND` for an object of this kind and name.
pub(super) fn not_found(kind: Kind, name: &str) -> Status {
    let (reason, noun, all) = match kind {
        Kind::Cluster => (ErrorReason::ClusterNotFound, "cluster", "ListClusters"),
        Kind::Shard => (ErrorReason::ShardNotFound, "shard", "ListShards"),
        Kind::Member => (ErrorReason::MemberNotFound, "member", "GetGroup"),
    };
    let details = Details {
        metadata: [("name".to_owned(), shortened(name, FIELD_BYTES_MAX))].into(),
        ..Details::default()
    };
    let name = shortened(name, FIELD_BYTES_MAX);
    let text = format!("there is no {noun} {name:?}; {all} shows all of them");
    status(reason, &text, details)
}

/// A member that may not be removed.
pub(super) fn member_in_use(text: impl std::fmt::Display) -> Status {
    plain(ErrorReason::MemberInUse, text)
}

/// A shard that was not moved to where a user wants it.
pub(super) fn not_moved(kind: NotMovedKind, text: impl std::fmt::Display) -> Status {
    let reason = match kind {
        NotMovedKind::TakesNone => ErrorReason::MemberTakesNone,
        NotMovedKind::OutOfReach => ErrorReason::ClusterOutOfReach,
        NotMovedKind::Refused => ErrorReason::Refused,
        NotMovedKind::Unspecified | NotMovedKind::NotYet | NotMovedKind::Overtaken => {
            ErrorReason::ShardNotMoved
        }
    };
    plain(reason, format!("{text}; the shard was not moved"))
}

/// Another etag than the request names.
pub(super) fn etag_mismatch(current: &str) -> Status {
    let details = Details {
        metadata: [("etag".to_owned(), current.to_owned())].into(),
        ..Details::default()
    };
    let text = format!(
        "the cluster was changed since that etag was read: it has etag {current:?}; read it again"
    );
    status(ErrorReason::EtagMismatch, &text, details)
}

/// A write of which it is not known whether it took effect.
pub(super) fn outcome_unknown(text: impl std::fmt::Display) -> Status {
    plain(ErrorReason::OutcomeUnknown, text)
}

/// A write for which no leader was found, because of `problem`.
pub(super) fn no_leader(problem: &str) -> Status {
    no_quorum(format!(
        "{problem}. Nothing was changed; reads may be stale"
    ))
}

/// A command that has no outcome.
pub(super) fn propose_error(error: &ProposeError) -> Status {
    let reason = match error {
        ProposeError::NotLeader { .. } | ProposeError::NoLeader => ErrorReason::NoQuorum,
        ProposeError::Unknown(_) => ErrorReason::OutcomeUnknown,
        ProposeError::TooLarge(..) => ErrorReason::TooLarge,
        ProposeError::Refused(_) => ErrorReason::Refused,
        ProposeError::Stopped(_) => ErrorReason::ReplicaStopping,
    };
    plain(reason, error)
}

/// A command that the group refuses.
pub(super) fn rejected(rejection: &Rejection) -> Status {
    match rejection {
        Rejection::NameTaken(_) => plain(ErrorReason::ClusterExists, rejection),
        Rejection::NoSuchMember => plain(ErrorReason::MemberNotFound, rejection),
        Rejection::NoSuchCluster => plain(ErrorReason::ClusterNotFound, rejection),
        Rejection::Renamed => invalid("cluster.name", rejection),
        Rejection::InvalidSpec(error) => invalid(error.field(), &error.message),
        Rejection::RevisionMismatch(current) => etag_mismatch(&current.to_string()),
        Rejection::Full(limit) => {
            let text = rejection.to_string();
            let details = Details {
                quota: Some((limit, text.clone())),
                ..Details::default()
            };
            status(ErrorReason::LimitReached, &text, details)
        }
        Rejection::RequestIdReused => plain(ErrorReason::RequestIdReused, rejection),
        // Of commands that no user sends.
        Rejection::MemberNameTaken(..)
        | Rejection::StaleEpoch(_)
        | Rejection::StaleRun(_)
        | Rejection::StaleEra(_)
        | Rejection::StaleCheckpoint
        | Rejection::NoSuchStream
        | Rejection::DuplicateCluster { .. } => plain(ErrorReason::Refused, rejection),
    }
}

/// The leader was asked on behalf of a client, and it is not known whether it did anything.
pub(super) fn leader_silent(why: &str) -> Status {
    outcome_unknown(format!(
        "the leader did not answer ({why}); read again to see whether it took effect"
    ))
}

#[cfg(test)]
mod tests;
