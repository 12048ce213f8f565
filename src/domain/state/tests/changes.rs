use super::{
    Owned, advance, apply, assign, begin, begin_era, closed, create, delete, own, owned, register,
    report, spec, update,
};
use crate::domain::{
    assignment::MoveReason,
    change::{Changes, ClusterChangeKind, ShardChange, ShardChangeKind},
    cluster::Condition,
    command::Command,
    id::{Epoch, ReplicaId, Revision},
    state::State,
};

fn kinds(changes: &Changes) -> (Vec<ShardChangeKind>, Vec<ClusterChangeKind>) {
    (
        changes.shards.iter().map(|change| change.kind).collect(),
        changes.clusters.iter().map(|change| change.kind).collect(),
    )
}

fn resources(change: &ShardChange) -> Vec<String> {
    let streams = change.streams.iter();
    streams.map(|s| s.selector.resource.to_string()).collect()
}

#[test]
fn a_creation_is_of_the_shard_and_of_the_cluster() {
    let mut state = State::default();
    let applied = apply(&mut state, &create(spec("c", &["v1/events", "v1/pods"])));
    let changes = applied.changes;
    let created = (
        vec![ShardChangeKind::Created],
        vec![ClusterChangeKind::Created],
    );
    assert_eq!(kinds(&changes), created);
    let [shard] = changes.shards.try_into().unwrap();
    assert_eq!(shard.revision, state.revision);
    assert_eq!(shard.cluster, "c");
    assert_eq!(shard.assignment, state.assignments[&shard.shard]);
    assert_eq!(resources(&shard), ["v1/events", "v1/pods"]);
    let [cluster] = changes.clusters.try_into().unwrap();
    assert_eq!(cluster.cluster, state.clusters[&shard.shard.cluster]);
}

#[test]
fn a_move_names_the_owner_before_and_the_assignment_after() {
    let (mut state, Owned { shard, epoch, .. }) = owned();
    apply(&mut state, &register(2, "b"));
    let command = assign(&state, shard, Some(2));
    let changes = apply(&mut state, &command).changes;
    assert_eq!(kinds(&changes), (vec![ShardChangeKind::Moved], vec![]));
    let [moved] = changes.shards.try_into().unwrap();
    assert_eq!(moved.old_owner, Some(ReplicaId(1)));
    assert_eq!(moved.assignment.owner(), Some(ReplicaId(2)));
    assert_eq!(moved.assignment.epoch(), Epoch(epoch.0 + 1));
    assert_eq!(resources(&moved), ["v1/events"]);
}

#[test]
fn each_shard_of_many_moves_with_its_own_streams() {
    let (mut state, first) = owned();
    let second = own(&mut state, spec("d", &["v1/pods"]));
    let Command::Assign { mut moves, at } = assign(&state, first.shard, None) else {
        panic!("no moves");
    };
    let Command::Assign { moves: others, .. } = assign(&state, second.shard, None) else {
        panic!("no moves");
    };
    moves.extend(others);
    let changes = apply(&mut state, &Command::Assign { moves, at }).changes;
    let moved: Vec<_> = changes.shards.iter().map(resources).collect();
    assert_eq!(moved, [["v1/events"], ["v1/pods"]]);
}

#[test]
fn an_update_is_of_the_shard_only_where_its_streams_change() {
    let (mut state, of) = owned();
    let updated = vec![ClusterChangeKind::Updated];
    let mut labelled = spec("c", &["v1/events"]);
    labelled.labels.insert("team".into(), "a".into());
    let changes = apply(&mut state, &update(of.id, labelled.clone())).changes;
    assert_eq!(kinds(&changes), (vec![], updated.clone()));
    assert_eq!(changes.clusters[0].cluster, state.clusters[&of.id]);

    labelled.resources = spec("c", &["v1/pods"]).resources;
    let changes = apply(&mut state, &update(of.id, labelled.clone())).changes;
    assert_eq!(
        kinds(&changes),
        (vec![ShardChangeKind::Updated], updated.clone())
    );
    assert_eq!(resources(&changes.shards[0]), ["v1/pods"]);
    assert_eq!(changes.shards[0].old_owner, Some(ReplicaId(1)));

    labelled.resources = spec("c", &["v1/events"]).resources;
    labelled.paused = true;
    let changes = apply(&mut state, &update(of.id, labelled.clone())).changes;
    let both = vec![ShardChangeKind::Updated, ShardChangeKind::Moved];
    assert_eq!(kinds(&changes), (both, updated.clone()));
    assert_eq!(changes.shards[1].assignment.reason(), MoveReason::Paused);
    assert_eq!(changes.shards[1].assignment.owner(), None);

    labelled.paused = false;
    let changes = apply(&mut state, &update(of.id, labelled)).changes;
    assert_eq!(kinds(&changes), (vec![], updated));
}

#[test]
fn a_deletion_shows_what_there_was() {
    let (mut state, of) = owned();
    let last = state.clusters[&of.id].clone();
    let changes = apply(&mut state, &delete(of.id)).changes;
    let deleted = (
        vec![ShardChangeKind::Deleted],
        vec![ClusterChangeKind::Deleted],
    );
    assert_eq!(kinds(&changes), deleted);
    let [shard] = changes.shards.try_into().unwrap();
    assert_eq!(shard.cluster, "c");
    assert_eq!(shard.old_owner, Some(ReplicaId(1)));
    assert_eq!(shard.assignment.owner(), None);
    assert_eq!(shard.assignment.reason(), MoveReason::Deleted);
    assert_eq!(shard.assignment.epoch(), Epoch(of.epoch.0 + 1));
    assert_eq!(resources(&shard), ["v1/events"]);
    assert_eq!(changes.clusters[0].cluster, last);
}

#[test]
fn what_an_owner_reports_is_a_change_only_where_it_is_new() {
    let (mut state, of) = owned();
    let updated = (vec![], vec![ClusterChangeKind::Updated]);
    let connected = report(of.shard, of.epoch, Condition::Connected);
    let changes = apply(&mut state, &connected).changes;
    assert_eq!(kinds(&changes), updated);
    let health = state.clusters[&of.id].health.clone();
    assert_eq!(changes.clusters[0].cluster.health, health);
    assert!(apply(&mut state, &connected).changes.is_empty());
    assert_eq!(state.clusters[&of.id].health, health);

    let identified = begin(&state, of.stream, of.epoch, 10, false);
    let changes = apply(&mut state, &Command::BeginEra(identified)).changes;
    assert_eq!(kinds(&changes), updated);
    let again = begin(&state, of.stream, of.epoch, 20, false);
    assert!(
        apply(&mut state, &Command::BeginEra(again))
            .changes
            .is_empty()
    );
}

#[test]
fn a_checkpoint_is_no_change() {
    let (mut state, of) = owned();
    let era = begin_era(&mut state, of.stream, of.epoch, 10, false);
    let command = advance(of.stream, of.epoch, closed(era, 20));
    assert!(apply(&mut state, &command).changes.is_empty());
    assert!(state.streams[&of.stream].checkpoint == Some(closed(era, 20)));
}

#[test]
fn the_topology_moves_with_clusters_streams_and_eras_and_with_nothing_else() {
    let mut state = State::default();
    apply(&mut state, &register(1, "a"));
    assert_eq!(state.topology, Revision(0));
    let owned = own(&mut state, spec("c", &["v1/pods"]));
    let created = state.topology;
    assert!(created > Revision(0) && created < state.revision);
    let era = begin_era(&mut state, owned.stream, owned.epoch, 800, false);
    let began = state.topology;
    assert_eq!(began, state.revision);
    let position = closed(era, 900);
    apply(&mut state, &advance(owned.stream, owned.epoch, position));
    let condition = Condition::Degraded;
    apply(&mut state, &report(owned.shard, owned.epoch, condition));
    let to_none = assign(&state, owned.shard, None);
    apply(&mut state, &to_none);
    assert_eq!(state.topology, began, "owners, checkpoints, health");
    apply(
        &mut state,
        &update(owned.shard.cluster, spec("c", &["v1/secrets"])),
    );
    assert_eq!(state.topology, state.revision);
}
