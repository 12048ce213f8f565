//! What a subscriber receives while the stream that it reads has two owners: one whose lease is
//! over and that does not know it yet, and the one that the group agreed on.

use std::time::Duration;

use super::{
    fixtures::{ALL, FIRST, Looked, Owner, Subscriber, World, event, events},
    subscription::Start,
};
use crate::domain::{delivery::feed::Look, event::GapReason, history::HistoryItem};

/// A ring that keeps next to nothing.
const SMALL: usize = 600;

fn names(epoch: u64, versions: impl IntoIterator<Item = u64>) -> Vec<(u64, String)> {
    let versions = versions.into_iter();
    versions.map(|rv| (epoch, format!("o{rv}"))).collect()
}

/// Answers one look, which has to be this one.
async fn answer(owner: &mut Owner, look: Look, item: HistoryItem) {
    let looked = owner.look().await;
    assert_eq!(looked.look, look);
    looked.items.send(item).await.unwrap();
    // The look continues: it is a watch.
    std::future::pending::<()>().await;
}

/// A subscriber at replica 0, which owns the stream, that has caught up to version 15 of what the
/// log there does not have any more.
async fn catching_up(world: &mut World) -> (Vec<Owner>, Subscriber, Looked) {
    let mut owners = world.begin_at(0);
    let cursor = world.subscribe(0, Start::Now).subscription.cursor();
    owners[0].stream.publish(events(FIRST + 1..=30));
    let mut subscriber = world.subscribe(0, Start::Cursor(cursor));
    let looked = tokio::select! {
        looked = owners[0].look() => looked,
        () = subscriber.until(|_| false) => unreachable!(),
    };
    assert_eq!(looked.look, Look::Watch(FIRST.into()));
    let first = HistoryItem::Events(events(FIRST + 1..=15));
    looked.items.send(first).await.unwrap();
    subscriber.until(|it| it.events.len() == 5).await;
    (owners, subscriber, looked)
}

#[tokio::test(start_paused = true)]
async fn a_feed_is_cut_when_its_shard_moves_and_goes_on_at_the_new_owner() {
    let mut world = World::new(SMALL, &["v1/events"]);
    let (_owners, mut subscriber, looked) = catching_up(&mut world).await;
    let mut next = world.give_to(1);
    world.notify(&[0, 1]);
    // The old owner does not know yet, and its API server continues.
    let stale = HistoryItem::Events(vec![event(16, "stale")]);
    let _ = looked.items.send(stale).await;
    next[0].stream.publish(events(FIRST + 1..=30));
    let rest = HistoryItem::Events(events(16..=30));
    let looked_again = answer(&mut next[0], Look::Watch(15.into()), rest);
    tokio::select! {
        () = subscriber.until(|it| it.events.len() >= 20) => {}
        () = looked_again => {}
    }
    let mut expected = names(1, FIRST + 1..=15);
    expected.extend(names(2, 16..=30));
    assert_eq!((subscriber.seen(), subscriber.gaps), (expected, 0));
    assert!(
        looked.items.is_closed(),
        "the old owner's feed is still read"
    );
}

#[tokio::test(start_paused = true)]
async fn what_an_owner_publishes_that_was_replaced_is_not_delivered() {
    let mut world = World::new(ALL, &["v1/events"]);
    let old = world.begin_at(0);
    // Where the old owner is, its own publication writes the log that its subscribers read.
    let mut subscriber = world.subscribe(0, Start::Now);
    old[0].stream.publish(events(FIRST + 1..=12));
    subscriber.until(|it| it.events.len() == 2).await;
    let next = world.give_to(1);
    world.notify(&[0, 1]);
    next[0].stream.publish(events(FIRST + 1..=13));
    subscriber.until(|it| it.events.len() == 3).await;
    old[0].stream.publish(vec![event(14, "stale")]);
    subscriber.read_for(Duration::from_secs(10)).await;
    next[0].stream.publish(events(14..=15));
    subscriber.until(|it| it.events.len() >= 5).await;
    let mut expected = names(1, FIRST + 1..=12);
    expected.extend(names(2, 13..=15));
    assert_eq!((subscriber.seen(), subscriber.gaps), (expected, 0));
}

#[tokio::test(start_paused = true)]
async fn who_read_of_a_replaced_owner_beyond_the_next_era_goes_on_in_it() {
    let mut world = World::new(SMALL, &["v1/events"]);
    let (old, mut subscriber, looked) = catching_up(&mut world).await;
    // Replica 0 is cut off from the group; its lease is over, and it does not publish. The new
    // owner's watch is lost, and it continues with net changes up to version 20.
    let mut next = world.give_to(1);
    world.begin_era(&next[0].stream, GapReason::WatchCacheReset, 20);
    next[0].stream.publish_repair(events(FIRST + 1..=20));
    next[0].stream.close(&20.into());
    next[0].stream.publish(events(21..=40));
    world.notify(&[1]);
    // The history that a feed reads is the same one for every reader.
    let more = HistoryItem::Events(events(16..=25));
    looked.items.send(more).await.unwrap();
    subscriber.until(|it| it.events.len() == 15).await;
    world.notify(&[0]);
    let rest = HistoryItem::Events(events(26..=40));
    let looked_again = answer(&mut next[0], Look::Watch(25.into()), rest);
    tokio::select! {
        () = subscriber.until(|it| it.events.len() >= 30) => {}
        () = looked_again => {}
    }
    drop(old);
    let mut expected = names(1, FIRST + 1..=25);
    expected.extend(names(2, 26..=40));
    assert_eq!((subscriber.seen(), subscriber.gaps), (expected, 0));
}
