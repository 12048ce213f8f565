//! What a subscription produces for its sender.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use crate::domain::{
    cluster::{Cluster, StreamSelector},
    cursor::Cursor,
    delivery::{
        item::{Gap, Published},
        place::Place,
    },
    id::{ClusterId, StreamId},
    position::Position,
    stream::Stream,
};

/// What people call a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamName {
    /// The stream's identity, also in cursors.
    pub id: StreamId,
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// The cluster's name.
    pub cluster: String,
    /// The identity of the cluster; empty while it is not known.
    pub cluster_uid: String,
    /// What the stream carries.
    pub selector: StreamSelector,
}

impl StreamName {
    /// The name of a stream of a cluster.
    pub fn new(cluster: &Cluster, stream: &Stream) -> Self {
        Self {
            id: stream.id,
            cluster_id: cluster.id,
            cluster: cluster.spec.name.clone(),
            cluster_uid: stream.cluster_uid.clone().unwrap_or_default(),
            selector: stream.selector.clone(),
        }
    }
}

/// One frame for the subscriber.
#[derive(Clone, Debug)]
pub struct Output {
    /// What it changes in the cursor.
    pub step: CursorStep,
    /// The frame.
    pub body: Body,
}

/// What a frame changes in the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorStep {
    /// Nothing.
    None,
    /// One stream moves.
    Moved(StreamId, Place),
    /// Some streams move.
    AllMoved(Vec<(StreamId, Place)>),
    /// This takes its place.
    Whole(Arc<Cursor>),
}

impl CursorStep {
    /// Takes the step.
    pub fn apply(self, cursor: &mut Cursor) {
        let mut moved = |stream, place| {
            cursor.left.remove(&stream);
            cursor.places.insert(stream, place);
        };
        match self {
            Self::None => {}
            Self::Moved(stream, place) => moved(stream, place),
            Self::AllMoved(entries) => {
                for (stream, place) in entries {
                    moved(stream, place);
                }
            }
            Self::Whole(whole) => *cursor = (*whole).clone(),
        }
    }
}

/// The content of a frame.
#[derive(Clone, Debug)]
pub enum Body {
    /// An event.
    Event(Arc<StreamName>, Arc<Published>),
    /// A change by which an object ceases to match the filter, as far as a copy is concerned.
    Unmatched(Arc<StreamName>, Arc<Published>),
    /// A snapshot is complete at a position.
    Synced(Arc<StreamName>, Position),
    /// Something is missing.
    Gap(Arc<StreamName>, Gap),
    /// A snapshot was interrupted and starts again: what was sent of it is void.
    SnapshotRestarted(Arc<StreamName>),
    /// A copy was made with another filter, up to this position: a snapshot replaces it.
    FilterChanged(Arc<StreamName>, Position),
    /// A stream was added, removed or changed.
    Stream(StreamChange),
    /// Where the subscription stands.
    Progress(Progress),
}

/// A stream was added to the subscription, was removed from it, or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamChange {
    /// The stream.
    pub stream: StreamId,
    /// Its name; none where the group no longer knows it.
    pub name: Option<Arc<StreamName>>,
    /// What happened.
    pub kind: StreamChangeType,
    /// The cause of the change.
    pub reason: StreamChangeReason,
    /// Where the subscription stands in it.
    pub position: Option<Position>,
    /// Whether a snapshot follows.
    pub snapshot_follows: bool,
    /// Whether the rest of the snapshot follows that the cursor is inside of.
    pub snapshot_continues: bool,
    /// Whether its cluster is paused.
    pub paused: bool,
}

impl StreamChange {
    /// A change at no position.
    pub fn new(
        stream: StreamId,
        name: Option<Arc<StreamName>>,
        kind: StreamChangeType,
        reason: StreamChangeReason,
    ) -> Self {
        Self {
            stream,
            name,
            kind,
            reason,
            position: None,
            snapshot_follows: false,
            snapshot_continues: false,
            paused: false,
        }
    }
}

/// What happened to a stream, as one subscription sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamChangeType {
    /// It is covered from here on.
    Added,
    /// It is not covered any more.
    Removed,
    /// Nothing is watched for now.
    Paused,
    /// It is watched again.
    Resumed,
    /// Something else about it is new.
    Changed,
}

/// Why a stream was added, removed, or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamChangeReason {
    /// The subscription begins.
    Subscribed,
    /// The cursor knows it.
    Continued,
    /// It is newer than the subscription or the cursor.
    Created,
    /// The filter matches it now.
    Matched,
    /// The filter does not match it any more.
    Unmatched,
    /// Its cluster was deleted.
    ClusterDeleted,
    /// Its cluster does not have it any more.
    ResourceRemoved,
    /// It ended after the cursor was taken.
    RemovedSinceCursor,
    /// Its cluster was paused or resumed.
    ClusterPaused,
    /// The cursor was taken under another filter.
    FilterChanged,
    /// The identity of its cluster is known now, or another one.
    ClusterIdentified,
}

/// Where the subscription stands.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The streams of which anything is new since the last one.
    pub streams: BTreeMap<StreamId, StreamProgress>,
    /// Whether no stream is catching up with the present.
    pub up_to_date: bool,
}

/// Where the subscription stands in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamProgress {
    /// The last position sent or passed; none while nothing was ever watched, and in a snapshot.
    pub position: Option<Position>,
    /// When its API server was heard last.
    pub heard: Option<Instant>,
    /// Whether it is still catching up with the present.
    pub catching_up: bool,
}
