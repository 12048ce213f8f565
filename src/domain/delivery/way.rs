//! How a reader is served from where it stands: the table [`way`].

use std::fmt;

use super::place::{Place, Reader};
use crate::domain::{event::GapReason, position::Position, stream::EraStart};

/// What the owner has, as far as it matters to one reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// How the stream's current era began.
    pub era: EraStart,
    /// Where in the log the reader continues, where what it needs next is there.
    pub next: Option<u64>,
    /// Everything after this position is in the log.
    pub floor: Position,
}

/// How a reader is served from where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the log, from this number on.
    Log(u64),
    /// With a second watch, from its place on.
    Watch,
    /// Its history continues in the present era without a break: it stands there.
    Enter(Position),
    /// It stands inside a version whose watch is lost: the rest of the version, from exact lists.
    CloseVersion(Position),
    /// With the net changes between two exact lists.
    Repair {
        /// Where they are counted from.
        from: Position,
        /// The position after the net changes.
        to: Position,
    },
    /// With a snapshot, or with the rest of the one that it is inside of.
    Snapshot,
    /// What follows is gone.
    Gap(GapReason),
    /// It resumes at this position, and its own readers ask for what it passes over.
    Skip(Position),
    /// Not here: the owner has to catch up with the group.
    Ahead,
}

/// The name alone: places are in other fields of a log line.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log(_) => "Log",
            Self::Watch => "Watch",
            Self::Enter(_) => "Enter",
            Self::CloseVersion(_) => "CloseVersion",
            Self::Repair { .. } => "Repair",
            Self::Snapshot => "Snapshot",
            Self::Gap(_) => "Gap",
            Self::Skip(_) => "Skip",
            Self::Ahead => "Ahead",
        })
    }
}

/// The table: where the reader stands, and what the owner has there. `watchable` is false once a
/// watch from there was refused.
pub fn way(place: &Place, reader: Reader, owner: &Located, watchable: bool) -> Way {
    let era = &owner.era;
    match place {
        // Not expected: a subscription opens a feed only once the stream has a beginning, which is
        // then its place.
        Place::BeforeFirst => Way::Ahead,
        Place::SnapshotDue => Way::Snapshot,
        // A later owner began the snapshot, in an era that this one has not applied yet.
        Place::Snapshot { list, .. } if list.era > era.era => Way::Ahead,
        // The rest of an interrupted snapshot, also of an earlier era: the list decides whether it
        // still exists.
        Place::Snapshot { .. } => Way::Snapshot,
        Place::Repair { from, to, .. } => {
            let of_this_era = *to == era.start() && Some(from) == era.from.as_ref();
            match owner.next {
                // A later owner began the repair.
                _ if to.era > era.era => Way::Ahead,
                // The log holds the very net changes that the reader is in the middle of.
                Some(next) if of_this_era || reader == Reader::Log => Way::Log(next),
                // A log does not repair: its readers open feeds of their own.
                _ if reader == Reader::Log => Way::Skip(owner.floor.clone()),
                // An era without continuity began after the repair: its net changes lead nowhere.
                _ if from.era < era.unbroken_since => Way::Gap(era.broken_by),
                // The net changes are the same at every owner: count on where they were interrupted.
                _ => Way::Repair {
                    from: from.clone(),
                    to: to.clone(),
                },
            }
        }
        Place::At(here) => way_from(here, reader, owner, watchable),
    }
}

fn way_from(here: &Position, reader: Reader, owner: &Located, watchable: bool) -> Way {
    let era = &owner.era;
    // A later owner has served the reader, in an era that this one has not applied yet.
    if here.era > era.era {
        return Way::Ahead;
    }
    // The usual case: a reader that keeps up, or comes back soon.
    if let Some(next) = owner.next {
        return Way::Log(next);
    }
    // Behind the log, in the same era: the API server replays what is missing.
    if here.era == era.era && watchable {
        return Way::Watch;
    }
    // What follows is not available as single changes. A log marks the hole, its readers come here.
    if reader == Reader::Log {
        return Way::Skip(owner.floor.clone());
    }
    // Between the reader and now an era began without continuity: nothing connects the two.
    if here.era < era.unbroken_since {
        return Way::Gap(era.broken_by);
    }
    if here.era < era.era && here.resume_rv() >= era.to {
        // The reader is ahead of the lists' range, and the lists show that nothing broke.
        return Way::Enter(Position {
            era: era.era,
            ..here.clone()
        });
    }
    // Lists show whole versions only, so a reader in the middle of one completes it first.
    if !here.is_closed() {
        return Way::CloseVersion(here.clone());
    }
    // An earlier era that the current one repairs, or a watch of this era that was refused.
    Way::Repair {
        from: here.clone(),
        to: era.start(),
    }
}

#[cfg(test)]
#[path = "way_tests.rs"]
mod tests;
