//! Simulated API servers, each with an address of its own where there is a network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use quorumwatch::{
    domain::cluster::Resource,
    proto::v1::{Cluster, ResourceSelector},
    sim::{Fault, Fleet, FleetOptions, SimCluster},
};

use crate::{
    asked::{Asked, is_list, is_watch},
    clock,
    harness::registered,
    network::Network,
};

/// How much of the past can be watched again: more than any disturbance lasts, and no more than
/// fits in memory.
const HISTORY: std::time::Duration = std::time::Duration::from_secs(90);

/// What the clusters serve, and what is watched of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// Events.
    Events,
    /// Events, which API servers do not cache, and ConfigMaps, which they do.
    EventsAndConfigMaps,
}

impl Watched {
    pub(crate) fn resources(self) -> Vec<Resource> {
        let resources: &[&str] = match self {
            Self::Events => &["v1/events"],
            Self::EventsAndConfigMaps => &["v1/events", "v1/configmaps"],
        };
        let parsed = resources.iter().map(|text| text.parse());
        parsed
            .map(|resource| resource.expect("they are resources"))
            .collect()
    }
}

/// All clusters, `sim-0` and up.
pub(crate) struct Clusters {
    fleets: Vec<Fleet>,
    pub(crate) all: Vec<SimCluster>,
    pub(crate) watched: Watched,
    /// When the first of their clocks began.
    started: Vec<u64>,
    /// Of each cluster, when the last request was made that was counted already.
    counted: Vec<u64>,
}

impl Clusters {
    /// So many, each with a server of its own, or all behind one.
    pub(crate) async fn start(
        count: usize,
        watched: Watched,
        network: Option<&Network>,
        shares_server: bool,
    ) -> Self {
        let names: Vec<_> = (0..count).map(|index| format!("sim-{index}")).collect();
        let groups: Vec<Vec<String>> = if shares_server {
            vec![names]
        } else {
            names.into_iter().map(|name| vec![name]).collect()
        };
        let mut clusters = Self {
            fleets: Vec::new(),
            all: Vec::new(),
            watched,
            started: Vec::new(),
            counted: vec![0; count],
        };
        for (index, names) in groups.into_iter().enumerate() {
            let address = network.map_or(Ipv4Addr::LOCALHOST, |network| network.api_server(index));
            let started = clock::now();
            let fleet = Fleet::start(FleetOptions {
                listen: SocketAddr::from((IpAddr::from(address), 0)),
                clusters: names.clone(),
                resources: watched.resources(),
                history: HISTORY,
                ..FleetOptions::default()
            });
            let fleet = fleet.await.expect("the address is its own");
            for name in &names {
                clusters
                    .all
                    .push(fleet.cluster(name).expect("it was named"));
                clusters.started.push(started);
            }
            clusters.fleets.push(fleet);
        }
        clusters
    }

    /// What the group is told of a cluster.
    pub(crate) fn described(&self, index: usize) -> Cluster {
        let name = self.all[index].name();
        let fleet = &self.fleets[index.min(self.fleets.len() - 1)];
        let resources = self.watched.resources().into_iter();
        Cluster {
            resources: resources
                .map(|resource| ResourceSelector {
                    resource: resource.to_string(),
                    ..ResourceSelector::default()
                })
                .collect(),
            ..registered(name, fleet.kubeconfig(name), name)
        }
    }

    /// The API server dies: connections are reset, and new ones are closed without an answer.
    pub(crate) fn kill(&self, index: usize) {
        self.all[index].faults().set(Fault::Unreachable);
    }

    /// It is back, with all that it had committed.
    pub(crate) fn restore(&self, index: usize) {
        self.all[index].faults().clear(Fault::Unreachable);
    }

    /// What was asked since the last call; a cluster remembers its last thousand requests.
    pub(crate) fn asked(&mut self) -> Asked {
        let mut asked = Asked::default();
        let mut by_second = std::collections::BTreeMap::<u64, u64>::new();
        for (index, cluster) in self.all.iter().enumerate() {
            let last = self.counted[index];
            for request in cluster.requests() {
                let at = clock::micros(request.at) + 1;
                if at <= last {
                    continue;
                }
                self.counted[index] = at;
                asked.requests += 1;
                asked.lists += u64::from(is_list(&request.target));
                *by_second.entry(at / 1_000_000).or_default() += 1;
            }
        }
        asked.busiest_second = by_second.values().copied().max().unwrap_or(0);
        asked
    }

    /// When a watch of a cluster was opened first since a time.
    pub(crate) fn watch_opened(&self, index: usize, since: u64) -> Option<u64> {
        let requests = self.all[index].requests();
        let mut watches = requests.iter().filter(|request| is_watch(&request.target));
        let opened = |request: &quorumwatch::sim::SeenRequest| {
            let at = self.started[index] + clock::micros(request.at);
            (at >= since).then_some(at)
        };
        watches.find_map(opened)
    }

    pub(crate) async fn stop(&self) {
        let stops = self.fleets.iter().map(Fleet::stop);
        futures::future::join_all(stops).await;
    }
}
