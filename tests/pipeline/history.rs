//! The history of one stream, as its API server has it: [`History`].

use std::sync::Arc;

use quorumwatch::domain::{delivery::item::Part, event::Change, id::StreamId, position::Position};

use crate::{
    etcd::{Entry, Object, Told, net_changes},
    subscriber::Event,
    world::{StreamOf, World},
};

/// The history of one stream.
pub(crate) struct History {
    of: StreamOf,
    entries: Vec<Entry>,
    /// What a watch reports, and which of the deletions of its version each is.
    pub(crate) events: Vec<(Told, u32)>,
}

impl History {
    pub(crate) fn new(world: &World, stream: StreamId) -> Self {
        let of = world.streams[&stream].clone();
        let entries = world.etcd(&of.cluster).entries(0);
        let mut events: Vec<(Told, u32)> = Vec::new();
        for told in entries.iter().filter_map(|entry| of.selection.tell(entry)) {
            let ordinal = match events.last() {
                Some((last, ordinal)) if last.rv == told.rv => ordinal + 1,
                _ => 0,
            };
            events.push((told, ordinal));
        }
        Self {
            of,
            entries,
            events,
        }
    }

    /// How many events are at or before a position.
    pub(crate) fn index(&self, position: &Position) -> usize {
        let rv = position.rv.as_u64().unwrap();
        self.events.partition_point(|(told, ordinal)| {
            told.rv < rv || told.rv == rv && *ordinal <= position.ordinal.get()
        })
    }

    pub(crate) fn list(&self, position: &Position) -> Vec<Told> {
        let rv = position.rv.as_u64().unwrap();
        let end = self.entries.partition_point(|entry| entry.rv <= rv);
        let objects = self.of.selection.list(&self.entries[..end]).into_iter();
        let shown = |object: Arc<Object>| Told {
            change: Change::Snapshot,
            rv: object.rv,
            object,
        };
        objects.map(shown).collect()
    }

    pub(crate) fn changes(&self, from: &Position, to: &Position) -> Vec<Told> {
        let objects = |position| self.list(position).into_iter().map(|told| told.object);
        let (old, new): (Vec<_>, Vec<_>) = (objects(from).collect(), objects(to).collect());
        net_changes(&old, &new)
    }
}

/// What of a list comes after the first few, up to others.
pub(crate) fn rest(told: Vec<Told>, from: u32, to: Option<u32>) -> Vec<Told> {
    let from = usize::try_from(from).unwrap();
    let to = to.map_or(usize::MAX, |to| usize::try_from(to).unwrap());
    told.into_iter().take(to).skip(from).collect()
}

/// Whether it is the event of a change.
pub(crate) fn is_same(event: &Event, told: &Told, unmatched: bool, part: Part) -> bool {
    let object = &told.object;
    let is_whole = match (part, event.metadata_only) {
        // A deletion that was found by comparing lists.
        (Part::Repair | Part::Live, true) => event.change == Change::Deleted,
        (Part::Repair, false) => event.change != Change::Deleted,
        (_, is_metadata) => !is_metadata,
    };
    let same_object = match (part, event.metadata_only) {
        (Part::Live, true) => {
            let text = String::from_utf8_lossy(&event.object);
            text.contains("PartialObjectMetadata") && text.contains(&object.uid)
        }
        (_, metadata) => event.object == object.json(!metadata),
    };
    is_whole
        && same_object
        && event.part == part
        && event.unmatched == unmatched
        && event.change == told.change
        && event.rv == told.rv
        && event.uid == object.uid
        && event.name == object.name
        && event.namespace == object.namespace
}
