//! A host with one simulated cluster, and what writes to it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use quorumwatch::{
    domain::cluster::{ClusterSpec, Resource, ResourceSelector, Source},
    sim::{Fleet, FleetOptions, Ledger, SimCluster},
};
use tokio::sync::mpsc;
use turmoil::Sim;

use super::{
    API_PORT, TIERS, at,
    writer::{self, Writing},
};
use crate::network::{ApiListener, Fabric, HostNetwork};

/// What clusters serve, and replicas watch.
pub(crate) const RESOURCES: [&str; 2] = ["v1/events", "v1/configmaps"];

/// What clusters serve, and replicas watch only for a while.
pub(crate) const EXTRA: &str = "v1/pods";

/// Acts that may wait for the next step.
const ACTS_MAX: usize = 64;

/// Something done to a cluster by its own host, whose clock counts.
type Act = Box<dyn FnOnce(&SimCluster) + Send>;

/// A host with one simulated cluster.
pub(crate) struct ApiServer {
    pub(crate) name: String,
    /// The name of its cluster.
    pub(crate) cluster: String,
    /// The label `tier` that its cluster begins with.
    pub(crate) tier: &'static str,
    acts: mpsc::Sender<Act>,
    writing: Writing,
    /// Once it runs.
    running: Arc<Mutex<Option<SimCluster>>>,
}

/// What the host begins with.
struct Beginning {
    network: HostNetwork,
    options: FleetOptions,
    cluster: String,
    acts: mpsc::Receiver<Act>,
    writing: Writing,
    running: Arc<Mutex<Option<SimCluster>>>,
}

/// What clusters serve.
pub(super) fn served() -> Vec<Resource> {
    let served = RESOURCES.into_iter().chain([EXTRA]);
    served.map(|text| text.parse().unwrap()).collect()
}

impl ApiServer {
    /// Adds it to a simulation.
    pub(crate) fn register(
        sim: &mut Sim<'static>,
        fabric: &Fabric,
        number: usize,
        seed: u64,
    ) -> Self {
        let name = format!("api-{number}");
        let cluster = format!("cluster-{number}");
        let (acts, acted) = mpsc::channel(ACTS_MAX);
        let (writing, running) = (Writing::default(), Arc::default());
        let beginning = Beginning {
            network: fabric.of(&name),
            options: FleetOptions {
                listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, API_PORT)),
                clusters: vec![cluster.clone()],
                seed,
                resources: served(),
                // Often, so that short runs have some.
                bookmark_interval: Duration::from_secs(3),
                ..FleetOptions::default()
            },
            cluster: cluster.clone(),
            acts: acted,
            writing: writing.clone(),
            running: Arc::clone(&running),
        };
        // It is never started a second time.
        let beginning = Mutex::new(Some(beginning));
        sim.host(name.as_str(), move || {
            let beginning = beginning.lock().unwrap().take();
            async move { serve(beginning.ok_or("it has run already")?).await }
        });
        Self {
            name,
            cluster,
            tier: TIERS[number % 2],
            acts,
            writing,
            running,
        }
    }

    /// How to reach it; the number changes the words, and nothing else.
    pub(crate) fn kubeconfig(&self, number: u32) -> String {
        let context = &self.cluster;
        let server = format!("http://{}/clusters/{context}", at(&self.name, API_PORT));
        format!(
            "# {number}\n\
             apiVersion: v1\n\
             kind: Config\n\
             clusters: [{{name: {context}, cluster: {{server: \"{server}\"}}}}]\n\
             users: [{{name: {context}, user: {{}}}}]\n\
             contexts: [{{name: {context}, context: {{cluster: {context}, user: {context}}}}}]\n\
             current-context: {context}\n"
        )
    }

    /// What replicas are given to watch it.
    pub(crate) fn spec(&self) -> ClusterSpec {
        let resources = RESOURCES.map(|text| ResourceSelector::all(text.parse().unwrap()));
        ClusterSpec {
            name: self.cluster.clone(),
            labels: [("tier".to_owned(), self.tier.to_owned())].into(),
            source: Source::KubeconfigInline {
                yaml: self.kubeconfig(0),
                context: self.cluster.clone(),
            },
            resources: resources.into(),
            paused: false,
            description: String::new(),
            duplicate_of: String::new(),
        }
    }

    /// Has its host do this in the next step.
    pub(crate) fn act(&self, act: impl FnOnce(&SimCluster) + Send + 'static) {
        let sent = self.acts.try_send(Box::new(act));
        assert!(sent.is_ok(), "{} does not take acts", self.name);
    }

    /// Nothing more is written, but what [`Self::act`] writes.
    pub(crate) fn stop_writing(&self) {
        self.writing.stop.cancel();
    }

    /// Whether nothing is written for a while, but what [`Self::act`] writes.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.writing.is_paused.store(is_paused, Ordering::Relaxed);
    }

    /// Writes one object of each resource.
    pub(crate) fn mark(&self, name: &str) {
        let name = name.to_owned();
        self.act(move |cluster| writer::mark(cluster, &name));
    }

    /// The revision of its cluster.
    pub(crate) fn revision(&self) -> u64 {
        let running = self.running.lock().unwrap();
        let revision = running.as_ref().map(SimCluster::current_rv);
        revision.and_then(|rv| rv.as_u64()).unwrap_or(0)
    }

    /// The label `part` of an object of its cluster.
    pub(crate) fn part_of(&self, name: &str, rv: u64) -> Option<u64> {
        self.writing.part_of(name, rv)
    }

    /// All that its cluster has committed.
    pub(crate) fn ledger(&self) -> Ledger {
        let running = self.running.lock().unwrap();
        running.as_ref().map(SimCluster::ledger).unwrap_or_default()
    }
}

async fn serve(beginning: Beginning) -> turmoil::Result {
    let Beginning {
        network,
        options,
        cluster,
        mut acts,
        writing,
        running,
    } = beginning;
    let seed = options.seed;
    let listener = ApiListener::bind(network, options.listen).await?;
    let fleet = Fleet::start_on(listener, &options)?;
    let cluster = fleet.cluster(&cluster).ok_or("the fleet has it")?;
    *running.lock().unwrap() = Some(cluster.clone());
    let acting = async {
        while let Some(act) = acts.recv().await {
            act(&cluster);
        }
    };
    tokio::join!(acting, writer::write(cluster.clone(), seed, writing));
    Ok(())
}
