//! Everybody dies at once: what was agreed on is still there afterwards.

use crate::harness::{Recorder, World, expect_no_way_back, member_ids, progress_of};

#[tokio::test(flavor = "multi_thread")]
async fn all_killed_at_once_come_back_as_they_were() {
    let mut world = World::start().await;
    let recorder = world.subscriber(0).await;
    world.begin(200.0);
    world.flows(&recorder, 400).await;
    let client = world.group.client();
    let members = member_ids(&client.group().await.unwrap());
    let clusters = client.clusters().await.unwrap();
    let group_id = client.group().await.unwrap().group_id;
    let shards = progress_of(&client.shards().await.unwrap());
    for replica in &mut world.group.replicas {
        replica.kill();
    }
    for index in 0..3 {
        world.group.launch(index);
    }
    world.group.whole().await;
    world.group.owned(world.count()).await;
    for replica in &world.group.replicas {
        let client = replica.client();
        let told = client.group().await.unwrap();
        assert_eq!(told.group_id, group_id);
        assert_eq!(member_ids(&told), members);
        expect_no_way_back(&shards, &progress_of(&client.shards().await.unwrap()));
        let after = client.clusters().await.unwrap();
        for (before, after) in clusters.iter().zip(&after) {
            assert_eq!(before.name, after.name);
            assert_eq!(before.source, after.source);
            assert_eq!(before.resources, after.resources);
            assert_eq!(before.uid, after.uid);
            assert_eq!(before.create_time, after.create_time);
            assert_eq!(before.etag, after.etag);
        }
        assert_eq!(clusters.len(), after.len());
    }
    world.flows(&recorder, 200).await;
    assert!(!recorder.record().interruptions.is_empty());
    world.expect_exactly_once(&recorder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_was_away_while_all_were_dead_resumes_with_its_cursor() {
    let mut world = World::start().await;
    let recorder = world.subscriber(1).await;
    world.begin(200.0);
    world.flows(&recorder, 200).await;
    let record = recorder.leave();
    for replica in &mut world.group.replicas {
        replica.kill();
    }
    for index in 0..3 {
        world.group.launch(index);
    }
    world.group.whole().await;
    let recorder = Recorder::resume(record, world.group.endpoints_from(2));
    world.flows(&recorder, 200).await;
    world.expect_exactly_once(&recorder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_cursors_are_served_without_a_gap_from_rings_that_hold_next_to_nothing() {
    let mut world = World::start_with(crate::harness::WorldOptions {
        clusters: 3,
        group: crate::harness::Options {
            // The least that is accepted: about fifty events.
            config: "[limits]\nring_bytes = 65536\n".into(),
        },
        ..Default::default()
    })
    .await;
    let recorder = world.subscriber(0).await;
    world.begin(300.0);
    world.flows(&recorder, 100).await;
    let record = recorder.leave();
    let witness = world.subscriber(1).await;
    let before = progress_of(&world.group.client().shards().await.unwrap());
    for _ in 0..2 {
        let victim = world.group.owner_besides_leader().await;
        world.group.replicas[victim].kill();
        world.flows(&witness, 500).await;
        world.group.launch(victim);
        world.group.whole().await;
        world.group.owned(world.count()).await;
    }
    let after = progress_of(&world.group.client().shards().await.unwrap());
    let moved = before
        .iter()
        .filter(|(id, (epoch, _))| after[*id].0 > *epoch);
    assert!(moved.count() > 0, "no owner has changed: {after:?}");
    let recorder = Recorder::resume(record, world.group.endpoints_from(2));
    world.flows(&recorder, 1000).await;
    world.expect_exactly_once(&recorder).await;
}
