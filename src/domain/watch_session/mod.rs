//! One stream's list/watch session as a state machine: [`WatchSession::step`].
//!
//! It decides when to list, to watch, to repair, to wait and to ask for a new era; a driver carries
//! that out and reports back. It sees versions, never objects.
//!
//! What holds at every step: each delivered frame is newer than the one before it, or shares its
//! version; nothing at or below a version that was told as closed is delivered afterwards without
//! a new era in between.

mod messages;
mod progress;

use crate::domain::{
    frame::{Change, GapReason},
    position::ResourceVersion,
    stream::ResumePoint,
};
pub use messages::{Failure, Input, Output, SessionPolicy};
use progress::{Progress, Verdict};

/// What the session wants to reach; it survives failures on the way.
#[derive(Clone, Debug)]
enum Goal {
    /// Watch after what was delivered.
    Watch,
    /// Repair from what was delivered to a new list (trap T29).
    Recover,
    /// Publish the net changes up to `to`; the era for that has begun.
    Publish { to: ResourceVersion },
    /// Begin an era at a new list.
    Renew(GapReason),
}

#[derive(Clone, Debug)]
enum Phase {
    /// Nothing is under way.
    Resting,
    Probing,
    Opening,
    Watching(Watching),
    /// Exact lists are being tried, for an era at `to`.
    Checking {
        to: ResourceVersion,
    },
    /// The owner has been asked for an era.
    Asking(Era),
    Publishing,
    Waiting,
}

/// An open watch.
#[derive(Clone, Debug)]
struct Watching {
    opened_ms: u64,
    /// The last frame or bookmark, or the opening.
    heard_ms: u64,
    /// Whether a frame or bookmark has come.
    heard: bool,
    /// Whether a frame was new.
    advanced: bool,
    /// The version of the list before the watch, until it is closed or passed.
    bound: Option<ResourceVersion>,
}

/// The era that was asked for.
#[derive(Clone, Debug)]
struct Era {
    to: ResourceVersion,
    repaired: bool,
    cluster_uid: String,
}

/// The list that was taken last.
#[derive(Clone, Debug)]
struct Probe {
    at: ResourceVersion,
    taken_ms: u64,
    cluster_uid: String,
}

/// One stream's session.
#[derive(Clone, Debug)]
pub struct WatchSession {
    policy: SessionPolicy,
    progress: Progress,
    goal: Goal,
    phase: Phase,
    /// The identity of the cluster that `progress` belongs to, where known.
    cluster_uid: Option<String>,
    probe: Option<Probe>,
    quick_closes: u32,
    /// Internal errors at `progress.top()`.
    internal_errors: Vec<u64>,
    /// Whether the last watch was healthy, so that the next back-off begins anew.
    fresh: bool,
    /// Whether a watch has shown that it works since the last era began.
    proven: bool,
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
            policy,
            progress: Progress::new(delivered),
            goal,
            phase: Phase::Resting,
            cluster_uid: cluster_uid.filter(|uid| !uid.is_empty()),
            probe: None,
            quick_closes: 0,
            internal_errors: Vec::new(),
            fresh: true,
            proven: true,
        }
    }

    /// Takes in what has happened; `now_ms` never goes back. What does not fit the phase is
    /// ignored: it belongs to something that was abandoned.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        match (input, &self.phase) {
            (Input::Start, Phase::Resting) | (Input::Waited, Phase::Waiting) => self.pursue(now_ms),
            (Input::Probed { at, cluster_uid }, Phase::Probing) => {
                self.probe = Some(Probe {
                    at,
                    taken_ms: now_ms,
                    cluster_uid,
                });
                self.after_probe()
            }
            (Input::Opened, Phase::Opening) => self.opened(now_ms),
            (Input::Frame { rv, change }, Phase::Watching(_)) => self.frame(now_ms, &rv, change),
            (Input::Bookmark(rv), Phase::Watching(_)) => self.bookmark(now_ms, &rv),
            (Input::Ended, Phase::Watching(watching)) => {
                let watching = watching.clone();
                self.ended(now_ms, &watching)
            }
            (Input::Failed(failure), _) => self.failed(now_ms, failure),
            (Input::Repairable, Phase::Checking { to }) => {
                let to = to.clone();
                let mut outputs = vec![Output::Closed(self.progress.closed())];
                outputs.extend(self.ask(GapReason::WatchCacheReset, to, true));
                outputs
            }
            (Input::Irreparable, Phase::Checking { to }) => {
                let to = to.clone();
                self.ask(GapReason::HistoryExpired, to, false)
            }
            (Input::Irreparable, Phase::Publishing) => {
                self.goal = Goal::Renew(GapReason::HistoryExpired);
                self.probe()
            }
            (Input::Repaired, Phase::Publishing) => self.repaired(now_ms),
            (Input::Granted, Phase::Asking(era)) => {
                let era = era.clone();
                self.granted(now_ms, era)
            }
            (Input::Tick, Phase::Watching(watching)) => {
                let watching = watching.clone();
                self.tick(now_ms, watching)
            }
            _ => Vec::new(),
        }
    }

    /// When to call `step` with a `Tick`, if nothing happens before.
    pub fn wake_at(&self) -> Option<u64> {
        let Phase::Watching(watching) = &self.phase else {
            return None;
        };
        let silence = watching.heard_ms.saturating_add(self.policy.silence_ms);
        let grace = watching.heard_ms.saturating_add(self.policy.idle_grace_ms);
        Some(if watching.bound.is_some() {
            grace.min(silence)
        } else {
            silence
        })
    }

    /// Everything up to and including this version has been delivered.
    pub fn delivered(&self) -> ResourceVersion {
        self.progress.closed()
    }

    /// Takes the next step towards the goal.
    fn pursue(&mut self, now_ms: u64) -> Vec<Output> {
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

    fn probe(&mut self) -> Vec<Output> {
        self.probe = None;
        self.phase = Phase::Probing;
        vec![Output::Probe]
    }

    fn watch(&mut self) -> Vec<Output> {
        self.phase = Phase::Opening;
        let from = self.progress.begin_watch();
        vec![Output::Watch { from }]
    }

    fn wait(&mut self, retry_after_ms: Option<u64>) -> Vec<Output> {
        self.probe = None;
        self.phase = Phase::Waiting;
        vec![Output::Wait {
            retry_after_ms,
            fresh: std::mem::take(&mut self.fresh),
        }]
    }

    fn ask(&mut self, reason: GapReason, to: ResourceVersion, repaired: bool) -> Vec<Output> {
        let cluster_uid = self
            .probe
            .as_ref()
            .map(|probe| probe.cluster_uid.clone())
            .unwrap_or_default();
        self.phase = Phase::Asking(Era {
            to: to.clone(),
            repaired,
            cluster_uid: cluster_uid.clone(),
        });
        vec![Output::EraNeeded {
            reason,
            to,
            repaired,
            cluster_uid,
        }]
    }

    fn after_probe(&mut self) -> Vec<Output> {
        let Some(Probe {
            at, cluster_uid, ..
        }) = self.probe.clone()
        else {
            return self.probe();
        };
        if let Goal::Renew(reason) = self.goal {
            return self.ask(reason, at, false);
        }
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
        if at < *reached {
            return self.ask(GapReason::HistoryReset, at, false);
        }
        match self.goal.clone() {
            Goal::Recover => {
                let from = self.progress.closed();
                self.phase = Phase::Checking { to: at.clone() };
                vec![Output::CheckRepair { from, to: at }]
            }
            Goal::Publish { to } => self.publish(to),
            Goal::Watch | Goal::Renew(_) => self.watch(),
        }
    }

    fn publish(&mut self, to: ResourceVersion) -> Vec<Output> {
        self.phase = Phase::Publishing;
        let from = self.progress.closed();
        vec![Output::Repair { from, to }]
    }

    fn granted(&mut self, now_ms: u64, era: Era) -> Vec<Output> {
        self.proven = false;
        self.internal_errors.clear();
        if !era.cluster_uid.is_empty() {
            self.cluster_uid = Some(era.cluster_uid);
        }
        if era.repaired {
            self.goal = Goal::Publish { to: era.to.clone() };
            return self.publish(era.to);
        }
        self.progress = Progress::new(era.to);
        self.goal = Goal::Watch;
        self.pursue(now_ms)
    }

    fn repaired(&mut self, now_ms: u64) -> Vec<Output> {
        let Goal::Publish { to } = &self.goal else {
            return Vec::new();
        };
        let to = to.clone();
        self.progress = Progress::new(to.clone());
        self.goal = Goal::Watch;
        let mut outputs = vec![Output::Closed(to)];
        outputs.extend(self.pursue(now_ms));
        outputs
    }

    fn opened(&mut self, now_ms: u64) -> Vec<Output> {
        let bound = self.probe.as_ref().map(|probe| probe.at.clone());
        self.phase = Phase::Watching(Watching {
            opened_ms: now_ms,
            heard_ms: now_ms,
            heard: false,
            advanced: false,
            bound,
        });
        Vec::new()
    }

    fn frame(&mut self, now_ms: u64, rv: &ResourceVersion, change: Change) -> Vec<Output> {
        let verdict = self.progress.take(rv, change);
        match verdict {
            Verdict::Deliver => {
                self.internal_errors.clear();
                self.hear(now_ms);
                if let Phase::Watching(watching) = &mut self.phase {
                    watching.advanced = true;
                }
                vec![Output::Deliver]
            }
            // Not progress, but the watch is alive.
            Verdict::Repeat => {
                self.hear(now_ms);
                vec![Output::Skip]
            }
            Verdict::WentBack => {
                self.goal = Goal::Watch;
                let mut outputs = vec![Output::Skip, Output::Abandon];
                outputs.extend(self.wait(None));
                outputs
            }
            Verdict::Late => {
                self.goal = Goal::Renew(GapReason::UpstreamInconsistent);
                let mut outputs = vec![Output::Skip, Output::Abandon];
                outputs.extend(self.probe());
                outputs
            }
        }
    }

    fn bookmark(&mut self, now_ms: u64, rv: &ResourceVersion) -> Vec<Output> {
        self.hear(now_ms);
        self.close(rv)
    }

    fn close(&mut self, rv: &ResourceVersion) -> Vec<Output> {
        if self.progress.close(rv) {
            vec![Output::Closed(rv.clone())]
        } else {
            Vec::new()
        }
    }

    fn hear(&mut self, now_ms: u64) {
        self.proven = true;
        self.quick_closes = 0;
        let top = self.progress.top();
        if let Phase::Watching(watching) = &mut self.phase {
            watching.heard_ms = now_ms;
            watching.heard = true;
            // A frame after the list closes it by itself.
            watching.bound = watching.bound.take().filter(|bound| bound >= top);
        }
    }

    fn tick(&mut self, now_ms: u64, mut watching: Watching) -> Vec<Output> {
        let silent_ms = now_ms.saturating_sub(watching.heard_ms);
        if silent_ms >= self.policy.silence_ms {
            self.note_health(now_ms, &watching);
            self.goal = Goal::Watch;
            let mut outputs = vec![Output::Abandon];
            outputs.extend(self.probe());
            return outputs;
        }
        if silent_ms >= self.policy.idle_grace_ms
            && let Some(bound) = watching.bound.take()
        {
            self.proven = true;
            self.quick_closes = 0;
            self.phase = Phase::Watching(watching);
            return self.close(&bound);
        }
        Vec::new()
    }

    fn ended(&mut self, now_ms: u64, watching: &Watching) -> Vec<Output> {
        self.note_health(now_ms, watching);
        self.goal = Goal::Watch;
        let lived_ms = now_ms.saturating_sub(watching.opened_ms);
        if !watching.heard && lived_ms < self.policy.quick_close_ms {
            self.quick_closes += 1;
            if self.quick_closes >= self.policy.quick_closes_max {
                self.quick_closes = 0;
                self.goal = Goal::Recover;
            }
        }
        self.wait(None)
    }

    fn note_health(&mut self, now_ms: u64, watching: &Watching) {
        let lived_ms = now_ms.saturating_sub(watching.opened_ms);
        self.fresh |= lived_ms >= self.policy.healthy_ms;
    }

    fn failed(&mut self, now_ms: u64, failure: Failure) -> Vec<Output> {
        match self.phase.clone() {
            Phase::Resting | Phase::Waiting | Phase::Asking(_) => Vec::new(),
            // The goal stays: after the wait it is pursued from the list on.
            Phase::Probing | Phase::Checking { .. } | Phase::Publishing => {
                self.wait(match failure {
                    Failure::Other { retry_after_ms } => retry_after_ms,
                    Failure::Gone | Failure::Internal => None,
                })
            }
            Phase::Opening => self.watch_failed(now_ms, failure),
            Phase::Watching(watching) => {
                self.note_health(now_ms, &watching);
                let mut outputs = vec![Output::Abandon];
                // A watch that came on may only have been too slow: the next one tells.
                outputs.extend(if failure == Failure::Gone && watching.advanced {
                    self.wait(None)
                } else {
                    self.watch_failed(now_ms, failure)
                });
                outputs
            }
        }
    }

    fn watch_failed(&mut self, now_ms: u64, failure: Failure) -> Vec<Output> {
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

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
