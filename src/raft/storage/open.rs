//! Opening the data: locks, cleans, opens, checks, and only then starts the writer.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    thread,
    time::Duration,
};

use prost::Message as _;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::{
    Identity, Log, LogStore, OpenError, Queue, Shared, WriterEnd, format,
    high_water::{HighWater, Mark},
    keyspace::{self, EntryReader, KeyRange, meta},
    sled_error,
    snapshots::{self, Snapshots},
    writer::{Op, QUEUE_MAX, Writer},
};
use crate::{
    blocking::Blocking,
    domain::id::{GroupId, ReplicaId},
    panics::catch,
    proto::store::v1 as store,
    raft::{
        codec,
        types::{LogId, Vote},
    },
};

/// sled's page cache; its default is 1 GiB, our data a few MB.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// sled lets go of its files a moment after its last handle is dropped, which matters to a replica
/// that is started again within one process.
const SLED_LOCK_TRIES: u32 = 100;
const SLED_LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The open data of one replica.
pub struct Store {
    shared: Arc<Shared>,
    queue: Queue,
    identity: Identity,
    writer: WriterEnd,
    blocking: Arc<dyn Blocking>,
}

impl Store {
    /// Opens the data of replica `name`, or creates it if it does not exist. Blocks.
    pub fn open(
        data_dir: &Path,
        name: &str,
        blocking: Arc<dyn Blocking>,
    ) -> Result<Self, OpenError> {
        let dir = make_directories(data_dir)?;
        let lock_file = lock(&dir)?;
        let log_dir = dir.join("log");
        remove_unfinished_snapshots(&log_dir)?;
        let db = open_sled(&log_dir)?;
        // From here on everything is read once and checked, on this thread.
        let opened = catch(|| Opened::check(db, &dir, name));
        let opened = opened.unwrap_or_else(|panic| Err(OpenError::Damaged(panic.message)))?;
        opened.start(lock_file, blocking)
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
    db: sled::Db,
    tree: sled::Tree,
    data_file: File,
    high_water: HighWater,
    log: Log,
    group: Option<GroupId>,
    identity: Identity,
    garbage: VecDeque<KeyRange>,
}

impl Opened {
    fn check(db: sled::Db, dir: &Path, name: &str) -> Result<Self, OpenError> {
        let tree = db.open_tree(b"raft").map_err(sled_error)?;
        let mut high_water = HighWater::open(&dir.join("fence"))?;
        let data_file = File::open(dir.join("log").join("db"))?;
        // A process that was killed may have left a vote or entries that only the kernel has. What is
        // read below is relied on without being written again: a loss of power must not take it back.
        data_file.sync_data()?;
        sync_directories(dir)?;
        let identity = match format::read(&tree, name)? {
            Some(_) if high_water.is_new() => {
                return Err(OpenError::Damaged(
                    "the high-water mark (the file `fence`) is missing".into(),
                ));
            }
            Some(identity) => identity,
            None => {
                if let Some(lost) = Mark::default().lost_since(&high_water.mark()) {
                    return Err(OpenError::Behind(lost));
                }
                // The high-water mark first: data with a header must always have one.
                high_water.write(Mark::default())?;
                high_water.sync()?;
                let identity = format::write(&tree, name)?;
                db.flush().map_err(sled_error)?;
                data_file.sync_data()?;
                identity
            }
        };
        let log = read_log(&tree)?;
        let mark = Mark {
            vote: log.vote,
            last: log.last,
            purged: log.purged,
        };
        if let Some(lost) = mark.lost_since(&high_water.mark()) {
            return Err(OpenError::Behind(lost));
        }
        high_water.write(mark)?;
        remove_unfinished_chunks(&tree)?;
        Ok(Self {
            group: format::read_group(&tree)?,
            garbage: garbage(&tree, &log)?,
            db,
            tree,
            data_file,
            high_water,
            log,
            identity,
        })
    }

    fn start(self, lock_file: File, blocking: Arc<dyn Blocking>) -> Result<Store, OpenError> {
        let shared = Arc::new(Shared {
            tree: RwLock::new(Some(self.tree.clone())),
            log: RwLock::new(self.log),
            group: RwLock::new(self.group),
            failure: watch::Sender::new(None),
            snapshot: Mutex::new(()),
            lock_file: RwLock::new(Some(lock_file)),
        });
        let (ops, queued) = mpsc::channel(QUEUE_MAX);
        let writer = Writer::new(
            Arc::clone(&shared),
            (self.db, self.tree),
            self.data_file,
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

/// Makes `<data_dir>/raft` and `<data_dir>/raft/log`, readable by nobody else.
fn make_directories(data_dir: &Path) -> Result<PathBuf, OpenError> {
    let dir = data_dir.join("raft");
    let make = || {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir.join("log"))?;
        // A volume's own directory may belong to another user; its content is ours.
        drop(fs::set_permissions(data_dir, Permissions::from_mode(0o700)));
        fs::set_permissions(&dir, Permissions::from_mode(0o700))
    };
    make().map_err(OpenError::Directory)?;
    Ok(dir)
}

/// Our own lock, taken before anything in the directory is touched: sled's comes too late for
/// [`remove_unfinished_snapshots`].
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(OpenError::Directory)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(OpenError::InUse(holder(&file))),
        Err(fs::TryLockError::Error(error)) => return Err(OpenError::Directory(error)),
    }
    // Who has it, for the message to the next one. A lock without a number is as good.
    let text = std::process::id().to_string();
    drop(
        file.set_len(0)
            .and_then(|()| file.write_all_at(text.as_bytes(), 0)),
    );
    Ok(file)
}

/// The id of the process that holds the lock, if it recorded one.
fn holder(file: &File) -> Option<u32> {
    let mut bytes = [0; 16];
    let length = file.read_at(&mut bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..length]).ok()?.parse().ok()
}

/// sled takes a `snap.*.generating` that a killed open left behind for its newest snapshot, and
/// then never opens again (sled #1527). The log is what counts; these files are only a short cut.
fn remove_unfinished_snapshots(log_dir: &Path) -> Result<(), OpenError> {
    for item in fs::read_dir(log_dir)? {
        let item = item?;
        let name = item.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::info!(file = %name, "removing an unfinished snapshot of the store");
            fs::remove_file(item.path())?;
        }
    }
    Ok(())
}

fn open_sled(log_dir: &Path) -> Result<sled::Db, OpenError> {
    let config = sled::Config::new()
        .path(log_dir)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    for _ in 0..SLED_LOCK_TRIES {
        let config = config.clone();
        // sled panics on some kinds of damage, and may leave its thread's state in disorder.
        let opened = thread::Builder::new()
            .name("open-store".into())
            .spawn(move || catch(|| config.open()))?
            .join();
        let Ok(opened) = opened else {
            return Err(OpenError::Damaged("opening it did not end".into()));
        };
        match opened {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(error))) if error.to_string().contains("acquire lock") => {
                thread::park_timeout(SLED_LOCK_PAUSE);
            }
            Ok(Err(error)) => return Err(sled_error(error).into()),
            Err(panic) => return Err(OpenError::Damaged(panic.message)),
        }
    }
    Err(OpenError::InUse(None))
}

/// Reads every entry once: what is damaged or missing must be known now, not when it is needed.
fn read_log(tree: &sled::Tree) -> Result<Log, OpenError> {
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
    for item in tree.range(keyspace::log_key(first, 0)..keyspace::log_end()) {
        let (key, value) = item.map_err(sled_error)?;
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
fn garbage(tree: &sled::Tree, log: &Log) -> Result<VecDeque<KeyRange>, OpenError> {
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
fn remove_unfinished_chunks(tree: &sled::Tree) -> Result<(), OpenError> {
    let current = snapshots::read_record(tree)?.map_or(0, |record| record.snapshot_number);
    let unfinished = keyspace::snapshot_key(current + 1, 0)..keyspace::snapshot_end();
    for key in tree.range(unfinished).keys() {
        tree.remove(key.map_err(sled_error)?).map_err(sled_error)?;
    }
    Ok(())
}

/// A new file is found again after a loss of power only if its directory is synced too.
fn sync_directories(dir: &Path) -> io::Result<()> {
    let log_dir = dir.join("log");
    File::open(log_dir.join("conf"))?.sync_all()?;
    for directory in [log_dir.as_path(), dir, dir.parent().unwrap_or(dir)] {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
