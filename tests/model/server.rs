//! The API server of the one cluster: [`Api`] answers watches and lists from what [`Server`] still
//! has of its history.

use bytes::Bytes;
use quorumwatch::domain::{
    event::{Change, Event, ObjectKey},
    history::HistoryItem,
    id::UnixMillis,
};

use crate::{
    invariants::facts::{NetChange, Written, net_changes, objects_at},
    scope::FIRST,
};

/// What the API server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    /// How many changes of the script were written.
    pub(crate) written: usize,
    /// Nothing before this version can be listed or watched.
    pub(crate) compacted: u64,
    /// No watch can begin before this version.
    pub(crate) watchable: u64,
    /// How often it broke all watches.
    pub(crate) restarts: u8,
}

/// The API server as it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api<'a> {
    pub(crate) server: &'a Server,
    pub(crate) script: &'a [Written],
}

impl<'a> Api<'a> {
    /// What was written.
    pub(crate) fn history(self) -> &'a [Written] {
        &self.script[..self.server.written]
    }

    /// The newest version.
    pub(crate) fn now(self) -> u64 {
        self.history().last().map_or(FIRST, |written| written.rv)
    }

    /// How many changes the next version has.
    pub(crate) fn next_version(self) -> usize {
        let rest = &self.script[self.server.written..];
        let first = rest.first().map(|written| written.rv);
        rest.iter()
            .take_while(|written| Some(written.rv) == first)
            .count()
    }

    /// Whether a watch can begin after this version.
    pub(crate) fn can_watch(self, rv: u64) -> bool {
        rv >= self.server.watchable.max(self.server.compacted)
    }

    /// Whether an exact list of this version can be taken.
    pub(crate) fn can_list(self, rv: u64) -> bool {
        rv >= self.server.compacted.max(FIRST) && rv <= self.now()
    }

    /// The number of the first change after this version.
    pub(crate) fn after(self, rv: u64) -> usize {
        self.history()
            .iter()
            .take_while(|written| written.rv <= rv)
            .count()
    }

    /// The objects of a list.
    pub(crate) fn list(self, rv: u64) -> Vec<Event> {
        let objects = objects_at(self.history(), rv);
        let objects = objects.into_iter();
        objects
            .map(|(object, rv)| event(object, Change::Snapshot, rv))
            .collect()
    }

    /// The net changes between two lists.
    pub(crate) fn net_changes(self, from: u64, to: u64) -> Vec<Event> {
        let changes = net_changes(self.history(), from, to).into_iter();
        changes
            .map(|NetChange { object, change, rv }| event(object, change, rv))
            .collect()
    }

    /// What a watch beside the owner's ends with where it cannot go on after this version.
    pub(crate) fn lost(self, rv: u64) -> HistoryItem {
        if self.can_list(rv) {
            HistoryItem::WatchLost {
                to: self.now().into(),
            }
        } else {
            HistoryItem::Expired
        }
    }
}

/// A change as a watch sends it.
pub(crate) fn event_of(written: &Written) -> Event {
    event(&written.object, written.change, written.rv)
}

fn event(object: &str, change: Change, rv: u64) -> Event {
    Event {
        change,
        rv: rv.into(),
        key: ObjectKey::new("", object, object),
        object: Bytes::new(),
        metadata_only: false,
        seen: UnixMillis(0),
    }
}
