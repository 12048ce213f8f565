//! A crash at any point of any sequence of writes loses nothing that was acknowledged, and brings
//! back nothing that was removed. On a simulated disk, with the writer that ships.

use std::{io, ops::RangeInclusive, path::Path, sync::Arc, time::Duration};

use futures::future::{join, join_all};
use openraft::{
    RaftLogReader as _,
    entry::RaftEntry as _,
    storage::{IOFlushed, RaftLogStorage as _},
    type_config::TypeConfigExt as _,
    vote::RaftLeaderId as _,
};
use proptest::{
    bool::weighted,
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest},
};

use super::{Crash, InMemory, LogStore, OpenError, Store};
use crate::{
    blocking::InTurn,
    domain::{
        cluster::Condition,
        command::Command,
        id::{ClusterId, Epoch, ReplicaId, ShardId, UnixMillis},
    },
    raft::types::{
        Entry, LeaderId, LogId, Request, SnapshotMeta, StoredMembership, TypeConfig, Vote,
    },
};

/// The times of a disk that is not fast.
const LATENCY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(9);

/// Bytes of snapshots, in turn: the last takes two writes.
const SNAPSHOT_BYTES: [usize; 3] = [8, 8_000, 320_000];

/// Something to write, relative to what the log has.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many entries.
    Append(u64),
    /// A vote in the next term.
    Vote,
    /// Remove so many of the last entries.
    Truncate(usize),
    /// Remove all but so many of the last entries.
    Purge(usize),
    /// Remove all, and so many that are not there yet: what a snapshot stands for.
    PurgeBeyond(u64),
}

/// What is written at the same time.
#[derive(Clone, Debug)]
struct Burst {
    steps: Vec<Step>,
    saves_committed: bool,
    saves_snapshot: bool,
}

/// The life of one process.
#[derive(Clone, Debug)]
struct Round {
    bursts: Vec<Burst>,
    crash: Crash,
    /// The operation of the disk that crashes instead. Where there are fewer, the process crashes
    /// after the last burst.
    crash_in: u64,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6_u64).prop_map(Step::Append),
        3 => Just(Step::Vote),
        3 => (1..8_usize).prop_map(Step::Truncate),
        2 => (0..8_usize).prop_map(Step::Purge),
        1 => (0..4_u64).prop_map(Step::PurgeBeyond),
    ]
}

fn any_burst() -> impl Strategy<Value = Burst> {
    (vec(any_step(), 1..5), any::<bool>(), weighted(0.2)).prop_map(
        |(steps, saves_committed, saves_snapshot)| Burst {
            steps,
            saves_committed,
            saves_snapshot,
        },
    )
}

fn any_round() -> impl Strategy<Value = Round> {
    let crash = prop_oneof![Just(Crash::Process), Just(Crash::Power)];
    (vec(any_burst(), 0..8), crash, 1..100_u64).prop_map(|(bursts, crash, crash_in)| Round {
        bursts,
        crash,
        crash_in,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_was_acknowledged_survives_a_crash_at_any_point(
        seed in any::<u64>(),
        takes_time in any::<bool>(),
        rounds in vec(any_round(), 1..4),
    ) {
        let disk = InMemory::new(seed);
        let disk = if takes_time { disk.with_latency(LATENCY) } else { disk };
        in_simulated_time(crash_again_and_again(&disk, &rounds));
    }

    #[test]
    fn a_torn_batch_loses_nothing_that_was_acknowledged_or_is_noticed(
        seed in any::<u64>(),
        round in any_round(),
    ) {
        let disk = InMemory::new(seed).with_torn_batches();
        in_simulated_time(crash_once_and_tear(&disk, &round));
    }
}

fn in_simulated_time(work: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work);
}

async fn crash_again_and_again(disk: &InMemory, rounds: &[Round]) {
    let mut expected = Expected::default();
    for round in rounds {
        expected.live(disk, round).await;
    }
    let store = open(disk).await.expect("nothing crashes any more");
    assert!(expected.settle(&store).await, "nothing crashes any more");
    store.close().await;
}

async fn crash_once_and_tear(disk: &InMemory, round: &Round) {
    let mut expected = Expected::default();
    expected.live(disk, round).await;
    let Ok(store) = try_open(disk).await else {
        return;
    };
    let found = read(&store).await.unwrap();
    assert!(expected.allows(&found), "{found:?} after {expected:?}");
    let snapshot = snapshot_of(&store).await.unwrap();
    assert!(expected.snapshots.contains(&snapshot), "{snapshot}");
}

async fn try_open(disk: &InMemory) -> Result<Store, OpenError> {
    let dir = Path::new("data");
    Store::open(disk, dir, "replica-0", Arc::new(InTurn)).await
}

/// `None` where it crashes meanwhile. The data must never be refused.
async fn open(disk: &InMemory) -> Option<Store> {
    match try_open(disk).await {
        Ok(store) => Some(store),
        Err(OpenError::Io(_)) => None,
        Err(refused) => panic!("the data is refused: {refused}"),
    }
}

/// What was read; `None` where the disk has crashed meanwhile. Nothing else may go wrong.
fn unless_crashed<T>(read: io::Result<T>) -> Option<T> {
    use io::ErrorKind::{BrokenPipe, NotConnected};
    match read {
        Ok(read) => Some(read),
        Err(error) if matches!(error.kind(), BrokenPipe | NotConnected) => None,
        Err(error) => panic!("the data cannot be read: {error}"),
    }
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, 1), index)
}

/// An entry whose content follows from its place; some take several chunks.
fn entry(id: LogId) -> Entry {
    let shard = ShardId {
        cluster: ClusterId(id.index),
        slice: 0,
    };
    let length = usize::try_from(id.index * 7_919 % 10_007).unwrap();
    let command = Command::ReportHealth {
        shard,
        epoch: Epoch(id.leader_id.term),
        condition: Condition::Degraded,
        reason: "x".repeat(length),
        at: UnixMillis(id.index),
    };
    Entry::new_normal(id, Request(command))
}

/// A snapshot whose content follows from its number.
fn snapshot(number: u64) -> (SnapshotMeta, Vec<u8>) {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(1, number)),
        last_membership: StoredMembership::default(),
    };
    let place = usize::try_from(number).unwrap() % SNAPSHOT_BYTES.len();
    let number = number.to_be_bytes();
    (meta, number.repeat(SNAPSHOT_BYTES[place] / number.len()))
}

/// The vote and the log.
#[derive(Clone, Debug, Default, PartialEq)]
struct Logged {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: Vec<LogId>,
}

/// A write that a store is asked for.
enum Write {
    Append(Vec<LogId>),
    Vote(Vote),
    Truncate(Option<LogId>),
    Purge(LogId),
}

impl Logged {
    fn term(&self) -> u64 {
        self.vote.map_or(1, |vote| vote.leader_id.term)
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last().copied().or(self.purged)
    }

    fn next_index(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    /// What a step is here, and what it leads to; `None` where it would change nothing.
    fn after(&self, step: Step) -> Option<(Write, Self)> {
        let mut next = self.clone();
        let write = match step {
            Step::Append(count) => {
                let indexes = self.next_index()..self.next_index() + count;
                let added: Vec<_> = indexes.map(|index| log_id(self.term(), index)).collect();
                next.entries.extend(&added);
                Write::Append(added)
            }
            Step::Vote => {
                let vote = Vote::new_committed(self.term() + 1, 1);
                next.vote = Some(vote);
                Write::Vote(vote)
            }
            Step::Truncate(count) => {
                let kept = self.entries.len().checked_sub(count)?;
                next.entries.truncate(kept);
                Write::Truncate(next.last())
            }
            Step::Purge(kept) => {
                let count = self.entries.len().checked_sub(kept)?;
                let upto = *self.entries[..count].last()?;
                next.entries.drain(..count);
                next.purged = Some(upto);
                Write::Purge(upto)
            }
            Step::PurgeBeyond(ahead) => {
                let upto = log_id(self.term(), self.next_index() + ahead);
                next.entries.clear();
                next.purged = Some(upto);
                Write::Purge(upto)
            }
        };
        Some((write, next))
    }
}

/// Whether the write was acknowledged.
async fn write(mut log: LogStore, write: Write) -> bool {
    match write {
        Write::Append(ids) => {
            let (done, outcome) = TypeConfig::oneshot();
            let entries = ids.into_iter().map(entry);
            let queued = log.append(entries, IOFlushed::signal(done)).await;
            queued.is_ok() && matches!(outcome.await, Ok(Ok(())))
        }
        Write::Vote(vote) => log.save_vote(&vote).await.is_ok(),
        Write::Truncate(last) => log.truncate_after(last).await.is_ok(),
        Write::Purge(upto) => log.purge(upto).await.is_ok(),
    }
}

async fn read(store: &Store) -> io::Result<Logged> {
    let mut log = store.log_store();
    let state = log.get_log_state().await?;
    let mut reader = log.get_log_reader().await;
    let entries = reader.try_get_log_entries(..).await?;
    for found in &entries {
        assert_eq!(*found, entry(found.log_id));
    }
    let logged = Logged {
        vote: reader.read_vote().await?,
        purged: state.last_purged_log_id,
        entries: entries.iter().map(|entry| entry.log_id).collect(),
    };
    assert_eq!(logged.last(), state.last_log_id);
    Ok(logged)
}

/// The number of the current snapshot; 0 where there is none.
async fn snapshot_of(store: &Store) -> io::Result<u64> {
    let Some((meta, bytes)) = store.snapshots().load().await? else {
        return Ok(0);
    };
    let number = meta.last_log_id.unwrap().index;
    assert_eq!(snapshot(number), (meta, bytes.to_vec()));
    Ok(number)
}

/// What may be found on the disk.
#[derive(Debug)]
struct Expected {
    /// What is acknowledged, then what each write that is not makes of it, in order. Never empty.
    logged: Vec<Logged>,
    /// The snapshot that is acknowledged, to the one that is not.
    snapshots: RangeInclusive<u64>,
    /// What was ever committed.
    committed: Vec<Option<LogId>>,
    replica: Option<ReplicaId>,
}

impl Default for Expected {
    fn default() -> Self {
        Self {
            logged: vec![Logged::default()],
            snapshots: 0..=0,
            committed: vec![None],
            replica: None,
        }
    }
}

impl Expected {
    /// Starts a process, which writes until it crashes.
    async fn live(&mut self, disk: &InMemory, round: &Round) {
        let crashes = disk.crashes();
        disk.crash_in(round.crash_in, round.crash);
        let has_written = self.start_and_write(disk, &round.bursts).await;
        let may_end = has_written || disk.crashes() > crashes;
        assert!(may_end, "the store failed, and the disk did not");
        disk.crash(round.crash);
    }

    /// False where the disk crashes.
    async fn start_and_write(&mut self, disk: &InMemory, bursts: &[Burst]) -> bool {
        let Some(store) = open(disk).await else {
            return false;
        };
        if !self.settle(&store).await {
            return false;
        }
        for burst in bursts {
            if !self.write(&store, burst).await {
                return false;
            }
        }
        true
    }

    /// Checks what a process finds at its start, which is durable then; false where it crashes.
    async fn settle(&mut self, store: &Store) -> bool {
        let replica = store.replica_id();
        assert_eq!(*self.replica.get_or_insert(replica), replica);
        let Some(found) = unless_crashed(read(store).await) else {
            return false;
        };
        assert!(self.logged.contains(&found), "{found:?} after {self:?}");
        self.logged = vec![found];
        let committed = store.log_store().read_committed().await;
        assert!(self.committed.contains(&committed.unwrap()));
        let Some(snapshot) = unless_crashed(snapshot_of(store).await) else {
            return false;
        };
        assert!(
            self.snapshots.contains(&snapshot),
            "{snapshot} after {self:?}"
        );
        self.snapshots = snapshot..=snapshot;
        true
    }

    /// Writes all of a burst at the same time; false where it crashes.
    async fn write(&mut self, store: &Store, burst: &Burst) -> bool {
        let mut logged = self.logged.clone();
        let mut writing = Vec::new();
        for step in &burst.steps {
            if let Some((asked, next)) = logged.last().and_then(|last| last.after(*step)) {
                writing.push(write(store.log_store(), asked));
                logged.push(next);
            }
        }
        if burst.saves_committed {
            let committed = self.logged[0].last();
            self.committed.push(committed);
            // Nobody waits for it.
            drop(store.log_store().save_committed(committed).await);
        }
        let saving = self.save_snapshot(store, burst.saves_snapshot);
        let (written, is_saved) = join(join_all(writing), saving).await;
        let acknowledged = written.iter().take_while(|written| **written).count();
        let in_order = !written[acknowledged..].contains(&true);
        assert!(in_order, "acknowledged out of order: {written:?}");
        self.logged = logged.split_off(acknowledged);
        self.logged.len() == 1 && is_saved
    }

    /// Saves the next snapshot, if it is asked for.
    async fn save_snapshot(&mut self, store: &Store, is_asked: bool) -> bool {
        if !is_asked {
            return true;
        }
        let number = self.snapshots.end() + 1;
        self.snapshots = *self.snapshots.start()..=number;
        let (meta, bytes) = snapshot(number);
        let is_saved = store.snapshots().save(&meta, &bytes).await.is_ok();
        if is_saved {
            self.snapshots = number..=number;
        }
        is_saved
    }

    /// Whether this has the vote, and every entry that no write on its way removes.
    fn allows(&self, found: &Logged) -> bool {
        let mut votes = self.logged.iter().map(|logged| logged.vote);
        let stays = |id: &&LogId| self.logged.iter().all(|logged| logged.entries.contains(id));
        let mut entries = self.logged[0].entries.iter().filter(stays);
        votes.any(|vote| vote == found.vote)
            && entries.all(|id| found.entries.contains(id) || found.purged >= Some(*id))
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_store_and_room_brings_back_what_was_acknowledged() {
    let disk = InMemory::new(0);
    let store = open(&disk).await.unwrap();
    assert!(write(store.log_store(), Write::Append(vec![log_id(1, 0)])).await);
    disk.set_full(true);
    assert!(!write(store.log_store(), Write::Append(vec![log_id(1, 1)])).await);
    assert_eq!(store.failed().await.kind(), io::ErrorKind::StorageFull);
    store.close().await;

    disk.set_full(false);
    let store = open(&disk).await.unwrap();
    let found = read(&store).await.unwrap().entries;
    assert!(found.starts_with(&[log_id(1, 0)]), "{found:?}");
    assert!(write(store.log_store(), Write::Vote(Vote::new_committed(2, 1))).await);
    store.close().await;
}
