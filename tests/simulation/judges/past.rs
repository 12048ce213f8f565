//! What a cluster has committed, without what restores have undone.

use std::collections::{BTreeMap, BTreeSet};

use quorumwatch::{
    domain::{cluster::Resource, event::Change},
    sim::{Commit, Ledger},
};

/// The changes that led to what exists, in order: of each history those before it was cut.
fn past(ledger: &Ledger) -> Vec<&Commit> {
    let mut past: Vec<&Commit> = Vec::new();
    for history in 0..=ledger.histories.len() {
        if let Some(cut) = history.checked_sub(1).map(|cut| ledger.histories[cut]) {
            past.retain(|commit| cut.continues.is_some_and(|rv| commit.rv <= rv));
        }
        let of_it = |commit: &&Commit| usize::try_from(commit.history) == Ok(history);
        past.extend(ledger.commits.iter().filter(of_it));
    }
    past
}

fn past_of<'a>(ledger: &'a Ledger, resource: &str) -> impl Iterator<Item = &'a Commit> + use<'a> {
    let resource: Resource = resource.parse().unwrap();
    let past = past(ledger).into_iter();
    past.filter(move |commit| *commit.resource == resource)
}

/// The revisions at which a cluster has changed a resource, without repetition.
pub(super) fn versions(ledger: &Ledger, resource: &str) -> BTreeSet<u64> {
    past_of(ledger, resource).map(|commit| commit.rv).collect()
}

/// What exists of a resource, by name, with the version of each object.
pub(super) fn existing(ledger: &Ledger, resource: &str) -> BTreeMap<String, u64> {
    let mut objects = BTreeMap::new();
    for commit in past_of(ledger, resource) {
        let name = commit.name.to_string();
        if commit.change == Change::Deleted {
            objects.remove(&name);
        } else {
            objects.insert(name, commit.rv);
        }
    }
    objects
}
