//! Once all faults are over, everything is owned, delivered and checkpointed, and the group is
//! whole, within a limit: [`missing`] says what is not yet so.

use std::collections::{BTreeMap, BTreeSet};

use quorumwatch::{
    client::{Begin, Key, Table},
    domain::{
        cluster::{ClusterSpec, Source},
        id::ClusterId,
        position::ResourceVersion,
        state::State,
    },
    sim::Ledger,
};

use super::{delivery::Place, past};
use crate::{
    hosts::{ApiServer, RESOURCES, Subscriber},
    stage::Stage,
};

/// A server, and all that its cluster has committed.
type Known<'a> = (&'a ApiServer, Ledger);

/// Why the run has not settled; nothing where it has.
pub(crate) fn missing(stage: &Stage) -> Option<String> {
    let servers = stage.servers.iter();
    let known: Vec<Known<'_>> = servers.map(|server| (server, server.ledger())).collect();
    of_the_group(stage, &known).or_else(|| {
        let mut subscribers = stage.subscribers.iter();
        subscribers.find_map(|subscriber| of_a_subscriber(stage, subscriber, &known))
    })
}

/// One leader, and one state, in which every cluster is as it is to be, every shard has an owner and
/// every stream a checkpoint.
fn of_the_group(stage: &Stage, known: &[Known<'_>]) -> Option<String> {
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
    if !stage.operator.is_done() {
        return Some("a change of the operator is not acknowledged".into());
    }
    let mut known = known.iter();
    known.find_map(|(_, ledger)| of_a_cluster(stage, &state, ledger))
}

fn of_a_cluster(stage: &Stage, state: &State, ledger: &Ledger) -> Option<String> {
    let name = &ledger.cluster;
    let Some(cluster) = state.cluster_named(name) else {
        return Some(format!("{name} is not registered"));
    };
    if !is_as_wanted(stage, &cluster.spec) {
        let wanted = stage.operator.wanted(name);
        return Some(format!("{name} is {:?}, not {wanted:?}", cluster.spec));
    }
    let mut assignments = state.assignments.values();
    let assignment = assignments.find(|it| it.shard().cluster == cluster.id);
    let owner = assignment.and_then(|assignment| assignment.owner());
    if !owner.is_some_and(|owner| state.members.contains_key(&owner)) {
        return Some(format!("{name} has no owner"));
    }
    let mut resources = RESOURCES.into_iter();
    resources.find_map(|resource| of_a_stream(state, cluster.id, ledger, resource))
}

fn of_a_stream(state: &State, id: ClusterId, ledger: &Ledger, resource: &str) -> Option<String> {
    let mut streams = state.streams.values();
    let stream = streams.find(|stream| {
        stream.shard.cluster == id && stream.selector.resource.to_string() == *resource
    });
    let checkpoint = stream.and_then(|stream| stream.checkpoint.as_ref());
    let versions = past::versions(ledger, resource);
    let expected = versions.into_iter().rev().nth(1);
    // The last version stays open until something shows that nothing more belongs to it.
    let is_checkpointed = match (checkpoint, expected) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(checkpoint), Some(expected)) => checkpoint.rv >= ResourceVersion::from(expected),
    };
    let name = &ledger.cluster;
    (!is_checkpointed)
        .then(|| format!("the checkpoint of {name} {resource} is {checkpoint:?}, not {expected:?}"))
}

/// Whether a cluster is what the operator has made of it.
fn is_as_wanted(stage: &Stage, spec: &ClusterSpec) -> bool {
    let wanted = stage.operator.wanted(&spec.name);
    let resources = spec.resources.iter();
    let resources: Vec<String> = resources.map(|it| it.resource.to_string()).collect();
    let yaml = match &spec.source {
        Source::KubeconfigInline { yaml, .. } => yaml.as_str(),
        _ => "",
    };
    let tier = spec.labels.get("tier").map(String::as_str);
    tier == Some(wanted.tier)
        && spec.paused == wanted.paused
        && yaml == wanted.yaml
        && resources == wanted.resources
}

fn of_a_subscriber(stage: &Stage, subscriber: &Subscriber, known: &[Known<'_>]) -> Option<String> {
    known.iter().find_map(|(server, ledger)| {
        let server: &ApiServer = server;
        let wanted = stage.operator.wanted(&server.cluster);
        let objects = wanted.resources.into_iter().map(|resource| Objects {
            server,
            ledger,
            place: (server.cluster.clone(), resource),
            tier: wanted.tier,
        });
        let mut missing = objects.filter_map(|objects| objects.missing_at(subscriber));
        missing.next()
    })
}

/// The objects of one resource of one cluster.
struct Objects<'a> {
    server: &'a ApiServer,
    ledger: &'a Ledger,
    place: Place,
    tier: &'a str,
}

/// The name of an object, and its version.
type Existing = (String, u64);

impl Objects<'_> {
    /// What a subscriber lacks of them.
    fn missing_at(&self, subscriber: &Subscriber) -> Option<String> {
        let (who, record) = (&subscriber.name, subscriber.record());
        let (scope, place) = (subscriber.wish.scope, &self.place);
        if scope.is_whole() && scope.has_cluster(self.tier) {
            let last = past::versions(self.ledger, &place.1)
                .into_iter()
                .next_back();
            let last = last.map(ResourceVersion::from);
            let reached = record.reached.get(place);
            if let Some(last) = last
                && reached.is_none_or(|reached| *reached < last)
            {
                return Some(format!("{who} has {place:?} up to {reached:?}, not {last}"));
            }
        }
        let copied = copied(&record.table, place);
        let existing = self.wanted_by(subscriber);
        let is_complete = match subscriber.wish.begin {
            Begin::Snapshot => copied == existing,
            // A log has only what has changed.
            _ => copied.is_subset(&existing),
        };
        (!is_complete).then(|| format!("{who} has {copied:?}, and there is {existing:?}"))
    }

    /// Those that a copy of this subscriber has.
    fn wanted_by(&self, subscriber: &Subscriber) -> BTreeSet<Existing> {
        let scope = subscriber.wish.scope;
        let existing = past::existing(self.ledger, &self.place.1).into_iter();
        let wanted = existing.filter(|(name, rv)| {
            let part = self.server.part_of(name, *rv);
            scope.has(self.tier, part)
        });
        wanted.collect()
    }
}

/// What a subscriber has of a resource.
fn copied(table: &Table, place: &Place) -> BTreeSet<Existing> {
    let streams = table.streams().values();
    let of_it = streams.filter(|copy| {
        let description = copy.description();
        description.cluster == place.0 && description.resource == place.1
    });
    let objects = of_it.flat_map(|copy| copy.objects().iter());
    objects
        .map(|(Key { name, .. }, object)| {
            let version: ResourceVersion = object.resource_version.parse().unwrap();
            (name.clone(), version.as_u64().unwrap_or(u64::MAX))
        })
        .collect()
}
