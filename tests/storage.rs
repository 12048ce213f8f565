//! The store on both disks: openraft's own suite, and restarts. On files: what is left of it after
//! damage and a kill. Crashes of the other disk are in `src/raft/storage/crash_tests.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command as Process, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use openraft::{
    EntryPayload, RaftLogReader as _, StorageError,
    entry::RaftEntry as _,
    storage::{IOFlushed, RaftLogStorage as _},
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt as _,
    vote::RaftLeaderId as _,
};
use quorumwatch::{
    blocking::{Blocking, InTurn, Threads},
    domain::{
        cluster::Condition,
        command::Command,
        id::{ClusterId, Epoch, ShardId, UnixMillis},
    },
    raft::{
        state_machine::{Published, StateMachine},
        storage::{Disk, Files, InMemory, LogStore, OpenError, Store},
        types::{Entry, LeaderId, LogId, Request, TypeConfig, Vote},
    },
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;

/// Set for the child: the directory to write to.
const CHILD_DIR: &str = "QUORUMWATCH_TEST_CHILD_DIR";
const CHILD_SEED: &str = "QUORUMWATCH_TEST_CHILD_SEED";
/// How many times a child is killed; more than the default for a long run.
const ROUNDS: &str = "QUORUMWATCH_TEST_KILLS";
/// Makes the kills come as in the run that has printed it.
const SEED: &str = "SEED";

/// The disk that ships, and the simulated one.
const DISKS: [fn() -> Arc<dyn Disk>; 2] = [files, in_memory];

fn files() -> Arc<dyn Disk> {
    Arc::new(Files)
}

fn in_memory() -> Arc<dyn Disk> {
    Arc::new(InMemory::new(0))
}

/// Makes each store on a new disk.
struct Builder(fn() -> Arc<dyn Disk>);

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let store = Arc::new(open_on(&*(self.0)(), dir.path(), Threads).await);
        let log = store.log_store();
        let machine = StateMachine::load(store, Published::new(), Arc::default())
            .await
            .unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_passes_the_suite_of_openraft() {
    for disk in DISKS {
        Suite::test_all(Builder(disk)).await.unwrap();
    }
}

async fn open_on(disk: &dyn Disk, dir: &Path, blocking: impl Blocking) -> Store {
    let opened = Store::open(disk, dir, "replica-0", Arc::new(blocking)).await;
    opened.unwrap_or_else(|error| panic!("{disk:?}: {error}"))
}

async fn open(dir: &Path, name: &str) -> Result<Store, OpenError> {
    Store::open(&Files, dir, name, Arc::new(Threads)).await
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, 1), index)
}

/// An entry whose content follows from its place; some take several chunks.
fn entry(term: u64, index: u64) -> Entry {
    let length = usize::try_from(index * 7_919 % 10_007).unwrap();
    Entry::new_normal(
        log_id(term, index),
        Request(Command::ReportHealth {
            shard: ShardId {
                cluster: ClusterId(index),
                slice: 0,
            },
            epoch: Epoch(term),
            condition: Condition::Degraded,
            reason: "x".repeat(length),
            at: UnixMillis(index),
        }),
    )
}

async fn append(log: &mut LogStore, entries: Vec<Entry>) {
    let (done, outcome) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(done)).await.unwrap();
    outcome.await.unwrap().unwrap();
}

/// Where the log begins and ends; panics where an entry is missing or not what was written.
async fn check_log(log: &mut LogStore) -> (u64, u64) {
    let state = log.get_log_state().await.unwrap();
    let first = state.last_purged_log_id.map_or(0, |id| id.index + 1);
    let end = state.last_log_id.map_or(0, |id| id.index + 1);
    let mut reader = log.get_log_reader().await;
    let entries = reader.try_get_log_entries(..).await.unwrap();
    let places: Vec<u64> = entries.iter().map(|e| e.log_id.index).collect();
    assert_eq!(places, (first..end).collect::<Vec<_>>());
    for read in &entries {
        assert_eq!(*read, entry(read.log_id.leader_id.term, read.log_id.index));
    }
    (first, end)
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    for disk in DISKS {
        let dir = TempDir::new().unwrap();
        write_and_restart(&*disk(), dir.path()).await;
    }
}

async fn write_and_restart(disk: &dyn Disk, dir: &Path) {
    let store = open_on(disk, dir, Threads).await;
    let id = store.replica_id();
    let mut log = store.log_store();
    log.save_vote(&Vote::new_committed(3, 1)).await.unwrap();
    append(&mut log, (0..200).map(|n| entry(3, n)).collect()).await;
    log.truncate_after(Some(log_id(3, 149))).await.unwrap();
    append(&mut log, (150..180).map(|n| entry(4, n)).collect()).await;
    log.purge(log_id(3, 20)).await.unwrap();
    log.save_committed(Some(log_id(3, 100))).await.unwrap();
    store.close().await;

    let store = open_on(disk, dir, Threads).await;
    let mut log = store.log_store();
    assert_eq!(store.replica_id(), id);
    assert_eq!(check_log(&mut log).await, (21, 180));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(3, 100)));
    let vote = log.get_log_reader().await.read_vote().await.unwrap();
    assert_eq!(vote, Some(Vote::new_committed(3, 1)));
    store.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_without_threads_of_its_own_works_while_the_clock_stands_still() {
    for disk in DISKS {
        let dir = TempDir::new().unwrap();
        work_in_turn(&*disk(), dir.path()).await;
    }
}

async fn work_in_turn(disk: &dyn Disk, dir: &Path) {
    let store = open_on(disk, dir, InTurn).await;
    let mut log = store.log_store();
    let work = async {
        for round in 0..20 {
            let from = 10 * round;
            append(&mut log, (from..from + 10).map(|n| entry(1, n)).collect()).await;
            log.truncate_after(Some(log_id(1, from + 8))).await.unwrap();
            append(&mut log, vec![entry(1, from + 9)]).await;
        }
        log.purge(log_id(1, 99)).await.unwrap();
        assert_eq!(check_log(&mut log).await, (100, 200));
        store.close().await;
    };
    // The clock jumps there as soon as nothing can be done: work on another thread would not count.
    let worked = tokio::time::timeout(Duration::from_nanos(1), work).await;
    assert!(worked.is_ok(), "something waited for another thread");
}

#[tokio::test]
async fn data_is_refused_to_another_process_or_name_and_readable_by_nobody_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), "replica-0").await.unwrap();
    let second = open(dir.path(), "replica-0").await.err().unwrap();
    assert!(matches!(second, OpenError::InUse(_)), "{second}");
    for path in [dir.path().to_owned(), dir.path().join("raft")] {
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", path.display());
    }
    store.close().await;
    let other = open(dir.path(), "replica-1").await.err().unwrap();
    assert!(
        other
            .to_string()
            .contains("belongs to replica \"replica-0\""),
        "{other}"
    );
}

#[tokio::test]
async fn a_lost_tail_and_a_missing_file_are_noticed() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), "replica-0").await.unwrap();
    let mut log = store.log_store();
    append(&mut log, (0..10).map(|n| entry(1, n)).collect()).await;
    store.close().await;
    // The data as it was before the last entries, beside the fence as it is after them.
    let copy = TempDir::new().unwrap();
    copy_files(dir.path(), copy.path());
    let store = open(dir.path(), "replica-0").await.unwrap();
    let mut log = store.log_store();
    append(&mut log, (10..20).map(|n| entry(1, n)).collect()).await;
    store.close().await;
    let fence = Path::new("raft").join("fence");
    std::fs::copy(dir.path().join(&fence), copy.path().join(&fence)).unwrap();
    let behind = open(copy.path(), "replica-0").await.err().unwrap();
    assert!(matches!(behind, OpenError::Behind(_)), "{behind}");

    std::fs::remove_dir_all(copy.path().join("raft").join("log")).unwrap();
    let empty = open(copy.path(), "replica-0").await.err().unwrap();
    assert!(matches!(empty, OpenError::Behind(_)), "{empty}");

    std::fs::remove_file(dir.path().join(fence)).unwrap();
    let unfenced = open(dir.path(), "replica-0").await.err().unwrap();
    assert!(matches!(unfenced, OpenError::Damaged(_)), "{unfenced}");
}

#[tokio::test]
async fn a_kill_while_sled_opens_does_not_keep_the_data_closed() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), "replica-0").await.unwrap();
    let mut log = store.log_store();
    append(&mut log, (0..10).map(|n| entry(1, n)).collect()).await;
    store.close().await;
    // What sled leaves behind then, and would take for its newest snapshot (sled #1527).
    let log_dir = dir.path().join("raft").join("log");
    let unfinished = log_dir.join("snap.00000000FFFFFFFF.generating");
    std::fs::write(&unfinished, b"torn").unwrap();
    let store = open(dir.path(), "replica-0").await.unwrap();
    assert!(!unfinished.exists());
    assert_eq!(check_log(&mut store.log_store()).await, (0, 10));
    store.close().await;
}

#[tokio::test]
async fn data_of_a_newer_format_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), "replica-0").await.unwrap();
    store.close().await;
    let db = eventually_open_sled(&dir.path().join("raft").join("log"));
    let tree = db.open_tree(b"raft").unwrap();
    let mut sealed = crc32c::crc32c(b"Mformat\0\0\0\x03").to_be_bytes().to_vec();
    sealed.extend([0, 0, 0, 3]);
    tree.insert(b"Mformat", sealed).unwrap();
    db.flush().unwrap();
    drop((tree, db));
    let newer = open(dir.path(), "replica-0").await.err().unwrap();
    assert!(
        matches!(newer, OpenError::NewerFormat { found: 3, known: 2 }),
        "{newer}"
    );
}

/// sled lets go of its lock a moment after it is dropped.
// tidy: this test damages what is below the store
fn eventually_open_sled(path: &Path) -> sled::Db {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        // tidy: as above
        match sled::open(path) {
            Ok(db) => return db,
            Err(error) if Instant::now() > deadline => panic!("{error}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn copy_files(from: &Path, to: &Path) {
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_files(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn flipped_bits_in_the_data_are_an_error_and_never_a_panic() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), "replica-0").await.unwrap();
    let mut log = store.log_store();
    append(&mut log, (0..50).map(|n| entry(1, n)).collect()).await;
    store.close().await;
    let db = dir.path().join("raft").join("log").join("db");
    let whole = std::fs::read(&db).unwrap();
    let mut noticed = 0;
    for place in (0..whole.len()).step_by(whole.len() / 12) {
        let copy = TempDir::new().unwrap();
        copy_files(dir.path(), copy.path());
        let mut bytes = whole.clone();
        for byte in &mut bytes[place..whole.len().min(place + 64)] {
            *byte ^= 0x55;
        }
        std::fs::write(copy.path().join("raft").join("log").join("db"), bytes).unwrap();
        match open(copy.path(), "replica-0").await {
            Err(_) => noticed += 1,
            // The damage hit nothing that is in use.
            Ok(store) => {
                assert_eq!(check_log(&mut store.log_store()).await, (0, 50));
                store.close().await;
            }
        }
    }
    assert!(noticed > 0);
}

/// Writes until it is killed, and prints what is durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as the child of the test below"]
async fn the_child_that_is_killed() {
    let Ok(dir) = env::var(CHILD_DIR) else { return };
    let seed = env::var(CHILD_SEED).unwrap().parse().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let store = open(Path::new(&dir), "replica-0").await.unwrap();
    let mut log = store.log_store();
    let (_, mut end) = check_log(&mut log).await;
    let vote = log.get_log_reader().await.read_vote().await.unwrap();
    let mut term = vote.map_or(1, |vote| vote.leader_id.term);
    say(&format!("opened {end}"));
    loop {
        match random.random_range(0..40) {
            0 => {
                term += 1;
                log.save_vote(&Vote::new_committed(term, 1)).await.unwrap();
                say(&format!("voted {term}"));
            }
            1 if end > 10 => {
                let (first, _) = check_log(&mut log).await;
                let keep = end - random.random_range(1..4);
                if keep > first {
                    term += 1;
                    log.save_vote(&Vote::new_committed(term, 1)).await.unwrap();
                    say(&format!("voted {term}"));
                    say(&format!("truncating {keep}"));
                    let last = id_at(&mut log, keep - 1).await;
                    log.truncate_after(Some(last)).await.unwrap();
                    end = keep;
                }
            }
            2 => {
                let (first, _) = check_log(&mut log).await;
                if first + 100 < end {
                    let upto = id_at(&mut log, end - 100).await;
                    log.purge(upto).await.unwrap();
                    say(&format!("purged {}", upto.index));
                }
            }
            _ => {
                let count = random.random_range(1..6);
                append(
                    &mut log,
                    (end..end + count).map(|n| entry(term, n)).collect(),
                )
                .await;
                end += count;
                say(&format!("end {end}"));
            }
        }
    }
}

async fn id_at(log: &mut LogStore, index: u64) -> LogId {
    let mut reader = log.get_log_reader().await;
    let entries = reader.try_get_log_entries(index..=index).await.unwrap();
    assert!(!matches!(entries[0].payload, EntryPayload::Blank));
    entries[0].log_id
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn say(line: &str) {
    println!("\n{line}");
}

/// What the child said is durable.
#[derive(Debug, Default)]
struct Durable {
    end: u64,
    term: u64,
    purged: Option<u64>,
    opened: bool,
}

impl Durable {
    fn read(&mut self, line: &str) {
        let Some((what, number)) = line.split_once(' ') else {
            return;
        };
        let Ok(number) = number.parse::<u64>() else {
            return;
        };
        match what {
            "opened" => {
                assert!(number >= self.end, "{number} entries of {self:?}");
                self.opened = true;
                self.end = number;
            }
            "end" => self.end = number,
            "truncating" => self.end = self.end.min(number),
            "voted" => self.term = number,
            "purged" => self.purged = Some(number),
            _ => {}
        }
    }
}

/// Starts a child, kills it after `patience`, and reads what it said.
fn kill_a_child(dir: &Path, seed: u64, patience: Duration, durable: &mut Durable) {
    let mut child = Process::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "the_child_that_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD_DIR, dir)
        .env(CHILD_SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (lines, read) = mpsc::sync_channel(1024);
    let reader = std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            lines.send(line).unwrap();
        }
    });
    durable.opened = false;
    let deadline = Instant::now() + patience;
    while let Ok(line) = read.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        durable.read(&line);
    }
    assert!(child.try_wait().unwrap().is_none(), "the child failed");
    child.kill().unwrap();
    child.wait().unwrap();
    for line in read {
        durable.read(&line);
    }
    reader.join().unwrap();
}

#[tokio::test]
async fn nothing_acknowledged_is_missing_after_a_kill() {
    let rounds: u64 = env::var(ROUNDS).map_or(20, |rounds| rounds.parse().unwrap());
    let seed = env::var(SEED).map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    let dir = TempDir::new().unwrap();
    let mut durable = Durable::default();
    let mut opened = 0;
    for round in 0..rounds {
        // Half of the children are killed while they start and open.
        let patience = if round % 2 == 0 { 400 } else { 60 };
        let patience = Duration::from_millis(random.random_range(0..patience));
        kill_a_child(dir.path(), seed.wrapping_add(round), patience, &mut durable);
        opened += u64::from(durable.opened);

        let context = format!("{SEED}={seed}, round {round}, {durable:?}");
        let store = open(dir.path(), "replica-0").await;
        let store = store.unwrap_or_else(|e| panic!("{context}: {e}"));
        let mut log = store.log_store();
        let (first, end) = check_log(&mut log).await;
        assert!(end >= durable.end, "{context}: ends at {end}");
        assert!(
            durable.purged.is_none_or(|p| first > p),
            "{context}: begins at {first}"
        );
        let vote = log.get_log_reader().await.read_vote().await.unwrap();
        let term = vote.map_or(0, |vote| vote.leader_id.term);
        assert!(term >= durable.term, "{context}: term {term}");
        store.close().await;
    }
    assert!(opened > 0, "no child lived long enough to open its data");
}
