//! What can happen, in an order that a seed gives.

use std::{
    collections::BTreeMap,
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use quorumwatch::domain::id::ReplicaId;
use rand::Rng as _;

use crate::{
    api::{Manners, dice},
    group::Trouble,
    scenarios::PATIENCE,
    subscriber::{Begin, Subscriber},
    want::Want,
    world::{Wires, World},
};

const CLUSTERS: [&str; 2] = ["east", "west"];

/// Walks of a usual run.
const SEEDS: u64 = 60;

/// What one walk is made of.
#[derive(Clone, Copy, Debug)]
struct Kind {
    manners: Manners,
    trouble: Trouble,
    wires: Wires,
    /// Watch caches are reset.
    resets: bool,
    /// History is compacted.
    compacts: bool,
    /// Clusters come, go and change.
    edits: bool,
    /// Shards change hands.
    moves: bool,
}

/// A quarter of the walks has no gap to excuse anything: every event has to come once.
fn kind(seed: u64) -> Kind {
    let lossy = Manners {
        slow: 60,
        refuse: 40,
        cut: 20,
        close: 15,
        replay: 20,
        stall: 10,
        bookmark: 300,
        ..Manners::default()
    };
    let trouble = Trouble {
        refuse: 60,
        delay: 60,
        unknown: 60,
        twice: 60,
        lag: 40,
    };
    let wires = Wires { cut: 20, stall: 20 };
    let calm = Kind {
        manners: Manners {
            bookmark: 300,
            ..Manners::default()
        },
        trouble,
        wires,
        resets: false,
        compacts: false,
        edits: seed.is_multiple_of(8),
        moves: true,
    };
    match seed % 4 {
        0 => calm,
        1 => Kind {
            manners: lossy,
            edits: true,
            ..calm
        },
        2 => Kind {
            manners: Manners {
                gone: 5,
                internal: 10,
                ..lossy
            },
            resets: true,
            compacts: true,
            edits: true,
            ..calm
        },
        _ => Kind {
            manners: Manners {
                drop: 8,
                late: 8,
                ..lossy
            },
            // The next owner begins with what it finds.
            moves: false,
            ..calm
        },
    }
}

struct Walk {
    world: World,
    kind: Kind,
    subscribers: Vec<Subscriber>,
}

/// One walk; how often each fault came, and each kind of gap.
pub(crate) async fn walk(seed: u64) -> Result<BTreeMap<&'static str, u64>, String> {
    let kind = kind(seed);
    // What a second watch for one subscriber leaves out is not noticed.
    let small = !seed.is_multiple_of(3) && kind.manners.drop == 0;
    let world = World::new(seed, if small { 6_000 } else { 1 << 20 }).await;
    let mut walk = Walk {
        world,
        kind,
        subscribers: subscribers(seed),
    };
    walk.misbehave();
    let steps = walk.world.rng.random_range(10..60);
    for _ in 0..steps {
        walk.step().await;
        walk.read().await;
    }
    walk.settle().await?;
    let mut counts = walk.world.faults();
    for subscriber in &walk.subscribers {
        for repaired in subscriber.gaps() {
            let kind = if repaired { "repaired gap" } else { "gap" };
            *counts.entry(kind).or_default() += 1;
        }
        *counts.entry("events").or_default() += subscriber.events().count() as u64;
        *counts.entry("unmatched").or_default() +=
            subscriber.events().filter(|event| event.unmatched).count() as u64;
    }
    Ok(counts)
}

fn subscribers(seed: u64) -> Vec<Subscriber> {
    let wants = [
        (Want::All, Begin::Now),
        (Want::All, Begin::Snapshot),
        (Want::Tier("a"), Begin::Snapshot),
        (Want::Tier("b"), Begin::Now),
        (Want::Namespace("ns1"), Begin::Snapshot),
        (Want::Namespace("ns2"), Begin::Now),
        (Want::Env("prod"), Begin::Snapshot),
        (Want::Env("prod"), Begin::Now),
    ];
    // Each seed has four of them.
    let first = usize::try_from(seed % 2).unwrap();
    let chosen = wants.into_iter().skip(first).step_by(2);
    chosen
        .map(|(want, begin)| Subscriber::new(want, begin))
        .collect()
}

impl Walk {
    fn misbehave(&self) {
        self.world.set_manners(self.kind.manners);
        self.world.group.set_trouble(self.kind.trouble);
        self.world.set_wires(self.kind.wires);
    }

    fn any_cluster(&mut self) -> &'static str {
        CLUSTERS[self.world.rng.random_range(0..2)]
    }

    async fn step(&mut self) {
        let cluster = self.any_cluster();
        let world = &mut self.world;
        match world.rng.random_range(0..24) {
            0..=6 => {
                let writes = world.rng.random_range(1..25);
                world.write(cluster, writes);
            }
            7 | 8 => {
                let resource = ["configmaps", "events"][world.rng.random_range(0..2)];
                let most = world.rng.random_range(1..7);
                world.etcd(cluster).delete_together(resource, most);
            }
            9 if self.kind.moves && world.rng.random_bool(0.3) => world.move_shard(cluster),
            9 if self.kind.moves => world.plan_move(cluster),
            10 if self.kind.moves => self.crash(cluster),
            11 => self.start_again(),
            12 if self.kind.moves => self.cut_off(cluster),
            13 => self.reach_again(),
            14 | 15 => {
                let long = world.rng.random_range(1..9_000);
                tokio::time::sleep(Duration::from_millis(long)).await;
            }
            16 => {
                let long = world.rng.random_range(1..200);
                tokio::time::sleep(Duration::from_secs(long)).await;
            }
            17 | 18 if self.kind.resets => {
                world.etcd(cluster).reset_watch_cache();
                world.api(cluster).count("cache reset");
            }
            19 if self.kind.compacts => {
                world.etcd(cluster).compact();
                world.api(cluster).count("compaction");
            }
            20..=22 if self.kind.edits => self.edit(cluster).await,
            _ => {
                let long = world.rng.random_range(1..900);
                tokio::time::sleep(Duration::from_millis(long)).await;
            }
        }
    }

    /// The owner dies, often in the middle of something.
    fn crash(&mut self, cluster: &str) {
        let world = &mut self.world;
        if world.running().len() < 2 {
            return;
        }
        if let Some(owner) = world.owner(cluster) {
            world.count("crash");
            world.crash(owner);
            world.place();
        }
    }

    fn start_again(&mut self) {
        let running = self.world.running();
        let dead = (1..=3).map(ReplicaId).find(|id| !running.contains(id));
        if let Some(dead) = dead {
            self.world.start(dead);
            self.world.place();
        }
    }

    /// The owner hears nothing any more, and goes on publishing while another one begins.
    fn cut_off(&mut self, cluster: &str) {
        let world = &mut self.world;
        let able = world.running().into_iter().filter(|id| world.is_able(*id));
        if able.count() < 2 {
            return;
        }
        if let Some(owner) = world.owner(cluster) {
            world.count("stale owner");
            world.cut_off(owner, true);
            world.place();
        }
    }

    fn reach_again(&mut self) {
        for replica in self.world.running() {
            self.world.cut_off(replica, false);
        }
        self.world.place();
    }

    async fn edit(&mut self, cluster: &'static str) {
        let world = &mut self.world;
        match world.rng.random_range(0..5) {
            0 => {
                world.count("cluster label");
                world.update(cluster, |spec| {
                    let env = spec.labels.get_mut("env").unwrap();
                    *env = if env == "prod" { "dev" } else { "prod" }.to_owned();
                });
            }
            1 => {
                world.count("selector");
                world.update(cluster, |spec| {
                    if let Some(things) = spec.resources.get_mut(1) {
                        let label = &mut things.label_selector;
                        *label = if label.is_empty() { "tier=b" } else { "" }.to_owned();
                    }
                });
            }
            2 => {
                world.count("resource removed and added");
                let removed = world.cluster(cluster).map(|it| it.spec.resources.clone());
                world.update(cluster, |spec| spec.resources.truncate(1));
                let long = world.rng.random_range(0..3_000);
                tokio::time::sleep(Duration::from_millis(long)).await;
                world.update(cluster, |spec| spec.resources = removed.unwrap());
            }
            3 => {
                world.count("pause");
                world.update(cluster, |spec| spec.paused = !spec.paused);
            }
            _ if world.cluster(cluster).is_some() => {
                world.count("cluster deleted");
                world.delete(cluster);
            }
            _ => {
                world.create(cluster, "prod");
                world.place();
            }
        }
    }

    /// Some read for a while, others do not.
    async fn read(&mut self) {
        let world = &mut self.world;
        let mut reading = Vec::new();
        for subscriber in &mut self.subscribers {
            if !subscriber.is_open(world) || dice(&mut world.rng, 60) {
                let lost = world.rng.random_range(0..5);
                subscriber.break_off(lost);
                let running = world.running();
                let replica = running[world.rng.random_range(0..running.len())];
                subscriber.open(world, replica);
            }
            if world.rng.random_ratio(2, 3) {
                let long = Duration::from_millis(world.rng.random_range(1..1_500));
                reading.push(subscriber.read_for(long));
            }
        }
        futures::future::join_all(reading).await;
    }

    /// Everything is well from now on: all that was promised has to come.
    async fn settle(&mut self) -> Result<(), String> {
        let world = &mut self.world;
        world.set_manners(Manners {
            bookmark: 500,
            ..Manners::default()
        });
        world.group.set_trouble(Trouble::default());
        world.set_wires(Wires::default());
        for replica in world.running() {
            world.cut_off(replica, false);
        }
        for cluster in CLUSTERS {
            if world.cluster(cluster).is_none() {
                world.create(cluster, "prod");
            }
            world.update(cluster, |spec| spec.paused = false);
        }
        world.place();
        // Long enough that everything is verified, and that what was wrong is found.
        let audited = Duration::from_secs(if self.kind.manners.drop > 0 { 1_000 } else { 0 });
        let reading = self.subscribers.iter_mut().map(|it| it.read_for(audited));
        futures::future::join_all(reading).await;
        let world = &self.world;
        let caught_up = self
            .subscribers
            .iter_mut()
            .map(|it| it.catch_up(world, PATIENCE));
        let caught_up = futures::future::join_all(caught_up).await;
        for (subscriber, caught_up) in self.subscribers.iter().zip(caught_up) {
            let who = format!("{:?} from {:?}", subscriber.want, subscriber.begin);
            let judged = subscriber
                .judge(world)
                .map_err(|reason| format!("{who}: {reason}"));
            if !caught_up {
                let cursor = subscriber.records.last().and_then(|it| it.cursor.clone());
                let places = cursor.unwrap_or_default().places.into_iter();
                let places = places.map(|(id, place)| format!("{id}: {place}"));
                let places: Vec<_> = places.collect();
                let tail = subscriber.tail(8);
                return Err(format!(
                    "{who} does not get on from {places:?}; {judged:?}\n{tail}"
                ));
            }
            judged?;
        }
        Ok(())
    }
}

/// Runs the walks of these seeds; what was counted, and which failed.
fn run(seeds: std::ops::Range<u64>) -> (BTreeMap<&'static str, u64>, Vec<u64>) {
    let mut counts = BTreeMap::new();
    let mut failed = Vec::new();
    for seed in seeds {
        match run_one(seed) {
            Ok(counted) => {
                for (fault, count) in counted {
                    *counts.entry(fault).or_default() += count;
                }
            }
            Err(reason) => {
                println!("\nSEED={seed} cargo test --test pipeline walk\n{reason}");
                failed.push(seed);
            }
        }
    }
    (counts, failed)
}

/// A walk that does not end, because something is busy endlessly without waiting.
const STUCK: Duration = Duration::from_secs(60);

fn run_one(seed: u64) -> Result<BTreeMap<&'static str, u64>, String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // A runtime of its own ends what still runs of the world.
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let walked = runtime.block_on(walk(seed));
        drop(runtime);
        sender.send(walked)
    });
    match receiver.recv_timeout(STUCK) {
        Ok(walked) => walked,
        Err(RecvTimeoutError::Disconnected) => Err("it panicked".into()),
        // Nothing can end that thread: go no further.
        Err(RecvTimeoutError::Timeout) => {
            panic!("SEED={seed} cargo test --test pipeline walk: it does not end")
        }
    }
}

/// Many worlds, each with its own order of writes, faults, takeovers, edits and reconnects.
///
/// `SEEDS=1000 cargo test --test pipeline walk` runs more of them, `SEED=7` that one alone.
#[test]
fn what_is_promised_holds_on_every_walk() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    let first = number("SEED");
    let usual = if first.is_some() { 1 } else { SEEDS };
    let (first, count) = (first.unwrap_or(0), number("SEEDS").unwrap_or(usual));
    let (counts, failed) = run(first..first + count);
    let counts: Vec<_> = counts
        .iter()
        .map(|(fault, count)| format!("{fault}: {count}"))
        .collect();
    println!("{}", counts.join("\n"));
    assert!(failed.is_empty(), "seeds {failed:?} of {count} failed");
}
