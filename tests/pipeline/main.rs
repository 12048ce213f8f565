//! Owners, hubs and subscribers in one process, on a simulated stream: what a subscriber was
//! promised holds across changes of owner, lagging hubs, small rings, repairs and lost history.
//!
//! Time is paused: a run takes milliseconds and is the same each time.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod model;
mod server;
mod subscriber;
mod walk;

use std::time::Duration;

use model::World;
use quorumwatch::{
    domain::frame::Change,
    pipeline::{
        filter::{Filter, Filters},
        subscription::Start,
    },
};
use subscriber::Seen;

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(start_paused = true)]
async fn a_subscriber_sees_every_event_once_in_order() {
    let mut world = World::new(1 << 20).await;
    let mut subscriber = world.subscribe(0, Start::Now);
    world.write(50).await;
    subscriber.catch_up_with(&world, PATIENCE).await;
    assert_eq!(subscriber.seen, world.truth_after_start());
}

#[tokio::test(start_paused = true)]
async fn frames_that_share_a_version_arrive_all() {
    let mut world = World::new(1 << 20).await;
    let mut subscriber = world.subscribe(1, Start::Now);
    world.write(5).await;
    world.delete_together(4).await;
    subscriber.catch_up_with(&world, PATIENCE).await;
    assert_eq!(subscriber.seen, world.truth_after_start());
}

#[tokio::test(start_paused = true)]
async fn a_cursor_inside_a_version_resumes_without_loss_or_repetition() {
    let mut world = World::new(1 << 20).await;
    let mut subscriber = world.subscribe(0, Start::Now);
    world.write(3).await;
    world.delete_together(3).await;
    subscriber.catch_up_with(&world, PATIENCE).await;
    // As if the connection had broken inside the batch.
    subscriber.forget_last(2);
    let mut resumed = world.resume(1, &subscriber);
    world.write(2).await;
    resumed.catch_up_with(&world, PATIENCE).await;
    assert_eq!(resumed.seen, world.truth_after_start());
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_returns_late_is_served_from_the_history() {
    let mut world = World::new(600).await;
    let mut subscriber = world.subscribe(0, Start::Now);
    world.write(5).await;
    subscriber.catch_up_with(&world, PATIENCE).await;
    let (cursor, seen) = subscriber.leave();
    for _ in 0..5 {
        world.write(40).await;
        world.take_over().await;
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    let mut resumed = world.subscribe(1, Start::Cursor(cursor));
    resumed.seen = seen;
    world.write(3).await;
    resumed.catch_up_with(&world, PATIENCE).await;
    assert_eq!(resumed.seen, world.truth_after_start());
    assert!(
        world.catch_ups() > 0,
        "the rings were too large to test anything"
    );
}

#[tokio::test(start_paused = true)]
async fn history_that_is_gone_is_told_and_followed_by_a_snapshot() {
    let mut world = World::new(600).await;
    let mut subscriber = world.subscribe(0, Start::Now);
    world.write(5).await;
    subscriber.catch_up_with(&world, PATIENCE).await;
    let (cursor, _) = subscriber.leave();
    world.write(60).await;
    world.compact();
    world.take_over().await;
    let mut resumed = world.subscribe(1, Start::Cursor(cursor));
    resumed
        .wait_for(PATIENCE, |seen| seen.contains(&Seen::Synced))
        .await;
    assert!(matches!(
        resumed.seen.first(),
        Some(Seen::Gap {
            repaired: false,
            ..
        })
    ));
    assert_eq!(resumed.snapshot(), world.objects());
    world.write(5).await;
    resumed.catch_up_with(&world, PATIENCE).await;
    assert_eq!(resumed.objects(), world.objects());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_first_is_followed_by_every_later_event() {
    let mut world = World::new(1 << 20).await;
    world.write(20).await;
    let mut subscriber = world.subscribe(1, Start::Snapshot);
    world.write(20).await;
    subscriber.catch_up_with(&world, PATIENCE).await;
    assert_eq!(subscriber.objects(), world.objects());
    assert!(
        !subscriber
            .seen
            .iter()
            .any(|seen| matches!(seen, Seen::Gap { .. }))
    );
}

#[tokio::test(start_paused = true)]
async fn a_repaired_era_gives_the_net_changes_and_no_snapshot() {
    let mut world = World::new(1 << 20).await;
    let mut subscriber = world.subscribe(0, Start::Now);
    world.write(10).await;
    subscriber.catch_up_with(&world, PATIENCE).await;
    world.lose_the_watch(15).await;
    world.write(5).await;
    subscriber.catch_up_with(&world, PATIENCE).await;
    assert_eq!(subscriber.objects(), world.objects());
    let gaps = subscriber
        .seen
        .iter()
        .filter(|seen| matches!(seen, Seen::Gap { repaired: true, .. }));
    assert_eq!(gaps.count(), 1);
    assert!(!subscriber.seen.contains(&Seen::Synced));
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_its_owner_did_not_finish_is_finished_by_the_next() {
    let mut world = World::new(600).await;
    let mut subscriber = world.subscribe(1, Start::Now);
    world.write(10).await;
    subscriber.catch_up_with(&world, PATIENCE).await;
    world.lose_the_watch_and_crash(15, 4).await;
    world.write(5).await;
    subscriber.catch_up_with(&world, PATIENCE).await;
    assert_eq!(subscriber.objects(), world.objects());
    assert_eq!(subscriber.repeated(), 0);
    assert!(!subscriber.seen.contains(&Seen::Synced));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_never_comes_without_its_gap() {
    let mut world = World::new(1 << 20).await;
    let mut subscriber = world.subscribe(0, Start::Now);
    world.write(5).await;
    world.delete_together(3).await;
    subscriber.wait_for(PATIENCE, |seen| seen.len() == 8).await;
    // It stands just after a deletion, where more may follow, and inside the ring: two repaired
    // eras begin behind it, and no repair leads through both.
    let (cursor, _) = subscriber.leave();
    world.reset_the_watch(3).await;
    world.reset_the_watch(3).await;
    let mut resumed = world.subscribe(1, Start::Cursor(cursor));
    world.write(3).await;
    resumed.catch_up_with(&world, PATIENCE).await;
    let snapshot = |seen: &Seen| {
        matches!(
            seen,
            Seen::Event {
                change: Change::Snapshot,
                ..
            }
        )
    };
    let first = resumed.seen.iter().position(snapshot);
    let before = &resumed.seen[..first.expect("a snapshot is needed")];
    let gap = |seen: &Seen| {
        matches!(
            seen,
            Seen::Gap {
                repaired: false,
                ..
            }
        )
    };
    assert!(before.iter().any(gap), "{:?}", resumed.seen);
    assert_eq!(resumed.objects(), world.objects());
}

#[tokio::test(start_paused = true)]
async fn a_filter_never_holds_the_cursor_back() {
    let mut world = World::new(1 << 20).await;
    let filter = Filter {
        names: vec!["nobody".to_owned()].into(),
        ..Filter::default()
    };
    let filters = Filters::new(vec![filter]);
    let mut subscriber = world.subscribe_filtered(0, filters, Start::Now);
    world.write(30).await;
    subscriber.catch_up_with(&world, PATIENCE).await;
    assert_eq!(subscriber.seen, []);
}

/// Many worlds, each with its own order of writes, takeovers, pauses and reconnects.
#[tokio::test(start_paused = true)]
async fn every_event_arrives_once_whatever_happens_in_between() {
    let seeds: u64 = std::env::var("SEEDS").map_or(60, |text| text.parse().expect("SEEDS"));
    let first = std::env::var("SEED")
        .ok()
        .map(|text| text.parse().expect("SEED"));
    let range = first.map_or(0..seeds, |seed: u64| seed..seed + 1);
    for seed in range {
        walk::random_walk(seed, PATIENCE).await;
    }
}
