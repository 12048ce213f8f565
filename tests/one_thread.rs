//! A group of three on one thread, whose clock jumps to the next time that anybody waits for: nothing
//! rests on real time, on sockets, on files or on threads of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod pipes;

use std::{collections::BTreeMap, net::SocketAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use pipes::Pipes;
use quorumwatch::{
    blocking::InTurn,
    domain::{
        cluster::{ClusterSpec, Source},
        command::{Command, Outcome},
        id::UnixMillis,
    },
    group::{Group, MembershipServer, Options, Peer},
    net::{Channels, Network as _},
    proto::internal::v1::membership_service_server::MembershipServiceServer,
    raft::{Raft, Timing, storage::InMemory},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// Of simulated time: enough for some elections.
const FORMS_WITHIN: Duration = Duration::from_secs(30);

/// How long a disk takes to make something durable.
const LATENCY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(5);

fn create(name: &str) -> Command {
    Command::CreateCluster {
        spec: ClusterSpec {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            source: Source::InCluster,
            resources: Vec::new(),
            paused: false,
            description: String::new(),
            duplicate_of: String::new(),
        },
        request_id: None,
        at: UnixMillis(0),
    }
}

/// Opens a replica, lets the others in, and begins to form the group.
async fn start(network: &Pipes, disk: InMemory, peer: &Peer, peers: &[Peer]) -> Group {
    let options = Options {
        data_dir: peer.name.clone().into(),
        name: peer.name.clone(),
        peer_address: peer.address.clone(),
        client_address: format!("{}:7000", peer.name),
        peers: peers.to_vec(),
        timing: Timing::default(),
        disk: Arc::new(disk),
        blocking: Arc::new(InTurn),
    };
    let channels = Channels::new(Arc::new(network.clone()));
    let group = Group::open(options, channels).await.unwrap();
    let address: SocketAddr = peer.address.parse().unwrap();
    let listener = network.bind(address).await.unwrap();
    let membership = MembershipServiceServer::new(MembershipServer(group.clone()));
    let serving = Server::builder()
        .add_service(group.raft().rpc_service())
        .add_service(membership)
        .serve_with_incoming(listener);
    tokio::spawn(serving);
    group
}

async fn has_cluster(raft: &Raft, name: &str) {
    let mut state = raft.watch_state();
    let known = state.wait_for(|state| state.cluster_named(name).is_some());
    known.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_group_of_three_forms_and_commits_while_real_time_stands_still() {
    let network = Pipes::default();
    let peers: Vec<Peer> = (0..3)
        .map(|index| Peer {
            name: format!("replica-{index}"),
            address: format!("192.0.2.{index}:7401"),
        })
        .collect();
    let mut groups = Vec::new();
    for (seed, peer) in (0..).zip(&peers) {
        let disk = InMemory::new(seed).with_latency(LATENCY);
        groups.push(start(&network, disk, peer, &peers).await);
    }
    let forming = groups
        .iter()
        .map(|group| group.form(CancellationToken::new()));
    let formed = timeout(FORMS_WITHIN, futures::future::try_join_all(forming));
    formed.await.unwrap().unwrap();

    let committed = timeout(FORMS_WITHIN, groups[1].raft().submit(create("first")));
    let outcome = committed.await.unwrap().unwrap().outcome;
    assert!(matches!(outcome, Outcome::Cluster(_)), "{outcome:?}");
    for group in &groups {
        let known = timeout(FORMS_WITHIN, has_cluster(group.raft(), "first"));
        known.await.unwrap();
    }
    for group in &groups {
        group.raft().shutdown().await;
    }
}
