//! A stream whose shard has no owner is followed no longer once nothing here reads it. A subscriber
//! that arrives at that moment must not be left with a log that nothing is written to any more.

use super::{
    fixtures::{ALL, FIRST, World, events},
    subscription::Start,
};

/// More often than what follows a stream has to run until it has forgotten it.
const TURNS: usize = 6;

/// Lets everything else run so often.
async fn others_run(turns: usize) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// A subscriber stays for so many turns; another one arrives so many after it has left. The shard
/// has an owner again only after that.
async fn one_leaves_and_another_arrives(stays: usize, absent: usize) {
    let mut world = World::new(ALL, &["v1/events"]);
    let _before = world.begin_at(1);
    world.take_away();
    world.notify(&[0, 1]);
    let first = world.subscribe(0, Start::Now);
    others_run(stays).await;
    drop(first);
    others_run(absent).await;
    // What follows the stream runs before the subscriber reads for the first time.
    let mut second = world.subscribe(0, Start::Now);
    others_run(TURNS).await;
    let next = world.give_to(1);
    world.notify(&[0, 1]);
    next[0].stream.publish(events([FIRST + 1]));
    second.until(|it| it.events.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_arrives_as_a_stream_is_forgotten_gets_what_its_next_owner_publishes() {
    for stays in 0..TURNS {
        for absent in 0..TURNS {
            one_leaves_and_another_arrives(stays, absent).await;
        }
    }
}
