//! Who has died: evidence that comes milliseconds after a crash, long before a lease is over.
//!
//! The kernel of a process that ends closes its connections, and refuses new ones. Both signs
//! together are evidence of death. A follower that has it of the leader asks for votes as if the
//! leader had handed over to it; the leader that has it of another replica reports it to the
//! controller. Neither Raft's safety nor that of ownership rests on it: a wrong guess costs an
//! election, or moves.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Group;
use crate::{
    controller::Controller,
    domain::id::ReplicaId,
    net,
    raft::{Role, StreamEnd},
};

/// How long a refusal may take: on a busy machine a process takes a while to end.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// Followers see a death at the same instant; each waits this much longer than the one before it,
/// so that the first is elected before the second asks.
const STAGGER: Duration = Duration::from_millis(40);

/// Ends of streams that may wait while a port is probed.
pub(super) const STREAM_ENDS_MAX: usize = 16;

impl Group {
    /// Whether the process of a replica has ended, judged by its port.
    async fn refuses_connections(&self, replica: ReplicaId) -> bool {
        match self.raft().peer_address_of(replica) {
            Some(address) => {
                let network = self.inner.channels.network();
                net::is_refused(network, &address, REFUSAL_TIMEOUT).await
            }
            None => false,
        }
    }

    pub(super) fn spawn_watch_of_the_leader(&self, ended: mpsc::Receiver<StreamEnd>) {
        let this = self.clone();
        let stopping = self.raft().stopping().clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = this.watch_the_leader(ended) => {}
            }
        });
    }

    /// On a follower: the leader's stream of entries ends where its process does.
    async fn watch_the_leader(&self, mut ended: mpsc::Receiver<StreamEnd>) {
        while let Some(StreamEnd { sender: leader }) = ended.recv().await {
            let mut leadership = self.raft().leadership();
            let seen = *leadership.borrow_and_update();
            if seen.leader != Some(leader) || seen.is_self {
                continue;
            }
            let Some(turn) = self.turn_after(leader) else {
                continue;
            };
            if !self.refuses_connections(leader).await {
                continue;
            }
            let changed = leadership.wait_for(|now| *now != seen);
            if tokio::time::timeout(STAGGER * turn, changed).await.is_ok() {
                continue;
            }
            tracing::info!(%leader, "the leader's process is gone, starting an election");
            if let Err(error) = self.raft().ask_for_votes().await {
                tracing::debug!(error, "could not start an election");
            }
        }
    }

    /// This replica's place in the order in which voters try to succeed `leader`; `None` for one
    /// that does not vote.
    fn turn_after(&self, leader: ReplicaId) -> Option<u32> {
        let status = self.raft().status();
        let voters = status
            .roles
            .iter()
            .filter(|(id, role)| **role == Role::Voter && **id != leader);
        // Of two candidates in one term Raft prefers the greater id, so that one goes first.
        let turn = voters.rev().position(|(id, _)| *id == self.replica_id())?;
        u32::try_from(turn).ok()
    }

    /// On the leader: a stream of heartbeats has ended.
    pub(super) async fn heartbeats_ended(&self, replica: ReplicaId, controller: &Controller) {
        if self.refuses_connections(replica).await {
            tracing::info!(%replica, "peer closed its connection and refuses new ones");
            controller.mark_dead(replica).await;
        }
    }

    /// On a new leader, which has no heartbeats yet and would wait out a full lease for each dead
    /// replica: probes every member at once. Never returns.
    pub async fn look_for_the_dead(&self, controller: &Controller) {
        let mut leadership = self.raft().leadership();
        loop {
            let is_leader = leadership.borrow_and_update().is_self;
            let probing = async {
                if is_leader {
                    self.probe_members(controller).await;
                }
                std::future::pending::<()>().await;
            };
            let changed = tokio::select! {
                changed = leadership.changed() => changed,
                () = probing => Ok(()),
            };
            if changed.is_err() {
                // Consensus has stopped, which ends the replica by itself.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn probe_members(&self, controller: &Controller) {
        let state = self.raft().state();
        let members = state.members.values();
        let others = members.filter(|member| member.id != self.replica_id());
        let probes = others.map(|member| async move {
            if self.refuses_connections(member.id).await {
                tracing::info!(name = %member.name, "member refuses connections");
                controller.mark_dead(member.id).await;
            }
        });
        futures::future::join_all(probes).await;
    }
}
