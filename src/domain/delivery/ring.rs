//! The newest part of a stream, bounded in bytes.

use std::collections::VecDeque;

use super::{
    item::{Item, Part},
    place::{Admission, Place, Reader, closed_at},
};
use crate::domain::position::Position;

/// The newest items of one stream, contiguous: everything after `floor` up to `head` is here, but
/// for what a `Gap` or a `Hole` between them covers.
#[derive(Clone, Debug)]
pub struct Ring {
    items: VecDeque<Item>,
    /// The sequence number of the first item.
    first: u64,
    bytes: usize,
    floor: Position,
    /// Whether the item that was dropped last is a net change of a repair.
    dropped_change: bool,
    head: Position,
}

/// Most that a reader gets at once. However large it is, it gets the next item.
#[derive(Clone, Copy, Debug)]
pub struct ReadMax {
    /// The maximum number of items.
    pub items: usize,
    /// And of these so many that they cost no more than this.
    pub bytes: usize,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Items in order, maybe none yet; read on at `next`.
    Items {
        /// The items.
        items: Vec<Item>,
        /// Where to read on.
        next: u64,
        /// What the items cost in memory, in bytes.
        bytes: usize,
        /// Whether more is here already.
        more: bool,
    },
    /// What the reader wanted has been dropped.
    FellBehind,
}

impl Ring {
    /// An empty ring that begins just after `floor`.
    pub fn new(floor: Position) -> Self {
        Self {
            items: VecDeque::new(),
            first: 0,
            bytes: 0,
            head: floor.clone(),
            dropped_change: false,
            floor,
        }
    }

    /// Appends an item. Refuses (false) what does not move the stream forward.
    pub fn push(&mut self, item: Item) -> bool {
        match item.position() {
            Some(position) if position > self.head => self.head = position,
            _ => return false,
        }
        self.bytes += item.cost_bytes();
        self.items.push_back(item);
        true
    }

    /// Drops the oldest items until no more than so many bytes are left. The newest item always
    /// stays, however large it is.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.shrink_to_before(self.end().saturating_sub(1), bytes);
    }

    /// The same, but only of the items before `end`.
    pub fn shrink_to_before(&mut self, end: u64, bytes: usize) {
        while self.bytes > bytes && self.first < end {
            self.drop_oldest();
        }
    }

    /// What the items cost in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn drop_oldest(&mut self) {
        let Some(item) = self.items.pop_front() else {
            return;
        };
        self.bytes -= item.cost_bytes();
        self.first += 1;
        self.dropped_change = is_net_change(&item);
        if let Some(position) = item.position() {
            self.floor = position;
        }
    }

    /// Where a reader continues that stands at `place`; `None` where what comes next is not here.
    pub fn locate(&self, reader: Reader, place: &Place) -> Option<u64> {
        let position = place.position()?;
        if position < self.floor {
            return None;
        }
        let after = self
            .items
            .partition_point(|item| item.position().is_some_and(|at| at <= position));
        let next = self.items.get(after);
        let is_missing = |item: &Item| place.clone().admit(reader, item) == Admission::Missing;
        let is_missing = next.is_some_and(is_missing);
        (!is_missing).then_some(self.first + after as u64)
    }

    /// The items from `next` on, as many as `most` allows.
    pub fn read(&self, next: u64, most: ReadMax) -> Read {
        let Some(skip) = next.checked_sub(self.first) else {
            return Read::FellBehind;
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let (mut items, mut bytes) = (Vec::new(), 0);
        for item in self.items.range(skip.min(self.items.len())..) {
            let with_it = bytes + item.cost_bytes();
            if items.len() == most.items || (with_it > most.bytes && !items.is_empty()) {
                break;
            }
            bytes = with_it;
            items.push(item.clone());
        }
        let next = next + items.len() as u64;
        let more = next < self.end();
        Read::Items {
            items,
            next,
            bytes,
            more,
        }
    }

    /// The number of the oldest item.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Where the next item will be read.
    pub fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// Where a reader continues that passes over what was dropped: everything after this position
    /// up to the head is here. Never inside net changes, of which nobody can take a part: a ring
    /// that has dropped some of them begins after the rest.
    pub fn floor(&self) -> Position {
        match self.items.front() {
            Some(Item::Event(first)) if first.part == Part::Repair => closed_at(&first.position),
            // What completes them is still here, or the gap of another era that came before it.
            _ if self.dropped_change => closed_at(&self.floor),
            _ => self.floor.clone(),
        }
    }

    /// The newest position.
    pub fn head(&self) -> &Position {
        &self.head
    }
}

fn is_net_change(item: &Item) -> bool {
    matches!(item, Item::Event(published) if published.part == Part::Repair)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{Admission, Item, Part, Place, Position, Read, ReadMax, Reader, Ring};
    use crate::domain::{
        delivery::fixtures::{item, place, position, repaired},
        id::Era,
    };

    const ALL: ReadMax = ReadMax {
        items: usize::MAX,
        bytes: usize::MAX,
    };

    fn at(rv: u64) -> Position {
        Position::closed(Era(1), rv.into())
    }

    #[test]
    fn what_does_not_move_forward_is_refused() {
        let mut ring = Ring::new(at(5));
        assert!(!ring.push(Item::At(at(5))));
        assert!(ring.push(Item::At(at(6))));
        assert!(!ring.push(Item::At(at(6))));
        assert_eq!(ring.head(), &at(6));
    }

    #[test]
    fn a_reader_that_fell_off_is_notified() {
        let cost = Item::At(at(1)).cost_bytes();
        let mut ring = Ring::new(at(0));
        for rv in 1..=10 {
            ring.push(Item::At(at(rv)));
            ring.shrink_to(3 * cost);
        }
        assert_eq!(ring.read(0, ALL), Read::FellBehind);
        assert_eq!(ring.locate(Reader::Subscriber, &Place::At(at(6))), None);
        assert_eq!(ring.floor(), at(7));
        assert!(ring.locate(Reader::Subscriber, &Place::At(at(7))).is_some());
    }

    #[test]
    fn a_read_is_bounded_in_items_and_in_bytes_and_gives_one_item_at_least() {
        let cost = Item::At(at(1)).cost_bytes();
        let mut ring = Ring::new(at(0));
        for rv in 1..=10 {
            ring.push(Item::At(at(rv)));
        }
        let read = |next, items, bytes| match ring.read(next, ReadMax { items, bytes }) {
            Read::Items {
                items, next, more, ..
            } => (items.len(), next, more),
            Read::FellBehind => panic!("it is here"),
        };
        assert_eq!(read(0, 3, usize::MAX), (3, 3, true));
        assert_eq!(read(0, 100, 4 * cost), (4, 4, true));
        assert_eq!(read(4, 100, 4 * cost + cost / 2), (4, 8, true));
        assert_eq!(read(8, 100, 4 * cost), (2, 10, false));
        assert_eq!(read(3, 100, 1), (1, 4, true));
        assert_eq!(read(3, 100, 0), (1, 4, true));
        assert_eq!(read(10, 100, cost), (0, 10, false));
    }

    /// A ring of these items, after 1/5, from which one after the other is dropped: where it begins.
    fn floors(items: impl IntoIterator<Item = Item>) -> Vec<String> {
        let mut ring = Ring::new(position("1/5"));
        for item in items {
            assert!(ring.push(item));
        }
        let mut floors = Vec::new();
        while floors.len() as u64 != ring.end() {
            let floor = ring.floor();
            let next = ring.locate(Reader::Log, &Place::At(floor.clone()));
            assert!(next.is_some(), "nobody can resume at {floor}");
            let mut inside = place("repair 1/5>2/9+0");
            let goes_on = ring.locate(Reader::Log, &inside).is_some()
                || inside.admit(Reader::Log, &Item::Hole(floor.clone())) == Admission::Next;
            assert!(goes_on, "a log inside the repair cannot resume at {floor}");
            floors.push(floor.to_string());
            ring.shrink_to(ring.bytes() - 1);
        }
        floors
    }

    #[test]
    fn a_ring_that_has_dropped_some_net_changes_begins_after_them() {
        let items = [
            repaired("1/5", "2/9"),
            item(Part::Repair, "2/9/0"),
            item(Part::Repair, "2/9/1"),
            item(Part::Repair, "2/9/2"),
            Item::At(position("2/9")),
            item(Part::Live, "2/12"),
        ];
        let expected = ["1/5", "2/9", "2/9", "2/9", "2/9", "2/9"];
        assert_eq!(floors(items), expected);
    }

    #[test]
    fn a_ring_begins_after_net_changes_that_another_era_cut_short() {
        let items = [
            repaired("1/5", "2/9"),
            item(Part::Repair, "2/9/0"),
            repaired("1/5", "3/12"),
            Item::At(position("3/12")),
        ];
        assert_eq!(floors(items), ["1/5", "2/9", "2/9", "3/11"]);
    }

    #[test]
    fn a_ring_that_has_dropped_some_deletions_of_a_version_begins_inside_of_it() {
        let items = ["1/7/0", "1/7/1", "1/8"].map(|at| item(Part::Live, at));
        assert_eq!(floors(items), ["1/5", "1/7/0", "1/7/1"]);
    }

    proptest! {
        #[test]
        fn reading_after_any_position_gives_all_that_follows(
            steps in proptest::collection::vec(1u64..4, 1..60),
            keep in 1usize..80,
            from in 0u64..200,
        ) {
            let mut ring = Ring::new(at(0));
            let mut all = Vec::new();
            for step in steps {
                let rv = all.last().copied().unwrap_or(0) + step;
                ring.push(Item::At(at(rv)));
                ring.shrink_to(keep * Item::At(at(1)).cost_bytes());
                all.push(rv);
            }
            if let Some(next) = ring.locate(Reader::Subscriber, &Place::At(at(from))) {
                let Read::Items { items, .. } = ring.read(next, ALL) else {
                    return Err(proptest::test_runner::TestCaseError::fail("it fell behind"));
                };
                let want: Vec<_> =
                    all.iter().filter(|rv| **rv > from).map(|rv| Item::At(at(*rv))).collect();
                prop_assert_eq!(items, want);
            } else {
                prop_assert!(at(from) < ring.floor());
            }
        }
    }
}
