//! What can happen, in an order that a seed gives.

use std::time::Duration;

use quorumwatch::pipeline::subscription::Start;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::{model::World, subscriber::Subscriber};

/// Writes, takeovers, lost watches, pauses and reconnects in an order that the seed gives.
pub(crate) async fn random_walk(seed: u64, patience: Duration) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let lossless = seed.is_multiple_of(2);
    let ring_bytes = if rng.random() { 2_000 } else { 1 << 20 };
    let mut world = World::new(ring_bytes).await;
    let mut subscriber = world.subscribe(
        0,
        if lossless {
            Start::Now
        } else {
            Start::Snapshot
        },
    );
    for _ in 0..rng.random_range(5..40) {
        match rng.random_range(0..10) {
            0..=2 => world.write(rng.random_range(1..20)).await,
            3 => world.delete_together(rng.random_range(1..5)).await,
            4 => world.take_over().await,
            5 => tokio::time::sleep(Duration::from_millis(rng.random_range(1..9_000))).await,
            6 => subscriber = reconnect(&world, subscriber, &mut rng),
            7 if !lossless => world.lose_the_watch(rng.random_range(1..9)).await,
            8 if !lossless && rng.random_ratio(1, 4) => world.compact(),
            _ => {
                let some = Duration::from_millis(rng.random_range(1..400));
                let _ =
                    tokio::time::timeout(some, subscriber.catch_up_with(&world, patience)).await;
            }
        }
    }
    subscriber.catch_up_with(&world, patience).await;
    if lossless {
        assert_eq!(subscriber.seen, world.truth_after_start(), "SEED={seed}");
    }
    assert_eq!(
        subscriber.objects(),
        world.objects(),
        "SEED={seed}\n{:?}",
        subscriber.seen
    );
}

fn reconnect(world: &World, mut subscriber: Subscriber, rng: &mut SmallRng) -> Subscriber {
    // What was on its way is lost with the connection.
    let lost = rng
        .random_range(0..3)
        .min(subscriber.cursors.len() - 1)
        .min(subscriber.seen.len());
    subscriber.forget_last(lost);
    world.resume(rng.random_range(0..2), &subscriber)
}
