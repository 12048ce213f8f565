//! What a leader knows, for one term of leadership. Nothing of it outlives the term.

use std::{collections::BTreeMap, time::Duration};

use super::{HeartbeatIn, Observation, Seen};
use crate::domain::{
    assignment::{Assignment, MoveReason},
    clock_offset::ClockOffset,
    command::Move,
    id::{ReplicaId, ShardId, StreamId},
    lease::{Heartbeat, LeaseTable},
    member::Availability,
    placement::Observed,
    state::State,
};

/// After this time a voluntary move no longer counts as under way, though its new owner has
/// reported nothing: the cluster cannot be reached by either. Five of the owners' reports.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// One term of leadership.
pub(super) struct Term {
    /// Raft's number of it.
    pub(super) number: u64,
    leases: LeaseTable,
    reports: BTreeMap<StreamId, Report>,
    settling: BTreeMap<ShardId, Settling>,
    /// What else each replica tells with its heartbeats.
    about: BTreeMap<ReplicaId, About>,
    /// The last opinions, to tell changes.
    opinions: BTreeMap<ReplicaId, Availability>,
}

/// What a replica tells of itself.
#[derive(Debug, Default)]
struct About {
    version: String,
    clock: ClockOffset,
    /// Whether it was said that its clock is off.
    is_clock_told: bool,
}

impl About {
    fn take(&mut self, name: &str, version: String, clock_sample_ms: Option<i64>) {
        self.version = version;
        let Some(sample) = clock_sample_ms else {
            return;
        };
        self.clock.push(sample);
        let Some(ahead_ms) = self
            .clock
            .ms()
            .filter(|_| self.clock.is_off() != self.is_clock_told)
        else {
            return;
        };
        self.is_clock_told = self.clock.is_off();
        if self.is_clock_told {
            tracing::warn!(
                name,
                ahead_ms,
                "the clock of this replica is not the leader's: set both by NTP. Ownership does \
                 not depend on it; the times shown, certificates and tokens do"
            );
        } else {
            tracing::info!(name, ahead_ms, "the clock of this replica is right again");
        }
    }
}

/// What an owner last said of a stream.
struct Report {
    silence: Duration,
    received_at: Duration,
}

/// A voluntary move whose new owner has not yet been seen at work.
struct Settling {
    owner: ReplicaId,
    until: Duration,
}

impl Term {
    pub(super) fn new(number: u64, now: Duration) -> Self {
        Self {
            number,
            leases: LeaseTable::new(now),
            reports: BTreeMap::new(),
            settling: BTreeMap::new(),
            about: BTreeMap::new(),
            opinions: BTreeMap::new(),
        }
    }

    /// Takes a member's heartbeat in. `None` where it does not count, else whether it changes the
    /// opinion of the sender.
    pub(super) fn heartbeat(
        &mut self,
        state: &State,
        heartbeat: HeartbeatIn,
        now: Duration,
    ) -> Option<bool> {
        let replica = heartbeat.replica;
        let before = self.leases.availability_of(replica, now);
        let counts = self.leases.heartbeat(
            Heartbeat {
                replica,
                incarnation: heartbeat.incarnation,
                leaving: heartbeat.leaving,
            },
            now,
        );
        if !counts {
            return None;
        }
        let name = state.members.get(&replica).map(|member| &*member.name);
        let about = self.about.entry(replica).or_default();
        about.take(
            name.unwrap_or_default(),
            heartbeat.version,
            heartbeat.clock_sample_ms,
        );
        for (stream, silence) in heartbeat.streams {
            let Some(assignment) = state.assignment_of(stream) else {
                continue;
            };
            if assignment.owner() == Some(replica) {
                self.settling.remove(&assignment.shard());
                let received_at = now;
                self.reports.insert(
                    stream,
                    Report {
                        silence,
                        received_at,
                    },
                );
            }
        }
        Some(before != self.leases.availability_of(replica, now))
    }

    pub(super) fn mark_dead(&mut self, replica: ReplicaId) {
        self.leases.mark_dead(replica);
    }

    /// Moves that have been agreed on.
    pub(super) fn moved(&mut self, moves: &[Move], now: Duration) {
        for step in moves {
            if let (Some(owner), MoveReason::Rebalance) = (step.to, step.reason) {
                let until = now + SETTLE_WITHIN;
                self.settling.insert(step.shard, Settling { owner, until });
            }
        }
    }

    /// What the planner is told.
    pub(super) fn observed(&mut self, state: &State, now: Duration) -> Observed {
        let members = state.members.keys().copied();
        let replicas = self.leases.availability(now, members);
        self.tell_changes(state, &replicas);
        self.settling.retain(|shard, settling| {
            let owner = state.assignments.get(shard).and_then(Assignment::owner);
            now < settling.until && owner == Some(settling.owner)
        });
        Observed {
            replicas,
            leaving: self.leases.leaving(),
            moves_in_flight: self.settling.len(),
        }
    }

    /// What people are told.
    pub(super) fn observation(&mut self, state: &State, now: Duration) -> Observation {
        self.reports.retain(|stream, _| {
            let assignment = state.assignment_of(*stream);
            assignment.is_some_and(|assignment| assignment.owner().is_some())
        });
        let members = state.members.keys().copied();
        let replicas = self.leases.availability(now, members);
        Observation {
            replicas: replicas
                .into_iter()
                .map(|(replica, availability)| {
                    let silence = self.leases.silence(replica, now);
                    let about = self.about.get(&replica);
                    let seen = Seen {
                        availability,
                        silence,
                        version: about.map(|about| about.version.clone()).unwrap_or_default(),
                        clock_offset_ms: about.and_then(|about| about.clock.ms()),
                    };
                    (replica, seen)
                })
                .collect(),
            streams: self
                .reports
                .iter()
                .map(|(stream, report)| {
                    let since = now.saturating_sub(report.received_at);
                    (*stream, report.silence + since)
                })
                .collect(),
        }
    }

    fn tell_changes(&mut self, state: &State, replicas: &BTreeMap<ReplicaId, Availability>) {
        for (replica, availability) in replicas {
            if self.opinions.get(replica) != Some(availability) {
                let name = state
                    .members
                    .get(replica)
                    .map(|member| member.name.as_str());
                tracing::info!(%replica, name, ?availability, "replica availability changed");
            }
        }
        if self.opinions != *replicas {
            self.opinions.clone_from(replicas);
        }
    }
}
