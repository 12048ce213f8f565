//! What the model's API server has written.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::event::Change;

/// One event that history has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) version: u64,
    pub(super) change: Change,
    pub(super) name: u8,
    pub(super) uid: u64,
    pub(super) serial: u64,
}

/// Name to UID and version.
pub(super) type Table = BTreeMap<u8, (u64, u64)>;

/// The history of one resource type.
#[derive(Default)]
pub(super) struct History {
    pub(super) log: Vec<Entry>,
    pub(super) revision: u64,
    serial: u64,
    /// UID and version of everything that was ever written. Two histories that write the same
    /// object at the same version cannot be distinguished there, and do not occur here.
    written: BTreeSet<(u64, u64)>,
}

impl History {
    /// An empty one, which is not at its first revision.
    pub(super) fn new() -> Self {
        Self {
            revision: 1,
            ..Self::default()
        }
    }

    pub(super) fn state_at(&self, version: u64) -> Table {
        let mut table = Table::new();
        for entry in &self.log[..self.after(version)] {
            apply(&mut table, entry);
        }
        table
    }

    pub(super) fn after(&self, version: u64) -> usize {
        self.log.partition_point(|entry| entry.version <= version)
    }

    /// Creates, changes or deletes an object.
    pub(super) fn write(&mut self, name: u8, delete: bool) {
        self.revision += 1;
        self.serial += 1;
        let known = self.state_at(self.revision).get(&name).copied();
        let (change, uid) = match known {
            None => (Change::Added, self.serial),
            Some((uid, _)) if delete => (Change::Deleted, uid),
            Some((uid, _)) => (Change::Modified, uid),
        };
        while !self.written.insert((uid, self.revision)) {
            self.revision += 1;
        }
        self.log.push(Entry {
            version: self.revision,
            change,
            name,
            uid,
            serial: self.serial,
        });
    }

    /// Deletes everything at one version.
    pub(super) fn delete_all(&mut self) {
        self.revision += 1;
        for (name, (uid, _)) in self.state_at(self.revision) {
            self.serial += 1;
            self.log.push(Entry {
                version: self.revision,
                change: Change::Deleted,
                name,
                uid,
                serial: self.serial,
            });
        }
    }

    /// Forgets what is after a version.
    pub(super) fn rewind(&mut self, target: u64) {
        let kept = self.after(target);
        self.log.truncate(kept);
        self.revision = target;
    }
}

pub(super) fn apply(table: &mut Table, entry: &Entry) {
    match entry.change {
        Change::Deleted => {
            if table
                .get(&entry.name)
                .is_some_and(|(uid, _)| *uid == entry.uid)
            {
                table.remove(&entry.name);
            }
        }
        _ => {
            table.insert(entry.name, (entry.uid, entry.version));
        }
    }
}
