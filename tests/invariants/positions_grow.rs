//! Within a stream the positions that a subscriber receives grow strictly, but for snapshots.

use quorumwatch::domain::{
    delivery::{item::Part, place::Place},
    position::Position,
};

use super::{
    Verdict,
    facts::{Frame, Received},
};

/// Compares each position with the one before it.
pub(crate) fn check(received: Received<'_>) -> Verdict {
    let mut last: Option<&Position> = match received.began {
        Place::At(position) => Some(position),
        _ => None,
    };
    for frame in received.frames {
        let (position, may_be_equal) = match frame {
            Frame::Event {
                part: Part::Live | Part::Repair,
                position,
                ..
            } => (position, false),
            // A list may show that nothing has happened.
            Frame::Synced(position) => (position, true),
            Frame::Event { .. } | Frame::Gap { .. } | Frame::SnapshotRestarted => continue,
        };
        if let Some(last) = last {
            let grows = position > last || may_be_equal && position == last;
            if !grows {
                return Err(format!("{position} was received after {last}"));
            }
        }
        last = Some(position);
    }
    Ok(())
}
