//! Between the protocol and the domain: every field checked on the way in, none invented on the
//! way out. What a subscriber's filter asks for is in [`super::filter`].

mod cluster;
mod shard;

pub(super) use cluster::{cluster, cluster_change, cluster_spec, specified};
use prost_types::Timestamp;
pub(super) use shard::{shard, shard_change, shard_id};

use crate::{
    domain::{
        event::{Change, GapReason},
        id::{ReplicaId, UnixMillis},
        position::{Ordinal, Position},
        state::State,
    },
    proto::v1,
};

/// A wall-clock instant.
pub(super) fn timestamp(at: UnixMillis) -> Timestamp {
    let nanos = i32::try_from(at.0 % 1_000).unwrap_or_default() * 1_000_000;
    Timestamp {
        seconds: i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX),
        nanos,
    }
}

/// A time span that may be negative, in milliseconds.
pub(super) fn duration(millis: i64) -> prost_types::Duration {
    let nanos = i32::try_from(millis % 1_000).unwrap_or_default() * 1_000_000;
    prost_types::Duration {
        seconds: millis / 1_000,
        nanos,
    }
}

/// A place in a stream.
pub(super) fn position(position: &Position) -> v1::Position {
    v1::Position {
        era: position.era.0,
        resource_version: position.rv.to_string(),
        ordinal: (position.ordinal != Ordinal::CLOSED).then(|| position.ordinal.get()),
    }
}

/// What happened to an object.
pub(super) fn change_type(change: Change) -> v1::ChangeType {
    match change {
        Change::Added => v1::ChangeType::Added,
        Change::Modified => v1::ChangeType::Modified,
        Change::Deleted => v1::ChangeType::Deleted,
        Change::Snapshot => v1::ChangeType::Snapshot,
    }
}

/// Why something is missing, as a number and as a sentence.
pub(super) fn gap_reason(reason: GapReason) -> (v1::GapReason, &'static str) {
    match reason {
        // An era's reason, and not a gap's: nothing was before a stream's first era.
        GapReason::HistoryExpired | GapReason::StreamCreated => (
            v1::GapReason::HistoryExpired,
            "the API server no longer has the history after the last position",
        ),
        GapReason::HistoryReset => (
            v1::GapReason::HistoryReset,
            "resource versions went back: the cluster was restored from a backup",
        ),
        GapReason::ClusterReplaced => (
            v1::GapReason::ClusterReplaced,
            "another cluster answers at this address: its kube-system namespace has another UID",
        ),
        GapReason::WatchCacheReset => (
            v1::GapReason::WatchCacheReset,
            "the API server's watch cache was reset; changes in between may be coalesced",
        ),
        GapReason::UpstreamInconsistent => (
            v1::GapReason::UpstreamInconsistent,
            "the API server delivered late what it had reported as complete",
        ),
    }
}

/// A replica as people know it: its name, or its id where it is no longer a member.
pub(super) fn replica_name(state: &State, replica: Option<ReplicaId>) -> String {
    replica.map_or_else(String::new, |id| {
        state
            .members
            .get(&id)
            .map_or_else(|| id.to_string(), |member| member.name.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::{UnixMillis, duration, position, timestamp};
    use crate::domain::{
        id::Era,
        position::{Ordinal, Position},
    };

    #[test]
    fn times_are_in_milliseconds() {
        let at = timestamp(UnixMillis(1_234_567));
        assert_eq!((at.seconds, at.nanos), (1_234, 567_000_000));
        let behind = duration(-1_500);
        assert_eq!((behind.seconds, behind.nanos), (-1, -500_000_000));
    }

    #[test]
    fn a_closed_position_has_no_ordinal() {
        let closed = position(&Position::closed(Era(3), 44.into()));
        assert_eq!(
            (closed.era, closed.resource_version.as_str()),
            (3, "44"),
            "{closed:?}"
        );
        assert_eq!(closed.ordinal, None);
        let first = Position::at(Era(3), 44.into(), Ordinal::FIRST);
        assert_eq!(position(&first).ordinal, Some(0));
    }
}
