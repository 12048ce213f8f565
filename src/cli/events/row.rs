//! Events as `kubectl get events -A --watch` shows them, the cluster first.

use std::io::{self, Write};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::{
    cli::{
        json::word,
        output::Out,
        table::{Table, or_dash},
        time::{age, instant},
    },
    proto::v1::{Event, Gap, SubscribeResponse, Synced, subscribe_response::Frame},
};

/// Rows come one by one, so that columns cannot be fitted beforehand: common lengths.
const WIDTHS: [usize; 8] = [10, 12, 9, 8, 7, 16, 32, 0];

pub(super) struct EventTable {
    table: Table<8>,
    has_head: bool,
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
    last_timestamp: Option<String>,
    event_time: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference {
    kind: Option<String>,
    name: Option<String>,
}

impl EventTable {
    pub(super) fn new() -> Self {
        let head = [
            "CLUSTER",
            "NAMESPACE",
            "LAST SEEN",
            "CHANGE",
            "TYPE",
            "REASON",
            "OBJECT",
            "MESSAGE",
        ];
        Self {
            table: Table::with_widths(head, WIDTHS),
            has_head: false,
        }
    }

    pub(super) fn write(&mut self, out: &mut Out, response: &SubscribeResponse) -> io::Result<()> {
        let row = match &response.frame {
            Some(Frame::Event(event)) => event_row(event),
            Some(Frame::Gap(gap)) => gap_row(gap),
            Some(Frame::Synced(synced)) => synced_row(synced),
            // The head tells that the subscription stands.
            Some(Frame::Progress(_)) if !self.has_head => return self.write_head(out),
            Some(Frame::Progress(_)) | None => return Ok(()),
        };
        self.write_head(out)?;
        self.table.write_row(out, &row)
    }

    fn write_head(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.has_head {
            return Ok(());
        }
        self.has_head = true;
        self.table.write_head(out)
    }
}

fn event_row(event: &Event) -> [String; 8] {
    let shown: Shown = serde_json::from_slice(&event.object_json).unwrap_or_default();
    let (namespace, name) = match &event.object {
        Some(object) => (object.namespace.as_str(), object.name.as_str()),
        None => ("", ""),
    };
    let about = shown.involved_object.as_ref().or(shown.regarding.as_ref());
    let object = match about {
        Some(Reference { kind, name }) => object(kind.as_deref(), name.as_deref()),
        // Lists of built-in resources carry no kind: the plural says it.
        None => {
            let plural = event.resource.rsplit('/').next();
            object(shown.kind.as_deref().or(plural), Some(name))
        }
    };
    let seen = || event.seen_time.as_ref().and_then(instant);
    [
        event.cluster.clone(),
        or_dash(namespace),
        shown
            .last_seen()
            .or_else(seen)
            .map_or_else(|| "-".into(), |at| age(&at)),
        word(event.r#type().as_str_name(), "EVENT_TYPE_").to_uppercase(),
        text(shown.r#type.as_ref()),
        text(shown.reason.as_ref()),
        object,
        text(shown.message.as_ref().or(shown.note.as_ref())),
    ]
}

impl Shown {
    fn last_seen(&self) -> Option<DateTime<Utc>> {
        let times = [
            &self.last_timestamp,
            &self.event_time,
            &self.metadata.creation_timestamp,
        ];
        let mut known = times.into_iter().flatten();
        known.find_map(|time| Some(DateTime::parse_from_rfc3339(time).ok()?.to_utc()))
    }
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

fn gap_row(gap: &Gap) -> [String; 8] {
    let reason = word(gap.reason().as_str_name(), "GAP_REASON_");
    let follows = if gap.repaired {
        "the net changes follow"
    } else {
        "a snapshot follows"
    };
    let message = match gap.message.as_str() {
        "" => follows.to_owned(),
        message => format!("{message} ({follows})"),
    };
    between(&gap.cluster, "GAP", &reason, &gap.resource, message)
}

fn synced_row(synced: &Synced) -> [String; 8] {
    let message = "the snapshot is complete".to_owned();
    between(&synced.cluster, "SYNCED", "", &synced.resource, message)
}

/// A row that is about a stream, not about an object.
fn between(
    cluster: &str,
    kind: &str,
    reason: &str,
    resource: &str,
    message: String,
) -> [String; 8] {
    let dash = || "-".to_owned();
    [
        cluster.to_owned(),
        dash(),
        dash(),
        kind.to_owned(),
        dash(),
        or_dash(reason),
        resource.to_owned(),
        message,
    ]
}

#[cfg(test)]
mod tests {
    use super::{Event, event_row};
    use crate::proto::v1::{EventType, ObjectMeta};

    fn event(json: &str) -> Event {
        Event {
            cluster: "c".into(),
            resource: "v1/configmaps".into(),
            r#type: EventType::Added.into(),
            object: Some(ObjectMeta {
                namespace: "n".into(),
                name: "x".into(),
                ..ObjectMeta::default()
            }),
            object_json: json.to_owned().into(),
            ..Event::default()
        }
    }

    #[test]
    fn an_event_shows_what_it_is_about() {
        let row = event_row(&event(
            r#"{"kind":"Event","type":"Warning","reason":"BackOff","message":"again",
                "involvedObject":{"kind":"Pod","name":"web-0"},"lastTimestamp":null}"#,
        ));
        assert_eq!(
            row[3..],
            ["ADDED", "Warning", "BackOff", "pod/web-0", "again"]
        );
    }

    #[test]
    fn any_object_shows_its_name() {
        for json in ["{}", "no json", r#"{"type":{"a":1},"data":{}}"#] {
            let row = event_row(&event(json));
            assert_eq!(row[3..], ["ADDED", "-", "-", "configmaps/x", "-"], "{json}");
        }
    }
}
