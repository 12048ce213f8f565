//! A part of a stream's past, read once by a second watch for all readers that are behind the log at
//! nearly the same place: [`Replay`].
//!
//! Readers that take less than is written stay behind for good. With a watch for each of them, every
//! event would be read, parsed and encoded once for each reader, which costs several times as much
//! as giving it to them from a log.

use std::sync::Arc;

use super::{
    item::{Item, Part},
    numbering::Numbering,
    place::{Place, Reader},
    publication::event_item,
    ring::{Read, ReadMax, Ring},
};
use crate::domain::{
    history::HistoryItem,
    id::Epoch,
    position::{Position, ResourceVersion},
};

/// Versions between two readers that are "nearly at the same place": what one of them is given
/// needlessly.
const NEAR_VERSIONS: u64 = 1_000;

/// A part of a stream's past. Everything after its beginning passes through it, in order, until it
/// ends; what all have read stays for a while for those who come later.
#[derive(Clone, Debug)]
pub struct Replay {
    epoch: Epoch,
    /// Whether its watch was opened: until then it can begin earlier.
    begun: bool,
    numbering: Numbering,
    ring: Ring,
    /// How far the reader has read that is ahead of the others. What follows is never dropped: it
    /// would be read again at once.
    furthest: u64,
    ended: Option<Arc<Ended>>,
}

/// What is kept for readers that come later, or are a little behind: about 700 events of a usual
/// size. It is given up where memory is scarce.
const KEPT_BYTES: usize = 1024 * 1024;

/// Why a replay goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The last position that was read.
    pub at: Position,
    /// The error of the history; `None` if it just stopped.
    pub last: Option<HistoryItem>,
}

/// What a reader gets of a replay.
#[derive(Debug, PartialEq, Eq)]
pub enum Replayed {
    /// Items in order, maybe none yet; read on at `next`.
    Items {
        /// The items.
        items: Vec<Item>,
        /// Where to read on.
        next: u64,
    },
    /// The reader is too far behind the others.
    FellBehind,
    /// The reader has had everything, and there will be no more.
    Ended(Arc<Ended>),
}

impl Replay {
    /// A replay for a reader that stands here, by the owner with this epoch.
    pub fn new(epoch: Epoch, here: &Position) -> Self {
        let floor = here.to_closed();
        Self {
            epoch,
            begun: false,
            numbering: Numbering::after(floor.clone()),
            ring: Ring::new(floor),
            furthest: 0,
            ended: None,
        }
    }

    /// The number at which a reader that stands here reads on; `None` where it is better served by a
    /// replay of its own.
    pub fn join(&mut self, here: &Position) -> Option<u64> {
        let floor = self.ring.floor();
        if self.has_ended() || here.era != floor.era {
            return None;
        }
        let is_near = |there: &Position| {
            let versions = here.rv.as_u64().zip(there.rv.as_u64());
            versions.is_some_and(|(here, there)| here.abs_diff(there) <= NEAR_VERSIONS)
        };
        // Not opened yet: begin a little earlier, so that this reader is served, too.
        if !self.begun && here.to_closed() < floor && is_near(&floor) {
            *self = Self::new(self.epoch, here);
        }
        // Far ahead of what was read: the reader would be given much that it has.
        if here > self.ring.head() && !is_near(self.ring.head()) {
            return None;
        }
        let place = Place::At(here.clone());
        self.ring.locate(Reader::Subscriber, &place)
    }

    /// The watch is opened: after this version.
    pub fn begin(&mut self) -> ResourceVersion {
        self.begun = true;
        self.ring.floor().rv
    }

    /// Takes in what the watch gave; `None` where it has just ended. Whether that is anything for
    /// its readers.
    pub fn take(&mut self, item: Option<HistoryItem>) -> bool {
        let end = self.ring.end();
        match item {
            Some(HistoryItem::Events(events)) => {
                for event in events {
                    if let Some(position) = self.numbering.next(&event.rv, event.change) {
                        let item = event_item(position, self.epoch, Part::Live, event);
                        self.ring.push(item);
                    }
                }
                self.shrink_to(KEPT_BYTES);
            }
            Some(HistoryItem::Closed(rv)) => {
                let closed = self.numbering.close(&rv);
                closed.map(|position| self.ring.push(Item::At(position)));
            }
            // Memory is used up: keep only what no reader has had.
            Some(HistoryItem::Scarce) => self.shrink_to(0),
            // The watch ended, failed, or is gone; `last` is the reason.
            last => {
                self.ended = Some(Arc::new(Ended {
                    at: self.ring.head().clone(),
                    last,
                }));
            }
        }
        self.ring.end() > end || self.has_ended()
    }

    /// The items from `next` on, as many as `most` allows.
    pub fn read(&mut self, next: u64, most: ReadMax) -> Replayed {
        match self.ring.read(next, most) {
            Read::FellBehind => Replayed::FellBehind,
            Read::Items { items, next, .. } => {
                self.furthest = self.furthest.max(next);
                match &self.ended {
                    Some(ended) if items.is_empty() => Replayed::Ended(ended.clone()),
                    _ => Replayed::Items { items, next },
                }
            }
        }
    }

    /// Whether a reader has read everything and more may follow.
    pub fn is_wanted(&self) -> bool {
        self.begun && self.ended.is_none() && self.furthest == self.ring.end()
    }

    /// Whether nothing follows this number yet.
    pub fn ends_at(&self, next: u64) -> bool {
        self.ended.is_none() && self.ring.end() == next
    }

    /// Drops the oldest of what some reader has read, until no more than so many bytes are left.
    fn shrink_to(&mut self, bytes: usize) {
        self.ring.shrink_to_before(self.furthest, bytes);
    }

    /// Whether it goes no further.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
