//! The newest part of the stream at one replica, as `pipeline::log` keeps it: a ring, the place of
//! the log in what its owner publishes, and a fence.

use quorumwatch::domain::{
    delivery::{
        fence::Fence,
        item::Item,
        place::{Admission, Place, Reader},
        ring::{Read, ReadMax, Ring},
    },
    id::Epoch,
    position::Position,
};

use crate::{
    digest::Digested,
    scope::{Milestone, Plant, Scope},
};

/// All that a ring has.
pub(crate) const ALL: ReadMax = ReadMax {
    items: usize::MAX,
    bytes: usize::MAX,
};

/// The newest part of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamLog {
    /// None before anything was taken.
    begun: Option<Begun>,
    fence: Digested<Fence>,
    /// The epochs of the owners whose items were taken, one after the other.
    pub(crate) sources: Vec<Epoch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Begun {
    ring: Digested<Ring>,
    place: Place,
}

/// What became of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    Taken,
    Missing,
    Stale,
}

impl Default for StreamLog {
    fn default() -> Self {
        Self {
            begun: None,
            fence: Digested::new(Fence::default()),
            sources: Vec::new(),
        }
    }
}

impl StreamLog {
    /// Takes what is new of some items, which come from the owner of this epoch.
    pub(crate) fn append(&mut self, epoch: Epoch, items: Vec<Item>, scope: &Scope) -> Appended {
        if !self.fence.change(|fence| fence.admit(epoch)) && !scope.plants(Plant::FenceDropped) {
            return Appended::Stale;
        }
        if self.sources.last() != Some(&epoch) {
            self.sources.push(epoch);
        }
        for item in items {
            if self.take(&item, scope) == Admission::Missing {
                return Appended::Missing;
            }
        }
        Appended::Taken
    }

    /// Keeps owners of older epochs out.
    pub(crate) fn fence(&mut self, epoch: Epoch) {
        self.fence.change(|fence| fence.admit(epoch));
    }

    /// Begins just after a position, unless it has begun.
    pub(crate) fn begin_after(&mut self, position: &Position) {
        if self.begun.is_none() {
            self.begun = Some(Begun {
                ring: Digested::new(Ring::new(position.clone())),
                place: Place::At(position.clone()),
            });
        }
    }

    fn take(&mut self, item: &Item, scope: &Scope) -> Admission {
        let Some(begun) = &mut self.begun else {
            return match item {
                // Its first owner determines where it begins.
                Item::Hole(to) => {
                    self.begin_after(to);
                    Admission::Next
                }
                _ => Admission::Missing,
            };
        };
        let admission = begun.place.admit(Reader::Log, item);
        if admission != Admission::Next {
            return admission;
        }
        if matches!(item, Item::Hole(_)) {
            scope.reached.note(Milestone::Hole);
            if scope.plants(Plant::HoleUnmarked) {
                return admission;
            }
        }
        begun.ring.change(|ring| {
            ring.push(item.clone());
            shrink(ring, scope.ring_items);
        });
        admission
    }

    /// Where a reader continues; none where what comes next is not here.
    pub(crate) fn locate(&self, reader: Reader, place: &Place) -> Option<u64> {
        self.begun.as_ref()?.ring.locate(reader, place)
    }

    pub(crate) fn read(&self, next: u64) -> Read {
        let begun = self.begun.as_ref();
        begun.map_or(Read::FellBehind, |begun| begun.ring.read(next, ALL))
    }

    /// The number of the oldest item.
    pub(crate) fn first(&self) -> Option<u64> {
        Some(self.begun.as_ref()?.ring.first())
    }

    pub(crate) fn floor(&self) -> Option<Position> {
        Some(self.begun.as_ref()?.ring.floor())
    }

    pub(crate) fn head(&self) -> Option<Position> {
        Some(self.begun.as_ref()?.ring.head().clone())
    }

    pub(crate) fn place(&self) -> Option<&Place> {
        Some(&self.begun.as_ref()?.place)
    }
}

/// Drops the oldest items until no more than so many are left.
fn shrink(ring: &mut Ring, items: usize) {
    while ring.end() - ring.first() > items as u64 {
        ring.shrink_to(ring.bytes() - 1);
    }
}
