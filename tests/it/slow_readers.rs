//! Readers that are slow while they catch up hold up nobody else: not the group's leases and
//! commits, not other subscribers.

use std::time::{Duration, Instant};

use quorumwatch::{
    domain::cluster::Resource,
    proto::v1::{
        FromSnapshot, ShardChangeType, SubscribeRequest, SubscribeResponse,
        subscribe_request::From, watch_shards_response::Update,
    },
    sim::Manifest,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;

use crate::harness::{Client, PATIENCE, World, WorldOptions, holds};

const CLUSTERS: usize = 6;
const READERS: usize = 8;
/// Each reader takes one message and then pauses.
const READ_EVERY: Duration = Duration::from_millis(200);
/// What the snapshot of one cluster has.
const OBJECTS: usize = 400;
const OBJECT_BYTES: usize = 50_000;

/// Six clusters of 20 MB each, watched by three replicas.
async fn world() -> World {
    let world = World::start_empty(WorldOptions {
        clusters: CLUSTERS,
        ..WorldOptions::default()
    })
    .await;
    let padding = "x".repeat(OBJECT_BYTES);
    for name in world.fleet.cluster_names() {
        let cluster = world.cluster(&name);
        for n in 0..OBJECTS {
            let manifest = Manifest::new("default", format!("large-{n}"))
                .member("message", &padding.as_str().into());
            cluster.create(&Resource::events(), &manifest).unwrap();
        }
        world.monitor(&name).await;
    }
    world.group.owned(CLUSTERS).await;
    world
}

async fn read_slowly(client: Client) {
    let request = SubscribeRequest {
        from: Some(From::Snapshot(FromSnapshot {})),
        ..SubscribeRequest::default()
    };
    let mut frames: Streaming<SubscribeResponse> = client.subscribe(request).await.unwrap();
    while let Ok(Some(_)) = frames.message().await {
        tokio::time::sleep(READ_EVERY).await; // poll: a slow reader is what is tested
    }
}

/// Reads slowly at one replica for `span`; nobody else may notice.
async fn nobody_notices(world: &mut World, seat: usize, span: Duration) {
    let elsewhere = (seat + 1) % 3;
    let leader = world.group.replicas[world.group.leader().await]
        .name
        .clone();
    let healthy = world.subscriber(elsewhere).await;
    let beside = world.subscriber(seat).await;
    let mut watch = world.group.replicas[elsewhere]
        .client()
        .watch_shards("")
        .await
        .unwrap();
    world.begin(300.0);
    world.flows(&healthy, 300).await;
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let client = world.group.replicas[seat].client();
            AbortOnDropHandle::new(tokio::spawn(read_slowly(client)))
        })
        .collect();
    let started = Instant::now();
    let (mut slowest, mut moves) = (Duration::ZERO, 0);
    while started.elapsed() < span {
        slowest = slowest.max(world.flows(&healthy, 100).await);
        slowest = slowest.max(world.flows(&beside, 100).await);
        let group = world.group.client_besides(seat).group().await.unwrap();
        assert!(group.has_quorum, "after {:?}", started.elapsed());
        assert_eq!(group.leader, leader, "after {:?}", started.elapsed());
        while let Ok(Ok(Some(message))) =
            tokio::time::timeout(Duration::from_millis(1), watch.message()).await
        {
            if let Some(Update::Change(change)) = message.update {
                moves += usize::from(change.r#type() == ShardChangeType::Moved);
            }
        }
    }
    assert!(readers.iter().all(|reader| !reader.is_finished()));
    drop(readers);
    eprintln!(
        "{READERS} slow readers for {span:?}: {moves} moves, 100 events took at most {slowest:?}"
    );
    assert_eq!(moves, 0, "a shard was taken from its owner");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // A write needs a majority.
    let client = world.group.client_besides(seat);
    let committed = async || client.cluster("sim-1").await.is_ok();
    holds("the group answers", PATIENCE, committed).await;
    world.expect_exactly_once(&healthy).await;
    world.expect_exactly_once(&beside).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_at_the_leader_hold_up_nobody() {
    let mut world = world().await;
    let leader = world.group.leader().await;
    nobody_notices(&mut world, leader, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten minutes"]
async fn slow_readers_hold_up_nobody_for_long() {
    let mut world = world().await;
    let leader = world.group.leader().await;
    nobody_notices(&mut world, leader, Duration::from_secs(300)).await;
    drop(world);
    let mut world = self::world().await;
    let follower = (world.group.leader().await + 1) % 3;
    nobody_notices(&mut world, follower, Duration::from_secs(300)).await;
}
