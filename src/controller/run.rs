//! The loop: one message at a time, each handled without waiting.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use super::{Agreement, Grant, Input, MoveAnswer, MoveRequest};
use crate::{
    clock::unix_now,
    domain::{
        command::{Command, Move},
        id::{ReplicaId, Revision},
        leader::{Heard, Heartbeat, Leader},
        lease,
        member::Availability,
        placement::{Observed, Policy, plan},
        preparation::{Answer, Outcome},
        requested::{Begun, NotMoved},
        state::State,
    },
    raft::{Leadership, ProposeError, Proposed},
};

/// How often the loop wakes without a message: a lease runs out in silence. It is half a heartbeat,
/// so that it adds little to the time in which a frozen owner is noticed.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Most moves in one command, some 30 bytes each: a log entry takes at most two chunks of the store.
/// The remaining moves come with the next plan.
const MOVES_PER_COMMAND_MAX: usize = 256;

/// Most users who wait for moves that they want. Several may wait for one move.
const WAITING_MAX: usize = 1_024;

/// Leads, while this replica does.
pub(super) struct LeaderLoop {
    agreement: Arc<dyn Agreement>,
    policy: Policy,
    inputs: mpsc::Receiver<Input>,
    state: watch::Receiver<Arc<State>>,
    leadership: watch::Receiver<Leadership>,
    /// Origin of the loop's monotonic clock.
    start: Instant,
    /// The term that this replica leads; `None` while another one leads.
    term: Option<Term>,
}

/// What is known and under way in one term of leadership.
struct Term {
    number: u64,
    leader: Leader,
    /// The one proposal that is under way.
    proposal: Option<Proposal>,
    /// Receivers that open the watches of shards.
    preparing: FuturesUnordered<BoxFuture<'static, (Asked, Answer)>>,
    /// Users who wait for a move that they want.
    waiting: Vec<(Move, MoveWaiter)>,
    /// Nothing is planned on a state before this one: it would not show the last moves.
    planned_from: Revision,
    /// Nothing is proposed before this moment: the last proposal was refused.
    retry_at: Duration,
    /// The last observation for which the plan was empty; skips planning again.
    settled: Option<Observed>,
    /// The availability of replicas as it was logged last.
    logged: BTreeMap<ReplicaId, Availability>,
}

/// What a receiver was asked for.
enum Asked {
    /// To take a shard.
    Move(Move),
    /// To see whether it could, for a user who waits.
    Trial(Move, MoveWaiter),
}

type MoveWaiter = oneshot::Sender<Option<MoveAnswer>>;

struct Proposal {
    /// None where it is about the health of a cluster.
    moves: Vec<Move>,
    answer: BoxFuture<'static, Result<Proposed, ProposeError>>,
}

/// Why the loop wakes.
enum Wakeup {
    /// The leader or its term changed.
    Leadership,
    /// Clusters, members or owners changed.
    State,
    /// A message.
    Input(Input),
    /// The proposal has an answer, or none.
    Answer(Result<Proposed, ProposeError>),
    /// A receiver has opened the watches of a shard, or cannot.
    Prepared(Asked, Answer),
    /// Time has passed.
    Tick,
    /// Raft has stopped, or nobody can send anything any more.
    Stopped,
}

impl LeaderLoop {
    pub(super) fn new(
        agreement: Arc<dyn Agreement>,
        policy: Policy,
        inputs: mpsc::Receiver<Input>,
    ) -> Self {
        Self {
            state: agreement.watch_topology(),
            leadership: agreement.leadership(),
            agreement,
            policy,
            inputs,
            start: Instant::now(),
            term: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut tick = interval(TICK);
        // After an absence one tick is enough.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wakeup = self.wakeup(&mut tick).await;
            if matches!(wakeup, Wakeup::Stopped) {
                return;
            }
            self.handle(wakeup);
        }
    }

    async fn wakeup(&mut self, tick: &mut Interval) -> Wakeup {
        let leads = self.term.is_some();
        let (proposal, preparing) = match &mut self.term {
            Some(term) => (term.proposal.as_mut(), Some(term.preparing.next())),
            None => (None, None),
        };
        let answer: OptionFuture<_> = proposal.map(|proposal| &mut proposal.answer).into();
        let prepared: OptionFuture<_> = preparing.into();
        tokio::select! {
            changed = self.leadership.changed() => {
                changed.map_or(Wakeup::Stopped, |()| Wakeup::Leadership)
            }
            Some(answer) = answer => match answer {
                Err(ProposeError::Stopped(_)) => Wakeup::Stopped,
                answer => Wakeup::Answer(answer),
            },
            Some(Some((asked, answer))) = prepared => Wakeup::Prepared(asked, answer),
            input = self.inputs.recv() => input.map_or(Wakeup::Stopped, Wakeup::Input),
            changed = self.state.changed(), if leads => {
                changed.map_or(Wakeup::Stopped, |()| Wakeup::State)
            }
            _ = tick.tick(), if leads => Wakeup::Tick,
        }
    }

    fn handle(&mut self, wakeup: Wakeup) {
        let now = self.start.elapsed();
        // Before anything else: a term that is over must not act on what came later, and what a new
        // leader is sent belongs to its term.
        self.follow_leadership(now);
        if let Some(term) = &mut self.term {
            term.leader.tick(now);
        }
        match wakeup {
            Wakeup::Input(Input::Heartbeat(heartbeat, answer)) => {
                // Who does not wait for the answer any more needs no lease.
                let _ = answer.send(self.heartbeat(heartbeat, now));
            }
            Wakeup::Input(Input::Died(replica)) => {
                if let Some(term) = &mut self.term {
                    term.leader.mark_dead(replica);
                }
            }
            Wakeup::Input(Input::Move(request, waiter)) => self.move_shard(request, waiter, now),
            Wakeup::Input(Input::Observe(answer)) => {
                let state = self.agreement.state();
                let term = self.term.as_ref();
                drop(answer.send(term.map(|term| term.leader.observation(&state, now))));
                return;
            }
            Wakeup::State => {
                if let Some(term) = &mut self.term {
                    term.settled = None;
                    term.leader.state_changed(&self.state.borrow());
                }
            }
            Wakeup::Answer(answer) => {
                if let Some(term) = &mut self.term {
                    term.take_answer(answer, now);
                }
            }
            Wakeup::Prepared(asked, answer) => {
                if let Some(term) = &mut self.term {
                    term.take_preparation(asked, &answer, &self.agreement.state(), now);
                }
            }
            Wakeup::Leadership | Wakeup::Tick | Wakeup::Stopped => {}
        }
        self.propose_moves(now);
        if let Some(term) = &mut self.term
            && !term.waiting.is_empty()
        {
            term.answer_users(&self.agreement.state(), now);
        }
    }

    /// A new term begins from nothing even where no other leader was seen in between: there may have
    /// been one.
    fn follow_leadership(&mut self, now: Duration) {
        let Leadership {
            term,
            is_self,
            unled,
            ..
        } = *self.leadership.borrow_and_update();
        let led = self.term.as_ref().map(|term| term.number);
        if led == is_self.then_some(term) {
            return;
        }
        if is_self {
            tracing::info!(term, "became leader, controller started");
        } else {
            tracing::info!(term, "lost leadership, controller stopped");
        }
        self.term = is_self.then(|| Term::new(term, now, unled));
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat, now: Duration) -> Option<Grant> {
        // That of the last entry: a member that has just registered is in it.
        let state = self.agreement.state();
        let replica = heartbeat.replica;
        let leader = &mut self.term.as_mut()?.leader;
        let heard = leader.heartbeat(&state, heartbeat, now);
        let active = leader.active(&state, now);
        let name = state.members.get(&replica).map(|member| &*member.name);
        match heard {
            Heard::Ignored => return None,
            Heard::Counted => {}
            Heard::ClockTurned { ahead_ms, is_off } => log_clock(name, ahead_ms, is_off),
        }
        let lease = lease::grant(self.agreement.quorum_ack_age()?)?;
        Some(Grant { lease, active })
    }

    /// Begins a move that a user wants. Who does not lead says so by dropping the waiter.
    fn move_shard(&mut self, request: MoveRequest, waiter: MoveWaiter, now: Duration) {
        let Some(term) = &mut self.term else {
            return;
        };
        if term.waiting.len() >= WAITING_MAX {
            return answer(waiter, Err(NotMoved::Busy));
        }
        let state = self.agreement.state();
        let MoveRequest { shard, to, .. } = request;
        let request = if request.validate_only {
            let tried = term.leader.try_wanted(&state, shard, to, now);
            tried.map(|request| request.map(|request| (Begun::Ask(request), true)))
        } else {
            let begun = term.leader.want(&state, shard, to, now);
            begun.map(|begun| Some((begun, false)))
        };
        let (request, asked) = match request {
            Err(refused) => return answer(waiter, Err(refused)),
            Ok(None | Some((Begun::Done, _))) => return answer(waiter, Ok(state.revision)),
            Ok(Some((Begun::Joined(step), _))) => return term.waiting.push((step, waiter)),
            Ok(Some((Begun::Ask(request), true))) => {
                let asked = Asked::Trial(request.step.clone(), waiter);
                (request, asked)
            }
            Ok(Some((Begun::Ask(request), false))) => {
                term.waiting.push((request.step.clone(), waiter));
                let asked = Asked::Move(request.step.clone());
                (request, asked)
            }
        };
        let prepared = self.agreement.prepare(request, state.revision);
        let prepared = prepared.map(|answer| (asked, answer));
        term.preparing.push(prepared.boxed());
    }

    /// Compares what is agreed with what is observed, proposes what the planner asks for, and has
    /// planned moves prepared.
    fn propose_moves(&mut self, now: Duration) {
        let Some(term) = &mut self.term else {
            return;
        };
        // The health of clusters is in it, which wakes nobody. A change of owners that comes
        // meanwhile is left to wake the loop.
        let state = self.agreement.state();
        let (due, observed) = term.leader.due(&state, now);
        term.log_changes(&state, &observed.replicas);
        let waits = state.revision < term.planned_from || now < term.retry_at;
        if term.proposal.is_some() || waits {
            return;
        }
        let outage = term.leader.outage_to_confirm(&state, &observed);
        if due.is_empty() && outage.is_none() && term.settled.as_ref() == Some(&observed) {
            return;
        }
        let plan = plan(&state, &observed, &self.policy);
        for request in term.leader.prepare(plan.prepare, now) {
            let asked = Asked::Move(request.step.clone());
            let prepared = self.agreement.prepare(request, state.revision);
            let prepared = prepared.map(|answer| (asked, answer));
            term.preparing.push(prepared.boxed());
        }
        let mut moves = plan.moves;
        // A shard that is due may have lost its owner meanwhile, and then it is in the plan.
        let urgent: BTreeSet<_> = moves.iter().map(|step| step.shard).collect();
        moves.extend(due.into_iter().filter(|step| !urgent.contains(&step.shard)));
        moves.truncate(MOVES_PER_COMMAND_MAX);
        let command = match (moves.is_empty(), outage) {
            (true, None) => {
                term.settled = Some(observed);
                return;
            }
            (true, Some(outage)) => outage,
            (false, _) => Command::Assign {
                moves: moves.clone(),
                at: unix_now(),
            },
        };
        term.settled = None;
        let answer = self.agreement.propose(command);
        term.proposal = Some(Proposal { moves, answer });
    }
}

impl Term {
    fn new(number: u64, now: Duration, unled: Duration) -> Self {
        Self {
            number,
            leader: Leader::new(now, unled),
            proposal: None,
            preparing: FuturesUnordered::new(),
            waiting: Vec::new(),
            planned_from: Revision(0),
            retry_at: Duration::ZERO,
            settled: None,
            logged: BTreeMap::new(),
        }
    }

    /// What a receiver was asked for has come to an end.
    fn take_preparation(&mut self, asked: Asked, prepared: &Answer, state: &State, now: Duration) {
        match asked {
            Asked::Move(step) => {
                self.leader.prepared(&step, prepared.outcome, now);
                let assignment = state.assignments.get(&step.shard);
                // Where the shard has changed hands meanwhile, that is what came of it.
                let is_current = assignment.is_some_and(|found| found.epoch() == step.epoch);
                if is_current && prepared.outcome != Outcome::Ready {
                    let refused = not_ready(state, &step, prepared);
                    let waits = |(wanted, _): &mut (Move, MoveWaiter)| *wanted == step;
                    for (_, waiter) in self.waiting.extract_if(.., waits) {
                        answer(waiter, Err(refused.clone()));
                    }
                }
            }
            Asked::Trial(step, waiter) => {
                self.leader.trial_ended();
                answer(
                    waiter,
                    match prepared.outcome {
                        Outcome::Ready => Ok(state.revision),
                        _ => Err(not_ready(state, &step, prepared)),
                    },
                );
            }
        }
    }

    /// Answers users whose move has been made, or cannot be made any more.
    fn answer_users(&mut self, state: &State, now: Duration) {
        let waiting = std::mem::take(&mut self.waiting);
        for (step, waiter) in waiting {
            match self.leader.outcome_of_wanted(state, &step, now) {
                None => self.waiting.push((step, waiter)),
                Some(outcome) => answer(waiter, outcome.map(|()| state.revision)),
            }
        }
    }

    fn take_answer(&mut self, answer: Result<Proposed, ProposeError>, now: Duration) {
        let Some(Proposal { moves, .. }) = self.proposal.take() else {
            return;
        };
        if answer.is_err() {
            self.retry_at = now + TICK;
        }
        match answer {
            Ok(Proposed { revision, .. }) if moves.is_empty() => {
                tracing::info!(%revision, "cluster unreachable from its owner and from every other replica");
            }
            Ok(Proposed { revision, .. }) => {
                tracing::info!(moves = moves.len(), %revision, "shards assigned");
                self.planned_from = revision;
            }
            // The term ends when Raft reports it. Until then this is a leader that a quorum has not
            // confirmed yet: the next tick tries again.
            Err(error @ (ProposeError::NotLeader { .. } | ProposeError::NoLeader)) => {
                tracing::debug!(%error, "moves not proposed");
            }
            // They may still be carried out. Planning again is safe: a move whose shard has changed
            // hands meanwhile is left out.
            Err(error @ ProposeError::Unknown(_)) => {
                tracing::warn!(%error, "outcome of the moves unknown, replanning");
            }
            Err(error) => {
                tracing::error!(%error, "moves not proposed");
            }
        }
    }

    fn log_changes(&mut self, state: &State, replicas: &BTreeMap<ReplicaId, Availability>) {
        if self.logged == *replicas {
            return;
        }
        for (replica, availability) in replicas {
            if self.logged.get(replica) != Some(availability) {
                let member = state.members.get(replica);
                let name = member.map(|member| member.name.as_str());
                tracing::info!(%replica, name, ?availability, "replica availability changed");
            }
        }
        self.logged.clone_from(replicas);
    }
}

/// Who does not wait for the answer any more needs none.
fn answer(waiter: MoveWaiter, answer: MoveAnswer) {
    drop(waiter.send(Some(answer)));
}

fn not_ready(state: &State, step: &Move, answer: &Answer) -> NotMoved {
    let member = step.to.and_then(|receiver| state.members.get(&receiver));
    let receiver = member.map(|member| member.name.clone()).unwrap_or_default();
    let reason = answer.reason.clone();
    match answer.outcome {
        Outcome::Unfit => NotMoved::OutOfReach { receiver, reason },
        Outcome::Ready | Outcome::Failed => NotMoved::Late { receiver, reason },
    }
}

fn log_clock(name: Option<&str>, ahead_ms: i64, is_off: bool) {
    if is_off {
        tracing::warn!(
            name,
            ahead_ms,
            "this replica's clock differs from the leader's: check NTP on both. Ownership does not \
             depend on it; displayed times, certificates and tokens do"
        );
    } else {
        tracing::info!(
            name,
            ahead_ms,
            "clock offset of this replica is back within bounds"
        );
    }
}
