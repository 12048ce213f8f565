//! A group under load, with one subscriber for each replica.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use quorumwatch::proto::v1::MemberHealth;

use crate::{
    clock,
    clusters::{Clusters, Kind, Watched},
    harness::{Client, Group, Options, PATIENCE, Replica, holds},
    network::{Cut, Network},
    subscriber::Subscriber,
    timeline::Logs,
    window::{Faults, Sample, Tracks},
    writer::Writer,
};

/// The number of replicas: the smallest group that tolerates the loss of one.
pub(crate) const REPLICAS: usize = 3;
/// A group in which no shard has moved for this long is settled.
const REST: Duration = Duration::from_millis(1_500);
/// Longer than any group needs to settle.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// Interval between checks of what subscribers have received.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// Pause between two requests to replicas: their cost must not affect the figures.
const ASK_PAUSE: Duration = Duration::from_millis(50);

/// Verification lists objects periodically; such lists must not be counted.
const CONFIG: &str = "insecure_plaintext = true\n[watch]\naudit = false\n";

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) shards: usize,
    /// Changes per second of each stream.
    pub(crate) rate: f64,
    pub(crate) watched: Watched,
    pub(crate) kind: Kind,
}

/// A group under load.
pub(crate) struct World {
    pub(crate) group: Group,
    /// One for each replica, connected once.
    clients: Vec<Client>,
    pub(crate) network: Option<Rc<Network>>,
    pub(crate) clusters: Clusters,
    pub(crate) writer: Writer,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) logs: Logs,
    tracks: Tracks,
    cuts: Vec<Cut>,
    /// When the window was opened.
    pub(crate) opened: u64,
    /// Which replica served each subscriber at that time.
    pub(crate) served: Vec<Option<usize>>,
}

impl World {
    /// Starts everything, and waits until it is settled.
    pub(crate) async fn start(setting: Setting, network: Option<Rc<Network>>) -> Self {
        let network_ref = network.as_deref();
        let Setting {
            shards, watched, ..
        } = setting;
        let clusters = Clusters::start(shards, watched, network_ref, setting.kind).await;
        let options = Options {
            config: format!("{CONFIG}{}", clusters.sources()),
        };
        let mut group = Group::prepare(REPLICAS, &options).await;
        for (index, replica) in group.replicas.iter_mut().enumerate() {
            replica.log_format = "json";
            if let Some(network) = &network {
                replica.host = network.replica(index).to_string();
                replica.wrapper = network.wrapper(index);
            }
        }
        for index in 0..REPLICAS {
            group.launch(index);
        }
        group.whole().await;
        let writer = Writer::new(&clusters);
        let tracks = Tracks::new(REPLICAS, writer.streams.len());
        let logs = Logs::new(
            group
                .replicas
                .iter()
                .map(|replica| replica.folder.join("log")),
        );
        let mut world = Self {
            clients: group.replicas.iter().map(Replica::client).collect(),
            group,
            network,
            clusters,
            writer,
            subscribers: Vec::new(),
            logs,
            tracks,
            cuts: Vec::new(),
            opened: 0,
            served: Vec::new(),
        };
        world.watch().await;
        world.writer.begin(setting.rate);
        world.settle().await;
        world
    }

    /// Registers all clusters and subscribes to them.
    async fn watch(&mut self) {
        let client = self.group.client();
        for index in 0..self.clusters.all.len() {
            let created = client.create(self.clusters.described(index)).await;
            created.expect("the group accepts clusters");
        }
        let streams = self.writer.streams.len();
        let watched = async || {
            let shards = client.shards().await.unwrap_or_default();
            let of_all = shards.iter().flat_map(|shard| &shard.streams);
            of_all.filter(|stream| stream.checkpoint.is_some()).count() == streams
        };
        holds("every cluster is watched", SETTLED_WITHIN, watched).await;
        self.subscribers = (0..REPLICAS)
            .map(|home| Subscriber::start(home, self.group.endpoints_from(home)))
            .collect();
        let covered = async || {
            let mut subscribers = self.subscribers.iter();
            subscribers.all(|subscriber| {
                let seen = subscriber.seen();
                seen.covered == streams && seen.is_current
            })
        };
        holds("every stream is subscribed to", SETTLED_WITHIN, covered).await;
    }

    /// The owner and the epoch of each shard, by cluster, after the pause between two requests.
    pub(crate) async fn owners(&self, client: &Client) -> Option<BTreeMap<String, (String, u64)>> {
        tokio::time::sleep(ASK_PAUSE).await;
        let shards = client.shards().await.ok()?;
        let owners = shards.into_iter();
        Some(
            owners
                .map(|shard| (shard.cluster, (shard.owner, shard.epoch)))
                .collect(),
        )
    }

    /// Waits until all replicas are members, nothing moves, and each subscriber is served by its
    /// own replica and has received everything.
    pub(crate) async fn settle(&mut self) {
        self.whole().await;
        self.rest(self.group.client()).await;
        for subscriber in &mut self.subscribers {
            subscriber.go_home().await;
        }
        let home = async || self.subscribers.iter().all(Subscriber::is_home);
        holds("every subscriber is back", SETTLED_WITHIN, home).await;
        let all: Vec<_> = (0..REPLICAS).collect();
        assert!(self.flows(&all, PATIENCE).await, "events do not flow");
        self.take();
    }

    /// Waits until every replica reports all of them as healthy members.
    pub(crate) async fn whole(&self) {
        let is_whole = async || {
            tokio::time::sleep(ASK_PAUSE).await;
            for client in &self.clients {
                let healthy = client.group().await.map_or(0, |group| {
                    let members = group.members.iter();
                    members
                        .filter(|member| member.health() == MemberHealth::Active)
                        .count()
                });
                if healthy < REPLICAS {
                    return false;
                }
            }
            true
        };
        holds("all replicas are members", SETTLED_WITHIN, is_whole).await;
    }

    /// Waits until every shard has an owner, and none has moved for a while.
    pub(crate) async fn rest(&self, client: Client) {
        let mut last = None;
        let mut since = clock::now();
        let is_at_rest = async || {
            let Some(owners) = self.owners(&client).await else {
                return false;
            };
            let is_owned = owners.len() == self.clusters.all.len()
                && owners.values().all(|(owner, _)| !owner.is_empty());
            if last.as_ref() != Some(&owners) || !is_owned {
                last = Some(owners);
                since = clock::now();
            }
            clock::now() - since > clock::micros(REST)
        };
        holds("nothing moves", SETTLED_WITHIN, is_at_rest).await;
    }

    /// Waits until these subscribers have received everything that is committed by now. Returns
    /// whether they have in time.
    pub(crate) async fn flows(&self, subscribers: &[usize], within: Duration) -> bool {
        let streams = self.writer.streams.iter();
        let wanted: Vec<_> = streams
            .map(|stream| {
                let last = stream.commits().last().map_or(0, |commit| commit.version);
                (
                    format!("sim-{}", stream.cluster),
                    stream.resource.to_string(),
                    last,
                )
            })
            .collect();
        let has_all = |subscriber: &usize| {
            let seen = self.subscribers[*subscriber].seen();
            assert_eq!(seen.refusal, None, "a subscriber was refused");
            let mut wanted = wanted.iter();
            wanted.all(|(cluster, resource, last)| seen.reached(cluster, resource) >= *last)
        };
        let all = async {
            while !subscribers.iter().all(has_all) {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        tokio::time::timeout(within, all).await.is_ok()
    }

    /// Opens the window: what arrives from now on shows the effect of the disturbance.
    pub(crate) fn open(&mut self) {
        self.take();
        self.clusters.asked();
        self.logs.skip();
        let replicas = &self.group.replicas;
        let serving = |subscriber: &Subscriber| {
            let seen = subscriber.seen();
            let serves = seen.serves.as_ref()?;
            replicas
                .iter()
                .position(|replica| replica.endpoint() == *serves)
        };
        self.served = self.subscribers.iter().map(serving).collect();
        self.opened = clock::now();
    }

    /// What has arrived since the window was opened, or since the last call.
    pub(crate) fn take(&mut self) -> Vec<Sample> {
        let now = clock::now();
        let (streams, subscribers) = (&self.writer.streams, &self.subscribers);
        self.tracks.take(streams, subscribers, self.opened, now)
    }

    pub(crate) fn faults(&self) -> Faults {
        self.tracks.faults(&self.subscribers)
    }

    /// Partitions the network; panics if there is none.
    pub(crate) fn cut(&mut self, cuts: &[Cut]) {
        let network = self.network.as_ref().expect("the scenario needs a network");
        network.cut(cuts);
        self.cuts.extend_from_slice(cuts);
    }

    /// Heals all partitions.
    pub(crate) fn heal(&mut self) {
        if let Some(network) = &self.network {
            network.heal(&std::mem::take(&mut self.cuts));
        }
    }

    /// Ends the load, waits for the remaining arrivals, and counts what is missing then as lost.
    pub(crate) async fn finish(mut self) -> Faults {
        self.writer.end();
        let all: Vec<_> = (0..REPLICAS).collect();
        self.flows(&all, PATIENCE).await;
        self.take();
        let mut faults = self.faults();
        faults.lost += self.tracks.missing(&self.writer.streams);
        self.subscribers.clear();
        self.clusters.stop().await;
        faults
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The network is used by the next group as well.
        self.heal();
    }
}
