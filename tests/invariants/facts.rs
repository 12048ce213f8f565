//! What the invariants are about: what was written, what was received, what was agreed.

use std::collections::BTreeMap;

use quorumwatch::domain::{
    delivery::{item::Part, place::Place},
    event::{Change, GapReason},
    position::{Position, ResourceVersion},
    stream::EraStart,
};

/// One change of a stream, as its API server has written it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Written {
    /// Its resource version.
    pub(crate) rv: u64,
    /// Which of the changes of its version; only deletions share one.
    pub(crate) ordinal: u32,
    /// The object. One that was deleted is never created again.
    pub(crate) object: String,
    /// What happened to it.
    pub(crate) change: Change,
}

/// What a subscriber has received of one stream, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// An event.
    Event {
        /// What it is part of.
        part: Part,
        /// Its position.
        position: Position,
        /// The object.
        object: String,
        /// What happened to it.
        change: Change,
    },
    /// Something is missing.
    Gap {
        /// The subscriber's position before it.
        from: Option<Position>,
        /// Where the stream is complete again, if that is known.
        to: Option<Position>,
        /// The cause.
        reason: GapReason,
        /// Whether net changes follow, and not a snapshot.
        repaired: bool,
    },
    /// What was received of the snapshot is void.
    SnapshotRestarted,
    /// The snapshot is complete.
    Synced(Position),
}

/// One subscriber and one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    /// Where the subscriber began.
    pub(crate) began: &'a Place,
    /// What it has received since, over all its connections.
    pub(crate) frames: &'a [Frame],
    /// What its cursor says.
    pub(crate) cursor: &'a Place,
}

/// What an API server has lost, and what the group has agreed on because of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Losses<'a> {
    /// Nothing before this version can be listed or watched.
    pub(crate) compacted: u64,
    /// No watch can begin before this version.
    pub(crate) watchable: u64,
    /// The eras of the stream so far.
    pub(crate) eras: &'a [EraStart],
}

/// What is published up to a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published<'a> {
    /// What was written.
    pub(crate) history: &'a [Written],
    /// Whether any owner has published each of these changes.
    pub(crate) changes: &'a [bool],
    /// Everything up to this version is part of a list or of complete net changes.
    pub(crate) covered: u64,
}

/// A resource version as a number.
pub(crate) fn number(rv: &ResourceVersion) -> u64 {
    rv.as_u64().unwrap_or(u64::MAX)
}

/// How many of the changes are at or before a position.
pub(crate) fn through(history: &[Written], position: &Position) -> usize {
    let (rv, ordinal) = (number(&position.rv), position.ordinal.get());
    let is_through =
        |written: &&Written| written.rv < rv || written.rv == rv && written.ordinal <= ordinal;
    history.iter().take_while(is_through).count()
}

/// The objects that exist at a version, with their versions, in the order of a list.
pub(crate) fn objects_at(history: &[Written], rv: u64) -> BTreeMap<&str, u64> {
    let mut objects = BTreeMap::new();
    for written in history.iter().take_while(|written| written.rv <= rv) {
        let object = written.object.as_str();
        if written.change == Change::Deleted {
            objects.remove(object);
        } else {
            objects.insert(object, written.rv);
        }
    }
    objects
}

/// A difference between two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NetChange<'a> {
    /// The object.
    pub(crate) object: &'a str,
    /// What has become of it.
    pub(crate) change: Change,
    /// Its version in the later list; of a deleted one, in the earlier.
    pub(crate) rv: u64,
}

/// What turns the list of one version into that of another, in the order of keys.
pub(crate) fn net_changes(history: &[Written], from: u64, to: u64) -> Vec<NetChange<'_>> {
    let (old, new) = (objects_at(history, from), objects_at(history, to));
    let mut changes = BTreeMap::new();
    for (object, rv) in &old {
        if !new.contains_key(object) {
            changes.insert(*object, (Change::Deleted, *rv));
        }
    }
    for (object, rv) in &new {
        match old.get(object) {
            None => drop(changes.insert(*object, (Change::Added, *rv))),
            Some(before) if before != rv => {
                changes.insert(*object, (Change::Modified, *rv));
            }
            Some(_) => {}
        }
    }
    let changes = changes.into_iter();
    changes
        .map(|(object, (change, rv))| NetChange { object, change, rv })
        .collect()
}
