//! Who waits for whom: a feed that waits says that it lives, and no stream of a subscription keeps
//! another one waiting.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    feed::{self, ALIVE_EVERY, FeedMessage, messages_max},
    fixtures::{FIRST, Looked, Owner, Subscriber, World, event, events},
    subscription::Start,
};
use crate::domain::{
    delivery::{
        item::Item,
        place::{Place, Reader},
    },
    event::GapReason,
    history::HistoryItem,
    id::{Era, StreamId, UnixMillis},
    position::Position,
    stream::{EraStart, ResumePoint},
};

/// A ring of some ten events.
const SMALL: usize = 8 * 1024;

/// A version that no catch-up here reaches.
const FAR: u64 = 1_000_000;

/// More than a small ring keeps.
const MANY: u64 = 100;

/// A bit more than the interval, so that what comes at it has come.
const SLACK: Duration = Duration::from_millis(10);

/// A subscriber's feed from where the stream began.
fn open(owner: &Owner) -> mpsc::Receiver<FeedMessage> {
    let era = owner.stream.era().expect("it has begun");
    let place = Place::At(Position::closed(era, FIRST.into()));
    feed::open(owner.stream.clone(), place, Reader::Subscriber)
}

/// An owner whose log has nothing of what a feed needs, the feed, and its look into the past.
async fn looking() -> (World, Vec<Owner>, mpsc::Receiver<FeedMessage>, Looked) {
    let mut world = World::new(SMALL, &["v1/events"]);
    let mut owners = world.begin_at(0);
    owners[0].stream.publish(events(FAR..FAR + MANY));
    let feed = open(&owners[0]);
    let looked = owners[0].look().await;
    (world, owners, feed, looked)
}

/// Whether the next message comes within the interval and says nothing but that the feed lives.
async fn says_that_it_lives(feed: &mut mpsc::Receiver<FeedMessage>) -> bool {
    let message = timeout(ALIVE_EVERY + SLACK, feed.recv()).await;
    let items = message.expect("it comes in time").expect("it continues");
    matches!(&*items.unwrap(), [Item::Alive { .. }])
}

/// The next items, without signs of life.
async fn next_items(feed: &mut mpsc::Receiver<FeedMessage>) -> Vec<Item> {
    loop {
        let message = timeout(ALIVE_EVERY + SLACK, feed.recv()).await;
        let items = message.expect("it comes in time").expect("it continues");
        let mut items = items.unwrap();
        items.retain(|item| !matches!(item, Item::Alive { .. }));
        if !items.is_empty() {
            return items;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_feed_whose_look_into_the_past_takes_long_says_that_it_lives() {
    let (_world, _owners, mut feed, looked) = looking().await;
    for _ in 0..30 {
        assert!(says_that_it_lives(&mut feed).await);
    }
    let some = HistoryItem::Events(events(FIRST + 1..=15));
    looked.items.send(some).await.unwrap();
    assert_eq!(next_items(&mut feed).await.len(), 5);
    for _ in 0..30 {
        assert!(says_that_it_lives(&mut feed).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_feed_of_a_stream_that_has_not_begun_says_that_it_lives() {
    let mut world = World::new(SMALL, &["v1/events"]);
    let owners = world.give_to(0);
    let stream = owners[0].stream.clone();
    let mut feed = feed::open(stream, Place::SnapshotDue, Reader::Subscriber);
    for _ in 0..30 {
        assert!(says_that_it_lives(&mut feed).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_feed_whose_reader_is_slow_neither_ends_nor_falls_silent() {
    let (_world, _owners, mut feed, looked) = looking().await;
    // Nothing is read, neither signs of life nor more events than wait.
    tokio::time::sleep(ALIVE_EVERY * 60).await;
    let items = looked.items.clone();
    let flood = tokio::spawn(async move {
        for rv in FIRST + 1..=FIRST + MANY {
            let one = HistoryItem::Events(vec![event(rv, "o")]);
            items.send(one).await.unwrap();
        }
    });
    let mut had = 0;
    while had < MANY {
        tokio::time::sleep(ALIVE_EVERY * 4).await;
        let waited = Instant::now();
        for _ in 0..=messages_max(Reader::Subscriber) {
            had += next_items(&mut feed).await.len() as u64;
            if had == MANY {
                break;
            }
        }
        assert!(waited.elapsed() <= ALIVE_EVERY);
    }
    flood.await.unwrap();
    assert!(says_that_it_lives(&mut feed).await);
}

/// Gives one event after the other, for as long as it is read.
fn endless(looked: Looked) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        for rv in FIRST + 1..FAR {
            let one = HistoryItem::Events(vec![event(rv, "past")]);
            if looked.items.send(one).await.is_err() {
                return;
            }
        }
    }))
}

/// A subscriber at the owner of three streams. It catches up with the first, and never ends.
struct Busy {
    owners: Vec<Owner>,
    subscriber: Subscriber,
    rv: u64,
    _world: World,
    _past: AbortOnDropHandle<()>,
}

impl Busy {
    async fn begin() -> Self {
        let resources = ["v1/events", "v1/configmaps", "v1/secrets"];
        let mut world = World::new(SMALL, &resources);
        let mut owners = world.begin_at(0);
        let cursor = world.subscribe(0, Start::Now).subscription.cursor();
        owners[0].stream.publish(events(FAR..FAR + MANY));
        let mut subscriber = world.subscribe(0, Start::Cursor(cursor));
        let looked = tokio::select! {
            looked = owners[0].look() => looked,
            () = subscriber.until(|_| false) => unreachable!(),
        };
        let past = endless(looked);
        Self {
            owners,
            subscriber,
            rv: FIRST,
            _world: world,
            _past: past,
        }
    }

    fn publish(&mut self, stream: usize) {
        self.rv += 1;
        let one = vec![event(self.rv, "live")];
        assert_eq!(self.owners[stream].stream.publish(one), 0);
    }

    /// One call of `next`, before which everything that can wait for it does.
    async fn call(&mut self) {
        tokio::time::sleep(SLACK).await; // poll: time is paused, all others run first
        self.subscriber.read().await;
    }

    fn had_of(&self, stream: usize) -> usize {
        let id: StreamId = self.owners[stream].stream.id;
        let events = self.subscriber.events.iter();
        events.filter(|(of, _)| *of == id).count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_catch_up_that_never_ends_keeps_no_live_stream_waiting() {
    let mut busy = Busy::begin().await;
    for n in 1..=50 {
        busy.call().await;
        busy.publish(1);
        busy.publish(2);
        busy.call().await;
        busy.call().await;
        assert_eq!((busy.had_of(1), busy.had_of(2)), (n, n));
    }
    assert!(busy.had_of(0) > 50, "the catch-up continues meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_never_quiet_keeps_neither_a_catch_up_nor_another_stream_waiting() {
    let mut busy = Busy::begin().await;
    for n in 1..=50 {
        let before = busy.had_of(0);
        busy.publish(2);
        for _ in 0..3 {
            busy.publish(1);
            busy.call().await;
        }
        assert!(busy.had_of(0) > before, "the catch-up stands still");
        assert_eq!(busy.had_of(2), n);
    }
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_was_opened_before_its_owner_has_an_era_does_not_wait_for_a_tick() {
    let mut world = World::new(SMALL, &["v1/events"]);
    let owner = world.give_to(0).remove(0);
    let start = EraStart {
        era: Era(1),
        reason: GapReason::StreamCreated,
        from: None,
        to: FIRST.into(),
        repaired: false,
        unbroken_since: Era(1),
        broken_by: GapReason::StreamCreated,
        at: UnixMillis(0),
    };
    let begin = Position::closed(Era(1), FIRST.into());
    let place = Place::At(begin.clone());
    let mut feed = feed::open(owner.stream.clone(), place, Reader::Log);
    // The first tick comes at once.
    assert!(says_that_it_lives(&mut feed).await);
    let opened = Instant::now();
    owner.stream.resume(start, &ResumePoint::At(begin));
    owner.stream.publish(events([FIRST + 1]));
    let first = feed.recv().await.unwrap().unwrap();
    assert!(matches!(&*first, [Item::Event(_)]), "{first:?}");
    assert!(opened.elapsed() < ALIVE_EVERY);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_replay_is_woken_after_something_that_was_nothing_to_it() {
    let (_world, _owners, mut feed, looked) = looking().await;
    for rv in FIRST + 1..FIRST + 4 {
        looked.items.send(HistoryItem::Scarce).await.unwrap();
        // The reader looks, and there is nothing.
        tokio::time::sleep(SLACK).await;
        let sent = Instant::now();
        let item = HistoryItem::Events(events([rv]));
        looked.items.send(item).await.unwrap();
        while !matches!(&*feed.recv().await.unwrap().unwrap(), [Item::Event(_)]) {}
        assert!(sent.elapsed() < SLACK, "{:?}", sent.elapsed());
    }
}
