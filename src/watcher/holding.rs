//! What events take in memory, and memory that is held until they are dropped.

use std::sync::Arc;

use crate::{domain::event::Event, memory::held};

/// What holding an event costs besides the event itself.
const HOLD_BYTES: usize = 96;

/// What events take.
pub(super) fn cost_bytes(events: &[Event]) -> usize {
    let cost = |event: &Event| event.cost_bytes() + HOLD_BYTES;
    events.iter().map(cost).sum()
}

/// The same events, for which `hold` is held until the last of their objects is dropped.
pub(super) fn hold_for<T: Send + Sync + 'static>(events: Vec<Event>, hold: T) -> Vec<Event> {
    let hold = Arc::new(hold);
    let events = events.into_iter().map(|event| Event {
        object: held(event.object, hold.clone()),
        ..event
    });
    events.collect()
}
