//! Domain values to durable records and back.
//!
//! `quorumwatch.store.v1` is ours alone: neither serde nor openraft's types reach a disk or a
//! wire, so that upgrading a library cannot change what was written. Reading checks every field:
//! what this version does not know is [`Corrupt`], never a default.

mod cluster;
mod command;
mod log;
mod outcome;
mod state;

pub(super) use log::{decode_entry, encode_entry, entry_from_record};

use crate::{
    domain::{
        assignment::MoveReason,
        cluster::Condition,
        event::GapReason,
        id::{ClusterId, Era, GroupId, ShardId},
        position::{Ordinal, Position, ResourceVersion},
    },
    proto::store::v1 as store,
};

/// Why bytes are not a record of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record is damaged or of a newer version: {0}")]
pub struct Corrupt(pub String);

impl Corrupt {
    fn missing(what: &str) -> Self {
        Self(format!("{what} is missing"))
    }
}

impl From<prost::DecodeError> for Corrupt {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.to_string())
    }
}

impl From<Corrupt> for std::io::Error {
    fn from(error: Corrupt) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// A field that every writer sets.
pub(super) fn required<T>(field: Option<T>, what: &str) -> Result<T, Corrupt> {
    field.ok_or_else(|| Corrupt::missing(what))
}

/// Converts a list, one by one.
fn try_all<A, B: TryFrom<A, Error = Corrupt>>(list: Vec<A>) -> Result<Vec<B>, Corrupt> {
    list.into_iter().map(B::try_from).collect()
}

fn group_from_bytes(bytes: &[u8]) -> Result<GroupId, Corrupt> {
    let id = bytes
        .try_into()
        .map_err(|_| Corrupt(format!("a group id of {} bytes", bytes.len())))?;
    Ok(GroupId(id))
}

fn rv_from_text(text: &str) -> Result<ResourceVersion, Corrupt> {
    text.parse()
        .map_err(|error: crate::domain::position::NotAResourceVersion| Corrupt(error.to_string()))
}

impl From<ShardId> for store::ShardId {
    fn from(shard: ShardId) -> Self {
        Self {
            cluster_id: shard.cluster.0,
            slice: shard.slice,
        }
    }
}

impl From<store::ShardId> for ShardId {
    fn from(record: store::ShardId) -> Self {
        Self {
            cluster: ClusterId(record.cluster_id),
            slice: record.slice,
        }
    }
}

impl From<&Position> for store::Position {
    fn from(position: &Position) -> Self {
        Self {
            era: position.era.0,
            rv: position.rv.as_u64().unwrap_or(0),
            long_rv: match position.rv.as_u64() {
                Some(_) => String::new(),
                None => position.rv.to_string(),
            },
            // Closed wraps to 0, which takes no bytes: nearly every stored position is closed.
            open_ordinal: position.ordinal.get().wrapping_add(1),
        }
    }
}

impl TryFrom<store::Position> for Position {
    type Error = Corrupt;

    fn try_from(record: store::Position) -> Result<Self, Corrupt> {
        let rv = if record.long_rv.is_empty() {
            record.rv.into()
        } else {
            rv_from_text(&record.long_rv)?
        };
        let ordinal = match record.open_ordinal {
            0 => Ordinal::CLOSED,
            plus_one => Ordinal::new(plus_one - 1),
        };
        Ok(Self::at(Era(record.era), rv, ordinal))
    }
}

impl From<MoveReason> for store::MoveReason {
    fn from(reason: MoveReason) -> Self {
        match reason {
            MoveReason::Created => Self::Created,
            MoveReason::Placed => Self::Placed,
            MoveReason::Takeover => Self::Takeover,
            MoveReason::Handover => Self::Handover,
            MoveReason::Rebalance => Self::Rebalance,
            MoveReason::Reachability => Self::Reachability,
            MoveReason::Drained => Self::Drained,
            MoveReason::Requested => Self::Requested,
            MoveReason::NoReplica => Self::NoReplica,
            MoveReason::Paused => Self::Paused,
            MoveReason::Deleted => Self::Deleted,
        }
    }
}

fn move_reason(number: i32) -> Result<MoveReason, Corrupt> {
    use store::MoveReason as Record;
    Ok(match Record::try_from(number) {
        Ok(Record::Created) => MoveReason::Created,
        Ok(Record::Placed) => MoveReason::Placed,
        Ok(Record::Takeover) => MoveReason::Takeover,
        Ok(Record::Handover) => MoveReason::Handover,
        Ok(Record::Rebalance) => MoveReason::Rebalance,
        Ok(Record::Reachability) => MoveReason::Reachability,
        Ok(Record::Drained) => MoveReason::Drained,
        Ok(Record::Requested) => MoveReason::Requested,
        Ok(Record::NoReplica) => MoveReason::NoReplica,
        Ok(Record::Paused) => MoveReason::Paused,
        Ok(Record::Deleted) => MoveReason::Deleted,
        Ok(Record::Unspecified) | Err(_) => return Err(Corrupt(format!("move reason {number}"))),
    })
}

impl From<GapReason> for store::GapReason {
    fn from(reason: GapReason) -> Self {
        match reason {
            GapReason::StreamCreated => Self::StreamCreated,
            GapReason::HistoryExpired => Self::HistoryExpired,
            GapReason::HistoryReset => Self::HistoryReset,
            GapReason::ClusterReplaced => Self::ClusterReplaced,
            GapReason::WatchCacheReset => Self::WatchCacheReset,
            GapReason::UpstreamInconsistent => Self::UpstreamInconsistent,
        }
    }
}

fn gap_reason(number: i32) -> Result<GapReason, Corrupt> {
    use store::GapReason as Record;
    Ok(match Record::try_from(number) {
        Ok(Record::StreamCreated) => GapReason::StreamCreated,
        Ok(Record::HistoryExpired) => GapReason::HistoryExpired,
        Ok(Record::HistoryReset) => GapReason::HistoryReset,
        Ok(Record::ClusterReplaced) => GapReason::ClusterReplaced,
        Ok(Record::WatchCacheReset) => GapReason::WatchCacheReset,
        Ok(Record::UpstreamInconsistent) => GapReason::UpstreamInconsistent,
        Ok(Record::Unspecified) | Err(_) => return Err(Corrupt(format!("gap reason {number}"))),
    })
}

impl From<Condition> for store::Condition {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Unknown => Self::Unknown,
            Condition::Connected => Self::Connected,
            Condition::Degraded => Self::Degraded,
            Condition::Unreachable => Self::Unreachable,
            Condition::Unauthenticated => Self::Unauthenticated,
            Condition::PermissionDenied => Self::PermissionDenied,
            Condition::Duplicate => Self::Duplicate,
        }
    }
}

fn condition(number: i32) -> Result<Condition, Corrupt> {
    use store::Condition as Record;
    Ok(match Record::try_from(number) {
        Ok(Record::Unknown) => Condition::Unknown,
        Ok(Record::Connected) => Condition::Connected,
        Ok(Record::Degraded) => Condition::Degraded,
        Ok(Record::Unreachable) => Condition::Unreachable,
        Ok(Record::Unauthenticated) => Condition::Unauthenticated,
        Ok(Record::PermissionDenied) => Condition::PermissionDenied,
        Ok(Record::Duplicate) => Condition::Duplicate,
        Ok(Record::Unspecified) | Err(_) => return Err(Corrupt(format!("condition {number}"))),
    })
}

#[cfg(test)]
mod tests;
