//! Where a reader of a stream stands, and what the next item means to it: [`Place::admit`].

use std::{fmt, str::FromStr};

use super::item::{Gap, Item, Part, Published};
use crate::domain::{
    id::Era,
    position::{NotAPosition, Ordinal, Position},
};

/// Where a reader of a stream stands.
///
/// Prints as `first`, `snapshot`, `snapshot LIST+GIVEN`, `repair FROM>TO+GIVEN` or a position.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Before everything: nobody had ever watched the stream when the reader began.
    BeforeFirst,
    /// A snapshot is due.
    SnapshotDue,
    /// Inside a snapshot.
    Snapshot {
        /// The position of its list, closed.
        list: Position,
        /// How many of its objects were given.
        given: u32,
    },
    /// Inside the net changes of a repaired gap.
    Repair {
        /// Where the reader stood: what they are counted from.
        from: Position,
        /// Where they lead, closed.
        to: Position,
        /// How many of them were given.
        given: u32,
    },
    /// After this position.
    At(Position),
}

/// The kind of reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// One subscriber: it gets everything that it needs.
    Subscriber,
    /// A log, which has many readers, each at its own place. It passes gaps and holes wherever they
    /// begin, and its readers look for themselves whether they stand there.
    Log,
}

/// What an item means to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It comes next; the reader has moved.
    Next,
    /// The reader already has it, or it is not news to it.
    Had,
    /// Something is missing between the reader and the item; the reader has not moved.
    Missing,
}

use Admission::{Had, Missing, Next};

impl Place {
    /// The last position given or passed; none where a snapshot, or everything, is due.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::At(position) => Some(position.clone()),
            Self::Repair { to, given, .. } => Some(match given.checked_sub(1) {
                Some(last) => Position::at(to.era, to.rv.clone(), Ordinal::new(last)),
                None => Position::closed(to.era, to.rv.previous()),
            }),
            Self::BeforeFirst | Self::SnapshotDue | Self::Snapshot { .. } => None,
        }
    }

    /// The era that the place is in; none where it is in none.
    pub fn era(&self) -> Option<Era> {
        match self {
            Self::At(position)
            | Self::Repair { to: position, .. }
            | Self::Snapshot { list: position, .. } => Some(position.era),
            Self::BeforeFirst | Self::SnapshotDue => None,
        }
    }

    /// Whether a snapshot, or the rest of one, is what comes next.
    pub fn needs_snapshot(&self) -> bool {
        matches!(self, Self::SnapshotDue | Self::Snapshot { .. })
    }

    /// Decides whether `item` comes next for the reader that stands here, and moves it if it does.
    pub fn admit(&mut self, reader: Reader, item: &Item) -> Admission {
        match reader {
            Reader::Subscriber => self.admit_to_subscriber(item),
            Reader::Log => self.admit_to_log(item),
        }
    }

    fn admit_to_subscriber(&mut self, item: &Item) -> Admission {
        match item {
            Item::Event(published) => self.admit_event(published),
            Item::At(position) => self.admit_position(position),
            Item::Gap(gap) => self.admit_gap(gap),
            Item::Hole(to) => match self {
                Self::At(here) if *here >= *to => Had,
                // Where it ends at the hole, the rest of what it is inside of is not there.
                Self::Repair { to: end, .. } if *end > *to => Had,
                _ => Missing,
            },
            Item::Snapshot(list) => self.admit_snapshot(list),
            Item::Synced(position) => match self {
                Self::Snapshot { .. } => self.move_to(Self::At(position.clone())),
                _ => Missing,
            },
            Item::Alive { .. } => Had,
        }
    }

    fn admit_to_log(&mut self, item: &Item) -> Admission {
        let beyond = match item {
            Item::Gap(gap) => match (&gap.to, &gap.from) {
                (Some(to), Some(from)) if gap.repaired => Self::Repair {
                    from: from.clone(),
                    to: to.clone(),
                    given: 0,
                },
                (Some(to), _) => Self::At(to.clone()),
                (None, _) => return Missing,
            },
            // One that is inside of what ends there has not had all of it.
            Item::Hole(to) => match self {
                Self::Repair { to: end, .. } if *end == *to => {
                    return self.move_to(Self::At(to.clone()));
                }
                _ => Self::At(to.clone()),
            },
            other => return self.admit_to_subscriber(other),
        };
        if self.end() >= beyond.end() || self.position() > beyond.position() {
            return Had;
        }
        self.move_to(beyond)
    }

    /// Whether what the reader is inside of ends before this position.
    pub(super) fn is_before(&self, position: &Position) -> bool {
        self.end().is_some_and(|end| end < position)
    }

    /// Where the reader will stand, at least, when what it is inside of is complete.
    fn end(&self) -> Option<&Position> {
        match self {
            Self::At(end) | Self::Repair { to: end, .. } => Some(end),
            Self::BeforeFirst | Self::SnapshotDue | Self::Snapshot { .. } => None,
        }
    }

    fn move_to(&mut self, place: Self) -> Admission {
        *self = place;
        Next
    }

    fn admit_event(&mut self, published: &Published) -> Admission {
        let position = &published.position;
        match (published.part, &mut *self) {
            // The comparison that "exactly once" rests on.
            (Part::Live, Self::At(here)) => {
                if position <= here {
                    return Had;
                }
                if !follows(here, position) {
                    return Missing;
                }
                here.clone_from(position);
                Next
            }
            // The net changes that the reader is in the middle of include it.
            (Part::Live, Self::Repair { to, .. }) if position <= to => Had,
            // A repair that the reader has passed, in a log that it shares with others.
            (Part::Repair, Self::At(here)) if *here >= closed_at(position) => Had,
            // The same repair, perhaps after an interruption: its events are numbered.
            (Part::Repair, Self::Repair { to, given, .. }) if *to == closed_at(position) => {
                let counted = position.ordinal.get();
                if counted == *given {
                    *given += 1;
                    Next
                } else if counted < *given {
                    Had
                } else {
                    Missing
                }
            }
            (Part::Snapshot, Self::Snapshot { list, given }) if list.era == position.era => {
                *given = given.saturating_add(1);
                Next
            }
            // A reader that waits for a snapshot, or is inside of another repair or snapshot.
            _ => Missing,
        }
    }

    fn admit_position(&mut self, position: &Position) -> Admission {
        match self {
            Self::At(here) if position <= here => Had,
            Self::Repair { to, .. } if position < to => Had,
            // Everything up to there was given, so the reader moves even without an event. At the
            // end of a repair this is what completes it.
            Self::At(_) | Self::Repair { .. } => self.move_to(Self::At(position.clone())),
            Self::BeforeFirst | Self::SnapshotDue | Self::Snapshot { .. } => Missing,
        }
    }

    fn admit_gap(&mut self, gap: &Gap) -> Admission {
        // The reader is beyond the gap: it had it, or came in after it.
        if let (Some(to), Some(end)) = (&gap.to, self.end())
            && end >= to
        {
            return Had;
        }
        if !gap.repaired {
            return match self {
                // Nothing was given that could be missing.
                Self::BeforeFirst | Self::SnapshotDue => Had,
                _ => self.move_to(Self::SnapshotDue),
            };
        }
        match (&*self, &gap.from, &gap.to) {
            // The reader stands exactly where the owner did when it lost its watch.
            (Self::At(here), Some(from), Some(to))
                if here == from && gap.position() >= self.position() =>
            {
                let (from, to) = (from.clone(), to.clone());
                self.move_to(Self::Repair { from, to, given: 0 })
            }
            // Its net changes are counted from elsewhere: some were given already, or others are
            // missing.
            _ => Missing,
        }
    }

    fn admit_snapshot(&mut self, list: &Position) -> Admission {
        match self {
            // The list of the snapshot that continues after an interruption.
            Self::Snapshot { list: same, .. } if same == list => Had,
            // A snapshot begins; one that was interrupted and is gone begins again.
            Self::SnapshotDue | Self::Snapshot { .. } => {
                let list = list.clone();
                self.move_to(Self::Snapshot { list, given: 0 })
            }
            Self::BeforeFirst | Self::Repair { .. } | Self::At(_) => Missing,
        }
    }
}

/// Whether no event of the version of `next` lies between the two: events that share one are
/// counted from the first.
fn follows(here: &Position, next: &Position) -> bool {
    let counted = next.ordinal;
    counted == Ordinal::CLOSED
        || counted == Ordinal::FIRST
        || (here.era == next.era && here.rv == next.rv && here.ordinal.next() == counted)
}

/// Where the version of `position` is closed.
pub(super) fn closed_at(position: &Position) -> Position {
    Position::closed(position.era, position.rv.clone())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeFirst => f.write_str("first"),
            Self::SnapshotDue => f.write_str("snapshot"),
            Self::Snapshot { list, given } => write!(f, "snapshot {list}+{given}"),
            Self::Repair { from, to, given } => write!(f, "repair {from}>{to}+{given}"),
            Self::At(position) => position.fmt(f),
        }
    }
}

impl FromStr for Place {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || NotAPosition(text.chars().take(200).collect());
        let counted = |text: &str| -> Result<(String, u32), NotAPosition> {
            let (rest, given) = text.rsplit_once('+').ok_or_else(invalid)?;
            let given = given.parse().map_err(|_| invalid())?;
            Ok((rest.to_owned(), given))
        };
        match text {
            "first" => return Ok(Self::BeforeFirst),
            "snapshot" => return Ok(Self::SnapshotDue),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("snapshot ") {
            let (list, given) = counted(rest)?;
            let list = list.parse()?;
            return Ok(Self::Snapshot { list, given });
        }
        if let Some(rest) = text.strip_prefix("repair ") {
            let (ends, given) = counted(rest)?;
            let (from, to) = ends.split_once('>').ok_or_else(invalid)?;
            let (from, to) = (from.parse()?, to.parse()?);
            return Ok(Self::Repair { from, to, given });
        }
        text.parse().map(Self::At)
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
