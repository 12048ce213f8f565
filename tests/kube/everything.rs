//! Three clusters, three replicas, and everything that dies.

use std::time::{Duration, Instant};

use quorumwatch::proto::v1::GapReason;

use crate::{
    condition::eventually,
    control_plane::Options,
    kind::{Kind, NAMESPACE},
    record::{Record, Stream},
    report::Report,
    subscriber::Subscriber,
    truth::Truth,
    world::{ARRIVES_WITHIN, World},
    writer::{Ledger, Mix, Writer},
};

/// So short that Events expire while the test runs.
const EVENT_TTL: Duration = Duration::from_secs(20);
/// For Events to expire: the API server's leases last some seconds longer than the TTL.
const EXPIRED_WITHIN: Duration = Duration::from_secs(120);
/// For the API server to end the watches of what was redefined, and the stream to be repaired.
const REDEFINED_WITHIN: Duration = Duration::from_secs(15);
/// Objects of each kind that are deleted while there is no API server.
const DELETED_BELOW: usize = 3;
/// Events of each stream that must arrive before the next thing happens.
const UNDISTURBED: usize = 40;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn a_subscriber_receives_everything_whatever_dies() {
    let begun = Instant::now();
    let short_lived = Options {
        event_ttl: EVENT_TTL,
        ..Options::default()
    };
    let options = vec![short_lived, Options::default(), Options::default()];
    let mut world = World::start(options, &Kind::ALL, &[]).await;
    // The replica that dies first is also the one that serves the subscriber.
    let owner = world.owner("k0").await;
    let mut subscriber = world.subscriber(&owner).await;
    let mut writers = start_writers(&world);
    flow(&world, &mut subscriber).await;

    kill_and_restart(&mut world, &mut subscriber, &owner).await;
    let leader = world.leader().await;
    kill_and_restart(&mut world, &mut subscriber, &leader).await;
    restart_api_server(&mut world, &mut subscriber).await;
    let part = redefine_widgets(&world, &mut subscriber, &mut writers[2]).await;
    flow(&world, &mut subscriber).await;
    let shared = wait_shared_deletions(&world).await;

    let mut ledgers = Vec::new();
    for writer in writers {
        ledgers.push(writer.stop().await);
    }
    ledgers[2].add(part);
    world.mark(&mut subscriber, "end").await;
    let record = subscriber.record();
    let mut report = Report::default();
    for (cluster, ledger) in world.clusters.iter().zip(&ledgers) {
        report.add(cluster.judge(&record, ledger, "end").await);
    }
    check_gaps(&world, &record, &mut report);
    let writes: usize = ledgers.iter().map(Ledger::writes).sum();
    let failed: usize = ledgers.iter().map(|ledger| ledger.failed).sum();
    eprintln!(
        "whatever dies: {writes} writes acknowledged, {failed} not; 2 replicas and 1 API server \
         killed, 1 CRD changed, {} reconnections, up to {shared} deletions in one version; \
         {report}; {:.0?}",
        record.interruptions,
        begun.elapsed()
    );
    report.expect_clean();
    assert!(record.interruptions > 0, "nothing interrupted it");
    assert!(report.compared > report.events / 2, "too little compared");
}

const MIX: Mix = Mix {
    weights: [(Kind::Event, 1), (Kind::ConfigMap, 1), (Kind::Widget, 1)],
    every: Duration::from_millis(30),
    text_bytes: 40,
};

fn start_writers(world: &World) -> Vec<Writer> {
    (1..)
        .zip(&world.clusters)
        .map(|(seed, cluster)| Writer::start(cluster.rest(), MIX, seed))
        .collect()
}

/// Waits until every stream has moved.
async fn flow(world: &World, subscriber: &mut Subscriber) {
    let streams = world.streams();
    subscriber
        .wait_events(&streams, UNDISTURBED, ARRIVES_WITHIN)
        .await;
}

/// A death in the midst of everything; the replica comes back once the others go on without it.
async fn kill_and_restart(world: &mut World, subscriber: &mut Subscriber, name: &str) {
    world.replicas.kill(name);
    flow(world, subscriber).await;
    world.replicas.launch(name);
    world.leader().await;
    flow(world, subscriber).await;
}

/// Kills the API server of `k1`, and starts it again: its watch caches begin again. What is deleted
/// meanwhile, below it, is seen by no watch.
async fn restart_api_server(world: &mut World, subscriber: &mut Subscriber) {
    let kinds = [Kind::ConfigMap, Kind::Widget];
    let cluster = &mut world.clusters[1];
    cluster.control_plane.kill_api_server();
    for kind in kinds {
        let there = Truth::of(&cluster.etcd, kind).objects_at(u64::MAX);
        let ours = there.keys().filter(|key| key.starts_with(NAMESPACE));
        for key in ours.take(DELETED_BELOW) {
            let key = format!("{}{key}", kind.etcd_prefix());
            cluster.control_plane.etcd_delete(&key).await.unwrap();
        }
    }
    cluster.control_plane.start_api_server().await.unwrap();
    for kind in kinds {
        let stream = world.clusters[1].stream(kind);
        assert!(wait_gap(subscriber, &stream, ARRIVES_WITHIN).await);
    }
    flow(world, subscriber).await;
}

/// Changes the definition of widgets on `k2` while other objects are written: the watch cache of
/// widgets begins again. Where the last widget, or a bookmark, is newer than its beginning, no
/// harm is done; then the definition is changed again. Gives what was written meanwhile.
async fn redefine_widgets(
    world: &World,
    subscriber: &mut Subscriber,
    writer: &mut Writer,
) -> Ledger {
    let cluster = &world.clusters[2];
    let [events, config_maps, (widget, _)] = MIX.weights;
    let others = Mix {
        weights: [events, config_maps, (widget, 0)],
        ..MIX
    };
    let replace = |mix, seed| Writer::start(cluster.rest(), mix, seed);
    let mut ledger = std::mem::replace(writer, replace(others, 13)).stop().await;
    let mut served = Vec::new();
    loop {
        served.push(["v2", "v3", "v4", "v5"][served.len()]);
        cluster.rest().redefine_widgets(&served).await;
        if wait_gap(subscriber, &cluster.stream(Kind::Widget), REDEFINED_WITHIN).await {
            break;
        }
    }
    ledger.add(std::mem::replace(writer, replace(MIX, 23)).stop().await);
    ledger
}

/// Whether a gap comes in time.
async fn wait_gap(subscriber: &mut Subscriber, stream: &Stream, within: Duration) -> bool {
    let seen = subscriber.sees(within, |record| !record.gaps(stream).is_empty());
    seen.await
}

/// Waits until Events have expired together (trap T7); returns how many.
async fn wait_shared_deletions(world: &World) -> usize {
    eventually("Events expire together", EXPIRED_WITHIN, async || {
        let shared = Truth::of(&world.clusters[0].etcd, Kind::Event).shared_deletions();
        (shared > 2).then_some(shared)
    })
    .await
}

/// There are gaps where a watch cache began again, all repaired, and none elsewhere.
fn check_gaps(world: &World, record: &Record, report: &mut Report) {
    let due = [
        ("k1".to_owned(), Kind::ConfigMap),
        ("k1".to_owned(), Kind::Widget),
        ("k2".to_owned(), Kind::Widget),
    ];
    for stream in world.streams() {
        let gaps = record.gaps(&stream);
        let fits = if due.contains(&stream) {
            matches!(gaps, [gap] if gap.repaired && gap.reason == GapReason::WatchCacheReset)
        } else {
            gaps.is_empty()
        };
        if !fits {
            report.wrong(format!("gaps of {stream:?}: {gaps:?}"));
        }
        if record.synced(&stream) != 1 {
            report.wrong(format!("{stream:?} had a snapshot too many"));
        }
    }
}
