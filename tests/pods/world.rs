//! Three pods, simulated clusters that they watch, and a subscriber on this machine.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use quorumwatch::{
    client::{Endpoint, Endpoints},
    domain::{cluster::Resource, position::ResourceVersion},
    proto::v1::{
        Cluster, ClusterSource, Group, KubeconfigFile, MemberHealth, cluster_source::Source,
    },
    sim::{Fleet, FleetOptions, Ledger, Load, LoadOptions},
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    PATIENCE,
    client::Client,
    image::Image,
    layout::volume,
    manifest::Template,
    network::Network,
    pod::{Container, Mount, Process},
    recorder::{Record, Recorder},
    wait::{eventually, holds},
};

/// Worlds that exist at once: names of namespaces and links are those of the process.
static TURNS: Semaphore = Semaphore::const_new(1);

/// Clusters that are watched.
const CLUSTERS: usize = 6;
/// Events per second, over all of them.
const LOAD: f64 = 300.0;
/// Lines of a log that are shown when a test fails.
const LOG_LINES: usize = 40;

/// One of the StatefulSet's pods, and its volume.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) process: Option<Process>,
    /// Which life this is: each has its own address.
    life: u8,
    folder: PathBuf,
}

/// Everything. Dropping it ends it all.
pub(crate) struct World {
    pub(crate) pods: Vec<Pod>,
    pub(crate) network: Network,
    pub(crate) template: Template,
    image: Image,
    fleet: Fleet,
    load: Option<Load>,
    /// Where each cluster stood when the load began.
    from: BTreeMap<String, ResourceVersion>,
    folder: Option<TempDir>,
    // Dropped after the network.
    _turn: SemaphorePermit<'static>,
}

impl World {
    /// The network, the clusters and the volumes; no pod runs yet.
    pub(crate) async fn prepare() -> Self {
        let turn = TURNS.acquire().await.unwrap();
        let template = Template::read();
        let folder = TempDir::with_prefix("quorumwatch-pods-").unwrap();
        let mounted = ["data", "config", "kubeconfigs"].map(|name| template.mount_path(name));
        let image = Image::make(&folder.path().join("root"), &mounted);
        let network = Network::create();
        let fleet = FleetOptions {
            listen: SocketAddr::new(network.host(), 0),
            clusters: (1..=CLUSTERS).map(|n| format!("sim-{n}")).collect(),
            ..FleetOptions::default()
        };
        let fleet = Fleet::start(fleet).await.unwrap();
        write_kubeconfigs(&folder.path().join("kubeconfigs"), &fleet);
        let configuration = folder.path().join("config");
        fs::create_dir(&configuration).unwrap();
        fs::write(
            configuration.join("quorumwatch.toml"),
            Template::configuration(),
        )
        .unwrap();
        let pod = |(index, name): (usize, String)| Pod {
            address: network.pod(index, 0),
            folder: folder.path().join(&name),
            name,
            process: None,
            life: 0,
        };
        let world = Self {
            pods: template.pods().into_iter().enumerate().map(pod).collect(),
            network,
            template,
            image,
            fleet,
            load: None,
            from: BTreeMap::new(),
            folder: Some(folder),
            _turn: turn,
        };
        world.write_hosts();
        world
    }

    /// Three pods that are ready, and watch every cluster.
    pub(crate) async fn start() -> Self {
        let mut world = Self::prepare().await;
        for index in 0..world.pods.len() {
            world.launch(index);
        }
        world.ready().await;
        world.monitor().await;
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().unwrap().path().join(name)
    }

    /// What the cluster's DNS answers: pods that exist.
    fn write_hosts(&self) {
        let mut text = "127.0.0.1 localhost\n".to_owned();
        for pod in self.pods.iter().filter(|pod| pod.process.is_some()) {
            let names = self.template.host_names(&pod.name);
            text += &format!("{} {names}\n", pod.address);
        }
        fs::write(self.path("hosts"), text).unwrap();
    }

    /// Starts a pod in the namespace that it has, or in a new one.
    pub(crate) fn launch(&mut self, index: usize) {
        let own = self.network.namespace_path(index);
        if !Path::new(&own).exists() {
            self.network.plug(index, self.pods[index].address);
        }
        let user = self.template.user();
        let mount = |name: &str| Mount {
            from: self.path(name),
            to: self.template.mount_path(name).into(),
            is_writable: false,
        };
        let pod = &self.pods[index];
        fs::create_dir_all(&pod.folder).unwrap();
        let mut container = Container::of(&self.image, user);
        container.network = Some(own);
        container.environment = self.template.environment(&pod.name);
        container.mounts = vec![
            volume(&pod.folder.join("data"), user),
            mount("config"),
            mount("kubeconfigs"),
            Mount {
                from: self.path("hosts"),
                to: "/etc/hosts".into(),
                is_writable: false,
            },
        ];
        let log = pod.folder.join("log");
        let process = Process::start(&container, &self.template.arguments(), &log);
        self.pods[index].process = Some(process);
        self.write_hosts();
    }

    /// SIGKILL; the pod's network stays, as it does when only its container dies.
    pub(crate) fn kill(&mut self, index: usize) {
        drop(self.pods[index].process.take());
    }

    /// SIGKILL, and its address is gone as well. It comes back under its name with another one.
    pub(crate) fn evict(&mut self, index: usize) {
        self.kill(index);
        self.network.unplug(index);
        let pod = &mut self.pods[index];
        pod.life += 1;
        pod.address = self.network.pod(index, pod.life);
        self.write_hosts();
    }

    pub(crate) fn client(&self, index: usize) -> Client {
        Client::new(self.endpoint(index))
    }

    fn endpoint(&self, index: usize) -> Endpoint {
        let port = self.template.port("grpc");
        let address = SocketAddr::new(self.pods[index].address, port);
        address.to_string().parse().unwrap()
    }

    /// The endpoints, that of `first` first.
    pub(crate) fn endpoints(&self, first: usize) -> Endpoints {
        let count = self.pods.len();
        let mut turns = (0..count).map(|turn| self.endpoint((first + turn) % count));
        Endpoints::new(turns.next().unwrap(), turns)
    }

    /// What a probe of the manifest says; `None` where there is no answer in its time.
    pub(crate) async fn probe(&self, index: usize, probe: &str) -> Option<ServingStatus> {
        let probe = self.template.probe(probe);
        let address = SocketAddr::new(self.pods[index].address, probe.grpc.port);
        let asking = async {
            let channel = tonic::transport::Endpoint::new(format!("http://{address}")).ok()?;
            let mut client = HealthClient::new(channel.connect().await.ok()?);
            let service = probe.grpc.service.clone();
            let answer = client.check(HealthCheckRequest { service }).await.ok()?;
            Some(answer.into_inner().status())
        };
        let within = Duration::from_secs(probe.timeout_seconds);
        tokio::time::timeout(within, asking).await.ok().flatten()
    }

    /// Waits until a probe says this.
    pub(crate) async fn probes(&self, index: usize, probe: &str, wanted: ServingStatus) {
        let what = format!("{probe} of {} says {wanted:?}", self.pods[index].name);
        let says = async || self.probe(index, probe).await == Some(wanted);
        holds(&what, PATIENCE, says).await;
    }

    /// Waits until every pod is alive and ready, and all are one healthy group.
    pub(crate) async fn ready(&self) -> Duration {
        let count = self.pods.len();
        for index in 0..count {
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                self.probes(index, probe, ServingStatus::Serving).await;
            }
        }
        holds("all are one healthy group", PATIENCE, async || {
            for index in 0..count {
                let Ok(group) = self.client(index).group().await else {
                    return false;
                };
                if group.leader.is_empty() || healthy(&group) < count {
                    return false;
                }
            }
            true
        })
        .await
    }

    /// The leader, as this pod sees it.
    pub(crate) async fn leader(&self, seen_by: usize) -> usize {
        let (leader, _) = eventually("there is a leader", PATIENCE, async || {
            let group = self.client(seen_by).group().await.ok()?;
            self.pods.iter().position(|pod| pod.name == group.leader)
        })
        .await;
        leader
    }

    async fn monitor(&self) {
        let folder = self.template.mount_path("kubeconfigs");
        for name in self.fleet.cluster_names() {
            let file = KubeconfigFile {
                path: format!("{folder}/{name}"),
                context: String::new(),
            };
            let cluster = Cluster {
                name,
                source: Some(ClusterSource {
                    source: Some(Source::KubeconfigFile(file)),
                }),
                ..Cluster::default()
            };
            self.client(0).create(cluster).await.unwrap();
        }
        holds("every cluster is watched", PATIENCE, async || {
            let shards = self.client(0).shards().await.unwrap_or_default();
            shards.len() == CLUSTERS
                && shards.iter().all(|shard| {
                    let mut streams = shard.streams.iter();
                    streams.all(|stream| stream.checkpoint.is_some())
                })
        })
        .await;
    }

    /// Waits until none of the shards is owned by this pod, as another one sees it.
    pub(crate) async fn without(&self, index: usize, seen_by: usize) -> Duration {
        let name = &self.pods[index].name;
        holds("its shards are owned by others", PATIENCE, async || {
            let shards = self.client(seen_by).shards().await.unwrap_or_default();
            let others = |owner: &String| !owner.is_empty() && owner != name;
            shards.len() == CLUSTERS && shards.iter().all(|shard| others(&shard.owner))
        })
        .await
    }

    /// A subscriber to everything from now on; it begins at this pod.
    pub(crate) async fn subscriber(&self, first: usize) -> Recorder {
        let recorder = Recorder::all_from_now(self.endpoints(first));
        recorder.covers(CLUSTERS).await;
        recorder
    }

    /// Lets things happen; what happens from now on is judged.
    pub(crate) fn begin(&mut self) {
        for name in self.fleet.cluster_names() {
            let now = self.fleet.cluster(&name).unwrap().current_rv();
            self.from.insert(name, now);
        }
        self.load = Some(self.fleet.load(LoadOptions {
            events_per_second: LOAD,
            resources: vec![Resource::events()],
            ..LoadOptions::default()
        }));
    }

    /// Waits until so many more events than now have come.
    pub(crate) async fn flows(&self, recorder: &Recorder, events: u64) -> Duration {
        let before = recorder.record().delivered;
        let flows = |record: &Record| record.delivered >= before + events;
        recorder.sees("events flow", PATIENCE, flows).await
    }

    /// Waits until every cluster's newest event of this moment has come.
    pub(crate) async fn catches_up(&self, recorder: &Recorder) -> Duration {
        let now: Vec<_> = self
            .fleet
            .cluster_names()
            .into_iter()
            .map(|name| {
                let rv = self.fleet.cluster(&name).unwrap().current_rv();
                (name, rv)
            })
            .collect();
        let has = |record: &Record| now.iter().all(|(name, rv)| record.has_reached(name, rv));
        recorder.sees("what happened arrives", PATIENCE, has).await
    }

    /// Ends the load and judges: nothing lost, nothing twice, nothing out of order, no gap.
    pub(crate) async fn expect_exactly_once(&mut self, recorder: &Recorder) -> u64 {
        if let Some(load) = self.load.take() {
            load.stop().await;
        }
        self.catches_up(recorder).await;
        let names = self.fleet.cluster_names();
        let ledgers = names.iter().map(|name| self.fleet.cluster(name).unwrap());
        let ledgers: Vec<Ledger> = ledgers.map(|cluster| cluster.ledger()).collect();
        let record = recorder.record();
        let report = record.audit.report(&ledgers, &self.from);
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!(record.gaps, [], "{report:#?}");
        assert_eq!(record.not_after, 0, "{report:#?}");
        assert!(report.delivered > 0, "{report:#?}");
        report.delivered
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for pod in &mut self.pods {
            drop(pod.process.take());
        }
        // `KEEP` keeps what a test leaves behind, for a look at it.
        if !std::thread::panicking() && std::env::var_os("KEEP").is_none() {
            return;
        }
        for pod in &self.pods {
            let log = fs::read_to_string(pod.folder.join("log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("== {}\n{}", pod.name, end.join("\n"));
        }
        let folder = self.folder.take().unwrap().keep();
        eprintln!("== everything is kept in {}", folder.display());
    }
}

fn healthy(group: &Group) -> usize {
    let members = group.members.iter();
    let active = members.filter(|member| member.health() == MemberHealth::Active);
    active.count()
}

/// As the kubelet lays a Secret out: links through a directory that can be exchanged.
fn write_kubeconfigs(folder: &Path, fleet: &Fleet) {
    let files = folder.join("..1");
    fs::create_dir_all(&files).unwrap();
    symlink("..1", folder.join("..data")).unwrap();
    for name in fleet.cluster_names() {
        fs::write(files.join(&name), fleet.kubeconfig(&name)).unwrap();
        symlink(format!("..data/{name}"), folder.join(&name)).unwrap();
    }
}
