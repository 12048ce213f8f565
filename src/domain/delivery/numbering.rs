//! Turns resource versions into positions: [`Numbering`].

use crate::domain::{
    event::Change,
    position::{Ordinal, Position, ResourceVersion},
};

/// Numbers the events of one stream. Two numberings that begin at the same closed position and see
/// the same events give the same positions: that is what lets a new owner, and a catch-up watch,
/// give a stream again.
///
/// One rule decides when a version is closed, here as in the watch session: only deletions share
/// one (the end of a lease deletes many objects in one transaction; every other write is a
/// transaction of one object). So a deletion leaves its version open, and anything else closes it.
#[derive(Clone, Debug)]
pub struct Numbering {
    last: Position,
}

impl Numbering {
    /// Begins after a closed position.
    pub fn after(closed: Position) -> Self {
        Self { last: closed }
    }

    /// The newest position given.
    pub fn last(&self) -> &Position {
        &self.last
    }

    /// The position of the next event; `None` for an event that comes too late, because its version
    /// is closed.
    pub fn next(&mut self, rv: &ResourceVersion, change: Change) -> Option<Position> {
        let shares = *rv == self.last.rv && !self.last.is_closed();
        if !shares && *rv <= self.last.rv {
            return None;
        }
        let ordinal = match change {
            Change::Deleted if shares => self.last.ordinal.next(),
            Change::Deleted => Ordinal::FIRST,
            Change::Added | Change::Modified | Change::Snapshot => Ordinal::CLOSED,
        };
        self.last = Position::at(self.last.era, rv.clone(), ordinal);
        Some(self.last.clone())
    }

    /// Closes everything up to `rv`; the position, where that is news.
    pub fn close(&mut self, rv: &ResourceVersion) -> Option<Position> {
        let closed = Position::closed(self.last.era, rv.clone());
        if closed <= self.last {
            return None;
        }
        self.last = closed.clone();
        Some(closed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Numbering, Position};
    use crate::domain::id::Era;

    #[test]
    fn deletions_that_share_a_version_are_numbered_and_other_writes_close_theirs() {
        let mut numbering = Numbering::after(Position::closed(Era(1), 5.into()));
        let positions: Vec<_> = [
            (6, Change::Added),
            (7, Change::Deleted),
            (7, Change::Deleted),
            (8, Change::Deleted),
            (9, Change::Modified),
        ]
        .map(|(rv, change)| numbering.next(&rv.into(), change).unwrap().to_string())
        .into();
        assert_eq!(positions, ["1/6", "1/7/0", "1/7/1", "1/8/0", "1/9"]);
    }

    #[test]
    fn an_event_at_a_closed_version_is_late() {
        let mut numbering = Numbering::after(Position::closed(Era(1), 5.into()));
        assert_eq!(numbering.next(&5.into(), Change::Deleted), None);
        assert_eq!(numbering.close(&8.into()).unwrap().to_string(), "1/8");
        assert_eq!(numbering.close(&8.into()), None);
        assert_eq!(numbering.next(&8.into(), Change::Deleted), None);
        assert!(numbering.next(&9.into(), Change::Added).is_some());
        assert_eq!(numbering.next(&9.into(), Change::Deleted), None);
    }
}
