//! Who leads, and what happens at once when the leader's process is seen to die.
//!
//! An election normally waits until the leader has been silent for its lease. A follower has faster
//! evidence: the kernel of a dead process closes its connections, and refuses new ones. On both
//! signs together a follower acts as if the leader had handed over to it. Raft's safety does not
//! rest on this: a wrong guess costs an election.

use std::{sync::Arc, time::Duration};

use openraft::{ServerState, async_runtime::WatchReceiver as _, raft::TransferLeaderRequest};
use tokio::{sync::watch, time::Instant};

use super::{Leadership, Raft, Role};
use crate::{domain::id::ReplicaId, peer};

/// Patience for the refusal: on a busy machine a process takes a while to end.
const REFUSAL: Duration = Duration::from_millis(500);

/// How often a leader looks whether a majority still follows, which nothing else tells it.
const LOOK_AT_QUORUM_EVERY: Duration = Duration::from_millis(200);

/// Followers see a death at the same instant; each waits this much longer than the one before it,
/// so that the first is elected before the second asks.
const STAGGER: Duration = Duration::from_millis(40);

impl Raft {
    pub(super) fn spawn_leadership_tasks(&self) {
        let publisher = self.clone();
        let stopping = self.inner.stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = publisher.publish_leadership() => {}
            }
        });
        let observer = self.clone();
        let stopping = self.inner.stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = observer.publish_led() => {}
            }
        });
        let successor = self.clone();
        let stopping = self.inner.stopping.clone();
        let cut_off = self.inner.cut_off.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = successor.watch_the_leader(cut_off) => {}
            }
        });
    }

    async fn publish_leadership(&self) {
        let mut metrics = self.inner.raft.server_metrics();
        loop {
            let now = {
                let metrics = metrics.borrow_watched();
                Leadership {
                    leader: metrics.current_leader.map(ReplicaId),
                    term: metrics.vote.leader_id.term,
                    is_self: metrics.state == ServerState::Leader,
                }
            };
            let is_news = self.inner.leadership.send_if_modified(|known| {
                let is_news = *known != now;
                *known = now;
                is_news
            });
            if let (true, Some(leader)) = (is_news, now.leader) {
                tracing::info!(%leader, term = now.term, is_self = now.is_self, "leader known");
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    async fn publish_led(&self) {
        let mut leadership = self.inner.leadership.subscribe();
        let patience = 2 * self.inner.options.timing.election_max;
        let mut known = Leadership::default();
        let mut since = Instant::now();
        loop {
            let now = *leadership.borrow_and_update();
            if now != known {
                (known, since) = (now, Instant::now());
            }
            // Whoever was elected a moment ago has the votes of a majority.
            let elected = since.elapsed();
            let followed = || {
                let acknowledged = self.quorum_ack_age();
                acknowledged.map_or(elected, |age| age.min(elected)) < patience
            };
            let is_led = now.leader.is_some() && (!now.is_self || followed());
            self.inner.led.send_if_modified(|led| {
                let is_news = *led != is_led;
                *led = is_led;
                is_news
            });
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                // poll: whether a majority still follows
                () = tokio::time::sleep(LOOK_AT_QUORUM_EVERY) => {}
            }
        }
    }

    async fn watch_the_leader(&self, mut cut_off: watch::Receiver<(u64, u64)>) {
        while cut_off.changed().await.is_ok() {
            let (sender, _) = *cut_off.borrow_and_update();
            let seen = *self.inner.leadership.borrow();
            if seen.leader != Some(ReplicaId(sender)) || seen.is_self {
                continue;
            }
            let Some(address) = self.peer_address_of(ReplicaId(sender)) else {
                continue;
            };
            let Some(turn) = self.turn_after(ReplicaId(sender)) else {
                continue;
            };
            if !peer::is_refused(&address, REFUSAL).await {
                continue;
            }
            let mut leadership = self.inner.leadership.subscribe();
            let changed = leadership.wait_for(|now| *now != seen);
            if tokio::time::timeout(STAGGER * turn, changed).await.is_ok() {
                continue;
            }
            tracing::info!(
                leader = sender,
                "the leader's process is gone, electing another"
            );
            self.succeed().await;
        }
    }

    /// This replica's place in the order in which voters try to succeed `leader`; `None` for one
    /// that does not vote.
    fn turn_after(&self, leader: ReplicaId) -> Option<u32> {
        let status = self.status();
        let voters = status
            .roles
            .iter()
            .filter(|(id, role)| **role == Role::Voter && **id != leader);
        // Of two candidates in one term Raft prefers the greater id, so that one goes first.
        let turn = voters.rev().position(|(id, _)| *id == self.replica_id())?;
        u32::try_from(turn).ok()
    }

    /// Asks for votes as if the leader had handed over to this replica.
    async fn succeed(&self) {
        let metrics = self.inner.raft.metrics();
        let vote = metrics.borrow_watched().vote;
        let request = TransferLeaderRequest::new(vote, self.replica_id().0, None);
        match self.inner.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "could not ask for votes"),
            Err(error) => tracing::debug!(%error, "could not ask for votes"),
        }
    }

    /// What openraft knows of the membership.
    pub(super) fn membership(&self) -> Arc<super::types::StoredMembership> {
        let metrics = self.inner.raft.metrics();
        Arc::clone(&metrics.borrow_watched().membership_config)
    }
}
