//! The newest part of a stream, bounded in bytes.

use std::collections::VecDeque;

use super::item::Item;
use crate::domain::position::Position;

/// The newest items of one stream, contiguous: everything after `floor` up to `head` is here.
#[derive(Debug)]
pub struct Ring {
    items: VecDeque<Item>,
    /// The sequence number of the first item.
    first: u64,
    bytes: usize,
    bytes_max: usize,
    floor: Position,
    head: Position,
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
    },
    /// What the reader wanted has been dropped.
    Lagged,
}

impl Ring {
    /// An empty ring that begins just after `floor`.
    pub fn new(floor: Position, bytes_max: usize) -> Self {
        Self {
            items: VecDeque::new(),
            first: 0,
            bytes: 0,
            bytes_max,
            head: floor.clone(),
            floor,
        }
    }

    /// Appends an item. Refuses (false) what does not move the stream forward.
    pub fn push(&mut self, item: Item) -> bool {
        match item.position() {
            Some(position) if *position > self.head => self.head = position.clone(),
            _ => return false,
        }
        self.bytes += item.cost_bytes();
        self.items.push_back(item);
        // The newest item always stays, however large it is.
        while self.bytes > self.bytes_max && self.items.len() > 1 {
            self.drop_oldest();
        }
        true
    }

    fn drop_oldest(&mut self) {
        let Some(item) = self.items.pop_front() else {
            return;
        };
        self.bytes -= item.cost_bytes();
        self.first += 1;
        if let Some(position) = item.position() {
            self.floor = position.clone();
        }
    }

    /// Where to read what comes after `position`; `None` where the ring does not reach back so far.
    pub fn seek(&self, position: &Position) -> Option<u64> {
        if *position < self.floor {
            return None;
        }
        let after = self
            .items
            .partition_point(|item| item.position().is_some_and(|at| at <= position));
        Some(self.first + after as u64)
    }

    /// Up to `items_max` items from `next` on.
    pub fn read(&self, next: u64, items_max: usize) -> Read {
        let Some(skip) = next.checked_sub(self.first) else {
            return Read::Lagged;
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let items: Vec<_> = self
            .items
            .iter()
            .skip(skip)
            .take(items_max)
            .cloned()
            .collect();
        let next = next + items.len() as u64;
        Read::Items { items, next }
    }

    /// Where the next item will be read.
    pub fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// Everything after this position up to the head is here.
    pub fn floor(&self) -> &Position {
        &self.floor
    }

    /// The newest position.
    pub fn head(&self) -> &Position {
        &self.head
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{Item, Position, Read, Ring};
    use crate::domain::id::Era;

    fn at(rv: u64) -> Position {
        Position::closed(Era(1), rv.into())
    }

    #[test]
    fn what_does_not_move_forward_is_refused() {
        let mut ring = Ring::new(at(5), 1 << 20);
        assert!(!ring.push(Item::At(at(5))));
        assert!(ring.push(Item::At(at(6))));
        assert!(!ring.push(Item::At(at(6))));
        assert_eq!(ring.head(), &at(6));
    }

    #[test]
    fn a_reader_that_fell_off_is_told() {
        let cost = Item::At(at(1)).cost_bytes();
        let mut ring = Ring::new(at(0), 3 * cost);
        for rv in 1..=10 {
            ring.push(Item::At(at(rv)));
        }
        assert_eq!(ring.read(0, 10), Read::Lagged);
        assert_eq!(ring.seek(&at(6)), None);
        assert_eq!(ring.floor(), &at(7));
        assert!(ring.seek(&at(7)).is_some());
    }

    proptest! {
        #[test]
        fn reading_after_any_position_gives_all_that_follows(
            steps in proptest::collection::vec(1u64..4, 1..60),
            keep in 1usize..80,
            from in 0u64..200,
        ) {
            let mut ring = Ring::new(at(0), keep * Item::At(at(1)).cost_bytes());
            let mut all = Vec::new();
            for step in steps {
                let rv = all.last().copied().unwrap_or(0) + step;
                ring.push(Item::At(at(rv)));
                all.push(rv);
            }
            if let Some(next) = ring.seek(&at(from)) {
                let Read::Items { items, .. } = ring.read(next, usize::MAX) else {
                    return Err(proptest::test_runner::TestCaseError::fail("lagged"));
                };
                let want: Vec<_> =
                    all.iter().filter(|rv| **rv > from).map(|rv| Item::At(at(*rv))).collect();
                prop_assert_eq!(items, want);
            } else {
                prop_assert!(at(from) < *ring.floor());
            }
        }
    }
}
