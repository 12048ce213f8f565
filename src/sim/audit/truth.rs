//! A ledger as the history of one stream.

use std::collections::BTreeMap;

use super::id_of;
use crate::{
    domain::{cluster::Resource, event::Change},
    sim::ledger::{Commit, Ledger},
};

/// What one stream committed, history by history.
#[derive(Debug)]
pub(super) struct Truth<'a> {
    pub(super) cluster: &'a str,
    pub(super) resource: &'a Resource,
    /// Never empty.
    pub(super) histories: Vec<History<'a>>,
    /// Whether the ledger still knows the beginning.
    pub(super) is_whole: bool,
}

/// What happened between two cuts of a cluster's past.
#[derive(Debug, Default)]
pub(super) struct History<'a> {
    /// The revision of the history before it that it continues.
    continues: Option<u64>,
    /// In the order of their revisions.
    pub(super) facts: Vec<Fact<'a>>,
}

/// One change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact<'a> {
    pub(super) commit: &'a Commit,
    pub(super) id: u64,
}

/// The objects of a stream, by identity, as the change that made each.
pub(super) type Objects<'a> = BTreeMap<u64, &'a Commit>;

impl<'a> Truth<'a> {
    /// The streams of a ledger.
    pub(super) fn of(ledger: &'a Ledger) -> Vec<Self> {
        let mut streams: BTreeMap<&Resource, Self> = BTreeMap::new();
        for commit in &ledger.commits {
            let truth = streams
                .entry(&commit.resource)
                .or_insert_with_key(|resource| Self::empty(ledger, resource));
            let id = id_of(&commit.uid, &commit.namespace, &commit.name);
            let history = usize::try_from(commit.history).unwrap_or(usize::MAX);
            if let Some(history) = truth.histories.get_mut(history) {
                history.facts.push(Fact { commit, id });
            }
        }
        streams.into_values().collect()
    }

    fn empty(ledger: &'a Ledger, resource: &'a Resource) -> Self {
        let mut histories = vec![History::default()];
        histories.extend(ledger.histories.iter().map(|new| History {
            continues: new.continues,
            facts: Vec::new(),
        }));
        Self {
            cluster: &ledger.cluster,
            resource,
            histories,
            is_whole: ledger.forgotten == 0,
        }
    }

    /// Whether what happened at a revision may be something that the ledger no longer knows.
    pub(super) fn has_forgotten(&self, rv: u64) -> bool {
        let first = self.histories.iter().find_map(|h| h.facts.first());
        !self.is_whole && first.is_none_or(|first| rv < first.commit.rv)
    }

    /// The objects at a revision of a history.
    pub(super) fn objects_at(&self, history: usize, rv: u64) -> Objects<'a> {
        // Go back to where the objects began, then forward again.
        let mut steps = vec![(history, rv)];
        let mut first = history;
        while let Some(continues) = self.histories[first].continues.filter(|_| first > 0) {
            first -= 1;
            let before = steps.last().map_or(rv, |(_, rv)| *rv).min(continues);
            steps.push((first, before));
        }
        let mut objects = Objects::new();
        for (history, rv) in steps.into_iter().rev() {
            let history = &self.histories[history];
            for fact in &history.facts[..history.end_of(rv)] {
                if fact.commit.change == Change::Deleted {
                    objects.remove(&fact.id);
                } else {
                    objects.insert(fact.id, fact.commit);
                }
            }
        }
        objects
    }
}

impl<'a> History<'a> {
    /// How many facts are at or before a revision.
    pub(super) fn end_of(&self, rv: u64) -> usize {
        self.facts.partition_point(|fact| fact.commit.rv <= rv)
    }

    /// The change of an object at a revision.
    pub(super) fn find(&self, rv: u64, id: u64) -> Option<usize> {
        let start = self.facts.partition_point(|fact| fact.commit.rv < rv);
        let at_rv = self.facts[start..]
            .iter()
            .take_while(|fact| fact.commit.rv == rv);
        let found = at_rv.enumerate().find(|(_, fact)| fact.id == id);
        found.map(|(offset, _)| start + offset)
    }
}
