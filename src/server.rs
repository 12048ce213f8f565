//! The composition root: builds, wires, starts in order, stops in reverse order.

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

pub use crate::raft::storage::FORMAT as STORAGE_FORMAT;
use crate::{
    agent::{self, lease::LeaseClock},
    api::{
        Clusters, Events, Group, LeaderView, Peers, Shards, Watches, encoded::EventServiceServer,
    },
    clock::unix_now,
    config::Serve,
    controller::Controller,
    domain::{
        cluster::ClusterSpec,
        command::{Command, Outcome, Rejection},
    },
    peer::{
        self, Channels,
        sources::{PeerSources, RELAY_MESSAGE_BYTES_MAX},
    },
    pipeline::{hub::Hub, owned::Owned},
    proto::{
        PUBLIC_DESCRIPTORS,
        internal::v1::peer_service_server::PeerServiceServer,
        v1::{
            cluster_service_server::ClusterServiceServer, group_service_server::GroupServiceServer,
            shard_service_server::ShardServiceServer,
        },
    },
    raft::{self, Raft, Role},
    watcher::{CredentialPolicy, InlineKubeconfig, WatchPolicy},
};

/// Streams on one connection between replicas: one for each shard stream that is relayed.
const PEER_STREAMS_MAX: u32 = 100_000;

/// What a connection between replicas may have under way: a feed whose asker does not read must
/// not hold up the others.
const PEER_CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// What one relayed stream may have under way.
const PEER_STREAM_WINDOW: u32 = 1 << 20;

/// The exit code of a process that panicked; Rust's own.
const PANICKED: i32 = 101;

/// How long a machine may take to refuse a connection; one that takes longer refuses nothing.
const REFUSED_WITHIN: Duration = Duration::from_millis(200);

/// How long a voter may take to become the leader; an election takes a few milliseconds.
const HAND_OVER_WITHIN: Duration = Duration::from_millis(500);

/// How long a replica that stops waits for its listeners to close by themselves.
/// Streams of consensus close only with their sender.
const CLOSE_WITHIN: Duration = Duration::from_millis(300);

/// How long a lease may be over before it counts as lost contact: elections and freezes take less,
/// and subscribers should not be sent away for them.
const CONTACT_GRACE: Duration = Duration::from_secs(2);

/// Why a replica ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener could not be opened.
    #[error(
        "listen on {address} for {who}: {source}; {}",
        listen_hint(source, flag)
    )]
    Listen {
        /// For whom.
        who: &'static str,
        /// The flag that names it.
        flag: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The data could not be opened.
    #[error("open the data directory {}: {why}. {}", dir.display(), why.remedy(dir, name))]
    Open {
        /// The directory.
        dir: PathBuf,
        /// The replica's name.
        name: String,
        /// Why not.
        why: raft::OpenError,
    },
    /// The group could not be formed.
    #[error("form the group: {0}")]
    Form(#[from] raft::FormError),
    /// A listener failed.
    #[error("serve: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// Reflection could not be set up.
    #[error("set up reflection: {0}")]
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

/// Runs a replica until `shutdown` is cancelled or something that it cannot do without has died.
pub async fn run(config: Serve, shutdown: CancellationToken) -> Result<(), Error> {
    end_process_on_panic();
    let client_listener = listen("clients", "client-listen", config.client_listen).await?;
    let peer_listener = listen("peers", "peer-listen", config.peer_listen).await?;
    let channels = Channels::new();
    let opened = Raft::open(raft_options(&config), channels.clone()).await;
    let raft = opened.map_err(|why| Error::Open {
        dir: config.data_dir.clone(),
        name: config.name.clone(),
        why,
    })?;
    tracing::info!(name = raft.name(), replica = %raft.replica_id(), "replica starts");
    let replica = Replica {
        config,
        channels,
        raft: raft.clone(),
        owned: Owned::default(),
        formed: watch::Sender::new(false),
        lease: LeaseClock::default(),
        contact: watch::Sender::new(false),
    };
    let result = Box::pin(replica.run(client_listener, peer_listener, shutdown)).await;
    raft.shutdown().await;
    result
}

/// If a critical task dies, the process dies: a replica that heartbeats with a dead watcher would be
/// the worst of all. The threads that call sled are spared, because sled panics on damaged data and
/// their panics are caught and become errors.
fn end_process_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let caught = std::thread::current()
            .name()
            .is_some_and(raft::catches_panics_of);
        if caught {
            return;
        }
        report(panic);
        std::process::exit(PANICKED);
    }));
}

async fn listen(
    who: &'static str,
    flag: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen {
            who,
            flag,
            address,
            source,
        })
}

fn raft_options(config: &Serve) -> raft::Options {
    let peers = config.peers.iter();
    raft::Options {
        data_dir: config.data_dir.clone(),
        name: config.name.clone(),
        peer_address: config.advertise_peer.clone(),
        client_address: config.advertise_client.clone(),
        peers: peers
            .map(|peer| raft::Peer {
                name: peer.name.clone(),
                address: peer.address.clone(),
            })
            .collect(),
        timing: raft::Timing::default(),
    }
}

/// What a replica of this configuration allows kubeconfigs to do.
pub fn credentials(config: &Serve) -> CredentialPolicy {
    let configured = config.sources.iter().map(|(name, source)| {
        let kubeconfig = InlineKubeconfig {
            yaml: source.kubeconfig.expose().to_owned(),
            context: source.context.clone(),
        };
        (name.clone(), kubeconfig)
    });
    CredentialPolicy {
        kubeconfig_dirs: config.kubeconfig_dirs.clone(),
        configured: configured.collect::<BTreeMap<_, _>>(),
        allow_exec: config.allow_exec.clone(),
        allow_file_references: config.allow_file_references,
    }
}

/// The parts of a running replica.
struct Replica {
    config: Serve,
    channels: Channels,
    raft: Raft,
    owned: Owned,
    /// Whether it is part of the group, with all that was committed when it came.
    formed: watch::Sender<bool>,
    lease: LeaseClock,
    /// Whether a majority of the group is reached. Not so until the first lease: what a replica
    /// reads from its data when it starts may be old.
    contact: watch::Sender<bool>,
}

impl Replica {
    async fn run(
        self,
        client_listener: TcpListener,
        peer_listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        // Listeners outlive the agent: peers and clients are served while its shards move away.
        let close = CancellationToken::new();
        let controller = Controller::start(self.raft.clone());
        let mut listeners = JoinSet::new();
        listeners.spawn(self.serve_peers(peer_listener, controller.clone(), close.clone()));
        listeners.spawn(self.serve_clients(client_listener, close.clone())?);
        let agent_stop = CancellationToken::new();
        let result = tokio::select! {
            worked = self.work(agent_stop.clone(), shutdown.clone()) => worked,
            Some(ended) = listeners.join_next() => Err(listener_error(ended)),
            failure = self.raft.failed() => Err(failure.into()),
            () = look_for_the_dead(&self.raft, &controller) => Ok(()),
            () = Box::pin(self.watch_contact()) => Ok(()),
            supplanted = Box::pin(self.raft.supplanted()) => Err(supplanted.into()),
            () = controller.stopped() => Err(Error::Failed("the controller stopped".into())),
        };
        close.cancel();
        // A leader's stream of entries stays open for as long as they are taken here.
        self.raft.shutdown().await;
        let closed = async { while listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_WITHIN, closed).await.is_err() {
            tracing::debug!("some connections did not close by themselves");
        }
        result
    }

    /// Becomes part of the group, then runs shards until shut down.
    async fn work(
        &self,
        stop: CancellationToken,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        match Box::pin(self.raft.form(shutdown.clone())).await {
            Err(raft::FormError::Cancelled) => return Ok(()),
            formed => formed?,
        }
        tracing::info!(name = self.raft.name(), "replica is part of the group");
        self.formed.send_replace(true);
        let create = create_configured(self.raft.clone(), self.config.clusters.clone());
        let agent = agent::run(self.agent_options(), stop.clone());
        let stopping = async {
            shutdown.cancelled().await;
            tracing::info!("replica stops: handing its shards over");
            hand_leadership_over(&self.raft).await;
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

    /// Follows whether this replica is in contact with a majority of the group: a leader that has
    /// none grants no lease.
    async fn watch_contact(&self) {
        self.lease.wait().await;
        self.contact.send_replace(true);
        loop {
            self.lease.lost_for(CONTACT_GRACE).await;
            self.contact.send_replace(false);
            let reach = self.raft.reach().await;
            tracing::warn!(
                seconds = CONTACT_GRACE.as_secs(),
                "no contact with a majority of the group, nothing is published and no write is \
                 taken: {reach}"
            );
            self.lease.wait().await;
            self.contact.send_replace(true);
            tracing::info!("in contact with a majority of the group again");
        }
    }

    fn agent_options(&self) -> agent::Options {
        agent::Options {
            raft: self.raft.clone(),
            channels: self.channels.clone(),
            lease: self.lease.clone(),
            owned: self.owned.clone(),
            credentials: Arc::new(credentials(&self.config)),
            watch: WatchPolicy::default(),
            ring_bytes: self.config.limits.ring_bytes,
        }
    }

    fn serve_peers(
        &self,
        listener: TcpListener,
        controller: Controller,
        close: CancellationToken,
    ) -> impl Future<Output = Result<(), tonic::transport::Error>> + use<> {
        let peers = Peers::new(
            self.raft.clone(),
            controller,
            self.owned.clone(),
            close.clone(),
        );
        Server::builder()
            .tcp_nodelay(true)
            .max_concurrent_streams(PEER_STREAMS_MAX)
            .initial_connection_window_size(PEER_CONNECTION_WINDOW)
            .initial_stream_window_size(PEER_STREAM_WINDOW)
            .add_service(self.raft.rpc_service())
            .add_service(
                PeerServiceServer::new(peers).max_encoding_message_size(RELAY_MESSAGE_BYTES_MAX),
            )
            .serve_with_incoming_shutdown(peer::incoming(listener), async move {
                close.cancelled().await;
            })
    }

    fn serve_clients(
        &self,
        listener: TcpListener,
        close: CancellationToken,
    ) -> Result<impl Future<Output = Result<(), tonic::transport::Error>> + use<>, Error> {
        let raft = self.raft.clone();
        let sources = PeerSources {
            replica: raft.replica_id(),
            owned: self.owned.clone(),
            channels: self.channels.clone(),
            addresses: Arc::new({
                let raft = raft.clone();
                move |replica| raft.peer_address_of(replica)
            }),
        };
        let limits = self.config.limits;
        let hub = Hub::new(Arc::new(sources), raft.watch_state(), limits.hub_ring_bytes);
        let slow_after = Duration::from_millis(limits.slow_subscriber_ms);
        let contact = self.contact.subscribe();
        let events = Events::new(
            hub,
            raft.clone(),
            slow_after,
            contact.clone(),
            close.clone(),
        );
        let watches = Watches::new(contact.clone(), close.clone(), slow_after);
        let leader = LeaderView::new(raft.clone(), self.channels.clone());
        let (health, health_service) = tonic_health::server::health_reporter();
        let report = Readiness {
            raft: raft.clone(),
            formed: self.formed.subscribe(),
            contact,
            close: close.clone(),
        };
        tokio::spawn(report.run(health));
        let server = Server::builder()
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(health_service)
            .add_service(EventServiceServer::new(events))
            .add_service(ShardServiceServer::new(Shards::new(
                raft.clone(),
                watches.clone(),
            )))
            .add_service(ClusterServiceServer::new(Clusters::new(
                raft.clone(),
                leader.clone(),
                watches.clone(),
            )))
            .add_service(GroupServiceServer::new(Group::new(raft, leader, watches)))
            .serve_with_incoming_shutdown(peer::incoming(listener), async move {
                close.cancelled().await;
            });
        Ok(server)
    }
}

/// A new leader has not heard from any replica yet, and would wait a lease's time for each one that
/// is silent. It looks at once whether anybody listens at their addresses: a replica that refuses
/// connections is dead (or will be heard when it is back).
async fn look_for_the_dead(raft: &Raft, controller: &Controller) {
    let mut leadership = raft.leadership();
    loop {
        let now = *leadership.borrow_and_update();
        if now.is_self {
            controller.followed(now.term).await;
            let state = raft.state();
            let others = state
                .members
                .values()
                .filter(|member| member.id != raft.replica_id());
            let looks = others.map(|member| async move {
                if peer::is_refused(&member.peer_address, REFUSED_WITHIN).await {
                    tracing::info!(name = %member.name, "member refuses connections");
                    controller.mark_dead(member.id);
                }
            });
            futures::future::join_all(looks).await;
        }
        if leadership.changed().await.is_err() {
            // Consensus has stopped, which ends the replica by itself.
            std::future::pending::<()>().await;
        }
    }
}

/// A leader that stops lets another voter lead first, so that its own shards move at once.
async fn hand_leadership_over(raft: &Raft) {
    if !raft.leadership().borrow().is_self {
        return;
    }
    let roles = raft.status().roles;
    let heirs = roles
        .into_iter()
        .filter(|(id, role)| *id != raft.replica_id() && *role == Role::Voter);
    for (heir, _) in heirs {
        let mut leadership = raft.leadership();
        if let Err(error) = raft.transfer_leadership(heir).await {
            tracing::debug!(%heir, %error, "leadership not handed over");
            continue;
        }
        let follows = leadership.wait_for(|now| !now.is_self && now.leader.is_some());
        if tokio::time::timeout(HAND_OVER_WITHIN, follows)
            .await
            .is_ok()
        {
            tracing::info!(%heir, "leadership handed over");
            return;
        }
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

/// Health services that say whether a replica can serve: it is part of a group that has a leader,
/// and in contact with a majority of it.
const READINESS: [&str; 3] = ["", "readiness", "quorumwatch.v1.EventService"];

/// The health service that says only that the process answers. A replica that waits for the others
/// is well: to restart it would help nobody.
const LIVENESS: &str = "liveness";

/// What readiness depends on.
struct Readiness {
    raft: Raft,
    formed: watch::Receiver<bool>,
    contact: watch::Receiver<bool>,
    close: CancellationToken,
}

impl Readiness {
    /// Tells the health service, at every change until the end.
    async fn run(mut self, health: tonic_health::server::HealthReporter) {
        let serving = tonic_health::ServingStatus::Serving;
        health.set_service_status(LIVENESS, serving).await;
        let mut leadership = self.raft.leadership();
        loop {
            let led = leadership.borrow_and_update().leader.is_some();
            let part = *self.formed.borrow_and_update() && *self.contact.borrow_and_update();
            let status = if led && part && !self.close.is_cancelled() {
                serving
            } else {
                tonic_health::ServingStatus::NotServing
            };
            for service in READINESS {
                health.set_service_status(service, status).await;
            }
            if self.close.is_cancelled() {
                return;
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                Ok(()) = self.formed.changed() => {}
                Ok(()) = self.contact.changed() => {}
                () = self.close.cancelled() => {}
            }
        }
    }
}

/// Creates the clusters of the configuration that the group does not have yet.
async fn create_configured(raft: Raft, clusters: Vec<ClusterSpec>) {
    for spec in clusters {
        let name = spec.name.clone();
        if raft.state().cluster_named(&name).is_some() {
            continue;
        }
        loop {
            let command = Command::CreateCluster {
                spec: spec.clone(),
                request_id: None,
                at: unix_now(),
            };
            match raft.submit(command).await.map(|proposed| proposed.outcome) {
                Ok(Outcome::Rejected(Rejection::NameTaken(_))) => {}
                Ok(Outcome::Rejected(rejection)) => {
                    tracing::error!(cluster = %name, error = %rejection, "configured cluster not created");
                }
                Ok(_) => tracing::info!(cluster = %name, "configured cluster created"),
                Err(error) => {
                    tracing::warn!(cluster = %name, %error, "configured cluster not created yet, trying again");
                    continue;
                }
            }
            break;
        }
    }
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
