//! The composition root: builds, wires, starts in order, stops in reverse order.

mod seed;
mod settings;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

pub use crate::raft::storage::FORMAT as STORAGE_FORMAT;
use crate::{
    agent::{
        self,
        handover::{self, Handover},
        prepare::{Preparer, Requests},
    },
    api::{
        self, Admission, Clusters, Events, Gate, LeaderView, Readiness, Shards, Watches, admitted,
        encoded::EventServiceServer,
    },
    blocking::{Blocking, Threads},
    config::Serve,
    controller::{Controller, Prepare},
    group::{FormError, Group, LeaderServer, MembershipServer},
    memory::Budgets,
    net::{Channels, Listener, Network, Tcp},
    panics,
    pipeline::{hub::Hub, log::Logs, owned::Owned},
    proto::{
        PUBLIC_DESCRIPTORS,
        internal::v1::{
            handover_service_server::HandoverServiceServer,
            leader_service_server::LeaderServiceServer,
            membership_service_server::MembershipServiceServer,
            relay_service_server::RelayServiceServer,
        },
        v1::{
            cluster_service_server::ClusterServiceServer, group_service_server::GroupServiceServer,
            shard_service_server::ShardServiceServer,
        },
    },
    raft::{self, Disk, Files, Raft},
    relay::{
        RelayServer,
        client::{PeerFeeds, RELAY_MESSAGE_BYTES_MAX},
    },
    watcher::{self, WatchPolicy, WatchThreads},
};
use seed::create_configured;
pub use settings::credentials;
use settings::{group_options, watch_policy};

/// Streams on one connection between replicas: one for each shard stream that is relayed.
const PEER_STREAMS_MAX: u32 = 100_000;

/// Calls that a peer may reset before they are processed, which is what attackers do: a connection
/// with more is closed. A peer gives up much at once when this replica was frozen, and a feed for
/// each stream at most.
const PEER_RESETS_MAX: usize = 100_000;

/// What a connection between replicas may have under way: a feed whose requester does not read must
/// not hold up the others.
const PEER_CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// What one relayed stream may have under way.
const PEER_STREAM_WINDOW: u32 = 1 << 20;

/// What a connection of a client may have under way towards this replica: requests are small.
const CLIENT_CONNECTION_WINDOW: u32 = 256 * 1024;

/// What one call of a client may have under way.
const CLIENT_STREAM_WINDOW: u32 = 64 * 1024;

/// How long a replica that stops waits for its listeners to close by themselves.
/// Streams of consensus close only with their sender.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// Why a replica ended. Each prints its cause or has it as its source, not both: what prints the
/// chain shows a cause once.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener could not be opened.
    #[error("listen on {address} for {who}: {why}; {}", listen_hint(why, flag))]
    Listen {
        /// "clients" or "peers".
        who: &'static str,
        /// The flag that names it.
        flag: &'static str,
        /// The configured listen address.
        address: SocketAddr,
        /// The error of the system call.
        why: io::Error,
    },
    /// The data could not be opened.
    #[error("open the data directory {}: {why}. {}", dir.display(), why.remedy(dir, name))]
    Open {
        /// The directory.
        dir: PathBuf,
        /// The replica's name.
        name: String,
        /// The storage error.
        why: raft::OpenError,
    },
    /// The threads that watch clusters could not be started.
    #[error("start the threads that watch clusters")]
    WatchThreads(#[source] io::Error),
    /// The group could not be formed.
    #[error("form the group")]
    Form(#[from] FormError),
    /// A listener failed.
    #[error("serve")]
    Serve(#[from] tonic::transport::Error),
    /// Reflection could not be set up.
    #[error("set up reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Consensus or its storage is dead.
    #[error(transparent)]
    Dead(#[from] raft::Failure),
    /// A part of the replica has ended.
    #[error("{0}; this is a defect of quorumwatch, please report it with the log")]
    Failed(String),
}

/// What to do where an address cannot be listened on.
fn listen_hint(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another process listens there: stop it, or choose another port with --{flag}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address: correct --{flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need a privilege: choose another with --{flag}")
        }
        _ => format!("choose another with --{flag}"),
    }
}

/// Runs a replica, as the only one of this process, until `shutdown` is cancelled or something that
/// it cannot do without has died.
pub async fn run(config: Serve, shutdown: CancellationToken) -> Result<(), Error> {
    panics::end_process();
    open(Platform::default(), config).await?.run(shutdown).await
}

/// What a replica runs on.
#[derive(Clone, Debug)]
pub struct Platform {
    /// What it is reached over, and reaches other replicas over.
    pub network: Arc<dyn Network>,
    /// How it reaches API servers.
    pub api_servers: watcher::Network,
    /// What it keeps its data on.
    pub disk: Arc<dyn Disk>,
    /// Does what may block.
    pub blocking: Arc<dyn Blocking>,
    /// How many threads watch clusters. With none they are watched where everything else runs.
    pub watch_threads: usize,
}

impl Default for Platform {
    /// This machine.
    fn default() -> Self {
        Self {
            network: Arc::new(Tcp),
            api_servers: watcher::Network::Real,
            disk: Arc::new(Files),
            blocking: Arc::new(Threads),
            watch_threads: watch_threads(),
        }
    }
}

/// Half as many as there are cores: consensus and subscribers get the others.
fn watch_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

/// Opens the listeners and the data of a replica.
pub async fn open(platform: Platform, config: Serve) -> Result<Opened, Error> {
    let listen = |who, flag, address| listen(&*platform.network, who, flag, address);
    let client_listener = listen("clients", "client-listen", config.client_listen).await?;
    let peer_listener = listen("peers", "peer-listen", config.peer_listen).await?;
    let channels = Channels::new(Arc::clone(&platform.network));
    let opened = Group::open(group_options(&config, &platform), channels.clone()).await;
    let group = opened.map_err(|why| Error::Open {
        dir: config.data_dir.clone(),
        name: config.name.clone(),
        why,
    })?;
    tracing::info!(name = group.name(), replica = %group.replica_id(), "replica starts");
    let watch_threads = WatchThreads::start(platform.watch_threads).map_err(Error::WatchThreads)?;
    let budgets = Budgets::new(&config.memory);
    let logs = Logs::new(budgets.rings.clone(), config.limits.ring_bytes);
    let replica = Replica {
        budgets,
        config,
        channels,
        platform,
        watch_threads,
        raft: group.raft().clone(),
        group,
        owned: Owned::new(logs.clone()),
        logs,
    };
    Ok(Opened {
        replica,
        client_listener,
        peer_listener,
    })
}

/// A replica whose listeners and data are open.
pub struct Opened {
    replica: Replica,
    client_listener: Listener,
    peer_listener: Listener,
}

impl Opened {
    /// What it knows of its group.
    pub fn raft(&self) -> &Raft {
        &self.replica.raft
    }

    /// Runs it until `shutdown` is cancelled or something that it cannot do without has died.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let raft = self.replica.raft.clone();
        let running = self
            .replica
            .run(self.client_listener, self.peer_listener, shutdown);
        let result = Box::pin(running).await;
        raft.shutdown().await;
        result
    }
}

async fn listen(
    network: &dyn Network,
    who: &'static str,
    flag: &'static str,
    address: SocketAddr,
) -> Result<Listener, Error> {
    let bound = network.bind(address).await;
    bound.map_err(|why| Error::Listen {
        who,
        flag,
        address,
        why,
    })
}

/// The parts of a running replica.
struct Replica {
    config: Serve,
    channels: Channels,
    platform: Platform,
    watch_threads: WatchThreads,
    /// What its parts share of its memory.
    budgets: Budgets,
    group: Group,
    /// That of the group.
    raft: Raft,
    owned: Owned,
    logs: Logs,
}

impl Replica {
    async fn run(
        self,
        client_listener: Listener,
        peer_listener: Listener,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        // Listeners outlive the agent: peers and clients are served while its shards move away.
        let close = CancellationToken::new();
        let controller = Controller::start(self.raft.clone(), self.prepare());
        let (preparer, requests) = agent::prepare::preparer();
        let mut listeners = JoinSet::new();
        listeners.spawn(self.serve_peers(
            peer_listener,
            controller.clone(),
            preparer,
            close.clone(),
        ));
        listeners.spawn(self.serve_clients(client_listener, close.clone())?);
        let agent_stop = CancellationToken::new();
        let result = tokio::select! {
            worked = self.work(requests, agent_stop.clone(), shutdown.clone()) => worked,
            Some(ended) = listeners.join_next() => Err(listener_error(ended)),
            failure = self.raft.failed() => Err(failure.into()),
            () = self.group.look_for_the_dead(&controller) => Ok(()),
            () = Box::pin(self.group.watch_contact()) => Ok(()),
            () = Box::pin(self.group.keep_voters(&controller)) => Ok(()),
            excluded = Box::pin(self.group.excluded()) => Err(excluded.into()),
            () = controller.stopped() => Err(Error::Failed("the controller stopped".into())),
        };
        close.cancel();
        // A leader's stream of entries stays open for as long as they are taken here.
        self.raft.shutdown().await;
        let closed = async { while listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
        result
    }

    /// Becomes part of the group, then runs shards until shut down.
    async fn work(
        &self,
        requests: Requests,
        stop: CancellationToken,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        match Box::pin(self.group.form(shutdown.clone())).await {
            Err(FormError::Cancelled) => return Ok(()),
            formed => formed?,
        }
        tracing::info!(name = self.raft.name(), "replica is a member of the group");
        let create = create_configured(self.raft.clone(), self.config.clusters.clone());
        let agent = agent::run(self.agent_options(), requests, stop.clone());
        let stopping = async {
            shutdown.cancelled().await;
            tracing::info!("replica is stopping, handing over its shards");
            self.group.hand_leadership_over().await;
            stop.cancel();
        };
        tokio::join!(agent, stopping, async {
            tokio::select! {
                () = create => {}
                () = shutdown.cancelled() => {}
            }
        });
        Ok(())
    }

    /// How the controller has a receiver open the watches of a shard that is to move to it.
    fn prepare(&self) -> Prepare {
        let (raft, channels) = (self.raft.clone(), self.channels.clone());
        Arc::new(move |request, revision| {
            Box::pin(handover::prepare(
                raft.clone(),
                channels.clone(),
                request,
                revision,
            ))
        })
    }

    fn agent_options(&self) -> agent::Options {
        agent::Options {
            raft: self.raft.clone(),
            channels: self.channels.clone(),
            lease: self.group.lease().clone(),
            owned: self.owned.clone(),
            credentials: Arc::new(credentials(&self.config)),
            watch: WatchPolicy {
                threads: self.watch_threads.clone(),
                ..watch_policy(&self.config, &self.budgets, &self.platform)
            },
            warm_clusters: self.config.watch.warm_clusters,
        }
    }

    fn serve_peers(
        &self,
        listener: Listener,
        controller: Controller,
        preparer: Preparer,
        close: CancellationToken,
    ) -> impl Future<Output = Result<(), tonic::transport::Error>> + use<> {
        let handover = Handover::new(self.raft.clone(), preparer);
        let membership = MembershipServer(self.group.clone());
        let leader = LeaderServer::new(self.group.clone(), controller, close.clone());
        let relay = RelayServer {
            replica: self.raft.replica_id(),
            owned: self.owned.clone(),
            applied: self.raft.watch_applied(),
        };
        Server::builder()
            .tcp_nodelay(true)
            .max_concurrent_streams(PEER_STREAMS_MAX)
            .http2_max_pending_accept_reset_streams(Some(PEER_RESETS_MAX))
            .initial_connection_window_size(PEER_CONNECTION_WINDOW)
            .initial_stream_window_size(PEER_STREAM_WINDOW)
            .add_service(self.raft.rpc_service())
            .add_service(HandoverServiceServer::new(handover))
            .add_service(MembershipServiceServer::new(membership))
            .add_service(LeaderServiceServer::new(leader))
            .add_service(
                RelayServiceServer::new(relay).max_encoding_message_size(RELAY_MESSAGE_BYTES_MAX),
            )
            .serve_with_incoming_shutdown(listener, async move {
                close.cancelled().await;
            })
    }

    fn serve_clients(
        &self,
        listener: Listener,
        close: CancellationToken,
    ) -> Result<impl Future<Output = Result<(), tonic::transport::Error>> + use<>, Error> {
        let raft = self.raft.clone();
        let feeds = PeerFeeds {
            replica: raft.replica_id(),
            owned: self.owned.clone(),
            channels: self.channels.clone(),
            addresses: Arc::new({
                let raft = raft.clone();
                move |replica| raft.peer_address_of(replica)
            }),
            relayed: self.budgets.relayed.clone(),
        };
        let limits = self.config.limits;
        let hub = Hub::new(
            raft.replica_id(),
            self.logs.clone(),
            Arc::new(feeds),
            raft.watch_state(),
            raft.watch_topology(),
        );
        let slow_after = Duration::from_millis(limits.slow_subscriber_ms);
        let lifecycle = self.group.lifecycle();
        let events = Events::new(
            hub,
            raft.clone(),
            [slow_after, Duration::from_millis(limits.unread_ms)],
            self.budgets.responses.clone(),
            lifecycle.clone(),
            close.clone(),
        );
        let watches = Watches::new(lifecycle.clone(), close.clone(), slow_after);
        let leader = LeaderView::new(self.group.clone(), self.channels.clone());
        let (health, health_service) = tonic_health::server::health_reporter();
        let report = Readiness {
            raft: raft.clone(),
            lifecycle,
            close: close.clone(),
        };
        tokio::spawn(report.run(health));
        let admission = Admission::new(&limits, &self.budgets);
        let server = Server::builder()
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .max_concurrent_streams(limits.connection_streams)
            .initial_connection_window_size(CLIENT_CONNECTION_WINDOW)
            .initial_stream_window_size(CLIENT_STREAM_WINDOW)
            .layer(Gate::new(admission.clone()))
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(health_service)
            .add_service(EventServiceServer::new(events))
            .add_service(ShardServiceServer::new(Shards::new(
                raft.clone(),
                leader.clone(),
                watches.clone(),
            )))
            .add_service(ClusterServiceServer::new(Clusters::new(
                raft.clone(),
                leader.clone(),
                watches.clone(),
            )))
            .add_service(GroupServiceServer::new(api::Group::new(
                raft, leader, watches,
            )))
            .serve_with_incoming_shutdown(admitted(listener, admission), async move {
                close.cancelled().await;
            });
        Ok(server)
    }
}

fn reflection<'a>() -> tonic_reflection::server::Builder<'a> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(PUBLIC_DESCRIPTORS)
        // The details of errors, so that a client that knows nothing else can show them.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .with_service_name("quorumwatch.v1.EventService")
        .with_service_name("quorumwatch.v1.ShardService")
        .with_service_name("quorumwatch.v1.ClusterService")
        .with_service_name("quorumwatch.v1.GroupService")
        .with_service_name("grpc.health.v1.Health")
        .with_service_name("grpc.reflection.v1.ServerReflection")
}

fn listener_error(
    ended: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>,
) -> Error {
    match ended {
        Ok(Ok(())) => Error::Failed("a listener closed".into()),
        Ok(Err(error)) => Error::Serve(error),
        Err(error) => Error::Failed(format!("a listener failed: {error}")),
    }
}
