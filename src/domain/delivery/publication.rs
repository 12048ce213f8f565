//! What an owner publishes of one stream, and how far it has come: [`Publication`].

use std::sync::Arc;

use super::{
    item::{Gap, Item, Part, Published},
    numbering::Numbering,
};
use crate::domain::{
    event::Event,
    id::Epoch,
    position::{Ordinal, Position, ResourceVersion},
    stream::{EraStart, ResumePoint},
};

/// One stream as its owner publishes it: what a watch session gives, as items with positions.
///
/// The only holder of "how far": [`Publication::checkpoint`] is derived from the last position that
/// was given.
#[derive(Clone, Debug)]
pub struct Publication {
    epoch: Epoch,
    /// `None` until the stream has an era.
    live: Option<Live>,
}

#[derive(Clone, Debug)]
struct Live {
    start: EraStart,
    numbering: Numbering,
    /// While the net changes of a repair are being published: how many there are so far.
    repairing: Option<u32>,
}

/// Events as items, and how many came after their version was closed.
#[derive(Debug, Default)]
pub struct Numbered {
    /// The items.
    pub items: Vec<Item>,
    /// The watch session lets none of these through.
    pub late: usize,
}

impl Publication {
    /// A stream whose watch has not begun.
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, live: None }
    }

    /// How the current era began.
    pub fn era(&self) -> Option<&EraStart> {
        self.live.as_ref().map(|live| &live.start)
    }

    /// Goes on where an earlier owner stopped. What precedes is not published here.
    pub fn resume(&mut self, start: EraStart, point: &ResumePoint) -> Vec<Item> {
        match point {
            // Never watched: the first era begins with the first list.
            ResumePoint::Fresh => Vec::new(),
            ResumePoint::At(position) => self.go_on(start, position.clone(), Vec::new()),
            // The last owner began an era with a repair and died before it had published all of it:
            // the same net changes are published again, under the same numbers.
            ResumePoint::Repair { .. } => {
                let Some(from) = start.from.clone() else {
                    return Vec::new();
                };
                let gap = gap_of(&start);
                self.go_on(start, from, vec![Item::gap(gap)])
            }
        }
    }

    fn go_on(&mut self, start: EraStart, after: Position, then: Vec<Item>) -> Vec<Item> {
        self.live = Some(Live {
            numbering: Numbering::after(after.clone()),
            repairing: (!then.is_empty()).then_some(0),
            start,
        });
        let mut items = vec![Item::Hole(after)];
        items.extend(then);
        items
    }

    /// A new era has been committed.
    pub fn begin_era(&mut self, start: EraStart) -> Vec<Item> {
        // The stream's first era: nothing precedes it, so it begins without a gap.
        if self.live.is_none() {
            let begin = start.start();
            return self.go_on(start, begin, Vec::new());
        }
        let gap = gap_of(&start);
        // The net changes do not use the numbering: until they are complete the position stays that
        // of the era before, which is what another owner would resume at.
        let numbering = if start.repaired {
            self.live.take().map(|live| live.numbering)
        } else {
            None
        };
        self.live = Some(Live {
            repairing: start.repaired.then_some(0),
            numbering: numbering.unwrap_or_else(|| Numbering::after(start.start())),
            start,
        });
        vec![Item::gap(gap)]
    }

    /// Events of the watch, in order.
    pub fn events(&mut self, events: Vec<Event>) -> Numbered {
        let epoch = self.epoch;
        let Some(live) = &mut self.live else {
            return Numbered {
                late: events.len(),
                items: Vec::new(),
            };
        };
        let mut numbered = Numbered {
            items: Vec::with_capacity(events.len()),
            late: 0,
        };
        for event in events {
            match live.numbering.next(&event.rv, event.change) {
                Some(position) => {
                    let item = event_item(position, epoch, Part::Live, event);
                    numbered.items.push(item);
                }
                None => numbered.late += 1,
            }
        }
        numbered
    }

    /// Net changes of the repair with which the current era began, in key order.
    pub fn net_changes(&mut self, events: Vec<Event>) -> Vec<Item> {
        let epoch = self.epoch;
        let Some(live) = &mut self.live else {
            return Vec::new();
        };
        let Some(counted) = &mut live.repairing else {
            return Vec::new();
        };
        let to = live.start.start();
        let items = events.into_iter().map(|event| {
            let item = repair_item(&to, *counted, epoch, event);
            *counted += 1;
            item
        });
        items.collect()
    }

    /// Everything up to `rv` has been published.
    pub fn close(&mut self, rv: &ResourceVersion) -> Vec<Item> {
        let Some(live) = &mut self.live else {
            return Vec::new();
        };
        let mut items = Vec::new();
        // The net changes are complete: from here on versions are numbered in the new era.
        if live.repairing.is_some() && *rv >= live.start.to {
            live.repairing = None;
            live.numbering = Numbering::after(live.start.start());
            items.push(Item::At(live.start.start()));
        }
        items.extend(live.numbering.close(rv).map(Item::At));
        items
    }

    /// The last position that was given; `None` before the first era.
    pub fn head(&self) -> Option<&Position> {
        self.live.as_ref().map(|live| live.numbering.last())
    }

    /// The closed position up to which everything is published: where another owner would continue.
    /// `None` before the first era and while a repair is being published.
    pub fn checkpoint(&self) -> Option<Position> {
        let live = self.live.as_ref()?;
        let closed = live.numbering.last().to_closed();
        live.repairing.is_none().then_some(closed)
    }
}

/// The gap that every reader passes on its way into an era.
fn gap_of(start: &EraStart) -> Gap {
    Gap {
        from: start.from.clone(),
        to: Some(start.start()),
        reason: start.reason,
        repaired: start.repaired,
    }
}

/// An event as an item.
pub(super) fn event_item(position: Position, epoch: Epoch, part: Part, event: Event) -> Item {
    Item::Event(Arc::new(Published::new(position, epoch, part, event)))
}

/// The net change with this number of a repair that leads to `to`.
pub(super) fn repair_item(to: &Position, number: u32, epoch: Epoch, event: Event) -> Item {
    let position = Position::at(to.era, to.rv.clone(), Ordinal::new(number));
    event_item(position, epoch, Part::Repair, event)
}

#[cfg(test)]
#[path = "publication_tests.rs"]
mod tests;
