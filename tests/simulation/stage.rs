//! The hosts of a run, and what is done to them from outside.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use quorumwatch::{client::Begin, config::Watch};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use turmoil::Sim;

use crate::{
    hosts::{ApiServer, Member, Replica, Subscriber},
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

/// All hosts.
pub(crate) struct Stage {
    pub(crate) sim: Sim<'static>,
    pub(crate) fabric: Fabric,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) servers: Vec<ApiServer>,
    pub(crate) subscribers: Vec<Subscriber>,
    /// Replicas that are down, or are to stop, because a fault wants it.
    pub(crate) ending: BTreeSet<usize>,
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
        let replicas = names.iter().map(|name| {
            let member = Member {
                name: name.clone(),
                seed: random.random(),
                founders: names.clone(),
                clusters: servers.iter().map(ApiServer::spec).collect(),
                watch,
            };
            Replica::register(&mut sim, &fabric, member)
        });
        let replicas = replicas.collect();
        let subscribers = [Begin::Snapshot, Begin::Now].into_iter().enumerate();
        let subscribers = subscribers.map(|(number, begin)| {
            let mut order = names.clone();
            order.rotate_left(number);
            Subscriber::register(&mut sim, &fabric, number, begin, &order)
        });
        let subscribers = subscribers.collect();
        Self {
            sim,
            fabric,
            replicas,
            servers,
            subscribers,
            ending: BTreeSet::new(),
        }
    }

    /// Lets every host run for a moment.
    pub(crate) fn step(&mut self) {
        report::set_now(self.sim.elapsed());
        if let Err(error) = self.sim.step() {
            report::violated(format!("a host has ended: {error}"));
        }
        report::set_now(self.sim.elapsed());
        for (at, replica) in self.replicas.iter().enumerate() {
            if let Some(ended) = replica.ended()
                && (ended.is_err() || !self.ending.contains(&at))
            {
                let name = &replica.name;
                report::violated(format!("{name} has ended by itself: {ended:?}"));
            }
        }
    }

    /// The names of all hosts.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let replicas = self.replicas.iter().map(|replica| &replica.name);
        let servers = self.servers.iter().map(|server| &server.name);
        let subscribers = self.subscribers.iter().map(|subscriber| &subscriber.name);
        replicas
            .chain(servers)
            .chain(subscribers)
            .cloned()
            .collect()
    }
}

/// How often replicas verify what they watch: seldom, as they do by default, or all the time.
fn watch(random: &mut SmallRng) -> Watch {
    let seldom = (300_000, 120_000);
    let often = (4_000, 2_500);
    let (audit_ms, quiet_ms) = *[seldom, often].choose(random).unwrap();
    Watch {
        audit_interval_ms: Some(audit_ms),
        quiet_interval_ms: quiet_ms,
        warm_clusters: 250,
    }
}
