//! Links that lose or hold back what is sent.

use rand::{
    Rng as _,
    rngs::SmallRng,
    seq::{IndexedRandom as _, IteratorRandom as _},
};

use crate::stage::Stage;

/// The link between two hosts, with a direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(super) from: String,
    pub(super) to: String,
}

impl Link {
    /// One of those that something is sent over: a replica is at one of its ends.
    pub(super) fn draw(stage: &Stage, random: &mut SmallRng) -> Self {
        let replica = &stage.replicas.choose(random).unwrap().name;
        let hosts = stage.hosts().into_iter();
        let peer = hosts.filter(|host| host != replica).choose(random);
        let (replica, peer) = (replica.clone(), peer.unwrap());
        if random.random_bool(0.5) {
            Self {
                from: replica,
                to: peer,
            }
        } else {
            Self {
                from: peer,
                to: replica,
            }
        }
    }

    /// Whether it is between the same hosts.
    pub(super) fn is_between_the_hosts_of(&self, other: &Self) -> bool {
        let reversed = Self {
            from: other.to.clone(),
            to: other.from.clone(),
        };
        *self == *other || *self == reversed
    }
}

impl Stage {
    /// What is sent over a link is lost.
    pub(super) fn cut(&mut self, link: &Link) {
        self.fabric.cut(&link.from, &link.to);
        self.sim.partition(link.from.as_str(), link.to.as_str());
    }

    pub(super) fn mend(&mut self, link: &Link) {
        if self.fabric.mend(&link.from, &link.to) {
            self.sim.repair(link.from.as_str(), link.to.as_str());
        }
    }

    /// What is sent in this direction is lost. No connection comes about in either.
    pub(super) fn cut_one_way(&mut self, link: &Link) {
        self.fabric.cut(&link.from, &link.to);
        let (from, to) = (link.from.as_str(), link.to.as_str());
        self.sim.partition_oneway(from, to);
    }

    pub(super) fn mend_one_way(&mut self, link: &Link) {
        let (from, to) = (link.from.as_str(), link.to.as_str());
        if self.fabric.mend(from, to) {
            self.sim.repair_oneway(from, to);
        }
    }

    /// What is sent over a link stays there.
    pub(super) fn hold(&mut self, link: &Link) {
        self.sim.hold(link.from.as_str(), link.to.as_str());
    }

    pub(super) fn release(&mut self, link: &Link) {
        self.sim.release(link.from.as_str(), link.to.as_str());
    }

    /// What a replica sends and is sent stays where it is.
    pub(super) fn hold_all(&mut self, replica: usize) {
        let name = self.replicas[replica].name.clone();
        for link in self.links_of(&name) {
            self.hold(&link);
        }
    }

    pub(super) fn release_all(&mut self, replica: usize) {
        let name = self.replicas[replica].name.clone();
        for link in self.links_of(&name) {
            self.release(&link);
        }
    }

    /// All links of a host are cut.
    pub(super) fn isolate(&mut self, host: &str) {
        for link in self.links_of(host) {
            self.cut(&link);
        }
    }

    /// All links of a host are whole again.
    pub(super) fn join(&mut self, host: &str) {
        for link in self.links_of(host) {
            self.mend(&link);
        }
    }

    fn links_of(&self, host: &str) -> Vec<Link> {
        let others = self.hosts().into_iter().filter(|other| other != host);
        others
            .map(|other| Link {
                from: host.to_owned(),
                to: other,
            })
            .collect()
    }
}
