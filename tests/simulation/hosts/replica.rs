//! A host with a replica, as it ships.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    mem,
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

use super::{CLIENT_PORT, PEER_PORT, at, process::Process};
use crate::network::{Fabric, Machine};

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

/// A host with a replica: the host is its machine.
pub(crate) struct Replica {
    pub(crate) name: String,
    config: Serve,
    machine: Machine,
    disk: InMemory,
    /// The process, while there is one.
    process: RefCell<Option<Process>>,
    shown: Arc<Mutex<Shown>>,
    /// How many processes have died.
    died: Cell<usize>,
}

/// What the process that runs, or ran last, shows and is asked.
#[derive(Default)]
struct Shown {
    /// What it knows of the group, once its data is open.
    raft: Option<Raft>,
    /// Asks it to stop.
    stop: CancellationToken,
    ended: Option<Ended>,
}

impl Replica {
    /// Adds it to a simulation, with a process that starts.
    pub(crate) fn register(sim: &mut Sim<'static>, fabric: &Fabric, member: Member) -> Self {
        let name = member.name.clone();
        let (machine, network) = (Machine::default(), fabric.of(&name));
        let starts = machine.clone();
        sim.host(name.as_str(), move || starts.start(network.clone()));
        let replica = Self {
            disk: InMemory::new(member.seed).with_latency(LATENCY),
            config: config(member),
            name,
            machine,
            process: RefCell::new(None),
            shown: Arc::default(),
            died: Cell::new(0),
        };
        replica.start();
        replica
    }

    /// Starts a process. Its machine has started.
    pub(crate) fn start(&self) {
        let network = Arc::new(self.machine.network());
        let platform = Platform {
            network: network.clone(),
            api_servers: watcher::Network::Over(network),
            disk: Arc::new(self.disk.clone()),
            blocking: Arc::new(InTurn),
            watch_threads: 0,
        };
        let first = live(platform, self.config.clone(), Arc::clone(&self.shown));
        *self.process.borrow_mut() = Some(Process::start(&self.name, first));
    }

    /// Lets the process run for so long, unless it stands still.
    pub(crate) fn run(&self, lasts: Duration) {
        if let Some(process) = &mut *self.process.borrow_mut() {
            process.run(lasts);
        }
    }

    /// Whether the process stands still from now on.
    pub(crate) fn set_frozen(&self, is_frozen: bool) {
        if let Some(process) = &mut *self.process.borrow_mut() {
            process.set_frozen(is_frozen);
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
        self.shown().raft.clone()
    }

    /// Asks the process to stop.
    pub(crate) fn stop(&self) {
        self.shown().stop.cancel();
    }

    /// How its process ended, if it did by itself.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.shown().ended.clone()
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
        let shown = mem::take(&mut *self.shown());
        let process = self.process.take();
        drop((shown, process));
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap()
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

/// What a process does.
async fn live(platform: Platform, config: Serve, shown: Arc<Mutex<Shown>>) {
    let ended = match server::open(platform, config).await {
        Ok(opened) => {
            let stop = {
                let mut shown = shown.lock().unwrap();
                shown.raft = Some(opened.raft().clone());
                shown.stop.clone()
            };
            opened.run(stop).await
        }
        Err(error) => Err(error),
    };
    shown.lock().unwrap().ended = Some(ended.map_err(|error| chain(&error)));
    // The run looks for such ends, and starts the next process.
    std::future::pending::<()>().await;
}
