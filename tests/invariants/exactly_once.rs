//! Nothing is received twice: no change, no net change, no object of a snapshot. After a gap that a
//! snapshot follows, what was received before it does not count any more.

use quorumwatch::domain::{
    delivery::item::Part,
    event::Change,
    position::{Ordinal, Position},
};

use super::{
    Verdict,
    facts::{Frame, Received, number},
};

/// What was received since the last gap that a snapshot follows.
#[derive(Default)]
struct Since<'a> {
    /// Changes: version and object.
    changes: Vec<(u64, &'a str)>,
    /// Net changes: where they lead, and their number.
    net_changes: Vec<(&'a Position, Ordinal)>,
    /// Objects of the snapshot.
    objects: Vec<&'a str>,
    /// Everything up to this version was part of a list or of net changes.
    covered: u64,
}

impl<'a> Since<'a> {
    fn event(
        &mut self,
        part: Part,
        position: &'a Position,
        object: &'a str,
        change: Change,
    ) -> Verdict {
        let rv = number(&position.rv);
        let is_known = match part {
            Part::Live => self.changes.contains(&(rv, object)) || rv <= self.covered,
            Part::Repair => self.net_changes.contains(&(position, position.ordinal)),
            Part::Snapshot => self.objects.contains(&object),
        };
        if is_known {
            return Err(format!(
                "{change:?} {object} at {position} was received twice"
            ));
        }
        match part {
            Part::Live => self.changes.push((rv, object)),
            Part::Repair => self.net_changes.push((position, position.ordinal)),
            Part::Snapshot => self.objects.push(object),
        }
        Ok(())
    }
}

/// Compares each event with those before it.
pub(crate) fn check(received: Received<'_>) -> Verdict {
    let mut since = Since::default();
    for frame in received.frames {
        match frame {
            Frame::Event {
                part,
                position,
                object,
                change,
            } => since.event(*part, position, object, *change)?,
            Frame::Gap {
                repaired: true, to, ..
            } => {
                let to = to.as_ref().map_or(0, |to| number(&to.rv));
                since.covered = since.covered.max(to);
            }
            Frame::Gap { .. } | Frame::SnapshotRestarted => since = Since::default(),
            Frame::Synced(position) => since.covered = number(&position.rv),
        }
    }
    Ok(())
}
