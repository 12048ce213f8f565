//! One stream of one subscription: where it stands, and where its items come from.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{
    coverage::Added,
    filter::{StreamFilter, Verdict},
    hub::{Hub, HubStream},
    log::{ReadFrom, Wake},
    output::{StreamName, StreamProgress},
};
use crate::domain::{
    delivery::{
        feed::FeedError,
        item::{Gap, Item, Published},
        place::{Admission, Place, Reader},
        ring::{Read, ReadMax},
    },
    event::Event,
    id::StreamId,
    position::Position,
    stream::Stream,
};

/// A failed catch-up is tried again after a pause that doubles from here ...
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// ... this many times.
const RETRY_DOUBLINGS_MAX: u32 = 5;

/// A stream is heard every second where it is watched; what is new since the last progress is worth
/// a line only where it is more than that.
const HEARD_NEWS: Duration = Duration::from_secs(3);

/// What a catch-up feed of one stream gave.
pub(super) struct CatchUp {
    pub(super) stream: StreamId,
    /// Which feed of the stream; late messages of an abandoned one are dropped.
    pub(super) attempt: u64,
    pub(super) message: Result<Vec<Item>, FeedError>,
}

/// One stream of one subscription.
pub(super) struct SubscriptionStream {
    name: Arc<StreamName>,
    filter: StreamFilter,
    /// The subscriber's place: it is what its cursor encodes, and decides what comes next.
    place: Place,
    begun: Option<Begun>,
    /// What the last progress reported of it.
    reported: Option<StreamProgress>,
}

struct Begun {
    hub: HubStream,
    reading: Reading,
    attempt: u64,
    failures: u32,
}

/// What the stream reads.
enum Reading {
    /// The log here.
    Log(ReadFrom),
    /// A feed of its own, which ends when this is dropped.
    CatchUp { _task: AbortOnDropHandle<()> },
    /// Not chosen yet.
    None,
}

/// What a log has for one subscriber.
pub(super) enum FromLog {
    Items {
        items: Vec<Item>,
        /// What they cost in memory.
        bytes: usize,
        /// Whether more is there already.
        more: bool,
    },
    /// Nothing while a feed is what it reads.
    Nothing,
    /// Not what it needs.
    MustCatchUp,
}

/// What becomes of an item.
pub(super) enum Admitted {
    /// An event that has not been given yet.
    Event(Arc<Published>),
    /// A snapshot is complete.
    Synced(Position),
    /// The snapshot that some was given of is no longer to be had: another one begins.
    SnapshotRestarted,
    /// Something is missing.
    Gap(Gap),
    /// Something is missing here alone: the subscriber must catch up.
    Missing,
    /// No output.
    Nothing,
}

impl SubscriptionStream {
    pub(super) fn new(added: Added) -> Self {
        Self {
            name: added.name,
            filter: added.filter,
            place: added.from,
            begun: None,
            reported: None,
        }
    }

    pub(super) fn name(&self) -> &Arc<StreamName> {
        &self.name
    }

    /// The cluster may have been identified, or replaced.
    pub(super) fn rename(&mut self, name: Arc<StreamName>) {
        self.name = name;
    }

    /// The cluster's labels, and with them the filters that apply, may be others.
    pub(super) fn refilter(&mut self, filter: StreamFilter) {
        self.filter = filter;
    }

    pub(super) fn judge(&self, event: &Event) -> Verdict {
        self.filter.judge(event)
    }

    /// Begins, if it has not, and can: the stream must have been watched once.
    pub(super) fn begin(&mut self, agreed: &Stream, hub: &Hub) -> bool {
        if self.begun.is_some() {
            return false;
        }
        if self.place == Place::BeforeFirst {
            let Some(first) = &agreed.first else {
                return false;
            };
            self.place = Place::At(first.clone());
        }
        let Some(hub) = hub.stream(self.name.id) else {
            return false;
        };
        self.begun = Some(Begun {
            hub,
            reading: Reading::None,
            attempt: 0,
            failures: 0,
        });
        true
    }

    /// The place for the cursor.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Nothing of what was sent counts any more.
    pub(super) fn require_snapshot(&mut self) {
        self.place = Place::SnapshotDue;
        if let Some(begun) = &mut self.begun {
            begun.reading = Reading::None;
        }
    }

    /// What the log here has for this subscriber.
    pub(super) fn read(&mut self, most: ReadMax, wake: &Arc<Wake>) -> FromLog {
        let Some(begun) = &mut self.begun else {
            return FromLog::MustCatchUp;
        };
        let from = match begun.reading {
            // Its own feed delivers through `take_catch_up`, until it reaches the log.
            Reading::CatchUp { .. } => return FromLog::Nothing,
            Reading::Log(from) => Some(from),
            // New, or what it read was dropped: the log serves it if it has the place.
            Reading::None => begun.locate(&self.place).map(ReadFrom::from),
        };
        let Some(mut from) = from else {
            return FromLog::MustCatchUp;
        };
        match begun.hub.log.read(&mut from, most, wake) {
            Read::Items {
                items, bytes, more, ..
            } => {
                begun.reading = Reading::Log(from);
                FromLog::Items { items, bytes, more }
            }
            // The subscriber is slower than the writer, and the ring has dropped what it needs.
            Read::FellBehind => FromLog::MustCatchUp,
        }
    }

    /// Opens a feed for this subscriber alone, from where it stands.
    pub(super) fn start_catch_up(&mut self, hub: &Hub, sender: &mpsc::Sender<CatchUp>) {
        let Some(begun) = &mut self.begun else {
            return;
        };
        begun.attempt += 1;
        let pause = match begun.failures {
            0 => Duration::ZERO,
            failures => RETRY_FIRST * 2_u32.pow(failures.min(RETRY_DOUBLINGS_MAX)),
        };
        // Counts as a failure until the feed gives something.
        begun.failures += 1;
        let feeding = Feeding {
            hub: hub.clone(),
            stream: self.name.id,
            attempt: begun.attempt,
            sender: sender.clone(),
        };
        let task = feeding.run(self.place.clone(), pause);
        begun.reading = Reading::CatchUp {
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        };
    }

    pub(super) fn is_attempt(&self, attempt: u64) -> bool {
        self.begun.as_ref().is_some_and(|begun| {
            begun.attempt == attempt && matches!(begun.reading, Reading::CatchUp { .. })
        })
    }

    /// Goes over to the log here, if the feed has reached it.
    pub(super) fn join_log(&mut self) -> bool {
        let Some(begun) = &mut self.begun else {
            return false;
        };
        begun.failures = 0;
        let Some(next) = begun.locate(&self.place) else {
            return false;
        };
        begun.reading = Reading::Log(next.into());
        true
    }

    /// Whether a snapshot is due that no feed is about to give.
    pub(super) fn needs_snapshot(&self) -> bool {
        let is_fed = |begun: &Begun| matches!(begun.reading, Reading::CatchUp { .. });
        self.place.needs_snapshot() && self.begun.as_ref().is_some_and(|begun| !is_fed(begun))
    }

    /// Decides what the subscriber gets of an item.
    pub(super) fn admit(&mut self, item: Item) -> Admitted {
        // What the decision below replaces.
        let before = match &item {
            Item::Gap(_) | Item::Snapshot(_) => Some(self.place.clone()),
            _ => None,
        };
        match (self.place.admit(Reader::Subscriber, &item), item) {
            (Admission::Missing, _) => Admitted::Missing,
            (Admission::Had, _) => Admitted::Nothing,
            (Admission::Next, Item::Event(published)) => Admitted::Event(published),
            (Admission::Next, Item::Synced(position)) => Admitted::Synced(position),
            // The item has the place at which the owner lost its watch; the subscriber gets its
            // own.
            (Admission::Next, Item::Gap(gap)) => Admitted::Gap(Gap {
                from: before.and_then(|before| before.position()),
                ..*gap
            }),
            // A list that replaces one of which objects were sent already; otherwise a snapshot
            // begins as announced.
            (Admission::Next, Item::Snapshot(_)) => match before {
                Some(Place::Snapshot { given: 1.., .. }) => Admitted::SnapshotRestarted,
                _ => Admitted::Nothing,
            },
            (Admission::Next, Item::At(_) | Item::Hole(_) | Item::Alive { .. }) => {
                Admitted::Nothing
            }
        }
    }

    /// Where it stands, if that is news since the last call.
    pub(super) fn news(&mut self) -> Option<StreamProgress> {
        let now = StreamProgress {
            position: self.place.position(),
            heard: self.begun.as_ref().and_then(|begun| begun.hub.log.heard()),
            catching_up: !self.is_current(),
        };
        if let Some(reported) = &self.reported
            && reported.position == now.position
            && reported.catching_up == now.catching_up
            && is_close(reported.heard, now.heard)
        {
            return None;
        }
        self.reported = Some(now.clone());
        Some(now)
    }

    /// Whether it reads what the replica that serves it has, and not the past.
    pub(super) fn is_current(&self) -> bool {
        let begun = self.begun.as_ref();
        begun.is_some_and(|begun| matches!(begun.reading, Reading::Log(_)))
    }
}

impl SubscriptionStream {
    /// Whether it has given all that the replica that serves it has.
    pub(super) fn is_exhausted(&self) -> bool {
        self.begun
            .as_ref()
            .is_some_and(|begun| match begun.reading {
                Reading::Log(from) => begun.hub.log.ends_at(from.next),
                Reading::CatchUp { .. } | Reading::None => false,
            })
    }
}

impl Begun {
    /// Where the log here continues for a subscriber. Inside net changes it stays with its feed:
    /// those of the log may be counted from elsewhere.
    fn locate(&self, place: &Place) -> Option<u64> {
        match place {
            Place::At(_) => self.hub.log.locate(Reader::Subscriber, place),
            _ => None,
        }
    }
}

/// Whether nothing was heard in between but signs of life.
fn is_close(before: Option<Instant>, now: Option<Instant>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => now.saturating_duration_since(before) < HEARD_NEWS,
        (before, now) => before == now,
    }
}

/// A feed for one stream of one subscription.
struct Feeding {
    hub: Hub,
    stream: StreamId,
    attempt: u64,
    sender: mpsc::Sender<CatchUp>,
}

impl Feeding {
    async fn run(self, place: Place, pause: Duration) {
        tokio::time::sleep(pause).await;
        let error = match self.hub.open_feed(self.stream, place).await {
            Ok(mut feed) => loop {
                match feed.next().await {
                    Ok(items) => {
                        if !self.give(Ok(items)).await {
                            return;
                        }
                    }
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        self.give(Err(error)).await;
    }

    /// False where the subscriber is gone.
    async fn give(&self, message: Result<Vec<Item>, FeedError>) -> bool {
        let (stream, attempt) = (self.stream, self.attempt);
        let catch_up = CatchUp {
            stream,
            attempt,
            message,
        };
        self.sender.send(catch_up).await.is_ok()
    }
}
