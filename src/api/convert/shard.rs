//! Shards and their changes.

use tonic::Status;

use super::{position, replica_name, timestamp};
use crate::{
    api::status::{Kind, invalid, not_found},
    domain::{
        assignment::{Assignment, MoveReason, Phase},
        change::{ShardChange, ShardChangeKind},
        id::ShardId,
        state::State,
        stream::Stream,
    },
    proto::v1,
};

/// A shard with its streams.
pub(in crate::api) fn shard<'a>(
    state: &State,
    assignment: &Assignment,
    streams: impl Iterator<Item = &'a Stream>,
) -> v1::Shard {
    let id = assignment.shard();
    let cluster = state.clusters.get(&id.cluster);
    let cluster = cluster.map(|cluster| cluster.spec.name.clone());
    named(state, cluster.unwrap_or_default(), assignment, streams)
}

/// A shard of a cluster that may be gone.
fn named<'a>(
    state: &State,
    cluster: String,
    assignment: &Assignment,
    streams: impl Iterator<Item = &'a Stream>,
) -> v1::Shard {
    let phase = match assignment.phase() {
        Phase::Unassigned => v1::ShardPhase::Unassigned,
        Phase::Active => v1::ShardPhase::Active,
    };
    v1::Shard {
        name: format!("{cluster}/{}", assignment.shard().slice),
        cluster,
        owner: replica_name(state, assignment.owner()),
        epoch: assignment.epoch().0,
        phase: phase.into(),
        reason: move_reason(assignment.reason()).into(),
        since_time: Some(timestamp(assignment.since())),
        streams: streams.map(stream).collect(),
    }
}

fn stream(stream: &Stream) -> v1::Stream {
    let selector = &stream.selector;
    v1::Stream {
        stream: stream.id.to_string(),
        resource: selector.resource.to_string(),
        namespace: selector.namespace.clone(),
        label_selector: selector.label_selector.clone(),
        field_selector: selector.field_selector.clone(),
        checkpoint: stream.checkpoint.as_ref().map(position),
    }
}

fn move_reason(reason: MoveReason) -> v1::MoveReason {
    match reason {
        MoveReason::Created => v1::MoveReason::Created,
        MoveReason::Placed => v1::MoveReason::Placed,
        MoveReason::Takeover => v1::MoveReason::Takeover,
        MoveReason::Handover => v1::MoveReason::Handover,
        MoveReason::Rebalance => v1::MoveReason::Rebalance,
        MoveReason::Reachability => v1::MoveReason::Reachability,
        MoveReason::Drained => v1::MoveReason::Drained,
        MoveReason::Requested => v1::MoveReason::Requested,
        MoveReason::NoReplica => v1::MoveReason::NoReplica,
        MoveReason::Paused => v1::MoveReason::Paused,
        MoveReason::Deleted => v1::MoveReason::Deleted,
    }
}

/// A change of a shard.
pub(in crate::api) fn shard_change(state: &State, change: &ShardChange) -> v1::ShardChange {
    let kind = match change.kind {
        ShardChangeKind::Created => v1::ShardChangeType::Created,
        ShardChangeKind::Moved => v1::ShardChangeType::Moved,
        ShardChangeKind::Updated => v1::ShardChangeType::Updated,
        ShardChangeKind::Deleted => v1::ShardChangeType::Deleted,
    };
    let old_owner = match change.kind {
        ShardChangeKind::Moved => replica_name(state, change.old_owner),
        _ => String::new(),
    };
    let cluster = change.cluster.clone();
    v1::ShardChange {
        r#type: kind.into(),
        shard: Some(named(
            state,
            cluster,
            &change.assignment,
            change.streams.iter(),
        )),
        old_owner,
        time: Some(timestamp(change.at)),
    }
}

/// The shard that a text names: `cluster/slice`, or a cluster for its slice 0.
pub(in crate::api) fn shard_id(state: &State, text: &str) -> Result<ShardId, Status> {
    let (name, slice) = text.rsplit_once('/').unwrap_or((text, "0"));
    let slice = slice
        .parse()
        .map_err(|_| invalid("name", "is not of the form cluster/slice, like \"prod/0\""))?;
    let cluster = state.cluster_named(name);
    let id = cluster.map(|cluster| ShardId {
        cluster: cluster.id,
        slice,
    });
    id.filter(|id| state.assignments.contains_key(id))
        .ok_or_else(|| not_found(Kind::Shard, text))
}
