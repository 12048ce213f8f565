//! Serves one reader one stream from any place, at the owner's: [`FeedSession`] decides what to
//! read and what to give, a driver carries that out.
//!
//! What a reader needs is in the log of the owner, or in the history of the API server: a second
//! watch, or exact lists. [`way()`] is the table that decides which.

use std::{mem, sync::Arc};

use super::{
    item::{Gap, Item, Part},
    place::{Admission, Place, Reader, closed_at},
    publication::{event_item, repair_item},
    replay::Ended,
    way::{Located, Way, way},
};
use crate::domain::{
    event::{Event, GapReason},
    history::HistoryItem,
    id::Epoch,
    position::{Ordinal, Position, ResourceVersion},
    stream::EraStart,
};

/// Why a feed ended. Its reader opens another one where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The replica does not publish the stream, or no longer.
    #[error("the replica does not publish this stream")]
    NotOwner,
    /// The API server's history could not be read this time.
    #[error("reading the history failed: {0}")]
    History(String),
    /// The reader stands in an era that the owner does not know.
    #[error("{0} is ahead of the stream")]
    Ahead(Place),
    /// The owner could not be reached.
    #[error("the owner cannot be reached: {0}")]
    Unreachable(String),
}

/// A historical read of a stream, at its API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Everything after a version, as a watch: what a replay reads.
    Watch(ResourceVersion),
    /// A consistent list: of exactly this version, or of the newest.
    List(Option<ResourceVersion>),
    /// The net changes between exact lists of two versions.
    NetChanges {
        /// The earlier one.
        from: ResourceVersion,
        /// The later one.
        to: ResourceVersion,
    },
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The feed begins.
    Start,
    /// The answer to [`Output::Locate`].
    Located(Box<Located>),
    /// Items of the log or the replay, in order, from where it was to be followed.
    Items(Vec<Item>),
    /// What was to be followed has left the log or the replay.
    FellBehind,
    /// The replay goes no further, and all of it was given.
    ReplayEnded(Arc<Ended>),
    /// The look gave something.
    History(HistoryItem),
    /// The look has ended.
    HistoryEnded,
    /// The owner has begun another era.
    EraBegan,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Say what the owner has at this place; answer `Located`. Nothing is followed any more.
    Locate(Place),
    /// End the look.
    EndLook,
    /// Follow the log from this number on, and end the look; answer `Items`, again and again.
    FollowLog(u64),
    /// Follow a replay of what came after this position, and look no longer where it looked before;
    /// answer `Items`, again and again.
    Replay(Position),
    /// Take lists, and look no longer where it looked before; answer `History`, again and again.
    Look(Look),
    /// Give items to the reader.
    Give(Vec<Item>),
    /// End the feed.
    Fail(FeedError),
}

#[derive(Clone, Debug)]
enum FeedState {
    /// Waiting for `Located`.
    Locating {
        /// False where a watch from the place was refused.
        watchable: bool,
    },
    FollowingLog,
    Replaying {
        floor: Position,
    },
    /// Giving the events of one version, from lists, without the first few.
    ClosingVersion {
        position: Position,
        seen: u32,
    },
    /// Giving net changes.
    Repairing {
        to: Position,
        seen: u32,
    },
    Listing {
        era: EraStart,
        seen: u32,
    },
    Failed,
}

/// One feed.
#[derive(Clone, Debug)]
pub struct FeedSession {
    epoch: Epoch,
    reader: Reader,
    place: Place,
    era: Option<EraStart>,
    /// Everything after it was in the log when the reader was located last.
    floor: Option<Position>,
    state: FeedState,
}

impl FeedSession {
    /// A feed of the owner with this epoch, for a reader at `place`.
    pub fn new(epoch: Epoch, reader: Reader, place: Place) -> Self {
        Self {
            epoch,
            reader,
            place,
            era: None,
            floor: None,
            state: FeedState::Locating { watchable: true },
        }
    }

    /// How the reader would be served from what the owner has; `None` where it goes on as it does.
    pub fn way_from(&self, owner: &Located) -> Option<Way> {
        match &self.state {
            FeedState::Locating { watchable } => {
                Some(way(&self.place, self.reader, owner, *watchable))
            }
            FeedState::Replaying { .. } => owner.next.map(Way::Log),
            _ => None,
        }
    }

    /// Takes in what has happened. What does not fit the state is of something that was abandoned.
    pub fn step(&mut self, input: Input) -> Vec<Output> {
        match (input, &mut self.state) {
            (Input::Start, FeedState::Locating { watchable }) => {
                let watchable = *watchable;
                self.locate(watchable)
            }
            (Input::Located(owner), FeedState::Locating { .. } | FeedState::Replaying { .. }) => {
                let way = self.way_from(&owner);
                self.located(way, *owner)
            }
            // What follows belongs to the new era, which the replay does not know. A feed that
            // follows the log meets the new era's gap there; lists are finished first.
            (Input::EraBegan, FeedState::Replaying { .. }) => self.locate(true),
            (Input::Items(items), FeedState::FollowingLog) => self.follow(items),
            (Input::Items(items), FeedState::Replaying { floor }) => {
                let floor = floor.clone();
                self.replayed(items, &floor)
            }
            // Other readers of the replay are too far ahead: read another one.
            (Input::FellBehind, FeedState::Replaying { .. }) => self.replay(),
            (Input::ReplayEnded(ended), FeedState::Replaying { .. }) => self.replay_ended(&ended),
            // The reader is slower than the writer: what it needs has left the log.
            (Input::FellBehind, FeedState::FollowingLog) => self.locate(true),
            // From lists; a replay reports through `Items` and `ReplayEnded`.
            (Input::History(item), state) => {
                let state = mem::replace(state, FeedState::Failed);
                self.history(state, item)
            }
            (
                Input::HistoryEnded,
                FeedState::ClosingVersion { .. }
                | FeedState::Repairing { .. }
                | FeedState::Listing { .. },
            ) => self.fail(ended_early()),
            _ => Vec::new(),
        }
    }

    fn locate(&mut self, watchable: bool) -> Vec<Output> {
        self.state = FeedState::Locating { watchable };
        vec![Output::EndLook, Output::Locate(self.place.clone())]
    }

    /// Asked while replaying, to find out whether the log has caught up with the reader: the replay
    /// continues until it has.
    fn located(&mut self, way: Option<Way>, owner: Located) -> Vec<Output> {
        if let FeedState::Replaying { floor } = &mut self.state {
            *floor = owner.floor.clone();
        }
        match way {
            Some(way) => self.go(way, owner),
            None => Vec::new(),
        }
    }

    fn fail(&mut self, error: FeedError) -> Vec<Output> {
        self.state = FeedState::Failed;
        vec![Output::Fail(error)]
    }

    fn go(&mut self, way: Way, owner: Located) -> Vec<Output> {
        let Located { era, floor, .. } = owner;
        self.era = Some(era.clone());
        self.floor = Some(floor.clone());
        match way {
            Way::Log(next) => {
                self.state = FeedState::FollowingLog;
                vec![Output::FollowLog(next)]
            }
            Way::Watch => {
                self.state = FeedState::Replaying { floor };
                self.replay()
            }
            // No change lies between the reader's old era and its place: only the era differs.
            Way::Enter(position) => {
                let mut outputs = self.give([Item::At(position)]);
                outputs.extend(self.locate(true));
                outputs
            }
            // Net changes between this version and the one before are the version's own events;
            // `closing` skips those that the reader has.
            Way::CloseVersion(position) => {
                let look = Look::NetChanges {
                    from: position.rv.previous(),
                    to: position.rv.clone(),
                };
                self.state = FeedState::ClosingVersion { position, seen: 0 };
                vec![Output::Look(look)]
            }
            Way::Repair { from, to } => self.repair(from, to, era.reason),
            Way::Snapshot => self.list(era),
            Way::Gap(reason) => self.gap(reason),
            Way::Skip(position) => {
                let mut outputs = self.give([Item::Hole(position)]);
                if outputs.is_empty() {
                    // It stands there already: looking once more would show nothing else.
                    return self.fail(FeedError::Ahead(self.place.clone()));
                }
                outputs.extend(self.locate(true));
                outputs
            }
            Way::Ahead => self.fail(FeedError::Ahead(self.place.clone())),
        }
    }

    /// Moves over the items that come next, and gives those.
    fn give(&mut self, items: impl IntoIterator<Item = Item>) -> Vec<Output> {
        let items = items.into_iter();
        let fresh: Vec<_> = items
            .filter(|item| self.admit(item) == Admission::Next)
            .collect();
        if fresh.is_empty() {
            return Vec::new();
        }
        vec![Output::Give(fresh)]
    }

    fn admit(&mut self, item: &Item) -> Admission {
        self.place.admit(self.reader, item)
    }

    /// Gives items of the log, up to where the log leads elsewhere than the reader goes.
    fn follow(&mut self, items: Vec<Item>) -> Vec<Output> {
        let mut fresh = Vec::with_capacity(items.len());
        let mut leaves = false;
        for item in items {
            match self.admit(&item) {
                Admission::Next => fresh.push(item),
                Admission::Had => {}
                // A hole, or a repair that is counted from elsewhere.
                Admission::Missing => leaves = true,
            }
            leaves |= self.place.needs_snapshot();
            if leaves {
                break;
            }
        }
        let mut outputs = Vec::new();
        if !fresh.is_empty() {
            outputs.push(Output::Give(fresh));
        }
        if leaves {
            outputs.extend(self.locate(true));
        }
        outputs
    }

    fn replay(&mut self) -> Vec<Output> {
        match &self.place {
            Place::At(here) => vec![Output::Replay(here.clone())],
            // Not expected: a watch is chosen for a position only.
            _ => self.locate(true),
        }
    }

    fn repair(&mut self, from: Position, to: Position, reason: GapReason) -> Vec<Output> {
        let gap = Gap {
            from: Some(from.clone()),
            to: Some(to.clone()),
            reason,
            repaired: true,
        };
        // Nothing where the reader is inside of it already.
        let mut outputs = self.give([Item::gap(gap)]);
        let look = Look::NetChanges {
            from: from.rv,
            to: to.rv.clone(),
        };
        self.state = FeedState::Repairing { to, seen: 0 };
        outputs.push(Output::Look(look));
        outputs
    }

    fn list(&mut self, era: EraStart) -> Vec<Output> {
        let unbroken = |list: &Position| list.era >= era.unbroken_since;
        let exactly = match &self.place {
            Place::Snapshot { list, .. } if unbroken(list) => Some(list.rv.clone()),
            _ => None,
        };
        self.state = FeedState::Listing { era, seen: 0 };
        vec![Output::Look(Look::List(exactly))]
    }

    /// Gives a gap, because what follows is gone; a snapshot follows.
    fn gap(&mut self, reason: GapReason) -> Vec<Output> {
        let from = self.place.position();
        // A gap that ended where the reader stands would be one that it has had.
        let ends = [self.floor.clone(), self.era.as_ref().map(EraStart::start)];
        let mut beyond = ends.into_iter().flatten();
        let gap = Gap {
            to: beyond.find(|end| self.place.is_before(end)),
            from,
            reason,
            repaired: false,
        };
        let mut outputs = self.give([Item::gap(gap)]);
        outputs.extend(self.locate(true));
        outputs
    }

    fn history(&mut self, state: FeedState, item: HistoryItem) -> Vec<Output> {
        if let HistoryItem::Failed(reason) = item {
            return self.fail(FeedError::History(reason));
        }
        match state {
            FeedState::ClosingVersion { position, seen } => self.closing(position, seen, item),
            FeedState::Repairing { to, seen } => self.repairing(to, seen, item),
            FeedState::Listing { era, seen } => self.listed(era, seen, item),
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    fn replayed(&mut self, items: Vec<Item>, floor: &Position) -> Vec<Output> {
        let mut outputs = self.give(items);
        // Asked only once the reader has passed the floor that the log had: it has met the log then,
        // or the floor has risen meanwhile.
        if self.place.position().is_some_and(|here| here >= *floor) {
            outputs.push(Output::Locate(self.place.clone()));
        }
        outputs
    }

    fn replay_ended(&mut self, ended: &Ended) -> Vec<Output> {
        // What is gone is what follows the reader that is furthest behind. For this one it may still
        // be there.
        let is_ahead = |here: Position| here.to_closed() > ended.at;
        if self.place.position().is_some_and(is_ahead) {
            return self.replay();
        }
        match &ended.last {
            Some(HistoryItem::WatchLost { to }) => self.watch_lost(to.clone()),
            // Compacted, and exact lists of the place are gone too.
            Some(HistoryItem::Expired) if self.reader == Reader::Subscriber => {
                self.gap(GapReason::HistoryExpired)
            }
            // A log skips to what the owner has; each of its readers gets the gap by itself.
            Some(HistoryItem::Expired) => self.locate(false),
            // The reader opens another feed at its place, after a pause.
            Some(HistoryItem::Failed(reason)) => self.fail(FeedError::History(reason.clone())),
            _ => self.fail(ended_early()),
        }
    }

    /// The watch cannot continue where the reader stands, although exact lists answer.
    fn watch_lost(&mut self, to: ResourceVersion) -> Vec<Output> {
        let (Reader::Subscriber, Place::At(here), Some(era)) =
            (self.reader, &self.place, &self.era)
        else {
            // A log never repairs, and a reader at no position of an era needs something else.
            return self.locate(false);
        };
        if !here.is_closed() {
            let way = Way::CloseVersion(here.clone());
            let owner = Located {
                era: era.clone(),
                next: None,
                floor: here.clone(),
            };
            return self.go(way, owner);
        }
        let (from, to) = (here.clone(), Position::closed(era.era, to));
        self.repair(from, to, GapReason::WatchCacheReset)
    }

    fn closing(&mut self, position: Position, seen: u32, item: HistoryItem) -> Vec<Output> {
        let (epoch, end) = (self.epoch, closed_at(&position));
        // In key order, as the API server gives deletions that share a version.
        let number = |counted, event| {
            let at = Position::at(position.era, position.rv.clone(), Ordinal::new(counted));
            // The lists know when the object was written last, the deletion came with this version.
            let rv = position.rv.clone();
            event_item(at, epoch, Part::Live, Event { rv, ..event })
        };
        let (outputs, open) = self.give_changes(item, seen, end, number);
        if let Some(seen) = open {
            self.state = FeedState::ClosingVersion { position, seen };
        }
        outputs
    }

    fn repairing(&mut self, to: Position, seen: u32, item: HistoryItem) -> Vec<Output> {
        let epoch = self.epoch;
        let number = |counted, event| repair_item(&to, counted, epoch, event);
        let (outputs, open) = self.give_changes(item, seen, to.clone(), number);
        if let Some(seen) = open {
            self.state = FeedState::Repairing { to, seen };
        }
        outputs
    }

    /// Gives net changes, which `number` makes items of, and after the last one `end`; how many
    /// there were so far, unless they are complete or gone.
    fn give_changes(
        &mut self,
        item: HistoryItem,
        seen: u32,
        end: Position,
        number: impl Fn(u32, Event) -> Item,
    ) -> (Vec<Output>, Option<u32>) {
        // One of the two exact lists has been compacted: the net changes cannot be completed.
        let HistoryItem::Repaired { events, last, .. } = item else {
            return (self.gap(GapReason::HistoryExpired), None);
        };
        let mut items = Vec::with_capacity(events.len() + 1);
        let mut counted = seen;
        for event in events {
            items.push(number(counted, event));
            counted += 1;
        }
        items.extend(last.then_some(Item::At(end)));
        let mut outputs = self.give(items);
        if !last {
            return (outputs, Some(counted));
        }
        outputs.extend(self.locate(true));
        (outputs, None)
    }

    fn listed(&mut self, era: EraStart, seen: u32, item: HistoryItem) -> Vec<Output> {
        match item {
            HistoryItem::Listing(rv) => {
                let list = self.list_position(&era, rv);
                let outputs = self.give([Item::Snapshot(list)]);
                self.state = FeedState::Listing { era, seen };
                outputs
            }
            HistoryItem::Snapshot(events) => {
                let (outputs, seen) = self.give_objects(events, seen);
                self.state = FeedState::Listing { era, seen };
                outputs
            }
            HistoryItem::Synced(rv) => {
                let list = self.list_position(&era, rv);
                let mut outputs = self.give([Item::Synced(list)]);
                outputs.extend(self.locate(true));
                outputs
            }
            // The list that the reader is inside of is gone, unless it is the newest: the place
            // stays until another one begins.
            HistoryItem::Expired => {
                self.state = FeedState::Listing { era, seen: 0 };
                vec![Output::Look(Look::List(None))]
            }
            _ => {
                self.state = FeedState::Listing { era, seen };
                Vec::new()
            }
        }
    }

    /// The position of the list of this version: its own where the reader is inside of it, which may
    /// be that of an earlier era.
    fn list_position(&self, era: &EraStart, rv: ResourceVersion) -> Position {
        match &self.place {
            Place::Snapshot { list, .. } if list.rv == rv => list.clone(),
            _ => Position::closed(era.era, rv),
        }
    }

    /// Gives the objects of a list that come after those that the reader has had.
    fn give_objects(&mut self, events: Vec<Event>, mut seen: u32) -> (Vec<Output>, u32) {
        let Place::Snapshot { list, given } = self.place.clone() else {
            return (Vec::new(), seen);
        };
        let epoch = self.epoch;
        let mut items = Vec::with_capacity(events.len());
        for event in events {
            if seen >= given {
                let position = Position::closed(list.era, event.rv.clone());
                items.push(event_item(position, epoch, Part::Snapshot, event));
            }
            seen = seen.saturating_add(1);
        }
        (self.give(items), seen)
    }
}

fn ended_early() -> FeedError {
    FeedError::History("it ended early".into())
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
