//! What travels through logs and feeds.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;

use crate::domain::{
    event::{Event, GapReason},
    id::Epoch,
    position::Position,
};

/// What an event is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The history as it was written.
    Live,
    /// The net changes of a repaired gap. Its position is the version of the list that they lead to,
    /// and its ordinal counts them.
    Repair,
    /// A consistent list. Its position is that of the object.
    Snapshot,
}

/// An event with its place in the stream.
#[derive(Debug)]
pub struct Published {
    /// Its place: strictly grows within a stream, but for snapshots.
    pub position: Position,
    /// The epoch of the owner that published it.
    pub epoch: Epoch,
    /// What it is part of.
    pub part: Part,
    /// The event.
    pub event: Event,
    /// How it looks on the wire: made once for all subscribers of a replica.
    pub rendered: OnceLock<Rendered>,
}

/// Everything of a live event but the object, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The fields of the response that stand before the event, then those of the event.
    pub bytes: Bytes,
    /// Where the event's fields begin.
    pub event_at: usize,
}

/// What [`Published::rendered`] takes, roughly.
const RENDERED_BYTES: usize = 400;

impl Published {
    /// An event at its place.
    pub fn new(position: Position, epoch: Epoch, part: Part, event: Event) -> Self {
        let rendered = OnceLock::new();
        Self {
            position,
            epoch,
            part,
            event,
            rendered,
        }
    }
}

/// Equal events stay equal, whether they were sent already or not.
impl PartialEq for Published {
    fn eq(&self, other: &Self) -> bool {
        (&self.position, self.epoch, self.part, &self.event)
            == (&other.position, other.epoch, other.part, &other.event)
    }
}

impl Eq for Published {}

/// Something is missing from a stream here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where those stand whom the gap meets: the last position before it. None where it meets
    /// everybody.
    pub from: Option<Position>,
    /// Where the stream is complete again, closed; `None` if only the snapshot gives it.
    pub to: Option<Position>,
    /// The cause, as shown to subscribers.
    pub reason: GapReason,
    /// Whether the net changes follow; a snapshot is needed otherwise.
    pub repaired: bool,
}

impl Gap {
    /// Just before what follows the gap: net changes stand at `to` itself.
    pub fn position(&self) -> Option<Position> {
        let to = self.to.as_ref()?;
        Some(if self.repaired {
            Position::closed(to.era, to.rv.previous())
        } else {
            to.clone()
        })
    }
}

/// One step of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Event(Arc<Published>),
    /// Everything up to this position has been given.
    At(Position),
    /// Something is missing here.
    Gap(Box<Gap>),
    /// What precedes this position is not here. A reader that needs it asks for a feed of its own.
    Hole(Position),
    /// A snapshot begins, of the list at this position. Feeds only, never in a log.
    Snapshot(Position),
    /// A snapshot is complete, and this is its position. Feeds only.
    Synced(Position),
    /// The feed is alive. Feeds only.
    Alive {
        /// Time since the API server last sent anything.
        lag: Duration,
    },
}

impl Item {
    /// A gap.
    pub fn gap(gap: Gap) -> Self {
        Self::Gap(Box::new(gap))
    }

    /// The position that a log has reached with this item; none where it does not move.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Event(published) => Some(published.position.clone()),
            Self::At(position) | Self::Hole(position) => Some(position.clone()),
            Self::Gap(gap) => gap.position(),
            Self::Snapshot(_) | Self::Synced(_) | Self::Alive { .. } => None,
        }
    }

    /// What the item costs in memory, in bytes.
    pub fn cost_bytes(&self) -> usize {
        let event = if let Self::Event(published) = self {
            published.event.cost_bytes() + RENDERED_BYTES
        } else {
            0
        };
        size_of::<Self>() + size_of::<Published>() + event
    }
}
