use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, pending, ready};
use tokio::{
    sync::{oneshot, watch},
    task::AbortHandle,
    time::{Instant, interval, timeout},
};

use super::{Agreement, Controller, Heartbeat, Policy};
use crate::{
    domain::{
        assignment::{Assignment, MoveReason},
        cluster::Condition,
        command::{Command, Move},
        fixtures,
        id::{Incarnation, ReplicaId, Revision, ShardId, StreamId, UnixMillis},
        lease::{HEARTBEAT_EVERY, MARGIN, QUORUM_SILENCE_MAX, TTL},
        member::Availability,
        preparation::{Answer, HANDOVER_TIMEOUT, Outcome, Request},
        state::State,
    },
    raft::{Leadership, ProposeError, Proposed},
};

mod planned;
mod reach;
mod requested;

const A: ReplicaId = ReplicaId(1);
const B: ReplicaId = ReplicaId(2);

/// What becomes of a proposal.
enum Fate {
    /// It never gets an answer.
    Lost,
    Fails(ProposeError),
}

/// A move that is being prepared, and how to end that.
type Preparation = (Move, oneshot::Sender<Outcome>);

/// A group that commits at once everything that is proposed, unless set otherwise.
#[derive(Clone)]
struct Group {
    state: Arc<watch::Sender<Arc<State>>>,
    leadership: Arc<watch::Sender<Leadership>>,
    quorum_silence: Arc<Mutex<Option<Duration>>>,
    proposed: Arc<Mutex<Vec<Command>>>,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    /// Moves that are being prepared, and how to end that.
    preparing: Arc<Mutex<Vec<Preparation>>>,
    /// Whether receivers are ready at once.
    are_ready: Arc<AtomicBool>,
}

impl Group {
    /// Replicas 1..=replicas, clusters without owner, and A as the leader.
    fn new(replicas: u64, clusters: usize) -> Self {
        let mut state = State::default();
        for replica in 1..=replicas {
            register(&mut state, ReplicaId(replica));
        }
        for number in 0..clusters {
            let spec = fixtures::spec(&format!("c{number}"), &["v1/events"]);
            apply(&mut state, &fixtures::create(spec));
        }
        let group = Self {
            state: Arc::new(watch::Sender::new(Arc::new(state))),
            leadership: Arc::new(watch::Sender::new(Leadership::default())),
            quorum_silence: Arc::new(Mutex::new(Some(Duration::ZERO))),
            proposed: Arc::default(),
            fates: Arc::default(),
            preparing: Arc::default(),
            are_ready: Arc::new(AtomicBool::new(true)),
        };
        group.lead(1);
        group
    }

    /// A leads a term.
    fn lead(&self, term: u64) {
        self.leadership.send_replace(Leadership {
            leader: Some(A),
            term,
            is_self: true,
            unled: Duration::ZERO,
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(|state| change(Arc::make_mut(state)));
    }

    fn start(&self) -> Controller {
        Controller::start_with(Arc::new(self.clone()), Policy::default())
    }

    /// Waits for a state, in virtual time.
    async fn until(&self, what: &str, mut reached: impl FnMut(&State) -> bool) {
        let mut state = self.state.subscribe();
        let reached = state.wait_for(|state| reached(state));
        let waited = timeout(Duration::from_secs(60), reached).await;
        assert!(waited.is_ok(), "timed out waiting until {what}");
    }

    async fn until_all_owned(&self) {
        let all = |state: &State| state.assignments.values().all(|a| a.owner().is_some());
        self.until("all are owned", all).await;
    }

    async fn until_owned_by(&self, owner: ReplicaId) {
        let all = |state: &State| state.assignments.values().all(|a| a.owner() == Some(owner));
        self.until("one owns all", all).await;
    }

    fn proposals(&self) -> Vec<Vec<Move>> {
        let proposed = self.proposed.lock().unwrap();
        let moves = |command: &Command| match command {
            Command::Assign { moves, .. } => moves.clone(),
            other => panic!("{other:?}"),
        };
        proposed.iter().map(moves).collect()
    }

    /// From now on each receiver waits for [`Self::end_preparations`].
    fn hold_receivers(&self) {
        self.are_ready.store(false, Ordering::Relaxed);
    }

    /// What is being prepared; it has this outcome now.
    fn end_preparations(&self, outcome: Outcome) -> Vec<Move> {
        let preparing = std::mem::take(&mut *self.preparing.lock().unwrap());
        let end = |(step, end): Preparation| {
            end.send(outcome).unwrap();
            step
        };
        preparing.into_iter().map(end).collect()
    }

    fn owned_by(&self, replica: ReplicaId) -> usize {
        let state = self.state.borrow();
        let owners = state.assignments.values().filter_map(Assignment::owner);
        owners.filter(|owner| *owner == replica).count()
    }

    fn streams(&self) -> Vec<(StreamId, Duration)> {
        let state = self.state.borrow();
        let ids = state.streams.keys();
        ids.map(|id| (*id, Duration::from_millis(7))).collect()
    }
}

impl Agreement for Group {
    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    fn watch_topology(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn quorum_ack_age(&self) -> Option<Duration> {
        *self.quorum_silence.lock().unwrap()
    }

    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Proposed, ProposeError>> {
        self.proposed.lock().unwrap().push(command.clone());
        match self.fates.lock().unwrap().pop_front() {
            Some(Fate::Lost) => return Box::pin(pending()),
            Some(Fate::Fails(error)) => return Box::pin(ready(Err(error))),
            None => {}
        }
        let mut outcome = None;
        self.change(|state| outcome = Some(apply(state, &command)));
        let revision = self.state.borrow().revision;
        Box::pin(ready(Ok(Proposed {
            outcome: outcome.expect("it was applied"),
            revision,
        })))
    }

    fn prepare(&self, request: Request, _: Revision) -> BoxFuture<'static, Answer> {
        if self.are_ready.load(Ordering::Relaxed) {
            return Box::pin(ready(Outcome::Ready.into()));
        }
        let (end, ended) = oneshot::channel();
        self.preparing.lock().unwrap().push((request.step, end));
        Box::pin(async move { ended.await.unwrap_or(Outcome::Failed).into() })
    }
}

fn apply(state: &mut State, command: &Command) -> crate::domain::command::Outcome {
    let revision = Revision(state.revision.0 + 1);
    state.apply(revision, command).outcome
}

fn register(state: &mut State, replica: ReplicaId) {
    let name = format!("replica-{replica}");
    apply(state, &fixtures::register(replica, &name));
}

fn heartbeat(replica: ReplicaId) -> Heartbeat {
    Heartbeat {
        replica,
        incarnation: Incarnation(1),
        leaving: false,
        streams: Vec::new(),
        version: String::new(),
        clock_sample_ms: None,
    }
}

/// The lease that a replica is granted now.
async fn lease(controller: &Controller, replica: ReplicaId) -> Option<Duration> {
    let grant = controller.heartbeat(heartbeat(replica)).await;
    grant.map(|grant| grant.lease)
}

/// Sends a replica's heartbeats until aborted.
fn keep_alive(controller: &Controller, replica: ReplicaId) -> AbortHandle {
    let controller = controller.clone();
    let beat = async move {
        let mut tick = interval(HEARTBEAT_EVERY);
        loop {
            tick.tick().await;
            controller.heartbeat(heartbeat(replica)).await;
        }
    };
    tokio::spawn(beat).abort_handle()
}

async fn availability(controller: &Controller, replica: ReplicaId) -> Availability {
    controller.observed().await.unwrap().replicas[&replica].availability
}

/// Lets virtual time pass, with everything that happens in it.
async fn pass(time: Duration) {
    let _ = timeout(time, pending::<()>()).await;
}

#[tokio::test(start_paused = true)]
async fn shards_are_spread_over_the_replicas_that_are_heard() {
    let group = Group::new(2, 4);
    let controller = group.start();
    keep_alive(&controller, A);
    group.until_owned_by(A).await;
    keep_alive(&controller, B);
    group
        .until("B has its share", |state| {
            let owners = state.assignments.values().filter_map(Assignment::owner);
            owners.filter(|owner| *owner == B).count() == 2
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_replica_is_succeeded_when_its_lease_is_over() {
    let group = Group::new(2, 4);
    let controller = group.start();
    keep_alive(&controller, A);
    let beats = keep_alive(&controller, B);
    group.until_all_owned().await;
    pass(Duration::from_secs(3)).await;
    assert_eq!(group.owned_by(B), 2);

    beats.abort();
    let silent_since = Instant::now();
    group.until_owned_by(A).await;
    let waited = silent_since.elapsed();
    assert!(waited >= TTL + MARGIN - HEARTBEAT_EVERY, "{waited:?}");
    assert!(waited <= TTL + MARGIN + super::run::TICK, "{waited:?}");
    let last = group.proposals().pop().unwrap();
    assert!(last.iter().all(|step| step.reason == MoveReason::Takeover));
}

#[tokio::test(start_paused = true)]
async fn a_dead_or_leaving_replica_is_succeeded_at_once() {
    for leaving in [true, false] {
        let group = Group::new(2, 4);
        let controller = group.start();
        keep_alive(&controller, A);
        let beats = keep_alive(&controller, B);
        group.until_all_owned().await;
        pass(Duration::from_secs(3)).await;
        beats.abort();
        let start = Instant::now();
        if leaving {
            let last = Heartbeat {
                leaving,
                ..heartbeat(B)
            };
            assert!(controller.heartbeat(last).await.is_some());
        } else {
            controller.mark_dead(B).await;
        }
        group.until_owned_by(A).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        let reason = match leaving {
            true => MoveReason::Handover,
            false => MoveReason::Takeover,
        };
        let last = group.proposals().pop().unwrap();
        assert!(last.iter().all(|step| step.reason == reason), "{last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_grants_and_observes_nothing() {
    let group = Group::new(2, 1);
    group.leadership.send_replace(Leadership::default());
    let controller = group.start();
    pass(Duration::from_secs(2)).await;
    assert_eq!(controller.heartbeat(heartbeat(A)).await, None);
    assert_eq!(controller.observed().await, None);
    assert_eq!(group.proposals().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn leases_shrink_with_the_silence_of_the_quorum_and_end_with_it() {
    let group = Group::new(2, 0);
    let controller = group.start();
    pass(Duration::from_millis(1)).await;
    assert_eq!(lease(&controller, A).await, Some(TTL));
    let silence = Duration::from_millis(70);
    *group.quorum_silence.lock().unwrap() = Some(silence);
    let shorter = TTL - silence;
    assert_eq!(lease(&controller, A).await, Some(shorter));
    for silence in [None, Some(QUORUM_SILENCE_MAX)] {
        *group.quorum_silence.lock().unwrap() = silence;
        assert_eq!(controller.heartbeat(heartbeat(B)).await, None);
    }
    let seen = &controller.observed().await.unwrap().replicas[&B];
    assert_eq!(seen.availability, Availability::Active, "it was heard");
    assert_eq!(seen.silence, Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_granted_nothing() {
    let group = Group::new(1, 0);
    let controller = group.start();
    pass(Duration::from_millis(1)).await;
    assert_eq!(controller.heartbeat(heartbeat(B)).await, None);
    group.change(|state| register(state, B));
    assert!(controller.heartbeat(heartbeat(B)).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_grant_names_the_replicas_that_take_shards() {
    let group = Group::new(2, 0);
    let controller = group.start();
    let beats = keep_alive(&controller, B);
    pass(TTL).await;
    let active = async || controller.heartbeat(heartbeat(A)).await.unwrap().active;
    assert_eq!(active().await, [A, B]);
    beats.abort();
    pass(TTL + MARGIN + HEARTBEAT_EVERY).await;
    assert_eq!(active().await, [A]);
}

#[tokio::test(start_paused = true)]
async fn one_command_at_a_time_is_under_way() {
    let group = Group::new(1, 3);
    group.fates.lock().unwrap().push_back(Fate::Lost);
    let controller = group.start();
    keep_alive(&controller, A);
    pass(Duration::from_secs(5)).await;
    assert_eq!(group.proposals().len(), 1);
    group.lead(2);
    group.until_owned_by(A).await;
    assert_eq!(group.proposals().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_command_is_tried_again_at_the_next_tick() {
    let group = Group::new(1, 3);
    for _ in 0..20 {
        let refusal = ProposeError::NotLeader { leader: None };
        group.fates.lock().unwrap().push_back(Fate::Fails(refusal));
    }
    let start = Instant::now();
    let controller = group.start();
    keep_alive(&controller, A);
    group.until_owned_by(A).await;
    assert!(start.elapsed() >= 19 * super::run::TICK);
    assert_eq!(group.proposals().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_the_state_decides_what_is_left() {
    let group = Group::new(1, 2);
    let unknown = ProposeError::Unknown("lost".into());
    group.fates.lock().unwrap().push_back(Fate::Fails(unknown));
    let controller = group.start();
    keep_alive(&controller, A);
    pass(Duration::from_millis(1)).await;
    // The command was committed after all.
    let command = group.proposed.lock().unwrap()[0].clone();
    group.change(|state| drop(apply(state, &command)));
    pass(Duration::from_secs(1)).await;
    assert_eq!(group.owned_by(A), 2);
    assert_eq!(group.proposals().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_moves_are_split_into_commands() {
    let group = Group::new(1, 600);
    let controller = group.start();
    keep_alive(&controller, A);
    group.until_owned_by(A).await;
    let sizes: Vec<_> = group.proposals().iter().map(Vec::len).collect();
    assert_eq!(sizes, [256, 256, 88]);
}

#[tokio::test(start_paused = true)]
async fn a_new_term_begins_without_opinions() {
    let group = Group::new(2, 0);
    let controller = group.start();
    keep_alive(&controller, A);
    pass(Duration::from_secs(2)).await;
    assert_eq!(availability(&controller, A).await, Availability::Active);
    assert_eq!(
        availability(&controller, B).await,
        Availability::Unavailable
    );
    group.lead(2);
    assert_eq!(availability(&controller, B).await, Availability::Suspect);
}

#[tokio::test(start_paused = true)]
async fn a_death_that_is_reported_at_the_election_belongs_to_the_new_term() {
    let group = Group::new(2, 0);
    let controller = group.start();
    // The loop takes what is ready in any order, so that one term would show nothing.
    for term in 2..30 {
        group.leadership.send_replace(Leadership {
            leader: None,
            term,
            is_self: false,
            unled: Duration::ZERO,
        });
        pass(Duration::from_millis(1)).await;
        group.lead(term);
        controller.mark_dead(B).await;
        assert_eq!(availability(&controller, A).await, Availability::Suspect);
        assert_eq!(
            availability(&controller, B).await,
            Availability::Unavailable
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_death_that_is_found_by_a_new_leader_is_not_forgotten() {
    let group = Group::new(2, 4);
    group.change(|state| {
        let shards: Vec<_> = state.assignments.keys().copied().collect();
        for shard in shards {
            let assignment = state.assignments.get_mut(&shard).unwrap();
            *assignment = assignment.assign_to(Some(B), MoveReason::Placed, UnixMillis(0));
        }
    });
    let controller = group.start();
    keep_alive(&controller, A);
    group.lead(2);
    let start = Instant::now();
    controller.mark_dead(B).await;
    group.until_owned_by(A).await;
    assert!(start.elapsed() < HEARTBEAT_EVERY * 2);
}

#[tokio::test(start_paused = true)]
async fn to_read_what_a_leader_observes_changes_nothing() {
    let group = Group::new(2, 0);
    let controller = group.start();
    keep_alive(&controller, A);
    pass(Duration::from_secs(2)).await;
    for _ in 0..100 {
        assert_eq!(
            availability(&controller, B).await,
            Availability::Unavailable
        );
    }
    assert_eq!(availability(&controller, A).await, Availability::Active);
}

#[tokio::test(start_paused = true)]
async fn the_controller_ends_with_raft() {
    let group = Group::new(1, 1);
    let stopped = ProposeError::Stopped("disk full".into());
    group.fates.lock().unwrap().push_back(Fate::Fails(stopped));
    let controller = group.start();
    keep_alive(&controller, A);
    controller.stopped().await;
    assert_eq!(controller.observed().await, None);
}
