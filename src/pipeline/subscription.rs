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
    time::{Instant, MissedTickBehavior},
};

use super::{
    coverage::{Coverage, Step},
    feed::BATCH_MAX,
    filter::{Filters, Verdict},
    hub::Hub,
    log::Wake,
    output::{Body, CursorStep, Output, Progress, StreamChangeType},
    subscription_stream::{Admitted, CatchUp, FromLog, SubscriptionStream},
};
use crate::domain::{
    cursor::{Cursor, InvalidCursor, Mode},
    delivery::{item::Item, place::Place},
    event::Change,
    id::{Era, Revision, StreamId},
    position::Position,
    state::State,
    stream::Stream,
};

pub use super::coverage::Start;

/// Where the subscription stands is sent at least so often, also without events.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The whole cursor is sent once the deltas since the last one take more than this, or than the
/// whole itself: what a client keeps stays below twice the whole, and sending wholes costs no more
/// than sending the deltas does.
pub const DELTAS_BYTES_MIN: usize = 16 * 1024;

/// What a delta of one stream takes, and what each further stream in it, or in a whole.
const DELTA_BYTES: usize = 26;
const ENTRY_BYTES: usize = 13;

/// Messages of catch-up feeds that may wait for the subscriber, over all its streams.
const CATCH_UP_MESSAGES_MAX: usize = 4;

/// What a subscriber asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which events.
    pub filters: Filters,
    /// The digest of the filters and the view, for the cursor.
    pub digest: u64,
    /// Where to begin.
    pub start: Start,
}

/// One subscriber's merged stream.
pub struct Subscription {
    hub: Hub,
    coverage: Coverage,
    topology: watch::Receiver<Arc<State>>,
    /// The last change of clusters and streams that was processed.
    seen: Revision,
    streams: BTreeMap<StreamId, SubscriptionStream>,
    wake: Arc<Wake>,
    catch_up: mpsc::Receiver<CatchUp>,
    catch_up_sender: mpsc::Sender<CatchUp>,
    /// The output of the start; taken by the first call of `next`.
    first: Vec<Output>,
    progress: tokio::time::Interval,
    /// What the deltas since the last whole cursor take, roughly.
    deltas_bytes: usize,
    /// Streams that moved without a frame for it.
    moved: BTreeSet<StreamId>,
    /// Whether the last progress reported that everything is up to date.
    said_up_to_date: bool,
    /// Whether the logs are read next, and not a catch-up that has more: neither holds up the other.
    logs_first: bool,
}

impl Subscription {
    /// Begins a subscription; refuses a cursor that is ahead of the streams that exist.
    pub fn open(hub: Hub, request: Request) -> Result<Self, InvalidCursor> {
        let mut topology = hub.watch_topology();
        topology.mark_unchanged();
        let current = hub.state();
        if let Start::Cursor(cursor) = &request.start {
            refuse_ahead(cursor, &current)?;
        }
        let (catch_up_sender, catch_up) = mpsc::channel(CATCH_UP_MESSAGES_MAX);
        let mut progress =
            tokio::time::interval_at(Instant::now() + PROGRESS_EVERY, PROGRESS_EVERY);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now_of = |stream: &Stream| newest_of(&hub, stream);
        let Request {
            filters,
            digest,
            start,
        } = request;
        let (coverage, steps) = Coverage::begin(&start, filters, digest, &current, &now_of);
        let mut subscription = Self {
            hub,
            coverage,
            topology,
            seen: current.topology,
            streams: BTreeMap::new(),
            wake: Arc::default(),
            catch_up,
            catch_up_sender,
            first: Vec::new(),
            progress,
            deltas_bytes: 0,
            moved: BTreeSet::new(),
            said_up_to_date: false,
            logs_first: false,
        };
        let mut outputs = Vec::new();
        subscription.take_steps(steps, &current, &mut outputs);
        if outputs.is_empty() {
            outputs.push(subscription.whole_progress());
        }
        for output in &mut outputs {
            // The whole cursor follows them. Until it has, a copy has dropped what was removed.
            if !matches!(&output.body, Body::Progress(_)) && !is_removal(&output.body) {
                output.step = CursorStep::None;
            }
        }
        subscription.first = outputs;
        Ok(subscription)
    }

    /// The next frames, at least one. The first ones name the streams; then comes `Progress`, with
    /// the cursor that the subscription begins at.
    pub async fn next(&mut self) -> Vec<Output> {
        let mut outputs = std::mem::take(&mut self.first);
        while outputs.is_empty() {
            tokio::select! {
                biased;
                _ = self.progress.tick() => outputs.push(self.progress_output()),
                changed = self.topology.changed() => {
                    if changed.is_err() {
                        // The replica is shutting down; the server ends this task.
                        std::future::pending::<()>().await;
                    }
                    self.fit_streams(&mut outputs);
                }
                () = self.wake.wait(), if self.logs_first => {
                    self.logs_first = false;
                    self.read_logs(&mut outputs);
                }
                Some(catch_up) = self.catch_up.recv() => {
                    self.logs_first = true;
                    self.take_catch_up(catch_up, &mut outputs);
                    self.say_up_to_date(&mut outputs);
                }
                () = self.wake.wait() => {
                    // Whatever is ready runs first: what several streams have at the same moment is
                    // read in one go, without a timer that holds it back.
                    tokio::task::yield_now().await;
                    self.read_logs(&mut outputs);
                }
            }
            if self.whole_is_due() {
                self.progress.reset();
                outputs.push(self.whole_progress());
            }
        }
        outputs
    }

    /// The whole cursor: after the last frame given.
    pub fn cursor(&self) -> Cursor {
        let places = self.streams.iter();
        let places = places.map(|(id, stream)| (*id, stream.place().clone()));
        self.coverage.cursor(places.collect())
    }

    /// Makes the streams followed those that exist and are wanted.
    fn fit_streams(&mut self, outputs: &mut Vec<Output>) {
        let state = self.topology.borrow_and_update().clone();
        if state.topology <= self.seen {
            // Only owners changed, or it was processed already.
            return;
        }
        self.seen = state.topology;
        let (hub, streams) = (&self.hub, &self.streams);
        let now_of = |stream: &Stream| newest_of(hub, stream);
        let place_of = |id| Some(streams.get(&id)?.place().clone());
        let steps = self.coverage.fit(&state, &now_of, &place_of);
        self.take_steps(steps, &state, outputs);
        self.say_up_to_date(outputs);
    }

    fn take_steps(&mut self, steps: Vec<Step>, state: &State, outputs: &mut Vec<Output>) {
        let mut whole = false;
        for step in steps {
            // A delta can encode neither that a stream is no longer in the cursor, nor which
            // filters apply to it.
            whole |= !matches!(step, Step::Change(_));
            match step {
                Step::Add(added) => {
                    let (id, change) = (added.name.id, added.change.clone());
                    let place = added.from.clone();
                    self.streams.insert(id, SubscriptionStream::new(added));
                    let step = CursorStep::Moved(id, place);
                    self.push(step, Body::Stream(change), outputs);
                }
                Step::Remove(change) => {
                    self.streams.remove(&change.stream);
                    self.moved.remove(&change.stream);
                    // Should the whole cursor not arrive, and the stream be covered again: a copy
                    // has dropped its objects.
                    let step = match self.coverage.mode() {
                        Mode::Copy => CursorStep::Moved(change.stream, Place::SnapshotDue),
                        Mode::Changes => CursorStep::None,
                    };
                    self.push(step, Body::Stream(change), outputs);
                }
                Step::Change(change) => {
                    if let (Some(stream), Some(name)) =
                        (self.streams.get_mut(&change.stream), &change.name)
                    {
                        stream.rename(name.clone());
                    }
                    self.push(CursorStep::None, Body::Stream(change), outputs);
                }
                Step::Refilter(id, filter) => {
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.refilter(filter);
                    }
                }
                Step::Void(id, position) => self.void(id, position, outputs),
            }
        }
        self.begin_streams(state);
        if whole {
            outputs.push(self.whole_progress());
        }
    }

    /// Begins the streams that could not begin yet: those that nobody had ever watched.
    fn begin_streams(&mut self, state: &State) {
        for (id, stream) in &mut self.streams {
            if let Some(agreed) = state.streams.get(id)
                && stream.begin(agreed, &self.hub)
            {
                self.moved.insert(*id);
                self.wake.mark(*id);
            }
        }
    }

    fn void(&mut self, id: StreamId, position: Option<Position>, outputs: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.require_snapshot();
        let name = stream.name().clone();
        let body = match position {
            Some(position) => Body::FilterChanged(name, position),
            None => Body::SnapshotRestarted(name),
        };
        let step = CursorStep::Moved(id, Place::SnapshotDue);
        self.push(step, body, outputs);
        if self
            .streams
            .get(&id)
            .is_some_and(SubscriptionStream::needs_snapshot)
        {
            self.start_catch_up(id);
        }
    }

    /// Reads the streams that have something new, one after the other, until there is a batch: what
    /// one call gives is less than two. Each has its turn before one that had much has another.
    fn read_logs(&mut self, outputs: &mut Vec<Output>) {
        let mut came_up = false;
        let mut taken = 0;
        while taken < BATCH_MAX.bytes
            && let Some(id) = self.wake.next()
        {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let was_current = stream.is_current();
            match stream.read(BATCH_MAX, &self.wake) {
                FromLog::Items { items, bytes, more } => {
                    came_up |= !was_current && stream.is_current();
                    if more {
                        self.wake.mark(id);
                    }
                    taken += bytes;
                    self.give(id, items, outputs);
                }
                FromLog::Nothing => {}
                FromLog::MustCatchUp => self.start_catch_up(id),
            }
        }
        if came_up {
            self.say_up_to_date(outputs);
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
                // Where the feed led elsewhere, another one has been opened.
                if let Some(stream) = self.streams.get_mut(&catch_up.stream)
                    && stream.is_attempt(catch_up.attempt)
                    && stream.join_log()
                {
                    self.wake.mark(catch_up.stream);
                }
            }
            Err(error) => {
                let name = stream.name();
                tracing::debug!(cluster = %name.cluster, stream = %name.id, %error, "catch-up failed, retrying");
                self.start_catch_up(catch_up.stream);
            }
        }
    }

    fn start_catch_up(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        // A progress may now report that this stream is catching up: the next that reports it is
        // not must not wait.
        self.said_up_to_date = false;
        stream.start_catch_up(&self.hub, &self.catch_up_sender);
    }

    /// Turns items into frames for the subscriber; what it has seen, or does not want, only moves
    /// the cursor.
    fn give(&mut self, id: StreamId, items: Vec<Item>, outputs: &mut Vec<Output>) {
        let mode = self.coverage.mode();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let before = stream.place().clone();
        let mut stop = false;
        let mut given = 0;
        let mut moved = false;
        outputs.reserve(items.len());
        for item in items {
            let admitted = stream.admit(item);
            stop = matches!(admitted, Admitted::Missing);
            moved |= !stop;
            if let Some(body) = body(mode, stream, admitted) {
                let step = CursorStep::Moved(id, stream.place().clone());
                outputs.push(Output { step, body });
                (given, moved) = (given + 1, false);
            }
            stop |= stream.needs_snapshot();
            if stop {
                break;
            }
        }
        let moved = moved && *stream.place() != before;
        self.deltas_bytes += given * DELTA_BYTES;
        if moved {
            self.moved.insert(id);
        } else if given > 0 {
            self.moved.remove(&id);
        }
        if stop {
            self.start_catch_up(id);
        }
    }

    fn push(&mut self, step: CursorStep, body: Body, outputs: &mut Vec<Output>) {
        if let CursorStep::Moved(id, _) = &step {
            self.moved.remove(id);
            self.deltas_bytes += DELTA_BYTES;
        }
        outputs.push(Output { step, body });
    }

    fn whole_is_due(&self) -> bool {
        self.deltas_bytes > DELTAS_BYTES_MIN.max(self.streams.len() * ENTRY_BYTES)
    }

    /// Reports when everything has become up to date: a subscriber that waits for that need not
    /// wait for the next progress. It checks every stream, so it is called only after one was
    /// added, caught up or was removed, and not for every event.
    fn say_up_to_date(&mut self, outputs: &mut Vec<Output>) {
        let up_to_date = self.is_up_to_date();
        if up_to_date && !self.said_up_to_date {
            self.progress.reset();
            outputs.push(self.progress_output());
        }
        self.said_up_to_date = up_to_date;
    }

    fn is_up_to_date(&self) -> bool {
        self.streams.values().all(SubscriptionStream::is_current)
    }

    fn whole_progress(&mut self) -> Output {
        self.deltas_bytes = 0;
        self.moved.clear();
        let step = CursorStep::Whole(Arc::new(self.cursor()));
        let body = Body::Progress(self.progress());
        Output { step, body }
    }

    fn progress_output(&mut self) -> Output {
        if self.whole_is_due() {
            return self.whole_progress();
        }
        let streams = &self.streams;
        let moved = std::mem::take(&mut self.moved).into_iter();
        let moved: Vec<_> = moved
            .filter_map(|id| Some((id, streams.get(&id)?.place().clone())))
            .collect();
        let step = if moved.is_empty() {
            CursorStep::None
        } else {
            self.deltas_bytes += DELTA_BYTES + moved.len() * ENTRY_BYTES;
            CursorStep::AllMoved(moved)
        };
        let body = Body::Progress(self.progress());
        Output { step, body }
    }

    /// Whether everything up to now has been given, as far as this replica knows.
    pub fn is_exhausted(&self) -> bool {
        self.streams.values().all(SubscriptionStream::is_exhausted)
    }

    fn progress(&mut self) -> Progress {
        let streams = self.streams.iter_mut();
        let streams = streams.filter_map(|(id, stream)| Some((*id, stream.news()?)));
        let streams = streams.collect();
        let up_to_date = self.is_up_to_date();
        self.said_up_to_date = up_to_date;
        Progress {
            streams,
            up_to_date,
        }
    }
}

fn is_removal(body: &Body) -> bool {
    matches!(body, Body::Stream(change) if change.kind == StreamChangeType::Removed)
}

/// The newest position of a stream that is known here; none where nobody has ever watched it.
fn newest_of(hub: &Hub, stream: &Stream) -> Option<Position> {
    let checkpoint = stream.checkpoint.clone()?;
    Some(match hub.head(stream.id) {
        Some(head) => head.max(checkpoint),
        None => checkpoint,
    })
}

/// The frame that an admitted item becomes; none where the subscriber does not want it.
fn body(mode: Mode, stream: &SubscriptionStream, admitted: Admitted) -> Option<Body> {
    let name = stream.name().clone();
    match admitted {
        Admitted::Event(published) => match stream.judge(&published.event) {
            Verdict::Wanted => Some(Body::Event(name, published)),
            Verdict::Unmatched if mode == Mode::Copy => match published.event.change {
                // The copy may have it from before it ceased to match.
                Change::Deleted => Some(Body::Event(name, published)),
                Change::Added | Change::Modified => Some(Body::Unmatched(name, published)),
                Change::Snapshot => None,
            },
            Verdict::Unmatched | Verdict::Unwanted => None,
        },
        Admitted::Synced(position) => Some(Body::Synced(name, position)),
        Admitted::Gap(gap) => Some(Body::Gap(name, gap)),
        Admitted::SnapshotRestarted => Some(Body::SnapshotRestarted(name)),
        Admitted::Missing | Admitted::Nothing => None,
    }
}

/// A cursor may be behind a stream's era, never ahead of it.
pub fn refuse_ahead(cursor: &Cursor, state: &State) -> Result<(), InvalidCursor> {
    for (id, place) in cursor.places.iter().chain(&cursor.left) {
        let era = place.era().unwrap_or(Era(0));
        let unminted = id.0 > state.last_id || era.0 > state.last_id;
        let current = state.streams.get(id).and_then(|stream| stream.era.as_ref());
        if unminted || current.is_some_and(|start| era > start.era) {
            return Err(InvalidCursor::Ahead(*id));
        }
    }
    if cursor.newest > state.last_id {
        return Err(InvalidCursor::Ahead(StreamId(cursor.newest)));
    }
    Ok(())
}
