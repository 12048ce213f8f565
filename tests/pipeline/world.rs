//! Clusters, replicas that take turns as their owners, and the group that they form.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use quorumwatch::{
    agent::{
        checkpoint,
        options::RunOptions,
        prepare::{PrepareError, Preparer, Requests, Wanted, preparer},
        runs::Runs,
    },
    domain::{
        assignment::MoveReason,
        cluster::{Cluster, ClusterSpec, ResourceSelector, Source},
        command::{CheckpointEntry, Command, Move},
        cursor::CursorCodec,
        delivery::{
            feed::FeedError,
            place::{Place, Reader},
        },
        id::{GroupId, ReplicaId, ShardId, StreamId, UnixMillis},
        preparation::PREPARE_TIMEOUT,
    },
    group::lease::LeaseClock,
    memory::Rings,
    pipeline::{
        feed::FeedMessage,
        hub::{Feeds, Hub, OwnerAddress},
        log::Logs,
        owned::{Owned, OwnedStream},
    },
    relay::client::open_local,
    watcher::{Breakers, Chance, CredentialPolicy, Network, WatchPolicy},
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Api, Apis, Manners, dice},
    etcd::{Etcd, Selection, Write},
    group::{Group, Part, View},
};

const AT: UnixMillis = UnixMillis(0);
const GROUP: GroupId = GroupId([7; 16]);

/// One replica, as long as it runs.
struct Replica {
    view: Arc<View>,
    hub: Hub,
    owned: Owned,
    preparer: Preparer,
    stop: CancellationToken,
    /// Another one after each start.
    started: u64,
}

/// What goes wrong between replicas, so many times of a thousand messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wires {
    pub(crate) cut: u32,
    pub(crate) stall: u32,
}

/// What others need of a replica that runs.
type Running = BTreeMap<ReplicaId, (Owned, Arc<View>)>;

/// Feeds from whichever replica runs under a number, over connections that stall and break.
#[derive(Clone)]
struct FaultyFeeds {
    running: Arc<Mutex<Running>>,
    wires: Arc<Mutex<(Wires, SmallRng)>>,
    faults: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl FaultyFeeds {
    fn find(&self, replica: ReplicaId) -> Result<(Owned, Arc<View>), FeedError> {
        let running = self.running.lock().unwrap();
        let gone = || FeedError::Unreachable("it does not run".into());
        running.get(&replica).cloned().ok_or_else(gone)
    }

    fn count(&self, fault: &'static str) {
        *self.faults.lock().unwrap().entry(fault).or_default() += 1;
    }

    /// Whether a feed breaks here, and for how long it stands still.
    fn roll(&self) -> (bool, Option<Duration>) {
        let mut wires = self.wires.lock().unwrap();
        let (wires, rng) = &mut *wires;
        let stalls = dice(rng, wires.stall);
        let long = stalls.then(|| Duration::from_millis(rng.random_range(50..6_000)));
        (dice(rng, wires.cut), long)
    }

    async fn open_at(
        self,
        address: OwnerAddress,
        place: Place,
        reader: Reader,
    ) -> Result<mpsc::Receiver<FeedMessage>, FeedError> {
        let (owned, view) = self.find(address.owner)?;
        let applied = tokio::time::timeout(Duration::from_secs(2), view.applied(address.revision));
        if applied.await.is_err() {
            return Err(FeedError::Unreachable("it is behind".into()));
        }
        let mut feed = open_local(&owned, &address, place, reader).await?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(message) = feed.recv().await {
                let (cuts, stalls) = self.roll();
                if let Some(long) = stalls {
                    self.count("feed stalls");
                    tokio::time::sleep(long).await;
                }
                if cuts || self.find(address.owner).is_err() {
                    self.count("feed cut");
                    let broken = FeedError::Unreachable("the connection broke".into());
                    let _ = sender.send(Err(broken)).await;
                    return;
                }
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}

impl Feeds for FaultyFeeds {
    fn open(
        &self,
        address: OwnerAddress,
        place: Place,
        reader: Reader,
    ) -> BoxFuture<'static, Result<mpsc::Receiver<FeedMessage>, FeedError>> {
        self.clone().open_at(address, place, reader).boxed()
    }
}

/// What a stream carries, and where.
#[derive(Clone, Debug)]
pub(crate) struct StreamOf {
    pub(crate) cluster: String,
    pub(crate) selection: Selection,
}

pub(crate) struct World {
    pub(crate) group: Group,
    apis: Apis,
    feeds: FaultyFeeds,
    replicas: BTreeMap<ReplicaId, Replica>,
    /// Every stream there ever was.
    pub(crate) streams: BTreeMap<StreamId, StreamOf>,
    ring_bytes: usize,
    watch: WatchPolicy,
    pub(crate) rng: SmallRng,
}

impl World {
    /// Two clusters with two streams each, and three replicas.
    pub(crate) async fn new(seed: u64, ring_bytes: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let group = Group::new(rng.random());
        group.apply(&Command::FoundGroup { group: GROUP });
        let apis = Apis::default();
        let watch = WatchPolicy {
            page_items: 3,
            network: Network::InProcess(Arc::new(apis.clone())),
            chance: Chance::seeded(rng.random()),
            ..WatchPolicy::default()
        };
        let feeds = FaultyFeeds {
            running: Arc::default(),
            wires: Arc::new(Mutex::new((
                Wires::default(),
                SmallRng::seed_from_u64(rng.random()),
            ))),
            faults: Arc::default(),
        };
        let mut world = Self {
            group,
            apis,
            feeds,
            replicas: BTreeMap::new(),
            streams: BTreeMap::new(),
            ring_bytes,
            watch,
            rng,
        };
        for replica in 1..=3 {
            world.start(ReplicaId(replica));
        }
        for (name, env) in [("east", "prod"), ("west", "dev")] {
            let api = Api::new(&format!("uid of {name}"), world.rng.random());
            world.apis.0.lock().unwrap().insert(name.to_owned(), api);
            world.create(name, env);
        }
        world.place();
        world.settle().await;
        world
    }

    /// Lets everything that can run, run.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    pub(crate) fn api(&self, cluster: &str) -> Api {
        self.apis.0.lock().unwrap()[cluster].clone()
    }

    pub(crate) fn etcd(&self, cluster: &str) -> Etcd {
        self.api(cluster).etcd
    }

    pub(crate) fn codec(&self) -> CursorCodec {
        CursorCodec::new(GROUP)
    }

    pub(crate) fn cluster(&self, name: &str) -> Option<Cluster> {
        self.group.now().cluster_named(name).cloned()
    }

    /// The streams that exist.
    pub(crate) fn existing(&self) -> BTreeMap<StreamId, Cluster> {
        let state = self.group.now();
        let streams = state.streams.values();
        let cluster_of = |shard: ShardId| state.clusters[&shard.cluster].clone();
        streams
            .map(|stream| (stream.id, cluster_of(stream.shard)))
            .collect()
    }

    /// Faults by kind.
    pub(crate) fn faults(&self) -> BTreeMap<&'static str, u64> {
        let mut faults = self.group.faults();
        let mut add = |more: BTreeMap<&'static str, u64>| {
            for (fault, count) in more {
                *faults.entry(fault).or_default() += count;
            }
        };
        add(self.feeds.faults.lock().unwrap().clone());
        for api in self.apis.0.lock().unwrap().values() {
            add(api.faults());
        }
        faults
    }

    pub(crate) fn count(&self, fault: &'static str) {
        self.feeds.count(fault);
    }

    pub(crate) fn set_manners(&self, manners: Manners) {
        for api in self.apis.0.lock().unwrap().values() {
            api.set_manners(manners);
        }
    }

    pub(crate) fn set_wires(&self, wires: Wires) {
        self.feeds.wires.lock().unwrap().0 = wires;
    }

    // Replicas.

    /// Starts a replica, or starts it again: what it had in memory is gone.
    pub(crate) fn start(&mut self, replica: ReplicaId) {
        self.crash(replica);
        self.group.apply(&Command::RegisterMember {
            replica,
            name: format!("r{replica}"),
            peer_address: String::new(),
            client_address: String::new(),
            at: AT,
        });
        let view = View::new(&self.group);
        let logs = Logs::new(Rings::new(usize::MAX), self.ring_bytes);
        let owned = Owned::new(logs.clone());
        let feeds = Arc::new(self.feeds.clone());
        let (state, topology) = (view.watch_state(), view.watch_topology());
        let hub = Hub::new(replica, logs, feeds, state, topology);
        let stop = CancellationToken::new();
        let (preparer, requests) = preparer();
        tokio::spawn(run(
            requests,
            RunOptions {
                replica,
                group: Arc::new(Part(view.clone())),
                lease: lease(),
                owned: owned.clone(),
                credentials: Arc::new(CredentialPolicy::default()),
                watch: WatchPolicy {
                    breakers: Breakers::default(),
                    ..self.watch.clone()
                },
            },
            stop.clone(),
        ));
        let started = self.group.now().revision.0;
        let running = (owned.clone(), view.clone());
        self.feeds.running.lock().unwrap().insert(replica, running);
        self.replicas.insert(
            replica,
            Replica {
                view,
                hub,
                owned,
                preparer,
                stop,
                started,
            },
        );
    }

    /// Nobody hands anything over.
    pub(crate) fn crash(&mut self, replica: ReplicaId) {
        self.feeds.running.lock().unwrap().remove(&replica);
        if let Some(replica) = self.replicas.remove(&replica) {
            replica.stop.cancel();
            for stream in replica.owned.all() {
                replica.owned.remove(&stream);
            }
        }
    }

    pub(crate) fn running(&self) -> Vec<ReplicaId> {
        self.replicas.keys().copied().collect()
    }

    /// The hub of a replica, and which start of it this is.
    pub(crate) fn hub(&self, replica: ReplicaId) -> Option<(Hub, u64)> {
        let replica = self.replicas.get(&replica)?;
        Some((replica.hub.clone(), replica.started))
    }

    pub(crate) fn cut_off(&self, replica: ReplicaId, cut_off: bool) {
        if let Some(replica) = self.replicas.get(&replica) {
            replica.view.cut_off(cut_off);
        }
    }

    /// Those that can be given shards.
    fn able(&self) -> Vec<ReplicaId> {
        let able = self.replicas.iter();
        let able = able.filter(|(_, replica)| !replica.view.is_cut_off());
        able.map(|(id, _)| *id).collect()
    }

    pub(crate) fn is_able(&self, replica: ReplicaId) -> bool {
        self.able().contains(&replica)
    }

    /// Gives a shard to a replica other than its owner.
    pub(crate) fn move_shard(&mut self, cluster: &str) {
        if let Some(step) = self.choose_move(cluster, MoveReason::Takeover) {
            self.commit(step);
        }
    }

    /// Has another replica prepare a shard, and gives it the shard once that is done, or takes too
    /// long.
    pub(crate) fn plan_move(&mut self, cluster: &str) {
        let Some(step) = self.choose_move(cluster, MoveReason::Handover) else {
            return;
        };
        let prepared = self.prepare(&step);
        let group = self.group.clone();
        tokio::spawn(async move {
            let fault = match tokio::time::timeout(Duration::from_secs(2), prepared).await {
                Ok(Ok(())) => "moved when prepared",
                Ok(Err(_)) => "moved though not prepared",
                Err(_) => "moved before it was prepared",
            };
            group.count(fault);
            group.assign(step);
        });
    }

    /// Asks the receiver of a move to prepare it.
    pub(crate) fn prepare(
        &self,
        step: &Move,
    ) -> impl Future<Output = Result<(), PrepareError>> + Send + use<> {
        let receiver = step.to.and_then(|to| self.replicas.get(&to));
        let preparer = receiver.map(|receiver| receiver.preparer.clone());
        let wanted = Wanted {
            shard: step.shard,
            epoch: step.epoch,
            must_connect: step.reason == MoveReason::Reachability,
            timeout: PREPARE_TIMEOUT,
        };
        async move {
            let preparer = preparer.ok_or(PrepareError::Stopped)?;
            preparer.prepare(wanted).await
        }
    }

    /// Agrees on how far the owner of a cluster has published.
    pub(crate) fn agree_on_checkpoints(&self, cluster: &str) {
        let owner = self
            .owner(cluster)
            .and_then(|owner| self.replicas.get(&owner));
        let streams = owner.map(|owner| owner.owned.all()).unwrap_or_default();
        let entry = |stream: &Arc<OwnedStream>| {
            Some(CheckpointEntry {
                stream: stream.id,
                epoch: stream.epoch,
                position: stream.checkpoint()?,
            })
        };
        let entries = streams.iter().filter_map(entry).collect();
        self.group.apply(&Command::AdvanceCheckpoints { entries });
    }

    pub(crate) fn commit(&self, step: Move) {
        self.group.assign(step);
    }

    /// A move of a shard to any other replica that can take it.
    pub(crate) fn choose_move(&mut self, cluster: &str, reason: MoveReason) -> Option<Move> {
        let state = self.group.now();
        let cluster = state.cluster_named(cluster)?;
        let mut assignments = state.assignments.values();
        let assignment = assignments.find(|it| it.shard().cluster == cluster.id)?;
        let mut able = self.able();
        able.retain(|replica| Some(*replica) != assignment.owner());
        if able.is_empty() || !state.is_ownable(assignment.shard()) {
            return None;
        }
        Some(Move {
            shard: assignment.shard(),
            epoch: assignment.epoch(),
            to: Some(able[self.rng.random_range(0..able.len())]),
            reason,
        })
    }

    /// Gives every shard that has no owner that can work to one that can.
    pub(crate) fn place(&mut self) {
        let able: BTreeSet<_> = self.able().into_iter().collect();
        let state = self.group.now();
        for assignment in state.assignments.values() {
            if !assignment
                .owner()
                .is_some_and(|owner| able.contains(&owner))
            {
                let cluster = state.clusters[&assignment.shard().cluster]
                    .spec
                    .name
                    .clone();
                self.move_shard(&cluster);
            }
        }
    }

    pub(crate) fn owner(&self, cluster: &str) -> Option<ReplicaId> {
        let state = self.group.now();
        let id = state.cluster_named(cluster)?.id;
        let mut assignments = state.assignments.values();
        assignments.find(|it| it.shard().cluster == id)?.owner()
    }

    /// The owner crashes, another replica goes on at the checkpoint, and the first starts again.
    pub(crate) async fn take_over(&mut self, cluster: &str) {
        let owner = self.owner(cluster).unwrap();
        self.crash(owner);
        self.place();
        self.settle().await;
        self.start(owner);
        self.settle().await;
    }

    // Clusters.

    pub(crate) fn create(&mut self, name: &str, env: &str) {
        let events = ResourceSelector {
            namespaces: if name == "east" {
                vec!["ns1".into()]
            } else {
                Vec::new()
            },
            ..ResourceSelector::all("v1/events".parse().unwrap())
        };
        let things = ResourceSelector {
            label_selector: if name == "east" {
                String::new()
            } else {
                "tier=a".into()
            },
            ..ResourceSelector::all("v1/configmaps".parse().unwrap())
        };
        let spec = ClusterSpec {
            name: name.to_owned(),
            labels: [("env".to_owned(), env.to_owned())].into(),
            source: Source::Configured { name: "it".into() },
            resources: vec![events, things],
            paused: false,
            description: String::new(),
            duplicate_of: String::new(),
        };
        self.group.apply(&Command::CreateCluster {
            spec,
            request_id: None,
            at: AT,
        });
        self.learn_streams();
    }

    pub(crate) fn delete(&self, name: &str) {
        let Some(cluster) = self.cluster(name) else {
            return;
        };
        self.group.apply(&Command::DeleteCluster {
            id: cluster.id,
            expected: None,
            request_id: None,
            at: AT,
        });
    }

    pub(crate) fn update(&mut self, name: &str, change: impl FnOnce(&mut ClusterSpec)) {
        let Some(cluster) = self.cluster(name) else {
            return;
        };
        let mut spec = (*cluster.spec).clone();
        change(&mut spec);
        self.group.apply(&Command::UpdateCluster {
            id: cluster.id,
            expected: None,
            spec,
            request_id: None,
            at: AT,
        });
        self.learn_streams();
        self.place();
    }

    fn learn_streams(&mut self) {
        let state = self.group.now();
        for stream in state.streams.values() {
            let cluster = state.clusters[&stream.shard.cluster].spec.name.clone();
            let selection = Selection::from(&stream.selector);
            self.streams
                .insert(stream.id, StreamOf { cluster, selection });
        }
    }

    // Objects.

    /// Some random writes.
    pub(crate) fn write(&mut self, cluster: &str, writes: usize) {
        for _ in 0..writes {
            let write = self.any_write();
            self.etcd(cluster).write(&write);
            if self.rng.random_ratio(1, 8) {
                self.etcd(cluster).write_elsewhere();
            }
        }
    }

    pub(crate) fn any_write(&mut self) -> Write {
        let rng = &mut self.rng;
        let resource = ["configmaps", "events"][rng.random_range(0..2)];
        Write {
            resource: resource.to_owned(),
            namespace: ["ns1", "ns2", "ns1-x"][rng.random_range(0..3)].to_owned(),
            name: format!("o{}", rng.random_range(0..12)),
            tier: ["a", "b"][rng.random_range(0..2)].to_owned(),
            delete: rng.random_ratio(1, 4),
        }
    }
}

/// A lease that never expires: what a subscriber gets does not depend on it.
fn lease() -> LeaseClock {
    let lease = LeaseClock::default();
    lease.granted(Instant::now(), Duration::from_secs(1 << 30));
    lease
}

/// Runs what is assigned to a replica, as its agent does.
async fn run(requests: Requests, options: RunOptions, stop: CancellationToken) {
    let (group, owned) = (options.group.clone(), options.owned.clone());
    let checkpoints = tokio::spawn(checkpoint::run(group, owned, CancellationToken::new()));
    let mut runs = Runs::new(options, requests);
    tokio::select! {
        () = runs.follow_state(|_| false) => {}
        () = stop.cancelled() => {}
    }
    checkpoints.abort();
    runs.end().await;
}
