//! Three replicas in one process, over real connections: they form a group, and outlive each other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use quorumwatch::{
    domain::{
        cluster::{ClusterSpec, Source},
        command::{Command, Outcome, Rejection},
        id::{ReplicaId, Revision, UnixMillis},
        state::State,
    },
    peer::{Channels, incoming},
    proto::internal::v1::{
        Envelope, HeartbeatRequest, HeartbeatResponse, HelloRequest, HelloResponse, JoinRequest,
        JoinResponse, ObserveRequest, ObserveResponse, ProposeRequest, ProposeResponse,
        RelayRequest, RelayResponse, RemoveRequest, RemoveResponse, VoteRequest,
        peer_service_server::{PeerService, PeerServiceServer},
        raft_service_client::RaftServiceClient,
    },
    raft::{FormError, Options, Peer, Place, ProposeError, Raft, Role, Timing, protocol},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};

type Boxed<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Long enough for a loaded machine; every wait ends as soon as what it waits for is there.
const PATIENCE: Duration = Duration::from_secs(20);

struct Peers(Raft);

#[tonic::async_trait]
impl PeerService for Peers {
    type HeartbeatStream = Boxed<HeartbeatResponse>;
    type RelayStream = Boxed<RelayResponse>;

    async fn hello(&self, r: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        Ok(Response::new(self.0.hello(r.get_ref())))
    }

    async fn join(&self, r: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        self.0.serve_join(r.into_inner()).await.map(Response::new)
    }

    async fn propose(
        &self,
        r: Request<ProposeRequest>,
    ) -> Result<Response<ProposeResponse>, Status> {
        self.0
            .serve_propose(r.into_inner())
            .await
            .map(Response::new)
    }

    async fn heartbeat(
        &self,
        _: Request<Streaming<HeartbeatRequest>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn remove(
        &self,
        _request: Request<RemoveRequest>,
    ) -> Result<Response<RemoveResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn observe(
        &self,
        _: Request<ObserveRequest>,
    ) -> Result<Response<ObserveResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn relay(&self, _: Request<RelayRequest>) -> Result<Response<Self::RelayStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

/// A replica that runs.
struct Replica {
    raft: Raft,
    /// A runtime of its own: ending it breaks every connection, as the end of a process does.
    server: Option<Runtime>,
    forming: JoinHandle<Result<(), FormError>>,
}

impl Replica {
    async fn start(dir: &Path, name: &str, peers: &[Peer], timing: Timing) -> Self {
        let address = &peers.iter().find(|peer| peer.name == name).unwrap().address;
        let options = Options {
            data_dir: dir.join(name),
            name: name.into(),
            peer_address: address.clone(),
            client_address: format!("{name}:7000"),
            peers: peers.to_vec(),
            timing,
        };
        let raft = Raft::open(options, Channels::new()).await.unwrap();
        let address: SocketAddr = address.parse().unwrap();
        let server = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let services = (
            raft.rpc_service(),
            PeerServiceServer::new(Peers(raft.clone())),
        );
        server.spawn(async move {
            let listener = bind(address).await;
            Server::builder()
                .add_service(services.0)
                .add_service(services.1)
                .serve_with_incoming(incoming(listener))
                .await
                .unwrap();
        });
        let forming = raft.clone();
        let forming = tokio::spawn(async move { forming.form(CancellationToken::new()).await });
        Self {
            raft,
            server: Some(server),
            forming,
        }
    }

    async fn formed(&mut self) {
        let formed = tokio::time::timeout(PATIENCE, &mut self.forming).await;
        formed.expect("the group does not form").unwrap().unwrap();
    }

    /// As a crash looks to the others: connections break, and new ones are refused.
    async fn stop(mut self) {
        self.forming.abort();
        self.server.take().unwrap().shutdown_background();
        self.raft.shutdown().await;
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Dropping a runtime inside another one panics; this does not wait.
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }
}

/// A port that an earlier replica of this test used may take a moment to be free.
async fn bind(address: SocketAddr) -> TcpListener {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if Instant::now() > deadline => panic!("cannot bind {address}: {error}"),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

struct Group {
    dir: TempDir,
    peers: Vec<Peer>,
    timing: Timing,
    replicas: Vec<(String, Replica)>,
}

impl Group {
    async fn start(count: usize, timing: Timing) -> Self {
        Self::start_named("replica", count, timing).await
    }

    async fn start_named(prefix: &str, count: usize, timing: Timing) -> Self {
        // `RUST_LOG` shows what the replicas say; nothing is shown otherwise.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        drop(tracing_subscriber::fmt().with_env_filter(filter).try_init());
        let mut group = Self {
            dir: TempDir::new().unwrap(),
            peers: Vec::new(),
            timing,
            replicas: Vec::new(),
        };
        let mut held = Vec::new();
        for index in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            group.peers.push(Peer {
                name: format!("{prefix}-{index}"),
                address: listener.local_addr().unwrap().to_string(),
            });
            held.push(listener);
        }
        drop(held);
        for peer in group.peers.clone() {
            group.run(&peer.name).await;
        }
        group.formed().await;
        group
    }

    async fn run(&mut self, name: &str) {
        let replica = Replica::start(self.dir.path(), name, &self.peers, self.timing.clone()).await;
        self.replicas.push((name.to_owned(), replica));
    }

    async fn formed(&mut self) {
        for (_, replica) in &mut self.replicas {
            if !replica.forming.is_finished() || replica.raft.state().group.is_none() {
                replica.formed().await;
            }
        }
    }

    fn raft(&self, index: usize) -> &Raft {
        &self.replicas[index].1.raft
    }

    async fn stop(&mut self, name: &str) {
        let index = self.replicas.iter().position(|(n, _)| n == name).unwrap();
        self.replicas.remove(index).1.stop().await;
    }

    fn leader(&self) -> Option<&Raft> {
        let mut rafts = self.replicas.iter().map(|(_, replica)| &replica.raft);
        rafts.find(|raft| raft.leadership().borrow().is_self)
    }

    async fn wait_for_leader(&self) -> String {
        eventually("a leader", || self.leader().is_some()).await;
        self.leader().unwrap().name().to_owned()
    }

    /// Every replica has applied what the first to be asked has.
    async fn same_state(&self) -> Arc<State> {
        let newest = self
            .replicas
            .iter()
            .map(|(_, r)| r.raft.state().revision)
            .max();
        eventually("one state everywhere", || {
            let states: Vec<_> = self.replicas.iter().map(|(_, r)| r.raft.state()).collect();
            states
                .iter()
                .all(|s| Some(s.revision) >= newest && *s == states[0])
        })
        .await;
        self.raft(0).state()
    }
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "still waiting for {what}");
        // poll: whatever the caller waits for
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn create(name: &str) -> Command {
    Command::CreateCluster {
        spec: ClusterSpec {
            name: name.into(),
            labels: [].into(),
            source: Source::InCluster,
            resources: Vec::new(),
            paused: false,
            description: String::new(),
            duplicate_of: String::new(),
        },
        request_id: None,
        at: UnixMillis(1),
    }
}

async fn create_through(raft: &Raft, name: &str) -> Revision {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match raft.submit(create(name)).await {
            Ok(proposed) => match proposed.outcome {
                // The name is taken by an earlier try whose outcome was unknown.
                Outcome::Cluster(_) | Outcome::Rejected(Rejection::NameTaken(_)) => {
                    return proposed.revision;
                }
                other => panic!("{other:?}"),
            },
            Err(ProposeError::Unknown(_)) if Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_forms_outlives_its_leader_and_restarts_whole() {
    let mut group = Group::start(3, Timing::default()).await;
    let state = group.same_state().await;
    assert!(state.group.is_some());
    assert_eq!(state.members.len(), 3);
    let status = group.raft(0).status();
    assert!(status.roles.values().all(|role| *role == Role::Voter));
    assert_eq!(status.roles.len(), 3);

    for index in 0..3 {
        let name = format!("through-{index}");
        let raft = group.raft(index);
        let revision = create_through(raft, &name).await;
        assert!(raft.wait_applied(revision, PATIENCE).await);
        assert!(raft.state().cluster_named(&name).is_some());
    }
    let leader = group.wait_for_leader().await;
    assert!(group.leader().unwrap().quorum_ack_age().unwrap() < Duration::from_secs(1));

    group.stop(&leader).await;
    let stopped = Instant::now();
    create_through(group.raft(0), "after-the-leader").await;
    let took = stopped.elapsed();
    assert!(took < Duration::from_secs(2), "a new leader took {took:?}");

    group.run(&leader).await;
    group.formed().await;
    create_through(group.raft(2), "through-the-restarted").await;
    let before = group.same_state().await;
    assert_eq!(before.clusters.len(), 5);

    let names: Vec<String> = group
        .replicas
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    for name in &names {
        group.stop(name).await;
    }
    for name in &names {
        group.run(name).await;
    }
    group.formed().await;
    let after = group.same_state().await;
    assert_eq!(after.clusters, before.clusters);
    assert_eq!(after.streams, before.streams);
    assert_eq!(after.group, before.group);
    let ids = |state: &State| state.members.keys().copied().collect::<Vec<ReplicaId>>();
    assert_eq!(ids(&after), ids(&before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_missed_a_snapshot_catches_up_and_watchers_notice() {
    let timing = Timing {
        snapshot_entries: 50,
        kept_entries: 10,
        ..Timing::default()
    };
    let mut group = Group::start(3, timing).await;
    let changes = group.raft(0).shard_changes();
    let mut newest = changes.watch();
    let begin = Place::end_of(Revision(0));
    let nothing = changes.since(begin, 1);
    assert!(nothing.expect("nothing is forgotten").is_empty());
    newest.mark_unchanged();
    create_through(group.raft(0), "first").await;
    newest.changed().await.unwrap();
    let first = changes.since(begin, 1).unwrap();
    assert_eq!(first[0].change.cluster, "first");

    let leader = group.wait_for_leader().await;
    let names: Vec<String> = group
        .replicas
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    let follower = names.iter().find(|name| **name != leader).unwrap();
    group.stop(follower).await;
    // Far more than is kept in the log, so that only a snapshot can help.
    let leader = group.leader().unwrap().clone();
    for wave in 0..8 {
        let mut writes = tokio::task::JoinSet::new();
        for index in 0..50 {
            let leader = leader.clone();
            writes
                .spawn(async move { create_through(&leader, &format!("c-{wave}-{index}")).await });
        }
        while let Some(written) = writes.join_next().await {
            written.unwrap();
        }
    }
    group.run(follower).await;
    group.formed().await;
    assert_eq!(group.same_state().await.clusters.len(), 401);
    let caught_up = &group.replicas.last().unwrap().1.raft;
    let changes = caught_up.shard_changes();
    let place = Place::end_of(Revision(1));
    assert!(changes.since(place, 1).is_none(), "nothing is forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_alone_founds_and_others_join_it() {
    let mut group = Group::start(1, Timing::default()).await;
    create_through(group.raft(0), "alone").await;
    // It is its own majority: without that, it would grant itself no lease.
    let confirmed = group.raft(0).quorum_ack_age();
    assert_eq!(confirmed, Some(Duration::ZERO));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    group.peers.push(Peer {
        name: "replica-1".into(),
        address: listener.local_addr().unwrap().to_string(),
    });
    drop(listener);
    group.run("replica-1").await;
    group.formed().await;
    let state = group.same_state().await;
    assert_eq!(state.members.len(), 2);
    let id = group.raft(1).replica_id();
    assert_eq!(group.raft(0).status().roles.get(&id), Some(&Role::Voter));

    let leader = group.leader().unwrap();
    assert_eq!(leader.name(), "replica-0");
    leader.transfer_leadership(id).await.unwrap();
    eventually("the other to lead", || {
        group.raft(1).leadership().borrow().is_self
    })
    .await;
    create_through(group.raft(0), "through-the-other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raft_call_for_somebody_else_is_refused() {
    let group = Group::start(1, Timing::default()).await;
    let id = group.raft(0).replica_id().0;
    let channel = Channels::new().channel(&group.peers[0].address).unwrap();
    let mut client = RaftServiceClient::new(channel);
    let foreign = vec![9; 16];
    for (from, to, group_id, reason) in [
        (1, id + 1, vec![], "the call is for replica"),
        (id, id, vec![], "from this replica itself"),
        (1, id, foreign, "from another group"),
    ] {
        let envelope = Envelope {
            from,
            to,
            group_id: group_id.into(),
            protocol: protocol::PROTOCOL,
            version: protocol::VERSION.into(),
        };
        let request = VoteRequest {
            envelope: Some(envelope),
            ..VoteRequest::default()
        };
        let status = client.vote(request).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains(reason), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_name_or_group_ends_the_start() {
    let first = Group::start(1, Timing::default()).await;
    let mut second = Group::start_named("other", 1, Timing::default()).await;
    let theirs = first.peers[0].address.clone();
    let start = async |name: &str, dir: PathBuf, own: &str| {
        let options = Options {
            data_dir: dir,
            name: own.into(),
            peer_address: "127.0.0.1:1".into(),
            client_address: "127.0.0.1:2".into(),
            peers: vec![
                Peer {
                    name: own.into(),
                    address: "127.0.0.1:1".into(),
                },
                Peer {
                    name: name.into(),
                    address: theirs.clone(),
                },
            ],
            timing: Timing::default(),
        };
        let raft = Raft::open(options, Channels::new()).await.unwrap();
        let formed = raft.form(CancellationToken::new()).await;
        raft.shutdown().await;
        formed.unwrap_err()
    };
    let empty = TempDir::new().unwrap();
    let error = start("replica-9", empty.path().into(), "replica-8").await;
    assert!(matches!(error, FormError::AnotherReplica { .. }), "{error}");

    second.stop("other-0").await;
    let error = start("replica-0", second.dir.path().join("other-0"), "other-0").await;
    assert!(matches!(error, FormError::AnotherGroup { .. }), "{error}");
}
