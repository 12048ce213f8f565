//! Where history is gone: what is sent instead of it.

use std::time::Duration;

use quorumwatch::{domain::event::Change, proto::v1::GapReason};

use crate::{
    control_plane::Options,
    kind::{Kind, NAMESPACE},
    record::{MARK, Record, Seen, SeenGap},
    replicas::NAMES,
    subscriber::Subscriber,
    world::{ARRIVES_WITHIN, World},
    writer::{Ledger, Mix, write},
};

/// The smallest rings, which [`MIX`] overflows: only the API server knows what came before.
pub(crate) const SMALL_RINGS: &[&str] = &["--ring-bytes=65536"];
/// Events above all. Of ConfigMaps no more than the API server's watch cache always holds.
pub(crate) const MIX: Mix = Mix {
    weights: [(Kind::Event, 4), (Kind::ConfigMap, 1), (Kind::Widget, 0)],
    every: Duration::ZERO,
    text_bytes: 3_000,
};
/// So many that not all of them are in a checkpoint when the last one arrives.
const GHOSTS: usize = 10;
const KINDS: [Kind; 2] = [Kind::Event, Kind::ConfigMap];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn compacted_history_is_a_gap_and_a_snapshot() {
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
async fn a_restored_etcd_is_a_gap_and_a_snapshot() {
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
        let seen = record.seen(&cluster.stream(kind));
        let is_gap = |seen: &Seen| matches!(seen, Seen::Gap(_));
        let after = seen.iter().position(is_gap).unwrap() + 1;
        let second = cluster.judge_stream(kind, &seen[after..], &ledger, "end");
        report.add(second.await);
    }
    eprintln!("restored: snapshots of {objects} objects as listed; {report}, besides 2 gaps");
    report.expect_clean();
}

/// The last event of a stream is a deletion, whose version may have more of them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn a_deletion_just_before_a_watch_cache_reset_comes_once() {
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
            let mut events = record.seen(&stream).iter().filter_map(|seen| match seen {
                Seen::Event(event) => Some(event.change),
                _ => None,
            });
            events.next_back() == Some(Change::Deleted)
        })
        .await;
    rest.create(Kind::Event, "other", "").await.unwrap();
    world.clusters[0].control_plane.kill_api_server();
    let restarted = world.clusters[0].control_plane.start_api_server().await;
    restarted.unwrap();
    subscriber
        .wait("the gap comes", ARRIVES_WITHIN, |record| {
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

/// The subscriber knows objects that are newer than the checkpoint at which the next owner resumes,
/// and that are gone before the next owner sees them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn an_owner_and_its_api_server_that_die_together_leave_no_ghost() {
    let mut world = World::start(vec![Options::default()], &KINDS, &[]).await;
    let owner = world.owner("k0").await;
    let other = NAMES.into_iter().find(|name| *name != owner).unwrap();
    let mut subscriber = world.subscriber(other).await;
    let stream = world.clusters[0].stream(Kind::ConfigMap);
    let ghosts: Vec<_> = (0..GHOSTS).map(|n| format!("{MARK}ghost-{n}")).collect();
    let rest = world.clusters[0].rest();
    for ghost in &ghosts {
        rest.create(Kind::ConfigMap, ghost, "").await.unwrap();
    }
    let streams = [stream.clone()];
    subscriber
        .wait("the ghosts arrive", ARRIVES_WITHIN, |record| {
            record.has_marks(&streams, ghosts.last().unwrap())
        })
        .await;
    world.replicas.kill(&owner);
    let control_plane = &mut world.clusters[0].control_plane;
    control_plane.kill_api_server();
    for ghost in &ghosts {
        let key = format!("{}{NAMESPACE}/{ghost}", Kind::ConfigMap.etcd_prefix());
        control_plane.etcd_delete(&key).await.unwrap();
    }
    control_plane.start_api_server().await.unwrap();
    subscriber
        .wait("the gap comes", ARRIVES_WITHIN, |record| {
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
    assert_eq!(report.repaired, GHOSTS, "one deletion each");
}

async fn wait_synced_again(subscriber: &mut Subscriber, world: &World, kinds: &[Kind]) {
    let streams: Vec<_> = kinds
        .iter()
        .map(|kind| world.clusters[0].stream(*kind))
        .collect();
    subscriber
        .wait("a second snapshot arrives", ARRIVES_WITHIN, |record| {
            streams.iter().all(|stream| record.synced(stream) == 2)
        })
        .await;
}

fn expect_one_gap(record: &Record, world: &World, kind: Kind, reason: GapReason) {
    let gaps = record.gaps(&world.clusters[0].stream(kind));
    let [
        SeenGap {
            from: Some(from),
            to: Some(to),
            reason: said,
            repaired: false,
        },
    ] = gaps
    else {
        panic!("gaps of {kind:?}: {gaps:?}");
    };
    assert_eq!(*said, reason);
    assert!(from < to, "{gaps:?}");
}
