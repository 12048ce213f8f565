//! Three clusters, three replicas, and everything that dies.

use std::time::{Duration, Instant};

use quorumwatch::proto::v1::GapReason;

use crate::{
    condition::eventually,
    control_plane::Options,
    judge::Report,
    kind::Kind,
    subscriber::{Record, Stream, Subscriber},
    truth::Truth,
    world::{ARRIVES_WITHIN, World},
    writer::{Ledger, Mix, Writer},
};

/// So short that Events expire while the test runs.
const EVENT_TTL: Duration = Duration::from_secs(20);
/// For Events to expire: the API server's leases last some seconds longer than the TTL.
const EXPIRED_WITHIN: Duration = Duration::from_secs(120);
/// Events of each stream that must arrive before the next thing happens.
const UNDISTURBED: usize = 40;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn a_subscriber_receives_everything_whatever_dies() {
    let begun = Instant::now();
    let options = [Some(EVENT_TTL), None, None].map(|ttl| Options {
        event_ttl: ttl.unwrap_or(Options::default().event_ttl),
        ..Options::default()
    });
    let mut world = World::start(options.to_vec(), &Kind::ALL, &[]).await;
    // The replica that dies first is also the one that serves the subscriber.
    let owner = world.owner("k0").await;
    let mut subscriber = world.subscriber(&owner).await;
    let writers = start_writers(&world);
    flow(&world, &mut subscriber).await;

    kill_and_restart(&mut world, &mut subscriber, &owner).await;
    let leader = world.leader().await;
    kill_and_restart(&mut world, &mut subscriber, &leader).await;
    world.clusters[1].control_plane.kill_api_server();
    let restarted = world.clusters[1].control_plane.start_api_server().await;
    restarted.unwrap();
    wait_gap(&mut subscriber, world.clusters[1].stream(Kind::ConfigMap)).await;
    wait_gap(&mut subscriber, world.clusters[1].stream(Kind::Widget)).await;
    flow(&world, &mut subscriber).await;
    world.clusters[2].rest().redefine_widgets(&["v2"]).await;
    wait_gap(&mut subscriber, world.clusters[2].stream(Kind::Widget)).await;
    flow(&world, &mut subscriber).await;
    let shared = wait_shared_deletions(&world).await;

    let mut ledgers = Vec::new();
    for writer in writers {
        ledgers.push(writer.stop().await);
    }
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

fn start_writers(world: &World) -> Vec<Writer> {
    let mix = Mix {
        weights: Kind::ALL.map(|kind| (kind, 1)),
        every: Duration::from_millis(30),
        text_bytes: 40,
    };
    (1..)
        .zip(&world.clusters)
        .map(|(seed, cluster)| Writer::start(cluster.rest(), mix.clone(), seed))
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

async fn wait_gap(subscriber: &mut Subscriber, stream: Stream) {
    let what = format!("the gap of {stream:?} is told");
    subscriber
        .wait(&what, ARRIVES_WITHIN, |record| {
            !record.gaps(&stream).is_empty()
        })
        .await;
}

/// Waits until Events have expired together (trap T7); tells how many.
async fn wait_shared_deletions(world: &World) -> usize {
    eventually("Events expire together", EXPIRED_WITHIN, async || {
        let shared = Truth::of(&world.clusters[0].etcd, Kind::Event).shared_deletions();
        (shared > 2).then_some(shared)
    })
    .await
}

/// There are gaps where a watch cache began anew, all repaired, and none elsewhere.
fn check_gaps(world: &World, record: &Record, report: &mut Report) {
    let due = [
        ("k1".to_owned(), Kind::ConfigMap),
        ("k1".to_owned(), Kind::Widget),
        ("k2".to_owned(), Kind::Widget),
    ];
    for stream in world.streams() {
        let gaps = record.gaps(&stream);
        let fits = if due.contains(&stream) {
            let reset = |gap: &crate::subscriber::SeenGap| {
                gap.repaired && gap.reason == GapReason::WatchCacheReset
            };
            gaps.len() == 1 && gaps.iter().all(reset)
        } else {
            gaps.is_empty()
        };
        if !fits {
            report.wrong(format!("gaps of {stream:?}: {gaps:?}"));
        }
        if record.synced.get(&stream) != Some(&1) {
            report.wrong(format!("{stream:?} had a snapshot too many"));
        }
    }
}
