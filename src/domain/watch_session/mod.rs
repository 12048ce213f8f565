//! One stream's list/watch session as a state machine: [`WatchSession::step`].
//!
//! It decides when to list, to watch, to verify, to repair, to wait and to ask for a new era; a
//! driver carries that out and reports back. It sees versions and identities, never objects.
//!
//! What holds at every step: each delivered event is newer than the one before it, or shares its
//! version; nothing at or below a version that was reported as closed is delivered afterwards
//! without a new era in between. A version is closed by a later event, by a bookmark or by a list
//! that shows nothing else than what was delivered; never by time that has passed.

mod ledger;
mod messages;
mod progress;
mod state;
mod verification;
mod witness;

use crate::domain::{
    event::{Change, GapReason},
    position::ResourceVersion,
    stream::ResumePoint,
};
pub use ledger::Listing;
pub use messages::{Failure, Finding, Input, Output, Outputs, SessionPolicy};
use progress::{Progress, Verdict};
use state::{EraRequest, Goal, Probe, SessionState, Watching};
use verification::Verification;
pub use witness::{Question, Witness};

/// One stream's session.
#[derive(Clone, Debug)]
pub struct WatchSession {
    policy: SessionPolicy,
    progress: Progress,
    goal: Goal,
    state: SessionState,
    /// The identity of the cluster that `progress` belongs to, where known.
    cluster_uid: Option<String>,
    probe: Option<Probe>,
    quick_closes: u32,
    /// Internal errors at `progress.top()`.
    internal_errors: Vec<u64>,
    /// Whether the last watch was healthy, so that the next back-off restarts.
    fresh: bool,
    /// Whether a watch has shown that it works since the last era began.
    proven: bool,
    verification: Verification,
}

impl WatchSession {
    /// A session that begins at `resume`, on the cluster with this identity where known.
    pub fn new(resume: ResumePoint, cluster_uid: Option<String>, policy: SessionPolicy) -> Self {
        let (delivered, goal) = match resume {
            ResumePoint::Fresh => (ResourceVersion::ZERO, Goal::Renew(GapReason::StreamCreated)),
            ResumePoint::At(position) => (position.resume_rv(), Goal::Watch),
            ResumePoint::Repair { from, to, .. } => (from, Goal::Publish { to }),
        };
        Self {
            verification: Verification::new(delivered.clone(), &policy),
            policy,
            progress: Progress::new(delivered),
            goal,
            state: SessionState::Resting,
            cluster_uid: cluster_uid.filter(|uid| !uid.is_empty()),
            probe: None,
            quick_closes: 0,
            internal_errors: Vec::new(),
            fresh: true,
            proven: true,
        }
    }

    /// Takes in what has happened; `now_ms` never goes back. What does not fit the state is
    /// ignored: it belongs to something that was abandoned.
    pub fn step(&mut self, now_ms: u64, input: Input<'_>) -> Outputs {
        match (input, &self.state) {
            (Input::Event { rv, change, uid }, SessionState::Watching(_)) => {
                self.event(now_ms, rv, change, uid)
            }
            (Input::Start, SessionState::Resting) | (Input::Waited, SessionState::Waiting) => {
                self.pursue(now_ms)
            }
            (
                Input::Probed {
                    at,
                    cluster_uid,
                    is_rewound,
                },
                SessionState::Probing,
            ) => {
                let probe = Probe::new(now_ms, at, cluster_uid, is_rewound);
                self.probe = Some(probe);
                self.after_probe()
            }
            (Input::Opened { cluster_uid }, SessionState::Opening) => {
                self.opened(now_ms, &cluster_uid)
            }
            (Input::Bookmark(rv), SessionState::Watching(_)) => self.bookmark(now_ms, &rv),
            (Input::Ended, SessionState::Watching(watching)) => {
                let watching = watching.clone();
                self.ended(now_ms, &watching)
            }
            (Input::Failed(failure), _) => self.failed(now_ms, failure),
            // The API server has the history, and nothing that follows is missing: what ended the
            // watches was something else.
            (Input::Unchanged, SessionState::Checking { .. }) => {
                self.goal = Goal::Watch;
                self.watch()
            }
            (Input::Repairable, SessionState::Checking { to }) => {
                let to = to.clone();
                Outputs::from(Output::Closed(self.progress.closed())).then(self.ask(
                    GapReason::WatchCacheReset,
                    to,
                    true,
                ))
            }
            // No exact list of what was delivered is left: only a snapshot helps.
            (Input::Irreparable, SessionState::Checking { to }) => {
                let to = to.clone();
                self.ask(GapReason::HistoryExpired, to, false)
            }
            // The era was granted for a repair, and the lists expired before it was complete.
            (Input::Irreparable, SessionState::Publishing) => {
                self.goal = Goal::Renew(GapReason::HistoryExpired);
                self.probe()
            }
            (Input::Repaired, SessionState::Publishing) => self.repaired(now_ms),
            (Input::Granted, SessionState::Asking(era)) => {
                let era = era.clone();
                self.granted(now_ms, era)
            }
            (Input::Tick, SessionState::Watching(_)) => self.tick(now_ms),
            (Input::MayList, SessionState::Watching(_)) => self.may_list(now_ms),
            (
                Input::Listed {
                    listing,
                    is_rewound,
                },
                SessionState::Watching(_),
            ) => self.listed(now_ms, listing, is_rewound),
            (Input::ListGone, SessionState::Watching(_)) => self.list_gone(now_ms),
            (Input::ListFailed { retry_after_ms }, SessionState::Watching(_)) => {
                self.list_failed(now_ms, retry_after_ms)
            }
            _ => Outputs::None,
        }
    }

    /// When to call `step` with a `Tick`, if nothing happens before.
    pub fn wake_at(&self) -> Option<u64> {
        let SessionState::Watching(watching) = &self.state else {
            return None;
        };
        let (verification, policy) = (&self.verification, &self.policy);
        if verification.is_under_way() {
            return verification.compare_at(watching.heard_ms, policy);
        }
        let silence = watching.heard_ms.saturating_add(policy.silence_ms);
        let due = verification.due_at(watching, &self.progress.closed(), policy);
        Some(due.map_or(silence, |due| due.min(silence)))
    }

    /// The identity of the cluster that is watched, where known.
    pub fn cluster_uid(&self) -> Option<&str> {
        self.cluster_uid.as_deref()
    }

    /// Everything up to and including this version has been delivered.
    pub fn delivered(&self) -> ResourceVersion {
        self.progress.closed()
    }

    /// Takes the next step towards the goal.
    fn pursue(&mut self, now_ms: u64) -> Outputs {
        let valid_ms = self.policy.probe_valid_ms;
        let recent = self
            .probe
            .as_ref()
            .is_some_and(|probe| now_ms < probe.taken_ms.saturating_add(valid_ms));
        if matches!(self.goal, Goal::Watch) && recent {
            self.watch()
        } else {
            self.probe()
        }
    }

    fn probe(&mut self) -> Outputs {
        self.probe = None;
        self.state = SessionState::Probing;
        self.verification.give_up();
        Output::Probe.into()
    }

    fn watch(&mut self) -> Outputs {
        self.state = SessionState::Opening;
        let from = self.progress.begin_watch();
        Output::Watch { from }.into()
    }

    fn wait(&mut self, retry_after_ms: Option<u64>) -> Outputs {
        self.probe = None;
        self.state = SessionState::Waiting;
        self.verification.give_up();
        Output::Wait {
            retry_after_ms,
            fresh: std::mem::take(&mut self.fresh),
        }
        .into()
    }

    fn ask(&mut self, reason: GapReason, to: ResourceVersion, repaired: bool) -> Outputs {
        let cluster_uid = self
            .probe
            .as_ref()
            .map(|probe| probe.cluster_uid.clone())
            .unwrap_or_default();
        self.state = SessionState::Asking(EraRequest {
            to: to.clone(),
            repaired,
            cluster_uid: cluster_uid.clone(),
        });
        Output::EraNeeded {
            reason,
            to,
            repaired,
            cluster_uid,
        }
        .into()
    }

    fn after_probe(&mut self) -> Outputs {
        let Some(Probe {
            at,
            cluster_uid,
            is_rewound,
            ..
        }) = self.probe.clone()
        else {
            return self.probe();
        };
        // Continuity is given up already: whatever the list shows is the new beginning.
        if let Goal::Renew(reason) = self.goal {
            return self.ask(reason, at, false);
        }
        // An empty UID: the account cannot read kube-system, so identity is not checked.
        if !cluster_uid.is_empty() {
            let known = self.cluster_uid.get_or_insert_with(|| cluster_uid.clone());
            if *known != cluster_uid {
                return self.ask(GapReason::ClusterReplaced, at, false);
            }
        }
        let reached = match &self.goal {
            Goal::Publish { to } => to.max(self.progress.top()),
            _ => self.progress.top(),
        };
        // The list is behind what was delivered, or an object that was delivered is not in the
        // history: etcd was restored (trap T4).
        if at < *reached || is_rewound {
            return self.ask(GapReason::HistoryReset, at, false);
        }
        self.verification.history_holds();
        match self.goal.clone() {
            // Nothing follows that could be gone.
            Goal::Doubt if at == self.progress.closed() => {
                self.goal = Goal::Watch;
                self.watch()
            }
            // Something follows, but watches from here close at once: exact lists decide whether
            // the history is gone or something else ended the watches (trap T3).
            Goal::Doubt => {
                let (from, top) = (self.progress.closed(), self.progress.top().clone());
                self.state = SessionState::Checking { to: at.clone() };
                Output::CheckHistory { from, top, to: at }.into()
            }
            // The watch was refused as too old, or failed at one version repeatedly: the net changes
            // bridge that, if exact lists still answer (traps T12, T29).
            Goal::Recover => {
                let from = self.progress.closed();
                self.state = SessionState::Checking { to: at.clone() };
                Output::CheckRepair { from, to: at }.into()
            }
            Goal::Publish { to } => self.publish(to),
            Goal::Watch | Goal::Renew(_) => self.watch(),
        }
    }

    fn publish(&mut self, to: ResourceVersion) -> Outputs {
        self.state = SessionState::Publishing;
        let from = self.progress.closed();
        Output::Repair { from, to }.into()
    }

    fn granted(&mut self, now_ms: u64, era: EraRequest) -> Outputs {
        self.proven = false;
        self.internal_errors.clear();
        if !era.cluster_uid.is_empty() {
            self.cluster_uid = Some(era.cluster_uid);
        }
        // Progress stays where it is until the net changes are published.
        if era.repaired {
            self.goal = Goal::Publish { to: era.to.clone() };
            return self.publish(era.to);
        }
        self.progress = Progress::new(era.to.clone());
        self.verification.begin_era(now_ms, era.to, &self.policy);
        self.goal = Goal::Watch;
        self.pursue(now_ms)
    }

    fn repaired(&mut self, now_ms: u64) -> Outputs {
        let Goal::Publish { to } = &self.goal else {
            return Outputs::None;
        };
        let to = to.clone();
        self.progress = Progress::new(to.clone());
        self.verification
            .begin_repaired(now_ms, to.clone(), &self.policy);
        self.goal = Goal::Watch;
        Outputs::from(Output::Closed(to)).then(self.pursue(now_ms))
    }

    fn opened(&mut self, now_ms: u64, cluster_uid: &str) -> Outputs {
        let expected = self.cluster_uid.as_deref();
        // The cluster was replaced after the list was taken (trap T6).
        if !cluster_uid.is_empty() && expected.is_some_and(|expected| expected != cluster_uid) {
            return Outputs::from(Output::Abandon).then(self.wait(None));
        }
        let closed = self.progress.closed();
        let bound = self.probe.as_ref().map(|probe| probe.at.clone());
        let bound = bound.filter(|bound| *bound > closed);
        self.verification
            .watch_opens(now_ms, bound.is_some(), &self.policy);
        self.state = SessionState::Watching(Watching {
            opened_ms: now_ms,
            heard_ms: now_ms,
            heard: false,
            advanced: false,
            bound,
        });
        Outputs::None
    }

    fn event(&mut self, now_ms: u64, rv: &ResourceVersion, change: Change, uid: &str) -> Outputs {
        let uid = ledger::hashed(uid);
        let verdict = self.progress.take(rv, change, uid);
        match verdict {
            Verdict::Deliver => {
                self.internal_errors.clear();
                self.hear(now_ms);
                if let SessionState::Watching(watching) = &mut self.state {
                    watching.advanced = true;
                }
                self.verification.ledger.deliver(rv, change, uid);
                self.verification.prove(now_ms);
                let outputs = Outputs::from(Output::Deliver);
                if self.verification.is_under_way() {
                    return outputs.then(self.compare(now_ms, false));
                }
                outputs
            }
            // Not progress, but the watch is alive.
            Verdict::Repeat => {
                self.hear(now_ms);
                Output::Skip.into()
            }
            // This watch has delivered it already: the server went back (trap T10).
            Verdict::WentBack => {
                self.goal = Goal::Watch;
                Outputs::from(Output::Skip)
                    .then(Output::Abandon)
                    .then(self.wait(None))
            }
            // New, at a version that was reported as complete: continuity is lost (trap T11).
            Verdict::Late => {
                self.goal = Goal::Renew(GapReason::UpstreamInconsistent);
                Outputs::from(Output::Skip)
                    .then(Output::Abandon)
                    .then(self.probe())
            }
        }
    }

    fn bookmark(&mut self, now_ms: u64, rv: &ResourceVersion) -> Outputs {
        if self.is_behind(rv) {
            self.verification.doubt();
            return Outputs::None;
        }
        self.hear(now_ms);
        self.verification.prove(now_ms);
        if let SessionState::Watching(watching) = &mut self.state {
            watching.bound = watching.bound.take().filter(|bound| bound > rv);
        }
        self.close(rv).then(self.compare(now_ms, false))
    }

    /// Whether a bookmark shows no progress, although more has been seen: the server lags behind
    /// the one that was asked before, or its cluster was replaced since (trap T4).
    fn is_behind(&self, rv: &ResourceVersion) -> bool {
        let closed = self.progress.closed();
        *rv < closed || *rv == closed && self.bound().is_some_and(|bound| bound > rv)
    }

    /// The version of the list before the open watch, while that may lag behind it.
    fn bound(&self) -> Option<&ResourceVersion> {
        match &self.state {
            SessionState::Watching(watching) => watching.bound.as_ref(),
            _ => None,
        }
    }

    fn close(&mut self, rv: &ResourceVersion) -> Outputs {
        if self.progress.close(rv) {
            Output::Closed(rv.clone()).into()
        } else {
            Outputs::None
        }
    }

    fn hear(&mut self, now_ms: u64) {
        self.proven = true;
        self.quick_closes = 0;
        let top = self.progress.top();
        if let SessionState::Watching(watching) = &mut self.state {
            watching.heard_ms = now_ms;
            watching.heard = true;
            // An event after the list closes it by itself.
            watching.bound = watching.bound.take().filter(|bound| bound >= top);
        }
    }

    fn tick(&mut self, now_ms: u64) -> Outputs {
        let SessionState::Watching(watching) = &self.state else {
            return Outputs::None;
        };
        let (verification, policy) = (&self.verification, &self.policy);
        if verification.is_under_way() {
            let compare_at = verification.compare_at(watching.heard_ms, policy);
            let is_silent = compare_at.is_some_and(|at| now_ms >= at);
            return self.compare(now_ms, is_silent);
        }
        // Nothing arrived for too long: the connection may be dead (trap T13).
        if now_ms >= watching.heard_ms.saturating_add(policy.silence_ms) {
            let watching = watching.clone();
            self.note_health(now_ms, &watching);
            self.goal = Goal::Watch;
            return Outputs::from(Output::Abandon).then(self.probe());
        }
        let due = verification.due_at(watching, &self.progress.closed(), policy);
        if due.is_some_and(|due| now_ms >= due) {
            return self.ask_to_list();
        }
        Outputs::None
    }

    fn ended(&mut self, now_ms: u64, watching: &Watching) -> Outputs {
        self.note_health(now_ms, watching);
        self.goal = Goal::Watch;
        let lived_ms = now_ms.saturating_sub(watching.opened_ms);
        // Accepted and closed at once, several times: perhaps the API server's way to report
        // compacted history (trap T3).
        if !watching.heard && lived_ms < self.policy.quick_close_ms {
            self.quick_closes += 1;
            if self.quick_closes >= self.policy.quick_closes_max {
                self.quick_closes = 0;
                self.goal = Goal::Doubt;
            }
        }
        self.wait(None)
    }

    fn note_health(&mut self, now_ms: u64, watching: &Watching) {
        let lived_ms = now_ms.saturating_sub(watching.opened_ms);
        self.fresh |= lived_ms >= self.policy.healthy_ms;
        if lived_ms >= self.policy.idle_grace_ms {
            self.proven = true;
            self.quick_closes = 0;
        }
    }

    fn failed(&mut self, now_ms: u64, failure: Failure) -> Outputs {
        match self.state.clone() {
            SessionState::Resting | SessionState::Waiting | SessionState::Asking(_) => {
                Outputs::None
            }
            // The goal stays: after the wait it is pursued from the list on.
            SessionState::Probing | SessionState::Checking { .. } | SessionState::Publishing => {
                self.wait(match failure {
                    Failure::Other { retry_after_ms } => retry_after_ms,
                    Failure::Gone | Failure::Internal => None,
                })
            }
            SessionState::Opening => self.watch_failed(now_ms, failure),
            SessionState::Watching(watching) => {
                self.note_health(now_ms, &watching);
                // A watch that delivered again may only have been too slow: the next one decides.
                let outputs = if failure == Failure::Gone && watching.advanced {
                    self.wait(None)
                } else {
                    self.watch_failed(now_ms, failure)
                };
                Outputs::from(Output::Abandon).then(outputs)
            }
        }
    }

    fn watch_failed(&mut self, now_ms: u64, failure: Failure) -> Outputs {
        match failure {
            Failure::Gone => {
                self.goal = Goal::Recover;
                // Straight after an era the same answer means that something is wrong with the
                // server: do not hurry from era to era.
                if self.proven {
                    self.probe()
                } else {
                    self.wait(None)
                }
            }
            Failure::Internal => {
                let within_ms = self.policy.failures_within_ms;
                self.internal_errors
                    .retain(|at| now_ms < at.saturating_add(within_ms));
                self.internal_errors.push(now_ms);
                if self.internal_errors.len() >= self.policy.failures_max as usize {
                    self.internal_errors.clear();
                    self.goal = Goal::Recover;
                }
                self.wait(None)
            }
            Failure::Other { retry_after_ms } => self.wait(retry_after_ms),
        }
    }
}

/// The answer to `Output::Watch` where the identity of the cluster may not be read.
#[cfg(test)]
const OPENED: Input<'static> = Input::Opened {
    cluster_uid: String::new(),
};

#[cfg(test)]
mod model_acts;
#[cfg(test)]
mod model_history;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verification_tests;
