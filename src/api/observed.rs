//! What the leader observes, asked from any replica.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};
use tonic::{Status, transport::Channel};

use super::{
    reads::{Read, Reads},
    status::{leader_silent, member_in_use, no_quorum, not_moved},
};
use crate::{
    domain::{
        id::{ReplicaId, Revision, ShardId, StreamId},
        member::Availability,
    },
    group::Group,
    net::Channels,
    proto::internal::v1::{
        MoveRequest, NotMovedKind, ObserveRequest, ObserveResponse, RemoveRequest,
        leader_service_client::LeaderServiceClient, move_response, remove_response,
    },
    raft::Leadership,
};

/// An answer that takes longer is not worth waiting for: the page is shown without it.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// For how long an answer serves everybody who asks at this replica: however many there are, the
/// leader is asked a few times in a second.
const FRESH_FOR: Duration = Duration::from_millis(250);

/// For how long what keeps the group from agreeing is taken to be the same. To find it out, every
/// voter is asked.
const PROBLEM_FRESH_FOR: Duration = Duration::from_secs(1);

/// How long a leader may take to remove a replica: two changes of the membership and an entry.
const REMOVED_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a leader may take to move a shard: the receiver opens the watches, and an entry.
const MOVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Pause before the leader is asked again, if nothing better is known.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long to look for a leader before a request that needs one is refused: several elections.
const LEADER_TIMEOUT: Duration = Duration::from_secs(6);

/// How long it may take to find out why there is no leader, in time for the caller.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);

/// Asks the leader. A cheap clone.
#[derive(Clone)]
pub struct LeaderView {
    group: Group,
    channels: Channels,
    whole: Arc<Mutex<Option<Kept<Arc<Observation>>>>>,
    brief: Arc<Mutex<Option<Kept<Arc<Observation>>>>>,
    problem: Arc<Mutex<Option<Kept<String>>>>,
}

/// An answer, and what it is an answer to.
#[derive(Clone)]
struct Kept<T> {
    at: Instant,
    leadership: Leadership,
    answer: T,
}

/// What the leader answered; empty where none did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observation {
    /// Its opinion of each replica.
    pub(super) replicas: BTreeMap<ReplicaId, ObservedReplica>,
    /// The lag of each stream, in milliseconds.
    pub(super) lag_ms: BTreeMap<StreamId, u64>,
    /// Whether it has a majority behind it.
    pub(super) has_quorum: bool,
    /// What it has applied.
    pub(super) applied: Revision,
}

/// The leader's opinion of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObservedReplica {
    pub(super) availability: Availability,
    /// For how long the leader has not heard it.
    pub(super) silence_ms: Option<u64>,
    /// Its software version.
    pub(super) version: String,
    /// By how much its clock is ahead of the leader's.
    pub(super) clock_offset_ms: Option<i64>,
}

/// Why a shard was not moved.
#[derive(Debug)]
pub(super) enum Unmoved {
    /// It does not move there.
    Refused(Box<Status>),
    /// There is no leader.
    NoLeader,
    /// The leader did not answer, or could not: the same may be asked for again.
    AskAgain(String),
}

impl LeaderView {
    /// Asks through the connections to peers.
    pub fn new(group: Group, channels: Channels) -> Self {
        Self {
            group,
            channels,
            whole: Arc::default(),
            brief: Arc::default(),
            problem: Arc::default(),
        }
    }

    /// Everything that the leader observes, as of now or a moment ago.
    pub(super) async fn whole(&self) -> Arc<Observation> {
        let answer = async || Arc::new(self.ask(false).await);
        self.kept(&self.whole, FRESH_FOR, answer).await
    }

    /// The same without the streams.
    pub(super) async fn brief(&self) -> Arc<Observation> {
        let answer = async || Arc::new(self.ask(true).await);
        self.kept(&self.brief, FRESH_FOR, answer).await
    }

    /// What keeps the group from agreeing on anything.
    pub(super) async fn problem(&self) -> String {
        let answer = async || self.group.reach().await.to_string();
        self.kept(&self.problem, PROBLEM_FRESH_FOR, answer).await
    }

    /// What is kept, or asked for by one for all who wait.
    async fn kept<T: Clone>(
        &self,
        place: &Mutex<Option<Kept<T>>>,
        fresh_for: Duration,
        answer: impl AsyncFnOnce() -> T,
    ) -> T {
        let mut kept = place.lock().await;
        let leadership = *self.group.raft().leadership().borrow();
        if let Some(kept) = &*kept
            && kept.at.elapsed() < fresh_for
            && kept.leadership == leadership
        {
            return kept.answer.clone();
        }
        let answer = answer().await;
        *kept = Some(Kept {
            at: Instant::now(),
            leadership,
            answer: answer.clone(),
        });
        answer
    }

    async fn ask(&self, without_streams: bool) -> Observation {
        let request = ObserveRequest { without_streams };
        let answer = async {
            let answer = self.leader()?.observe(request).await.ok()?;
            Some(observation(answer.into_inner()))
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
        answer.ok().flatten().unwrap_or_default()
    }

    /// What this replica has applied, once that is all that was acknowledged to anybody before: for
    /// a request that would otherwise fail for what this replica does not know yet.
    pub(super) async fn catch_up(&self, reads: &Reads, timeout: Duration) -> Result<Read, Status> {
        let deadline = Instant::now() + timeout;
        let leader_timeout = timeout.saturating_sub(REASON_TIMEOUT).min(LEADER_TIMEOUT);
        let leader_deadline = Instant::now() + leader_timeout;
        loop {
            let leadership = *self.group.raft().leadership().borrow();
            // Not the one that is kept: it may be older than the request.
            let observation = self.ask(true).await;
            if observation.has_quorum {
                let timeout = deadline.duration_since(Instant::now());
                return reads.at_least(observation.applied.0, timeout).await;
            }
            if Instant::now() >= leader_deadline {
                return Err(no_quorum(self.problem().await));
            }
            self.wait_for_another(leadership).await;
        }
    }

    /// Has the leader remove a replica; the revision at which it is removed.
    pub(super) async fn remove(
        &self,
        replica: ReplicaId,
        timeout: Duration,
    ) -> Result<Revision, Status> {
        let replica_id = replica.0;
        let Some(mut leader) = self.leader() else {
            return Err(no_quorum(self.problem().await));
        };
        let removed = leader.remove(RemoveRequest { replica_id });
        let removed = tokio::time::timeout(timeout.min(REMOVED_TIMEOUT), removed).await;
        match removed {
            Ok(Ok(removed)) => match removed.into_inner().result {
                Some(remove_response::Result::Revision(revision)) => Ok(Revision(revision)),
                Some(remove_response::Result::InUse(why)) => Err(member_in_use(why)),
                Some(remove_response::Result::NotNow(_)) => Err(no_quorum(self.problem().await)),
                None => Err(leader_silent("it sent an empty response")),
            },
            Ok(Err(status)) => Err(leader_silent(status.message())),
            Err(_) => Err(leader_silent("timeout")),
        }
    }

    /// Has the leader move a shard; the revision at which it is there. What is there already does not
    /// move again, so it may be asked for as often as needed.
    pub(super) async fn move_shard(
        &self,
        shard: ShardId,
        to: ReplicaId,
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Revision, Unmoved> {
        let again = |why: &str| Err(Unmoved::AskAgain(why.to_owned()));
        let leadership = *self.group.raft().leadership().borrow();
        let Some(mut leader) = self.leader() else {
            self.wait_for_another(leadership).await;
            return Err(Unmoved::NoLeader);
        };
        let moved = leader.r#move(MoveRequest {
            cluster_id: shard.cluster.0,
            slice: shard.slice,
            replica_id: to.0,
            validate_only,
        });
        let moved = tokio::time::timeout(timeout.min(MOVE_TIMEOUT), moved).await;
        let why = match moved {
            Ok(Ok(moved)) => match moved.into_inner().result {
                Some(move_response::Result::Revision(revision)) => return Ok(Revision(revision)),
                Some(move_response::Result::NotMoved(refused)) => match refused.kind() {
                    NotMovedKind::NotYet => refused.why,
                    kind => return Err(Unmoved::Refused(Box::new(not_moved(kind, refused.why)))),
                },
                None => return again("it answered with nothing"),
            },
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => return again("timeout"),
        };
        self.wait_for_another(leadership).await;
        again(&why)
    }

    /// Waits a moment, or until the leader changes.
    async fn wait_for_another(&self, leadership: Leadership) {
        let mut changes = self.group.raft().leadership();
        let changed = changes.wait_for(|now| *now != leadership);
        drop(tokio::time::timeout(RETRY_PAUSE, changed).await);
    }

    fn leader(&self) -> Option<LeaderServiceClient<Channel>> {
        let leader = self.group.raft().leadership().borrow().leader?;
        let address = self.group.raft().peer_address_of(leader)?;
        let channel = self.channels.channel(&address).ok()?;
        Some(LeaderServiceClient::new(channel))
    }
}

fn observation(answer: ObserveResponse) -> Observation {
    let replicas = answer.replicas.into_iter().map(|replica| {
        let availability = match replica.availability {
            1 => Availability::Active,
            2 => Availability::Suspect,
            _ => Availability::Unavailable,
        };
        let observed = ObservedReplica {
            availability,
            silence_ms: replica.silence_ms,
            version: replica.version,
            clock_offset_ms: replica.clock_offset_ms,
        };
        (ReplicaId(replica.replica_id), observed)
    });
    let streams = answer.streams.into_iter();
    Observation {
        replicas: replicas.collect(),
        lag_ms: streams
            .map(|report| (StreamId(report.stream_id), report.lag_ms))
            .collect(),
        has_quorum: answer.has_quorum,
        applied: Revision(answer.applied_index),
    }
}
