//! The hosts of a run, and what is done to them from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use quorumwatch::{
    client::Begin,
    config::{Limits, Watch},
};
use rand::{
    Rng as _, SeedableRng as _,
    rngs::SmallRng,
    seq::{IndexedRandom as _, SliceRandom as _},
};
use turmoil::Sim;

use crate::{
    faults::{Cause, Full, Interrupting, Pending},
    hosts::{ApiServer, Member, Operator, Replica, Scope, Subscriber, Wish},
    network::Fabric,
    report,
};

/// How far each host runs before the next one does, and the shortest time that a message takes. A
/// tenth of a heartbeat of consensus, and a twentieth of one of a lease: what is decided by who
/// comes first comes out either way, and most steps find something to do.
const TICK: Duration = Duration::from_millis(5);

/// The way between two hosts: mostly short, sometimes not.
const LATENCY_MIN: Duration = Duration::from_millis(1);
const LATENCY_MAX: Duration = Duration::from_millis(12);

/// Segments that a connection may have under way, and connections that may wait for a listener to
/// take them: more than there ever are.
const SEGMENTS_MAX: usize = 4096;

const REPLICAS: usize = 3;

/// What rings hold in every second run: what comes within a second, so that a reader that is behind
/// for longer is served from the history.
const RING_BYTES: usize = 4 * 1024;

/// How long a subscriber may read nothing in every second run: less than some faults last.
const SLOW_SUBSCRIBER_MS: u64 = 1_200;

/// What may be under way to a subscriber that stops reading now and then.
const WINDOW: u32 = 16 * 1024;

/// All hosts, and what is being done to them.
pub(crate) struct Stage {
    pub(crate) sim: Sim<'static>,
    pub(crate) fabric: Fabric,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) servers: Vec<ApiServer>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) operator: Operator,
    /// Replicas that are down, or are to stop, because a fault wants it.
    pub(crate) ending: BTreeSet<usize>,
    /// Replicas whose disk is full.
    pub(crate) full: BTreeMap<usize, Full>,
    /// Histories that are being replaced.
    pub(crate) cuts: Vec<Pending>,
    /// Subscribers that are to leave inside a snapshot.
    pub(crate) interrupting: Vec<Interrupting>,
    /// What explains gaps.
    pub(crate) causes: Vec<Cause>,
    /// How many restores there were.
    pub(crate) restores: usize,
    /// How many floods there were.
    pub(crate) floods: usize,
    /// How many times kubeconfigs were written in other words.
    pub(crate) rewrites: u32,
    /// Whether replicas verify all the time what they watch.
    pub(crate) verifies_often: bool,
    /// Whether something has happened that the service does not promise to notice.
    pub(crate) is_unjudged: bool,
    /// Decides whose process runs first.
    random: SmallRng,
}

impl Stage {
    /// A group of replicas, API servers with a cluster each, and subscribers.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut sim = turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH)
            .simulation_duration(Duration::MAX)
            .tick_duration(TICK)
            .min_message_latency(LATENCY_MIN)
            .max_message_latency(LATENCY_MAX)
            .tcp_capacity(SEGMENTS_MAX)
            .enable_random_order()
            .rng_seed(random.random())
            .build();
        let fabric = Fabric::new();
        let servers: Vec<ApiServer> = (0..random.random_range(2..=3))
            .map(|number| ApiServer::register(&mut sim, &fabric, number, random.random()))
            .collect();
        let names: Vec<String> = (0..REPLICAS).map(|at| format!("replica-{at}")).collect();
        let watch = watch(&mut random);
        let limits = limits(&mut random);
        let replicas = names.iter().map(|name| {
            let member = Member {
                name: name.clone(),
                seed: random.random(),
                founders: names.clone(),
                clusters: servers.iter().map(ApiServer::spec).collect(),
                watch,
                limits,
            };
            Replica::register(&mut sim, &fabric, member)
        });
        let replicas = replicas.collect();
        let operator = Operator::register(&mut sim, &fabric, &names, &servers);
        let subscribers = wishes(limits).into_iter().enumerate();
        let subscribers = subscribers
            .map(|(number, wish)| Subscriber::register(&mut sim, &fabric, number, wish, &names));
        let subscribers = subscribers.collect();
        Self {
            sim,
            fabric,
            replicas,
            servers,
            subscribers,
            operator,
            ending: BTreeSet::new(),
            full: BTreeMap::new(),
            cuts: Vec::new(),
            interrupting: Vec::new(),
            causes: Vec::new(),
            restores: 0,
            floods: 0,
            rewrites: 0,
            verifies_often: watch == OFTEN,
            is_unjudged: false,
            random,
        }
    }

    /// Lets every host run for a moment.
    pub(crate) fn step(&mut self) {
        report::set_now(self.sim.elapsed());
        if let Err(error) = self.sim.step() {
            report::violated(format!("a host has ended: {error}"));
        }
        report::set_now(self.sim.elapsed());
        self.run_processes();
        for (at, replica) in self.replicas.iter().enumerate() {
            if let Some(ended) = replica.ended()
                && (ended.is_err() || !self.ending.contains(&at))
                && !self.is_of_full_disk(at, &ended)
            {
                let name = &replica.name;
                report::violated(format!("{name} has ended by itself: {ended:?}"));
            }
        }
        self.look_after_full_disks();
        self.interrupt_snapshots();
        self.advance_cuts();
    }

    /// Lets every replica's process run for as long as its machine just has.
    fn run_processes(&mut self) {
        let mut order: Vec<usize> = (0..self.replicas.len()).collect();
        order.shuffle(&mut self.random);
        for at in order {
            self.replicas[at].run(TICK);
        }
    }

    /// The names of all hosts.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let replicas = self.replicas.iter().map(|replica| &replica.name);
        let servers = self.servers.iter().map(|server| &server.name);
        let subscribers = self.subscribers.iter().map(|subscriber| &subscriber.name);
        let operator = [&self.operator.name];
        replicas
            .chain(servers)
            .chain(subscribers)
            .chain(operator)
            .cloned()
            .collect()
    }
}

/// Replicas verify what they watch seldom, as they do by default.
const SELDOM: Watch = Watch {
    audit_interval_ms: Some(300_000),
    quiet_interval_ms: 120_000,
    warm_clusters: 250,
};

/// They do it all the time.
const OFTEN: Watch = Watch {
    audit_interval_ms: Some(4_000),
    quiet_interval_ms: 2_500,
    warm_clusters: 250,
};

fn watch(random: &mut SmallRng) -> Watch {
    *[SELDOM, OFTEN].choose(random).unwrap()
}

/// What replicas keep and wait for, in half of the runs less than by default.
fn limits(random: &mut SmallRng) -> Limits {
    let usual = Limits::default();
    if random.random_bool(0.5) {
        return usual;
    }
    Limits {
        ring_bytes: RING_BYTES,
        slow_subscriber_ms: SLOW_SUBSCRIBER_MS,
        ..usual
    }
}

/// What subscribers ask for: copies and logs, with and without filters.
fn wishes(limits: Limits) -> [Wish; 4] {
    let wish = |begin: Begin, scope: Scope, window: Option<u32>| Wish {
        begin,
        scope,
        window,
        // One with a filter is behind in each stream that it has again.
        keeps_up: window.is_none() && scope == Scope::Everything && limits.ring_bytes > RING_BYTES,
    };
    [
        wish(Begin::Snapshot, Scope::Everything, None),
        wish(Begin::Now, Scope::Everything, Some(WINDOW)),
        wish(Begin::Snapshot, Scope::Parts, Some(WINDOW)),
        wish(Begin::Now, Scope::Tiers, None),
    ]
}
