//! A host with a replica, as it ships.

use std::{
    cell::Cell,
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use quorumwatch::{
    blocking::InTurn,
    client::{Endpoint, chain},
    config::{Limits, Log, Memory, Peer, Serve, Watch},
    domain::cluster::ClusterSpec,
    raft::{
        Raft,
        storage::{Crash, InMemory},
    },
    server::{self, Platform},
    watcher,
};
use tokio_util::sync::CancellationToken;
use turmoil::Sim;

use super::{CLIENT_PORT, PEER_PORT, at};
use crate::network::Fabric;

/// How long a disk takes to make something durable.
const LATENCY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(8);

/// The same while it is slow: from what others do not notice to longer than an election takes.
const SLOW: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_millis(1_500);

/// Who founds the group, and what it watches.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) seed: u64,
    /// The names of all.
    pub(crate) founders: Vec<String>,
    pub(crate) clusters: Vec<ClusterSpec>,
    pub(crate) watch: Watch,
    pub(crate) limits: Limits,
}

/// How a process ended.
type Ended = Result<(), String>;

/// A host with a replica.
pub(crate) struct Replica {
    pub(crate) name: String,
    disk: InMemory,
    process: Arc<Mutex<Process>>,
    /// How many processes have died.
    died: Cell<usize>,
}

/// The process that runs, or ran last.
#[derive(Default)]
struct Process {
    /// What it knows of the group, once its data is open.
    raft: Option<Raft>,
    /// Asks it to stop.
    stop: CancellationToken,
    ended: Option<Ended>,
}

impl Replica {
    /// Adds it to a simulation.
    pub(crate) fn register(sim: &mut Sim<'static>, fabric: &Fabric, member: Member) -> Self {
        let disk = InMemory::new(member.seed).with_latency(LATENCY);
        let network = Arc::new(fabric.of(&member.name));
        let platform = Platform {
            network: network.clone(),
            api_servers: watcher::Network::Over(network),
            disk: Arc::new(disk.clone()),
            blocking: Arc::new(InTurn),
            watch_threads: 0,
        };
        let name = member.name.clone();
        let config = config(member);
        let process: Arc<Mutex<Process>> = Arc::default();
        let started = Arc::clone(&process);
        sim.host(name.as_str(), move || {
            live(platform.clone(), config.clone(), Arc::clone(&started))
        });
        Self {
            name,
            disk,
            process,
            died: Cell::new(0),
        }
    }

    /// Where clients reach it.
    pub(crate) fn client_address(name: &str) -> Endpoint {
        at(name, CLIENT_PORT).parse().unwrap()
    }

    /// The number of the process that runs, or runs next.
    pub(crate) fn processes(&self) -> usize {
        self.died.get()
    }

    /// What it knows of the group; nothing while it is down.
    pub(crate) fn raft(&self) -> Option<Raft> {
        self.process().raft.clone()
    }

    /// Asks the process to stop.
    pub(crate) fn stop(&self) {
        self.process().stop.cancel();
    }

    /// How its process ended, if it did by itself.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.process().ended.clone()
    }

    /// Whether its disk has no room for more.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.disk.set_full(is_full);
    }

    /// Whether its disk takes long.
    pub(crate) fn set_slow(&self, is_slow: bool) {
        let latency = if is_slow { SLOW } else { LATENCY };
        self.disk.set_latency(latency);
    }

    /// Its process has died, and its host is about to be taken down. The disk loses what such an
    /// end may lose.
    pub(crate) fn died(&self, crash: Crash) {
        self.disk.crash(crash);
        self.died.set(self.died.get() + 1);
        let dead = std::mem::take(&mut *self.process());
        drop(dead);
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap()
    }
}

fn config(member: Member) -> Serve {
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let peer = |name: String| Peer {
        address: at(&name, PEER_PORT),
        name,
    };
    Serve {
        data_dir: member.name.clone().into(),
        client_listen: any(CLIENT_PORT),
        peer_listen: any(PEER_PORT),
        advertise_client: at(&member.name, CLIENT_PORT),
        advertise_peer: at(&member.name, PEER_PORT),
        name: member.name,
        peers: member.founders.into_iter().map(peer).collect(),
        kubeconfig_dirs: Vec::new(),
        sources: BTreeMap::new(),
        allow_exec: Vec::new(),
        allow_file_references: false,
        insecure_plaintext: true,
        limits: member.limits,
        watch: member.watch,
        memory: Memory::default(),
        clusters: member.clusters,
        log: Log::default(),
    }
}

/// One process.
async fn live(platform: Platform, config: Serve, process: Arc<Mutex<Process>>) -> turmoil::Result {
    let ended = match server::open(platform, config).await {
        Ok(opened) => {
            let stop = {
                let mut process = process.lock().unwrap();
                process.raft = Some(opened.raft().clone());
                process.stop.clone()
            };
            opened.run(stop).await
        }
        Err(error) => Err(error),
    };
    process.lock().unwrap().ended = Some(ended.map_err(|error| chain(&error)));
    // The run looks for such ends, and starts the next process.
    std::future::pending().await
}
