//! A copy that is kept from frames alone equals what exists, after a random walk over everything
//! that can change: objects, labels, selectors, namespaces, pauses, clusters, histories, replicas,
//! and the subscriber itself.
//!
//! `SEEDS=20 STEPS=80 cargo test --test it -- --ignored a_copy` walks more; `SEED=7` one alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorumwatch::{
    client::{Begin, Cursor, Options, Subscription, Table, Update},
    domain::cluster::Resource,
    proto::v1::{Cluster, Filter, ResourceSelector},
    sim::Manifest,
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::harness::{PATIENCE, World, WorldOptions, from_environment, masked_update};

const CLUSTERS: usize = 3;
const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const TIERS: [&str; 2] = ["front", "back"];

/// What exists in a cluster, by what an object is called.
type Objects = BTreeMap<Named, Existing>;

/// Resource, namespace, name.
type Named = (String, String, String);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Existing {
    rv: String,
    tier: String,
}

/// What is in a copy, or has to be: cluster, the stream's namespace and label selector, and an
/// object with its version.
type Line = (String, String, String, Named, String);

/// What a cluster is registered as.
#[derive(Clone, Debug)]
struct Registered {
    env: &'static str,
    resources: Vec<ResourceSelector>,
    paused: bool,
}

struct Walk {
    rng: SmallRng,
    world: World,
    objects: BTreeMap<String, Objects>,
    registered: BTreeMap<String, Registered>,
    copy: Copy,
    written: u64,
}

/// A subscriber, and what it would find after a crash of its own.
struct Copy {
    subscription: Subscription,
    table: Table,
    saved: (Table, Cursor),
}

fn filters() -> Vec<Filter> {
    // Two that overlap: an object that both match is sent once.
    let prod = Filter {
        cluster_selector: "env=prod".into(),
        ..Filter::default()
    };
    let both = Filter {
        cluster_selector: "env in (prod,stage)".into(),
        namespaces: vec!["a".into()],
        ..Filter::default()
    };
    vec![prod, both]
}

/// Whether the filters match, as the walk understands them.
fn matches(env: &str, namespace: &str) -> bool {
    env == "prod" || env == "stage" && namespace == "a"
}

fn selectors(rng: &mut SmallRng) -> Vec<ResourceSelector> {
    let selector = |resource: &str, namespaces: &[&str], tier: &str| ResourceSelector {
        resource: resource.into(),
        namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        label_selector: match tier {
            "" => String::new(),
            tier => format!("tier={tier}"),
        },
        ..ResourceSelector::default()
    };
    match rng.random_range(0..6) {
        0 => vec![selector("v1/events", &[], "")],
        1 => vec![selector("v1/configmaps", &["a", "b"], "")],
        2 => vec![selector("v1/configmaps", &["a", "b", "c"], "")],
        3 => vec![
            selector("v1/events", &["b"], ""),
            selector("v1/configmaps", &[], ""),
        ],
        4 => vec![selector("v1/configmaps", &[], "front")],
        _ => vec![
            selector("v1/configmaps", &["a"], "back"),
            selector("v1/events", &["a", "c"], ""),
        ],
    }
}

impl Copy {
    fn begin(world: &World, seat: usize) -> Self {
        let begin = Begin::Snapshot;
        Self {
            subscription: subscribe(world, seat, begin),
            table: Table::new(),
            saved: (Table::new(), Cursor::default()),
        }
    }

    /// Takes what comes within `span`.
    async fn read_for(&mut self, span: Duration) {
        let _ = tokio::time::timeout(span, async {
            loop {
                self.read().await;
            }
        })
        .await;
    }

    async fn read(&mut self) {
        let update = self.subscription.next().await.unwrap();
        if let Some(Update::Frame(frame)) = update {
            self.table.apply(&frame).unwrap();
        }
    }

    /// Table and cursor are saved together, as a program does that must survive a crash.
    fn save(&mut self) {
        let cursor = self.subscription.cursor().clone();
        if !cursor.is_empty() {
            self.saved = (self.table.clone(), cursor);
        }
    }

    /// What was not saved is lost, and the next start goes elsewhere.
    fn crash(&mut self, world: &World, seat: usize) {
        let (table, cursor) = self.saved.clone();
        let begin = if cursor.is_empty() {
            Begin::Snapshot
        } else {
            Begin::After(cursor)
        };
        self.subscription = subscribe(world, seat, begin);
        self.table = table;
    }

    fn lines(&self) -> BTreeSet<Line> {
        let lines = self.table.iter().map(|(stream, key, object)| {
            let of = self.table.streams()[stream].description();
            let named = (of.resource.clone(), key.namespace.clone(), key.name.clone());
            (
                of.cluster.clone(),
                of.namespace.clone(),
                of.label_selector.clone(),
                named,
                object.resource_version.clone(),
            )
        });
        lines.collect()
    }
}

fn subscribe(world: &World, seat: usize, begin: Begin) -> Subscription {
    let options = Options {
        filters: filters(),
        begin,
        ..Options::default()
    };
    Subscription::new(world.group.endpoints_from(seat), options)
}

impl Walk {
    async fn new(seed: u64) -> Self {
        let world = World::start_empty(WorldOptions {
            clusters: CLUSTERS,
            replicas: 3,
            ..WorldOptions::default()
        })
        .await;
        let copy = Copy::begin(&world, 0);
        let mut walk = Self {
            rng: SmallRng::seed_from_u64(seed),
            world,
            objects: BTreeMap::new(),
            registered: BTreeMap::new(),
            copy,
            written: 0,
        };
        for name in walk.world.fleet.cluster_names() {
            walk.objects.insert(name.clone(), Objects::new());
            walk.register(&name).await;
        }
        walk
    }

    fn pick_cluster(&mut self) -> String {
        let names = self.world.fleet.cluster_names();
        names[self.rng.random_range(0..names.len())].clone()
    }

    async fn register(&mut self, name: &str) {
        let env = ["prod", "stage", "test"][self.rng.random_range(0..3)];
        let registered = Registered {
            env,
            resources: selectors(&mut self.rng),
            paused: false,
        };
        let cluster = Cluster {
            labels: [("env".to_owned(), env.to_owned())].into(),
            resources: registered.resources.clone(),
            ..self.world.described(name)
        };
        self.client().create(cluster).await.unwrap();
        self.registered.insert(name.to_owned(), registered);
    }

    fn client(&self) -> crate::harness::Client {
        self.world.group.client()
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..22) {
            0..=8 => self.write(),
            9 => self.relabel().await,
            10 => self.reselect().await,
            11 => self.pause().await,
            12 => self.reregister().await,
            13 => {
                let name = self.pick_cluster();
                self.world.cluster(&name).reset_watch_cache();
            }
            14 if self.rng.random_ratio(1, 2) => {
                let name = self.pick_cluster();
                self.world.cluster(&name).compact();
            }
            15 => self.kill_a_replica().await,
            16 => self.copy.save(),
            17 => {
                let seat = self.rng.random_range(0..3);
                self.copy.crash(&self.world, seat);
            }
            _ => {
                let span = Duration::from_millis(self.rng.random_range(1..300));
                self.copy.read_for(span).await;
            }
        }
    }

    /// Creates, updates and deletes some objects of one cluster.
    fn write(&mut self) {
        let name = self.pick_cluster();
        let cluster = self.world.cluster(&name);
        let objects = self.objects.get_mut(&name).expect("it is one of them");
        for _ in 0..self.rng.random_range(1..8) {
            let rng = &mut self.rng;
            let resource = ["v1/events", "v1/configmaps"][rng.random_range(0..2)];
            let namespace = NAMESPACES[rng.random_range(0..3)];
            let tier = TIERS[rng.random_range(0..2)];
            let object = format!("o-{}", rng.random_range(0..12));
            let key = (resource.to_owned(), namespace.to_owned(), object.clone());
            let of: Resource = resource.parse().unwrap();
            self.written += 1;
            let manifest = Manifest::new(namespace, &object)
                .label("tier", tier)
                .member("data", &serde_json::json!({"n": self.written.to_string()}));
            let rv = match objects.contains_key(&key) {
                false => cluster.create(&of, &manifest).unwrap(),
                true if rng.random_ratio(2, 3) => cluster.update(&of, &manifest).unwrap(),
                true => {
                    cluster.delete(&of, namespace, &object).unwrap();
                    objects.remove(&key);
                    continue;
                }
            };
            let existing = Existing {
                rv: rv.to_string(),
                tier: tier.to_owned(),
            };
            objects.insert(key, existing);
        }
    }

    async fn update(&mut self, name: &str, field: &str) {
        let registered = &self.registered[name];
        let cluster = Cluster {
            name: name.to_owned(),
            labels: [("env".to_owned(), registered.env.to_owned())].into(),
            resources: registered.resources.clone(),
            paused: registered.paused,
            ..Cluster::default()
        };
        let update = masked_update(cluster, field);
        self.client().update(update).await.unwrap();
    }

    async fn relabel(&mut self) {
        let name = self.pick_cluster();
        let env = ["prod", "stage", "test"][self.rng.random_range(0..3)];
        self.registered.get_mut(&name).unwrap().env = env;
        self.update(&name, "labels").await;
    }

    async fn reselect(&mut self) {
        let name = self.pick_cluster();
        let resources = selectors(&mut self.rng);
        self.registered.get_mut(&name).unwrap().resources = resources;
        self.update(&name, "resources").await;
    }

    async fn pause(&mut self) {
        let name = self.pick_cluster();
        let registered = self.registered.get_mut(&name).unwrap();
        registered.paused = !registered.paused;
        self.update(&name, "paused").await;
    }

    async fn reregister(&mut self) {
        let name = self.pick_cluster();
        self.client().delete(&name).await.unwrap();
        self.register(&name).await;
    }

    /// One replica dies and comes back; the group has a majority all the time.
    async fn kill_a_replica(&mut self) {
        let victim = self.rng.random_range(0..3);
        self.world.group.replicas[victim].kill();
        let span = Duration::from_millis(self.rng.random_range(1..600));
        self.copy.read_for(span).await;
        self.world.group.launch(victim);
        self.world.group.whole().await;
    }

    /// What a copy has to hold.
    fn truth(&self) -> BTreeSet<Line> {
        let mut truth = BTreeSet::new();
        for (name, registered) in &self.registered {
            for selector in &registered.resources {
                for stream in streams_of(selector) {
                    let objects = self.objects[name].iter();
                    let wanted = objects.filter(|((resource, namespace, _), object)| {
                        *resource == selector.resource
                            && (stream.is_empty() || *namespace == stream)
                            && (selector.label_selector.is_empty()
                                || selector.label_selector == format!("tier={}", object.tier))
                            && matches(registered.env, namespace)
                    });
                    truth.extend(wanted.map(|(named, object)| {
                        let label_selector = selector.label_selector.clone();
                        let rv = object.rv.clone();
                        (
                            name.clone(),
                            stream.clone(),
                            label_selector,
                            named.clone(),
                            rv,
                        )
                    }));
                }
            }
        }
        truth
    }

    /// Ends the pauses, and reads until the copy is what exists.
    async fn expect_equal(&mut self, seed: u64) -> usize {
        for name in self.world.fleet.cluster_names() {
            if !self.registered[&name].paused {
                continue;
            }
            self.registered.get_mut(&name).unwrap().paused = false;
            self.update(&name, "paused").await;
        }
        let truth = self.truth();
        let equal = async {
            while self.copy.lines() != truth {
                self.copy.read().await;
            }
        };
        if tokio::time::timeout(PATIENCE, equal).await.is_err() {
            let copy = self.copy.lines();
            panic!(
                "SEED={seed}: missing {:#?}\nghosts {:#?}\n{:#?}",
                truth.difference(&copy).collect::<Vec<_>>(),
                copy.difference(&truth).collect::<Vec<_>>(),
                self.registered
            );
        }
        truth.len()
    }
}

/// The namespaces of a selector's streams; "" for the one of all namespaces.
fn streams_of(selector: &ResourceSelector) -> Vec<String> {
    if selector.namespaces.is_empty() {
        return vec![String::new()];
    }
    selector.namespaces.clone()
}

async fn walk(seed: u64, steps: usize) {
    let mut walk = Walk::new(seed).await;
    for step in 0..steps {
        walk.step().await;
        if step % 20 == 19 {
            walk.expect_equal(seed).await;
        }
    }
    let lines = walk.expect_equal(seed).await;
    eprintln!(
        "SEED={seed}: {steps} steps, {} writes, {lines} objects in the copy, 0 differences",
        walk.written
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_equals_what_exists_after_a_walk() {
    walk(from_environment("SEED", 1), 40).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes"]
async fn a_copy_equals_what_exists_after_many_walks() {
    let steps = usize::try_from(from_environment("STEPS", 80)).unwrap();
    let first = from_environment("SEED", 1);
    for seed in first..first + from_environment("SEEDS", 20) {
        walk(seed, steps).await;
    }
}
