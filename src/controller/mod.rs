//! Acts for the group while this replica leads it: takes heartbeats in, grants leases, and proposes
//! the moves that [`plan`](crate::domain::placement::plan) asks for.
//!
//! It is a loop over messages ([`run`]), and [`Controller`] is their sender. It decides nothing
//! itself: what a leader knows is [`Leader`](crate::domain::leader::Leader), and what follows from it
//! is the plan. On a replica that does not lead, the loop answers `None`.

mod agreement;
mod run;

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

pub use self::agreement::Prepare;
use self::{
    agreement::{Agreement, Group},
    run::LeaderLoop,
};
use crate::{
    domain::{
        id::{ReplicaId, Revision, ShardId},
        leader::{Heartbeat, Observation},
        placement::Policy,
        requested::NotMoved,
    },
    raft::Raft,
};

/// Messages that may wait for the loop, which handles each within microseconds. Who sends more
/// waits.
const INPUTS_MAX: usize = 256;

/// What the loop is sent.
enum Input {
    /// A heartbeat, to be answered with a lease.
    Heartbeat(Heartbeat, oneshot::Sender<Option<Grant>>),
    /// The process of a replica is known to have ended.
    Died(ReplicaId),
    /// Move a shard to where a user wants it, or only see whether that is possible.
    Move(MoveRequest, oneshot::Sender<Option<MoveAnswer>>),
    /// What does this leader observe?
    Observe(oneshot::Sender<Option<Observation>>),
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How long the lease holds, from the sending of the heartbeat on.
    pub lease: Duration,
    /// The replicas that take shards.
    pub active: Vec<ReplicaId>,
}

/// What a user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveRequest {
    /// The shard.
    pub shard: ShardId,
    /// Who is to own it.
    pub to: ReplicaId,
    /// Only see whether that is possible.
    pub validate_only: bool,
}

/// What came of it: a revision at which it is so.
pub type MoveAnswer = Result<Revision, NotMoved>;

/// The controller of this replica. Cheap to clone.
#[derive(Clone)]
pub struct Controller {
    inputs: mpsc::Sender<Input>,
}

impl Controller {
    /// Starts the controller. It ends with `raft`.
    pub fn start(raft: Raft, prepare: Prepare) -> Self {
        Self::start_with(Arc::new(Group { raft, prepare }), Policy::default())
    }

    fn start_with(agreement: Arc<dyn Agreement>, policy: Policy) -> Self {
        let (inputs, received) = mpsc::channel(INPUTS_MAX);
        tokio::spawn(LeaderLoop::new(agreement, policy, received).run());
        Self { inputs }
    }

    /// Takes a heartbeat in and grants a lease, which counts from the sending of the heartbeat.
    /// `None` where this replica may not: it does not lead, the group has not confirmed that it does
    /// for a while, or the sender is no member.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Option<Grant> {
        self.ask(|answer| Input::Heartbeat(heartbeat, answer)).await
    }

    /// The process of a replica is known to have ended.
    pub async fn mark_dead(&self, replica: ReplicaId) {
        // A loop that has ended needs to know nothing.
        drop(self.inputs.send(Input::Died(replica)).await);
    }

    /// Moves a shard to where a user wants it, once that replica has opened the watches. Answered when
    /// it is there, or it is known why it is not; `None` where this replica does not lead, or no
    /// longer does: then the shard may be there or not.
    pub async fn move_shard(&self, request: MoveRequest) -> Option<MoveAnswer> {
        self.ask(|answer| Input::Move(request, answer)).await
    }

    /// What this replica observes as the leader; `None` where it does not lead.
    pub async fn observed(&self) -> Option<Observation> {
        self.ask(Input::Observe).await
    }

    /// Waits until the controller has ended: with Raft, or because it failed. A replica must not
    /// continue without it.
    pub async fn stopped(&self) {
        self.inputs.closed().await;
    }

    async fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<Option<T>>) -> Input) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.inputs.send(input(answer)).await.ok()?;
        answered.await.ok()?
    }
}

#[cfg(test)]
mod tests;
