//! What frames take in memory, and memory that is held until they are dropped.

use std::sync::Arc;

use crate::{domain::frame::Frame, memory::held};

/// What holding a frame costs besides the frame itself.
const HOLD_BYTES: usize = 96;

/// What frames take.
pub(super) fn cost_bytes(frames: &[Frame]) -> usize {
    let cost = |frame: &Frame| frame.cost_bytes() + HOLD_BYTES;
    frames.iter().map(cost).sum()
}

/// The same frames, for which `hold` is held until the last of their objects is dropped.
pub(super) fn hold_for<T: Send + Sync + 'static>(frames: Vec<Frame>, hold: T) -> Vec<Frame> {
    let hold = Arc::new(hold);
    let frames = frames.into_iter().map(|frame| Frame {
        object: held(frame.object, hold.clone()),
        ..frame
    });
    frames.collect()
}
