//! Agrees. The only module that names openraft; `raft/storage` is the only one that names sled.
//!
//! [`Raft`] is the handle: propose a [`Command`](crate::domain::command::Command), read the
//! [`State`] that came of the commands so far. What the state means is `domain`'s business, who
//! proposes what is the caller's.

mod changes;
pub mod codec;
mod formation;
mod hello;
mod leadership;
mod membership;
mod network;
mod propose;
pub mod protocol;
mod reach;
pub mod service;
pub mod state_machine;
pub mod storage;
pub mod types;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use openraft::{
    Config, Instant as _, Raft as OpenRaft, SnapshotPolicy, async_runtime::WatchReceiver as _,
};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        change::ShardChange,
        id::{Incarnation, ReplicaId, Revision, UnixMillis},
        pace::Pace,
        state::State,
    },
    peer::Channels,
    proto::internal::v1::raft_service_server::RaftServiceServer,
};
pub use changes::{Change, ChangeLog, ClusterChanged, Place, Placed};
pub use formation::FormError;
pub use membership::JoinError;
pub use propose::{ProposeError, Proposed, check_size};
pub use reach::Reach;
use service::Service;
use state_machine::{Published, StateMachine};
use storage::Store;
pub use storage::{OpenError, is_in_use};
use types::TypeConfig;

/// How long the reason for the end of consensus may take to be known.
const CAUSE_WITHIN: Duration = Duration::from_millis(500);

/// The threads that call sled: a panic there is caught and becomes an error, because sled panics on
/// damaged data.
const CATCHING_THREADS: [&str; 2] = ["open-store", "raft-writer"];

/// Whether panics of the thread with this name are caught and become errors.
pub fn catches_panics_of(thread: &str) -> bool {
    CATCHING_THREADS.contains(&thread)
}

/// How a replica takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the data is kept.
    pub data_dir: PathBuf,
    /// This replica's stable name.
    pub name: String,
    /// `host:port` by which peers reach this replica.
    pub peer_address: String,
    /// `host:port` by which clients reach this replica.
    pub client_address: String,
    /// The replicas that found the group together, this one included.
    pub peers: Vec<Peer>,
    /// How patient Raft is.
    pub timing: Timing,
}

/// A replica named by configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its stable name.
    pub name: String,
    /// `host:port` of its peer listener.
    pub address: String,
}

/// How patient Raft is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader is heard.
    pub heartbeat: Duration,
    /// Shortest wait before an election.
    pub election_min: Duration,
    /// Longest wait before an election, and how long a leader that hears no quorum takes writes.
    pub election_max: Duration,
    /// How long sending and installing a snapshot may take.
    pub install_snapshot: Duration,
    /// A snapshot is taken after this many entries.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot: a follower that was away for so many needs no snapshot.
    pub kept_entries: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            install_snapshot: Duration::from_secs(10),
            // About seven minutes of checkpoints (twelve entries a second).
            snapshot_entries: 5_000,
            kept_entries: 1_000,
        }
    }
}

/// Who leads the group, as far as this replica knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader.
    pub leader: Option<ReplicaId>,
    /// Its term.
    pub term: u64,
    /// Whether it is this replica.
    pub is_self: bool,
}

/// A replica's part in decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Counts for majorities.
    Voter,
    /// Receives the log.
    Learner,
}

/// How consensus fares, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The current term.
    pub term: u64,
    /// The last log index applied here.
    pub applied: Revision,
    /// Who leads.
    pub leader: Option<ReplicaId>,
    /// Everybody's part.
    pub roles: BTreeMap<ReplicaId, Role>,
}

/// Why a replica cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// What must be kept can no longer be kept.
    #[error(
        "the data can no longer be written ({reason}). Nothing is acknowledged that is not on \
         disk; other replicas take over. {remedy}"
    )]
    Storage {
        /// What happened.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// Consensus has ended, for another reason.
    #[error("consensus failed: {0}")]
    Consensus(String),
}

/// How a process registered itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registered {
    incarnation: Incarnation,
    at: UnixMillis,
}

/// Tells what stays wrong at once, then at widening intervals.
#[derive(Debug)]
struct Voice {
    started: std::time::Instant,
    pace: Mutex<Pace>,
}

impl Default for Voice {
    fn default() -> Self {
        Self {
            started: std::time::Instant::now(),
            pace: Mutex::default(),
        }
    }
}

impl Voice {
    /// Whether this is to be said now.
    fn is_due(&self, cause: &str) -> bool {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.is_due(cause, self.started.elapsed())
    }
}

/// The replica's part in the group. Cheap to clone.
#[derive(Clone)]
pub struct Raft {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    channels: Channels,
    store: Arc<Store>,
    raft: OpenRaft<TypeConfig, StateMachine>,
    published: Arc<Published>,
    leadership: watch::Sender<Leadership>,
    cut_off: Arc<watch::Sender<(u64, u64)>>,
    /// Drawn at the start: distinguishes this process from another one with the same data.
    process_id: u64,
    /// Whether it has been checked that this replica may take part. Until then it answers no call
    /// of Raft: its data may be a copy, or older than what it has acknowledged.
    admitted: watch::Sender<bool>,
    /// What is said again and again, and how often.
    voice: Arc<Voice>,
    /// How this process registered, once it has.
    registered: watch::Sender<Option<Registered>>,
    /// Ends the tasks of this handle.
    stopping: CancellationToken,
}

impl Raft {
    /// Opens the data and takes part in what the group agrees on.
    pub async fn open(options: Options, channels: Channels) -> Result<Self, OpenError> {
        let store = Arc::new(open_store(&options).await?);
        let published = Published::new();
        let machine = StateMachine::load(Arc::clone(&store), Arc::clone(&published)).await?;
        let network = network::Factory {
            store: Arc::clone(&store),
            channels: channels.clone(),
            state: published.state.subscribe(),
            unreachable: Arc::default(),
        };
        let config = options.timing.config().map_err(OpenError::Timing)?;
        let id = store.replica_id().0;
        let raft = OpenRaft::new(id, Arc::new(config), network, store.log_store(), machine)
            .await
            .map_err(|error| OpenError::Damaged(error.to_string()))?;
        let inner = Inner {
            options,
            channels,
            store,
            raft,
            published,
            leadership: watch::Sender::default(),
            cut_off: Arc::new(watch::Sender::default()),
            process_id: rand::random_range(1..=u64::MAX),
            admitted: watch::Sender::new(false),
            voice: Arc::default(),
            registered: watch::Sender::default(),
            stopping: CancellationToken::new(),
        };
        let this = Self {
            inner: Arc::new(inner),
        };
        this.spawn_leadership_tasks();
        Ok(this)
    }

    /// To be added to the peer listener.
    pub fn rpc_service(&self) -> RaftServiceServer<Service> {
        let service = Service {
            raft: self.inner.raft.clone(),
            store: Arc::clone(&self.inner.store),
            cut_off: Arc::clone(&self.inner.cut_off),
            admitted: self.inner.admitted.subscribe(),
            voice: Arc::clone(&self.inner.voice),
        };
        RaftServiceServer::new(service).max_decoding_message_size(wire::MESSAGE_BYTES_MAX)
    }

    /// This replica's id.
    pub fn replica_id(&self) -> ReplicaId {
        self.inner.store.replica_id()
    }

    /// This replica's name.
    pub fn name(&self) -> &str {
        self.inner.store.name()
    }

    /// The state as of the last entry applied here.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.inner.published.state.borrow())
    }

    /// The state, and each later one (coalesced).
    pub fn watch_state(&self) -> watch::Receiver<Arc<State>> {
        self.inner.published.state.subscribe()
    }

    /// Who leads; notified only when it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// For a leader: how long ago a majority acknowledged it.
    pub fn quorum_ack_age(&self) -> Option<Duration> {
        if !self.inner.leadership.borrow().is_self {
            return None;
        }
        let own_id = self.replica_id().0;
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        if membership.voter_ids().eq([own_id]) {
            // The only voter is the majority, and nobody is ever asked to acknowledge it.
            return Some(Duration::ZERO);
        }
        metrics.last_quorum_acked.map(|at| at.elapsed())
    }

    /// The last log index applied, and each later one (coalesced). The state and the changes that
    /// are read after it have all that led to it.
    pub fn watch_applied(&self) -> watch::Receiver<Revision> {
        self.inner.published.applied.subscribe()
    }

    /// Changes of shards.
    pub fn shard_changes(&self) -> Arc<ChangeLog<ShardChange>> {
        Arc::clone(&self.inner.published.shards)
    }

    /// Changes of clusters.
    pub fn cluster_changes(&self) -> Arc<ChangeLog<ClusterChanged>> {
        Arc::clone(&self.inner.published.clusters)
    }

    /// Whether `revision` is applied here, waiting for it up to `within`.
    pub async fn wait_applied(&self, revision: Revision, within: Duration) -> bool {
        let mut applied = self.inner.published.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= revision);
        matches!(tokio::time::timeout(within, reached).await, Ok(Ok(_)))
    }

    /// Where a replica's peer listener is.
    pub fn peer_address_of(&self, replica: ReplicaId) -> Option<String> {
        let state = self.state();
        if let Some(member) = state.members.get(&replica) {
            return Some(member.peer_address.clone());
        }
        let metrics = self.inner.raft.metrics();
        let membership = Arc::clone(&metrics.borrow_watched().membership_config);
        let node = membership.membership().get_node(&replica.0);
        node.map(|node| node.peer_address.clone())
    }

    /// How consensus fares.
    pub fn status(&self) -> Status {
        // Before the metrics are borrowed: borrowed twice, they lock each other out.
        let is_alone = self.has_lost_its_quorum();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let role = |id: &u64| match voters.contains(id) {
            true => Role::Voter,
            false => Role::Learner,
        };
        Status {
            term: metrics.current_term,
            applied: Revision(metrics.last_applied.map_or(0, |id| id.index)),
            // Raft lets a leader that is cut off call itself so until it hears of another.
            leader: metrics
                .current_leader
                .map(ReplicaId)
                .filter(|leader| *leader != self.replica_id() || !is_alone),
            roles: membership
                .nodes()
                .map(|(id, _)| (ReplicaId(*id), role(id)))
                .collect(),
        }
    }

    /// Whether consensus runs, or why not.
    fn running(&self) -> Result<(), String> {
        let metrics = self.inner.raft.metrics();
        let state = metrics.borrow_watched().running_state.clone();
        state.map_err(|fatal| fatal.to_string())
    }

    /// Waits until the storage or consensus is dead, and says why: the process must end then.
    pub async fn failed(&self) -> Failure {
        let mut metrics = self.inner.raft.metrics();
        let core = async {
            loop {
                if let Err(fatal) = metrics.borrow_watched().running_state.clone() {
                    return fatal.to_string();
                }
                if metrics.changed().await.is_err() {
                    return "consensus has stopped".to_owned();
                }
            }
        };
        let storage = self.inner.store.failed();
        tokio::pin!(storage);
        let consensus = tokio::select! {
            failure = &mut storage => return self.storage_failure(&failure),
            failure = core => failure,
        };
        // Storage that fails takes consensus with it, and knows better why.
        match tokio::time::timeout(CAUSE_WITHIN, storage).await {
            Ok(failure) => self.storage_failure(&failure),
            Err(_) => Failure::Consensus(consensus),
        }
    }

    fn storage_failure(&self, error: &std::io::Error) -> Failure {
        Failure::Storage {
            reason: error.to_string(),
            remedy: storage::remedy_of(error, &self.inner.options.data_dir),
        }
    }

    /// Stops taking part and closes the data.
    pub async fn shutdown(&self) {
        self.inner.stopping.cancel();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop in order");
        }
        self.inner.store.close().await;
    }
}

/// Opens the store on a thread of its own: it blocks, and sled may panic on damaged data.
async fn open_store(options: &Options) -> Result<Store, OpenError> {
    let (done, opened) = oneshot::channel();
    let (data_dir, name) = (options.data_dir.clone(), options.name.clone());
    thread::Builder::new()
        .name("open-store".into())
        .spawn(move || drop(done.send(Store::open(&data_dir, &name))))?;
    opened
        .await
        .unwrap_or_else(|_| Err(OpenError::Damaged("opening it panicked".into())))
}

impl Timing {
    fn config(&self) -> Result<Config, String> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Config {
            cluster_name: "quorumwatch".into(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            install_snapshot_timeout: millis(self.install_snapshot),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            max_in_snapshot_log_to_keep: self.kept_entries,
            enable_pre_vote: Some(true),
            // A restarted leader must ask for its votes again: what it knew may be stale.
            enable_leader_restore: Some(false),
            ..Config::default()
        }
        .validate()
        .map_err(|error| error.to_string())
    }
}
