//! Between the protocol and the domain: every field checked on the way in, none invented on the
//! way out.

use std::time::Duration;

use prost_types::Timestamp;
use tonic::Status;

use super::status::invalid;
use crate::{
    domain::{
        assignment::{Assignment, MoveReason, Phase},
        cluster::{Cluster, ClusterSpec, Condition, Resource, ResourceSelector, Source},
        command::ShardChange,
        frame::{Change, GapReason},
        id::{ReplicaId, ShardId, UnixMillis},
        state::State,
        stream::Stream,
    },
    pipeline::filter::{EventFilter, Filter},
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

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What happened to an object.
pub(super) fn event_type(change: Change) -> v1::EventType {
    match change {
        Change::Added => v1::EventType::Added,
        Change::Modified => v1::EventType::Modified,
        Change::Deleted => v1::EventType::Deleted,
        Change::Snapshot => v1::EventType::Snapshot,
    }
}

/// Why something is missing, as a number and as a sentence.
pub(super) fn gap_reason(reason: GapReason) -> (v1::GapReason, &'static str) {
    match reason {
        GapReason::StreamCreated => (
            v1::GapReason::StreamCreated,
            "the stream began after the cursor was taken, and its beginning is no longer available",
        ),
        GapReason::HistoryExpired => (
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
            "the API server's watch cache began anew; changes in between may be coalesced",
        ),
        GapReason::UpstreamInconsistent => (
            v1::GapReason::UpstreamInconsistent,
            "the API server delivered late what it had said was complete",
        ),
    }
}

/// What a subscriber wants.
pub(super) fn filter(filter: Option<v1::Filter>) -> Result<Filter, Status> {
    let filter = filter.unwrap_or_default();
    let resources = filter.resources.iter().map(|text| text.parse::<Resource>());
    let object = filter.involved_object.unwrap_or_default();
    Ok(Filter {
        clusters: filter.clusters,
        cluster_labels: filter.cluster_selector.parse().map_err(invalid)?,
        resources: resources.collect::<Result<_, _>>().map_err(invalid)?,
        namespaces: filter.namespaces,
        names: filter.names,
        fields: filter.field_selector.parse().map_err(invalid)?,
        event: EventFilter {
            types: filter.event_types,
            reasons: filter.event_reasons,
            kind: object.kind,
            namespace: object.namespace,
            name: object.name,
            uid: object.uid,
        },
    })
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

fn move_reason(reason: MoveReason) -> v1::MoveReason {
    match reason {
        MoveReason::Created => v1::MoveReason::Created,
        MoveReason::Placed => v1::MoveReason::Placed,
        MoveReason::Takeover => v1::MoveReason::Takeover,
        MoveReason::Handover => v1::MoveReason::Handover,
        MoveReason::Rebalance => v1::MoveReason::Rebalance,
        MoveReason::NoReplica => v1::MoveReason::NoReplica,
        MoveReason::Paused => v1::MoveReason::Paused,
        MoveReason::Deleted => v1::MoveReason::Deleted,
    }
}

/// A shard with its streams.
pub(super) fn shard(state: &State, assignment: &Assignment) -> v1::Shard {
    let id = assignment.shard();
    let phase = match assignment.phase() {
        Phase::Unassigned => v1::ShardPhase::Unassigned,
        Phase::Active => v1::ShardPhase::Active,
    };
    v1::Shard {
        id: state.shard_name(id),
        cluster: state
            .clusters
            .get(&id.cluster)
            .map(|c| c.spec.name.clone())
            .unwrap_or_default(),
        owner: replica_name(state, assignment.owner()),
        epoch: assignment.epoch().0,
        phase: phase.into(),
        reason: move_reason(assignment.reason()).into(),
        since_time: Some(timestamp(assignment.since())),
        streams: state.streams_of(id).map(stream).collect(),
    }
}

fn stream(stream: &Stream) -> v1::Stream {
    let selector = &stream.selector;
    v1::Stream {
        resource: selector.resource.to_string(),
        namespace: selector.namespace.clone(),
        label_selector: selector.label_selector.clone(),
        field_selector: selector.field_selector.clone(),
        era: stream
            .era
            .as_ref()
            .map(|start| start.era.0)
            .unwrap_or_default(),
        checkpoint: stream
            .checkpoint
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

/// A change of ownership.
pub(super) fn shard_change(state: &State, change: &ShardChange) -> v1::ShardChange {
    v1::ShardChange {
        id: format!("{}/{}", change.cluster, change.shard.slice),
        cluster: change.cluster.clone(),
        old_owner: replica_name(state, change.old_owner),
        new_owner: replica_name(state, change.new_owner),
        epoch: change.epoch.0,
        reason: move_reason(change.reason).into(),
        time: Some(timestamp(change.at)),
        revision: change.revision.0,
    }
}

/// The shard that a text names: `cluster/slice`, or a cluster for its slice 0.
pub(super) fn shard_id(state: &State, text: &str) -> Result<ShardId, Status> {
    let (name, slice) = text.rsplit_once('/').unwrap_or((text, "0"));
    let slice = slice.parse().map_err(|_| {
        invalid(format!(
            "shard id {text:?} is not of the form cluster/slice"
        ))
    })?;
    let cluster = state.cluster_named(name);
    let id = cluster.map(|cluster| ShardId {
        cluster: cluster.id,
        slice,
    });
    id.filter(|id| state.assignments.contains_key(id))
        .ok_or_else(|| Status::not_found(format!("no shard {text:?}; ListShards names them all")))
}

/// A cluster as users see it: without its inline kubeconfig.
pub(super) fn cluster(cluster: &Cluster, lag_ms: Option<u64>) -> v1::Cluster {
    let spec = &cluster.spec;
    let health = &cluster.health;
    v1::Cluster {
        name: spec.name.clone(),
        labels: spec.labels.clone().into_iter().collect(),
        source: Some(source(&spec.source)),
        resources: spec.selectors.iter().map(selector).collect(),
        paused: spec.paused,
        uid: cluster.uid.clone().unwrap_or_default(),
        health: Some(v1::ClusterHealth {
            condition: condition(health.condition).into(),
            reason: health.reason.clone(),
            since_time: Some(timestamp(health.since)),
        }),
        create_time: Some(timestamp(cluster.created)),
        revision: cluster.revision.0,
        lag_ms,
    }
}

fn condition(condition: Condition) -> v1::ClusterCondition {
    match condition {
        Condition::Unknown => v1::ClusterCondition::Unspecified,
        Condition::Connected => v1::ClusterCondition::Connected,
        Condition::Degraded => v1::ClusterCondition::Degraded,
        Condition::Unreachable => v1::ClusterCondition::Unreachable,
        Condition::Unauthorised => v1::ClusterCondition::Unauthorised,
    }
}

fn source(source: &Source) -> v1::ClusterSource {
    use v1::cluster_source::Source as Out;
    let out = match source.clone() {
        Source::KubeconfigFile { path, context } => {
            Out::KubeconfigFile(v1::KubeconfigFile { path, context })
        }
        Source::KubeconfigInline { context, .. } => Out::KubeconfigInline(v1::KubeconfigInline {
            yaml: String::new(),
            context,
        }),
        Source::Configured { name } => Out::Configured(name),
        Source::InCluster => Out::InCluster(v1::InCluster {}),
    };
    v1::ClusterSource { source: Some(out) }
}

fn selector(selector: &ResourceSelector) -> v1::ResourceSelector {
    let namespace = Some(selector.namespace.clone()).filter(|namespace| !namespace.is_empty());
    v1::ResourceSelector {
        resource: selector.resource.to_string(),
        namespaces: namespace.into_iter().collect(),
        label_selector: selector.label_selector.clone(),
        field_selector: selector.field_selector.clone(),
    }
}

/// What a user asks for.
pub(super) fn cluster_spec(cluster: v1::Cluster) -> Result<ClusterSpec, Status> {
    Ok(ClusterSpec {
        name: cluster.name,
        labels: cluster.labels.into_iter().collect(),
        source: cluster_source(cluster.source)?,
        selectors: selectors(cluster.resources)?,
        paused: cluster.paused,
    })
}

/// Where the credentials come from; an inline kubeconfig must carry none.
pub(super) fn cluster_source(source: Option<v1::ClusterSource>) -> Result<Source, Status> {
    use v1::cluster_source::Source as In;
    match source.and_then(|source| source.source) {
        None => Err(invalid(
            "source is missing: name one of kubeconfig_file, kubeconfig_inline, configured, \
             in_cluster",
        )),
        Some(In::KubeconfigFile(v1::KubeconfigFile { path, .. })) if path.is_empty() => {
            Err(invalid("source.kubeconfig_file.path is empty"))
        }
        Some(In::KubeconfigFile(file)) => Ok(Source::KubeconfigFile {
            path: file.path,
            context: file.context,
        }),
        Some(In::KubeconfigInline(inline)) => {
            crate::watcher::reject_credentials(&inline.yaml).map_err(invalid)?;
            Ok(Source::KubeconfigInline {
                yaml: inline.yaml,
                context: inline.context,
            })
        }
        Some(In::Configured(name)) => Ok(Source::Configured { name }),
        Some(In::InCluster(_)) => Ok(Source::InCluster),
    }
}

/// What to watch: one selector for each namespace; Kubernetes Events where nothing is named.
pub(super) fn selectors(
    resources: Vec<v1::ResourceSelector>,
) -> Result<Vec<ResourceSelector>, Status> {
    if resources.is_empty() {
        return Ok(vec![ResourceSelector::all(Resource::events())]);
    }
    let mut selectors = Vec::new();
    for resource in resources {
        let all = ResourceSelector {
            label_selector: resource.label_selector,
            field_selector: resource.field_selector,
            ..ResourceSelector::all(resource.resource.parse().map_err(invalid)?)
        };
        if resource.namespaces.is_empty() {
            selectors.push(all);
        } else {
            let narrowed = resource.namespaces.into_iter();
            selectors.extend(narrowed.map(|namespace| ResourceSelector {
                namespace,
                ..all.clone()
            }));
        }
    }
    Ok(selectors)
}
