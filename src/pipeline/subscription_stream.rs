//! One stream of one subscription: where it stands, and where its items come from.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{
    coverage::Added,
    feed::{FeedError, FeedFrom},
    filter::{StreamFilter, Verdict},
    hub::{Hub, HubStream, Wake},
    item::{Gap, Item, Published},
    output::{StreamName, StreamProgress},
    ring::Read,
    subscription::CatchUp,
};
use crate::domain::{frame::Frame, id::StreamId, position::Position, stream::Stream};

/// A failed catch-up is tried again after a pause that doubles from here ...
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// ... this many times.
const RETRY_DOUBLINGS_MAX: u32 = 5;

/// A stream is heard every second where it is watched; what is new since the last progress is worth
/// a line only where it is more than that.
const HEARD_NEWS: Duration = Duration::from_secs(3);

/// One stream of one subscription.
pub(super) struct SubscriptionStream {
    name: Arc<StreamName>,
    filter: StreamFilter,
    /// Where it begins, once it can.
    from: Position,
    begun: Option<Begun>,
    /// What the last progress said of it.
    said: Option<StreamProgress>,
}

struct Begun {
    hub: Arc<HubStream>,
    /// The last position given: what is at or before it is dropped, and what a cursor says.
    position: Position,
    /// A repair made for this subscriber alone is passing: the ring must not be joined meanwhile.
    replaying: bool,
    /// Some of a snapshot was given, and its end was not.
    partial_snapshot: bool,
    source: Source,
    attempt: u64,
    failures: u32,
}

enum Source {
    /// The hub's ring, from this number on.
    Ring(u64),
    /// A feed of its own, which ends when this is dropped.
    CatchUp { _task: AbortOnDropHandle<()> },
    /// To be found.
    None,
}

/// What becomes of an item.
pub(super) enum Admitted {
    /// A frame that has not been given yet.
    Event(Arc<Published>),
    /// A snapshot is complete.
    Synced(Position),
    /// Something is missing.
    Gap(Gap),
    /// The net changes that come next do not begin where this subscriber stands: some were given
    /// already, or others are missing. It must catch up.
    Elsewhere,
    /// Nothing to tell.
    Nothing,
}

impl SubscriptionStream {
    pub(super) fn new(added: Added) -> Self {
        Self {
            name: added.name,
            filter: added.filter,
            from: added.from,
            begun: None,
            said: None,
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

    pub(super) fn judge(&self, frame: &Frame) -> Verdict {
        self.filter.judge(frame)
    }

    /// Begins, if it has not, and can: somebody must have watched the stream.
    pub(super) fn begin(&mut self, agreed: &Stream, hub: &Hub, wake: &Arc<Wake>) -> bool {
        if self.begun.is_some() {
            return false;
        }
        if self.from == Position::BEFORE_FIRST {
            let Some(first) = &agreed.first else {
                return false;
            };
            self.from = first.clone();
        }
        let Some(hub) = hub.stream(self.name.id) else {
            return false;
        };
        hub.subscribe(wake);
        self.begun = Some(Begun {
            hub,
            partial_snapshot: false,
            position: self.from.clone(),
            replaying: false,
            source: Source::None,
            attempt: 0,
            failures: 0,
        });
        true
    }

    /// The position for the cursor, or the mark for what is due.
    pub(super) fn resume(&self) -> Position {
        let begun = self.begun.as_ref();
        begun.map_or_else(|| self.from.clone(), |begun| begun.position.clone())
    }

    /// Nothing of what was sent counts any more.
    pub(super) fn require_snapshot(&mut self) {
        self.from = Position::NEEDS_SNAPSHOT;
        if let Some(begun) = &mut self.begun {
            begun.position = Position::NEEDS_SNAPSHOT;
            begun.partial_snapshot = false;
            begun.replaying = false;
            begun.source = Source::None;
        }
    }

    /// What the hub's ring has for this subscriber; `None` where it must catch up.
    pub(super) fn read(&mut self, items_max: usize) -> Option<Vec<Item>> {
        let begun = self.begun.as_mut()?;
        let next = match begun.source {
            Source::CatchUp { .. } => return Some(Vec::new()),
            Source::Ring(next) => next,
            Source::None => begun.hub.seek(&begun.position)?,
        };
        match begun.hub.read(next, items_max) {
            Read::Items { items, next } => {
                begun.source = Source::Ring(next);
                Some(items)
            }
            Read::Lagged => None,
        }
    }

    /// Opens a feed for this subscriber alone, from where it stands. True where a snapshot begins
    /// again of which some has been given: the subscriber must be told.
    pub(super) fn start_catch_up(&mut self, hub: &Hub, sender: &mpsc::Sender<CatchUp>) -> bool {
        let stream = self.name.id;
        let Some(begun) = &mut self.begun else {
            return false;
        };
        let from = if begun.position == Position::NEEDS_SNAPSHOT {
            FeedFrom::Snapshot
        } else {
            FeedFrom::After(begun.position.clone())
        };
        begun.attempt += 1;
        begun.replaying = false;
        let pause = match begun.failures {
            0 => Duration::ZERO,
            failures => RETRY_FIRST * 2_u32.pow(failures.min(RETRY_DOUBLINGS_MAX)),
        };
        // Counts as a failure until the feed gives something.
        begun.failures += 1;
        let task = catch_up(
            hub.clone(),
            stream,
            from,
            begun.attempt,
            pause,
            sender.clone(),
        );
        begun.source = Source::CatchUp {
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        };
        std::mem::take(&mut begun.partial_snapshot)
    }

    pub(super) fn is_attempt(&self, attempt: u64) -> bool {
        self.begun.as_ref().is_some_and(|begun| {
            begun.attempt == attempt && matches!(begun.source, Source::CatchUp { .. })
        })
    }

    /// Goes over to the hub's ring, if the feed has reached it.
    pub(super) fn join_ring(&mut self) -> bool {
        let Some(begun) = &mut self.begun else {
            return false;
        };
        begun.failures = 0;
        if begun.replaying || begun.position == Position::NEEDS_SNAPSHOT {
            return false;
        }
        let Some(next) = begun.hub.seek(&begun.position) else {
            return false;
        };
        begun.source = Source::Ring(next);
        true
    }

    /// Whether a snapshot is due that no feed is about to give.
    pub(super) fn needs_snapshot(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| {
            begun.position == Position::NEEDS_SNAPSHOT
                && !matches!(begun.source, Source::CatchUp { .. })
        })
    }

    /// Decides what the subscriber gets of an item: what is at or before its position was given.
    pub(super) fn admit(&mut self, item: Item) -> Admitted {
        let Some(begun) = &mut self.begun else {
            return Admitted::Nothing;
        };
        match item {
            Item::Frame(published) => begun.admit_frame(published),
            Item::At(position) => {
                if position > begun.position {
                    begun.position = position;
                    begun.replaying = false;
                }
                Admitted::Nothing
            }
            Item::Synced(position) => {
                begun.position = position.clone();
                begun.partial_snapshot = false;
                Admitted::Synced(position)
            }
            Item::Gap(gap) => begun.admit_gap(gap),
            Item::Alive { .. } => Admitted::Nothing,
        }
    }

    /// Where it stands, if that is news since the last call.
    pub(super) fn news(&mut self) -> Option<StreamProgress> {
        let now = StreamProgress {
            position: Some(self.resume()).filter(Position::is_place),
            heard: self.begun.as_ref().and_then(|begun| begun.hub.heard()),
            catching_up: !self.is_current(),
        };
        if let Some(said) = &self.said
            && said.position == now.position
            && said.catching_up == now.catching_up
            && is_close(said.heard, now.heard)
        {
            return None;
        }
        self.said = Some(now.clone());
        Some(now)
    }

    /// Whether it reads what the replica that serves it has, and not the past.
    pub(super) fn is_current(&self) -> bool {
        let begun = self.begun.as_ref();
        begun.is_some_and(|begun| matches!(begun.source, Source::Ring(_)))
    }
}

impl SubscriptionStream {
    /// Whether it has given all that the replica that serves it has.
    pub(super) fn is_exhausted(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| match begun.source {
            Source::Ring(next) => begun.hub.ends_at(next),
            Source::CatchUp { .. } | Source::None => false,
        })
    }
}

impl Begun {
    fn admit_frame(&mut self, published: Arc<Published>) -> Admitted {
        if published.replay {
            self.partial_snapshot |= self.position == Position::NEEDS_SNAPSHOT;
            return Admitted::Event(published);
        }
        if published.position <= self.position {
            return Admitted::Nothing;
        }
        self.position = published.position.clone();
        Admitted::Event(published)
    }

    fn admit_gap(&mut self, mut gap: Gap) -> Admitted {
        if gap.to <= self.position && self.position != Position::NEEDS_SNAPSHOT {
            return Admitted::Nothing;
        }
        let known = self.position != Position::NEEDS_SNAPSHOT;
        let here = known.then(|| self.position.clone());
        if gap.repaired && known && gap.from != here {
            return Admitted::Elsewhere;
        }
        gap.from = here;
        match (gap.repaired, gap.replay) {
            (false, _) => self.position = Position::NEEDS_SNAPSHOT,
            (true, true) => self.replaying = true,
            (true, false) => self.position = gap.to.clone(),
        }
        Admitted::Gap(gap)
    }
}

/// Whether nothing was heard in between but signs of life.
fn is_close(before: Option<Instant>, now: Option<Instant>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => now.saturating_duration_since(before) < HEARD_NEWS,
        (before, now) => before == now,
    }
}

async fn catch_up(
    hub: Hub,
    stream: StreamId,
    from: FeedFrom,
    attempt: u64,
    pause: Duration,
    sender: mpsc::Sender<CatchUp>,
) {
    tokio::time::sleep(pause).await;
    let error = match hub.open_feed(stream, from).await {
        Ok(mut feed) => loop {
            match feed.recv().await {
                Some(Ok(items)) => {
                    let message = Ok(items);
                    if sender
                        .send(CatchUp {
                            stream,
                            attempt,
                            message,
                        })
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
                Some(Err(error)) => break error,
                None => break FeedError::NotOwner,
            }
        },
        Err(error) => error,
    };
    // Where the subscriber is gone, nobody needs to know.
    let _ = sender
        .send(CatchUp {
            stream,
            attempt,
            message: Err(error),
        })
        .await;
}
