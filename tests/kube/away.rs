//! A subscriber that is away for longer than any memory of the group reaches back.

use std::{env, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{
    control_plane::Options,
    kind::Kind,
    lost_history::SMALL_RINGS,
    subscriber::Subscriber,
    world::World,
    writer::{Mix, Writer},
};

/// Says for how many seconds the subscriber is away, if not for [`AWAY_SECONDS`].
const AWAY_VARIABLE: &str = "QUORUMWATCH_KUBE_AWAY_SECONDS";
/// Longer than a hub follows what no subscriber wants (30 s), shorter than the five minutes of history
/// that the API server keeps.
const AWAY_SECONDS: u64 = 60;
/// ConfigMaps are rare: the API server's watch cache keeps at least the last 100 changes.
const MIX: Mix = Mix {
    weights: [(Kind::Event, 30), (Kind::ConfigMap, 1), (Kind::Widget, 0)],
    every: Duration::from_millis(50),
    text_bytes: 1_000,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn a_subscriber_that_was_away_misses_nothing() {
    let away = env::var(AWAY_VARIABLE).map_or(AWAY_SECONDS, |text| text.parse().unwrap());
    let away = Duration::from_secs(away);
    let kinds = [Kind::Event, Kind::ConfigMap];
    let mut world = World::start(vec![Options::default()], &kinds, SMALL_RINGS).await;
    let mut subscriber = world.subscriber("a").await;
    let writer = Writer::start(world.clusters[0].rest(), MIX, 1);
    world.mark(&mut subscriber, "left").await;
    let (record, cursor) = subscriber.leave().await;
    let back = Instant::now() + away;
    let mut owners = vec![world.owner("k0").await];
    for _ in 0..2 {
        let owner = owners.last().unwrap().clone();
        world.replicas.kill(&owner);
        owners.push(world.other_owner("k0", &owner).await);
        world.replicas.launch(&owner);
        world.leader().await;
    }
    // poll: the time away is what is tested
    sleep_until(back).await;

    let known = record.all().map(|stream| stream.events).sum::<usize>();
    let endpoints = world.replicas.endpoints(owners.first().unwrap());
    let mut subscriber = Subscriber::come_back(endpoints, cursor, record);
    world.mark(&mut subscriber, "back").await;
    let ledger = writer.stop().await;
    world.mark(&mut subscriber, "end").await;
    let record = subscriber.record();
    let report = world.clusters[0].judge(&record, &ledger, "end").await;
    eprintln!(
        "away for {away:?}, known {known}, owners {}: {report}",
        owners.join(", then ")
    );
    report.expect_clean();
    assert_eq!(report.gaps, 0, "{}", record.summary());
}
