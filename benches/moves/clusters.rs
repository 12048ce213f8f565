//! API servers, each with an address of its own if there is a network.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use quorumwatch::{
    domain::cluster::Resource,
    proto::v1::{
        Cluster, ClusterSource, KubeconfigInline, ResourceSelector, cluster_source::Source,
    },
    sim::{Fleet, FleetOptions, SeenRequest},
};
use tempfile::TempDir;

use crate::{
    asked::{Asked, is_list, is_watch},
    clock,
    network::Network,
    servers::{Real, Server},
};

/// How much history simulated API servers keep: more than any disturbance lasts, and no more than
/// fits in memory.
const HISTORY: std::time::Duration = std::time::Duration::from_secs(90);

/// The resources that the clusters serve, and that are watched.
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

/// Which API servers serve the clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A simulated API server for each cluster.
    Simulated,
    /// One simulated API server for all clusters.
    SharesServer,
    /// A real kube-apiserver with its own etcd for each cluster.
    Real,
}

/// All clusters, named `sim-0` and up.
pub(crate) struct Clusters {
    fleets: Vec<Fleet>,
    pub(crate) all: Vec<Server>,
    /// The data of real control planes; declared after them, so that it is removed after they end.
    folder: Option<TempDir>,
    pub(crate) watched: Watched,
    /// When the clock of each cluster's API server started.
    started: Vec<u64>,
    /// When the last counted request of each cluster was made.
    counted: Vec<u64>,
}

impl Clusters {
    /// Starts so many clusters.
    pub(crate) async fn start(
        count: usize,
        watched: Watched,
        network: Option<&Network>,
        kind: Kind,
    ) -> Self {
        let names: Vec<_> = (0..count).map(|index| format!("sim-{index}")).collect();
        let mut clusters = Self {
            fleets: Vec::new(),
            all: Vec::new(),
            folder: None,
            watched,
            started: Vec::new(),
            counted: vec![0; count],
        };
        let address =
            |index| network.map_or(Ipv4Addr::LOCALHOST, |network| network.api_server(index));
        match kind {
            Kind::Simulated => {
                let groups = names.into_iter().map(|name| vec![name]);
                clusters.simulate(groups.collect(), address).await;
            }
            Kind::SharesServer => clusters.simulate(vec![names], address).await,
            Kind::Real => clusters.start_real(&names, address).await,
        }
        clusters
    }

    /// Starts a simulated API server for each group of names.
    async fn simulate(&mut self, groups: Vec<Vec<String>>, address: impl Fn(usize) -> Ipv4Addr) {
        for (index, names) in groups.into_iter().enumerate() {
            let started = clock::now();
            let fleet = Fleet::start(FleetOptions {
                listen: SocketAddr::from((IpAddr::from(address(index)), 0)),
                clusters: names.clone(),
                resources: self.watched.resources(),
                history: HISTORY,
                ..FleetOptions::default()
            });
            let fleet = fleet.await.expect("the address is its own");
            for name in &names {
                let cluster = fleet.cluster(name).expect("it was named");
                self.all.push(Server::Simulated(cluster));
                self.started.push(started);
            }
            self.fleets.push(fleet);
        }
    }

    /// Starts a control plane for each name.
    async fn start_real(&mut self, names: &[String], address: impl Fn(usize) -> Ipv4Addr) {
        let folder = tempfile::tempdir().expect("there is room for files");
        for (index, name) in names.iter().enumerate() {
            let real = Real::start(folder.path(), name, address(index)).await;
            self.all.push(Server::Real(Arc::new(real)));
            self.started.push(clock::now());
        }
        self.folder = Some(folder);
    }

    /// The registration of a cluster.
    pub(crate) fn described(&self, index: usize) -> Cluster {
        let server = &self.all[index];
        let name = server.name();
        let resources = self.watched.resources().into_iter();
        let source = match server {
            Server::Simulated(_) => {
                let fleet = &self.fleets[index.min(self.fleets.len() - 1)];
                Source::KubeconfigInline(KubeconfigInline {
                    yaml: fleet.kubeconfig(name),
                    context: name.to_owned(),
                })
            }
            // Its kubeconfig has credentials, which belong in the configuration.
            Server::Real(_) => Source::Configured(name.to_owned()),
        };
        Cluster {
            name: name.to_owned(),
            source: Some(ClusterSource {
                source: Some(source),
            }),
            resources: resources
                .map(|resource| ResourceSelector {
                    resource: resource.to_string(),
                    ..ResourceSelector::default()
                })
                .collect(),
            ..Cluster::default()
        }
    }

    /// The clusters' part of the replicas' configuration.
    pub(crate) fn sources(&self) -> String {
        let sources = self.all.iter().filter_map(|server| match server {
            Server::Simulated(_) => None,
            Server::Real(real) => {
                let (name, yaml) = (server.name(), real.kubeconfig());
                Some(format!(
                    "[sources.{name}]\ncontext = '{name}'\nkubeconfig = '''\n{yaml}'''\n"
                ))
            }
        });
        sources.collect()
    }

    /// Kills these API servers.
    pub(crate) async fn kill(&self, indexes: &[usize]) {
        for index in indexes {
            self.all[*index].kill().await;
        }
    }

    /// Starts them again, and waits until they are ready.
    pub(crate) async fn restore(&self, indexes: &[usize]) {
        let restored = indexes.iter().map(|index| self.all[*index].restore());
        futures::future::join_all(restored).await;
    }

    /// Whether the API servers are real.
    pub(crate) fn are_real(&self) -> bool {
        self.folder.is_some()
    }

    /// The requests since the last call; a cluster records its last thousand requests.
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

    /// When the first watch of a cluster since a time was opened.
    pub(crate) fn watch_opened(&self, index: usize, since: u64) -> Option<u64> {
        let requests = self.all[index].requests();
        let mut watches = requests.iter().filter(|request| is_watch(&request.target));
        let opened = |request: &SeenRequest| {
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
