//! A second model: leases, with messages that take any time or never arrive, a leader that
//! freezes, and another one that is elected while the first still grants.

use std::time::Duration;

use quorumwatch::domain::{
    id::{Incarnation, ReplicaId},
    lease::{Heartbeat, Lease, LeaseTable, TTL, grant},
    member::Availability,
};
use stateright::{Model, Property};

use crate::{
    digest::Digested,
    invariants::{Verdict, one_lease},
    scope::{Milestone, Reached},
};

/// One step of time.
const TICK_MS: u64 = 200;

/// Up to which tick it is explored.
const TICKS: u64 = 6;

/// The replica that owns the shard at the beginning.
const OWNER: ReplicaId = ReplicaId(1);
/// The one that gets it then.
const OTHER: ReplicaId = ReplicaId(2);

/// Messages of a kind that are on their way at the same time.
const MESSAGES_MAX: usize = 1;

pub(crate) const ONE_LEASE: &str = "no lease from before a takeover outlasts it";

/// A fault of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// The owner counts its lease from when the answer arrives.
    CountedFromReceipt,
    /// A leader that has not heard from a quorum grants whole leases.
    QuorumIgnored,
}

/// The model.
pub(crate) struct Leases {
    plant: Option<Plant>,
    pub(crate) reached: Reached,
}

impl Leases {
    pub(crate) fn new(plant: Option<Plant>) -> Self {
        Self {
            plant,
            reached: Reached::default(),
        }
    }
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// Ticks since the beginning.
    now: u64,
    /// The owner's.
    lease: Digested<Lease>,
    /// Heartbeats of the owner on their way: when each was sent.
    heartbeats: Vec<u64>,
    /// Answers on their way: when the heartbeat was sent, and what was granted, in milliseconds.
    answers: Vec<(u64, u64)>,
    leader: Leader,
    /// The leader before, which does not know that it is one no longer.
    deposed: Option<Leader>,
    /// Whether the shard was given to the other replica.
    is_taken: bool,
    /// Whether the leader may still freeze.
    may_freeze: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Leader {
    table: Digested<LeaseTable>,
    /// When a quorum last confirmed that it leads.
    confirmed: u64,
    is_frozen: bool,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Time passes.
    Tick,
    /// The owner sends a heartbeat.
    Send,
    /// The leader receives a heartbeat, and answers.
    Receive(usize),
    /// The leader before receives it.
    ReceiveDeposed(usize),
    /// The owner receives an answer.
    Answer(usize),
    /// A quorum confirms that the leader leads.
    Confirm,
    /// The leader's process stops for a while.
    Freeze,
    /// It continues.
    Thaw,
    /// Another leader is elected.
    Elect,
    /// The leader gives the shard of a replica that it considers dead to the other one.
    Take,
}

fn millis(ticks: u64) -> Duration {
    Duration::from_millis(ticks * TICK_MS)
}

impl Leader {
    fn elected(now: u64, unled: u64) -> Self {
        Self {
            table: Digested::new(LeaseTable::new(millis(now), millis(unled))),
            confirmed: now,
            is_frozen: false,
        }
    }

    /// What it grants now, in milliseconds.
    fn grants(&self, now: u64, model: &Leases) -> Option<u64> {
        let silence = match model.plant {
            Some(Plant::QuorumIgnored) => Duration::ZERO,
            _ => millis(now - self.confirmed),
        };
        let granted = grant(silence)?;
        if granted < TTL {
            model.reached.note(Milestone::ShortLease);
        }
        u64::try_from(granted.as_millis()).ok()
    }

    fn receive(&mut self, now: u64) {
        let heartbeat = Heartbeat {
            replica: OWNER,
            incarnation: Incarnation(1),
            leaving: false,
        };
        self.table
            .change(|table| table.heartbeat(heartbeat, millis(now)));
    }

    fn tick(&mut self, now: u64) {
        if !self.is_frozen {
            self.table.change(|table| table.tick(millis(now)));
        }
    }

    fn considers_dead(&self, now: u64) -> bool {
        let availability = self.table.availability_of(OWNER, millis(now));
        !self.is_frozen && availability == Availability::Unavailable
    }
}

impl World {
    fn act(&mut self, model: &Leases, action: Action) {
        let now = self.now;
        match action {
            Action::Tick => {
                self.now += 1;
                self.leader.tick(self.now);
            }
            Action::Send => self.heartbeats.push(now),
            Action::Receive(index) => {
                let sent = self.heartbeats.remove(index);
                self.leader.receive(now);
                // Leases that it grants after a takeover are not in the model: with one of them the
                // owner before continues until it has applied the move.
                let granted = self.leader.grants(now, model).filter(|_| !self.is_taken);
                self.answers.extend(granted.map(|granted| (sent, granted)));
            }
            Action::ReceiveDeposed(index) => {
                let sent = self.heartbeats.remove(index);
                let deposed = self.deposed.as_ref();
                let granted = deposed.and_then(|deposed| deposed.grants(now, model));
                self.answers.extend(granted.map(|granted| (sent, granted)));
            }
            Action::Answer(index) => {
                let (sent, granted) = self.answers.remove(index);
                let from = match model.plant {
                    Some(Plant::CountedFromReceipt) => now,
                    _ => sent,
                };
                let granted = Duration::from_millis(granted);
                self.lease
                    .change(|lease| lease.granted(millis(from), granted));
            }
            Action::Confirm => self.leader.confirmed = now,
            Action::Freeze => {
                self.may_freeze = false;
                self.leader.is_frozen = true;
            }
            Action::Thaw => {
                self.leader.is_frozen = false;
                self.leader.tick(now);
            }
            Action::Elect => {
                let unled = now - self.leader.confirmed;
                let elected = Leader::elected(now, unled);
                self.deposed = Some(std::mem::replace(&mut self.leader, elected));
            }
            Action::Take => {
                model.reached.note(match self.deposed {
                    Some(_) => Milestone::TakeoverByNewLeader,
                    None => Milestone::Takeover,
                });
                self.is_taken = true;
            }
        }
    }
}

impl Model for Leases {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: 0,
            lease: Digested::new(Lease::default()),
            heartbeats: Vec::new(),
            answers: Vec::new(),
            leader: Leader::elected(0, 0),
            deposed: None,
            is_taken: false,
            may_freeze: true,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let (heartbeats, answers) = (world.heartbeats.len(), world.answers.len());
        if world.now < TICKS {
            actions.push(Action::Tick);
        }
        // Two that are sent at once are one.
        if heartbeats < MESSAGES_MAX && !world.heartbeats.contains(&world.now) {
            actions.push(Action::Send);
        }
        if answers < MESSAGES_MAX {
            if !world.leader.is_frozen {
                actions.extend((0..heartbeats).map(Action::Receive));
            }
            if world
                .deposed
                .as_ref()
                .is_some_and(|deposed| !deposed.is_frozen)
            {
                actions.extend((0..heartbeats).map(Action::ReceiveDeposed));
            }
        }
        actions.extend((0..answers).map(Action::Answer));
        if world.leader.is_frozen {
            actions.push(Action::Thaw);
        } else {
            actions.push(Action::Confirm);
            if world.may_freeze {
                actions.push(Action::Freeze);
            }
        }
        if world.deposed.is_none() && !world.is_taken {
            actions.push(Action::Elect);
        }
        if !world.is_taken && world.leader.considers_dead(world.now) {
            actions.push(Action::Take);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.act(self, action);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(ONE_LEASE, |_, world: &World| {
            verdict(world).is_ok()
        })]
    }
}

/// What violates the invariant.
pub(crate) fn verdict(world: &World) -> Verdict {
    let holders = [
        (OWNER, world.lease.holds(millis(world.now))),
        (OTHER, world.is_taken),
    ];
    one_lease::check(&holders)
}
