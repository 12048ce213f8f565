//! Turns resource versions into positions.

use crate::domain::{
    id::Era,
    position::{Ordinal, Position, ResourceVersion},
};

/// Numbers the frames of one stream. Two sequencers that begin at the same closed position and see
/// the same frames give the same positions: that is what lets a new owner, and a catch-up watch,
/// replay a stream.
#[derive(Clone, Debug)]
pub struct Sequencer {
    last: Position,
}

impl Sequencer {
    /// Begins after a closed position.
    pub fn after(closed: Position) -> Self {
        Self { last: closed }
    }

    /// The era that positions are given in.
    pub fn era(&self) -> Era {
        self.last.era
    }

    /// The newest position given.
    pub fn last(&self) -> &Position {
        &self.last
    }

    /// The position of the next frame; `None` for a frame that comes too late, because its version
    /// is closed.
    pub fn next(&mut self, rv: &ResourceVersion) -> Option<Position> {
        let era = self.last.era;
        let position = if *rv > self.last.rv {
            Position::at(era, rv.clone(), Ordinal::FIRST)
        } else if *rv == self.last.rv && !self.last.is_closed() {
            Position::at(era, rv.clone(), self.last.ordinal.next())
        } else {
            return None;
        };
        self.last = position.clone();
        Some(position)
    }

    /// Closes everything up to `rv`; the position to tell, where that is news.
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
    use super::{Era, Position, Sequencer};

    #[test]
    fn frames_that_share_a_version_are_numbered() {
        let mut sequencer = Sequencer::after(Position::closed(Era(1), 5.into()));
        let positions: Vec<_> = [6, 7, 7, 7, 9]
            .map(|rv| sequencer.next(&rv.into()).unwrap().to_string())
            .into();
        assert_eq!(positions, ["1/6/0", "1/7/0", "1/7/1", "1/7/2", "1/9/0"]);
    }

    #[test]
    fn a_frame_at_a_closed_version_is_late() {
        let mut sequencer = Sequencer::after(Position::closed(Era(1), 5.into()));
        assert_eq!(sequencer.next(&5.into()), None);
        assert_eq!(sequencer.close(&8.into()).unwrap().to_string(), "1/8");
        assert_eq!(sequencer.close(&8.into()), None);
        assert_eq!(sequencer.next(&8.into()), None);
        assert!(sequencer.next(&9.into()).is_some());
    }
}
