//! The serving side: one ring per wanted stream, fed from whichever replica owns it.
//!
//! A hub takes a stream from one source at a time, that of the newest epoch it knows, and goes on
//! at its own position: between that and the first item of a new source there is no hole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use super::{
    feed::{ALIVE_EVERY, FeedError, FeedFrom, FeedMessage},
    item::Item,
    lock::lock,
    ring::{Read, Ring},
};
use crate::domain::{
    id::{Epoch, ReplicaId, Revision, StreamId},
    position::Position,
    state::State,
};

/// A feed that says nothing for so long is taken for dead: three of its signs of life are missing.
const FEED_SILENCE_MAX: Duration = Duration::from_millis(3 * 1_000 + 500);
const _: () = assert!(FEED_SILENCE_MAX.as_millis() > 3 * ALIVE_EVERY.as_millis());

/// The wait before a failed feed is opened again doubles from here ...
const REOPEN_FIRST: Duration = Duration::from_millis(20);
/// ... up to here. News of who owns the shard cut it short.
const REOPEN_MAX: Duration = Duration::from_millis(500);

/// How long a stream that nobody wants is still followed: a subscriber that reconnects finds its
/// ring warm.
const LINGER: Duration = Duration::from_secs(30);

/// Who publishes a stream, as far as this replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceAddress {
    /// The stream.
    pub stream: StreamId,
    /// The owner of its shard.
    pub owner: ReplicaId,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The revision at which this replica learned of it.
    pub revision: Revision,
}

/// Opens feeds, here or at another replica.
pub trait Sources: Send + Sync {
    /// A feed of a stream from its owner.
    fn open(
        &self,
        address: SourceAddress,
        from: FeedFrom,
        snapshot_on_gap: bool,
    ) -> BoxFuture<'static, Result<mpsc::Receiver<FeedMessage>, FeedError>>;
}

/// Streams that somebody here wants. A cheap clone.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    streams: Mutex<BTreeMap<StreamId, Arc<HubStream>>>,
    sources: Arc<dyn Sources>,
    state: watch::Receiver<Arc<State>>,
    ring_bytes: usize,
}

impl Hub {
    /// A hub without streams.
    pub fn new(
        sources: Arc<dyn Sources>,
        state: watch::Receiver<Arc<State>>,
        ring_bytes: usize,
    ) -> Self {
        let streams = Mutex::default();
        Self {
            inner: Arc::new(Inner {
                streams,
                sources,
                state,
                ring_bytes,
            }),
        }
    }

    /// What the group has agreed on, as this replica knows it.
    pub fn state(&self) -> watch::Receiver<Arc<State>> {
        self.inner.state.clone()
    }

    /// The stream, followed from now on; `None` while it was never watched by anybody.
    pub(super) fn stream(&self, id: StreamId) -> Option<Arc<HubStream>> {
        let mut streams = lock(&self.inner.streams);
        if let Some(stream) = streams.get(&id) {
            return Some(stream.clone());
        }
        let checkpoint = self
            .inner
            .state
            .borrow()
            .streams
            .get(&id)?
            .checkpoint
            .clone()?;
        let stream = Arc::new(HubStream {
            id,
            ring: Mutex::new(Ring::new(checkpoint, self.inner.ring_bytes)),
            wakes: Mutex::default(),
            heard: Mutex::default(),
        });
        streams.insert(id, stream.clone());
        tokio::spawn(follow(self.clone(), stream.clone()));
        Some(stream)
    }

    /// A feed for one subscriber alone.
    pub(super) async fn open_feed(
        &self,
        stream: StreamId,
        from: FeedFrom,
    ) -> Result<mpsc::Receiver<FeedMessage>, FeedError> {
        let address = self.address(stream).ok_or(FeedError::NotOwner)?;
        self.inner.sources.open(address, from, true).await
    }

    fn address(&self, stream: StreamId) -> Option<SourceAddress> {
        let state = self.inner.state.borrow();
        let assignment = state.assignment_of(stream)?;
        let owner = assignment.owner()?;
        Some(SourceAddress {
            stream,
            owner,
            epoch: assignment.epoch(),
            revision: state.revision,
        })
    }

    /// Forgets a stream that nobody has wanted for a while; false where somebody does again.
    fn forget_unwanted(&self, stream: &Arc<HubStream>) -> bool {
        let mut streams = lock(&self.inner.streams);
        let unwanted = !stream.is_wanted();
        if unwanted {
            streams.remove(&stream.id);
        }
        unwanted
    }
}

/// One stream that somebody here wants.
pub(super) struct HubStream {
    id: StreamId,
    ring: Mutex<Ring>,
    wakes: Mutex<Vec<Weak<Wake>>>,
    /// When the API server was heard last, as far as the source says; none before it said anything.
    heard: Mutex<Option<Instant>>,
}

impl HubStream {
    /// Wakes `wake` at each change from now on, until it is dropped.
    pub(super) fn subscribe(&self, wake: &Arc<Wake>) {
        let mut wakes = lock(&self.wakes);
        wakes.retain(|wake| wake.strong_count() > 0);
        wakes.push(Arc::downgrade(wake));
    }

    pub(super) fn seek(&self, position: &Position) -> Option<u64> {
        lock(&self.ring).seek(position)
    }

    pub(super) fn read(&self, next: u64, items_max: usize) -> Read {
        lock(&self.ring).read(next, items_max)
    }

    /// Whether nothing follows `next` yet.
    pub(super) fn ends_at(&self, next: u64) -> bool {
        lock(&self.ring).end() == next
    }

    pub(super) fn head(&self) -> Position {
        lock(&self.ring).head().clone()
    }

    /// When the API server was heard last, as far as is known here.
    pub(super) fn heard(&self) -> Option<Instant> {
        *lock(&self.heard)
    }

    fn is_wanted(&self) -> bool {
        lock(&self.wakes).iter().any(|wake| wake.strong_count() > 0)
    }

    fn take(&self, items: Vec<Item>) {
        let mut moved = false;
        let mut silent = None;
        let mut ring = lock(&self.ring);
        for item in items {
            silent = Some(match item {
                Item::Alive { silent } => silent,
                _ => Duration::ZERO,
            });
            moved |= ring.push(item);
        }
        if let Some(silent) = silent {
            *lock(&self.heard) = Instant::now().checked_sub(silent);
        }
        drop(ring);
        if moved {
            lock(&self.wakes)
                .iter()
                .filter_map(Weak::upgrade)
                .for_each(|wake| wake.mark(self.id));
        }
    }
}

/// Tells one subscriber which of its streams have something new.
#[derive(Default)]
pub(super) struct Wake {
    dirty: Mutex<BTreeSet<StreamId>>,
    notify: Notify,
}

impl Wake {
    pub(super) fn mark(&self, stream: StreamId) {
        lock(&self.dirty).insert(stream);
        self.notify.notify_one();
    }

    /// The streams that were marked since the last call.
    pub(super) fn take(&self) -> BTreeSet<StreamId> {
        std::mem::take(&mut *lock(&self.dirty))
    }

    pub(super) async fn wait(&self) {
        self.notify.notified().await;
    }
}

/// Follows a stream from owner to owner for as long as somebody wants it.
async fn follow(hub: Hub, stream: Arc<HubStream>) {
    let mut state = hub.state();
    let mut pause = REOPEN_FIRST;
    loop {
        state.borrow_and_update();
        if !state.borrow().streams.contains_key(&stream.id) {
            lock(&hub.inner.streams).remove(&stream.id);
            return;
        }
        let head = stream.head();
        match hub.address(stream.id) {
            Some(address) => match follow_owner(&hub, &stream, &address, &mut state).await {
                Followed::Unwanted => return,
                Followed::Moved => continue,
                Followed::Ended(error) => {
                    tracing::debug!(stream = %stream.id, owner = %address.owner, %error, "feed ended");
                }
            },
            None => {
                if hub.forget_unwanted(&stream) {
                    return;
                }
            }
        }
        pause = if stream.head() > head {
            REOPEN_FIRST
        } else {
            (pause * 2).min(REOPEN_MAX)
        };
        let _ = tokio::time::timeout(pause, state.changed()).await;
    }
}

/// Why one source is no longer followed.
enum Followed {
    /// Nobody wants the stream.
    Unwanted,
    /// The shard has a newer epoch.
    Moved,
    /// The feed ended by itself.
    Ended(FeedError),
}

async fn follow_owner(
    hub: &Hub,
    stream: &Arc<HubStream>,
    address: &SourceAddress,
    state: &mut watch::Receiver<Arc<State>>,
) -> Followed {
    let from = FeedFrom::After(stream.head());
    let open = hub.inner.sources.open(address.clone(), from, false);
    let moved = wait_until_moved(state, address);
    tokio::pin!(moved);
    let mut feed = tokio::select! {
        opened = open => match opened {
            Ok(feed) => feed,
            Err(error) => return Followed::Ended(error),
        },
        () = &mut moved => return Followed::Moved,
    };
    let mut unwanted_since = None;
    loop {
        let message = tokio::select! {
            message = tokio::time::timeout(FEED_SILENCE_MAX, feed.recv()) => message,
            () = &mut moved => return Followed::Moved,
        };
        match message {
            Ok(Some(Ok(items))) => stream.take(items),
            Ok(Some(Err(error))) => return Followed::Ended(error),
            Ok(None) => return Followed::Ended(FeedError::NotOwner),
            Err(_) => return Followed::Ended(FeedError::Unreachable("it fell silent".into())),
        }
        if stream.is_wanted() {
            unwanted_since = None;
        } else if unwanted_since.get_or_insert_with(Instant::now).elapsed() > LINGER
            && hub.forget_unwanted(stream)
        {
            return Followed::Unwanted;
        }
    }
}

/// Waits until the stream's shard has another epoch, or the stream is gone.
async fn wait_until_moved(state: &mut watch::Receiver<Arc<State>>, address: &SourceAddress) {
    let moved = |state: &Arc<State>| {
        state
            .assignment_of(address.stream)
            .map(|assignment| assignment.epoch())
            != Some(address.epoch)
    };
    if state.wait_for(moved).await.is_err() {
        // The replica is shutting down, and this task with it.
        std::future::pending::<()>().await;
    }
}
