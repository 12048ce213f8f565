//! A snapshot comes where a subscriber began with one, or after a gap that is not repaired; nowhere
//! else.

use quorumwatch::domain::delivery::{item::Part, place::Place};

use super::{
    Verdict,
    facts::{Frame, Received},
};

/// Follows which snapshots were announced.
pub(crate) fn check(received: Received<'_>) -> Verdict {
    let mut announced = *received.began == Place::SnapshotDue;
    for frame in received.frames {
        match frame {
            Frame::Gap {
                repaired: false, ..
            } => announced = true,
            Frame::Event {
                part: Part::Snapshot,
                position,
                object,
                ..
            } if !announced => {
                return Err(format!(
                    "{object} at {position} is part of a snapshot that no gap announced"
                ));
            }
            Frame::Synced(position) if !announced => {
                return Err(format!(
                    "a snapshot at {position} is complete that no gap announced"
                ));
            }
            Frame::Synced(_) => announced = false,
            Frame::SnapshotRestarted if !announced => {
                return Err("a snapshot restarted that no gap announced".into());
            }
            Frame::Event { .. } | Frame::Gap { .. } | Frame::SnapshotRestarted => {}
        }
    }
    Ok(())
}
