//! The owner's side: streams that this replica publishes.
//!
//! Written by the agent, which drives the watcher and holds the lease; read by feeds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    lock::lock,
    log::{Appended, Logs, StreamLog},
    replays::Replays,
    shared::SharedHistory,
};
use crate::domain::{
    delivery::{
        item::Item,
        place::{Place, Reader},
        publication::{Numbered, Publication},
        way::Located,
    },
    event::Event,
    id::{Epoch, Era, StreamId},
    position::{Position, ResourceVersion},
    stream::{EraStart, ResumePoint},
};

pub use super::history::History;

/// The streams that this replica publishes. A cheap clone.
#[derive(Clone)]
pub struct Owned {
    logs: Logs,
    streams: Arc<Mutex<BTreeMap<StreamId, Arc<OwnedStream>>>>,
    changed: Arc<watch::Sender<()>>,
}

impl Owned {
    /// Nothing is published yet; what is goes into these logs.
    pub fn new(logs: Logs) -> Self {
        Self {
            logs,
            streams: Arc::default(),
            changed: Arc::default(),
        }
    }

    /// Begins to publish a stream; what was published under an earlier epoch ends.
    pub fn begin(
        &self,
        stream: StreamId,
        epoch: Epoch,
        history: Arc<dyn History>,
    ) -> Arc<OwnedStream> {
        let log = self.logs.log(stream);
        let stream = Arc::new(OwnedStream::new(stream, epoch, history, log));
        let old = lock(&self.streams).insert(stream.id, stream.clone());
        if let Some(old) = old {
            old.end();
        }
        self.changed.send_replace(());
        stream
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
    replays: Replays,
    log: Arc<StreamLog>,
    publication: Mutex<Publication>,
    ended: AtomicBool,
    began: Instant,
}

impl OwnedStream {
    /// A stream whose watch has not begun.
    fn new(id: StreamId, epoch: Epoch, history: Arc<dyn History>, log: Arc<StreamLog>) -> Self {
        log.fence(epoch);
        Self {
            id,
            epoch,
            replays: Replays::new(id, epoch, history.clone()),
            history: SharedHistory::new(history),
            log,
            publication: Mutex::new(Publication::new(epoch)),
            ended: AtomicBool::new(false),
            began: Instant::now(),
        }
    }

    /// Goes on where an earlier owner stopped.
    pub fn resume(&self, start: EraStart, point: &ResumePoint) {
        self.publish_items(|publication| publication.resume(start, point));
        self.log.wake_feeds();
    }

    /// A new era has been committed.
    pub fn begin_era(&self, start: EraStart) {
        self.publish_items(|publication| publication.begin_era(start));
        self.log.wake_feeds();
    }

    /// Publishes events of the watch, in order. Gives how many came too late to be published: the
    /// watch session lets none through.
    pub fn publish(&self, events: Vec<Event>) -> usize {
        let mut late_events = 0;
        self.publish_items(|publication| {
            let Numbered { items, late } = publication.events(events);
            late_events = late;
            items
        });
        late_events
    }

    /// Publishes net changes of the repair with which the current era began, in key order.
    pub fn publish_repair(&self, events: Vec<Event>) {
        self.publish_items(|publication| publication.net_changes(events));
    }

    /// Everything up to `rv` has been published.
    pub fn close(&self, rv: &ResourceVersion) {
        self.publish_items(|publication| publication.close(rv));
    }

    /// Positions are given and items appended under one lock, so that they stay in order.
    fn publish_items(&self, give: impl FnOnce(&mut Publication) -> Vec<Item>) {
        let mut publication = lock(&self.publication);
        let items = give(&mut publication);
        self.log.hear();
        match self.log.append(self.epoch, items) {
            Appended::Taken => {}
            // A newer owner is known here; this one is about to end.
            Appended::Stale => self.end(),
            Appended::Missing => {
                tracing::error!(stream = %self.id, epoch = %self.epoch, "published items do not follow what the log has");
                // Readers ask for what lies between; nothing is passed over without a mark.
                let hole = publication.head().cloned().map(Item::Hole);
                self.log.append(self.epoch, hole.into_iter().collect());
            }
        }
    }

    /// The API server was heard.
    pub fn hear(&self) {
        self.log.hear();
    }

    /// How long ago the API server was heard.
    pub fn lag(&self) -> Duration {
        self.log.heard().unwrap_or(self.began).elapsed()
    }

    /// The closed position up to which everything is published; `None` before the first era, while a
    /// repair is being published, and once publishing has panicked: what was counted as published
    /// then may not be.
    pub fn checkpoint(&self) -> Option<Position> {
        if self.publication.is_poisoned() {
            return None;
        }
        lock(&self.publication).checkpoint()
    }

    /// Ends every feed of this stream.
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.log.wake_feeds();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn replays(&self) -> &Replays {
        &self.replays
    }

    pub(super) fn history(&self) -> &SharedHistory {
        &self.history
    }

    pub(super) fn log(&self) -> &StreamLog {
        &self.log
    }

    /// The current era; `None` until the stream has one.
    pub(super) fn era(&self) -> Option<Era> {
        lock(&self.publication).era().map(|start| start.era)
    }

    /// What is here for a reader at `place`; `None` until the stream has an era.
    pub(super) fn locate(&self, reader: Reader, place: &Place) -> Option<Located> {
        let publication = lock(&self.publication);
        Some(Located {
            era: publication.era()?.clone(),
            next: self.log.locate(reader, place),
            floor: self.log.floor()?,
        })
    }
}
