//! Three replicas in one process, over real connections: they form a group, and outlive each other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod pipes;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use pipes::Pipes;
use quorumwatch::{
    blocking::Threads,
    changes::Place,
    domain::{
        assignment::MoveReason,
        cluster::{ClusterSpec, Source},
        command::{BeginEra, CheckpointEntry, Command, Move, Outcome, Rejection},
        event::GapReason,
        id::{Epoch, ReplicaId, Revision, StreamId, UnixMillis},
        position::Position,
        state::State,
    },
    group::{self, FormError, MembershipServer, Options, Peer},
    net::{Channels, Listener, Network, Tcp},
    proto::internal::v1::{
        Envelope, VoteRequest, membership_service_server::MembershipServiceServer,
        raft_service_client::RaftServiceClient,
    },
    raft::{Files, ProposeError, Raft, Role, Timing, protocol},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Server};

/// Long enough for a loaded machine; every wait ends as soon as what it waits for is there.
const PATIENCE: Duration = Duration::from_secs(20);

/// A replica that runs.
struct Replica {
    group: group::Group,
    raft: Raft,
    /// A runtime of its own: ending it breaks every connection, as the end of a process does.
    server: Option<Runtime>,
    forming: JoinHandle<Result<(), FormError>>,
}

impl Replica {
    async fn start(
        network: &Arc<dyn Network>,
        dir: &Path,
        name: &str,
        peers: &[Peer],
        timing: Timing,
    ) -> Self {
        let address = &peers.iter().find(|peer| peer.name == name).unwrap().address;
        let options = Options {
            data_dir: dir.join(name),
            name: name.into(),
            peer_address: address.clone(),
            client_address: format!("{name}:7000"),
            peers: peers.to_vec(),
            timing,
            disk: Arc::new(Files),
            blocking: Arc::new(Threads),
        };
        let channels = Channels::new(Arc::clone(network));
        let group = group::Group::open(options, channels).await.unwrap();
        let raft = group.raft().clone();
        let address: SocketAddr = address.parse().unwrap();
        let server = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let services = (
            raft.rpc_service(),
            MembershipServiceServer::new(MembershipServer(group.clone())),
        );
        let network = Arc::clone(network);
        server.spawn(async move {
            let listener = bind(&*network, address).await;
            Server::builder()
                .add_service(services.0)
                .add_service(services.1)
                .serve_with_incoming(listener)
                .await
                .unwrap();
        });
        let forming = group.clone();
        let forming = tokio::spawn(async move { forming.form(CancellationToken::new()).await });
        Self {
            group,
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
async fn bind(network: &dyn Network, address: SocketAddr) -> Listener {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match network.bind(address).await {
            Ok(listener) => return listener,
            Err(error) if Instant::now() > deadline => panic!("cannot bind {address}: {error}"),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

struct Group {
    network: Arc<dyn Network>,
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
        let mut held = Vec::new();
        for _ in 0..count {
            held.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let address = |(index, listener): (usize, &TcpListener)| Peer {
            name: format!("{prefix}-{index}"),
            address: listener.local_addr().unwrap().to_string(),
        };
        let peers = held.iter().enumerate().map(address).collect();
        drop(held);
        Self::start_over(Arc::new(Tcp), peers, timing).await
    }

    async fn start_over(network: Arc<dyn Network>, peers: Vec<Peer>, timing: Timing) -> Self {
        let mut group = Self {
            network,
            dir: TempDir::new().unwrap(),
            peers,
            timing,
            replicas: Vec::new(),
        };
        for peer in group.peers.clone() {
            group.run(&peer.name).await;
        }
        group.formed().await;
        group
    }

    async fn run(&mut self, name: &str) {
        let (dir, timing) = (self.dir.path(), self.timing.clone());
        let replica = Replica::start(&self.network, dir, name, &self.peers, timing).await;
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

/// A cluster with one stream that a replica owns and has reached, and the stream's beginning.
async fn watched_stream(raft: &Raft) -> (StreamId, Position) {
    create_through(raft, "watched").await;
    let shard = *raft.state().assignments.keys().next().unwrap();
    let step = Move {
        shard,
        epoch: Epoch(0),
        to: Some(raft.replica_id()),
        reason: MoveReason::Placed,
    };
    let (moves, at) = (vec![step], UnixMillis(1));
    raft.submit(Command::Assign { moves, at }).await.unwrap();
    let state = raft.state();
    let stream = state.streams.values().next().unwrap().id;
    let begin = BeginEra {
        stream,
        epoch: Epoch(1),
        run: state.run_revision(shard).unwrap(),
        expected_era: None,
        from: None,
        reason: GapReason::StreamCreated,
        to: 10u64.into(),
        repaired: false,
        cluster_uid: "uid".into(),
        at,
    };
    raft.submit(Command::BeginEra(begin)).await.unwrap();
    let checkpoint = raft.state().streams[&stream].checkpoint.clone();
    (stream, checkpoint.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_for_owners_are_not_woken_by_checkpoints_and_read_them_all_the_same() {
    let group = Group::start(1, Timing::default()).await;
    let raft = group.raft(0);
    let (stream, beginning) = watched_stream(raft).await;
    let mut topology = raft.watch_topology();
    let mut states = raft.watch_state();
    topology.mark_unchanged();
    states.mark_unchanged();
    let position = Position::closed(beginning.era, 20u64.into());
    let entries = vec![CheckpointEntry {
        stream,
        epoch: Epoch(1),
        position: position.clone(),
    }];
    raft.submit(Command::AdvanceCheckpoints { entries })
        .await
        .unwrap();
    assert!(states.has_changed().unwrap());
    assert!(!topology.has_changed().unwrap());
    let read = topology.borrow().streams[&stream].checkpoint.clone();
    assert_eq!(read, Some(position));
    create_through(raft, "another").await;
    assert!(topology.has_changed().unwrap());
    assert!(topology.borrow().cluster_named("another").is_some());
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
async fn a_group_lives_on_a_network_within_one_process() {
    let peers = (0..3).map(|index| Peer {
        name: format!("replica-{index}"),
        // Nothing listens there, and nothing of this machine is asked.
        address: format!("192.0.2.{index}:7401"),
    });
    let network: Arc<dyn Network> = Arc::new(Pipes::default());
    let mut group = Group::start_over(network, peers.collect(), Timing::default()).await;
    create_through(group.raft(1), "first").await;
    let leader = group.wait_for_leader().await;
    group.stop(&leader).await;
    create_through(group.raft(0), "after-the-leader").await;
    group.run(&leader).await;
    group.formed().await;
    assert_eq!(group.same_state().await.clusters.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_missed_a_snapshot_catches_up_and_watchers_notice() {
    let timing = Timing {
        snapshot_entries: 50,
        kept_entries: 10,
        ..Timing::default()
    };
    let mut group = Group::start(3, timing).await;
    let changes = Arc::clone(&group.raft(0).changes().shards);
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
    let leader = group.leader().unwrap().clone();
    let missed_from = leader.state().revision;
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
    // What an attempt to reach the follower may read stays in the log until that has failed.
    eventually("a log from which only a snapshot helps", || {
        leader.status().purged > missed_from
    })
    .await;
    group.run(follower).await;
    group.formed().await;
    assert_eq!(group.same_state().await.clusters.len(), 401);
    let caught_up = &group.replicas.last().unwrap().1.raft;
    let changes = &caught_up.changes().shards;
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
async fn a_replica_that_is_removed_while_it_runs_notices() {
    let group = Group::start(3, Timing::default()).await;
    group.wait_for_leader().await;
    let (_, leader) = (group.replicas.iter())
        .find(|(_, replica)| replica.raft.leadership().borrow().is_self)
        .unwrap();
    let (name, removed) = (group.replicas.iter())
        .find(|(_, replica)| replica.raft.replica_id() != leader.raft.replica_id())
        .unwrap();
    let excluded = removed.group.excluded();
    // As of one that was cut off for long: the leader thinks nothing of it.
    let id = removed.raft.replica_id();
    leader.group.remove(id, None).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, excluded).await.unwrap();
    assert!(
        matches!(&error, FormError::Removed { name: own, .. } if own == name),
        "{error}"
    );
    let refused = removed.raft.submit(create("by-the-removed")).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raft_call_for_somebody_else_is_refused() {
    let group = Group::start(1, Timing::default()).await;
    let id = group.raft(0).replica_id().0;
    let channel = Channels::new(Arc::new(Tcp))
        .channel(&group.peers[0].address)
        .unwrap();
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
            disk: Arc::new(Files),
            blocking: Arc::new(Threads),
        };
        let group = group::Group::open(options, Channels::new(Arc::new(Tcp)))
            .await
            .unwrap();
        let formed = group.form(CancellationToken::new()).await;
        group.raft().shutdown().await;
        formed.unwrap_err()
    };
    let empty = TempDir::new().unwrap();
    let error = start("replica-9", empty.path().into(), "replica-8").await;
    assert!(matches!(error, FormError::AnotherReplica { .. }), "{error}");

    second.stop("other-0").await;
    let error = start("replica-0", second.dir.path().join("other-0"), "other-0").await;
    assert!(matches!(error, FormError::AnotherGroup { .. }), "{error}");
}
