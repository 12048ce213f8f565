//! A host with an operator, who changes clusters through the public API, one change after the other.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prost_types::FieldMask;
use quorumwatch::{
    client::{Client, Endpoints, chain},
    proto::v1::{
        Cluster, ClusterSource, KubeconfigInline, ResourceSelector, UpdateClusterRequest,
        cluster_source::Source,
    },
};
use tokio::{sync::mpsc, time::sleep};
use turmoil::Sim;

use super::{
    api_server::{ApiServer, EXTRA, RESOURCES},
    reach,
};
use crate::{network::Fabric, report};

/// What the label `tier` of a cluster may be.
pub(crate) const TIERS: [&str; 3] = ["a", "b", "c"];

/// Changes that may wait.
const CHANGES_MAX: usize = 64;

/// Between two attempts at the same change.
const PAUSE: Duration = Duration::from_millis(150);

/// A change of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Its label `tier`.
    Tier(&'static str),
    /// Whether it is paused.
    Paused(bool),
    /// Its kubeconfig, which says the same in other words. This is the number of the words.
    Kubeconfig(u32),
    /// Whether one more resource is watched.
    Extra(bool),
}

/// What a cluster is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) tier: &'static str,
    pub(crate) paused: bool,
    pub(crate) yaml: String,
    /// The resources that are watched.
    pub(crate) resources: Vec<String>,
}

/// A host with an operator.
pub(crate) struct Operator {
    pub(crate) name: String,
    requests: mpsc::Sender<UpdateClusterRequest>,
    asked: RefCell<usize>,
    done: Arc<AtomicUsize>,
    wanted: RefCell<BTreeMap<String, Wanted>>,
}

impl Operator {
    /// Adds it to a simulation. It knows these clusters as they are created.
    pub(crate) fn register(
        sim: &mut Sim<'static>,
        fabric: &Fabric,
        replicas: &[String],
        servers: &[ApiServer],
    ) -> Self {
        let name = "operator".to_owned();
        let (requests, received) = mpsc::channel(CHANGES_MAX);
        let done: Arc<AtomicUsize> = Arc::default();
        let endpoints = reach::endpoints(replicas, &fabric.of(&name), None);
        // It is never started a second time.
        let beginning = Mutex::new(Some((endpoints, received, Arc::clone(&done))));
        sim.host(name.as_str(), move || {
            let beginning = beginning.lock().unwrap().take();
            async move {
                let (endpoints, received, done) = beginning.ok_or("it has run already")?;
                work(endpoints, received, &done).await
            }
        });
        let wanted = servers.iter().map(|server| {
            let wanted = Wanted {
                tier: server.tier,
                paused: false,
                yaml: server.kubeconfig(0),
                resources: resources(false),
            };
            (server.cluster.clone(), wanted)
        });
        Self {
            name,
            requests,
            asked: RefCell::new(0),
            done,
            wanted: RefCell::new(wanted.collect()),
        }
    }

    /// Has the cluster of a server changed, after all changes before this one.
    pub(crate) fn change(&self, server: &ApiServer, change: Change) {
        let mut wanted = self.wanted.borrow_mut();
        let wanted = wanted.get_mut(&server.cluster).unwrap();
        let mut cluster = Cluster {
            name: server.cluster.clone(),
            ..Cluster::default()
        };
        let path = match change {
            Change::Tier(tier) => {
                wanted.tier = tier;
                cluster.labels = [("tier".to_owned(), tier.to_owned())].into();
                "labels"
            }
            Change::Paused(paused) => {
                wanted.paused = paused;
                cluster.paused = paused;
                "paused"
            }
            Change::Kubeconfig(number) => {
                wanted.yaml = server.kubeconfig(number);
                cluster.source = Some(source(&wanted.yaml, &server.cluster));
                "source"
            }
            Change::Extra(is_watched) => {
                wanted.resources = resources(is_watched);
                cluster.resources = wanted.resources.iter().map(|it| selector(it)).collect();
                "resources"
            }
        };
        let mut asked = self.asked.borrow_mut();
        *asked += 1;
        let request = UpdateClusterRequest {
            cluster: Some(cluster),
            update_mask: Some(FieldMask {
                paths: vec![path.to_owned()],
            }),
            // The same for each attempt, so that the change is made once.
            request_id: format!("change-{asked}"),
            ..UpdateClusterRequest::default()
        };
        report::note(&self.name, format_args!("{}: {change:?}", server.cluster));
        let sent = self.requests.try_send(request);
        assert!(sent.is_ok(), "the operator does not take changes");
    }

    /// What a cluster is to be.
    pub(crate) fn wanted(&self, cluster: &str) -> Wanted {
        self.wanted.borrow()[cluster].clone()
    }

    /// Whether every change was acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed) == *self.asked.borrow()
    }
}

/// What is watched, as the API has it.
fn resources(with_extra: bool) -> Vec<String> {
    let extra = with_extra.then_some(EXTRA);
    let all = RESOURCES.into_iter().chain(extra);
    all.map(str::to_owned).collect()
}

fn selector(resource: &str) -> ResourceSelector {
    ResourceSelector {
        resource: resource.to_owned(),
        ..ResourceSelector::default()
    }
}

fn source(yaml: &str, context: &str) -> ClusterSource {
    ClusterSource {
        source: Some(Source::KubeconfigInline(KubeconfigInline {
            yaml: yaml.to_owned(),
            context: context.to_owned(),
        })),
    }
}

/// Makes each change until it is acknowledged.
async fn work(
    endpoints: Endpoints,
    mut requests: mpsc::Receiver<UpdateClusterRequest>,
    done: &AtomicUsize,
) -> turmoil::Result {
    let client = Client::new(endpoints);
    while let Some(request) = requests.recv().await {
        loop {
            match client.update_cluster(request.clone()).await {
                Ok(_) => break,
                Err(error) if error.is_final() => {
                    let why = chain(&error);
                    report::violated(format!("the operator's {request:?} was refused: {why}"));
                    break;
                }
                // poll: no replica has a majority, or none is reached
                Err(_) => sleep(PAUSE).await,
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
        report::note("operator", format_args!("{} is done", request.request_id));
    }
    Ok(())
}
