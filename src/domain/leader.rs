//! What a leader knows of the other replicas, for one term of leadership: [`Leader`]. Nothing of it
//! outlives the term.
//!
//! `now` is always an argument, as in [`lease`]. Only the methods that take a message
//! in, and [`Leader::tick`], change anything; what is read never does.

use std::{collections::BTreeMap, time::Duration};

use super::{
    assignment::MoveReason,
    clock_offset::ClockOffset,
    command::{Command, Move},
    id::{Incarnation, ReplicaId, ShardId, StreamId},
    lease::{self, LeaseTable},
    member::Availability,
    placement::Observed,
    preparation::{Outcome, Preparations, Request},
    requested::{Begun, NotMoved, REQUESTED_MAX},
    state::State,
};

/// One heartbeat, as the leader receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The sender.
    pub replica: ReplicaId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Whether it is about to stop: what it owns goes elsewhere now.
    pub leaving: bool,
    /// The lag of its streams: the time since their API servers last sent anything.
    pub streams: Vec<(StreamId, Duration)>,
    /// Its software version.
    pub version: String,
    /// A sample of its wall clock, for [`ClockOffset::push`]; `None` where it sent none.
    pub clock_sample_ms: Option<i64>,
}

/// The result of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It does not count: the sender is no member, or has been started again since.
    Ignored,
    /// It counts.
    Counted,
    /// It counts, and the sender's clock has turned out to be off, or right again.
    ClockTurned {
        /// By how much it is ahead, in milliseconds.
        ahead_ms: i64,
        /// Whether that is too much.
        is_off: bool,
    },
}

/// What the leader knows of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedReplica {
    /// The leader's view of the replica.
    pub availability: Availability,
    /// The time since its last heartbeat; `None` where this leader never had one.
    pub silence: Option<Duration>,
    /// Its software version; empty where this leader never heard it.
    pub version: String,
    /// By how much its wall clock is ahead of this leader's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
}

/// What the leader observes, for display.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Every registered replica.
    pub replicas: BTreeMap<ReplicaId, ObservedReplica>,
    /// The lag of owned streams. A stream that its owner has not reported yet is missing.
    pub streams: BTreeMap<StreamId, Duration>,
}

/// A leader in one term.
#[derive(Clone, Debug)]
pub struct Leader {
    leases: LeaseTable,
    reports: BTreeMap<StreamId, ReportedLag>,
    preparations: Preparations,
    about: BTreeMap<ReplicaId, About>,
}

/// What else a replica reports of itself.
#[derive(Clone, Debug, Default)]
struct About {
    version: String,
    clock: ClockOffset,
    /// Whether its clock has been reported to be off.
    is_clock_off: bool,
}

/// What an owner last reported of a stream.
#[derive(Clone, Debug)]
struct ReportedLag {
    lag: Duration,
    received_at: Duration,
}

impl About {
    fn take(&mut self, version: String, clock_sample_ms: Option<i64>) -> Heard {
        self.version = version;
        if let Some(sample) = clock_sample_ms {
            self.clock.push(sample);
        }
        let is_off = self.clock.is_off();
        match self.clock.ms() {
            Some(ahead_ms) if is_off != self.is_clock_off => {
                self.is_clock_off = is_off;
                Heard::ClockTurned { ahead_ms, is_off }
            }
            _ => Heard::Counted,
        }
    }
}

impl Leader {
    /// A leader elected at `now`, after `unled` without one: see [`LeaseTable::new`].
    pub fn new(now: Duration, unled: Duration) -> Self {
        Self {
            leases: LeaseTable::new(now, unled),
            reports: BTreeMap::new(),
            preparations: Preparations::default(),
            about: BTreeMap::new(),
        }
    }

    /// Time has passed. To be called often, and before a message is taken in: a leader that was not
    /// running itself cannot distinguish its own absence from the silence of others.
    pub fn tick(&mut self, now: Duration) {
        self.leases.tick(now);
    }

    /// Takes a heartbeat in.
    pub fn heartbeat(&mut self, state: &State, heartbeat: Heartbeat, now: Duration) -> Heard {
        let replica = heartbeat.replica;
        let counts = state.members.contains_key(&replica)
            && self.leases.heartbeat(
                lease::Heartbeat {
                    replica,
                    incarnation: heartbeat.incarnation,
                    leaving: heartbeat.leaving,
                },
                now,
            );
        if !counts {
            return Heard::Ignored;
        }
        for (stream, lag) in heartbeat.streams {
            let Some(assignment) = state.assignment_of(stream) else {
                continue;
            };
            if assignment.owner() == Some(replica) {
                let received_at = now;
                let report = ReportedLag { lag, received_at };
                self.reports.insert(stream, report);
            }
        }
        let about = self.about.entry(replica).or_default();
        about.take(heartbeat.version, heartbeat.clock_sample_ms)
    }

    /// The process of a replica is known to have ended.
    pub fn mark_dead(&mut self, replica: ReplicaId) {
        self.leases.mark_dead(replica);
    }

    /// Takes in planned moves and gives those whose receivers are to be asked now.
    pub fn prepare(&mut self, moves: Vec<Move>, now: Duration) -> Vec<Request> {
        self.preparations.begin(moves, now)
    }

    /// A receiver has opened the watches of a shard, or cannot.
    pub fn prepared(&mut self, step: &Move, outcome: Outcome, now: Duration) {
        self.preparations.ended(step, outcome, now);
    }

    /// Begins to move a shard to where a user wants it.
    pub fn want(
        &mut self,
        state: &State,
        shard: ShardId,
        to: ReplicaId,
        now: Duration,
    ) -> Result<Begun, NotMoved> {
        let Some(step) = self.check_wanted(state, shard, to, now)? else {
            return Ok(Begun::Done);
        };
        match self.preparations.wanted(shard) {
            Some(wanted) if *wanted == step => Ok(Begun::Joined(step)),
            Some(wanted) if wanted.epoch == step.epoch => {
                Err(NotMoved::Elsewhere(name_of(state, wanted.to)))
            }
            _ if self.preparations.requested() >= REQUESTED_MAX => Err(NotMoved::Busy),
            _ => Ok(Begun::Ask(self.preparations.want(step, to, now))),
        }
    }

    /// The same without moving it: whether the receiver could watch its cluster. `None` where the
    /// shard is there already. Ends with [`Self::trial_ended`].
    pub fn try_wanted(
        &mut self,
        state: &State,
        shard: ShardId,
        to: ReplicaId,
        now: Duration,
    ) -> Result<Option<Request>, NotMoved> {
        let Some(step) = self.check_wanted(state, shard, to, now)? else {
            return Ok(None);
        };
        if self.preparations.requested() >= REQUESTED_MAX {
            return Err(NotMoved::Busy);
        }
        Ok(Some(self.preparations.begin_trial(step)))
    }

    /// The receiver of a trial has answered.
    pub fn trial_ended(&mut self) {
        self.preparations.trial_ended();
    }

    /// What came of a move that a user wanted; `None` while it is under way.
    pub fn outcome_of_wanted(
        &self,
        state: &State,
        step: &Move,
        now: Duration,
    ) -> Option<Result<(), NotMoved>> {
        let Some(assignment) = state.assignments.get(&step.shard) else {
            return Some(Err(NotMoved::NotYet("the shard does not exist")));
        };
        if assignment.epoch() != step.epoch {
            let is_there = assignment.owner() == step.to;
            return Some(is_there.then_some(()).ok_or(NotMoved::Overtaken));
        }
        if self.preparations.wanted(step.shard) == Some(step) {
            return None;
        }
        let to = step.to?;
        let refused = self.check_wanted(state, step.shard, to, now).err();
        Some(Err(refused.unwrap_or_else(|| NotMoved::Late {
            receiver: name_of(state, step.to),
            reason: String::new(),
        })))
    }

    /// The move, where the shard may go there; `None` where it is there already.
    fn check_wanted(
        &self,
        state: &State,
        shard: ShardId,
        to: ReplicaId,
        now: Duration,
    ) -> Result<Option<Move>, NotMoved> {
        let assignment = state.assignments.get(&shard);
        let assignment = assignment.ok_or(NotMoved::NotYet("the shard does not exist"))?;
        let member = state.members.get(&to);
        let member = member.ok_or(NotMoved::NotYet("the replica is not a member"))?;
        if !state.is_ownable(shard) {
            return Err(NotMoved::Paused);
        }
        if assignment.owner() == Some(to) {
            return Ok(None);
        }
        if member.drained {
            return Err(NotMoved::Drained(member.name.clone()));
        }
        match self.availability(state, now).get(&to) {
            Some(Availability::Active) => {}
            Some(Availability::Suspect) => {
                return Err(NotMoved::NotYet("the leader has not heard the replica yet"));
            }
            _ => return Err(NotMoved::NotActive(member.name.clone())),
        }
        Ok(Some(Move {
            shard,
            epoch: assignment.epoch(),
            to: Some(to),
            reason: MoveReason::Requested,
        }))
    }

    /// Planned moves that are to be committed now, and what the planner decides from then.
    pub fn due(&mut self, state: &State, now: Duration) -> (Vec<Move>, Observed) {
        let replicas = self.availability(state, now);
        let unreachable = out_of_reach(state).collect();
        let due = self.preparations.due(state, &replicas, &unreachable, now);
        let observed = Observed {
            replicas,
            leaving: self.leases.leaving(now),
            moves_in_flight: self.preparations.voluntary(),
            preparing: self.preparations.receivers(),
            unfit: self.preparations.unfit(now),
            unreachable: unreachable
                .into_keys()
                .map(|shard| (shard, self.preparations.tries(shard, now)))
                .collect(),
        };
        (due, observed)
    }

    /// A cluster that its owner cannot reach, and every other replica that takes shards has failed
    /// to watch, unless its health reports that already.
    pub fn outage_to_confirm(&self, state: &State, observed: &Observed) -> Option<Command> {
        observed.unreachable.keys().find_map(|&shard| {
            let assignment = state.assignments.get(&shard)?;
            let owner = assignment.owner()?;
            let health = &state.clusters.get(&shard.cluster)?.health;
            let mut others = observed
                .replicas
                .iter()
                .filter(|(replica, availability)| {
                    **replica != owner
                        && **availability == Availability::Active
                        && !state.is_drained(**replica)
                })
                .peekable();
            let is_to_be_told = others.peek().is_some()
                && !health.is_confirmed_outage()
                && others.all(|(replica, _)| self.preparations.is_unfit(shard, *replica));
            is_to_be_told.then(|| Command::ConfirmOutage {
                shard,
                epoch: assignment.epoch(),
                reason: health.reason.clone(),
            })
        })
    }

    /// Clusters, members or owners have changed: forgets what was reported of streams that nobody
    /// owns any more.
    pub fn state_changed(&mut self, state: &State) {
        self.reports.retain(|stream, _| {
            let assignment = state.assignment_of(*stream);
            assignment.is_some_and(|assignment| assignment.owner().is_some())
        });
    }

    /// The replicas that take shards.
    pub fn active(&self, state: &State, now: Duration) -> Vec<ReplicaId> {
        let replicas = self.availability(state, now).into_iter();
        replicas
            .filter(|(_, availability)| *availability == Availability::Active)
            .map(|(replica, _)| replica)
            .collect()
    }

    /// What people are shown.
    pub fn observation(&self, state: &State, now: Duration) -> Observation {
        let replicas = self.availability(state, now).into_iter();
        let replicas = replicas.map(|(replica, availability)| {
            let about = self.about.get(&replica);
            let seen = ObservedReplica {
                availability,
                silence: self.leases.silence(replica, now),
                version: about.map(|about| about.version.clone()).unwrap_or_default(),
                clock_offset_ms: about.and_then(|about| about.clock.ms()),
            };
            (replica, seen)
        });
        let streams = self.reports.iter().map(|(stream, report)| {
            let since = now.saturating_sub(report.received_at);
            (*stream, report.lag + since)
        });
        Observation {
            replicas: replicas.collect(),
            streams: streams.collect(),
        }
    }

    fn availability(&self, state: &State, now: Duration) -> BTreeMap<ReplicaId, Availability> {
        let members = state.members.keys().copied();
        self.leases.availability(now, members)
    }
}

/// A replica as people know it.
fn name_of(state: &State, replica: Option<ReplicaId>) -> String {
    let member = replica.and_then(|replica| state.members.get(&replica));
    member.map(|member| member.name.clone()).unwrap_or_default()
}

/// Shards whose owner has reported that their cluster is out of its reach.
fn out_of_reach(state: &State) -> impl Iterator<Item = (ShardId, ReplicaId)> {
    state.assignments.values().filter_map(|assignment| {
        let cluster = state.clusters.get(&assignment.shard().cluster)?;
        let is_out_of_reach = cluster.health_epoch == assignment.epoch()
            && cluster.health.condition.is_out_of_reach();
        Some((assignment.shard(), assignment.owner()?)).filter(|_| is_out_of_reach)
    })
}
