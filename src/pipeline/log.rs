//! The newest part of a stream at one replica: [`StreamLog`]. One for each stream that this replica
//! publishes or serves, written by its publication here or by a feed from the owner, read by feeds
//! and subscriptions alike.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::lock::lock;
use crate::{
    domain::{
        delivery::{
            fence::Fence,
            item::Item,
            place::{Admission, Place, Reader},
            ring::{Read, ReadMax, Ring},
        },
        id::{Epoch, StreamId},
        position::Position,
    },
    memory::{RingShare, Rings},
};

/// What a ring may take before it is counted: the rest of a batch, at most.
const SETTLE_BYTES: usize = 64 * 1024;

/// The logs of one replica. A cheap clone.
#[derive(Clone)]
pub struct Logs {
    logs: Arc<Mutex<BTreeMap<StreamId, Weak<StreamLog>>>>,
    rings: Rings,
    ring_bytes: usize,
}

impl Logs {
    /// No logs yet; each will keep up to `ring_bytes`, and all of them together up to `rings`.
    pub fn new(rings: Rings, ring_bytes: usize) -> Self {
        Self {
            logs: Arc::default(),
            rings,
            ring_bytes,
        }
    }

    /// The log of a stream: it lives for as long as a handle exists.
    pub fn log(&self, stream: StreamId) -> Arc<StreamLog> {
        let mut logs = lock(&self.logs);
        if let Some(log) = logs.get(&stream).and_then(Weak::upgrade) {
            return log;
        }
        logs.retain(|_, log| log.strong_count() > 0);
        let log = Arc::new(StreamLog::new(stream, self.rings.register(self.ring_bytes)));
        logs.insert(stream, Arc::downgrade(&log));
        log
    }

    /// The log of a stream, where there is one.
    pub(super) fn existing(&self, stream: StreamId) -> Option<Arc<StreamLog>> {
        lock(&self.logs).get(&stream)?.upgrade()
    }
}

/// The newest part of one stream.
pub struct StreamLog {
    id: StreamId,
    inner: Mutex<Inner>,
}

struct Inner {
    /// None before anything was taken.
    begun: Option<Begun>,
    fence: Fence,
    /// When the API server last sent anything, as reported by the owner; `None` before its first
    /// report.
    heard: Option<Instant>,
    share: RingShare,
    /// Readers that have read everything.
    armed: Armed,
    /// Feeds, whatever they wait for.
    feeds: Vec<Weak<Wake>>,
}

struct Begun {
    ring: Ring,
    /// Where the log stands, as a reader of what its owner publishes.
    place: Place,
}

/// What became of items that were to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// What was new was taken.
    Taken,
    /// Something is missing between what the log has and the items: the owner must be asked from
    /// where the log stands.
    Missing,
    /// The owner has an older epoch than one that was heard already.
    Stale,
}

impl StreamLog {
    fn new(id: StreamId, share: RingShare) -> Self {
        Self {
            id,
            inner: Mutex::new(Inner {
                begun: None,
                fence: Fence::default(),
                heard: None,
                share,
                armed: Armed::default(),
                feeds: Vec::new(),
            }),
        }
    }

    /// Takes what is new of some items, which come from the owner of this epoch.
    pub fn append(&self, epoch: Epoch, items: Vec<Item>) -> Appended {
        let mut inner = lock(&self.inner);
        if !inner.fence.admit(epoch) {
            return Appended::Stale;
        }
        let mut appended = Appended::Taken;
        let end = inner.end();
        let mut lag = None;
        for item in items {
            if let Item::Alive { lag: reported } = item {
                lag = Some(reported);
                continue;
            }
            lag = Some(Duration::ZERO);
            match inner.take(item) {
                Admission::Next => inner.settle(SETTLE_BYTES),
                Admission::Had => {}
                Admission::Missing => {
                    appended = Appended::Missing;
                    break;
                }
            }
        }
        if let Some(lag) = lag {
            inner.heard = Instant::now().checked_sub(lag);
        }
        if inner.end() == end {
            return appended;
        }
        inner.settle(0);
        let armed = inner.armed.take();
        drop(inner);
        armed.mark(self.id);
        appended
    }

    /// Keeps owners of older epochs than this one out.
    pub fn fence(&self, epoch: Epoch) {
        lock(&self.inner).fence.admit(epoch);
    }

    /// A feed has begun: [`Self::wake_feeds`] wakes it until it is dropped.
    pub(super) fn add_feed(&self, wake: &Arc<Wake>) {
        let mut inner = lock(&self.inner);
        inner.feeds.retain(|wake| wake.strong_count() > 0);
        inner.feeds.push(Arc::downgrade(wake));
    }

    /// The stream has ended, or has its first or another era: feeds that wait for one, or read the
    /// past, have to know.
    pub(super) fn wake_feeds(&self) {
        let feeds = Armed(lock(&self.inner).feeds.clone());
        feeds.mark(self.id);
    }

    pub(super) fn locate(&self, reader: Reader, place: &Place) -> Option<u64> {
        let inner = lock(&self.inner);
        inner.begun.as_ref()?.ring.locate(reader, place)
    }

    /// What follows in the log; where the reader has read everything then, its wake is marked once
    /// more comes.
    pub(super) fn read(&self, from: &mut ReadFrom, most: ReadMax, wake: &Arc<Wake>) -> Read {
        let mut inner = lock(&self.inner);
        let Some(Begun { ring, .. }) = &inner.begun else {
            return Read::FellBehind;
        };
        let read = ring.read(from.next, most);
        if let Read::Items { next, more, .. } = &read {
            from.next = *next;
            if !more {
                inner.armed.add(from, wake);
            }
        }
        read
    }

    /// Whether nothing follows `next` yet.
    pub(super) fn ends_at(&self, next: u64) -> bool {
        lock(&self.inner).end() == Some(next)
    }

    /// Everything after this position is here; none before anything was taken.
    pub(super) fn floor(&self) -> Option<Position> {
        let inner = lock(&self.inner);
        Some(inner.begun.as_ref()?.ring.floor())
    }

    /// The newest position; none before anything was taken.
    pub(super) fn head(&self) -> Option<Position> {
        let inner = lock(&self.inner);
        Some(inner.begun.as_ref()?.ring.head().clone())
    }

    /// The position of the log, from which its owner is asked to continue.
    pub(super) fn place(&self) -> Option<Place> {
        let inner = lock(&self.inner);
        Some(inner.begun.as_ref()?.place.clone())
    }

    /// Begins the log just after `position`, unless it has begun.
    pub(super) fn begin_after(&self, position: Position) {
        let mut inner = lock(&self.inner);
        if inner.begun.is_none() {
            inner.begin_after(position);
        }
    }

    /// The API server was heard.
    pub fn hear(&self) {
        lock(&self.inner).heard = Some(Instant::now());
    }

    /// When the API server was heard last, as far as is known here.
    pub(super) fn heard(&self) -> Option<Instant> {
        lock(&self.inner).heard
    }
}

impl Inner {
    fn begin_after(&mut self, position: Position) {
        self.begun = Some(Begun {
            ring: Ring::new(position.clone()),
            place: Place::At(position),
        });
    }

    fn end(&self) -> Option<u64> {
        self.begun.as_ref().map(|begun| begun.ring.end())
    }

    /// Counts what the ring has taken, once that is more than so many bytes, and drops its oldest
    /// where that is too much.
    fn settle(&mut self, bytes: usize) {
        let Some(Begun { ring, .. }) = &mut self.begun else {
            return;
        };
        if ring.bytes() > self.share.used() + bytes {
            self.share.set_used(ring.bytes());
            ring.shrink_to(self.share.limit());
            self.share.set_used(ring.bytes());
        }
    }

    fn take(&mut self, item: Item) -> Admission {
        match (&mut self.begun, item) {
            (Some(begun), item) => {
                let admission = begun.place.admit(Reader::Log, &item);
                if admission == Admission::Next {
                    begun.ring.push(item);
                }
                admission
            }
            // Its first owner determines where it begins.
            (None, Item::Hole(to)) => {
                self.begin_after(to);
                Admission::Next
            }
            (None, _) => Admission::Missing,
        }
    }
}

/// Where a reader reads on, in a log or a replay.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadFrom {
    pub(super) next: u64,
    /// Where it had read everything last. As long as nothing follows there, it is still armed.
    armed_at: Option<u64>,
}

impl From<u64> for ReadFrom {
    fn from(next: u64) -> Self {
        Self {
            next,
            armed_at: None,
        }
    }
}

/// Readers that have read everything and are woken once, by what comes next. Those who read the past
/// are not disturbed by the present.
#[derive(Default)]
pub(super) struct Armed(Vec<Weak<Wake>>);

impl Armed {
    /// A reader has read everything, up to here.
    pub(super) fn add(&mut self, from: &mut ReadFrom, wake: &Arc<Wake>) {
        if from.armed_at.replace(from.next) == Some(from.next) {
            return;
        }
        // Nothing may come for days, while readers come and go.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|wake| wake.strong_count() > 0);
        }
        self.0.push(Arc::downgrade(wake));
    }

    pub(super) fn take(&mut self) -> Self {
        Self(std::mem::take(&mut self.0))
    }

    pub(super) fn mark(self, stream: StreamId) {
        let wakes = self.0.iter().filter_map(Weak::upgrade);
        wakes.for_each(|wake| wake.mark(stream));
    }
}

/// Notifies one reader which of its streams have news, each once, in the order in which they
/// were marked.
#[derive(Default)]
pub(super) struct Wake {
    marked: Mutex<Marked>,
    notify: Notify,
}

#[derive(Default)]
struct Marked {
    queue: VecDeque<StreamId>,
    /// The same.
    streams: BTreeSet<StreamId>,
}

impl Wake {
    pub(super) fn mark(&self, stream: StreamId) {
        let mut marked = lock(&self.marked);
        if marked.streams.insert(stream) {
            marked.queue.push_back(stream);
        }
        drop(marked);
        self.notify.notify_one();
    }

    /// The next stream that was marked; it can be marked again from now on.
    pub(super) fn next(&self) -> Option<StreamId> {
        let mut marked = lock(&self.marked);
        let stream = marked.queue.pop_front()?;
        marked.streams.remove(&stream);
        Some(stream)
    }

    /// Waits until a stream is marked, if none is.
    pub(super) async fn wait(&self) {
        loop {
            // Asked for before the look, so that no mark between the two is missed.
            let marked = self.notify.notified();
            if !lock(&self.marked).queue.is_empty() {
                return;
            }
            marked.await;
        }
    }
}
