//! What goes wrong, when, and until when: [`plan`]. How, is in the files below: each begins and
//! ends some kinds of faults on a [`Stage`].

mod links;
mod processes;
mod upstream;

use std::{ops::RangeInclusive, time::Duration};

use quorumwatch::proto::v1::GapReason;
use rand::{Rng as _, rngs::SmallRng, seq::IndexedRandom as _};

use crate::{report, stage::Stage};
use links::Link;
use upstream::Trouble;

/// How many faults a run has at most, and how many at least where there is time for them.
const COUNT: RangeInclusive<usize> = 5..=11;

/// How long they last, in milliseconds.
const LASTS_MS: RangeInclusive<u64> = 200..=3_500;

/// Between two faults of the same hosts.
const PAUSE: Duration = Duration::from_millis(100);

/// Something that is wrong for a while.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The process of a replica is killed; its machine refuses connections.
    Kill(usize),
    /// A replica is asked to stop, as in a rolling update.
    Stop(usize),
    /// A replica's machine loses power: silence, until it is back.
    PowerLoss(usize),
    /// All of them do.
    PowerLossOfAll,
    /// A host is cut off from all others: what is sent is lost.
    Isolation(String),
    /// Two hosts are cut off from each other.
    Cut(Link),
    /// The same in one direction.
    OneWayCut(Link),
    /// What two hosts send to each other arrives only at the end of this.
    Hold(Link),
    /// An API server misbehaves.
    Upstream(usize, Trouble),
    /// A subscriber leaves, and comes back with its cursor.
    Leave(usize),
}

/// A fault, from when to when.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) until: Duration,
    pub(crate) fault: Fault,
}

/// What a fault needs for itself.
#[derive(Debug)]
enum Touched {
    /// Hosts, with all their links.
    Hosts(Vec<String>),
    Link(Link),
    /// What an API server answers.
    Answers(usize),
}

/// Draws the faults of a run that lasts so long, in the order of their beginnings.
pub(crate) fn plan(stage: &Stage, random: &mut SmallRng, lasts: Duration) -> Vec<Planned> {
    let count = random.random_range(COUNT);
    let last_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
    let mut planned: Vec<Planned> = Vec::new();
    // Some draws are in the way of earlier ones.
    for _ in 0..4 * count {
        let at = Duration::from_millis(random.random_range(0..last_ms));
        let until = at + Duration::from_millis(random.random_range(LASTS_MS));
        let fault = draw(stage, random);
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
    let link = Link::draw(stage, random);
    match random.random_range(0..20) {
        0..3 => Fault::Kill(replica),
        3 => Fault::Stop(replica),
        4..6 => Fault::PowerLoss(replica),
        6 => Fault::PowerLossOfAll,
        7..9 => Fault::Isolation(stage.replicas[replica].name.clone()),
        9..11 => Fault::Cut(link),
        11 => Fault::OneWayCut(link),
        12..14 => Fault::Hold(link),
        14..18 => {
            let server = random.random_range(0..stage.servers.len());
            Fault::Upstream(server, *Trouble::ALL.choose(random).unwrap())
        }
        _ => Fault::Leave(random.random_range(0..stage.subscribers.len())),
    }
}

impl Planned {
    /// Whether two faults would disturb each other.
    fn clashes(&self, other: &Self, stage: &Stage) -> bool {
        let apart = self.until + PAUSE < other.at || other.until + PAUSE < self.at;
        !apart && self.fault.touches(stage).meets(&other.fault.touches(stage))
    }
}

impl Touched {
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Hosts(some), Self::Hosts(others)) => {
                some.iter().any(|host| others.contains(host))
            }
            (Self::Hosts(hosts), Self::Link(link)) | (Self::Link(link), Self::Hosts(hosts)) => {
                hosts.contains(&link.from) || hosts.contains(&link.to)
            }
            (Self::Link(link), Self::Link(other)) => link.is_between_the_hosts_of(other),
            (Self::Answers(server), Self::Answers(other)) => server == other,
            (Self::Answers(_), _) | (_, Self::Answers(_)) => false,
        }
    }
}

impl Fault {
    fn touches(&self, stage: &Stage) -> Touched {
        let replica = |at: &usize| stage.replicas[*at].name.clone();
        match self {
            Self::Kill(at) | Self::Stop(at) | Self::PowerLoss(at) => {
                Touched::Hosts(vec![replica(at)])
            }
            Self::PowerLossOfAll => {
                let all = stage.replicas.iter();
                Touched::Hosts(all.map(|replica| replica.name.clone()).collect())
            }
            Self::Isolation(host) => Touched::Hosts(vec![host.clone()]),
            Self::Cut(link) | Self::OneWayCut(link) | Self::Hold(link) => {
                Touched::Link(link.clone())
            }
            Self::Upstream(server, _) => Touched::Answers(*server),
            Self::Leave(at) => Touched::Hosts(vec![stage.subscribers[*at].name.clone()]),
        }
    }

    /// What it is called where faults are counted.
    fn kind(&self) -> String {
        let text = format!("{self:?}");
        match self {
            Self::Upstream(_, trouble) => format!("{trouble:?}"),
            _ => text.split('(').next().unwrap_or_default().to_owned(),
        }
    }

    /// Whether a gap with this reason may come of it.
    pub(crate) fn explains(&self, reason: GapReason) -> bool {
        match self {
            Self::Upstream(_, trouble) => trouble.explains(reason),
            _ => false,
        }
    }

    pub(crate) fn begin(&self, stage: &mut Stage) {
        report::note("fault", format_args!("{self:?} begins"));
        report::reached(format!("fault {}", self.kind()));
        match self {
            Self::Kill(at) => stage.kill(*at),
            Self::Stop(at) => stage.stop(*at),
            Self::PowerLoss(at) => stage.cut_power(*at),
            Self::PowerLossOfAll => (0..stage.replicas.len()).for_each(|at| stage.cut_power(at)),
            Self::Isolation(host) => stage.isolate(host),
            Self::Cut(link) => stage.cut(link),
            Self::OneWayCut(link) => stage.cut_one_way(link),
            Self::Hold(link) => stage.hold(link),
            Self::Upstream(at, trouble) => trouble.begin(&stage.servers[*at]),
            Self::Leave(at) => stage.leave(*at),
        }
    }

    pub(crate) fn end(&self, stage: &mut Stage) {
        report::note("fault", format_args!("{self:?} ends"));
        match self {
            Self::Kill(at) => stage.start(*at),
            Self::Stop(at) => {
                stage.kill(*at);
                stage.start(*at);
            }
            Self::PowerLoss(at) => stage.power_up(*at),
            Self::PowerLossOfAll => (0..stage.replicas.len()).for_each(|at| stage.power_up(at)),
            Self::Isolation(host) => stage.join(host),
            Self::Cut(link) => stage.mend(link),
            Self::OneWayCut(link) => stage.mend_one_way(link),
            Self::Hold(link) => stage.release(link),
            Self::Upstream(at, trouble) => trouble.end(&stage.servers[*at]),
            Self::Leave(at) => stage.come_back(*at),
        }
    }
}
