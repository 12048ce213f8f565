//! Who owns what: asked, listed, and watched across a death.

use std::collections::BTreeMap;

use quorumwatch::proto::v1::{
    MoveReason, Shard, ShardChangeType, ShardPhase, WatchShardsResponse,
    watch_shards_response::Update,
};
use tonic::{Code, Streaming};

use crate::harness::{Client, PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_listed_page_by_page_and_found_by_name() {
    let world = World::start().await;
    let client = world.group.client();
    let all = client.shards().await.unwrap();
    let ids: Vec<_> = all.iter().map(|shard| shard.name.as_str()).collect();
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
    let paged: Vec<_> = paged.iter().map(|shard| shard.name.as_str()).collect();
    assert_eq!(paged, ids);
    let shard = client.shard("sim-3").await.unwrap();
    assert_eq!(
        (shard.name.as_str(), shard.phase()),
        ("sim-3/0", ShardPhase::Active)
    );
    assert!(shard.epoch >= 1);
    assert_eq!(shard.streams[0].resource, "v1/events");
    assert_eq!(client.shard("sim-3/0").await.unwrap().name, "sim-3/0");
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
        .watch_shards("")
        .await
        .unwrap();
    let (mut owners, token) = snapshot(&mut watch).await;
    assert_eq!(owners.len(), world.count());
    let lost = owners.values().filter(|(owner, _)| *owner == name).count();
    assert!(lost > 0);

    world.group.replicas[victim].kill();
    let mut watch = elsewhere.watch_shards(&token).await.unwrap();
    let mut taken = 0;
    let mut revision = 0;
    let mut tokens = Vec::new();
    while taken < lost {
        let told = next(&mut watch).await;
        assert!(told.revision >= revision, "{told:?}");
        revision = told.revision;
        let change = match told.update {
            Some(Update::Change(change)) => change,
            Some(Update::Heartbeat(_)) => continue,
            other => panic!("nothing was forgotten, so no snapshot is due: {other:?}"),
        };
        let shard = change.shard.clone().expect("a change has its shard");
        let (owner, epoch) = &owners[&shard.name];
        assert_eq!(
            (&change.old_owner, shard.epoch),
            (owner, epoch + 1),
            "{change:?}"
        );
        assert_eq!(change.r#type(), ShardChangeType::Moved);
        assert!(!shard.streams.is_empty(), "a table can be kept: {change:?}");
        if change.old_owner == name {
            assert_eq!(shard.reason(), MoveReason::Takeover);
            taken += 1;
        }
        owners.insert(shard.name.clone(), (shard.owner.clone(), shard.epoch));
        tokens.push((told.resume_token, shard));
    }
    expect_the_rest_after_each(&elsewhere, &tokens).await;
    let listed = world.group.replicas[others[1]]
        .client()
        .shards()
        .await
        .unwrap();
    for shard in listed {
        assert_eq!(owners[&shard.name], (shard.owner, shard.epoch));
    }
    let refused = elsewhere.watch_shards("no token").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

/// Changes of one revision are not lost where a watch breaks between them.
async fn expect_the_rest_after_each(client: &Client, tokens: &[(String, Shard)]) {
    for (index, (token, _)) in tokens.iter().enumerate() {
        let mut watch = client.watch_shards(token).await.unwrap();
        for (_, shard) in &tokens[index + 1..] {
            let Some(Update::Change(change)) = next(&mut watch).await.update else {
                panic!("{} changes are missing", tokens.len() - index - 1);
            };
            let told = change.shard.expect("a change has its shard");
            assert_eq!((&told.name, told.epoch), (&shard.name, shard.epoch));
        }
    }
}

type Owners = BTreeMap<String, (String, u64)>;

/// The snapshot that a watch begins with, and where to continue after it.
async fn snapshot(watch: &mut Streaming<WatchShardsResponse>) -> (Owners, String) {
    let mut owners = Owners::new();
    loop {
        let told = next(watch).await;
        match told.update {
            Some(Update::Snapshot(page)) => {
                for shard in page.shards {
                    owners.insert(shard.name, (shard.owner, shard.epoch));
                }
            }
            Some(Update::SnapshotEnd(_)) => return (owners, told.resume_token),
            other => panic!("a watch begins with a snapshot: {other:?}"),
        }
    }
}

async fn next(watch: &mut Streaming<WatchShardsResponse>) -> WatchShardsResponse {
    let told = tokio::time::timeout(PATIENCE, watch.message()).await;
    told.expect("it comes in time")
        .unwrap()
        .expect("a watch does not end")
}
