//! What faults need for themselves, so that no two of them disturb each other.

use super::{Cut, Fault, Link, Trouble};
use crate::stage::Stage;

/// What a fault needs for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Touched {
    /// A host, with all its links.
    Host(String),
    Link(Link),
    /// The disk of a replica.
    Disk(usize),
    /// What an API server answers.
    Answers(usize),
    /// What the cluster of an API server is registered as.
    Registration(usize),
}

impl Touched {
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(host), Self::Link(link)) | (Self::Link(link), Self::Host(host)) => {
                link.from == *host || link.to == *host
            }
            (Self::Link(link), Self::Link(other)) => link.is_between_the_hosts_of(other),
            _ => self == other,
        }
    }
}

impl Fault {
    pub(super) fn touches(&self, stage: &Stage) -> Vec<Touched> {
        let replica = |at: usize| Touched::Host(stage.replicas[at].name.clone());
        let subscriber = |at: usize| Touched::Host(stage.subscribers[at].name.clone());
        match self {
            Self::Kill(at)
            | Self::Stop(at)
            | Self::Freeze(at)
            | Self::PowerLoss(at)
            | Self::HoldAll(at) => vec![replica(*at)],
            Self::FullDisk(at) => vec![replica(*at), Touched::Disk(*at)],
            Self::SlowDisk(at) => vec![Touched::Disk(*at)],
            Self::PowerLossOfAll => (0..stage.replicas.len()).map(replica).collect(),
            Self::Isolation(host) => vec![Touched::Host(host.clone())],
            Self::Cut(link) | Self::OneWayCut(link) | Self::Hold(link) => {
                vec![Touched::Link(link.clone())]
            }
            // What a bookmark claims wrongly, or a restore hides, is noticed by the owner that
            // delivered before, and by nobody else: it has to stay the owner.
            Self::Upstream(server, Trouble::EarlyBookmarks)
            | Self::History(server, Cut::Overtaken) => alone(stage, *server),
            Self::Upstream(server, _) | Self::History(server, _) => vec![Touched::Answers(*server)],
            Self::Operator(server, _) => vec![Touched::Registration(*server)],
            Self::Leave(at) | Self::Unread(at) => vec![subscriber(*at)],
            Self::Interruption(at, server) => vec![subscriber(*at), Touched::Answers(*server)],
        }
    }
}

/// Everything but other API servers.
fn alone(stage: &Stage, server: usize) -> Vec<Touched> {
    let hosts = stage.hosts().into_iter().map(Touched::Host);
    let disks = (0..stage.replicas.len()).map(Touched::Disk);
    let own = [Touched::Answers(server), Touched::Registration(server)];
    hosts.chain(disks).chain(own).collect()
}
