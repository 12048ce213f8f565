//! Who owns what: asked, listed, and watched across a death.

use std::collections::BTreeMap;

use quorumwatch::proto::v1::{
    MoveReason, Shard, ShardPhase, WatchShardsResponse, watch_shards_response::Update,
};
use tonic::{Code, Streaming};

use crate::harness::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_listed_page_by_page_and_found_by_name() {
    let world = World::start().await;
    let client = world.group.client();
    let all = client.shards().await.unwrap();
    let ids: Vec<_> = all.iter().map(|shard| shard.id.as_str()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let mut paged: Vec<Shard> = Vec::new();
    let mut token = String::new();
    loop {
        let (page, next) = client.shards_page(4, &token).await.unwrap();
        assert!(page.len() <= 4);
        paged.extend(page);
        if next.is_empty() {
            break;
        }
        token = next;
    }
    let paged: Vec<_> = paged.iter().map(|shard| shard.id.as_str()).collect();
    assert_eq!(paged, ids);
    let shard = client.shard("sim-3").await.unwrap();
    assert_eq!(
        (shard.id.as_str(), shard.phase()),
        ("sim-3/0", ShardPhase::Active)
    );
    assert!(shard.epoch >= 1);
    assert_eq!(shard.streams[0].resource, "v1/events");
    assert_eq!(client.shard("sim-3/0").await.unwrap().id, "sim-3/0");
    for (id, code) in [
        ("nobody", Code::NotFound),
        ("sim-3/7", Code::NotFound),
        ("sim-3/x", Code::InvalidArgument),
    ] {
        let refused = client.shard(id).await.unwrap_err();
        assert_eq!(refused.code(), code, "{id}: {refused}");
    }
    let refused = client.shards_page(-1, "").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    // Two a head: the load is spread.
    let mut counts = BTreeMap::new();
    for shard in &all {
        *counts.entry(shard.owner.clone()).or_insert(0) += 1;
    }
    assert_eq!(
        counts.into_values().collect::<Vec<_>>(),
        [2, 2, 2],
        "{all:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_shards_resumes_at_another_replica_where_it_stopped() {
    let mut world = World::start().await;
    let victim = world.group.owner_besides_leader().await;
    let name = world.group.replicas[victim].name.clone();
    let others = [(victim + 1) % 3, (victim + 2) % 3];
    let elsewhere = world.group.replicas[others[0]].client();
    let mut watch = world.group.replicas[victim]
        .client()
        .watch_shards(0)
        .await
        .unwrap();
    let first = next(&mut watch).await;
    let Some(Update::Snapshot(snapshot)) = first.update else {
        panic!("a watch begins with a snapshot: {first:?}");
    };
    assert_eq!(snapshot.shards.len(), world.count());
    let mut owners: BTreeMap<String, (String, u64)> = BTreeMap::new();
    for shard in &snapshot.shards {
        owners.insert(shard.id.clone(), (shard.owner.clone(), shard.epoch));
    }
    let lost = owners.values().filter(|(owner, _)| *owner == name).count();
    assert!(lost > 0);

    world.group.replicas[victim].kill();
    let mut watch = elsewhere.watch_shards(first.revision).await.unwrap();
    let mut taken = 0;
    let mut revision = first.revision;
    while taken < lost {
        let told = next(&mut watch).await;
        assert!(told.revision >= revision, "{told:?}");
        revision = told.revision;
        let Some(Update::Change(change)) = told.update else {
            panic!("nothing was forgotten, so no snapshot is due: {told:?}");
        };
        let (owner, epoch) = &owners[&change.id];
        assert_eq!(
            (&change.old_owner, change.epoch),
            (owner, epoch + 1),
            "{change:?}"
        );
        if change.old_owner == name {
            assert_eq!(change.reason(), MoveReason::Takeover);
            taken += 1;
        }
        owners.insert(change.id.clone(), (change.new_owner.clone(), change.epoch));
    }
    let listed = world.group.replicas[others[1]]
        .client()
        .shards()
        .await
        .unwrap();
    for shard in listed {
        assert_eq!(owners[&shard.id], (shard.owner, shard.epoch));
    }
    // A revision that this group never had is answered with a snapshot, not with silence.
    let mut watch = elsewhere.watch_shards(revision + 1_000_000).await.unwrap();
    assert!(matches!(
        next(&mut watch).await.update,
        Some(Update::Snapshot(_))
    ));
}

async fn next(watch: &mut Streaming<WatchShardsResponse>) -> WatchShardsResponse {
    let told = tokio::time::timeout(PATIENCE, watch.message()).await;
    told.expect("it comes in time")
        .unwrap()
        .expect("a watch does not end")
}
