//! What goes wrong with those who should not be there: other versions, other processes with the same
//! name or data, other things at a peer's address, other ideas of who belongs to the group.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quorumwatch::proto::internal::v1::{
    Envelope, HeartbeatRequest, HelloRequest, HelloResponse, JoinRequest, JoinResponse,
    VoteRequest,
    leader_service_client::LeaderServiceClient,
    membership_service_client::MembershipServiceClient,
    membership_service_server::{MembershipService, MembershipServiceServer},
    raft_service_client::RaftServiceClient,
};
use quorumwatch::raft::protocol::PROTOCOL;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Server},
};

use crate::harness::{
    ApiServer, Group, Options, PATIENCE, Replica, copy_folder, empty_cluster, eventually,
    free_ports, holds,
};

/// How long a replica may take to see that it does not belong, and to end.
const REFUSAL: Duration = Duration::from_secs(20);

/// A protocol that this version does not understand, and what speaks it.
const FOREIGN: (u32, &str) = (99, "9.9.9");

/// What is said of it.
const FOREIGN_IS: &str = "runs version 9.9.9 and speaks protocol 99, this replica runs version";

/// A replica of another version, as far as another one asks it anything at its start.
struct Foreigner;

#[tonic::async_trait]
impl MembershipService for Foreigner {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        Ok(Response::new(HelloResponse {
            name: "b".into(),
            replica_id: 7,
            protocol: FOREIGN.0,
            version: FOREIGN.1.into(),
            ..HelloResponse::default()
        }))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_version_ends_the_start_and_both_versions_are_named() {
    let mut group = Group::prepare(1, &Options::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let foreign = listener.local_addr().unwrap();
    let server = Server::builder().add_service(MembershipServiceServer::new(Foreigner));
    let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
    let _serving = AbortOnDropHandle::new(tokio::spawn(serving));
    let peers = format!("{},b={foreign}", group.peers());
    group.replicas[0].launch(&peers);
    let exit = group.replicas[0].exit(REFUSAL).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    let says = format!("b at {foreign} {FOREIGN_IS}");
    assert!(exit.log.contains(&says), "{}", exit.log);
    eprintln!("{}", exit.log.lines().last().unwrap_or_default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_refuses_every_kind_of_call_of_another_version() {
    let group = Group::start(1).await;
    let address = format!("http://127.0.0.1:{}", group.replicas[0].peer_port);
    let mut peer = MembershipServiceClient::connect(address.clone())
        .await
        .unwrap();
    let mut leader = LeaderServiceClient::connect(address.clone()).await.unwrap();
    let (protocol, version) = (FOREIGN.0, FOREIGN.1.to_owned());
    let hello = HelloRequest {
        name: "z".into(),
        expected_name: "a".into(),
        protocol,
        version: version.clone(),
        ..HelloRequest::default()
    };
    let answer = peer.hello(hello.clone()).await.unwrap().into_inner();
    assert!(answer.protocol != protocol && !answer.version.is_empty());
    peer.hello(hello).await.unwrap();
    let join = JoinRequest {
        name: "z".into(),
        protocol,
        version: version.clone(),
        ..JoinRequest::default()
    };
    let envelope = Envelope {
        from: 7,
        to: answer.replica_id,
        protocol,
        version: version.clone(),
        ..Envelope::default()
    };
    let vote = VoteRequest {
        envelope: Some(envelope),
        ..VoteRequest::default()
    };
    let beat = HeartbeatRequest {
        replica_id: answer.replica_id,
        protocol,
        version,
        ..HeartbeatRequest::default()
    };
    let beats = tokio_stream::iter([beat]);
    let mut raft = RaftServiceClient::connect(address).await.unwrap();
    let refusals = [
        peer.join(join).await.unwrap_err(),
        raft.vote(vote).await.unwrap_err(),
        leader
            .heartbeat(beats)
            .await
            .unwrap()
            .into_inner()
            .message()
            .await
            .unwrap_err(),
    ];
    for status in refusals {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains(FOREIGN_IS), "{status}");
    }
    let log = group.replicas[0].log();
    let says = "peer runs an incompatible version";
    let lines: Vec<_> = log.lines().filter(|line| line.contains(says)).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(FOREIGN_IS), "{lines:?}");
}

/// Sends a dead member's heartbeats in its place, with a clock that is ahead, until dropped.
async fn ghost(
    address: String,
    replica_id: u64,
    ahead: Duration,
    version: &'static str,
) -> AbortOnDropHandle<()> {
    let peer = LeaderServiceClient::connect(address).await.unwrap();
    AbortOnDropHandle::new(tokio::spawn(async move {
        // A leader that grants no leases at the moment ends the exchange; then it begins again.
        loop {
            haunt(peer.clone(), replica_id, ahead, version).await;
        }
    }))
}

/// One exchange of heartbeats, until the leader ends it.
async fn haunt(
    mut peer: LeaderServiceClient<Channel>,
    replica_id: u64,
    ahead: Duration,
    version: &'static str,
) {
    let (beats, queue) = mpsc::channel(1);
    let sending = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        for sequence in 1.. {
            tick.tick().await;
            let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead;
            let beat = HeartbeatRequest {
                replica_id,
                incarnation: u64::MAX,
                sequence,
                protocol: PROTOCOL,
                version: version.into(),
                clock_ms: u64::try_from(clock.as_millis()).unwrap(),
                ..HeartbeatRequest::default()
            };
            if beats.send(beat).await.is_err() {
                return;
            }
        }
    };
    let answers = async {
        if let Ok(grants) = peer.heartbeat(ReceiverStream::new(queue)).await {
            let mut grants = grants.into_inner();
            while let Ok(Some(_)) = grants.message().await {}
        }
    };
    tokio::select! {
        () = sending => {}
        () = answers => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_and_another_version_are_shown() {
    let group = Group::start(2).await;
    let leader = group.leader().await;
    let ghost_name = group.replicas[1 - leader].name.clone();
    let leader_name = group.replicas[leader].name.clone();
    let address = format!("http://127.0.0.1:{}", group.replicas[leader].peer_port);
    let client = group.replicas[leader].client();
    let members = client.group().await.unwrap().members;
    let member = members.iter().find(|member| member.name == ghost_name);
    let id = member.unwrap().replica_id.parse().unwrap();
    // It goes on as a voter: only its heartbeats to the leader are sent by another process as well.
    let hour = Duration::from_secs(3600);
    let _ghost = ghost(address, id, hour, "0.0.9").await;
    let (told, _) = eventually("both clocks are known", PATIENCE, async || {
        let told = client.group().await.ok()?;
        let known = told
            .members
            .iter()
            .filter(|member| member.clock_offset.is_some());
        (known.count() == 2).then_some(told)
    })
    .await;
    let of = |name: &str| {
        let member = told
            .members
            .iter()
            .find(|member| member.name == name)
            .unwrap();
        (
            member.clock_offset.unwrap().seconds,
            member.version.as_str(),
        )
    };
    let (own, ghost) = (of(&leader_name), of(&ghost_name));
    assert_eq!(own.0, 0, "{own:?}");
    assert_eq!(own.1, env!("CARGO_PKG_VERSION"));
    assert!((3_590..3_610).contains(&ghost.0), "{ghost:?}");
    assert_eq!(ghost.1, "0.0.9");
    let log = group.replicas[leader].log();
    let says = "this replica's clock differs from the leader's";
    let lines: Vec<_> = log.lines().filter(|line| line.contains(says)).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains(" WARN ") && lines[0].contains(&format!("name={ghost_name:?}")),
        "{lines:?}"
    );
    assert!(lines[0].contains("ahead_ms=3"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_at_a_peers_address_is_distinguished() {
    let mut group = Group::prepare(2, &Options::default()).await;
    let alone = group.replicas[1].peer_flag();
    group.replicas[1].launch(&alone);
    let web = ApiServer::start(empty_cluster, None).await;
    let [closed] = free_ports();
    let client_port = group.replicas[1].client_port;
    let peers = format!(
        "{},b=127.0.0.1:{client_port},c=127.0.0.1:{},d=127.0.0.1:{closed}",
        group.replicas[0].peer_flag(),
        web.port
    );
    let client = group.replicas[1].client();
    let up = async || {
        client
            .group()
            .await
            .is_ok_and(|told| !told.leader.is_empty())
    };
    holds("the other group is up", PATIENCE, up).await;
    group.replicas[0].launch(&peers);
    let says = [
        format!("b at 127.0.0.1:{client_port}: the endpoint is not a peer listener"),
        format!(
            "c at 127.0.0.1:{}: the endpoint is not a quorumwatch replica",
            web.port
        ),
        format!("d at 127.0.0.1:{closed}: Connection refused"),
    ];
    let waiting = "waiting for peers before bootstrapping the group";
    let said = async || {
        let log = group.replicas[0].log();
        let mut lines = log.lines().filter(|line| line.contains(waiting));
        lines.any(|line| says.iter().all(|text| line.contains(text)))
    };
    holds("it says what is wrong with each", PATIENCE, said).await;
    let log = group.replicas[0].log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(waiting)).collect();
    eprintln!("{}", lines.last().unwrap());
    assert!(lines.len() <= 3, "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_of_the_same_name_is_refused_and_the_first_is_undisturbed() {
    let mut group = Group::start(3).await;
    let before = group.client().group().await.unwrap();
    let peers = group.peers();
    let mut second = Replica::new("a", &group.replicas[0].folder.join("second"), "");
    second.launch(&peers);
    let exit = second.exit(REFUSAL).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    let last = exit.log.lines().last().unwrap_or_default();
    eprintln!("{last}");
    let place = format!(
        "the address that this replica advertises, 127.0.0.1:{},",
        group.replicas[0].peer_port
    );
    assert!(
        last.contains(&place) && last.contains("two replicas have the same name"),
        "{last}"
    );
    // With addresses of its own it comes further, and is refused by the group.
    let peers = format!("{},{}", second.peer_flag(), group.replicas[1].peer_flag());
    second.launch(&peers);
    let exit = second.exit(REFUSAL).await;
    let last = exit.log.lines().last().unwrap_or_default();
    eprintln!("{last}");
    assert!(
        last.contains("two replicas have the same name, or this one lost its data"),
        "{last}"
    );
    assert!(
        last.contains("start this one with another --name"),
        "{last}"
    );
    group.whole().await;
    let after = group.client().group().await.unwrap();
    for (member, before) in after.members.iter().zip(&before.members) {
        assert_eq!(
            (&member.replica_id, &member.start_time),
            (&before.replica_id, &before.start_time)
        );
        assert_eq!(member.peer_address, before.peer_address);
    }
    assert_eq!(after.members.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_with_one_identity_only_one_goes_on() {
    let mut group = Group::start(3).await;
    let victim = (group.leader().await + 1) % 3;
    let name = group.replicas[victim].name.clone();
    group.replicas[victim].kill();
    let mut second = Replica::new(&name, &group.replicas[victim].folder.join("second"), "");
    copy_folder(&group.replicas[victim].data_dir(), &second.data_dir());
    group.launch(victim);
    group.whole().await;

    // It answers at another address, so that only the data shows it.
    let others = (0..3).filter(|index| *index != victim);
    let others: Vec<_> = others
        .map(|index| group.replicas[index].peer_flag())
        .collect();
    let peers = format!("{},{}", second.peer_flag(), others.join(","));
    second.launch(&peers);
    let exit = second.exit(REFUSAL).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    let last = exit.log.lines().last().unwrap_or_default();
    eprintln!("{last}");
    let place = format!(
        "another process at 127.0.0.1:{} runs",
        group.replicas[victim].peer_port
    );
    assert!(
        last.contains(&place) && last.contains("with the same data"),
        "{last}"
    );
    group.whole().await;

    // While the first one is frozen it cannot be asked, but the leader knows what it has stored.
    group.replicas[victim].freeze();
    second.launch(&peers);
    let exit = second.exit(REFUSAL).await;
    let last = exit.log.lines().last().unwrap_or_default();
    eprintln!("{last}");
    assert!(
        last.contains("the data is older than what this replica has acknowledged"),
        "{last}"
    );

    // A copy that lacks nothing takes its place; so the first one ends when it wakes.
    fs::remove_dir_all(second.data_dir()).unwrap();
    copy_folder(&group.replicas[victim].data_dir(), &second.data_dir());
    second.launch(&peers);
    let client = group.client_besides(victim);
    let address = format!("127.0.0.1:{}", second.peer_port);
    let taken = async || {
        let told = client.group().await.unwrap();
        told.members
            .iter()
            .any(|member| member.peer_address == address)
    };
    holds("the second one has registered", PATIENCE, taken).await;
    group.replicas[victim].thaw();
    let exit = group.replicas[victim].exit(REFUSAL).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    let last = exit.log.lines().last().unwrap_or_default();
    eprintln!("{last}");
    let says = format!("another process has registered as replica {name:?}, at {address}");
    assert!(last.contains(&says), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_were_given_different_peers_found_nothing() {
    let mut group = Group::prepare(3, &Options::default()).await;
    let all = group.peers();
    let two = [0, 1]
        .map(|index| group.replicas[index].peer_flag())
        .join(",");
    group.replicas[0].launch(&two);
    group.replicas[1].launch(&all);
    let says = "the group was not bootstrapped: replicas have different `peers`";
    let said = async || {
        let log = group.replicas[0].log();
        let mut lines = log.lines();
        lines.any(|line| line.contains(says) && line.contains("b names a, b, c"))
    };
    holds("it says who names whom", PATIENCE, said).await;
    let told = group.replicas[0].client().group().await.unwrap();
    assert!(
        told.group_id.is_empty() && told.problem.contains("not formed yet"),
        "{told:?}"
    );
    // As it advises.
    let exit = group.replicas[0].terminate(PATIENCE).await;
    assert!(exit.status.success(), "{}", exit.log);
    group.launch(0);
    group.launch(2);
    group.whole().await;
}
