//! Parts of one stream's past that are being read: [`Replays`]. What a reader is given, and when more
//! is read, is decided by [`Replay`].

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::{
    history::History,
    lock::lock,
    log::{Armed, ReadFrom, Wake},
};
use crate::domain::{
    delivery::{
        feed::Look,
        replay::{Replay, Replayed},
        ring::ReadMax,
    },
    history::HistoryItem,
    id::{Epoch, StreamId},
    position::Position,
};

/// How long the first reader waits for others: hardly felt beside the opening of a watch. When an
/// owner dies, all who followed it ask its successor within milliseconds.
const GATHER: Duration = Duration::from_millis(25);

/// The replays of one stream.
pub(super) struct Replays {
    stream: StreamId,
    epoch: Epoch,
    history: Arc<dyn History>,
    open: Mutex<Vec<Weak<Running>>>,
}

/// A replay whose watch continues until this is dropped, by the last of its readers.
struct Running {
    shared: Arc<Shared>,
    _reading: AbortOnDropHandle<()>,
}

struct Shared {
    stream: StreamId,
    inner: Mutex<Inner>,
    /// A reader has read everything.
    wanted: Notify,
}

struct Inner {
    replay: Replay,
    armed: Armed,
}

/// One reader of a replay.
pub(super) struct Following {
    running: Arc<Running>,
    from: ReadFrom,
}

impl Replays {
    pub(super) fn new(stream: StreamId, epoch: Epoch, history: Arc<dyn History>) -> Self {
        Self {
            stream,
            epoch,
            history,
            open: Mutex::default(),
        }
    }

    /// Follows what came after `here`, in a replay that is there already or in another one.
    pub(super) fn follow(&self, here: &Position) -> Following {
        let mut open = lock(&self.open);
        open.retain(|replay| replay.strong_count() > 0);
        let joined = open.iter().filter_map(Weak::upgrade).find_map(|running| {
            let next = lock(&running.shared.inner).replay.join(here)?;
            Some((running, next))
        });
        let (running, next) = joined.unwrap_or_else(|| {
            let running = Arc::new(self.run(here));
            open.push(Arc::downgrade(&running));
            (running, 0)
        });
        let from = next.into();
        Following { running, from }
    }

    fn run(&self, here: &Position) -> Running {
        let shared = Arc::new(Shared {
            stream: self.stream,
            inner: Mutex::new(Inner {
                replay: Replay::new(self.epoch, here),
                armed: Armed::default(),
            }),
            wanted: Notify::new(),
        });
        let reading = tokio::spawn(shared.clone().read(self.history.clone()));
        Running {
            shared,
            _reading: AbortOnDropHandle::new(reading),
        }
    }
}

impl Shared {
    /// Continues reading whenever a reader has read everything, until there is no more.
    async fn read(self: Arc<Self>, history: Arc<dyn History>) {
        tokio::time::sleep(GATHER).await;
        let from = lock(&self.inner).replay.begin();
        tracing::debug!(stream = %self.stream, %from, "replaying the history");
        let mut items = history.look(Look::Watch(from));
        loop {
            self.until_wanted().await;
            let item = items.recv().await;
            if self.take(item) {
                return;
            }
        }
    }

    async fn until_wanted(&self) {
        loop {
            // Asked for before the look, so that no reader between the two is missed.
            let wanted = self.wanted.notified();
            if lock(&self.inner).replay.is_wanted() {
                return;
            }
            wanted.await;
        }
    }

    /// Whether the replay has ended with it.
    fn take(&self, item: Option<HistoryItem>) -> bool {
        let mut inner = lock(&self.inner);
        // Where nothing follows, its readers stay armed.
        let armed = if inner.replay.take(item) {
            inner.armed.take()
        } else {
            Armed::default()
        };
        let ended = inner.replay.has_ended();
        drop(inner);
        armed.mark(self.stream);
        ended
    }
}

impl Following {
    /// What comes next; where that is nothing yet, `wake` is marked once there is something.
    pub(super) fn read(&mut self, most: ReadMax, wake: &Arc<Wake>) -> Replayed {
        let shared = &self.running.shared;
        let mut inner = lock(&shared.inner);
        let replayed = inner.replay.read(self.from.next, most);
        if let Replayed::Items { next, .. } = &replayed {
            self.from.next = *next;
            if inner.replay.ends_at(*next) {
                inner.armed.add(&mut self.from, wake);
            }
            if inner.replay.is_wanted() {
                shared.wanted.notify_one();
            }
        }
        replayed
    }
}
