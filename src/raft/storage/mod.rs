//! The durable log, votes and snapshots: the only module that names sled.
//!
//! sled 0.34 needs care, and gets it here: its directory is cleaned of what a killed open leaves
//! behind, opened on a thread of its own in case it panics, written by one thread that syncs
//! through its own handle (`writer`), with small checksummed values (`keyspace`), and checked
//! against the high-water mark in a file beside it (`high_water`). Every error is
//! fatal: there is no second try after a disk has failed.

mod format;
mod high_water;
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
    fs::File,
    io,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::types::{Entry, LogId, Vote};
use crate::domain::id::{GroupId, ReplicaId};
pub use format::FORMAT;
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
    tree: RwLock<Option<sled::Tree>>,
    log: RwLock<Log>,
    group: RwLock<Option<GroupId>>,
    failure: watch::Sender<Option<Failure>>,
    /// Serialises readers and writers of the current snapshot.
    snapshot: Mutex<()>,
    /// Held for as long as the data is in use, by this process alone.
    lock_file: RwLock<Option<File>>,
}

/// The log as readers see it: ahead of sled by what the writer has not written yet.
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

    /// Forgets the oldest entries beyond the limits, if sled has them.
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

    /// Reads sled, unless it is closed.
    fn with_tree<T>(&self, read: impl FnOnce(&sled::Tree) -> io::Result<T>) -> io::Result<T> {
        let guard = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        match &*guard {
            Some(tree) => read(tree),
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

    fn close(&self) {
        *self.tree.write().unwrap_or_else(PoisonError::into_inner) = None;
        *self
            .lock_file
            .write()
            .unwrap_or_else(PoisonError::into_inner) = None;
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

/// Handle to the writer thread.
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

/// The writer's thread, joined when the store is closed.
type WriterEnd = std::sync::Mutex<Option<oneshot::Receiver<()>>>;

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the store is closed or has failed",
    )
}

fn sled_error(error: sled::Error) -> io::Error {
    match error {
        // sled puts the text of the first error, with its structure, into another one.
        sled::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
            io::Error::new(io::ErrorKind::StorageFull, "no space left on device")
        }
        sled::Error::Io(error) => match error.kind() {
            io::ErrorKind::Other => error,
            kind => io::Error::from(kind),
        },
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}
