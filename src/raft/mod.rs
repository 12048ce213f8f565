//! The adapter to openraft and sled. The only module that names openraft; `raft/storage/files` is
//! the only one that names sled.
//!
//! [`Raft`] is the handle: propose a [`Command`](crate::domain::command::Command), read the
//! [`State`] that the commands so far have led to. What the state means is `domain`'s business, who
//! proposes what is the caller's, and how replicas become a group is that of [`crate::group`].

pub mod codec;
mod leadership;
mod membership;
mod network;
mod propose;
pub mod protocol;
pub mod service;
pub mod state_machine;
pub mod storage;
pub mod types;
mod wire;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use openraft::{
    Config, Raft as OpenRaft, RaftMetrics, SnapshotPolicy, async_runtime::WatchReceiver as _,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    blocking::Blocking,
    changes::Changes,
    domain::{
        id::{GroupId, ReplicaId, Revision},
        lifecycle::Lifecycle,
        state::State,
    },
    net::Channels,
    panics::contain,
    proto::internal::v1::raft_service_server::RaftServiceServer,
};
pub use leadership::Leadership;
pub use membership::{Listed, MembershipError, Role};
pub use propose::{ProposeError, Proposed, REASON_TIMEOUT, check_size};
use service::Service;
use state_machine::{Published, StateMachine};
use storage::Store;
pub use storage::{Disk, Files, OpenError, is_in_use};
/// What the membership keeps of a replica: its name and addresses.
pub use types::Node as Listing;
use types::TypeConfig;

/// Grace period for the storage error that explains why Raft stopped.
const CAUSE_TIMEOUT: Duration = Duration::from_millis(500);

/// How this replica's Raft runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the data is kept.
    pub data_dir: PathBuf,
    /// This replica's stable name.
    pub name: String,
    /// Raft's timeouts.
    pub timing: Timing,
    /// What the data is kept on.
    pub disk: Arc<dyn Disk>,
    /// Does what may block.
    pub blocking: Arc<dyn Blocking>,
    /// Receives the end of each stream of entries. An end that finds it full is not reported.
    pub stream_ends: mpsc::Sender<StreamEnd>,
    /// Says whether this replica may answer Raft's calls yet.
    pub lifecycle: watch::Receiver<Lifecycle>,
}

/// A leader's stream of entries to this replica has ended, one way or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// Who sent the entries.
    pub sender: ReplicaId,
}

/// Raft's timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader is heard.
    pub heartbeat: Duration,
    /// Shortest wait before an election, and how long a vote may take, writing it to disk included.
    pub election_min: Duration,
    /// Longest wait before an election. So long after it has heard a leader a voter grants no vote,
    /// before the wait begins; and so long a leader that hears no quorum takes writes.
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
            // A leader that is silent is succeeded after 0.5 to 0.6 s: ten of its heartbeats, so
            // that neither a lost packet (which TCP sends again after 0.2 s) nor a busy machine
            // passes for a failure; and before the leases are over that it has granted. That two
            // followers ask at the same time does no harm: of two candidates in one term Raft
            // prefers the greater id.
            election_min: Duration::from_millis(200),
            election_max: Duration::from_millis(300),
            install_snapshot: Duration::from_secs(10),
            // About seven minutes of checkpoints (twelve entries a second).
            snapshot_entries: 5_000,
            kept_entries: 1_000,
        }
    }
}

/// Raft's status, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// The current term.
    pub term: u64,
    /// The last log index applied here.
    pub applied: Revision,
    /// The newest entry that is no longer in the log of this replica: who lacks it needs a
    /// snapshot. Zero while the log is whole.
    pub purged: Revision,
    /// The leader; `None` if unknown.
    pub leader: Option<ReplicaId>,
    /// The Raft role of every member.
    pub roles: BTreeMap<ReplicaId, Role>,
}

/// Why a replica cannot continue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// What must be kept can no longer be kept.
    #[error(
        "the data can no longer be written ({reason}). Nothing is acknowledged that is not on \
         disk; other replicas take over. {remedy}"
    )]
    Storage {
        /// The storage error.
        reason: String,
        /// What the operator should do.
        remedy: String,
    },
    /// Consensus has ended, for another reason.
    #[error("consensus failed: {0}")]
    Consensus(String),
}

/// The replica's Raft. Cheap to clone.
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
    changes: Arc<Changes>,
    leadership: watch::Sender<Leadership>,
    /// The last term that was to begin at once: see [`Raft::note_handover`].
    handed_over: AtomicU64,
    /// Cancelled when this handle stops.
    stopping: CancellationToken,
}

impl Raft {
    /// Opens the data and takes part in what the group agrees on.
    pub async fn open(options: Options, channels: Channels) -> Result<Self, OpenError> {
        let store = Arc::new(open_store(&options).await?);
        let (published, changes) = (Published::new(), Arc::<Changes>::default());
        let machine = StateMachine::load(
            Arc::clone(&store),
            Arc::clone(&published),
            Arc::clone(&changes),
        );
        let machine = machine.await?;
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
            changes,
            leadership: watch::Sender::default(),
            handed_over: AtomicU64::default(),
            stopping: CancellationToken::new(),
        };
        let this = Self {
            inner: Arc::new(inner),
        };
        this.spawn_leadership();
        Ok(this)
    }

    /// To be added to the peer listener.
    pub fn rpc_service(&self) -> RaftServiceServer<Service> {
        let service = Service {
            handle: self.clone(),
            raft: self.inner.raft.clone(),
            store: Arc::clone(&self.inner.store),
            stream_ends: self.inner.options.stream_ends.clone(),
            lifecycle: self.inner.options.lifecycle.clone(),
            throttle: Arc::default(),
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

    /// The state, and each later one (coalesced): also what differs by checkpoints alone, which is
    /// many times a second.
    pub fn watch_state(&self) -> watch::Receiver<Arc<State>> {
        self.inner.published.state.subscribe()
    }

    /// The state, for those who wait for clusters, streams, eras, members or owners: notified only
    /// when any of these changes. What is read from it is the newest state all the same.
    pub fn watch_topology(&self) -> watch::Receiver<Arc<State>> {
        self.inner.published.topology.subscribe()
    }

    /// The last log index applied, and each later one (coalesced). The state and the changes that
    /// are read after it have all that led to it.
    pub fn watch_applied(&self) -> watch::Receiver<Revision> {
        self.inner.published.applied.subscribe()
    }

    /// What was changed lately, for those who watch.
    pub fn changes(&self) -> &Changes {
        &self.inner.changes
    }

    /// Whether `revision` is applied here, waiting for it up to `timeout`.
    pub async fn wait_applied(&self, revision: Revision, timeout: Duration) -> bool {
        let mut applied = self.inner.published.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= revision);
        matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)))
    }

    /// The group's identity, once this replica belongs to one.
    pub fn group(&self) -> Option<GroupId> {
        self.inner.store.group()
    }

    /// The last index in this replica's log.
    pub fn last_index(&self) -> u64 {
        self.inner.store.last_index()
    }

    /// Cancelled when this replica stops taking part.
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// Where a replica's peer listener is.
    pub fn peer_address_of(&self, replica: ReplicaId) -> Option<String> {
        let state = self.state();
        if let Some(member) = state.members.get(&replica) {
            return Some(member.peer_address.clone());
        }
        let listed = self.listed(replica)?;
        Some(listed.listing.peer_address)
    }

    /// Raft's status.
    pub fn status(&self) -> RaftStatus {
        let has_lost_its_quorum = self.has_lost_its_quorum();
        let metrics = self.metrics();
        RaftStatus {
            term: metrics.current_term,
            applied: Revision(metrics.last_applied.map_or(0, |id| id.index)),
            purged: Revision(metrics.purged.map_or(0, |id| id.index)),
            // Raft lets a leader that is cut off call itself so until it hears of another.
            leader: metrics
                .current_leader
                .map(ReplicaId)
                .filter(|leader| *leader != self.replica_id() || !has_lost_its_quorum),
            roles: self
                .all_listed()
                .into_iter()
                .map(|(id, listed)| (id, listed.role))
                .collect(),
        }
    }

    /// A copy: two borrows of the metrics at the same time could lock each other out.
    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.inner.raft.metrics().borrow_watched().clone()
    }

    /// Whether consensus runs, or why not.
    pub fn running(&self) -> Result<(), String> {
        self.metrics()
            .running_state
            .map_err(|fatal| fatal.to_string())
    }

    /// Waits until the storage or Raft has failed, and returns the reason: the process must exit
    /// then.
    pub async fn failed(&self) -> Failure {
        let mut metrics = self.inner.raft.metrics();
        let core = async {
            loop {
                if let Err(fatal) = metrics.borrow_watched().running_state.clone() {
                    return fatal.to_string();
                }
                if metrics.changed().await.is_err() {
                    return "Raft has stopped".to_owned();
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
        match tokio::time::timeout(CAUSE_TIMEOUT, storage).await {
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
            tracing::warn!(%error, "raft shutdown failed");
        }
        self.inner.store.close().await;
    }
}

/// Opens the store on a thread of its own: it blocks, and sled may panic on damaged data.
async fn open_store(options: &Options) -> Result<Store, OpenError> {
    let (done, opened) = oneshot::channel();
    let (data_dir, name) = (options.data_dir.clone(), options.name.clone());
    let (disk, blocking) = (Arc::clone(&options.disk), Arc::clone(&options.blocking));
    let open = async move {
        let opened = contain(Store::open(&*disk, &data_dir, &name, blocking)).await;
        drop(done.send(opened));
    };
    options.blocking.drive("open-store", Box::pin(open))?;
    match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(panic)) => Err(OpenError::Damaged(panic.message)),
        Err(_) => Err(OpenError::Damaged("opening it did not end".into())),
    }
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
