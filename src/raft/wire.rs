//! openraft's messages to protobuf and back, for [`network`] and [`service`].
//!
//! [`network`]: super::network
//! [`service`]: super::service

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::{
    codec::{Corrupt, entry_from_record, required},
    types::{LogId, TypeConfig, Vote},
};
use crate::proto::{
    internal::v1::{self as wire, appended, transfer_leader_response},
    store::v1 as store,
};

/// Largest message taken: entries stop at 1 MiB plus one entry of at most 1 MiB, chunks of a
/// snapshot at 192 KiB.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

fn log_id(record: Option<store::LogId>) -> Result<Option<LogId>, Corrupt> {
    record.map(LogId::try_from).transpose()
}

/// A vote that every sender sets.
pub(super) fn vote(record: Option<store::Vote>) -> Result<Vote, Corrupt> {
    required(record, "the vote")?.try_into()
}

pub(super) fn entries_to(request: &AppendEntriesRequest<TypeConfig>) -> wire::Entries {
    wire::Entries {
        vote: Some(request.vote.into()),
        previous: request.prev_log_id.map(Into::into),
        entries: request.entries.iter().map(Into::into).collect(),
        committed: request.leader_commit.map(Into::into),
    }
}

pub(super) fn entries_from(
    record: Option<wire::Entries>,
) -> Result<AppendEntriesRequest<TypeConfig>, Corrupt> {
    let record = required(record, "the entries")?;
    let entries: Result<_, _> = record.entries.into_iter().map(entry_from_record).collect();
    Ok(AppendEntriesRequest {
        vote: vote(record.vote)?,
        prev_log_id: log_id(record.previous)?,
        entries: entries?,
        leader_commit: log_id(record.committed)?,
    })
}

fn matching(id: Option<LogId>) -> wire::Matching {
    wire::Matching {
        log_id: id.map(Into::into),
    }
}

pub(super) fn appended_to(result: &StreamAppendResult<TypeConfig>) -> wire::Appended {
    let result = match result {
        Ok(id) => appended::Result::Matching(matching(*id)),
        Err(StreamAppendError::Conflict(id)) => appended::Result::Conflict((*id).into()),
        Err(StreamAppendError::HigherVote(vote)) => appended::Result::HigherVote((*vote).into()),
    };
    wire::Appended {
        result: Some(result),
    }
}

pub(super) fn appended_from(
    record: Option<wire::Appended>,
) -> Result<StreamAppendResult<TypeConfig>, Corrupt> {
    let record = required(record, "the result")?;
    Ok(match required(record.result, "the result")? {
        appended::Result::Matching(matching) => Ok(log_id(matching.log_id)?),
        appended::Result::Conflict(id) => Err(StreamAppendError::Conflict(id.try_into()?)),
        appended::Result::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.try_into()?)),
    })
}

/// The answer to a single request; it repeats no place in the log, the sender knows its own.
pub(super) fn response_to(
    response: &AppendEntriesResponse<TypeConfig>,
    previous: Option<LogId>,
) -> wire::Appended {
    appended_to(&match response {
        AppendEntriesResponse::Success => Ok(None),
        AppendEntriesResponse::PartialSuccess(id) => Ok(*id),
        // openraft reports a conflict at the entry before the first; "none" never conflicts.
        AppendEntriesResponse::Conflict => match previous {
            Some(previous) => Err(StreamAppendError::Conflict(previous)),
            None => Ok(None),
        },
        AppendEntriesResponse::HigherVote(vote) => Err(StreamAppendError::HigherVote(*vote)),
    })
}

pub(super) fn response_from(
    record: Option<wire::Appended>,
) -> Result<AppendEntriesResponse<TypeConfig>, Corrupt> {
    Ok(match appended_from(record)? {
        Ok(_) => AppendEntriesResponse::Success,
        Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
        Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
    })
}

pub(super) fn vote_request_to(
    request: &VoteRequest<TypeConfig>,
    envelope: wire::Envelope,
) -> wire::VoteRequest {
    wire::VoteRequest {
        envelope: Some(envelope),
        vote: Some(request.vote.into()),
        last_log_id: request.last_log_id.map(Into::into),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(super) fn vote_request_from(
    record: &wire::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, Corrupt> {
    let mut request = VoteRequest::new(vote(record.vote)?, log_id(record.last_log_id)?);
    request.leadership_transfer = record.leadership_transfer;
    Ok(request)
}

pub(super) fn vote_response_to(response: &VoteResponse<TypeConfig>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(response.vote.into()),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.map(Into::into),
    }
}

pub(super) fn vote_response_from(
    record: wire::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, Corrupt> {
    Ok(VoteResponse::new(
        vote(record.vote)?,
        log_id(record.last_log_id)?,
        record.granted,
    ))
}

pub(super) fn transfer_to(
    request: &TransferLeaderRequest<TypeConfig>,
    envelope: wire::Envelope,
) -> wire::TransferLeaderRequest {
    wire::TransferLeaderRequest {
        envelope: Some(envelope),
        from_leader: Some((*request.from_leader()).into()),
        to_replica_id: *request.to_node_id(),
        last_log_id: request.last_log_id().copied().map(Into::into),
    }
}

pub(super) fn transfer_from(
    record: &wire::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Corrupt> {
    Ok(TransferLeaderRequest::new(
        vote(record.from_leader)?,
        record.to_replica_id,
        log_id(record.last_log_id)?,
    ))
}

pub(super) fn transferred_to(
    response: &TransferLeaderResponse<TypeConfig>,
) -> wire::TransferLeaderResponse {
    use transfer_leader_response::Result as Record;
    let result = match response {
        Ok(()) => Record::Accepted(true),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => {
            Record::VoteChanged((*actual).into())
        }
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            Record::LogNotFlushed(matching(*actual))
        }
    };
    wire::TransferLeaderResponse {
        result: Some(result),
    }
}

pub(super) fn transferred_from(
    record: wire::TransferLeaderResponse,
    request: &TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResponse<TypeConfig>, Corrupt> {
    use transfer_leader_response::Result as Record;
    Ok(match required(record.result, "the result")? {
        Record::Accepted(_) => Ok(()),
        Record::VoteChanged(vote) => Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: vote.try_into()?,
        }),
        Record::LogNotFlushed(matching) => Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: log_id(matching.log_id)?,
        }),
    })
}
