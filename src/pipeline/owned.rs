//! The owner's side: streams that this replica publishes.
//!
//! Written by the agent, which drives the watcher and holds the lease; read by feeds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    item::{Gap, Item, Published},
    lock::lock,
    ring::{Read, Ring},
    sequencer::Sequencer,
    shared::SharedHistory,
};
use crate::domain::{
    frame::Frame,
    history::HistoryItem,
    id::{Epoch, StreamId},
    position::{Ordinal, Position, ResourceVersion},
    stream::{EraStart, ResumePoint},
};

/// A look into a stream's past, at its API server. Work ends when the receiver is dropped.
pub trait History: Send + Sync {
    /// Everything after `from`, as a watch.
    fn catch_up(&self, from: ResourceVersion) -> mpsc::Receiver<HistoryItem>;
    /// A consistent list.
    fn snapshot(&self) -> mpsc::Receiver<HistoryItem>;
    /// The net changes between two lists.
    fn repair(&self, from: ResourceVersion, to: ResourceVersion) -> mpsc::Receiver<HistoryItem>;
}

/// The streams that this replica publishes. A cheap clone.
#[derive(Clone, Default)]
pub struct Owned {
    streams: Arc<Mutex<BTreeMap<StreamId, Arc<OwnedStream>>>>,
    changed: Arc<watch::Sender<()>>,
}

impl Owned {
    /// Begins to publish a stream; what was published under an earlier epoch ends.
    pub fn insert(&self, stream: Arc<OwnedStream>) {
        let old = lock(&self.streams).insert(stream.id, stream);
        if let Some(old) = old {
            old.end();
        }
        self.changed.send_replace(());
    }

    /// Ends a stream, if it is still the one that was inserted.
    pub fn remove(&self, stream: &Arc<OwnedStream>) {
        let mut streams = lock(&self.streams);
        if streams
            .get(&stream.id)
            .is_some_and(|current| Arc::ptr_eq(current, stream))
        {
            streams.remove(&stream.id);
        }
        drop(streams);
        stream.end();
        self.changed.send_replace(());
    }

    /// The stream, once it is published here under `epoch` or a newer one.
    pub async fn wait_for(&self, stream: StreamId, epoch: Epoch) -> Arc<OwnedStream> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let found = lock(&self.streams).get(&stream).cloned();
            if let Some(found) = found.filter(|found| found.epoch >= epoch) {
                return found;
            }
            if changed.changed().await.is_err() {
                // `self` holds the sender, so this cannot happen while we are called.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Every stream that is published here.
    pub fn all(&self) -> Vec<Arc<OwnedStream>> {
        lock(&self.streams).values().cloned().collect()
    }
}

/// One stream that this replica publishes under one epoch.
pub struct OwnedStream {
    /// The stream.
    pub id: StreamId,
    /// The fencing token under which it is published.
    pub epoch: Epoch,
    history: SharedHistory,
    ring_bytes: usize,
    inner: Mutex<Inner>,
    /// Grows with every change; `u64::MAX` once the stream has ended.
    version: watch::Sender<u64>,
}

struct Inner {
    /// `None` until the stream has an era.
    live: Option<Live>,
    heard: Instant,
}

struct Live {
    start: EraStart,
    sequencer: Sequencer,
    ring: Ring,
    /// Up to where everything is published, closed; what may be checkpointed.
    closed: Position,
    /// While the net changes of a repair are being published: the next ordinal.
    repairing: Option<Ordinal>,
}

const ENDED: u64 = u64::MAX;

impl OwnedStream {
    /// A stream whose watch has not begun.
    pub fn new(
        id: StreamId,
        epoch: Epoch,
        history: Arc<dyn History>,
        ring_bytes: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            epoch,
            history: SharedHistory::new(history),
            ring_bytes,
            inner: Mutex::new(Inner {
                live: None,
                heard: Instant::now(),
            }),
            version: watch::Sender::new(0),
        })
    }

    /// Goes on where an earlier owner stopped.
    pub fn resume(&self, start: EraStart, point: &ResumePoint) {
        let live = match point {
            ResumePoint::Fresh => return,
            ResumePoint::At(position) => Live::at(start, position.clone(), self.ring_bytes),
            ResumePoint::Repair { .. } => {
                let Some(from) = start.from.clone() else {
                    return;
                };
                let mut live = Live::at(start, from, self.ring_bytes);
                live.enter_era();
                live
            }
        };
        lock(&self.inner).live = Some(live);
        self.bump();
    }

    /// A new era has been committed.
    pub fn begin_era(&self, start: EraStart) {
        let mut inner = lock(&self.inner);
        match &mut inner.live {
            Some(live) => {
                live.start = start;
                live.enter_era();
            }
            live @ None => {
                let position = start.start();
                *live = Some(Live::at(start, position, self.ring_bytes));
            }
        }
        drop(inner);
        self.bump();
    }

    /// Publishes frames of the watch, in order. Gives how many came too late to be published: the
    /// watch session lets none through.
    pub fn publish(&self, frames: Vec<Frame>) -> usize {
        let mut inner = lock(&self.inner);
        inner.heard = Instant::now();
        let Some(live) = &mut inner.live else {
            return frames.len();
        };
        let mut late = 0;
        for frame in frames {
            match live.sequencer.next(&frame.rv) {
                Some(position) => live.push_frame(position, self.epoch, frame),
                None => late += 1,
            }
        }
        let open = live.sequencer.last().to_closed();
        live.closed = live.closed.clone().max(open);
        drop(inner);
        self.bump();
        late
    }

    /// Publishes net changes of the repair with which the current era began, in key order.
    pub fn publish_repair(&self, frames: Vec<Frame>) {
        let mut inner = lock(&self.inner);
        inner.heard = Instant::now();
        if let Some(live) = &mut inner.live
            && let Some(mut ordinal) = live.repairing
        {
            for frame in frames {
                let position = Position::at(live.start.era, live.start.to.clone(), ordinal);
                live.push_frame(position, self.epoch, frame);
                ordinal = ordinal.next();
            }
            live.repairing = Some(ordinal);
        }
        drop(inner);
        self.bump();
    }

    /// Everything up to `rv` has been published.
    pub fn close(&self, rv: &ResourceVersion) {
        let mut inner = lock(&self.inner);
        inner.heard = Instant::now();
        if let Some(live) = &mut inner.live {
            if live.repairing.is_some() && *rv >= live.start.to {
                live.repairing = None;
                live.sequencer = Sequencer::after(live.start.start());
                live.closed = live.start.start();
                live.ring.push(Item::At(live.closed.clone()));
            }
            if let Some(position) = live.sequencer.close(rv) {
                live.closed = position.clone();
                live.ring.push(Item::At(position));
            }
        }
        drop(inner);
        self.bump();
    }

    /// The API server was heard.
    pub fn heard(&self) {
        lock(&self.inner).heard = Instant::now();
    }

    /// How long ago the API server was heard.
    pub fn silent(&self) -> Duration {
        lock(&self.inner).heard.elapsed()
    }

    /// The closed position up to which everything is published; `None` before the first era and
    /// while a repair is being published.
    pub fn checkpoint(&self) -> Option<Position> {
        let inner = lock(&self.inner);
        let live = inner.live.as_ref()?;
        live.repairing.is_none().then(|| live.closed.clone())
    }

    /// Ends every feed of this stream.
    fn end(&self) {
        self.version.send_replace(ENDED);
    }

    fn bump(&self) {
        self.version.send_modify(|version| {
            if *version != ENDED {
                *version += 1;
            }
        });
    }

    pub(super) fn history(&self) -> &dyn History {
        &self.history
    }

    /// Told of every change of the stream.
    pub(super) fn changes(&self) -> Changes {
        Changes(self.version.subscribe())
    }

    /// How the current era began.
    pub(super) fn era(&self) -> Option<EraStart> {
        lock(&self.inner)
            .live
            .as_ref()
            .map(|live| live.start.clone())
    }

    /// Where the ring stands towards `position`.
    pub(super) fn locate(&self, position: &Position) -> Option<Place> {
        let inner = lock(&self.inner);
        let live = inner.live.as_ref()?;
        Some(match live.ring.seek(position) {
            _ if position.era > live.start.era => Place::Ahead,
            Some(next) => Place::Ring(next),
            None => Place::Behind(Box::new(live.start.clone())),
        })
    }

    pub(super) fn read(&self, next: u64, items_max: usize) -> Read {
        let inner = lock(&self.inner);
        inner
            .live
            .as_ref()
            .map_or(Read::Lagged, |live| live.ring.read(next, items_max))
    }

    /// The oldest position that the ring still serves.
    pub(super) fn ring_floor(&self) -> Option<Position> {
        lock(&self.inner)
            .live
            .as_ref()
            .map(|live| live.ring.floor().clone())
    }
}

/// Where a position stands towards a ring.
pub(super) enum Place {
    /// What follows can be read at this number.
    Ring(u64),
    /// What follows has left the ring; this is the current era.
    Behind(Box<EraStart>),
    /// The position is of an era that this owner does not know.
    Ahead,
}

/// Told of every change of a stream.
pub(super) struct Changes(watch::Receiver<u64>);

impl Changes {
    /// Marks what has happened so far as seen; false once the stream has ended.
    pub(super) fn see(&mut self) -> bool {
        *self.0.borrow_and_update() != ENDED
    }

    /// Waits for the next change.
    pub(super) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The stream itself is gone: the next `see` would say so, were there anybody to ask.
            std::future::pending::<()>().await;
        }
    }
}

impl Live {
    fn at(start: EraStart, position: Position, ring_bytes: usize) -> Self {
        Self {
            start,
            sequencer: Sequencer::after(position.clone()),
            ring: Ring::new(position.clone(), ring_bytes),
            closed: position,
            repairing: None,
        }
    }

    /// Puts the gap into the ring that every reader passes on its way into the current era.
    fn enter_era(&mut self) {
        let gap = Gap {
            from: self.start.from.clone(),
            to: gap_end(&self.start),
            reason: self.start.reason,
            repaired: self.start.repaired,
            replay: false,
        };
        self.ring.push(Item::Gap(gap));
        if self.start.repaired {
            self.repairing = Some(Ordinal::FIRST);
        } else {
            self.repairing = None;
            self.closed = self.start.start();
            self.sequencer = Sequencer::after(self.start.start());
        }
    }

    fn push_frame(&mut self, position: Position, epoch: Epoch, frame: Frame) {
        let published = Published::new(position, epoch, false, frame);
        self.ring.push(Item::Frame(Arc::new(published)));
    }
}

/// Where a stream goes on after the gap that begins an era: before the net changes of a repair,
/// which all stand at `to`, else at `to` itself.
pub(super) fn gap_end(start: &EraStart) -> Position {
    if start.repaired {
        Position::closed(start.era, start.to.previous())
    } else {
        start.start()
    }
}
