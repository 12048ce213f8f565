//! Draws the faults of a run.

use std::{ops::RangeInclusive, time::Duration};

use rand::{
    Rng as _,
    rngs::SmallRng,
    seq::{IndexedRandom as _, IteratorRandom as _},
};

use super::{Cut, Edit, Fault, Link, Planned, Trouble};
use crate::stage::Stage;

/// How many faults a run has at most, and how many at least where there is time for them.
const COUNT: RangeInclusive<usize> = 6..=14;

/// How long they last, in milliseconds.
const LASTS_MS: RangeInclusive<u64> = 200..=3_500;

/// How long those last that need some time to come about.
const LASTS_LONG_MS: RangeInclusive<u64> = 3_100..=3_500;

/// How long a process stands still: from less than its lease to several of them.
const FROZEN_MS: RangeInclusive<u64> = 500..=5_000;

/// How often a run has a fault beside which there are few others.
const LONELY: f64 = 0.3;

/// Between two faults of the same hosts.
const PAUSE: Duration = Duration::from_millis(100);

/// Draws the faults of a run that lasts so long, in the order of their beginnings.
pub(crate) fn plan(stage: &Stage, random: &mut SmallRng, lasts: Duration) -> Vec<Planned> {
    let count = random.random_range(COUNT);
    let last_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
    let mut planned: Vec<Planned> = Vec::new();
    let lonely = random.random_bool(LONELY).then(|| lonely(stage, random));
    // Some draws are in the way of earlier ones.
    let drawn = (0..4 * count).map(|_| None);
    for chosen in [lonely].into_iter().chain(drawn) {
        let at = Duration::from_millis(random.random_range(0..last_ms));
        let fault = chosen.unwrap_or_else(|| draw(stage, random));
        let lasts_ms = match fault {
            Fault::Freeze(_) => FROZEN_MS,
            _ if fault.takes_long() => LASTS_LONG_MS,
            _ => LASTS_MS,
        };
        let until = at + Duration::from_millis(random.random_range(lasts_ms));
        let drawn = Planned { at, until, fault };
        let is_free = planned.iter().all(|other| !drawn.clashes(other, stage));
        if is_free && until <= lasts && planned.len() < count {
            planned.push(drawn);
        }
    }
    planned.sort_by_key(|planned| planned.at);
    planned
}

fn draw(stage: &Stage, random: &mut SmallRng) -> Fault {
    let replica = random.random_range(0..stage.replicas.len());
    let server = random.random_range(0..stage.servers.len());
    let subscriber = random.random_range(0..stage.subscribers.len());
    let link = Link::draw(stage, random);
    match random.random_range(0..51) {
        0..3 => Fault::Kill(replica),
        3 => Fault::Stop(replica),
        4..6 => Fault::PowerLoss(replica),
        6 => Fault::PowerLossOfAll,
        7..9 => Fault::Isolation(stage.replicas[replica].name.clone()),
        9..11 => Fault::Cut(link),
        11 => Fault::OneWayCut(link),
        12..14 => Fault::Hold(link),
        14 => Fault::HoldAll(replica),
        15..18 => Fault::FullDisk(replica),
        18..20 => Fault::SlowDisk(replica),
        20..28 => Fault::Upstream(server, *Trouble::ALL.choose(random).unwrap()),
        28..34 => Fault::History(server, *Cut::ALL.choose(random).unwrap()),
        34..40 => Fault::Operator(server, *Edit::ALL.choose(random).unwrap()),
        40..42 => Fault::Leave(subscriber),
        42..45 => {
            // The others would not notice: all that they are sent is under way.
            let narrow = (0..stage.subscribers.len())
                .filter(|at| stage.subscribers[*at].wish.window.is_some());
            Fault::Unread(narrow.choose(random).unwrap())
        }
        45..48 => Fault::Freeze(replica),
        _ => Fault::Interruption(subscriber, server),
    }
}

/// One of those that would not find room among others.
fn lonely(stage: &Stage, random: &mut SmallRng) -> Fault {
    let server = random.random_range(0..stage.servers.len());
    if random.random_bool(0.5) {
        Fault::Upstream(server, Trouble::EarlyBookmarks)
    } else {
        Fault::History(server, Cut::Overtaken)
    }
}

impl Planned {
    /// Whether two faults would disturb each other.
    fn clashes(&self, other: &Self, stage: &Stage) -> bool {
        let apart = self.until + PAUSE < other.at || other.until + PAUSE < self.at;
        let others = other.fault.touches(stage);
        let touches = self.fault.touches(stage);
        let meets = touches
            .iter()
            .any(|touched| others.iter().any(|other| touched.meets(other)));
        !apart && meets
    }
}

impl Fault {
    /// Whether less time would not be enough for it: for a bookmark, for a restore that has to be
    /// prepared, for rings to lose what was not read, or for a snapshot to come.
    fn takes_long(&self) -> bool {
        matches!(
            self,
            Self::Upstream(_, Trouble::EarlyBookmarks)
                | Self::History(..)
                | Self::Unread(_)
                | Self::Interruption(..)
        )
    }
}
