//! What a subscription gives, as frames of the protocol.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost_types::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    convert::{self, timestamp},
    encoded::{Encoded, Object, encoded, encoded_once},
    view::{View, project},
};
use crate::{
    domain::{
        cursor::{Cursor, CursorCodec},
        delivery::item::{Gap, Published},
        id::{GroupId, StreamId, UnixMillis},
        position::Position,
    },
    pipeline::output::{
        Body, CursorStep, Output, Progress, StreamChange, StreamChangeReason, StreamChangeType,
        StreamName, StreamProgress,
    },
    proto::v1::{self, SubscribeResponse, subscribe_response::Frame},
};

/// The namespace of groups' namespaces of event ids; a UUID drawn once, for good.
const EVENT_IDS: Uuid = Uuid::from_u128(0x9c1d_58a1_7c0f_4d0e_8f55_51a5_3cf0_6d2b);

/// Makes the frames of one subscription.
#[derive(Clone, Copy)]
pub(super) struct Frames {
    pub(super) codec: CursorCodec,
    pub(super) ids: EventIds,
    pub(super) view: View,
}

/// The ids of a group's events.
#[derive(Clone, Copy)]
pub(super) struct EventIds(Uuid);

impl EventIds {
    /// Those of this group: streams and positions are unique within it.
    pub(super) fn new(group: GroupId) -> Self {
        Self(Uuid::new_v5(&EVENT_IDS, &group.0))
    }

    /// The same at every replica and at every try: it comes from nothing that may change later, as
    /// the identity of a cluster does that is replaced, or becomes readable.
    fn id(self, stream: StreamId, position: &Position) -> String {
        let text = format!("{stream}/{position}");
        Uuid::new_v5(&self.0, text.as_bytes()).to_string()
    }
}

impl Frames {
    /// The frame of an output, as of `now`.
    pub(super) fn frame(&self, output: Output, now: UnixMillis) -> (Encoded, CursorStep) {
        let Output { step, body } = output;
        let frame = match body {
            Body::Event(name, published) => {
                return (self.event(&name, &published, &step, now), step);
            }
            Body::Unmatched(name, published) => {
                return (self.unmatched(&name, &published, &step, now), step);
            }
            Body::Synced(name, position) => Frame::Synced(synced(&name, &position)),
            Body::Gap(name, gap) => Frame::Gap(gap_frame(&name, &gap)),
            Body::SnapshotRestarted(name) => Frame::Gap(snapshot_restarted(&name)),
            Body::FilterChanged(name, position) => Frame::Gap(filter_changed(&name, &position)),
            Body::Stream(change) => Frame::StreamChange(stream_change(&change)),
            Body::Progress(progress) => Frame::Progress(progress_frame(&progress, now)),
        };
        let (cursor, cursor_delta) = match &step {
            CursorStep::Whole(cursor) => (self.codec.whole(cursor), String::new()),
            step => (String::new(), self.delta(step)),
        };
        let response = SubscribeResponse {
            cursor,
            cursor_delta,
            frame: Some(frame),
        };
        (Encoded::Other(Box::new(response)), step)
    }

    /// The last frame of a subscription.
    pub(super) fn closing(&self, cursor: &Cursor, closing: v1::Closing) -> Encoded {
        Encoded::Other(Box::new(SubscribeResponse {
            cursor: self.codec.whole(cursor),
            cursor_delta: String::new(),
            frame: Some(Frame::Closing(closing)),
        }))
    }

    fn delta(&self, step: &CursorStep) -> String {
        match step {
            CursorStep::Moved(stream, place) => self.codec.delta([(*stream, place)]),
            CursorStep::AllMoved(entries) => {
                let entries = entries.iter();
                self.codec.delta(entries.map(|(id, place)| (*id, place)))
            }
            CursorStep::None | CursorStep::Whole(_) => String::new(),
        }
    }

    fn event(
        &self,
        name: &StreamName,
        published: &Arc<Published>,
        step: &CursorStep,
        now: UnixMillis,
    ) -> Encoded {
        let (json, content) = project(self.view, &published.event);
        let render = || (self.delta(step), event(self.ids, name, published));
        encoded(published, Object { json, content }, timestamp(now), render)
    }

    fn unmatched(
        &self,
        name: &StreamName,
        published: &Published,
        step: &CursorStep,
        now: UnixMillis,
    ) -> Encoded {
        let event = v1::Event {
            change_type: v1::ChangeType::Unmatched.into(),
            ..event(self.ids, name, published)
        };
        let nothing = Object {
            json: Bytes::new(),
            content: v1::ObjectContent::None,
        };
        encoded_once(nothing, timestamp(now), (self.delta(step), event))
    }
}

fn event(ids: EventIds, name: &StreamName, published: &Published) -> v1::Event {
    let event = &published.event;
    v1::Event {
        id: ids.id(name.id, &published.position),
        stream: stream_id(name.id),
        cluster: name.cluster.clone(),
        resource: name.selector.resource.to_string(),
        change_type: convert::change_type(event.change).into(),
        position: Some(convert::position(&published.position)),
        epoch: published.epoch.0,
        object: Some(v1::ObjectMeta {
            namespace: event.namespace().to_owned(),
            name: event.name().to_owned(),
            uid: event.uid().to_owned(),
            resource_version: event.rv.to_string(),
        }),
        seen_time: Some(timestamp(event.seen)),
        // The object and the time of sending are added when the event is sent.
        ..v1::Event::default()
    }
}

fn stream_id(id: StreamId) -> String {
    id.to_string()
}

fn synced(name: &StreamName, position: &Position) -> v1::Synced {
    v1::Synced {
        stream: stream_id(name.id),
        cluster: name.cluster.clone(),
        resource: name.selector.resource.to_string(),
        position: Some(convert::position(position)),
    }
}

fn gap_frame(name: &StreamName, gap: &Gap) -> v1::Gap {
    let (reason, message) = convert::gap_reason(gap.reason);
    v1::Gap {
        from: gap.from.as_ref().map(convert::position),
        to: gap.position().as_ref().map(convert::position),
        repaired: gap.repaired,
        ..gap_without_ends(name, reason, message)
    }
}

fn snapshot_restarted(name: &StreamName) -> v1::Gap {
    gap_without_ends(
        name,
        v1::GapReason::SnapshotRestarted,
        "the snapshot was interrupted and starts again",
    )
}

fn filter_changed(name: &StreamName, position: &Position) -> v1::Gap {
    v1::Gap {
        from: Some(convert::position(position)),
        ..gap_without_ends(
            name,
            v1::GapReason::FilterChanged,
            "a different filter or view applies: a copy built with the previous one is replaced",
        )
    }
}

fn gap_without_ends(name: &StreamName, reason: v1::GapReason, message: &str) -> v1::Gap {
    v1::Gap {
        stream: stream_id(name.id),
        cluster: name.cluster.clone(),
        resource: name.selector.resource.to_string(),
        reason: reason.into(),
        message: message.to_owned(),
        ..v1::Gap::default()
    }
}

fn stream_change(change: &StreamChange) -> v1::StreamChange {
    let (reason, message) = change_reason(change.reason);
    let frame = v1::StreamChange {
        stream: stream_id(change.stream),
        r#type: change_type(change.kind).into(),
        reason: reason.into(),
        position: change.position.as_ref().map(convert::position),
        snapshot_follows: change.snapshot_follows,
        snapshot_continues: change.snapshot_continues,
        paused: change.paused,
        message: message.to_owned(),
        ..v1::StreamChange::default()
    };
    let Some(name) = &change.name else {
        return frame;
    };
    v1::StreamChange {
        cluster: name.cluster.clone(),
        cluster_uid: name.cluster_uid.clone(),
        resource: name.selector.resource.to_string(),
        namespace: name.selector.namespace.clone(),
        label_selector: name.selector.label_selector.clone(),
        field_selector: name.selector.field_selector.clone(),
        ..frame
    }
}

fn change_type(kind: StreamChangeType) -> v1::StreamChangeType {
    match kind {
        StreamChangeType::Added => v1::StreamChangeType::Added,
        StreamChangeType::Removed => v1::StreamChangeType::Removed,
        StreamChangeType::Paused => v1::StreamChangeType::Paused,
        StreamChangeType::Resumed => v1::StreamChangeType::Resumed,
        StreamChangeType::Changed => v1::StreamChangeType::Changed,
    }
}

fn change_reason(reason: StreamChangeReason) -> (v1::StreamChangeReason, &'static str) {
    use v1::StreamChangeReason as Out;
    match reason {
        StreamChangeReason::Subscribed => (Out::Subscribed, "the subscription begins"),
        StreamChangeReason::Continued => (Out::Continued, "continues at the cursor"),
        StreamChangeReason::Created => (
            Out::Created,
            "the cluster was registered, or the resource added to it",
        ),
        StreamChangeReason::Matched => (Out::Matched, "the filter now matches it"),
        StreamChangeReason::Unmatched => (
            Out::Unmatched,
            "the cluster's labels no longer match the filter",
        ),
        StreamChangeReason::ClusterDeleted => (Out::ClusterDeleted, "the cluster was deleted"),
        StreamChangeReason::ResourceRemoved => (
            Out::ResourceRemoved,
            "the cluster's resources no longer include it",
        ),
        StreamChangeReason::RemovedSinceCursor => (
            Out::RemovedSinceCursor,
            "its cluster was deleted or its resource removed after the cursor was taken",
        ),
        StreamChangeReason::ClusterPaused => {
            (Out::ClusterPaused, "the cluster was paused or resumed")
        }
        StreamChangeReason::FilterChanged => (
            Out::FilterChanged,
            "the cursor was taken under another filter or view",
        ),
        StreamChangeReason::ClusterIdentified => (
            Out::ClusterIdentified,
            "the cluster's identity is known now, or is another one",
        ),
    }
}

fn progress_frame(progress: &Progress, now: UnixMillis) -> v1::Progress {
    let clock = Instant::now();
    let streams = progress.streams.iter();
    v1::Progress {
        time: Some(timestamp(now)),
        streams: streams
            .map(|(id, progress)| stream_progress(*id, progress, now, clock))
            .collect(),
        up_to_date: progress.up_to_date,
    }
}

fn stream_progress(
    id: StreamId,
    progress: &StreamProgress,
    now: UnixMillis,
    clock: Instant,
) -> v1::StreamProgress {
    let ago = |heard: Instant| clock.saturating_duration_since(heard);
    v1::StreamProgress {
        stream: stream_id(id),
        position: progress.position.as_ref().map(convert::position),
        heard_time: progress.heard.map(|heard| before(now, ago(heard))),
        catching_up: progress.catching_up,
    }
}

fn before(now: UnixMillis, ago: Duration) -> Timestamp {
    let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
    timestamp(UnixMillis(now.0.saturating_sub(ago)))
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
