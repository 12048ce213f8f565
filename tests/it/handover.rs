//! Planned ends: a replica that is asked to stop hands over what it owns, and nobody notices.

use std::time::Instant;

use crate::harness::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stops_hands_over_without_loss_or_repetition() {
    let mut world = World::start().await;
    let victim = world.group.owner_besides_leader().await;
    let recorder = world.subscriber((victim + 1) % 3).await;
    world.begin(200.0);
    world.flows(&recorder, 100).await;
    let client = world.group.client_besides(victim);
    let exit = world.group.replicas[victim].terminate(PATIENCE).await;
    assert_eq!(exit.status.code(), Some(0), "{}", exit.log);
    // All of it was handed over before the process ended: nobody had to notice its death.
    let name = &world.group.replicas[victim].name;
    let shards = client.shards().await.unwrap();
    let left: Vec<_> = shards.iter().filter(|shard| shard.owner == *name).collect();
    assert!(left.is_empty(), "{left:?}");
    world.flows(&recorder, 200).await;
    world.group.launch(victim);
    world.group.whole().await;
    world.flows(&recorder, 100).await;
    world.expect_exactly_once(&recorder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_and_repeats_nothing() {
    let mut world = World::start().await;
    let recorder = world.subscriber(0).await;
    world.begin(200.0);
    world.flows(&recorder, 100).await;
    let leader = world.group.leader().await;
    // The leader in the middle: the group changes hands while one has just come back.
    for victim in [(leader + 1) % 3, leader, (leader + 2) % 3] {
        let asked = Instant::now();
        let exit = world.group.replicas[victim].terminate(PATIENCE).await;
        assert_eq!(exit.status.code(), Some(0), "{}", exit.log);
        eprintln!("stopped after {:?}", asked.elapsed());
        world.flows(&recorder, 50).await;
        world.group.launch(victim);
        world.group.whole().await;
        world.flows(&recorder, 50).await;
    }
    let report = world.expect_exactly_once(&recorder).await;
    eprintln!(
        "produced {} delivered {}",
        report.produced, report.delivered
    );
}
