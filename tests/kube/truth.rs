//! What happened to the objects of one kind in one cluster, in order.

use std::collections::BTreeMap;

use quorumwatch::domain::event::Change;

use crate::{
    control_plane::{EtcdAction, EtcdWatch},
    kind::Kind,
};

/// Version of each object, by `namespace/name`.
pub(crate) type Objects = BTreeMap<String, u64>;

/// One committed change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) rv: u64,
    pub(crate) key: String,
    pub(crate) change: Change,
}

/// Every change of one kind of object.
#[derive(Debug, Default)]
pub(crate) struct Truth(Vec<Fact>);

impl From<Vec<Fact>> for Truth {
    fn from(facts: Vec<Fact>) -> Self {
        Self(facts)
    }
}

impl Truth {
    /// What etcd has said so far.
    pub(crate) fn of(watch: &EtcdWatch, kind: Kind) -> Self {
        let changes = watch.changes().unwrap();
        let facts = changes.into_iter().filter_map(|change| {
            let key = change.key.strip_prefix(kind.etcd_prefix())?.to_owned();
            let rv = change.revision;
            let change = match change.action {
                EtcdAction::Create => Change::Added,
                EtcdAction::Update => Change::Modified,
                EtcdAction::Delete => Change::Deleted,
            };
            Some(Fact { rv, key, change })
        });
        Self(facts.collect())
    }

    /// The same without what came after `rv`.
    pub(crate) fn up_to(mut self, rv: u64) -> Self {
        let end = self.end_of(rv);
        self.0.truncate(end);
        self
    }

    pub(crate) fn facts(&self) -> &[Fact] {
        &self.0
    }

    /// The index of the first change after `rv`.
    pub(crate) fn end_of(&self, rv: u64) -> usize {
        self.0.partition_point(|fact| fact.rv <= rv)
    }

    /// What there was at `rv`.
    pub(crate) fn objects_at(&self, rv: u64) -> Objects {
        let mut objects = Objects::new();
        for fact in &self.0[..self.end_of(rv)] {
            if fact.change == Change::Deleted {
                objects.remove(&fact.key);
            } else {
                objects.insert(fact.key.clone(), fact.rv);
            }
        }
        objects
    }

    /// The version at which an object was created.
    pub(crate) fn created(&self, key: &str) -> Option<u64> {
        let fact = self.0.iter().find(|fact| fact.key == key)?;
        Some(fact.rv)
    }

    /// Whether an object was created after one version and up to another.
    pub(crate) fn was_created(&self, key: &str, after: u64, up_to: u64) -> bool {
        let span = &self.0[self.end_of(after)..self.end_of(up_to).max(self.end_of(after))];
        let is = |fact: &Fact| fact.key == key && fact.change == Change::Added;
        span.iter().any(is)
    }

    /// How many deletions share the version that most of them share (trap T7).
    pub(crate) fn shared_deletions(&self) -> usize {
        let mut counts = BTreeMap::new();
        for fact in self.0.iter().filter(|fact| fact.change == Change::Deleted) {
            *counts.entry(fact.rv).or_insert(0) += 1;
        }
        counts.into_values().max().unwrap_or(0)
    }
}
