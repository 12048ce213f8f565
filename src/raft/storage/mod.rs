//! The durable log, votes and snapshots.
//!
//! They are kept on a [`Disk`]: [`Files`], which alone names sled, or a simulated one
//! ([`InMemory`]). Over either, one task writes what has queued up and makes it durable (`writer`),
//! values are small and checksummed (`keyspace`), and what is found at the start is compared with a
//! high-water mark beside it (`high_water`). Every error is fatal: there is no second try after a
//! disk has failed.

#[cfg(test)]
mod crash_tests;
mod disk;
mod files;
mod format;
mod high_water;
mod in_memory;
mod keyspace;
mod log_store;
mod look;
mod open;
mod open_error;
mod snapshots;
#[cfg(test)]
mod truncation_tests;
mod writer;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::types::{Entry, LogId, Vote};
use crate::domain::id::{GroupId, ReplicaId};
pub use disk::{
    Disk, KeyRange, Keys, Lock, PAGE_BYTES, Page, Record, Records, Tree, Volume, WriteBatch,
};
pub use files::Files;
pub use format::FORMAT;
pub use in_memory::{Crash, InMemory};
pub use log_store::{LogReader, LogStore};
pub use look::is_in_use;
pub use open::Store;
pub use open_error::OpenError;
pub(super) use open_error::remedy_of;
use writer::Op;

/// Entries kept in memory although they are durable: what followers that keep up, and the state
/// machine, still have to read.
const RECENT_ENTRIES_MAX: usize = 1024;

/// The same limit in bytes.
const RECENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why the writer has ended.
pub(super) type Failure = Arc<io::Error>;

/// The replica's identity in its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Drawn when the data directory was made.
    pub(super) replica_id: ReplicaId,
    /// The name that the directory was made for.
    pub(super) name: String,
}

/// What readers and the writer share.
pub(super) struct Shared {
    /// `None` once closed. Readers hold the lock while they read, so that closing waits for them.
    tree: RwLock<Option<Arc<dyn Tree>>>,
    log: RwLock<Log>,
    group: RwLock<Option<GroupId>>,
    failure: watch::Sender<Option<Failure>>,
    /// Serialises readers and writers of the current snapshot.
    snapshot: Mutex<()>,
    /// Held for as long as the data is in use, by this process alone.
    lock: RwLock<Option<Lock>>,
}

/// The log as readers see it: ahead of the tree by what the writer has not written yet.
#[derive(Default)]
struct Log {
    purged: Option<LogId>,
    last: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// The newest entries, without a hole up to `last`.
    recent: BTreeMap<u64, Recent>,
    recent_bytes: usize,
    next_sequence: u64,
    durable_sequence: u64,
}

struct Recent {
    entry: Entry,
    bytes: usize,
    /// Of the append that wrote it; until that is durable, it is only here.
    sequence: u64,
}

impl Log {
    fn insert(&mut self, entry: Entry, bytes: usize, sequence: u64) {
        self.last = Some(entry.log_id);
        self.recent_bytes += bytes;
        let recent = Recent {
            entry,
            bytes,
            sequence,
        };
        if let Some(old) = self.recent.insert(recent.entry.log_id.index, recent) {
            self.recent_bytes -= old.bytes;
        }
    }

    fn truncate(&mut self, from: u64, last: Option<LogId>) {
        self.last = last;
        for (_, removed) in self.recent.split_off(&from) {
            self.recent_bytes -= removed.bytes;
        }
    }

    fn purge(&mut self, upto: LogId) {
        self.purged = Some(upto);
        self.last = self.last.max(Some(upto));
        let kept = self.recent.split_off(&(upto.index + 1));
        self.recent = kept;
        self.recent_bytes = self.recent.values().map(|recent| recent.bytes).sum();
    }

    /// Forgets the oldest entries beyond the limits, if the tree has them.
    fn shrink(&mut self) {
        while (self.recent.len() > RECENT_ENTRIES_MAX || self.recent_bytes > RECENT_BYTES_MAX)
            && let Some(oldest) = self.recent.first_entry()
            && oldest.get().sequence <= self.durable_sequence
        {
            self.recent_bytes -= oldest.remove().bytes;
        }
    }
}

impl Shared {
    fn log(&self) -> RwLockReadGuard<'_, Log> {
        self.log.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_mut(&self) -> RwLockWriteGuard<'_, Log> {
        self.log.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the tree, unless it is closed.
    fn with_tree<T>(&self, read: impl FnOnce(&dyn Tree) -> io::Result<T>) -> io::Result<T> {
        let guard = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        match &*guard {
            Some(tree) => read(&**tree),
            None => Err(closed()),
        }
    }

    fn durable(&self, sequence: u64) {
        let mut log = self.log_mut();
        log.durable_sequence = sequence;
        log.shrink();
    }

    fn fail(&self, failure: Failure) {
        self.failure.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(failure);
            is_first
        });
    }

    /// Closes the tree, as soon as nobody reads it.
    fn take_tree(&self) -> Option<Arc<dyn Tree>> {
        let mut tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        tree.take()
    }

    /// Lets others open the data.
    fn unlock(&self) {
        *self.lock.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits until storage has failed, and returns the reason.
    pub(super) async fn failed(&self) -> Failure {
        let mut failure = self.failure.subscribe();
        let known = failure.wait_for(Option::is_some).await;
        // The sender lives in `self`, so waiting ends only with a failure.
        known
            .ok()
            .and_then(|known| known.clone())
            .unwrap_or_else(|| Arc::new(closed()))
    }

    /// The group that the data belongs to.
    pub(super) fn group(&self) -> Option<GroupId> {
        *self.group.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handle to the writer.
#[derive(Clone)]
struct Queue {
    ops: mpsc::Sender<Op>,
}

impl Queue {
    async fn send(&self, op: Op) -> io::Result<()> {
        self.ops.send(op).await.map_err(|_| closed())
    }

    /// Sends an operation and waits until it is durable.
    async fn run(&self, op: impl FnOnce(writer::Done) -> Op) -> io::Result<()> {
        let (done, outcome) = oneshot::channel();
        self.send(op(done)).await?;
        outcome.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// Completes when the writer has ended, which closing the store waits for.
type WriterEnd = std::sync::Mutex<Option<oneshot::Receiver<()>>>;

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the store is closed or has failed",
    )
}
