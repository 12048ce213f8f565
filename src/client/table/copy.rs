//! The copy of one stream.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use super::{Key, Object, Violation};
use crate::{
    client::compare_positions,
    proto::v1::{ChangeType, Event, ObjectMeta, Position, StreamChange, StreamProgress, Synced},
};

/// The copy of one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamCopy {
    description: StreamChange,
    objects: BTreeMap<Key, Object>,
    /// What the snapshot that is under way has brought; `None` outside of one.
    seen: Option<BTreeSet<Key>>,
    /// The last place sent or passed; `None` inside a snapshot.
    last: Option<Position>,
}

impl StreamCopy {
    pub(super) fn added(change: &StreamChange) -> Self {
        let mut copy = Self::default();
        copy.added_again(change);
        copy
    }

    /// The same stream, as the next replica describes it.
    pub(super) fn added_again(&mut self, change: &StreamChange) {
        self.description = change.clone();
        // Before the first cursor was kept, a replica that is behind may begin earlier.
        self.last.clone_from(&change.position);
        if change.snapshot_follows {
            self.begin_snapshot();
        }
    }

    /// What the stream is: its cluster, resource, namespace and selectors.
    pub fn description(&self) -> &StreamChange {
        &self.description
    }

    /// Its objects.
    pub fn objects(&self) -> &BTreeMap<Key, Object> {
        &self.objects
    }

    /// The last place sent or passed; `None` inside a snapshot, and before the first.
    pub fn position(&self) -> Option<&Position> {
        self.last.as_ref()
    }

    /// Whether the copy is whole: no snapshot is under way.
    pub fn is_complete(&self) -> bool {
        self.seen.is_none()
    }

    pub(super) fn into_keys(self) -> impl Iterator<Item = Key> {
        self.objects.into_keys()
    }

    pub(super) fn changed(&mut self, change: &StreamChange) {
        self.description = change.clone();
        if change.snapshot_follows {
            self.begin_snapshot();
        }
    }

    /// Everything that exists follows; what it does not bring is gone then, and not before.
    pub(super) fn begin_snapshot(&mut self) {
        self.seen = Some(BTreeSet::new());
        self.last = None;
    }

    /// The key of the object, where the event is about one that is stored or was; and whether it is
    /// stored now.
    pub(super) fn event(&mut self, event: &Event) -> Result<(Option<Key>, bool), Violation> {
        let stream = || event.stream.clone();
        let object = event.object.as_ref();
        let object = object.ok_or_else(|| incomplete(&event.stream, "object"))?;
        let key = key(object);
        match event.change_type() {
            ChangeType::Snapshot => {
                let seen = self.seen.as_mut();
                let seen = seen.ok_or_else(|| Violation::SnapshotOutside(stream()))?;
                seen.insert(key.clone());
                self.store(&key, object, event);
                Ok((Some(key), true))
            }
            kind => {
                if self.seen.is_some() {
                    return Err(Violation::ChangeInside(stream()));
                }
                let position = event.position.as_ref();
                let position = position.ok_or_else(|| incomplete(&event.stream, "position"))?;
                self.advance(&event.stream, position, Ordering::is_lt)?;
                Ok(self.change(kind, key, object, event))
            }
        }
    }

    fn change(
        &mut self,
        kind: ChangeType,
        key: Key,
        object: &ObjectMeta,
        event: &Event,
    ) -> (Option<Key>, bool) {
        match kind {
            ChangeType::Added | ChangeType::Modified => {
                self.store(&key, object, event);
                (Some(key), true)
            }
            ChangeType::Deleted | ChangeType::Unmatched => {
                let had = self.objects.remove(&key).is_some();
                (had.then_some(key), false)
            }
            // A change of a later version: what it means is not known.
            ChangeType::Snapshot | ChangeType::Unspecified => (None, false),
        }
    }

    fn store(&mut self, key: &Key, object: &ObjectMeta, event: &Event) {
        let object = Object {
            uid: object.uid.clone(),
            resource_version: object.resource_version.clone(),
            json: event.object_json.clone(),
        };
        self.objects.insert(key.clone(), object);
    }

    /// Ends the snapshot; returns the keys of what is gone.
    pub(super) fn synced(&mut self, synced: &Synced) -> Result<Vec<Key>, Violation> {
        let seen = self.seen.take();
        let seen = seen.ok_or_else(|| Violation::SyncedOutside(synced.stream.clone()))?;
        let position = synced.position.clone();
        let position = position.ok_or_else(|| incomplete(&synced.stream, "position"))?;
        self.last = Some(position);
        let gone = self.objects.keys().filter(|key| !seen.contains(key));
        let gone: Vec<_> = gone.cloned().collect();
        self.objects.retain(|key, _| seen.contains(key));
        Ok(gone)
    }

    pub(super) fn progress(&mut self, progress: &StreamProgress) -> Result<(), Violation> {
        match &progress.position {
            Some(position) if self.is_complete() => {
                self.advance(&progress.stream, position, Ordering::is_le)
            }
            _ => Ok(()),
        }
    }

    fn advance(
        &mut self,
        stream: &str,
        position: &Position,
        allowed: fn(Ordering) -> bool,
    ) -> Result<(), Violation> {
        if let Some(last) = &self.last
            && !allowed(compare_positions(last, position))
        {
            return Err(Violation::NotGrowing {
                stream: stream.to_owned(),
                last: last.clone(),
                position: position.clone(),
            });
        }
        self.last = Some(position.clone());
        Ok(())
    }
}

fn key(object: &ObjectMeta) -> Key {
    Key {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    }
}

fn incomplete(stream: &str, part: &'static str) -> Violation {
    Violation::Incomplete {
        stream: stream.to_owned(),
        part,
    }
}
