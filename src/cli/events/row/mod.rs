//! What a table shows of each frame: one cell per column.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::{
    cli::{
        json::word,
        shards,
        table::or_dash,
        terminal::Tone,
        time::{age, instant},
    },
    proto::v1::{
        ChangeType, Event, Gap, MoveReason, Shard, ShardChange, StreamChange, StreamChangeReason,
        StreamChangeType, SubscribeResponse, Synced, subscribe_response::Frame,
    },
};

/// The cells of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) cluster: String,
    pub(super) namespace: String,
    pub(super) last_seen: String,
    /// What happened to the object, or what the row is about if not an object.
    pub(super) change: String,
    /// The type of a Kubernetes Event.
    pub(super) kind: String,
    pub(super) reason: String,
    pub(super) object: String,
    pub(super) message: String,
    pub(super) subobject: String,
    pub(super) source: String,
    pub(super) first_seen: String,
    pub(super) count: String,
    pub(super) name: String,
    pub(super) epoch: String,
    pub(super) id: String,
    /// The colour of the row.
    pub(super) tone: Option<Tone>,
}

/// What rows show of an object. All of it may be absent: not every object is an Event.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Shown {
    kind: Option<String>,
    metadata: Metadata,
    r#type: Option<serde_json::Value>,
    reason: Option<serde_json::Value>,
    message: Option<serde_json::Value>,
    note: Option<serde_json::Value>,
    involved_object: Option<Reference>,
    regarding: Option<Reference>,
    first_timestamp: Option<String>,
    last_timestamp: Option<String>,
    event_time: Option<String>,
    count: Option<u64>,
    series: Option<Series>,
    source: Option<EventSource>,
    deprecated_source: Option<EventSource>,
    reporting_component: Option<String>,
    reporting_controller: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Series {
    count: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EventSource {
    component: Option<String>,
    host: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reference {
    kind: Option<String>,
    name: Option<String>,
    field_path: Option<String>,
}

/// An event, of whatever object.
pub(super) fn event(event: &Event) -> Row {
    let shown: Shown = serde_json::from_str(&event.object_json).unwrap_or_default();
    let (namespace, name) = match &event.object {
        Some(object) => (object.namespace.as_str(), object.name.as_str()),
        None => ("", ""),
    };
    let about = shown.involved_object.as_ref().or(shown.regarding.as_ref());
    let object = match about {
        Some(about) => object(about.kind.as_deref(), about.name.as_deref()),
        // Lists of built-in resources carry no kind: it follows from the plural.
        None => {
            let plural = event.resource.rsplit('/').next();
            object(shown.kind.as_deref().or(plural), Some(name))
        }
    };
    let subobject = about.and_then(|about| about.field_path.clone());
    let seen = event.seen_time.as_ref().and_then(instant);
    let count = shown.series.as_ref().and_then(|series| series.count);
    let change = event.change_type();
    let is_gone = matches!(change, ChangeType::Deleted | ChangeType::Unmatched);
    Row {
        cluster: event.cluster.clone(),
        namespace: or_dash(namespace),
        last_seen: ago(shown.last_seen().or(seen)),
        first_seen: ago(shown.first_seen()),
        change: word(change.as_str_name(), "CHANGE_TYPE_").to_uppercase(),
        kind: text(shown.r#type.as_ref()),
        reason: text(shown.reason.as_ref()),
        object,
        subobject: or_dash(&subobject.unwrap_or_default()),
        source: or_dash(&shown.source()),
        count: count
            .or(shown.count)
            .map_or_else(|| "-".into(), |count| count.to_string()),
        name: name.to_owned(),
        message: text(shown.message.as_ref().or(shown.note.as_ref())),
        epoch: event.epoch.to_string(),
        id: event.id.clone(),
        tone: is_gone.then_some(Tone::Faint),
    }
}

fn ago(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".into(), |at| age(&at))
}

impl Shown {
    fn last_seen(&self) -> Option<DateTime<Utc>> {
        let times = [
            &self.last_timestamp,
            &self.event_time,
            &self.metadata.creation_timestamp,
        ];
        first_known(&times)
    }

    fn first_seen(&self) -> Option<DateTime<Utc>> {
        let times = [
            &self.first_timestamp,
            &self.event_time,
            &self.metadata.creation_timestamp,
        ];
        first_known(&times)
    }

    /// `kubelet, node-1`, as kubectl has it.
    fn source(&self) -> String {
        let source = self.source.as_ref().or(self.deprecated_source.as_ref());
        let reporting = self.reporting_component.as_ref();
        let reporting = reporting.or(self.reporting_controller.as_ref());
        let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let component = source.and_then(|source| named(&source.component));
        let host = source.and_then(|source| named(&source.host));
        let parts = [component.or_else(|| reporting.cloned()), host];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        parts.join(", ")
    }
}

fn first_known(times: &[&Option<String>]) -> Option<DateTime<Utc>> {
    let mut known = times.iter().copied().flatten();
    known.find_map(|time| Some(DateTime::parse_from_rfc3339(time).ok()?.to_utc()))
}

/// The kind in lowercase, as kubectl prints it.
fn object(kind: Option<&str>, name: Option<&str>) -> String {
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    format!("{kind}/{}", name.unwrap_or_default())
}

/// A field that is text in Events, and may be anything in other objects.
fn text(value: Option<&serde_json::Value>) -> String {
    or_dash(
        value
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default(),
    )
}

/// What is missing, and what follows, in a sentence.
pub(super) fn gap_message(gap: &Gap) -> String {
    let follows = if gap.repaired {
        "the net changes follow"
    } else {
        "a snapshot follows"
    };
    match gap.message.as_str() {
        "" => follows.to_owned(),
        message => format!("{message} ({follows})"),
    }
}

/// A gap.
pub(super) fn gap(gap: &Gap) -> Row {
    let reason = words(gap.reason().as_str_name(), "GAP_REASON_");
    Row {
        reason,
        message: gap_message(gap),
        tone: Some(Tone::Bad),
        ..between(&gap.cluster, "GAP", &gap.resource)
    }
}

/// A snapshot is complete.
pub(super) fn synced(synced: &Synced) -> Row {
    Row {
        message: "the snapshot is complete".to_owned(),
        tone: Some(Tone::Faint),
        ..between(&synced.cluster, "SYNCED", &synced.resource)
    }
}

/// A stream was added, removed, or changed; `None` where that is nothing but the list of streams
/// with which every connection begins.
pub(super) fn stream_change(change: &StreamChange) -> Option<Row> {
    let is_list = matches!(
        change.reason(),
        StreamChangeReason::Subscribed | StreamChangeReason::Continued
    );
    if is_list && !change.paused {
        return None;
    }
    let kind = match change.r#type() {
        StreamChangeType::Added if change.paused => "paused".to_owned(),
        kind => words(kind.as_str_name(), "STREAM_CHANGE_TYPE_"),
    };
    let message = match change.message.as_str() {
        "" => words(change.reason().as_str_name(), "STREAM_CHANGE_REASON_"),
        message => message.to_owned(),
    };
    // The group may no longer know what it removes.
    let object = match change.resource.as_str() {
        "" => format!("stream {}", change.stream),
        resource => resource.to_owned(),
    };
    let tone = match change.r#type() {
        StreamChangeType::Removed | StreamChangeType::Paused => Tone::Notable,
        _ => Tone::Faint,
    };
    Some(Row {
        namespace: or_dash(&change.namespace),
        reason: kind,
        message,
        tone: Some(tone),
        ..between(&or_dash(&change.cluster), "STREAM", &object)
    })
}

/// The note printed on standard error for a frame, if any.
pub(super) fn note(response: &SubscribeResponse) -> Option<String> {
    match response.frame.as_ref()? {
        Frame::Gap(gap) => {
            let (cluster, resource) = (&gap.cluster, &gap.resource);
            Some(format!("gap in {cluster} {resource}: {}", gap_message(gap)))
        }
        Frame::StreamChange(change) => {
            let row = stream_change(change)?;
            Some(format!(
                "{} {} {}: {}",
                row.cluster, row.object, row.reason, row.message
            ))
        }
        _ => None,
    }
}

/// The words of an enum value.
fn words(name: &str, prefix: &str) -> String {
    word(name, prefix).replace('_', " ")
}

/// A shard has another owner.
pub(super) fn owner(change: &ShardChange, shard: &Shard) -> Row {
    let (old, new) = (or_dash(&change.old_owner), or_dash(&shard.owner));
    Row {
        reason: shards::reason(shard.reason()),
        message: format!("{old} -> {new}, epoch {}", shard.epoch),
        epoch: shard.epoch.to_string(),
        tone: Some(match shard.reason() {
            MoveReason::NoReplica => Tone::Bad,
            _ => Tone::Move,
        }),
        ..between(&shard.cluster, "OWNER", &shard.name)
    }
}

/// A row that is about a stream or a shard, not about an object.
fn between(cluster: &str, change: &str, object: &str) -> Row {
    let dash = || "-".to_owned();
    Row {
        cluster: cluster.to_owned(),
        namespace: dash(),
        last_seen: dash(),
        change: change.to_owned(),
        kind: dash(),
        reason: dash(),
        object: object.to_owned(),
        message: dash(),
        subobject: dash(),
        source: dash(),
        first_seen: dash(),
        count: dash(),
        name: dash(),
        epoch: dash(),
        id: dash(),
        tone: None,
    }
}

#[cfg(test)]
mod tests;
