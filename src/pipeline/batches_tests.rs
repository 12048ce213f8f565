//! How much is taken out of logs at once, where objects are large.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    feed::{self, BATCH_MAX},
    fixtures::{ALL, FIRST, World, event},
    output::Body,
    subscription::Start,
};
use crate::domain::{
    delivery::{
        item::{Item, Published},
        place::{Place, Reader},
    },
    event::Event,
    id::StreamId,
    position::Position,
};

/// A tenth of a batch, roughly.
const OBJECT_BYTES: usize = 52_000;

/// Far more than a batch.
const MANY: u64 = 40;

fn large_events() -> Vec<Event> {
    let large = |rv| Event {
        object: vec![b' '; OBJECT_BYTES].into(),
        ..event(rv, "large")
    };
    (FIRST + 1..=FIRST + MANY).map(large).collect()
}

fn bytes_of(published: &[Arc<Published>]) -> usize {
    published.iter().map(|it| it.event.object.len()).sum()
}

#[tokio::test(start_paused = true)]
async fn a_message_of_a_feed_is_bounded_in_bytes() {
    let mut world = World::new(ALL, &["v1/events"]);
    let owners = world.begin_at(0);
    let stream = &owners[0].stream;
    assert_eq!(stream.publish(large_events()), 0);
    let from = Position::closed(stream.era().unwrap(), FIRST.into());
    let mut feed = feed::open(stream.clone(), Place::At(from), Reader::Subscriber);
    let (mut had, mut messages) = (0, 0);
    while had < MANY {
        let items = feed.recv().await.unwrap().unwrap();
        let events = items.into_iter().filter_map(|item| match item {
            Item::Event(published) => Some(published),
            _ => None,
        });
        let events: Vec<_> = events.collect();
        assert!(bytes_of(&events) <= BATCH_MAX.bytes);
        had += events.len() as u64;
        messages += u64::from(!events.is_empty());
    }
    assert!(
        messages <= MANY / 5,
        "{messages} messages: each is nearly full"
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_gives_a_batch_of_bounded_bytes_and_each_stream_its_turn() {
    let resources = ["v1/events", "v1/configmaps", "v1/secrets"];
    let mut world = World::new(ALL, &resources);
    let owners = world.begin_at(0);
    let mut subscription = world.subscribe(0, Start::Now).subscription;
    for owner in &owners {
        assert_eq!(owner.stream.publish(large_events()), 0);
    }
    let mut had: BTreeMap<StreamId, u64> = BTreeMap::new();
    while had.values().sum::<u64>() < 3 * MANY {
        let mut events = Vec::new();
        for output in subscription.next().await {
            if let Body::Event(name, published) = output.body {
                *had.entry(name.id).or_default() += 1;
                events.push(published);
            }
        }
        assert!(bytes_of(&events) <= 2 * BATCH_MAX.bytes);
        // Nothing is far ahead of another one.
        let least = world.streams.iter().map(|id| had.get(id).unwrap_or(&0));
        let (least, most) = (least.min(), had.values().max());
        assert!(most <= least.map(|least| least + 10).as_ref(), "{had:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_a_batch_keeps_nothing_after_it_waiting() {
    let resources = ["v1/events", "v1/configmaps", "v1/secrets"];
    let mut world = World::new(ALL, &resources);
    let owners = world.begin_at(0);
    let mut subscriber = world.subscribe(0, Start::Now);
    for owner in &owners {
        let whole = Event {
            object: vec![b' '; BATCH_MAX.bytes].into(),
            ..event(FIRST + 1, "whole")
        };
        assert_eq!(owner.stream.publish(vec![whole]), 0);
    }
    subscriber.until(|it| it.events.len() == 3).await;
}
