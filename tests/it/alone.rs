//! A leader that nobody follows any more: what it reports of itself, and what its subscribers
//! receive.

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{PATIENCE, Replica, World, WorldOptions, holds};

/// What a health service of a replica says.
async fn health(replica: &Replica, service: &str) -> Option<ServingStatus> {
    let connection = replica.endpoint().connect().await.ok()?;
    let service = service.to_owned();
    let mut client = HealthClient::new(connection.channel());
    let answer = client.check(HealthCheckRequest { service }).await;
    Some(answer.ok()?.into_inner().status())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_nobody_follows_sends_its_subscribers_away() {
    let options = WorldOptions {
        clusters: 2,
        ..WorldOptions::default()
    };
    let mut world = World::start_with(options).await;
    let leader = world.group.leader().await;
    let recorder = world.subscriber(leader).await;
    world.begin(50.0);
    world.flows(&recorder, 10).await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        world.group.replicas[other].kill();
    }
    let replica = &world.group.replicas[leader];
    let not_ready = async || health(replica, "readiness").await == Some(ServingStatus::NotServing);
    holds("it is not ready", PATIENCE, not_ready).await;
    assert_eq!(
        health(replica, "liveness").await,
        Some(ServingStatus::Serving)
    );
    let group = replica.client().group().await.unwrap();
    assert_eq!(group.leader, "", "{group:?}");
    let told = |reason: &String| {
        reason.contains("this replica has no contact with a majority of the group")
    };
    recorder
        .sees("the subscriber is sent away", PATIENCE, |record| {
            record.interruptions.iter().any(told)
        })
        .await;
    for other in others {
        world.group.launch(other);
    }
    world.group.whole().await;
    world.expect_exactly_once(&recorder).await;
}
