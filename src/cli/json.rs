//! The API's messages as JSON: its field names, RFC 3339 times, lowercase words for enums, and
//! objects as they are.

use prost_types::Timestamp;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::time::{instant, rfc3339};
use crate::proto::v1::{
    Cluster, ClusterSource, Event, Gap, GetGroupResponse, Member, Progress, ResourceSelector,
    Shard, ShardChange, Stream, SubscribeResponse, Synced, cluster_source::Source,
    subscribe_response::Frame,
};

/// The lowercase word of an enum value: `MOVE_REASON_TAKEOVER` without `MOVE_REASON_`. What nobody
/// has said yet is unknown.
pub(super) fn word(name: &str, prefix: &str) -> String {
    match name.strip_prefix(prefix).unwrap_or(name) {
        "UNSPECIFIED" => "unknown".to_owned(),
        word => word.to_ascii_lowercase(),
    }
}

fn time(timestamp: Option<&Timestamp>) -> Value {
    let instant = timestamp.and_then(instant);
    instant.map_or(Value::Null, |instant| rfc3339(&instant).into())
}

pub(super) fn cluster(cluster: &Cluster) -> Value {
    let health = cluster.health.as_ref().map(|health| {
        json!({
            "condition": word(health.condition().as_str_name(), "CLUSTER_CONDITION_"),
            "reason": health.reason,
            "since_time": time(health.since_time.as_ref()),
        })
    });
    let labels: std::collections::BTreeMap<_, _> = cluster.labels.iter().collect();
    json!({
        "name": cluster.name,
        "labels": labels,
        "source": cluster.source.as_ref().map(source),
        "resources": cluster.resources.iter().map(selector).collect::<Vec<_>>(),
        "paused": cluster.paused,
        "uid": cluster.uid,
        "health": health,
        "create_time": time(cluster.create_time.as_ref()),
        "revision": cluster.revision,
        "lag_ms": cluster.lag_ms,
    })
}

fn source(source: &ClusterSource) -> Value {
    match &source.source {
        None => Value::Null,
        Some(Source::KubeconfigFile(file)) => {
            json!({ "kubeconfig_file": { "path": file.path, "context": file.context } })
        }
        Some(Source::KubeconfigInline(inline)) => {
            json!({ "kubeconfig_inline": { "context": inline.context } })
        }
        Some(Source::Configured(name)) => json!({ "configured": name }),
        Some(Source::InCluster(_)) => json!({ "in_cluster": {} }),
    }
}

fn selector(selector: &ResourceSelector) -> Value {
    json!({
        "resource": selector.resource,
        "namespaces": selector.namespaces,
        "label_selector": selector.label_selector,
        "field_selector": selector.field_selector,
    })
}

pub(super) fn shard(shard: &Shard) -> Value {
    json!({
        "id": shard.id,
        "cluster": shard.cluster,
        "owner": shard.owner,
        "epoch": shard.epoch,
        "phase": word(shard.phase().as_str_name(), "SHARD_PHASE_"),
        "reason": word(shard.reason().as_str_name(), "MOVE_REASON_"),
        "since_time": time(shard.since_time.as_ref()),
        "streams": shard.streams.iter().map(stream).collect::<Vec<_>>(),
    })
}

fn stream(stream: &Stream) -> Value {
    json!({
        "resource": stream.resource,
        "namespace": stream.namespace,
        "label_selector": stream.label_selector,
        "field_selector": stream.field_selector,
        "era": stream.era,
        "checkpoint": stream.checkpoint,
    })
}

pub(super) fn shard_change(change: &ShardChange) -> Value {
    json!({
        "id": change.id,
        "cluster": change.cluster,
        "old_owner": change.old_owner,
        "new_owner": change.new_owner,
        "epoch": change.epoch,
        "reason": word(change.reason().as_str_name(), "MOVE_REASON_"),
        "time": time(change.time.as_ref()),
        "revision": change.revision,
    })
}

pub(super) fn group(group: &GetGroupResponse) -> Value {
    json!({
        "group_id": group.group_id,
        "leader": group.leader,
        "term": group.term,
        "applied_index": group.applied_index,
        "answered_by": group.answered_by,
        "has_quorum": group.has_quorum,
        "problem": group.problem,
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
    })
}

fn member(member: &Member) -> Value {
    json!({
        "name": member.name,
        "id": member.id,
        "role": word(member.role().as_str_name(), "MEMBER_ROLE_"),
        "peer_address": member.peer_address,
        "client_address": member.client_address,
        "health": word(member.health().as_str_name(), "MEMBER_HEALTH_"),
        "start_time": time(member.start_time.as_ref()),
        "shards": member.shards,
        "silent_ms": member.silent_ms,
        "version": member.version,
        "clock_offset_ms": member.clock_offset_ms,
    })
}

/// One frame of a subscription: its cursor, and one of `event`, `synced`, `progress` and `gap`.
#[derive(Serialize)]
pub(super) struct FrameLine<'a> {
    #[serde(flatten)]
    frame: FrameKind<'a>,
    cursor: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum FrameKind<'a> {
    Event(Box<EventLine<'a>>),
    Synced(Value),
    Progress(Value),
    Gap(Value),
}

/// An event with its object as it is: not parsed, not written anew.
#[derive(Serialize)]
struct EventLine<'a> {
    id: &'a str,
    cluster: &'a str,
    resource: &'a str,
    #[serde(rename = "type")]
    change: String,
    position: &'a str,
    epoch: u64,
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
    resource_version: &'a str,
    seen_time: Value,
    sent_time: Value,
    object: Option<&'a RawValue>,
}

/// A frame as one line; `None` for a frame of a kind that this version does not know.
pub(super) fn frame(response: &SubscribeResponse) -> Option<FrameLine<'_>> {
    let frame = match response.frame.as_ref()? {
        Frame::Event(told) => FrameKind::Event(Box::new(event(told))),
        Frame::Synced(told) => FrameKind::Synced(synced(told)),
        Frame::Progress(told) => FrameKind::Progress(progress(told)),
        Frame::Gap(told) => FrameKind::Gap(gap(told)),
    };
    let cursor = &response.cursor;
    Some(FrameLine { frame, cursor })
}

fn event(event: &Event) -> EventLine<'_> {
    let object = event.object.as_ref();
    EventLine {
        id: &event.id,
        cluster: &event.cluster,
        resource: &event.resource,
        change: word(event.r#type().as_str_name(), "EVENT_TYPE_"),
        position: &event.position,
        epoch: event.epoch,
        namespace: object.map_or("", |object| &object.namespace),
        name: object.map_or("", |object| &object.name),
        uid: object.map_or("", |object| &object.uid),
        resource_version: object.map_or("", |object| &object.resource_version),
        seen_time: time(event.seen_time.as_ref()),
        sent_time: time(event.sent_time.as_ref()),
        object: serde_json::from_slice(&event.object_json).ok(),
    }
}

fn synced(synced: &Synced) -> Value {
    json!({
        "cluster": synced.cluster,
        "resource": synced.resource,
        "position": synced.position,
    })
}

fn progress(progress: &Progress) -> Value {
    let stream = |stream: &crate::proto::v1::StreamProgress| {
        json!({
            "cluster": stream.cluster,
            "resource": stream.resource,
            "position": stream.position,
            "lag_ms": stream.lag_ms,
            "catching_up": stream.catching_up,
        })
    };
    json!({ "streams": progress.streams.iter().map(stream).collect::<Vec<_>>() })
}

fn gap(gap: &Gap) -> Value {
    json!({
        "cluster": gap.cluster,
        "resource": gap.resource,
        "from": gap.from,
        "to": gap.to,
        "reason": word(gap.reason().as_str_name(), "GAP_REASON_"),
        "repaired": gap.repaired,
        "message": gap.message,
    })
}

#[cfg(test)]
mod tests {
    use super::{Event, Frame, SubscribeResponse, frame};
    use crate::proto::v1::EventType;

    #[test]
    fn an_object_is_printed_as_it_was_received() {
        let response = SubscribeResponse {
            cursor: "c".into(),
            frame: Some(Frame::Event(Event {
                cluster: "a".into(),
                r#type: EventType::Deleted.into(),
                object_json: r#"{"z":1.50,"a":12345678901234567890123}"#.into(),
                ..Event::default()
            })),
        };
        let line = serde_json::to_string(&frame(&response).unwrap()).unwrap();
        assert!(
            line.contains(r#""object":{"z":1.50,"a":12345678901234567890123}"#),
            "{line}"
        );
        assert!(line.contains(r#""type":"deleted""#), "{line}");
        assert!(line.ends_with(r#""cursor":"c"}"#), "{line}");
    }
}
