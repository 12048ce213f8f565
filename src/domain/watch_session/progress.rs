//! What one stream has delivered, and what to make of the next frame: [`Progress`].

use std::{cmp::Ordering, collections::VecDeque};

use crate::domain::{frame::Change, position::ResourceVersion};

/// Delivered versions remembered per watch, to tell a repetition from something late. etcd repeats
/// what is recent, so a few suffice.
const RECENT_MAX: usize = 256;

/// What to do with a frame.
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

/// The last frame, while more frames of its version may follow.
#[derive(Clone, Debug)]
struct Last {
    rv: ResourceVersion,
    /// Frames delivered at `rv`.
    count: u32,
    /// Whether it was a deletion. Only deletions share a version (trap T7): a lease's end deletes
    /// many objects in one transaction, while every other write is a transaction of one object.
    deletion: bool,
}

/// How far a stream has come.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Everything up to and including this version has been delivered.
    closed: ResourceVersion,
    /// The frames after `closed`; all others at lower versions are closed.
    last: Option<Last>,
    /// Where the current watch began.
    begun: ResourceVersion,
    /// Frames at `last.rv` that the current watch repeats, because it began just before them.
    repeats: u32,
    /// What the current watch has delivered lately, ascending.
    recent: VecDeque<ResourceVersion>,
}

impl Progress {
    pub(super) fn new(closed: ResourceVersion) -> Self {
        Self {
            begun: closed.clone(),
            closed,
            last: None,
            repeats: 0,
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
            Some(last) if last.deletion => last.rv.previous(),
            Some(last) => last.rv.clone(),
            None => self.closed.clone(),
        }
    }

    /// A watch begins; returns from where.
    pub(super) fn begin_watch(&mut self) -> ResourceVersion {
        self.begun = self.closed();
        self.repeats = match &self.last {
            Some(last) if last.deletion => last.count,
            _ => 0,
        };
        self.recent.clear();
        self.begun.clone()
    }

    /// A frame has come.
    pub(super) fn take(&mut self, rv: &ResourceVersion, change: Change) -> Verdict {
        if *rv <= self.begun {
            return Verdict::Repeat;
        }
        match rv.cmp(self.top()) {
            Ordering::Greater => self.take_next(rv, change),
            Ordering::Equal if self.last.is_some() => self.take_same(change),
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
            self.repeats = 0;
        }
        news
    }

    fn take_next(&mut self, rv: &ResourceVersion, change: Change) -> Verdict {
        if let Some(last) = self.last.take() {
            self.closed = last.rv;
        }
        self.repeats = 0;
        self.last = Some(Last {
            rv: rv.clone(),
            count: 1,
            deletion: change == Change::Deleted,
        });
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(rv.clone());
        Verdict::Deliver
    }

    /// A frame at the version of the last one.
    fn take_same(&mut self, change: Change) -> Verdict {
        if self.repeats > 0 {
            self.repeats -= 1;
            return Verdict::Repeat;
        }
        if let Some(last) = &mut self.last {
            last.count = last.count.saturating_add(1);
            last.deletion |= change == Change::Deleted;
        }
        Verdict::Deliver
    }
}
