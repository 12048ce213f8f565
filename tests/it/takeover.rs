//! A replica dies or freezes: others take its shards over, and subscribers notice a pause at most.

use std::time::Duration;

use crate::harness::{Options, PATIENCE, World, WorldOptions, holds};

/// Every shard must be owned again within this; ten times what is usual, because builds for tests
/// are slow and machines are shared.
const TAKEOVER: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_killed_is_replaced_without_loss_or_repetition() {
    let mut world = World::start().await;
    let victim = world.group.owner_besides_leader().await;
    let seat = world.group.leader().await;
    kill_and_judge(&mut world, victim, seat).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_is_replaced_without_loss_or_repetition() {
    let mut world = World::start().await;
    let victim = world.group.leader().await;
    kill_and_judge(&mut world, victim, (victim + 1) % 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_outlives_the_replica_that_serves_it() {
    let mut world = World::start().await;
    let victim = world.group.owner_besides_leader().await;
    let recorder = kill_and_judge(&mut world, victim, victim).await;
    assert!(!recorder.record().interruptions.is_empty());
}

async fn kill_and_judge(world: &mut World, victim: usize, seat: usize) -> crate::harness::Recorder {
    let recorder = world.subscriber(seat).await;
    world.begin(200.0);
    world.flows(&recorder, 100).await;
    let client = world.group.client_besides(victim);
    client.group().await.unwrap();
    world.group.replicas[victim].kill();
    let count = world.count();
    let took = world
        .group
        .owned_by_the_living(&client, count, TAKEOVER)
        .await;
    eprintln!("every shard is owned again after {took:?}");
    world.flows(&recorder, 300).await;
    world.group.launch(victim);
    world.group.whole().await;
    world.flows(&recorder, 200).await;
    let report = world.expect_exactly_once(&recorder).await;
    eprintln!(
        "produced {} delivered {}",
        report.produced, report.delivered
    );
    recorder
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_freezes_is_replaced_and_fenced_when_it_wakes() {
    let mut world = World::start().await;
    let victim = world.group.owner_besides_leader().await;
    let seat = (victim + 1) % 3;
    let recorder = world.subscriber(seat).await;
    // A subscriber of the frozen one itself: it must not receive anything twice either.
    let beside = world.subscriber(victim).await;
    world.begin(200.0);
    world.flows(&recorder, 100).await;
    let client = world.group.client_besides(victim);
    let name = world.group.replicas[victim].name.clone();
    let before = client.shards().await.unwrap();
    world.group.replicas[victim].freeze();
    let frozen = std::time::Instant::now();
    let count = world.count();
    let took = world
        .group
        .owned_by_the_living(&client, count, TAKEOVER)
        .await;
    eprintln!("every shard is owned again after {took:?}");
    // It is left because no heartbeat comes, and the subscription goes on while it is frozen.
    world.flows(&beside, 100).await;
    let interruptions = beside.record().interruptions.clone();
    assert!(
        interruptions
            .iter()
            .any(|why| why.contains("nothing received for 1.5s")),
        "{interruptions:?}"
    );
    let five_seconds = async || frozen.elapsed() >= Duration::from_secs(5);
    holds("five seconds have passed", PATIENCE, five_seconds).await;
    world.group.replicas[victim].thaw();
    world.group.whole().await;
    world.flows(&recorder, 300).await;
    let after = client.shards().await.unwrap();
    for shard in before.iter().filter(|shard| shard.owner == name) {
        let now = after.iter().find(|now| now.name == shard.name).unwrap();
        assert!(now.epoch > shard.epoch, "{shard:?} {now:?}");
    }
    world.expect_exactly_once(&recorder).await;
    world.expect_exactly_once(&beside).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_is_called_now_and_then_and_not_without_pause() {
    let mut world = World::start_with(WorldOptions {
        clusters: 1,
        group: Options {
            config: "[log]\nlevel = \"info,openraft=warn\"\n".into(),
        },
        ..WorldOptions::default()
    })
    .await;
    // Checkpoints give the leader something to send.
    world.begin(20.0);
    let leader = world.group.leader().await;
    world.group.replicas[(leader + 1) % 3].kill();
    let calls = |world: &World| {
        let log = world.group.replicas[leader].log();
        log.matches("initiate-stream-replication").count()
    };
    let called = async || calls(&world) >= 3;
    let took = holds("it is called", PATIENCE, called).await;
    eprintln!("three calls within {took:?}");
    let died = std::time::Instant::now();
    let passed = async || died.elapsed() >= Duration::from_secs(3);
    holds("three seconds have passed", PATIENCE, passed).await;
    let count = calls(&world);
    eprintln!("{count} calls");
    assert!(count < 60, "{count} calls");
}
