//! Once all faults are over, everything is owned, delivered and checkpointed, and the group is
//! whole, within a limit: [`missing`] says what is not yet so.

use std::collections::{BTreeMap, BTreeSet};

use quorumwatch::{
    client::{Begin, Key, Table},
    domain::{cluster::Resource, event::Change, position::ResourceVersion, state::State},
    sim::{Commit, Ledger},
};

use super::delivery::Place;
use crate::{
    hosts::{ApiServer, RESOURCES, Subscriber},
    stage::Stage,
};

/// Why the run has not settled; nothing where it has.
pub(crate) fn missing(stage: &Stage) -> Option<String> {
    let ledgers: Vec<Ledger> = stage.servers.iter().map(ApiServer::ledger).collect();
    of_the_group(stage, &ledgers).or_else(|| {
        let mut subscribers = stage.subscribers.iter();
        subscribers.find_map(|subscriber| of_a_subscriber(subscriber, &ledgers))
    })
}

/// One leader, and one state, in which every shard has an owner and every stream a checkpoint.
fn of_the_group(stage: &Stage, ledgers: &[Ledger]) -> Option<String> {
    let mut states = BTreeMap::new();
    let mut leaders = BTreeSet::new();
    for replica in &stage.replicas {
        let name = &replica.name;
        let Some(raft) = replica.raft() else {
            return Some(format!("{name} does not run"));
        };
        let leadership = *raft.leadership().borrow();
        let Some(leader) = leadership.leader else {
            return Some(format!("{name} knows no leader"));
        };
        leaders.insert(leader);
        states.insert(raft.state().revision, raft.state());
    }
    let (_, state) = states.pop_last()?;
    if leaders.len() > 1 || !states.is_empty() {
        return Some("replicas know different things".into());
    }
    if state.members.len() != stage.replicas.len() {
        return Some("not all replicas are registered".into());
    }
    let mut ledgers = ledgers.iter();
    ledgers.find_map(|ledger| of_a_cluster(&state, ledger))
}

fn of_a_cluster(state: &State, ledger: &Ledger) -> Option<String> {
    let name = &ledger.cluster;
    let Some(cluster) = state.cluster_named(name) else {
        return Some(format!("{name} is not registered"));
    };
    let mut assignments = state.assignments.values();
    let assignment = assignments.find(|it| it.shard().cluster == cluster.id);
    let owner = assignment.and_then(|assignment| assignment.owner());
    if !owner.is_some_and(|owner| state.members.contains_key(&owner)) {
        return Some(format!("{name} has no owner"));
    }
    RESOURCES.iter().find_map(|resource| {
        let mut streams = state.streams.values();
        let stream = streams.find(|stream| {
            stream.shard.cluster == cluster.id && stream.selector.resource.to_string() == *resource
        });
        let checkpoint = stream.and_then(|stream| stream.checkpoint.as_ref());
        let expected = versions(ledger, resource).rev().nth(1);
        // The last version stays open until something shows that nothing more belongs to it.
        let is_checkpointed = match (checkpoint, expected) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(checkpoint), Some(expected)) => checkpoint.rv >= ResourceVersion::from(expected),
        };
        (!is_checkpointed).then(|| {
            format!("the checkpoint of {name} {resource} is {checkpoint:?}, not {expected:?}")
        })
    })
}

fn of_a_subscriber(subscriber: &Subscriber, ledgers: &[Ledger]) -> Option<String> {
    let record = subscriber.record();
    let places = ledgers.iter().flat_map(|ledger| {
        let places = RESOURCES.iter();
        places.map(move |resource| (ledger, *resource))
    });
    for (ledger, resource) in places {
        let Some(last) = versions(ledger, resource).next_back() else {
            continue;
        };
        let last = ResourceVersion::from(last);
        let place: Place = (ledger.cluster.clone(), resource.to_owned());
        let reached = record.reached.get(&place);
        if reached.is_none_or(|reached| *reached < last) {
            let who = &subscriber.name;
            return Some(format!("{who} has {place:?} up to {reached:?}, not {last}"));
        }
        let copied = copied(&record.table, &place);
        let existing = existing(ledger, resource);
        let is_complete = match subscriber.begin {
            Begin::Snapshot => copied == existing,
            // A log has only what has changed.
            _ => copied.is_subset(&existing),
        };
        if !is_complete {
            let who = &subscriber.name;
            return Some(format!("{who} has {copied:?}, and there is {existing:?}"));
        }
    }
    None
}

/// The revisions at which a cluster has changed a resource, without repetition.
fn versions(ledger: &Ledger, resource: &str) -> impl DoubleEndedIterator<Item = u64> + use<> {
    let resource: Resource = resource.parse().unwrap();
    let commits = ledger.commits.iter();
    let of_it = commits.filter(|commit| *commit.resource == resource);
    let versions: BTreeSet<u64> = of_it.map(|commit| commit.rv).collect();
    versions.into_iter()
}

/// The name of an object, and its version.
type Existing = (String, String);

/// What a subscriber has of a resource.
fn copied(table: &Table, place: &Place) -> BTreeSet<Existing> {
    let streams = table.streams().values();
    let of_it = streams.filter(|copy| {
        let description = copy.description();
        description.cluster == place.0 && description.resource == place.1
    });
    let objects = of_it.flat_map(|copy| copy.objects().iter());
    objects
        .map(|(Key { name, .. }, object)| (name.clone(), object.resource_version.clone()))
        .collect()
}

/// What exists of it.
fn existing(ledger: &Ledger, resource: &str) -> BTreeSet<Existing> {
    let resource: Resource = resource.parse().unwrap();
    let commits = ledger.commits.iter();
    let mut objects: BTreeMap<&str, &Commit> = BTreeMap::new();
    for commit in commits.filter(|commit| *commit.resource == resource) {
        if commit.change == Change::Deleted {
            objects.remove(&*commit.name);
        } else {
            objects.insert(&commit.name, commit);
        }
    }
    let objects = objects.into_iter();
    objects
        .map(|(name, commit)| (name.to_owned(), commit.rv.to_string()))
        .collect()
}
