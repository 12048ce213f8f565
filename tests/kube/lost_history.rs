//! Where history is gone: what is told instead of it.

use std::time::Duration;

use quorumwatch::{domain::frame::Change, proto::v1::GapReason};

use crate::{
    control_plane::Options,
    kind::{Kind, NAMESPACE},
    replicas::NAMES,
    subscriber::{Record, Seen, SeenGap, Subscriber},
    world::{ARRIVES_WITHIN, World},
    writer::{Ledger, Mix, write},
};

/// The smallest rings, which [`MIX`] overflows: only the API server can tell what came before.
pub(crate) const SMALL_RINGS: &[&str] = &["--ring-bytes=65536", "--hub-ring-bytes=65536"];
/// Events above all. Of ConfigMaps no more than the API server's watch cache always holds.
pub(crate) const MIX: Mix = Mix {
    weights: [(Kind::Event, 4), (Kind::ConfigMap, 1), (Kind::Widget, 0)],
    every: Duration::ZERO,
    text_bytes: 3_000,
};
const KINDS: [Kind; 2] = [Kind::Event, Kind::ConfigMap];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn compacted_history_is_told_as_a_gap_and_a_snapshot() {
    let world = World::start(vec![Options::default()], &KINDS, SMALL_RINGS).await;
    let cluster = &world.clusters[0];
    let mut subscriber = world.subscriber("a").await;
    let mut ledger = write(cluster.rest(), MIX, 1, 100).await;
    world.mark(&mut subscriber, "left").await;
    let (record, cursor) = subscriber.leave().await;

    ledger.add(write(cluster.rest(), MIX, 2, 250).await);
    cluster.control_plane.etcd_compact().await.unwrap();
    let endpoints = world.replicas.endpoints("b");
    let mut subscriber = Subscriber::come_back(endpoints, cursor, record);
    wait_synced_again(&mut subscriber, &world, &[Kind::Event]).await;
    let objects = cluster
        .expect_snapshot(Kind::Event, &subscriber.record())
        .await;
    ledger.add(write(cluster.rest(), MIX, 3, 100).await);
    world.mark(&mut subscriber, "end").await;

    let record = subscriber.record();
    let report = cluster.judge(&record, &ledger, "end").await;
    eprintln!("compacted: a snapshot of {objects} Events as listed; {report}");
    report.expect_clean();
    expect_one_gap(&record, &world, Kind::Event, GapReason::HistoryExpired);
    assert!(report.declared > 100, "little was compacted: {report}");
    assert_eq!(record.gaps(&cluster.stream(Kind::ConfigMap)), []);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn a_restored_etcd_is_told_as_a_gap_and_a_snapshot() {
    let mut world = World::start(vec![Options::default()], &KINDS, &[]).await;
    let mut subscriber = world.subscriber("a").await;
    let backup = world.folder.path().join("backup");
    let cluster = &world.clusters[0];
    let mut ledger = write(cluster.rest(), MIX, 1, 100).await;
    cluster.control_plane.etcd_snapshot(&backup).await.unwrap();
    ledger.add(write(cluster.rest(), MIX, 2, 200).await);
    world.mark(&mut subscriber, "undone").await;
    let mut report = cluster.judge(&subscriber.record(), &ledger, "undone").await;

    world.clusters[0].restore(&backup).await;
    wait_synced_again(&mut subscriber, &world, &KINDS).await;
    let cluster = &world.clusters[0];
    let mut objects = 0;
    for kind in KINDS {
        objects += cluster.expect_snapshot(kind, &subscriber.record()).await;
    }
    let ledger = write(cluster.rest(), MIX, 3, 100).await;
    world.mark(&mut subscriber, "end").await;

    let record = subscriber.record();
    for kind in KINDS {
        expect_one_gap(&record, &world, kind, GapReason::HistoryReset);
        let seen = &record.streams[&cluster.stream(kind)];
        let is_gap = |seen: &Seen| matches!(seen, Seen::Gap(_));
        let after = seen.iter().position(is_gap).unwrap() + 1;
        let second = cluster.judge_stream(kind, &seen[after..], &ledger, "end");
        report.add(second.await);
    }
    eprintln!("restored: snapshots of {objects} objects as listed; {report}, besides 2 gaps");
    report.expect_clean();
}

/// The last thing that a stream told is a deletion, whose version may have more of them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn a_deletion_just_before_a_watch_cache_reset_is_told_once() {
    let mut world = World::start(vec![Options::default()], &KINDS, &[]).await;
    let mut subscriber = world.subscriber("a").await;
    let rest = world.clusters[0].rest();
    let stream = world.clusters[0].stream(Kind::ConfigMap);
    for name in ["first", "second", "third"] {
        rest.create(Kind::ConfigMap, name, "").await.unwrap();
    }
    rest.delete(Kind::ConfigMap, "second").await.unwrap();
    subscriber
        .wait("the deletion arrives", ARRIVES_WITHIN, |record| {
            let last = record.streams[&stream].last();
            matches!(last, Some(Seen::Event(event)) if event.change == Change::Deleted)
        })
        .await;
    rest.create(Kind::Event, "other", "").await.unwrap();
    world.clusters[0].control_plane.kill_api_server();
    let restarted = world.clusters[0].control_plane.start_api_server().await;
    restarted.unwrap();
    subscriber
        .wait("the gap is told", ARRIVES_WITHIN, |record| {
            !record.gaps(&stream).is_empty()
        })
        .await;
    world.mark(&mut subscriber, "end").await;
    let record = subscriber.record();
    let ledger = Ledger::default();
    let report = world.clusters[0].judge(&record, &ledger, "end").await;
    eprintln!("deleted before a reset: {report}");
    report.expect_clean();
    assert!(record.gaps(&stream)[0].repaired);
}

/// The subscriber knows an object that the next owner's resume point is older than, and that is gone
/// when the next owner sees the cluster for the first time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn an_owner_and_its_api_server_that_die_together_leave_no_ghost() {
    let mut world = World::start(vec![Options::default()], &KINDS, &[]).await;
    let owner = world.owner("k0").await;
    let other = NAMES.into_iter().find(|name| *name != owner).unwrap();
    let mut subscriber = world.subscriber(other).await;
    let stream = world.clusters[0].stream(Kind::ConfigMap);
    world.mark(&mut subscriber, "ghost").await;
    world.replicas.kill(&owner);
    let control_plane = &mut world.clusters[0].control_plane;
    control_plane.kill_api_server();
    let ghost = format!("{}{NAMESPACE}/mark-ghost", Kind::ConfigMap.etcd_prefix());
    control_plane.etcd_delete(&ghost).await.unwrap();
    control_plane.start_api_server().await.unwrap();
    subscriber
        .wait("the gap is told", ARRIVES_WITHIN, |record| {
            !record.gaps(&stream).is_empty()
        })
        .await;
    world.replicas.launch(&owner);
    world.mark(&mut subscriber, "end").await;
    let record = subscriber.record();
    let ledger = Ledger::default();
    let report = world.clusters[0].judge(&record, &ledger, "end").await;
    eprintln!("died together: {report}");
    report.expect_clean();
    assert!(record.gaps(&stream)[0].repaired);
    assert_eq!(report.repaired, 1, "the ghost's deletion: {report}");
}

async fn wait_synced_again(subscriber: &mut Subscriber, world: &World, kinds: &[Kind]) {
    let streams: Vec<_> = kinds
        .iter()
        .map(|kind| world.clusters[0].stream(*kind))
        .collect();
    subscriber
        .wait("a second snapshot arrives", ARRIVES_WITHIN, |record| {
            streams
                .iter()
                .all(|stream| record.synced.get(stream) == Some(&2))
        })
        .await;
}

fn expect_one_gap(record: &Record, world: &World, kind: Kind, reason: GapReason) {
    let gaps = record.gaps(&world.clusters[0].stream(kind));
    let [
        SeenGap {
            from: Some(from),
            to: Some(to),
            reason: told,
            repaired: false,
        },
    ] = gaps
    else {
        panic!("gaps of {kind:?}: {gaps:?}");
    };
    assert_eq!(*told, reason);
    assert!(from < to, "{gaps:?}");
}
