//! Who leads, and whether a majority confirms it.

use std::{sync::atomic::Ordering, time::Duration};

use openraft::{
    Instant as _, ServerState, async_runtime::WatchReceiver as _, raft::TransferLeaderRequest,
};
use tokio::sync::watch;

use super::{ProposeError, Raft};
use crate::domain::id::ReplicaId;

/// A leader that no majority has acknowledged for so long does not take writes: they would only
/// wait. Longer than an election takes, and many of Raft's heartbeats.
const QUORUM_LOST: Duration = Duration::from_secs(1);

/// Who leads the group, as far as this replica knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader; `None` during an election.
    pub leader: Option<ReplicaId>,
    /// Its term.
    pub term: u64,
    /// Whether it is this replica.
    pub is_self: bool,
    /// For how long before this replica was elected no majority had acknowledged another leader, at
    /// least; zero where that is not known, and on others.
    pub unled: Duration,
}

/// What is known about the way to the leadership of one term.
#[derive(Clone, Copy, Debug)]
struct Succession {
    /// The last earlier term of which a leader was known here.
    led: Option<u64>,
    /// The last term that was to begin before the leader's time is over: it hands over, or is gone.
    handed_over: u64,
    /// For how long a voter grants no vote after it has heard a leader.
    voters_wait: Duration,
}

impl Succession {
    /// For how long no majority had acknowledged a leader when that of `term` was elected.
    ///
    /// A majority has voted for it, each of them only after it had heard nothing of the leader for
    /// so long; and every majority that acknowledged the leader has one of these in it. That does
    /// not hold for an election that the leader, or evidence of its death, asked for, nor where
    /// another term lies in between, of which nothing is known. A voter that has just been started
    /// again has forgotten what it had heard: two owners may then publish for this much longer.
    fn unled(self, term: u64) -> Duration {
        let follows = self.led.is_some_and(|led| led + 1 == term);
        if follows && self.handed_over != term {
            self.voters_wait
        } else {
            Duration::ZERO
        }
    }
}

impl Raft {
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
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        if membership.voter_ids().eq([own_id]) {
            // The only voter is the majority, and nobody is ever asked to acknowledge it.
            return Some(Duration::ZERO);
        }
        metrics.last_quorum_acked.map(|at| at.elapsed())
    }

    /// Whether a majority has acknowledged this replica as the leader lately; `false` on others.
    pub fn leads_a_quorum(&self) -> bool {
        self.quorum_ack_age().is_some_and(|age| age < QUORUM_LOST)
    }

    /// Whether this leader had a majority and has lost it.
    pub(super) fn has_lost_its_quorum(&self) -> bool {
        self.quorum_ack_age().is_some_and(|age| age >= QUORUM_LOST)
    }

    /// Up to which log index a follower's log is known to be this leader's; 0 where nothing is.
    pub fn matched(&self, follower: ReplicaId) -> u64 {
        let metrics = self.metrics();
        let replication = metrics.replication.as_ref();
        replication
            .and_then(|followers| followers.get(&follower.0).copied().flatten())
            .map_or(0, |id| id.index)
    }

    /// Asks for votes as if the leader had handed over to this replica.
    pub async fn ask_for_votes(&self) -> Result<(), String> {
        let vote = self.metrics().vote;
        self.note_handover(vote.leader_id.term);
        let request = TransferLeaderRequest::new(vote, self.replica_id().0, None);
        match self.inner.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Hands the leadership to another voter, as part of a planned stop.
    pub async fn transfer_leadership(&self, to: ReplicaId) -> Result<(), ProposeError> {
        let leadership = *self.inner.leadership.borrow();
        if !leadership.is_self {
            return Err(ProposeError::NotLeader {
                leader: leadership.leader,
            });
        }
        let trigger = self.inner.raft.trigger();
        let transferred = trigger.transfer_leader(to.0).await;
        transferred.map_err(|error| ProposeError::Stopped(error.to_string()))
    }

    /// The leader of a term is to be succeeded at once: the next term begins before the voters have
    /// missed it for long.
    pub(super) fn note_handover(&self, led: u64) {
        self.inner.handed_over.fetch_max(led + 1, Ordering::Relaxed);
    }

    pub(super) fn spawn_leadership(&self) {
        let this = self.clone();
        let stopping = self.inner.stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = this.publish_leadership() => {}
            }
        });
    }

    async fn publish_leadership(&self) {
        let mut metrics = self.inner.raft.server_metrics();
        let mut led = None;
        loop {
            let (leader, term, is_self) = {
                let metrics = metrics.borrow_watched();
                (
                    metrics.current_leader.map(ReplicaId),
                    metrics.vote.leader_id.term,
                    metrics.state == ServerState::Leader,
                )
            };
            let known = *self.inner.leadership.borrow();
            if known.leader.is_some() && known.term < term {
                led = Some(known.term);
            }
            let succession = Succession {
                led,
                handed_over: self.inner.handed_over.load(Ordering::Relaxed),
                voters_wait: self.inner.options.timing.election_max,
            };
            let now = Leadership {
                leader,
                term,
                is_self,
                unled: if is_self {
                    succession.unled(term)
                } else {
                    Duration::ZERO
                },
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
}

#[cfg(test)]
mod tests {
    use super::{Duration, Succession};

    const WAIT: Duration = Duration::from_millis(300);

    fn unled(led: Option<u64>, handed_over: u64, term: u64) -> Duration {
        let voters_wait = WAIT;
        let succession = Succession {
            led,
            handed_over,
            voters_wait,
        };
        succession.unled(term)
    }

    #[test]
    fn a_leader_that_follows_by_timeout_knows_how_long_the_other_was_missed() {
        assert_eq!(unled(Some(4), 0, 5), WAIT);
        assert_eq!(unled(Some(4), 4, 5), WAIT);
    }

    #[test]
    fn a_leader_that_was_asked_to_follow_knows_of_no_time_without_one() {
        assert_eq!(unled(Some(4), 5, 5), Duration::ZERO);
    }

    #[test]
    fn of_a_term_in_between_nothing_is_known() {
        assert_eq!(unled(Some(4), 0, 6), Duration::ZERO);
        assert_eq!(unled(None, 0, 1), Duration::ZERO);
    }
}
