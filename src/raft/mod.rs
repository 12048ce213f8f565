//! Agrees. The only module that names openraft; `raft/storage` is the only one that names sled.
//!
//! [`Raft`] is the handle: propose a [`Command`], read the [`State`] that came of the commands so
//! far. What the state means is `domain`'s business, who proposes what is the caller's.

mod changes;
pub mod codec;
pub mod service;
pub mod state_machine;
pub mod storage;
pub mod types;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        command::{Command, Outcome, ShardChange},
        id::{ReplicaId, Revision},
        state::State,
    },
    peer::Channels,
    proto::internal::v1::{
        HelloRequest, HelloResponse, JoinRequest, JoinResponse, ProposeRequest, ProposeResponse,
        raft_service_server::RaftServiceServer,
    },
};
use service::Service;

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
        }
    }
}

/// Why the replica's data could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// For every reason, until the store exists.
    #[error("{0}")]
    Store(String),
}

/// Why the replica could not become part of the group.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// Asked to stop while waiting.
    #[error("stopped while waiting for the group to form")]
    Cancelled,
    /// A peer belongs to another group.
    #[error("data of another group: {0}")]
    AnotherGroup(String),
    /// Another replica answers at a peer's address.
    #[error("another replica answers: {0}")]
    AnotherReplica(String),
    /// The group refused this replica.
    #[error("the group refuses this replica: {0}")]
    Refused(String),
    /// Raft has stopped.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

/// What came of a command, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// What came of it; a rejection is an outcome too.
    pub outcome: Outcome,
    /// The log index of the command.
    pub revision: Revision,
}

/// Why a command has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This replica does not lead; nothing was proposed.
    #[error("this replica does not lead the group{}", leader.map_or_else(String::new, |id| format!("; replica {id} does")))]
    NotLeader {
        /// Who leads, as far as is known.
        leader: Option<ReplicaId>,
    },
    /// There was no leader for as long as we tried; nothing was proposed.
    #[error("the group has no leader: fewer than a majority of its voters can reach each other")]
    NoLeader,
    /// The command may have been committed, or may still be: read the state to know.
    #[error("the outcome is unknown ({0}): the command may still take effect; read back")]
    Unknown(String),
    /// Larger than a log entry may be; nothing was proposed.
    #[error("the command takes {0} bytes, the most is {1}; split it")]
    TooLarge(usize, usize),
    /// Raft has stopped; nothing was proposed.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

/// Why a replica could not join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// This replica does not lead.
    #[error("this replica does not lead the group")]
    NotLeader {
        /// Who leads, as far as is known.
        leader: Option<ReplicaId>,
    },
    /// The joiner cannot be taken.
    #[error("{0}")]
    Refused(String),
    /// Try again.
    #[error("the membership could not be changed now ({0}); try again")]
    Busy(String),
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

/// Changes of ownership after a revision.
#[derive(Debug)]
pub enum ChangesSince {
    /// Those that are past, in order, and those to come. A receiver that lags behind loses the
    /// oldest and is told so.
    Changes(Vec<ShardChange>, broadcast::Receiver<ShardChange>),
    /// Some are no longer kept: read the state instead.
    Forgotten,
}

/// The replica's part in the group. Cheap to clone.
#[derive(Clone)]
pub struct Raft {}

impl Raft {
    /// Opens the data and takes part in what the group agrees on.
    pub async fn open(_options: Options, _channels: Channels) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// To be added to the peer listener.
    pub fn rpc_service(&self) -> RaftServiceServer<Service> {
        unimplemented!()
    }

    /// Founds, joins or rejoins the group, and registers this replica with it.
    pub async fn form(&self, _cancel: CancellationToken) -> Result<(), FormError> {
        unimplemented!()
    }

    /// Answers `PeerService.Hello`.
    pub fn hello(&self, _request: &HelloRequest) -> HelloResponse {
        unimplemented!()
    }

    /// Answers `PeerService.Join`; see [`Self::serve_join`].
    pub async fn join(&self, _request: JoinRequest) -> Result<JoinResponse, JoinError> {
        unimplemented!()
    }

    /// `PeerService.Join`, errors mapped as [`Self::form`] of another replica reads them.
    pub async fn serve_join(&self, _request: JoinRequest) -> Result<JoinResponse, tonic::Status> {
        unimplemented!()
    }

    /// `PeerService.Propose`, errors mapped as [`Self::submit`] of another replica reads them.
    pub async fn serve_propose(
        &self,
        _request: ProposeRequest,
    ) -> Result<ProposeResponse, tonic::Status> {
        unimplemented!()
    }

    /// This replica's id.
    pub fn replica_id(&self) -> ReplicaId {
        unimplemented!()
    }

    /// This replica's name.
    pub fn name(&self) -> &str {
        unimplemented!()
    }

    /// Proposes a command on this replica, as the leader.
    pub async fn propose(&self, _command: Command) -> Result<Proposed, ProposeError> {
        unimplemented!()
    }

    /// Proposes a command here or through the leader, and waits for a leader if need be.
    pub async fn submit(&self, _command: Command) -> Result<Proposed, ProposeError> {
        unimplemented!()
    }

    /// The state as of the last entry applied here.
    pub fn state(&self) -> Arc<State> {
        unimplemented!()
    }

    /// The state, and each later one (coalesced).
    pub fn watch_state(&self) -> watch::Receiver<Arc<State>> {
        unimplemented!()
    }

    /// Who leads; told only when it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        unimplemented!()
    }

    /// For a leader: how long ago a majority acknowledged it.
    pub fn quorum_ack_age(&self) -> Option<Duration> {
        unimplemented!()
    }

    /// Changes of ownership after `revision`.
    pub fn shard_changes_since(&self, _revision: Revision) -> ChangesSince {
        unimplemented!()
    }

    /// Whether `revision` is applied here, waiting for it up to `within`.
    pub async fn wait_applied(&self, _revision: Revision, _within: Duration) -> bool {
        unimplemented!()
    }

    /// Where a replica's peer listener is.
    pub fn peer_address_of(&self, _replica: ReplicaId) -> Option<String> {
        unimplemented!()
    }

    /// How consensus fares.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// Hands the leadership to another voter, as part of a planned stop.
    pub async fn transfer_leadership(&self, _to: ReplicaId) -> Result<(), ProposeError> {
        unimplemented!()
    }

    /// Waits until the storage or consensus is dead, and says why: the process must end then.
    pub async fn failed(&self) -> String {
        unimplemented!()
    }

    /// Stops taking part and closes the data.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
