//! Proposing commands, here or through the leader.

use std::{error::Error as _, time::Duration};

use openraft::errors::{ClientWriteError, RaftError};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    Raft, network,
    types::{Reply, Request},
};
use crate::{
    domain::{
        command::{Command, Outcome},
        id::{ReplicaId, Revision},
    },
    proto::{
        internal::v1::{ProposeRequest, ProposeResponse, raft_service_client::RaftServiceClient},
        store::v1 as store,
    },
};

/// Largest command: with others it must fit in a gRPC message, and every follower copies it.
const COMMAND_BYTES_MAX: usize = 1024 * 1024;

/// A leader that no majority has acknowledged yet takes no writes; at the start of its term that
/// passes within a heartbeat or two.
const GATE_TIMEOUT: Duration = Duration::from_secs(1);
const GATE_PAUSE_FIRST: Duration = Duration::from_millis(5);
const GATE_PAUSE_MAX: Duration = Duration::from_millis(50);

/// How long a majority may take to store an entry. Beyond it the outcome is unknown.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long [`Raft::submit`] looks for a leader: several elections, and short enough that who asks
/// gets the reason before it gives up itself (the command line after 10 s).
const LEADER_TIMEOUT: Duration = Duration::from_secs(6);

/// How long [`Raft::submit`] may take in all; each of its parts ends sooner by itself.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// How much sooner than at its caller's timeout [`Raft::submit_within`] gives up looking for a
/// leader: enough to find out why there is no leader.
pub const REASON_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause before a retry, if nothing better is known.
const SUBMIT_PAUSE: Duration = Duration::from_millis(50);

/// Marks an answer that was given before anything was proposed.
const NOT_PROPOSED: &str = "quorumwatch-not-proposed";

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
    #[error("this replica is not the leader{}", show_leader(*leader))]
    NotLeader {
        /// Who leads, as far as is known.
        leader: Option<ReplicaId>,
    },
    /// There was no leader for as long as we tried; nothing was proposed.
    #[error("the group has no leader; no change was made")]
    NoLeader,
    /// The command may have been committed, or may still be: read the state to know.
    #[error("the outcome is unknown ({0}): the command may still take effect; read back")]
    Unknown(String),
    /// Larger than a log entry may be; nothing was proposed.
    #[error("the command takes {0} bytes, the maximum is {COMMAND_BYTES_MAX}; split it")]
    TooLarge(usize),
    /// The leader does not take the command; nothing was proposed.
    #[error("the leader rejected the command ({0}); run one version on every replica")]
    Refused(String),
    /// Raft has stopped; nothing was proposed.
    #[error("Raft has stopped: {0}")]
    Stopped(String),
}

fn show_leader(leader: Option<ReplicaId>) -> String {
    leader.map_or_else(String::new, |id| format!("; replica {id} does"))
}

/// Whether a command fits in a log entry.
pub fn check_size(command: &Command) -> Result<(), ProposeError> {
    let bytes = store::Command::from(command).encoded_len();
    if bytes > COMMAND_BYTES_MAX {
        return Err(ProposeError::TooLarge(bytes));
    }
    Ok(())
}

impl Raft {
    /// Proposes a command on this replica, as the leader.
    pub async fn propose(&self, command: Command) -> Result<Proposed, ProposeError> {
        check_size(&command)?;
        if let Err(fatal) = self.running() {
            return Err(ProposeError::Stopped(fatal));
        }
        let gate = Instant::now() + GATE_TIMEOUT;
        let mut pause = GATE_PAUSE_FIRST;
        if self.has_lost_its_quorum() {
            // An entry would only wait in the log, and its outcome would be unknown.
            return Err(ProposeError::NotLeader { leader: None });
        }
        loop {
            let write = self.inner.raft.client_write(Request(command.clone()));
            let written = tokio::time::timeout(COMMIT_TIMEOUT, write).await;
            let error = match written {
                Err(_) => {
                    return Err(ProposeError::Unknown(format!(
                        "no majority has stored it within {} s",
                        COMMIT_TIMEOUT.as_secs()
                    )));
                }
                Ok(Ok(response)) => return proposed(response.log_id.index, response.data),
                Ok(Err(error)) => error,
            };
            let leader = match error {
                RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
                    forward.leader_id.map(ReplicaId)
                }
                RaftError::APIError(error) => return Err(ProposeError::Unknown(error.to_string())),
                // Its text shows the structure of the storage's error, which the process logs as
                // it ends.
                RaftError::Fatal(_) => {
                    return Err(ProposeError::Unknown(
                        "Raft has stopped on this replica".into(),
                    ));
                }
            };
            let leads = self.inner.leadership.borrow().is_self;
            let elsewhere = leader.is_some_and(|id| id != self.replica_id());
            if !leads || elsewhere || Instant::now() >= gate {
                return Err(ProposeError::NotLeader { leader });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(GATE_PAUSE_MAX);
        }
    }

    /// Proposes a command here or through the leader, and waits for a leader if need be.
    ///
    /// [`Raft::wait_applied`] with the revision makes sure that this replica's state has it too.
    pub async fn submit(&self, command: Command) -> Result<Proposed, ProposeError> {
        // Boxed: each stream has a task that may propose something once, and would otherwise be as
        // large as the whole way of a proposal for all its life, some 5 KiB.
        Box::pin(self.submit_within(command, SUBMIT_TIMEOUT)).await
    }

    /// Like [`Self::submit`], for a caller that waits no longer than `timeout`.
    pub async fn submit_within(
        &self,
        command: Command,
        timeout: Duration,
    ) -> Result<Proposed, ProposeError> {
        let begun = Instant::now();
        let deadline = begun + timeout;
        let leader_timeout = timeout.saturating_sub(REASON_TIMEOUT);
        let leader_deadline = begun + leader_timeout.min(LEADER_TIMEOUT);
        loop {
            let leadership = *self.inner.leadership.borrow();
            let attempt = async {
                match leadership.leader {
                    _ if leadership.is_self => self.propose(command.clone()).await,
                    Some(leader) => self.forward(leader, &command).await,
                    None => Err(ProposeError::NotLeader { leader: None }),
                }
            };
            let attempt = tokio::time::timeout_at(deadline, attempt).await;
            let result = attempt.unwrap_or_else(|_| {
                let reason = "the caller's deadline has passed".to_owned();
                Err(ProposeError::Unknown(reason))
            });
            match result {
                Err(ProposeError::NotLeader { .. }) if Instant::now() < leader_deadline => {
                    // A new leader is tried at once, the same one after a pause.
                    let mut changes = self.inner.leadership.subscribe();
                    let changed = changes.wait_for(|now| *now != leadership);
                    drop(tokio::time::timeout(SUBMIT_PAUSE, changed).await);
                }
                Err(ProposeError::NotLeader { .. }) => {
                    return Err(ProposeError::NoLeader);
                }
                result => return result,
            }
        }
    }

    /// Proposes through another replica. `NotLeader` where it is certain that nothing was proposed.
    async fn forward(
        &self,
        leader: ReplicaId,
        command: &Command,
    ) -> Result<Proposed, ProposeError> {
        let nowhere = ProposeError::NotLeader { leader: None };
        let address = self
            .peer_address_of(leader)
            .ok_or_else(|| nowhere.clone())?;
        let channel = self.inner.channels.channel(&address).map_err(|_| nowhere)?;
        let mut client = RaftServiceClient::new(channel);
        let request = ProposeRequest {
            envelope: Some(network::envelope(&self.inner.store, leader.0)),
            command: Some(command.into()),
        };
        let timeout = GATE_TIMEOUT + COMMIT_TIMEOUT;
        let response = match tokio::time::timeout(timeout, client.propose(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(error_of(&status)),
            Err(_) => return Err(ProposeError::Unknown("the leader did not answer".into())),
        };
        let outcome = response.outcome.unwrap_or_default();
        let outcome =
            Outcome::try_from(outcome).map_err(|error| ProposeError::Unknown(error.to_string()))?;
        Ok(Proposed {
            outcome,
            revision: Revision(response.revision),
        })
    }

    /// Answers a forwarded proposal, errors mapped as [`Self::submit`] of another replica reads
    /// them.
    pub(super) async fn serve_propose(
        &self,
        sender: ReplicaId,
        command: Option<store::Command>,
    ) -> Result<ProposeResponse, Status> {
        let command = Command::try_from(command.unwrap_or_default())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if self.inner.leadership.borrow().is_self && self.listed(sender).is_none() {
            // One that registers would be shown as a member and never receive the log.
            return Err(Status::permission_denied(format!(
                "replica {sender} is not, or no longer, part of the group"
            )));
        }
        let proposed = self.propose(command).await;
        let proposed = proposed.map_err(|error| status_of(&error))?;
        Ok(ProposeResponse {
            outcome: Some((&proposed.outcome).into()),
            revision: proposed.revision.0,
        })
    }
}

fn proposed(index: u64, reply: Reply) -> Result<Proposed, ProposeError> {
    match reply.0 {
        Some(outcome) => Ok(Proposed {
            outcome,
            revision: Revision(index),
        }),
        None => Err(ProposeError::Unknown("the entry carried no command".into())),
    }
}

fn status_of(error: &ProposeError) -> Status {
    let text = error.to_string();
    not_proposed(match error {
        ProposeError::Unknown(_) => return Status::unknown(text),
        ProposeError::NotLeader { .. } | ProposeError::NoLeader => {
            Status::failed_precondition(text)
        }
        ProposeError::TooLarge(_) | ProposeError::Refused(_) => Status::invalid_argument(text),
        ProposeError::Stopped(_) => Status::unavailable(text),
    })
}

/// Marks an answer as given before anything was proposed.
pub(super) fn not_proposed(mut status: Status) -> Status {
    let mark = tonic::metadata::MetadataValue::from_static("1");
    status.metadata_mut().insert(NOT_PROPOSED, mark);
    status
}

/// What a failed forward means. Only what certainly proposed nothing may be tried again.
fn error_of(status: &Status) -> ProposeError {
    let text = status.message().to_owned();
    let not_proposed = status.metadata().contains_key(NOT_PROPOSED) || never_connected(status);
    match status.code() {
        Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied => {
            ProposeError::Refused(text)
        }
        Code::Unauthenticated => ProposeError::Refused(text),
        _ if not_proposed => ProposeError::NotLeader { leader: None },
        _ => ProposeError::Unknown(text),
    }
}

/// Whether the call failed because no connection could be made.
fn never_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
