//! What travels through rings and feeds.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;

use crate::domain::{
    frame::{Frame, GapReason},
    id::Epoch,
    position::Position,
};

/// A frame with its place in the stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// Its place: strictly grows within a stream.
    pub position: Position,
    /// The epoch of the owner that published it.
    pub epoch: Epoch,
    /// Whether the frame belongs to a snapshot, or to a repair made for one asker alone: a cursor
    /// does not advance with it, only with the `At` or `Synced` at its end.
    pub replay: bool,
    /// The frame.
    pub frame: Frame,
    /// What whoever serves subscribers has made of everything but the object, once for all of them:
    /// some bytes, and a place in them.
    pub rendered: OnceLock<(Bytes, usize)>,
}

/// What [`Published::rendered`] takes, roughly.
const RENDERED_BYTES: usize = 400;

impl Published {
    /// A frame at its place.
    pub fn new(position: Position, epoch: Epoch, replay: bool, frame: Frame) -> Self {
        let rendered = OnceLock::new();
        Self {
            position,
            epoch,
            replay,
            frame,
            rendered,
        }
    }
}

/// Something is missing from a stream here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last position before the hole, if there was one.
    pub from: Option<Position>,
    /// Where the stream goes on.
    pub to: Position,
    /// Why.
    pub reason: GapReason,
    /// Whether the net changes follow; a snapshot is needed otherwise.
    pub repaired: bool,
    /// Whether the net changes are a replay, made for one asker alone: see [`Published::replay`].
    pub replay: bool,
}

/// One step of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A frame.
    Frame(Arc<Published>),
    /// Everything up to this position has been given.
    At(Position),
    /// Something is missing here.
    Gap(Gap),
    /// A snapshot is complete, and this is its position. Feeds only, never in a ring.
    Synced(Position),
    /// The feed lives, and the API server was last heard this long ago. Feeds only.
    Alive {
        /// How long ago.
        silent: Duration,
    },
}

impl Item {
    /// The position that the stream has reached with this item; none where it does not move.
    pub fn position(&self) -> Option<&Position> {
        match self {
            Self::Frame(published) => Some(&published.position),
            Self::At(position) | Self::Synced(position) => Some(position),
            Self::Gap(gap) => Some(&gap.to),
            Self::Alive { .. } => None,
        }
    }

    /// What the item costs in memory, in bytes.
    pub fn cost_bytes(&self) -> usize {
        let frame = if let Self::Frame(published) = self {
            published.frame.cost_bytes() + RENDERED_BYTES
        } else {
            0
        };
        size_of::<Self>() + size_of::<Published>() + frame
    }
}
