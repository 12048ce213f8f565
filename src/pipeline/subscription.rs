//! One subscriber's merged stream.
//!
//! Pulled by its reader: what is not pulled waits in the hub's rings, and a reader that falls off
//! a ring catches up from the owner or from the API server. It is never skipped in silence.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use super::{
    feed::{BATCH_ITEMS_MAX, FeedError},
    filter::Filter,
    hub::{Hub, Wake},
    item::{Gap, Item, Published},
    subscription_stream::{Admitted, SubscriptionStream},
};
use crate::domain::{
    cluster::Resource,
    cursor::{Cursor, InvalidCursor},
    id::StreamId,
    position::Position,
    state::State,
    stream::EraStart,
};

/// The cursor moves at least so often, also without events.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// And at least every so many frames, so that what a client keeps (the last whole cursor and a delta
/// of some 24 bytes for each frame after it) stays below 100 KB.
pub const PROGRESS_EVERY_FRAMES: usize = 4_096;

/// Messages of catch-up feeds that may wait for the subscriber, over all its streams.
const CATCH_UP_MESSAGES_MAX: usize = 4;

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what happens from now on.
    Now,
    /// With what exists.
    Snapshot,
    /// Where an earlier subscription stopped.
    Cursor(Cursor),
}

/// What people call a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct StreamName {
    /// Its id.
    pub id: StreamId,
    /// The cluster's name.
    pub cluster: String,
    /// The identity of the cluster.
    pub cluster_uid: String,
    /// The resource.
    pub resource: Resource,
}

/// One frame for the subscriber.
#[derive(Clone, Debug)]
pub struct Output {
    /// The stream's resume position after this frame; none for `Progress`.
    pub resume: Option<(StreamId, Position)>,
    /// The frame.
    pub body: Body,
}

/// What a frame says.
#[derive(Clone, Debug)]
pub enum Body {
    /// An event.
    Event(Arc<StreamName>, Arc<Published>),
    /// A snapshot is complete at a position.
    Synced(Arc<StreamName>, Position),
    /// Something is missing.
    Gap(Arc<StreamName>, Gap),
    /// A snapshot was interrupted and begins again: what it told so far is void.
    SnapshotRestarted(Arc<StreamName>),
    /// Where the subscription stands.
    Progress {
        /// The whole cursor.
        cursor: Cursor,
        /// One for each stream.
        streams: Vec<StreamProgress>,
    },
}

/// Where the subscription stands in one stream.
#[derive(Clone, Debug)]
pub struct StreamProgress {
    /// The stream.
    pub name: Arc<StreamName>,
    /// The last position given; none while the stream was never watched by anybody.
    pub position: Option<Position>,
    /// For how long the API server has not been heard.
    pub lag: Duration,
    /// Whether the stream is still catching up with the present.
    pub catching_up: bool,
}

/// What a catch-up feed of one stream gave.
pub(super) struct CatchUp {
    pub(super) stream: StreamId,
    /// Which feed of the stream; what an abandoned one still had to say is dropped.
    pub(super) attempt: u64,
    pub(super) message: Result<Vec<Item>, FeedError>,
}

/// One subscriber's merged stream.
pub struct Subscription {
    hub: Hub,
    filter: Filter,
    start: Start,
    state: watch::Receiver<Arc<State>>,
    /// Ids minted later belong to streams that are newer than the subscription.
    newest_at_start: u64,
    streams: BTreeMap<StreamId, SubscriptionStream>,
    wake: Arc<Wake>,
    catch_up: mpsc::Receiver<CatchUp>,
    catch_up_sender: mpsc::Sender<CatchUp>,
    progress: tokio::time::Interval,
    frames_since_progress: usize,
    /// How many streams the last progress named, all of them up to date; none where one was not.
    told_current: Option<usize>,
}

impl Subscription {
    /// Begins a subscription; refuses a cursor that is ahead of the streams that exist.
    pub fn open(hub: Hub, filter: Filter, start: Start) -> Result<Self, InvalidCursor> {
        let mut state = hub.state();
        let current = state.borrow_and_update().clone();
        if let Start::Cursor(cursor) = &start {
            refuse_ahead(cursor, &current)?;
        }
        let (catch_up_sender, catch_up) = mpsc::channel(CATCH_UP_MESSAGES_MAX);
        let mut progress = tokio::time::interval(PROGRESS_EVERY);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut subscription = Self {
            hub,
            filter,
            start,
            state,
            newest_at_start: current.last_id,
            streams: BTreeMap::new(),
            wake: Arc::default(),
            catch_up,
            catch_up_sender,
            progress,
            frames_since_progress: 0,
            told_current: Some(0),
        };
        subscription.fit_streams(&current);
        Ok(subscription)
    }

    /// The next frames, at least one. The first is `Progress`, with the cursor that the
    /// subscription begins at.
    pub async fn next(&mut self) -> Vec<Output> {
        loop {
            let mut outputs = Vec::new();
            tokio::select! {
                biased;
                _ = self.progress.tick() => outputs.push(self.progress_output()),
                changed = self.state.changed() => {
                    if changed.is_err() {
                        // The replica is shutting down; the server ends this task.
                        std::future::pending::<()>().await;
                    }
                    let state = self.state.borrow_and_update().clone();
                    self.fit_streams(&state);
                    self.tell_news(&mut outputs);
                }
                Some(catch_up) = self.catch_up.recv() => {
                    self.take_catch_up(catch_up, &mut outputs);
                    self.tell_news(&mut outputs);
                }
                () = self.wake.wait() => self.read_rings(&mut outputs),
            }
            if !outputs.is_empty() {
                self.frames_since_progress += outputs.len();
                if self.frames_since_progress > PROGRESS_EVERY_FRAMES {
                    self.progress.reset();
                    outputs.push(self.progress_output());
                }
                return outputs;
            }
        }
    }

    /// The whole cursor: after the last frame given.
    pub fn cursor(&self) -> Cursor {
        let positions = self.streams.iter();
        let positions = positions.filter_map(|(id, stream)| Some((*id, stream.resume()?)));
        Cursor {
            positions: positions.collect(),
        }
    }

    /// Makes the streams followed those that exist and are wanted.
    fn fit_streams(&mut self, state: &State) {
        let wanted: BTreeSet<StreamId> = state
            .streams
            .values()
            .filter(|stream| {
                state
                    .clusters
                    .get(&stream.shard.cluster)
                    .is_some_and(|cluster| {
                        self.filter.wants_stream(cluster, &stream.selector.resource)
                    })
            })
            .map(|stream| stream.id)
            .collect();
        self.streams.retain(|id, _| wanted.contains(id));
        for id in wanted {
            let uid = state
                .streams
                .get(&id)
                .and_then(|stream| stream.cluster_uid.as_ref());
            let settled = self
                .streams
                .get(&id)
                .is_some_and(|known| known.is_begun() && Some(&known.name().cluster_uid) == uid);
            if !settled {
                self.begin_stream(id, state);
            }
        }
    }

    /// Begins a stream, if it has ever been watched; it is tried again at each change of state.
    fn begin_stream(&mut self, id: StreamId, state: &State) {
        let Some(stream) = state.streams.get(&id) else {
            return;
        };
        let Some(cluster) = state.clusters.get(&stream.shard.cluster) else {
            return;
        };
        let name = Arc::new(StreamName {
            id,
            cluster: cluster.spec.name.clone(),
            cluster_uid: stream.cluster_uid.clone().unwrap_or_default(),
            resource: stream.selector.resource.clone(),
        });
        let entry = self
            .streams
            .entry(id)
            .or_insert_with(|| SubscriptionStream::new(name.clone()));
        entry.rename(name);
        if entry.is_begun() {
            return;
        }
        let Some(hub_stream) = self.hub.stream(id) else {
            return;
        };
        let first = stream.era.as_ref().map(EraStart::start);
        let newer = id.0 > self.newest_at_start;
        let from = match &self.start {
            _ if newer => first,
            Start::Now => stream
                .checkpoint
                .clone()
                .map(|position| position.max(hub_stream.head())),
            Start::Snapshot => Some(Position::NEEDS_SNAPSHOT),
            Start::Cursor(cursor) => cursor.positions.get(&id).cloned().or(first),
        };
        if let Some(from) = from {
            hub_stream.subscribe(&self.wake);
            let resumed = matches!(self.start, Start::Cursor(_));
            entry.begin(hub_stream, from, resumed);
            self.wake.mark(id);
        }
    }

    fn read_rings(&mut self, outputs: &mut Vec<Output>) {
        let mut came_up = false;
        for id in self.wake.take() {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let was_current = stream.is_current();
            let Some(items) = stream.read(BATCH_ITEMS_MAX) else {
                self.start_catch_up(id, outputs);
                continue;
            };
            came_up |= !was_current && stream.is_current();
            if items.len() == BATCH_ITEMS_MAX {
                self.wake.mark(id);
            }
            self.give(id, items, outputs);
        }
        if came_up {
            self.tell_news(outputs);
        }
    }

    fn take_catch_up(&mut self, catch_up: CatchUp, outputs: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&catch_up.stream) else {
            return;
        };
        if !stream.is_attempt(catch_up.attempt) {
            return;
        }
        match catch_up.message {
            Ok(items) => {
                self.give(catch_up.stream, items, outputs);
                if let Some(stream) = self.streams.get_mut(&catch_up.stream)
                    && stream.join_ring()
                {
                    self.wake.mark(catch_up.stream);
                }
            }
            Err(error) => {
                let name = stream.name();
                tracing::debug!(cluster = %name.cluster, resource = %name.resource, %error, "catch-up failed, trying again");
                self.start_catch_up(catch_up.stream, outputs);
            }
        }
    }

    fn start_catch_up(&mut self, id: StreamId, outputs: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.start_catch_up(&self.hub, &self.catch_up_sender) {
            let body = Body::SnapshotRestarted(stream.name().clone());
            let resume = Some((id, Position::NEEDS_SNAPSHOT));
            outputs.push(Output { resume, body });
        }
    }

    /// Turns items into frames for the subscriber; what it has seen, or does not want, only moves
    /// the cursor.
    fn give(&mut self, id: StreamId, items: Vec<Item>, outputs: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        for item in items {
            let body = match stream.admit(item) {
                Admitted::Event(published) if self.filter.wants_frame(&published.frame) => {
                    Body::Event(stream.name().clone(), published)
                }
                Admitted::Event(_) | Admitted::Nothing => continue,
                Admitted::Synced(position) => Body::Synced(stream.name().clone(), position),
                Admitted::Gap(gap) => Body::Gap(stream.name().clone(), gap),
                Admitted::Elsewhere => return self.start_catch_up(id, outputs),
            };
            let resume = stream.resume().map(|position| (id, position));
            outputs.push(Output { resume, body });
            if stream.needs_snapshot() {
                self.start_catch_up(id, outputs);
                return;
            }
        }
    }

    /// Tells it where everything is up to date, and the last progress said less: whoever waits for
    /// that need not wait for the next one. It looks at every stream, so it is asked only after one
    /// has begun, caught up or gone, and not for every event.
    fn tell_news(&mut self, outputs: &mut Vec<Output>) {
        if self.told_current != Some(self.streams.len())
            && self.streams.values().all(SubscriptionStream::is_current)
        {
            self.progress.reset();
            outputs.push(self.progress_output());
        }
    }

    fn progress_output(&mut self) -> Output {
        self.frames_since_progress = 0;
        let streams = self.streams.values().map(SubscriptionStream::progress);
        let streams: Vec<_> = streams.collect();
        let current = !streams.iter().any(|stream| stream.catching_up);
        self.told_current = current.then_some(streams.len());
        Output {
            resume: None,
            body: Body::Progress {
                cursor: self.cursor(),
                streams,
            },
        }
    }
}

/// A cursor may be behind a stream's era, never ahead of it.
fn refuse_ahead(cursor: &Cursor, state: &State) -> Result<(), InvalidCursor> {
    for (id, position) in &cursor.positions {
        let unminted = id.0 > state.last_id || position.era.0 > state.last_id;
        let era = state.streams.get(id).and_then(|stream| stream.era.as_ref());
        if unminted || era.is_some_and(|start| position.era > start.era) {
            return Err(InvalidCursor::Ahead(*id));
        }
    }
    Ok(())
}
