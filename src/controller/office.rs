//! The loop: in office while this replica leads, waiting while another does.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, OptionFuture};
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};

use super::{Shared, term::Term};
use crate::{
    clock::unix_now,
    domain::{
        command::{Command, Move},
        id::Revision,
        placement::{Observed, Policy, plan},
        state::State,
    },
    raft::{Leadership, ProposeError, Proposed},
};

/// How often the loop looks without being woken: a lease runs out in silence. It is half a
/// heartbeat, so that it adds little to the time in which a frozen owner is noticed.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Most moves in one command, some 30 bytes each: a log entry stays below the 8 KiB that the store
/// writes in one piece. The moves that are left come with the next plan.
const MOVES_PER_COMMAND_MAX: usize = 256;

/// Owns the proposals; what it observes is behind [`Shared`].
pub(super) struct Office {
    shared: Arc<Shared>,
    policy: Policy,
    state: watch::Receiver<Arc<State>>,
    leadership: watch::Receiver<Leadership>,
    /// The one proposal that is under way.
    proposal: Option<Proposal>,
    /// Nothing is planned on a state before this one: it would not show the last moves.
    planned_from: Revision,
    /// Nothing is proposed before this moment: the last proposal was refused.
    retry_at: Duration,
    /// What there was nothing to do about.
    rested: Option<(Revision, Observed)>,
}

struct Proposal {
    moves: Vec<Move>,
    answer: BoxFuture<'static, Result<Proposed, ProposeError>>,
}

/// Why the loop wakes.
enum Wakeup {
    /// The leader or its term changed.
    Leadership,
    /// A new state, a new opinion, or time has passed.
    Look,
    /// The proposal has an answer, or none.
    Answered(Result<Proposed, ProposeError>),
    /// Raft has stopped.
    Stopped,
}

impl Office {
    pub(super) fn new(shared: Arc<Shared>, policy: Policy) -> Self {
        Self {
            state: shared.agreement.watch_state(),
            leadership: shared.agreement.leadership(),
            shared,
            policy,
            proposal: None,
            planned_from: Revision(0),
            retry_at: Duration::ZERO,
            rested: None,
        }
    }

    pub(super) async fn run(mut self) {
        let stopped = self.shared.stopped.clone();
        let _stopped = stopped.drop_guard();
        let mut tick = interval(TICK);
        // After an absence one look is enough.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.follow_leadership();
        loop {
            match self.wakeup(&mut tick).await {
                Wakeup::Leadership => self.follow_leadership(),
                Wakeup::Look => {}
                Wakeup::Answered(answer) => self.take_answer(answer),
                Wakeup::Stopped => break,
            }
            self.look();
        }
        *self.shared.term() = None;
    }

    async fn wakeup(&mut self, tick: &mut Interval) -> Wakeup {
        let leads = self.leadership.borrow().is_self;
        let answer: OptionFuture<_> = self.proposal.as_mut().map(|p| &mut p.answer).into();
        tokio::select! {
            // A term that is over must not act on anything that came later.
            biased;
            changed = self.leadership.changed() => {
                changed.map_or(Wakeup::Stopped, |()| Wakeup::Leadership)
            }
            Some(answer) = answer => match answer {
                Err(ProposeError::Stopped(_)) => Wakeup::Stopped,
                answer => Wakeup::Answered(answer),
            },
            () = self.shared.liveness.notified(), if leads => Wakeup::Look,
            changed = self.state.changed(), if leads => {
                changed.map_or(Wakeup::Stopped, |()| Wakeup::Look)
            }
            _ = tick.tick(), if leads => Wakeup::Look,
        }
    }

    /// Takes office, or leaves it. A new term is a new office even where no other leader was seen
    /// in between: there may have been one.
    fn follow_leadership(&mut self) {
        let Leadership { term, is_self, .. } = *self.leadership.borrow_and_update();
        let now = self.shared.now();
        let mut current = self.shared.term();
        let number = current.as_ref().map(|term| term.number);
        if number == is_self.then_some(term) {
            self.shared.follow(term, is_self);
            return;
        }
        if is_self {
            tracing::info!(term, "controller takes office");
        } else {
            tracing::info!(term, "controller leaves office");
        }
        *current = is_self.then(|| Term::new(term, now));
        self.shared.follow(term, is_self);
        self.proposal = None;
        self.rested = None;
    }

    /// Compares what is agreed with what is observed and proposes what the planner asks for.
    fn look(&mut self) {
        let state = Arc::clone(&self.state.borrow_and_update());
        let now = self.shared.now();
        // The table is looked at even while nothing can be proposed, so that this is no absence.
        let Some(observed) = self.shared.term().as_mut().map(|t| t.observed(&state, now)) else {
            return;
        };
        let waits = state.revision < self.planned_from || now < self.retry_at;
        if self.proposal.is_some() || waits {
            return;
        }
        let seen = (state.revision, observed);
        if self.rested.as_ref() == Some(&seen) {
            return;
        }
        let mut moves = plan(&state, &seen.1, &self.policy).moves;
        if moves.is_empty() {
            self.rested = Some(seen);
            return;
        }
        moves.truncate(MOVES_PER_COMMAND_MAX);
        let command = Command::Assign {
            moves: moves.clone(),
            at: unix_now(),
        };
        let answer = self.shared.agreement.propose(command);
        self.proposal = Some(Proposal { moves, answer });
    }

    fn take_answer(&mut self, answer: Result<Proposed, ProposeError>) {
        let Some(Proposal { moves, .. }) = self.proposal.take() else {
            return;
        };
        let now = self.shared.now();
        if answer.is_err() {
            self.retry_at = now + TICK;
        }
        match answer {
            Ok(Proposed { revision, .. }) => {
                tracing::info!(moves = moves.len(), %revision, "shards assigned");
                self.planned_from = revision;
                if let Some(term) = self.shared.term().as_mut() {
                    term.moved(&moves, now);
                }
            }
            // The term ends when Raft says so. Until then this is a leader that a quorum has not
            // confirmed yet: the next tick tries again.
            Err(error @ (ProposeError::NotLeader { .. } | ProposeError::NoLeader(_))) => {
                tracing::debug!(%error, "moves not proposed");
            }
            // They may still be carried out. Planning anew is safe: a move whose shard has changed
            // hands meanwhile is left out.
            Err(error @ ProposeError::Unknown(_)) => {
                tracing::warn!(%error, "outcome of moves unknown, planning anew");
            }
            Err(error) => {
                tracing::error!(%error, "moves not proposed");
            }
        }
    }
}
