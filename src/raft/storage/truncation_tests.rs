//! Entries that are removed are removed whole, whatever ends the process meanwhile.

use std::{
    fmt, fs,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use openraft::{
    RaftLogReader as _, entry::RaftEntry as _, storage::IOFlushed, storage::RaftLogStorage as _,
    type_config::TypeConfigExt as _, vote::RaftLeaderId as _,
};
use tempfile::TempDir;

use super::{
    Crash, Disk, Files, InMemory, LogStore, OpenError, Store, Volume,
    files::{self, SledTree},
    keyspace,
};
use crate::{
    blocking::{Blocking, InTurn, Threads},
    domain::{
        cluster::Condition,
        command::Command,
        id::{ClusterId, Epoch, ShardId, UnixMillis},
    },
    raft::types::{Entry, LeaderId, LogId, Request, TypeConfig},
};

/// Changes by which a subscriber of sled may be behind. Then sled waits.
const UNSEEN_MAX: usize = 1024;

/// How long sled may take to write what it has, where nothing holds it up.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// Files, with access to the tree that was opened last.
#[derive(Default)]
struct Watched(Mutex<Option<Arc<SledTree>>>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl Disk for Watched {
    fn open(&self, data_dir: &Path) -> Result<Volume, OpenError> {
        let (tree, page, lock) = files::open(data_dir)?;
        *self.0.lock().unwrap() = Some(Arc::clone(&tree));
        Ok(Volume {
            tree,
            page: Box::new(page),
            lock: Box::new(lock),
        })
    }
}

async fn open(disk: &dyn Disk, dir: &Path, blocking: impl Blocking) -> Store {
    let opened = Store::open(disk, dir, "replica-0", Arc::new(blocking)).await;
    opened.unwrap()
}

fn entry(index: u64, bytes: usize) -> Entry {
    let shard = ShardId {
        cluster: ClusterId(index),
        slice: 0,
    };
    let command = Command::ReportHealth {
        shard,
        epoch: Epoch(1),
        condition: Condition::Degraded,
        reason: "x".repeat(bytes),
        at: UnixMillis(index),
    };
    Entry::new_normal(log_id(index), Request(command))
}

fn log_id(index: u64) -> LogId {
    LogId::new(LeaderId::new(1, 1), index)
}

async fn append(log: &mut LogStore, entries: Vec<Entry>) {
    let (done, outcome) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(done)).await.unwrap();
    outcome.await.unwrap().unwrap();
}

async fn entries_in(store: &Store) -> Vec<u64> {
    let mut reader = store.log_store().get_log_reader().await;
    let entries = reader.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| entry.log_id.index).collect()
}

fn copy_files(from: &Path, to: &Path) {
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_files(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_crash_while_an_entry_of_many_chunks_is_removed_leaves_it_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let disk = Watched::default();
    let store = open(&disk, dir.path(), Threads).await;
    let mut log = store.log_store();
    let long = keyspace::CHUNK_BYTES * (UNSEEN_MAX + 200);
    append(&mut log, vec![entry(0, 10), entry(1, long)]).await;

    // The removal cannot pass over what is not seen, and so stops inside the entry.
    let tree = disk.0.lock().unwrap().take().unwrap().tree.clone();
    let mut changes = tree.watch_prefix(&keyspace::log_key(1, 0)[..9]);
    let truncating = tokio::spawn(async move { log.truncate_after(Some(log_id(0))).await });
    let changes = tokio::task::spawn_blocking(move || changes.next().map(|_| changes));
    let changes = changes.await.unwrap().unwrap();
    assert!(!truncating.is_finished());
    let (sender, flushed) = mpsc::channel();
    thread::spawn(move || sender.send(tree.flush()));
    // Sled waits for the end of a batch before it writes any of it.
    let _ = flushed.recv_timeout(FLUSH_WITHIN);
    let copy = TempDir::new().unwrap();
    copy_files(dir.path(), copy.path());

    // Only what is seen lets the removal end.
    let seeing = thread::spawn(move || changes.count());
    truncating.await.unwrap().unwrap();
    assert_eq!(entries_in(&store).await, [0]);
    store.close().await;
    drop(store);
    let seen = tokio::task::spawn_blocking(move || seeing.join());
    assert!(seen.await.unwrap().unwrap() > UNSEEN_MAX);

    let crashed = open(&Files, copy.path(), Threads).await;
    let left = entries_in(&crashed).await;
    assert!(left == [0] || left == [0, 1], "{left:?}");
    crashed.close().await;
}

#[tokio::test]
async fn a_crash_while_a_part_of_what_was_just_appended_is_removed_is_no_damage() {
    let dir = Path::new("data");
    for (operation, crash) in (1..16).flat_map(|n| [(n, Crash::Process), (n, Crash::Power)]) {
        let disk = InMemory::new(operation);
        let store = open(&disk, dir, InTurn).await;
        let mut log = store.log_store();
        append(&mut log, vec![entry(0, 10)]).await;
        disk.crash_in(operation, crash);
        // Nothing is waited for in between, so that both are written together.
        let appended = (1..=3).map(|index| entry(index, 10));
        log.append(appended, IOFlushed::noop()).await.unwrap();
        drop(log.truncate_after(Some(log_id(2))).await);
        disk.crash(crash);

        let left = entries_in(&open(&disk, dir, InTurn).await).await;
        let is_possible = matches!(left[..], [0] | [0, 1, 2] | [0, 1, 2, 3]);
        assert!(is_possible, "operation {operation}, {crash:?}: {left:?}");
    }
}
