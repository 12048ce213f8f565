//! Acts for the group while this replica leads it: takes heartbeats in, grants leases, and proposes
//! the moves that [`plan`](crate::domain::placement::plan) asks for.
//!
//! It decides nothing itself: it brings `domain` what it sees and carries out the answer. On a
//! replica that does not lead it waits, and its handle answers `None`.

mod agreement;
mod office;
mod term;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{agreement::Agreement, office::Office, term::Term};
use crate::{
    domain::{
        id::{Incarnation, ReplicaId, StreamId},
        lease,
        member::Availability,
        placement::Policy,
    },
    raft::Raft,
};

/// One heartbeat, as the leader receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatIn {
    /// Who sent it.
    pub replica: ReplicaId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Whether it is about to stop: what it owns goes elsewhere now.
    pub leaving: bool,
    /// For how long the API servers of its streams have been silent.
    pub streams: Vec<(StreamId, Duration)>,
    /// The last log index that it has applied.
    pub applied_index: u64,
    /// Its software version.
    pub version: String,
    /// A sample of its wall clock, for
    /// [`ClockOffset::push`](crate::domain::clock_offset::ClockOffset::push); `None` where it told
    /// none.
    pub clock_sample_ms: Option<i64>,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How long the lease holds, counted from the sending of the heartbeat.
    pub lease: Duration,
}

/// What the leader knows of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its opinion.
    pub availability: Availability,
    /// The time since its last heartbeat; `None` where this leader never had one.
    pub silence: Option<Duration>,
    /// Its software version; empty where this leader never heard it.
    pub version: String,
    /// By how much its wall clock is ahead of this leader's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
}

/// What the leader observes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Every registered replica.
    pub replicas: BTreeMap<ReplicaId, Seen>,
    /// For how long the API servers of owned streams have been silent. A stream that its owner has
    /// not reported yet is missing.
    pub streams: BTreeMap<StreamId, Duration>,
}

/// The controller of this replica. Cheap to clone.
#[derive(Clone)]
pub struct Controller {
    shared: Arc<Shared>,
}

/// What the handle and the loop share.
struct Shared {
    agreement: Arc<dyn Agreement>,
    /// What `now` counts from.
    start: Instant,
    /// What is known in this term of leadership; `None` while another replica leads. The lock is
    /// never held across an await.
    term: Mutex<Option<Term>>,
    /// An opinion of a replica has changed.
    liveness: Notify,
    /// The latest term that the loop has followed, and whether this replica led then. In one term
    /// it first asks for votes, and leads after that.
    followed: watch::Sender<(u64, bool)>,
    /// Cancelled when the loop has ended.
    stopped: CancellationToken,
}

impl Controller {
    /// Starts the controller. It ends with `raft`.
    pub fn start(raft: Raft) -> Self {
        Self::start_with(Arc::new(raft), Policy::default())
    }

    fn start_with(agreement: Arc<dyn Agreement>, policy: Policy) -> Self {
        let shared = Arc::new(Shared {
            agreement,
            start: Instant::now(),
            term: Mutex::new(None),
            liveness: Notify::new(),
            followed: watch::Sender::new((0, false)),
            stopped: CancellationToken::new(),
        });
        tokio::spawn(Office::new(Arc::clone(&shared), policy).run());
        Self { shared }
    }

    /// Takes a heartbeat in and grants a lease; `None` where this replica may not: it does not
    /// lead, the group has not confirmed that it does for a while, or the sender is no member.
    pub fn heartbeat(&self, heartbeat: HeartbeatIn) -> Option<Grant> {
        let shared = &self.shared;
        let state = shared.agreement.state();
        if !state.members.contains_key(&heartbeat.replica) {
            return None;
        }
        let now = shared.now();
        let mut term = shared.term();
        let changed = term.as_mut()?.heartbeat(&state, heartbeat, now)?;
        drop(term);
        if changed {
            shared.liveness.notify_one();
        }
        let quorum_silence = shared.agreement.quorum_ack_age()?;
        lease::grant(quorum_silence).map(|lease| Grant { lease })
    }

    /// Waits until the controller is in office in this term, or knows of a later one. A leader that
    /// tells it of deaths before would tell nobody, or the term that is over.
    pub async fn followed(&self, term: u64) {
        let mut followed = self.shared.followed.subscribe();
        let followed = followed.wait_for(|followed| *followed >= (term, true));
        // The sender lives in `self`, so that waiting does not fail.
        drop(followed.await);
    }

    /// The process of a replica is known to have ended.
    pub fn mark_dead(&self, replica: ReplicaId) {
        if let Some(term) = self.shared.term().as_mut() {
            term.mark_dead(replica);
            self.shared.liveness.notify_one();
        }
    }

    /// What this replica observes as the leader; `None` where it does not lead.
    pub fn observed(&self) -> Option<Observation> {
        let state = self.shared.agreement.state();
        let now = self.shared.now();
        self.shared
            .term()
            .as_mut()
            .map(|term| term.observation(&state, now))
    }

    /// Waits until the controller has ended: with Raft, or because it failed. A replica must not
    /// go on without it.
    pub async fn stopped(&self) {
        self.shared.stopped.cancelled().await;
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A panic under the lock ends the loop, and the process with it; until then what is behind
    /// the lock is as good as before.
    fn term(&self) -> MutexGuard<'_, Option<Term>> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop has followed this term.
    fn follow(&self, term: u64, is_self: bool) {
        self.followed.send_if_modified(|followed| {
            let is_news = (term, is_self) > *followed;
            *followed = (term, is_self).max(*followed);
            is_news
        });
    }
}

#[cfg(test)]
mod tests;
