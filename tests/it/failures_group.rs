//! What goes wrong between replicas that belong together: no quorum, no leader, a clock that is
//! off, a member that must not come back.

use std::time::Duration;

use quorumwatch::proto::v1::{SubscribeRequest, SubscribeResponse};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{Group, PATIENCE, Replica, World, WorldOptions, eventually, holds};

/// How long a replica may take to see that it does not belong, and to end.
const REFUSAL: Duration = Duration::from_secs(20);

async fn is_serving(replica: &Replica) -> bool {
    let address = format!("http://127.0.0.1:{}", replica.client_port);
    let endpoint = tonic::transport::Endpoint::from_shared(address).unwrap();
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    let answer = client.check(HealthCheckRequest::default()).await.unwrap();
    answer.into_inner().status() == ServingStatus::Serving
}

/// Why a stream ends.
async fn end_of(stream: &mut Streaming<SubscribeResponse>) -> Status {
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a word"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_reads_answer_and_the_rest_says_who_is_missing() {
    let mut world = World::start_with(WorldOptions {
        clusters: 2,
        ..WorldOptions::default()
    })
    .await;
    let leader = world.group.leader().await;
    let recorder = world.subscriber(leader).await;
    world.begin(50.0);
    world.flows(&recorder, 50).await;
    let client = world.group.replicas[leader].client();
    let mut stream = client.subscribe(SubscribeRequest::default()).await.unwrap();
    let lost: Vec<_> = (0..3).filter(|index| *index != leader).collect();
    for index in &lost {
        world.group.replicas[*index].kill();
    }
    let missing = format!(
        "the group has no quorum: 1 of 3 voters answers ({}), 2 must",
        world.group.replicas[leader].name
    );
    let (told, _) = eventually("it says that it has no quorum", PATIENCE, async || {
        let told = client.group().await.unwrap();
        (!told.has_quorum).then_some(told)
    })
    .await;
    assert!(told.problem.contains(&missing), "{}", told.problem);
    assert!(
        told.problem.contains("Connection refused"),
        "{}",
        told.problem
    );
    eprintln!("{}", told.problem);
    assert_eq!(client.clusters().await.unwrap().len(), 2, "reads answer");
    assert_eq!(client.shards().await.unwrap().len(), 2, "reads answer");

    let refused = client.delete("sim-1").await.unwrap_err();
    eprintln!("{refused}");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains(&missing), "{refused}");
    assert!(
        refused.message().contains("Nothing was changed"),
        "{refused}"
    );

    let ended = end_of(&mut stream).await;
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    let says = "contact with a majority of the group";
    assert!(ended.message().contains(says), "{ended}");
    let again = client.subscribe(SubscribeRequest::default()).await;
    assert!(again.unwrap_err().message().contains(says));
    assert!(!is_serving(&world.group.replicas[leader]).await);
    let log = world.group.replicas[leader].log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(says)).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains(" WARN ") && lines[0].contains(&missing),
        "{lines:?}"
    );

    for index in lost {
        world.group.launch(index);
    }
    world.group.whole().await;
    let told = client.group().await.unwrap();
    assert_eq!((told.has_quorum, told.problem.as_str()), (true, ""));
    let serves = async || is_serving(&world.group.replicas[leader]).await;
    holds("it serves again", PATIENCE, serves).await;
    world.flows(&recorder, 50).await;
    world.expect_exactly_once(&recorder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_while_there_is_no_leader_waits_for_the_next_one() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let client = group.client_besides(leader);
    // The connection first, so that the write is asked for while nobody leads.
    client.group().await.unwrap();
    group.replicas[leader].kill();
    let write = async || client.create(super::failures_data::in_cluster("x")).await;
    match write().await {
        Ok(created) => assert_eq!(created.name, "x"),
        // The dead leader had begun with it: what came of it is to be read back.
        Err(status) => {
            let told = "the outcome is unknown";
            assert!(status.message().contains(told), "{status}");
            let is_there = async || match write().await {
                Ok(_) => true,
                Err(status) => status.code() == Code::AlreadyExists,
            };
            holds("it is written, or written again", PATIENCE, is_there).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_removed_ends_and_says_so() {
    let mut group = Group::start(3).await;
    let victim = (group.leader().await + 1) % 3;
    let name = group.replicas[victim].name.clone();
    group.replicas[victim].kill();
    let client = group.client_besides(victim);
    let removed = async || client.remove(&name).await.is_ok();
    holds("the dead one is removed", PATIENCE, removed).await;
    group.launch(victim);
    let exit = group.replicas[victim].exit(REFUSAL).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    let last = exit.log.lines().last().unwrap_or_default();
    eprintln!("{last}");
    let raft = group.replicas[victim].data_dir().join("raft");
    let advice = format!("`rm -r {}`", raft.display());
    for says in [
        &format!("replica {name:?} was removed from the group"),
        &advice,
    ] {
        assert!(last.contains(says.as_str()), "{says:?} is not in {last}");
    }
    // What it advises.
    std::fs::remove_dir_all(raft).unwrap();
    group.launch(victim);
    group.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_alone_stops_at_once_and_without_an_alarm() {
    let mut world = World::start_with(WorldOptions {
        clusters: 1,
        replicas: 1,
        ..WorldOptions::default()
    })
    .await;
    let exit = world.group.replicas[0].terminate(PATIENCE).await;
    assert!(exit.status.success(), "{}", exit.log);
    assert!(
        exit.log
            .contains("shards stay unowned until this one restarts"),
        "{}",
        exit.log
    );
    assert!(!exit.log.contains(" WARN "), "{}", exit.log);
}
