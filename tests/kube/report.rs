//! What a judge found.

use std::fmt;

/// Most problems that are put in words.
const PROBLEMS_MAX: usize = 12;

/// What a judge found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Changes that were delivered one by one.
    pub(crate) events: usize,
    /// Events whose object was held against an independent watch.
    pub(crate) compared: usize,
    /// Net changes of repaired gaps.
    pub(crate) repaired: usize,
    /// Changes inside repaired gaps that have no event of their own.
    pub(crate) coalesced: usize,
    /// Changes inside gaps that a snapshot followed.
    pub(crate) declared: usize,
    /// Objects of snapshots.
    pub(crate) snapshot: usize,
    pub(crate) gaps: usize,
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    /// Anything else that must not be.
    pub(crate) wrong: usize,
    problems: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.compared += other.compared;
        self.repaired += other.repaired;
        self.coalesced += other.coalesced;
        self.declared += other.declared;
        self.snapshot += other.snapshot;
        self.gaps += other.gaps;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.wrong += other.wrong;
        self.problems.extend(other.problems);
    }

    /// Panics where anything is lost, duplicated or wrong.
    pub(crate) fn expect_clean(&self) {
        let clean = (self.lost, self.duplicated, self.wrong) == (0, 0, 0);
        assert!(clean, "{self}\n{}", self.problems.join("\n"));
    }

    pub(crate) fn lost(&mut self, changes: usize, problem: String) {
        self.lost += changes;
        self.describe(problem);
    }

    pub(crate) fn duplicated(&mut self, problem: String) {
        self.duplicated += 1;
        self.describe(problem);
    }

    pub(crate) fn wrong(&mut self, problem: String) {
        self.wrong += 1;
        self.describe(problem);
    }

    fn describe(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events, {} net changes for {} coalesced, {} in snapshots ({} objects compared \
             with an independent watch), {} declared missing, {} gaps, {} lost, {} duplicated, \
             {} wrong",
            self.events,
            self.repaired,
            self.coalesced,
            self.snapshot,
            self.compared,
            self.declared,
            self.gaps,
            self.lost,
            self.duplicated,
            self.wrong
        )
    }
}
