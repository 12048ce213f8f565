//! API servers that are killed and come back: how soon streams flow again.

use std::{
    env,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    control_plane::Options,
    kind::{Kind, NAMESPACE},
    record::{Record, Seen},
    world::{ARRIVES_WITHIN, World},
};

/// How often the API server is killed, where `OUTAGES` says nothing: `OUTAGES=15` measures.
const OUTAGES: usize = 3;
const KINDS: [Kind; 2] = [Kind::Event, Kind::ConfigMap];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn streams_flow_again_after_each_of_many_restarts() {
    let count = env::var("OUTAGES").map_or(OUTAGES, |text| text.parse().unwrap());
    let mut world = World::start(vec![Options::default()], &KINDS, &[]).await;
    let mut subscriber = world.subscriber("a").await;
    let mut rng = SmallRng::seed_from_u64(1);
    let mut took = [const { Vec::new() }; 2];
    for number in 0..count {
        let calm = Duration::from_millis(rng.random_range(0..4_000));
        tokio::time::sleep(calm).await; // poll: the time between two outages
        let killed = Instant::now();
        let control_plane = &mut world.clusters[0].control_plane;
        control_plane.kill_api_server();
        let away = Duration::from_millis(rng.random_range(0..4_000));
        tokio::time::sleep(away).await; // poll: the outage itself
        control_plane.start_api_server().await.unwrap();
        let ready = Instant::now();
        let cluster = &world.clusters[0];
        let name = format!("after-{number}");
        for kind in KINDS {
            cluster.rest().create(kind, &name, "").await.unwrap();
        }
        let key = format!("{NAMESPACE}/{name}");
        let mut came = [None; 2];
        let both = |record: &Record| {
            for (kind, came) in KINDS.into_iter().zip(&mut came) {
                let is_it = |seen: &Seen| matches!(seen, Seen::Event(event) if event.key == key);
                if came.is_none() && record.seen(&cluster.stream(kind)).iter().any(is_it) {
                    *came = Some(ready.elapsed());
                }
            }
            came.iter().all(Option::is_some)
        };
        subscriber.wait("both flow", ARRIVES_WITHIN * 2, both).await;
        eprintln!("{number}: away {:.1?}, {came:.2?}", ready - killed);
        for (took, came) in took.iter_mut().zip(came) {
            took.extend(came);
        }
    }
    for (kind, took) in KINDS.iter().zip(&mut took) {
        took.sort();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        let (p50, p99, max) = (at(50), at(99), took[took.len() - 1]);
        eprintln!(
            "{}: n {count}, p50 {p50:.2?}, p99 {p99:.2?}, max {max:.2?} after /readyz",
            kind.resource()
        );
    }
}
