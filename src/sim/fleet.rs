//! Many simulated clusters behind one listener.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::connect_info::IntoMakeServiceWithConnectInfo,
    serve::{Listener, ListenerExt as _},
};
use tokio::{net::TcpListener, sync::Mutex, task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    Error, Load, LoadOptions, SimCluster,
    cluster::{Clock, Clusters, Context},
    connection::{BreakableListener, Connection},
    http, load,
    store::StoreOptions,
};
use crate::domain::cluster::Resource;

/// How often leases and old history are checked: well below any useful TTL.
const TICK: Duration = Duration::from_millis(100);

/// For how long a stop waits for open connections; a client that does not read may hold one.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What to simulate.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The clusters' names.
    pub clusters: Vec<String>,
    /// Random seed.
    pub seed: u64,
    /// What each cluster serves.
    pub resources: Vec<Resource>,
    /// For how long an Event lives after it was last written; `None`: unlimited. Events written
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
    seed: u64,
    /// Loads that have begun.
    loads: AtomicU64,
    clusters: Clusters,
    context: Context,
    tasks: Mutex<JoinSet<()>>,
}

impl Fleet {
    /// Starts to listen.
    pub async fn start(options: FleetOptions) -> Result<Self, Error> {
        check_names(&options.clusters)?;
        let address = options.listen;
        let refuse = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(refuse)?;
        let listener = listener.tap_io(|stream| {
            // Lines are small and must not wait for each other; a failure costs only time.
            let _ = stream.set_nodelay(true);
        });
        Self::start_on(listener, &options)
    }

    /// Serves what this listener takes; to be called within a runtime.
    pub fn start_on<L>(listener: L, options: &FleetOptions) -> Result<Self, Error>
    where
        L: Listener<Addr = SocketAddr>,
    {
        check_names(&options.clusters)?;
        let address = options.listen;
        let refuse = |source| Error::Listen { address, source };
        let address = listener.local_addr().map_err(refuse)?;
        let context = Context {
            clock: Clock::start(),
            bookmark_interval: options.bookmark_interval,
            stopping: CancellationToken::new(),
        };
        let clusters = Clusters::new(new_clusters(options, &context));

        let service: IntoMakeServiceWithConnectInfo<_, Connection> =
            http::router(clusters.clone()).into_make_service_with_connect_info();
        let stopping = context.stopping.clone().cancelled_owned();
        let server = axum::serve(BreakableListener(listener), service);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // It ends only when stopped: the listener retries failures.
            let _ = server.with_graceful_shutdown(stopping).await;
        });
        tasks.spawn(tick(clusters.clone(), context.stopping.clone()));
        Ok(Self {
            inner: Arc::new(Inner {
                address,
                seed: options.seed,
                loads: AtomicU64::new(0),
                clusters,
                context,
                tasks: Mutex::new(tasks),
            }),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The clusters' names, in the order of the options.
    pub fn cluster_names(&self) -> Vec<String> {
        let clusters = self.inner.clusters.all().iter();
        clusters.map(|cluster| cluster.name().to_owned()).collect()
    }

    /// A kubeconfig for one cluster: YAML, no credentials, one context named as the cluster.
    pub fn kubeconfig(&self, cluster: &str) -> String {
        let address = self.inner.address;
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: \"{cluster}\"\n  \
               cluster:\n    \
                 server: http://{address}/clusters/{cluster}\n\
             users:\n\
             - name: \"{cluster}\"\n  \
               user: {{}}\n\
             contexts:\n\
             - name: \"{cluster}\"\n  \
               context:\n    \
                 cluster: \"{cluster}\"\n    \
                 user: \"{cluster}\"\n\
             current-context: \"{cluster}\"\n"
        )
    }

    /// The handle of a cluster.
    pub fn cluster(&self, name: &str) -> Option<SimCluster> {
        self.inner.clusters.get(name).cloned()
    }

    /// Writes seeded load to all clusters until it is stopped, or the fleet is. Each load draws
    /// something else: what the one before it has created exists already.
    pub fn load(&self, options: LoadOptions) -> Load {
        let clusters = self.inner.clusters.all().to_vec();
        let cancel = self.inner.context.stopping.child_token();
        let number = self.inner.loads.fetch_add(1, Ordering::Relaxed);
        let seed = self.inner.seed.wrapping_add(number);
        load::start(clusters, seed, options, cancel)
    }

    /// Stops listening; open watches end.
    pub async fn stop(&self) {
        self.inner.context.stopping.cancel();
        let mut tasks = self.inner.tasks.lock().await;
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            tasks.shutdown().await;
        }
    }
}

fn check_names(names: &[String]) -> Result<(), Error> {
    if names.is_empty() {
        return Err(Error::NoClusters);
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if name.is_empty() || !name.bytes().all(plain) || !seen.insert(name) {
            return Err(Error::ClusterName(name.clone()));
        }
    }
    Ok(())
}

fn new_clusters(options: &FleetOptions, context: &Context) -> Vec<SimCluster> {
    let clusters = options.clusters.iter();
    clusters
        .map(|name| {
            let store = StoreOptions {
                cluster: name.clone(),
                // The name, so that a cluster is the same whatever others there are.
                seed: options.seed ^ u64::from(crc32c::crc32c(name.as_bytes())),
                resources: options.resources.clone(),
                event_ttl: options.event_ttl,
                history: options.history,
            };
            SimCluster::new(store, context.clone())
        })
        .collect()
}

async fn tick(clusters: Clusters, stopping: CancellationToken) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
        for cluster in clusters.all().iter() {
            cluster.tick();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check_names;

    #[test]
    fn names_that_cannot_stand_in_a_path_are_refused() {
        let names =
            |names: &[&str]| check_names(&names.iter().map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(names(&["a", "b-1.x"]).is_ok());
        for bad in [&[][..], &[""], &["a", "a"], &["a/b"], &["A"]] {
            assert!(names(bad).is_err(), "{bad:?}");
        }
    }
}
