//! Leases: for how long a replica may act without hearing from the leader.
//!
//! A replica has one lease for all of its shards. [`Lease`] is the owner's view, which counts from
//! the *sending* of a heartbeat; [`LeaseTable`] is the leader's, which counts from *receiving* it,
//! and so always runs out later. Leases bound for how long two replicas work on one shard;
//! correctness rests on epochs and positions, not on them.
//!
//! `now` is always an argument: the time since an arbitrary start, on a clock that never goes back.
//! Owner and leader never compare their clocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    id::{Incarnation, ReplicaId},
    member::Availability,
};

/// For how long a heartbeat carries a lease.
///
/// A frozen or cut off owner must be succeeded within 1.5 s, detection, election and the first event
/// included. And a lease must outlast an election (0.6 s after the leader was last heard) with the
/// heartbeats lost during it, or else a leader that freezes would stop every owner. A replica that
/// gets no processor time for so long loses its shards, which costs its readers about what waiting
/// for it would have: a busy machine of two cores was seen to withhold it for up to some 0.3 s.
pub const TTL: Duration = Duration::from_millis(800);

/// How often a replica sends a heartbeat: seven in a row may be late or lost before its lease runs
/// out, at a cost of ten small messages a second for each replica.
pub const HEARTBEAT_EVERY: Duration = Duration::from_millis(100);

/// What a leader waits beyond a lease: for an owner that notices late that its lease is over, and
/// for clocks that run at different rates (at most some 0.1 ms in a second).
pub const MARGIN: Duration = Duration::from_millis(100);

/// A leader that has not heard from a quorum for this long grants nothing: there may be another
/// leader. Some five Raft heartbeats, so that one lost message does not count, and well inside the
/// [`TTL`], so that what is granted is worth having.
pub const QUORUM_SILENCE_MAX: Duration = Duration::from_millis(250);

/// A leader whose table had no tick for this long was not running itself, and cannot distinguish
/// its own absence from the silence of others: their heartbeats may be waiting to be read. Several
/// ticks of the controller, and well inside the [`TTL`].
pub const ABSENCE_MAX: Duration = Duration::from_millis(400);

/// For how long a new leader waits for the heartbeats of the others at least. They come as soon as
/// the others have heard of it, which takes milliseconds, and on a busy machine some hundred.
pub const FIRST_HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(400);

/// The lease that a leader may grant now, given the time since a quorum last confirmed that it
/// leads; `None` where that is too long ago.
///
/// Nobody else can have been elected before that confirmation, for it takes a quorum as well. So
/// the time since then is taken off the lease, and no lease outlasts the [`TTL`] after a successor
/// was elected: the grace for which a successor treats everybody as suspect.
pub fn grant(quorum_silence: Duration) -> Option<Duration> {
    (quorum_silence < QUORUM_SILENCE_MAX).then(|| TTL - quorum_silence)
}

/// The owner's view: its one lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    until: Duration,
}

impl Lease {
    /// A heartbeat that was sent at `sent_at` has been granted a lease. An answer that comes late
    /// never shortens what a later heartbeat was granted.
    pub fn granted(&mut self, sent_at: Duration, duration: Duration) {
        self.until = self.until.max(sent_at + duration);
    }

    /// Whether the replica may publish.
    pub fn holds(&self, now: Duration) -> bool {
        now < self.until
    }

    /// When it ends; zero before the first grant.
    pub fn until(&self) -> Duration {
        self.until
    }
}

/// The leader's view of every replica, for one term of leadership.
#[derive(Clone, Debug)]
pub struct LeaseTable {
    /// Since when silence counts: the time without a leader before the election, or the end of an
    /// absence.
    counts_from: Duration,
    /// The last tick.
    ticked_at: Duration,
    replicas: BTreeMap<ReplicaId, Record>,
}

/// What a leader knows of one replica.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    incarnation: Incarnation,
    /// `None` where this leader never heard it.
    received_at: Option<Duration>,
    /// It reported that it is stopping.
    leaving: bool,
    /// Its process is known to have ended after its last heartbeat.
    dead: bool,
}

/// What a replica reports about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The replica that sent the heartbeat.
    pub replica: ReplicaId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Whether it is about to stop.
    pub leaving: bool,
}

impl LeaseTable {
    /// The table of a leader that is elected at `now`. Earlier leaders may have granted leases
    /// that this one does not know; but for `unled` before its election none of them was
    /// acknowledged by a majority, and their leases began to run out then.
    pub fn new(now: Duration, unled: Duration) -> Self {
        let unled = unled.min(TTL + MARGIN - FIRST_HEARTBEAT_TIMEOUT);
        Self {
            counts_from: now.saturating_sub(unled),
            ticked_at: now,
            replicas: BTreeMap::new(),
        }
    }

    /// Takes a heartbeat in; whether it counts. One of an earlier start of the replica does not.
    pub fn heartbeat(&mut self, heartbeat: Heartbeat, received_at: Duration) -> bool {
        if let Some(known) = self.replicas.get(&heartbeat.replica)
            && known.incarnation > heartbeat.incarnation
        {
            return false;
        }
        self.replicas.insert(
            heartbeat.replica,
            Record {
                incarnation: heartbeat.incarnation,
                received_at: Some(received_at),
                leaving: heartbeat.leaving,
                dead: false,
            },
        );
        true
    }

    /// The process of a replica is known to have ended: its connection broke and a new one was
    /// refused. The next heartbeat shows that it is back.
    pub fn mark_dead(&mut self, replica: ReplicaId) {
        self.replicas.entry(replica).or_default().dead = true;
    }

    /// Time has passed. Where much has passed since the last tick, this leader was not running: the
    /// silence of others counts from now.
    pub fn tick(&mut self, now: Duration) {
        if now.saturating_sub(self.ticked_at) > ABSENCE_MAX {
            self.counts_from = now;
        }
        self.ticked_at = now;
    }

    /// What the leader thinks of each of the registered `members`.
    pub fn availability(
        &self,
        now: Duration,
        members: impl IntoIterator<Item = ReplicaId>,
    ) -> BTreeMap<ReplicaId, Availability> {
        members
            .into_iter()
            .map(|replica| (replica, self.availability_of(replica, now)))
            .collect()
    }

    /// Those that reported that they are stopping, and still work.
    pub fn leaving(&self, now: Duration) -> BTreeSet<ReplicaId> {
        let leaving = self.replicas.iter().filter(|(_, record)| {
            record.leaving && !record.dead && record.received_at.is_some_and(|at| within(at, now))
        });
        leaving.map(|(replica, _)| *replica).collect()
    }

    /// For how long a replica has been silent; `None` where this leader never heard it.
    pub fn silence(&self, replica: ReplicaId, now: Duration) -> Option<Duration> {
        let received_at = self.replicas.get(&replica)?.received_at?;
        Some(now.saturating_sub(received_at))
    }

    /// What the leader thinks of one replica.
    pub fn availability_of(&self, replica: ReplicaId, now: Duration) -> Availability {
        match self.replicas.get(&replica) {
            Some(record) if record.dead || record.leaving => Availability::Unavailable,
            Some(record) if record.received_at.is_some_and(|at| within(at, now)) => {
                Availability::Active
            }
            _ if within(self.counts_from, now) => Availability::Suspect,
            _ => Availability::Unavailable,
        }
    }
}

/// Whether a lease that was granted at `since` may still be used.
fn within(since: Duration, now: Duration) -> bool {
    now < since + TTL + MARGIN
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop_assert, proptest};

    use super::{
        ABSENCE_MAX, Availability, Duration, FIRST_HEARTBEAT_TIMEOUT, HEARTBEAT_EVERY, Heartbeat,
        Incarnation, Lease, LeaseTable, MARGIN, QUORUM_SILENCE_MAX, ReplicaId, TTL, grant,
    };

    const REPLICA: ReplicaId = ReplicaId(7);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn heartbeat(incarnation: u64, leaving: bool) -> Heartbeat {
        Heartbeat {
            replica: REPLICA,
            incarnation: Incarnation(incarnation),
            leaving,
        }
    }

    /// Ticks as often as the controller does; the last opinion.
    fn watch(table: &mut LeaseTable, from: Duration, to: Duration) -> Availability {
        let mut now = from;
        while now < to {
            table.tick(now);
            now += millis(50);
        }
        table.tick(to);
        table.availability(to, [REPLICA])[&REPLICA]
    }

    #[test]
    fn a_lease_counts_from_sending_and_is_never_shortened() {
        let mut lease = Lease::default();
        assert!(!lease.holds(millis(0)));
        lease.granted(millis(200), millis(1000));
        lease.granted(millis(100), millis(1000));
        assert_eq!(lease.until(), millis(1200));
        assert!(lease.holds(millis(1199)));
        assert!(!lease.holds(millis(1200)));
    }

    #[test]
    fn a_new_leader_suspects_everybody_for_its_grace() {
        let mut table = LeaseTable::new(millis(5000), Duration::ZERO);
        let end = millis(5000) + TTL + MARGIN;
        assert_eq!(
            watch(&mut table, millis(5000), end - millis(1)),
            Availability::Suspect
        );
        assert_eq!(
            table.availability(end, [REPLICA])[&REPLICA],
            Availability::Unavailable
        );
        assert_eq!(table.silence(REPLICA, end), None);
    }

    #[test]
    fn the_time_without_a_leader_counts_towards_the_grace() {
        let elected_at = millis(5000);
        let unled = millis(300);
        let mut table = LeaseTable::new(elected_at, unled);
        let end = elected_at + TTL + MARGIN - unled;
        assert_eq!(
            watch(&mut table, elected_at, end - millis(1)),
            Availability::Suspect
        );
        assert_eq!(watch(&mut table, end, end), Availability::Unavailable);
    }

    #[test]
    fn a_new_leader_always_waits_for_the_first_heartbeats() {
        let elected_at = millis(5000);
        let mut table = LeaseTable::new(elected_at, millis(4000));
        let end = elected_at + FIRST_HEARTBEAT_TIMEOUT;
        assert_eq!(
            watch(&mut table, elected_at, end - millis(1)),
            Availability::Suspect
        );
        assert_eq!(watch(&mut table, end, end), Availability::Unavailable);
    }

    #[test]
    fn a_replica_is_active_until_its_lease_and_the_margin_are_over() {
        let mut table = LeaseTable::new(millis(0), Duration::ZERO);
        assert!(table.heartbeat(heartbeat(1, false), millis(3000)));
        let end = millis(3000) + TTL + MARGIN;
        assert_eq!(
            watch(&mut table, millis(0), end - millis(1)),
            Availability::Active
        );
        assert_eq!(
            table.availability(end, [REPLICA])[&REPLICA],
            Availability::Unavailable
        );
        assert_eq!(table.silence(REPLICA, end), Some(TTL + MARGIN));
    }

    #[test]
    fn a_dead_replica_is_unavailable_until_it_is_heard_again() {
        let mut table = LeaseTable::new(millis(0), Duration::ZERO);
        table.heartbeat(heartbeat(1, false), millis(10));
        table.mark_dead(REPLICA);
        assert_eq!(
            table.availability(millis(11), [REPLICA])[&REPLICA],
            Availability::Unavailable
        );
        table.heartbeat(heartbeat(2, false), millis(12));
        assert_eq!(
            table.availability(millis(13), [REPLICA])[&REPLICA],
            Availability::Active
        );
    }

    #[test]
    fn crash_evidence_counts_within_the_grace_of_a_new_leader() {
        let mut table = LeaseTable::new(millis(0), Duration::ZERO);
        table.mark_dead(REPLICA);
        assert_eq!(
            table.availability(millis(1), [REPLICA])[&REPLICA],
            Availability::Unavailable
        );
        assert_eq!(table.silence(REPLICA, millis(1)), None);
    }

    #[test]
    fn a_leaving_replica_is_unavailable_at_once_and_works_as_long_as_its_lease() {
        let mut table = LeaseTable::new(millis(0), Duration::ZERO);
        table.heartbeat(heartbeat(1, true), millis(10));
        assert_eq!(
            table.availability(millis(10), [REPLICA])[&REPLICA],
            Availability::Unavailable
        );
        let end = millis(10) + TTL + MARGIN;
        assert_eq!(table.leaving(end - millis(1)), [REPLICA].into());
        assert!(table.leaving(end).is_empty());
        table.mark_dead(REPLICA);
        assert!(table.leaving(millis(11)).is_empty());
    }

    #[test]
    fn a_heartbeat_of_an_earlier_start_does_not_count() {
        let mut table = LeaseTable::new(millis(0), Duration::ZERO);
        assert!(table.heartbeat(heartbeat(2, false), millis(10)));
        assert!(!table.heartbeat(heartbeat(1, true), millis(20)));
        assert_eq!(table.silence(REPLICA, millis(30)), Some(millis(20)));
        assert_eq!(
            table.availability(millis(30), [REPLICA])[&REPLICA],
            Availability::Active
        );
    }

    #[test]
    fn a_leader_that_was_absent_holds_nobodys_silence_against_them() {
        let mut table = LeaseTable::new(millis(0), Duration::ZERO);
        table.heartbeat(heartbeat(1, false), millis(5000));
        assert_eq!(
            watch(&mut table, millis(0), millis(5050)),
            Availability::Active
        );
        let back = millis(9000);
        table.tick(back);
        assert_eq!(
            table.availability(back, [REPLICA])[&REPLICA],
            Availability::Suspect
        );
        assert_eq!(
            watch(&mut table, back, back + TTL + MARGIN),
            Availability::Unavailable
        );
    }

    #[test]
    fn without_a_recent_quorum_nothing_is_granted() {
        assert_eq!(grant(Duration::ZERO), Some(TTL));
        assert_eq!(grant(QUORUM_SILENCE_MAX), None);
    }

    #[test]
    fn the_numbers_leave_room_for_lost_heartbeats() {
        assert!(QUORUM_SILENCE_MAX + 5 * HEARTBEAT_EVERY < TTL);
        assert!(ABSENCE_MAX < TTL);
        assert!(FIRST_HEARTBEAT_TIMEOUT >= 4 * HEARTBEAT_EVERY);
    }

    fn short() -> impl Strategy<Value = Duration> {
        (0u64..3000).prop_map(millis)
    }

    proptest! {
        #[test]
        fn the_leader_never_gives_a_replica_up_while_its_lease_holds(
            sent_at in short(),
            transit in short(),
            quorum_silence in short(),
            later in short(),
        ) {
            let received_at = sent_at + transit;
            let mut table = LeaseTable::new(Duration::ZERO, Duration::ZERO);
            table.heartbeat(heartbeat(1, false), received_at);
            let mut lease = Lease::default();
            if let Some(duration) = grant(quorum_silence) {
                lease.granted(sent_at, duration);
            }
            let now = received_at + later;
            let opinion = watch(&mut table, Duration::ZERO, now);
            prop_assert!(!lease.holds(now) || opinion == Availability::Active);
        }

        #[test]
        fn no_lease_outlasts_the_grace_of_the_next_leader(
            sent_at in short(),
            transit in short(),
            quorum_silence in short(),
            unled in short(),
            later in short(),
        ) {
            let granted_at = sent_at + transit;
            let Some(duration) = grant(quorum_silence.min(granted_at)) else {
                return Ok(());
            };
            // The earliest moment at which another quorum can have elected another leader, where
            // each of its voters has not heard the one before for so long.
            let elected_at = granted_at - quorum_silence.min(granted_at) + unled;
            let mut lease = Lease::default();
            lease.granted(sent_at, duration);
            let mut table = LeaseTable::new(elected_at, unled);
            let now = elected_at + later;
            let opinion = watch(&mut table, elected_at, now);
            prop_assert!(!lease.holds(now) || opinion != Availability::Unavailable);
        }
    }
}
