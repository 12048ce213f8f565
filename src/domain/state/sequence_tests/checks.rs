//! What must hold between the state before a command and the one after it.

use proptest::{
    prelude::{prop_assert, prop_assert_eq},
    test_runner::TestCaseError,
};

use crate::domain::{
    assignment::Assignment,
    change::{ClusterChangeKind, ShardChangeKind},
    cluster::{Cluster, Health},
    command::{Command, Outcome, Rejection},
    id::{Epoch, Revision, ShardId, StreamId, UnixMillis},
    state::{Applied, State},
    stream::EraStart,
};

/// Everything that must hold after a command.
pub(super) fn check(
    before: &State,
    after: &State,
    command: &Command,
    applied: &Applied,
) -> Result<(), TestCaseError> {
    check_growth(before, after)?;
    if matches!(applied.outcome, Outcome::Rejected(_)) || is_stale(before, command) {
        check_unchanged(before, after)?;
        prop_assert!(applied.changes.is_empty());
    }
    check_shard_changes(before, after, applied)?;
    check_cluster_changes(before, after, applied)?;
    check_identities(before, after)?;
    prop_assert_eq!(applied.changes_topology, differs_in_topology(before, after));
    check_request(before, after, command, &applied.outcome)
}

fn check_unchanged(before: &State, after: &State) -> Result<(), TestCaseError> {
    let mut unchanged = before.clone();
    unchanged.revision = after.revision;
    prop_assert_eq!(&unchanged, after);
    Ok(())
}

/// What only grows.
fn check_growth(before: &State, after: &State) -> Result<(), TestCaseError> {
    prop_assert!(after.last_id >= before.last_id);
    for (shard, old) in &before.assignments {
        let Some(new) = after.assignments.get(shard) else {
            continue;
        };
        prop_assert!(new.epoch() >= old.epoch());
        let handed_over = new.owner() != old.owner();
        prop_assert!(!handed_over || new.epoch() > old.epoch());
        let drained = new.owner().is_some_and(|owner| after.is_drained(owner));
        prop_assert!(new == old || !drained, "a drained replica takes nothing");
        prop_assert!(new.epoch() > old.epoch() || new == old);
    }
    for (id, old) in &before.members {
        let Some(new) = after.members.get(id) else {
            continue;
        };
        prop_assert!(new.drained == old.drained || new.incarnation == old.incarnation);
    }
    for (id, old) in &before.streams {
        let Some(new) = after.streams.get(id) else {
            continue;
        };
        let era = |start: &EraStart| start.era;
        prop_assert!(new.era.as_ref().map(era) >= old.era.as_ref().map(era));
        prop_assert!(new.checkpoint >= old.checkpoint);
        prop_assert!(old.first.is_none() || new.first == old.first);
    }
    Ok(())
}

/// Whether the changes of shards are exactly the difference between two states.
fn check_shard_changes(
    before: &State,
    after: &State,
    applied: &Applied,
) -> Result<(), TestCaseError> {
    let streams = |state: &State, shard| -> Vec<StreamId> {
        state.streams_of(shard).map(|stream| stream.id).collect()
    };
    let changes = &applied.changes.shards;
    for change in changes {
        prop_assert_eq!(change.revision, after.revision);
        let shown: Vec<_> = change.streams.iter().map(|stream| stream.id).collect();
        let known = match change.kind {
            ShardChangeKind::Deleted => streams(before, change.shard),
            _ => streams(after, change.shard),
        };
        prop_assert_eq!(shown, known);
    }
    let shards = before.assignments.keys().chain(after.assignments.keys());
    for shard in shards {
        let (old, new) = (before.assignments.get(shard), after.assignments.get(shard));
        let of = |kind| {
            changes
                .iter()
                .filter(move |change| change.shard == *shard && change.kind == kind)
        };
        let has = |kind| of(kind).count() == 1;
        let there_twice = old.is_some() && new.is_some();
        prop_assert_eq!(has(ShardChangeKind::Created), old.is_none());
        prop_assert_eq!(has(ShardChangeKind::Deleted), new.is_none());
        let moves = there_twice && old != new;
        prop_assert_eq!(of(ShardChangeKind::Moved).count() > 0, moves);
        let refits = there_twice && streams(before, *shard) != streams(after, *shard);
        prop_assert_eq!(has(ShardChangeKind::Updated), refits);
        let last = changes.iter().rfind(|change| change.shard == *shard);
        if let (Some(last), Some(new)) = (last, new) {
            prop_assert_eq!(&last.assignment, new);
        }
    }
    Ok(())
}

/// Whether the changes of clusters are exactly the difference between two states.
fn check_cluster_changes(
    before: &State,
    after: &State,
    applied: &Applied,
) -> Result<(), TestCaseError> {
    let changes = &applied.changes.clusters;
    for id in before.clusters.keys().chain(after.clusters.keys()) {
        let (old, new) = (before.clusters.get(id), after.clusters.get(id));
        let mut of_cluster = changes.iter().filter(|change| change.cluster.id == *id);
        let change = of_cluster.next();
        prop_assert!(of_cluster.next().is_none());
        let expected = match (old, new) {
            (None, Some(new)) => Some((ClusterChangeKind::Created, new)),
            (Some(old), None) => Some((ClusterChangeKind::Deleted, old)),
            (Some(old), Some(new)) if is_changed(old, new) => {
                Some((ClusterChangeKind::Updated, new))
            }
            _ => None,
        };
        prop_assert_eq!(
            change.map(|change| (change.kind, &change.cluster)),
            expected
        );
    }
    Ok(())
}

/// Another owner that reports the same is no news.
fn is_changed(old: &Cluster, new: &Cluster) -> bool {
    let health_epoch = new.health_epoch;
    let old = Cluster {
        health_epoch,
        ..old.clone()
    };
    old != *new
}

/// Whether an identity was taken up only where no other cluster had it, or that was meant.
fn check_identities(before: &State, after: &State) -> Result<(), TestCaseError> {
    for (id, new) in &after.clusters {
        let old = before.clusters.get(id).and_then(|old| old.uid.clone());
        let Some(uid) = new.uid.as_ref().filter(|uid| old.as_ref() != Some(uid)) else {
            continue;
        };
        let others = || {
            let others = after.clusters.values();
            others.filter(|other| other.id != *id && other.uid.as_ref() == Some(uid))
        };
        let meant = others().any(|other| new.spec.duplicate_of == other.spec.name)
            || others().all(|other| other.spec.duplicate_of == new.spec.name);
        prop_assert!(meant, "{} takes up {uid}", new.spec.name);
    }
    Ok(())
}

/// Whether two states differ in more than revisions, checkpoints and health.
fn differs_in_topology(before: &State, after: &State) -> bool {
    let without_progress = |state: &State| {
        let mut state = state.clone();
        state.revision = Revision(0);
        for id in state.streams.keys().copied().collect::<Vec<_>>() {
            if let Some(stream) = state.streams.get_mut(&id) {
                stream.checkpoint = None;
            }
        }
        for id in state.clusters.keys().copied().collect::<Vec<_>>() {
            if let Some(cluster) = state.clusters.get_mut(&id) {
                cluster.health = Health::unknown(UnixMillis(0));
                cluster.health_epoch = Epoch(0);
            }
        }
        state
    };
    without_progress(before) != without_progress(after)
}

/// Whether a request with a known text had no effect but its answer.
fn check_request(
    before: &State,
    after: &State,
    command: &Command,
    outcome: &Outcome,
) -> Result<(), TestCaseError> {
    let Some(request_id) = command.request_id() else {
        return Ok(());
    };
    let mut requests = before.requests.iter();
    let known = requests.find(|known| known.request_id.text() == request_id.text());
    if let Some(known) = known {
        let expected = if known.request_id == *request_id {
            known.outcome.clone()
        } else {
            Outcome::Rejected(Rejection::RequestIdReused)
        };
        prop_assert_eq!(outcome, &expected);
        check_unchanged(before, after)?;
    } else if !matches!(outcome, Outcome::Rejected(_)) {
        prop_assert_eq!(after.requests.answer(request_id), Some(outcome.clone()));
    }
    Ok(())
}

/// Whether every part of a command comes from an owner of the past.
fn is_stale(state: &State, command: &Command) -> bool {
    let stale = |shard: ShardId, epoch| {
        let current = state.assignments.get(&shard).map(Assignment::epoch);
        current != Some(epoch)
    };
    let stale_stream = |stream: &StreamId, epoch| {
        let shard = state.streams.get(stream).map(|stream| stream.shard);
        shard.is_none_or(|shard| stale(shard, epoch))
    };
    match command {
        Command::Assign { moves, .. } => moves.iter().all(|step| stale(step.shard, step.epoch)),
        Command::BeginEra(begin) => stale_stream(&begin.stream, begin.epoch),
        Command::AdvanceCheckpoints { entries } => entries
            .iter()
            .all(|entry| stale_stream(&entry.stream, entry.epoch)),
        Command::ReportHealth { shard, epoch, .. }
        | Command::ConfirmOutage { shard, epoch, .. } => stale(*shard, *epoch),
        _ => false,
    }
}
