//! Opening the data: checks what the disk has, and only then starts the writer.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{Arc, RwLock},
};

use prost::Message as _;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::{
    Identity, Log, LogStore, OpenError, Queue, Shared, WriterEnd,
    disk::{Disk, KeyRange, Lock, Tree, Volume, WriteBatch},
    format,
    high_water::{HighWater, Mark},
    keyspace::{self, EntryReader, meta},
    snapshots::{self, Snapshots},
    writer::{Op, QUEUE_MAX, Writer},
};
use crate::{
    blocking::Blocking,
    domain::id::{GroupId, ReplicaId},
    panics::contain,
    proto::store::v1 as store,
    raft::{
        codec,
        types::{LogId, Vote},
    },
};

/// The open data of one replica.
pub struct Store {
    shared: Arc<Shared>,
    queue: Queue,
    identity: Identity,
    writer: WriterEnd,
    blocking: Arc<dyn Blocking>,
}

impl Store {
    /// Opens the data of replica `name` on this disk, or creates it if it does not exist. Its steps
    /// may block.
    pub async fn open(
        disk: &dyn Disk,
        data_dir: &Path,
        name: &str,
        blocking: Arc<dyn Blocking>,
    ) -> Result<Self, OpenError> {
        // Everything is read once and checked, and sled panics on some kinds of damage.
        let opening = contain(async {
            let volume = disk.open(data_dir)?;
            Opened::check(volume, name).await
        });
        let opened = opening.await;
        let opened = opened.unwrap_or_else(|panic| Err(OpenError::Damaged(panic.message)))?;
        opened.start(blocking)
    }

    /// This replica's id.
    pub fn replica_id(&self) -> ReplicaId {
        self.identity.replica_id
    }

    /// This replica's name.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// What openraft writes to.
    pub fn log_store(&self) -> LogStore {
        LogStore {
            shared: Arc::clone(&self.shared),
            queue: self.queue.clone(),
        }
    }

    pub(in crate::raft) fn snapshots(&self) -> Snapshots {
        Snapshots {
            shared: Arc::clone(&self.shared),
            queue: self.queue.clone(),
            blocking: Arc::clone(&self.blocking),
        }
    }

    /// What does what may block.
    pub(in crate::raft) fn blocking(&self) -> &dyn Blocking {
        &*self.blocking
    }

    /// The group that the data belongs to.
    pub(in crate::raft) fn group(&self) -> Option<GroupId> {
        self.shared.group()
    }

    /// Whether anything was ever voted for or logged here.
    pub(in crate::raft) fn is_initialised(&self) -> bool {
        let log = self.shared.log();
        log.last.is_some() || log.vote.is_some_and(|vote| vote.leader_id.term > 0)
    }

    /// The index of the last entry of the log; 0 if it is empty.
    pub(in crate::raft) fn last_index(&self) -> u64 {
        self.shared.log().last.map_or(0, |last| last.index)
    }

    /// Keeps the group's id with the data.
    pub(in crate::raft) async fn set_group(&self, group: GroupId) -> io::Result<()> {
        let value = keyspace::seal(meta::GROUP_ID, &group.0);
        let records = vec![(meta::GROUP_ID.to_vec(), value)];
        self.queue.run(|done| Op::Put { records, done }).await?;
        *self
            .shared
            .group
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(group);
        Ok(())
    }

    /// Waits until storage has failed, and returns the reason.
    pub(in crate::raft) async fn failed(&self) -> super::Failure {
        self.shared.failed().await
    }

    /// Writes what is queued and closes the files.
    pub async fn close(&self) {
        // An error means that the writer has stopped already.
        drop(self.queue.send(Op::Close).await);
        let ended = self
            .writer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(ended) = ended {
            // It sends nothing: its end is what counts.
            drop(ended.await);
        }
    }
}

/// Data that was read and found whole.
struct Opened {
    tree: Arc<dyn Tree>,
    high_water: HighWater,
    log: Log,
    group: Option<GroupId>,
    identity: Identity,
    garbage: VecDeque<KeyRange>,
    lock: Lock,
}

impl Opened {
    async fn check(volume: Volume, name: &str) -> Result<Self, OpenError> {
        let mut high_water = HighWater::open(volume.page)?;
        let tree = volume.tree;
        let identity = match format::read(&*tree, name)? {
            Some(_) if high_water.is_new() => {
                return Err(OpenError::Damaged(
                    "the high-water mark (the file `fence`) is missing".into(),
                ));
            }
            Some(identity) => identity,
            None => create(&*tree, &mut high_water, name).await?,
        };
        let log = read_log(&*tree)?;
        let mark = Mark {
            vote: log.vote,
            last: log.last,
            purged: log.purged,
        };
        if let Some(lost) = mark.lost_since(&high_water.mark()) {
            return Err(OpenError::Behind(lost));
        }
        high_water.write(mark)?;
        remove_unfinished_chunks(&*tree)?;
        Ok(Self {
            group: format::read_group(&*tree)?,
            garbage: garbage(&*tree, &log)?,
            tree,
            high_water,
            log,
            identity,
            lock: volume.lock,
        })
    }

    fn start(self, blocking: Arc<dyn Blocking>) -> Result<Store, OpenError> {
        let shared = Arc::new(Shared {
            tree: RwLock::new(Some(Arc::clone(&self.tree))),
            log: RwLock::new(self.log),
            group: RwLock::new(self.group),
            failure: watch::Sender::new(None),
            snapshot: Mutex::new(()),
            lock: RwLock::new(Some(self.lock)),
        });
        let (ops, queued) = mpsc::channel(QUEUE_MAX);
        let writer = Writer::new(
            Arc::clone(&shared),
            self.tree,
            self.high_water,
            self.garbage,
        );
        let (sender, ended) = oneshot::channel();
        let work = async move {
            writer.run(queued).await;
            drop(sender);
        };
        blocking.drive("raft-writer", Box::pin(work))?;
        Ok(Store {
            shared,
            queue: Queue { ops },
            identity: self.identity,
            writer: std::sync::Mutex::new(Some(ended)),
            blocking,
        })
    }
}

/// Writes the header of new data. The high-water mark comes first: data with a header must always
/// have one.
async fn create(
    tree: &dyn Tree,
    high_water: &mut HighWater,
    name: &str,
) -> Result<Identity, OpenError> {
    if let Some(lost) = Mark::default().lost_since(&high_water.mark()) {
        return Err(OpenError::Behind(lost));
    }
    high_water.write(Mark::default())?;
    high_water.sync().await?;
    let identity = format::write(tree, name)?;
    tree.flush().await?;
    Ok(identity)
}

/// Reads every entry once: what is damaged or missing must be known now, not when it is needed.
fn read_log(tree: &dyn Tree) -> Result<Log, OpenError> {
    let log_id = |key| -> Result<Option<LogId>, OpenError> {
        let record = keyspace::read(tree, key)?;
        let record = record.map(|bytes| store::LogId::decode(&*bytes));
        let id = record.transpose().map_err(io::Error::other)?;
        Ok(id
            .map(LogId::try_from)
            .transpose()
            .map_err(io::Error::from)?)
    };
    let vote = keyspace::read(tree, meta::VOTE)?
        .map(|bytes| store::Vote::decode(&*bytes).map_err(io::Error::other))
        .transpose()?
        .map(|record| Vote::try_from(record).map_err(io::Error::from))
        .transpose()?;
    let purged = log_id(meta::PURGED)?;
    let mut log = Log {
        purged,
        last: purged,
        vote,
        committed: log_id(meta::COMMITTED)?,
        ..Log::default()
    };
    let first = purged.map_or(0, |purged| purged.index + 1);
    let mut reader = EntryReader::default();
    for item in tree.range((keyspace::log_key(first, 0), keyspace::log_end())) {
        let (key, value) = item?;
        let Some((index, bytes)) = reader.push(&key, &value)? else {
            continue;
        };
        let entry = codec::decode_entry(&bytes).map_err(io::Error::from)?;
        let expected = log.last.map_or(0, |last| last.index + 1);
        if entry.log_id.index != index || index != expected {
            return Err(OpenError::Damaged(format!(
                "log entry {expected} is missing"
            )));
        }
        log.insert(entry, bytes.len(), 0);
        log.shrink();
    }
    if !reader.is_whole() {
        return Err(OpenError::Damaged("the last log entry is not whole".into()));
    }
    Ok(log)
}

/// What an earlier process did not come to remove.
fn garbage(tree: &dyn Tree, log: &Log) -> Result<VecDeque<KeyRange>, OpenError> {
    let mut garbage = VecDeque::new();
    if let Some(purged) = log.purged {
        garbage.push_back((
            keyspace::log_key(0, 0),
            keyspace::log_key(purged.index + 1, 0),
        ));
    }
    let current = snapshots::read_record(tree)?.map_or(0, |record| record.snapshot_number);
    garbage.push_back((
        keyspace::snapshot_key(0, 0),
        keyspace::snapshot_key(current, 0),
    ));
    Ok(garbage)
}

/// Removes the chunks of a snapshot that was never finished. At once: the next snapshot takes the
/// same number.
fn remove_unfinished_chunks(tree: &dyn Tree) -> Result<(), OpenError> {
    let current = snapshots::read_record(tree)?.map_or(0, |record| record.snapshot_number);
    let unfinished = (
        keyspace::snapshot_key(current + 1, 0),
        keyspace::snapshot_end(),
    );
    let mut batch = WriteBatch::default();
    for key in tree.keys(unfinished) {
        batch.remove(key?);
    }
    Ok(tree.apply(batch)?)
}
