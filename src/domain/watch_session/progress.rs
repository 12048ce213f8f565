//! What one stream has delivered, and what to make of the next event: [`Progress`].

use std::{cmp::Ordering, collections::VecDeque};

use crate::domain::{event::Change, position::ResourceVersion};

/// Delivered versions remembered per watch, to distinguish a repetition from something late. etcd
/// repeats what is recent, so a few suffice.
const RECENT_MAX: usize = 256;

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is new and in order.
    Deliver,
    /// It is at or before the place where this watch began, or was delivered by an earlier one.
    Repeat,
    /// It was delivered by this watch already: the server went back (trap T10).
    WentBack,
    /// It was never delivered, and what comes after it was (trap T11).
    Late,
}

/// The last event, while more events of its version may follow.
#[derive(Clone, Debug)]
struct Last {
    rv: ResourceVersion,
    /// The hashed UIDs of what was deleted at `rv`. Only deletions share a version (trap T7): a
    /// lease's end deletes many objects in one transaction, while every other write is a
    /// transaction of one object.
    deleted: Vec<u64>,
}

/// How far a stream has come.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Everything up to and including this version has been delivered.
    closed: ResourceVersion,
    /// The events after `closed`; all others at lower versions are closed.
    last: Option<Last>,
    /// Where the current watch began.
    begun: ResourceVersion,
    /// What the current watch has delivered or repeated lately, ascending.
    recent: VecDeque<ResourceVersion>,
}

impl Progress {
    pub(super) fn new(closed: ResourceVersion) -> Self {
        Self {
            begun: closed.clone(),
            closed,
            last: None,
            recent: VecDeque::new(),
        }
    }

    /// The highest version that was delivered or closed.
    pub(super) fn top(&self) -> &ResourceVersion {
        self.last.as_ref().map_or(&self.closed, |last| &last.rv)
    }

    /// The highest version of which everything has been delivered.
    pub(super) fn closed(&self) -> ResourceVersion {
        match &self.last {
            Some(last) if !last.deleted.is_empty() => last.rv.previous(),
            Some(last) => last.rv.clone(),
            None => self.closed.clone(),
        }
    }

    /// A watch begins; returns from where.
    pub(super) fn begin_watch(&mut self) -> ResourceVersion {
        self.begun = self.closed();
        self.recent.clear();
        // Deletions of a version that is still open come once more.
        let open = self.last.as_ref().filter(|last| last.rv > self.begun);
        self.recent.extend(open.map(|last| last.rv.clone()));
        self.begun.clone()
    }

    /// An event has come, of the object with this hashed UID.
    pub(super) fn take(&mut self, rv: &ResourceVersion, change: Change, uid: u64) -> Verdict {
        if *rv <= self.begun {
            return Verdict::Repeat;
        }
        match rv.cmp(self.top()) {
            Ordering::Greater => self.take_next(rv, change, uid),
            Ordering::Equal if self.last.is_some() => self.take_same(change, uid),
            // The one write of a version that was closed meanwhile, once more.
            Ordering::Equal if change != Change::Deleted && self.recent.contains(rv) => {
                Verdict::WentBack
            }
            Ordering::Equal => Verdict::Late,
            Ordering::Less if self.recent.contains(rv) => Verdict::WentBack,
            Ordering::Less => Verdict::Late,
        }
    }

    /// Everything up to `rv` has been delivered; returns whether that is news.
    pub(super) fn close(&mut self, rv: &ResourceVersion) -> bool {
        let news = match &self.last {
            Some(last) => *rv >= last.rv,
            None => *rv > self.closed,
        };
        if news {
            self.closed = rv.clone();
            self.last = None;
        }
        news
    }

    fn take_next(&mut self, rv: &ResourceVersion, change: Change, uid: u64) -> Verdict {
        if let Some(last) = self.last.take() {
            self.closed = last.rv;
        }
        let is_deletion = change == Change::Deleted;
        self.last = Some(Last {
            rv: rv.clone(),
            deleted: is_deletion.then_some(uid).into_iter().collect(),
        });
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(rv.clone());
        Verdict::Deliver
    }

    /// An event at the version of the last one. A watch that begins just before it repeats what an
    /// earlier one delivered, and a server that went back begins with what it sent last (trap T10):
    /// nothing is deleted twice at one version, and two events that are both no deletions are the
    /// same one.
    fn take_same(&mut self, change: Change, uid: u64) -> Verdict {
        let Some(last) = &mut self.last else {
            return Verdict::Deliver;
        };
        if last.deleted.contains(&uid) || change != Change::Deleted && last.deleted.is_empty() {
            return Verdict::Repeat;
        }
        if change == Change::Deleted {
            last.deleted.push(uid);
        }
        Verdict::Deliver
    }
}
