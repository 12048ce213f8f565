//! The serving side: the logs of the streams that have readers here, each fed from whichever
//! replica owns it.
//!
//! A log takes a stream from one owner at a time, that of the newest epoch that is known here, and
//! resumes where it stands: between that and the first item of the next owner there is no hole that
//! is not marked as one. Where this replica owns the stream, its publication writes the same log.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    feed::{ALIVE_EVERY, FeedMessage},
    lock::lock,
    log::{Appended, Logs, StreamLog},
};
use crate::domain::{
    delivery::{
        feed::FeedError,
        place::{Place, Reader},
    },
    id::{Epoch, ReplicaId, Revision, StreamId},
    position::Position,
    state::State,
};

/// A feed that sends nothing for this long is considered dead: three keepalives are missing.
const FEED_SILENCE_MAX: Duration = Duration::from_millis(3 * 1_000 + 500);
const _: () = assert!(FEED_SILENCE_MAX.as_millis() > 3 * ALIVE_EVERY.as_millis());

/// The wait before a failed feed is opened again doubles from here ...
const REOPEN_FIRST: Duration = Duration::from_millis(20);
/// ... up to here. News of who owns the shard cut it short.
const REOPEN_MAX: Duration = Duration::from_millis(500);

/// How long a stream that nobody wants is still followed: a subscriber that reconnects finds its
/// ring warm.
const LINGER: Duration = Duration::from_secs(30);

/// The owner of a stream, as far as this replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerAddress {
    /// The stream.
    pub stream: StreamId,
    /// The owner of its shard.
    pub owner: ReplicaId,
    /// The epoch in which it owns the stream.
    pub epoch: Epoch,
    /// The revision at which this replica learned of it.
    pub revision: Revision,
}

/// Opens feeds, here or at another replica.
pub trait Feeds: Send + Sync {
    /// A feed of a stream from its owner, for a reader at `place`.
    fn open(
        &self,
        address: OwnerAddress,
        place: Place,
        reader: Reader,
    ) -> BoxFuture<'static, Result<mpsc::Receiver<FeedMessage>, FeedError>>;
}

/// Streams that have readers here. A cheap clone.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    replica: ReplicaId,
    logs: Logs,
    followed: Mutex<BTreeMap<StreamId, Followed>>,
    feeds: Arc<dyn Feeds>,
    state: watch::Receiver<Arc<State>>,
    topology: watch::Receiver<Arc<State>>,
}

/// A stream that is followed here.
struct Followed {
    log: Arc<StreamLog>,
    wanted: Weak<Wanted>,
}

/// Held by each of those who want a stream.
struct Wanted;

/// A stream that is followed for as long as this is held, and for a while after.
pub(super) struct HubStream {
    pub(super) log: Arc<StreamLog>,
    _wanted: Arc<Wanted>,
}

impl Hub {
    /// No streams yet; what is followed goes into these logs. `topology` is notified only where
    /// owners, clusters or streams changed, and never for checkpoints alone.
    pub fn new(
        replica: ReplicaId,
        logs: Logs,
        feeds: Arc<dyn Feeds>,
        state: watch::Receiver<Arc<State>>,
        topology: watch::Receiver<Arc<State>>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                replica,
                logs,
                followed: Mutex::default(),
                feeds,
                state,
                topology,
            }),
        }
    }

    /// What the group has agreed on, as this replica knows it.
    pub fn state(&self) -> Arc<State> {
        self.inner.state.borrow().clone()
    }

    /// The same as of the last change of owners, clusters or streams, and each later one.
    pub(super) fn watch_topology(&self) -> watch::Receiver<Arc<State>> {
        self.inner.topology.clone()
    }

    /// The stream, followed from now on; `None` while it was never watched by anybody.
    pub(super) fn stream(&self, id: StreamId) -> Option<HubStream> {
        let checkpoint = self
            .inner
            .state
            .borrow()
            .streams
            .get(&id)?
            .checkpoint
            .clone()?;
        let mut followed = lock(&self.inner.followed);
        let is_new = !followed.contains_key(&id);
        let entry = followed.entry(id).or_insert_with(|| Followed {
            log: self.inner.logs.log(id),
            wanted: Weak::new(),
        });
        // Where its owner is here, it has begun the log already.
        entry.log.begin_after(checkpoint);
        let wanted = entry.wanted.upgrade().unwrap_or_else(|| Arc::new(Wanted));
        entry.wanted = Arc::downgrade(&wanted);
        let log = entry.log.clone();
        drop(followed);
        if is_new {
            tokio::spawn(follow(self.clone(), id, log.clone()));
        }
        Some(HubStream {
            log,
            _wanted: wanted,
        })
    }

    /// The newest position of a stream that is followed or published here.
    pub(super) fn head(&self, id: StreamId) -> Option<Position> {
        self.inner.logs.existing(id)?.head()
    }

    /// A feed for one subscriber alone, until the shard has another owner.
    pub(super) async fn open_feed(
        &self,
        stream: StreamId,
        place: Place,
    ) -> Result<SubscriberFeed, FeedError> {
        let address = self.address(stream).ok_or(FeedError::NotOwner)?;
        let opened = self
            .inner
            .feeds
            .open(address.clone(), place, Reader::Subscriber);
        Ok(SubscriberFeed {
            messages: opened.await?,
            topology: self.watch_topology(),
            address,
        })
    }

    fn address(&self, stream: StreamId) -> Option<OwnerAddress> {
        let state = self.inner.topology.borrow();
        let assignment = state.assignment_of(stream)?;
        let owner = assignment.owner()?;
        Some(OwnerAddress {
            stream,
            owner,
            epoch: assignment.epoch(),
            revision: state.revision,
        })
    }

    fn is_wanted(&self, stream: StreamId) -> bool {
        let followed = lock(&self.inner.followed);
        let entry = followed.get(&stream);
        entry.is_some_and(|entry| entry.wanted.strong_count() > 0)
    }

    /// Forgets a stream without readers; false if it has one again.
    fn forget_unwanted(&self, stream: StreamId) -> bool {
        let mut followed = lock(&self.inner.followed);
        let unwanted = followed
            .get(&stream)
            .is_none_or(|entry| entry.wanted.strong_count() == 0);
        if unwanted {
            followed.remove(&stream);
        }
        unwanted
    }
}

/// A feed for one subscriber. An owner that has been replaced is not listened to any longer: the
/// era that it publishes in may have ended.
pub(super) struct SubscriberFeed {
    messages: mpsc::Receiver<FeedMessage>,
    topology: watch::Receiver<Arc<State>>,
    address: OwnerAddress,
}

impl SubscriberFeed {
    /// The next message; an error is the last one.
    pub(super) async fn next(&mut self) -> FeedMessage {
        tokio::select! {
            biased;
            () = wait_until_moved(&mut self.topology, &self.address) => Err(FeedError::NotOwner),
            message = self.messages.recv() => message.unwrap_or(Err(FeedError::NotOwner)),
        }
    }
}

/// Follows a stream from owner to owner for as long as it has readers.
async fn follow(hub: Hub, stream: StreamId, log: Arc<StreamLog>) {
    let mut topology = hub.watch_topology();
    let mut pause = REOPEN_FIRST;
    loop {
        topology.borrow_and_update();
        // The cluster was deleted, or its resources no longer include the stream.
        if !topology.borrow().streams.contains_key(&stream) {
            lock(&hub.inner.followed).remove(&stream);
            return;
        }
        let head = log.head();
        let end = match hub.address(stream) {
            Some(address) if address.owner == hub.inner.replica => {
                follow_own(&hub, &address, &mut topology).await
            }
            Some(address) => follow_owner(&hub, &log, &address, &mut topology).await,
            // The shard has no owner now, and nothing here reads the stream: stop following it.
            None if hub.forget_unwanted(stream) => End::Unwanted,
            None => End::Ended(FeedError::NotOwner),
        };
        match end {
            End::Unwanted => return,
            // Another owner, or the same one in a newer epoch: follow it at once.
            End::Moved => continue,
            End::Ended(error) => tracing::debug!(%stream, %error, "feed ended"),
        }
        // A feed that has brought something was no failure: its owner has begun another run.
        if log.head() > head {
            pause = REOPEN_FIRST;
            continue;
        }
        let _ = tokio::time::timeout(pause, topology.changed()).await;
        pause = (pause * 2).min(REOPEN_MAX);
    }
}

/// Why an owner is no longer followed.
enum End {
    /// Nobody wants the stream.
    Unwanted,
    /// The shard has a newer epoch.
    Moved,
    /// The feed ended by itself.
    Ended(FeedError),
}

/// Counts how long a stream has not been wanted.
#[derive(Default)]
struct Linger(Option<Instant>);

impl Linger {
    /// Whether the stream has been unwanted for long enough to be forgotten, and was.
    fn is_over(&mut self, hub: &Hub, stream: StreamId) -> bool {
        if hub.is_wanted(stream) {
            self.0 = None;
            return false;
        }
        self.0.get_or_insert_with(Instant::now).elapsed() > LINGER && hub.forget_unwanted(stream)
    }
}

/// The publication here writes the log itself.
async fn follow_own(
    hub: &Hub,
    address: &OwnerAddress,
    topology: &mut watch::Receiver<Arc<State>>,
) -> End {
    let mut linger = Linger::default();
    let moved = wait_until_moved(topology, address);
    tokio::pin!(moved);
    loop {
        tokio::select! {
            () = &mut moved => return End::Moved,
            () = tokio::time::sleep(ALIVE_EVERY) => {}
        }
        if linger.is_over(hub, address.stream) {
            return End::Unwanted;
        }
    }
}

async fn follow_owner(
    hub: &Hub,
    log: &StreamLog,
    address: &OwnerAddress,
    topology: &mut watch::Receiver<Arc<State>>,
) -> End {
    let Some(place) = log.place() else {
        return End::Ended(FeedError::NotOwner);
    };
    let open = hub.inner.feeds.open(address.clone(), place, Reader::Log);
    let moved = wait_until_moved(topology, address);
    tokio::pin!(moved);
    let mut feed = tokio::select! {
        opened = open => match opened {
            Ok(feed) => feed,
            Err(error) => return End::Ended(error),
        },
        () = &mut moved => return End::Moved,
    };
    let mut linger = Linger::default();
    loop {
        let message = tokio::select! {
            message = tokio::time::timeout(FEED_SILENCE_MAX, feed.recv()) => message,
            () = &mut moved => return End::Moved,
        };
        match message {
            Ok(Some(Ok(items))) => match log.append(address.epoch, items) {
                Appended::Taken => {}
                Appended::Stale => return End::Moved,
                Appended::Missing => {
                    tracing::warn!(stream = %address.stream, owner = %address.owner, "items of a feed do not continue the log");
                    let reason = "what it sent does not continue the log".into();
                    return End::Ended(FeedError::Unreachable(reason));
                }
            },
            Ok(Some(Err(error))) => return End::Ended(error),
            Ok(None) => return End::Ended(FeedError::NotOwner),
            Err(_) => return End::Ended(FeedError::Unreachable("timeout: it sent nothing".into())),
        }
        if linger.is_over(hub, address.stream) {
            return End::Unwanted;
        }
    }
}

/// Waits until the stream's shard has another epoch, or the stream is gone.
async fn wait_until_moved(topology: &mut watch::Receiver<Arc<State>>, address: &OwnerAddress) {
    let moved = |state: &Arc<State>| {
        state
            .assignment_of(address.stream)
            .map(|assignment| assignment.epoch())
            != Some(address.epoch)
    };
    if topology.wait_for(moved).await.is_err() {
        // The replica is shutting down, and this task with it.
        std::future::pending::<()>().await;
    }
}
