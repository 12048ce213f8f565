use super::{
    AT, Owned, apply, assign, begin_era, create, delete, outcome, own, owned, register, rejection,
    spec, update,
};
use crate::domain::{
    assignment::{MoveReason, Phase},
    cluster::{ClusterSpec, Condition, Source},
    command::{Command, Outcome, Rejection},
    id::{ClusterId, Epoch, Revision, ShardId, StreamId, UnixMillis},
    state::State,
};

#[test]
fn a_new_cluster_has_an_unassigned_shard_with_its_streams() {
    let mut state = State::default();
    let created = outcome(&mut state, &create(spec("c", &["v1/events", "v1/pods"])));
    let Outcome::Cluster(cluster) = created else {
        panic!("{created:?}");
    };
    let shard = ShardId { cluster, slice: 0 };
    assert_eq!(state.shard_name(shard), "c/0");
    assert_eq!(state.streams_of(shard).count(), 2);
    assert_eq!(state.assignments[&shard].epoch(), Epoch(0));
    assert_eq!(state.assignments[&shard].phase(), Phase::Unassigned);
}

#[test]
fn a_cluster_that_is_created_again_is_another_cluster() {
    let (mut state, Owned { id, .. }) = owned();
    let old_streams: Vec<_> = state.streams.keys().copied().collect();
    apply(&mut state, &delete(id));
    assert!(state.assignments.is_empty() && state.streams.is_empty());
    apply(&mut state, &create(spec("c", &["v1/events"])));
    assert_ne!(state.cluster_named("c").unwrap().id, id);
    assert!(old_streams.iter().all(|id| !state.streams.contains_key(id)));
}

#[test]
fn what_is_written_reads_back() {
    let mut state = State::default();
    let mut written = spec("c", &["v1/pods", "v1/secrets"]);
    written.resources[0].namespaces = vec!["shop".into(), "pay".into()];
    written.description = "a description".into();
    let cluster = own_after_registering(&mut state, written.clone());
    assert_eq!(*state.clusters[&cluster].spec, written);
    let streams: Vec<_> = state.streams.values().map(|s| s.selector.clone()).collect();
    assert_eq!(streams, written.stream_selectors());
    assert_eq!(streams.len(), 3);
}

fn own_after_registering(state: &mut State, spec: ClusterSpec) -> ClusterId {
    apply(state, &register(1, "a"));
    own(state, spec).id
}

#[test]
fn refusals_name_the_reason_and_change_nothing() {
    let (mut state, Owned { id, .. }) = owned();
    let revision = state.clusters[&id].revision;
    let some_spec = || spec("c", &["v1/pods"]);
    let stale = |command| match command {
        Command::UpdateCluster { id, spec, .. } => Command::UpdateCluster {
            id,
            expected: Some(Revision(0)),
            spec,
            request_id: None,
            at: AT,
        },
        _ => Command::DeleteCluster {
            id,
            expected: Some(Revision(0)),
            request_id: None,
            at: AT,
        },
    };
    let unknown = super::begin(&state, StreamId(999), Epoch(1), 5, false);
    let invalid = some_spec_with_label("a b");
    let fault = Rejection::InvalidSpec(invalid.validate().unwrap_err());
    let refused = [
        (create(some_spec()), Rejection::NameTaken("c".into())),
        (create(invalid.clone()), fault.clone()),
        (update(id, invalid), fault),
        (update(id, spec("other", &["v1/pods"])), Rejection::Renamed),
        (
            update(ClusterId(999), some_spec()),
            Rejection::NoSuchCluster,
        ),
        (delete(ClusterId(999)), Rejection::NoSuchCluster),
        (
            stale(update(id, some_spec())),
            Rejection::RevisionMismatch(revision),
        ),
        (stale(delete(id)), Rejection::RevisionMismatch(revision)),
        (Command::BeginEra(unknown), Rejection::NoSuchStream),
    ];
    for (command, expected) in refused {
        let mut before = state.clone();
        let applied = apply(&mut state, &command);
        assert_eq!(applied.outcome, Outcome::Rejected(expected), "{command:?}");
        assert!(applied.changes.is_empty(), "{command:?}");
        before.revision = state.revision;
        assert_eq!(state, before, "{command:?}");
    }
}

fn some_spec_with_label(key: &str) -> ClusterSpec {
    let mut spec = spec("c", &["v1/pods"]);
    spec.labels.insert(key.into(), String::new());
    spec
}

#[test]
fn streams_that_stay_in_a_specification_keep_their_history() {
    let (mut state, of) = owned();
    begin_era(&mut state, of.stream, of.epoch, 10, false);
    let before = state.streams[&of.stream].clone();
    let mut wider = spec("c", &["v1/pods", "v1/events"]);
    wider.resources[0].namespaces = vec!["shop".into(), "pay".into()];
    apply(&mut state, &update(of.id, wider));
    assert_eq!(state.streams[&of.stream], before);
    assert_eq!(state.streams_of(of.shard).count(), 3);
    apply(&mut state, &update(of.id, spec("c", &["v1/pods"])));
    assert!(!state.streams.contains_key(&of.stream));
}

#[test]
fn a_paused_cluster_has_no_owner_and_keeps_its_checkpoints() {
    let (mut state, of) = owned();
    begin_era(&mut state, of.stream, of.epoch, 10, false);
    let mut paused = spec("c", &["v1/events"]);
    paused.paused = true;
    apply(&mut state, &update(of.id, paused.clone()));
    assert_eq!(state.assignments[&of.shard].owner(), None);
    assert_eq!(state.assignments[&of.shard].reason(), MoveReason::Paused);
    assert!(!state.is_ownable(of.shard));
    assert!(state.streams[&of.stream].checkpoint.is_some());

    let before = state.assignments[&of.shard].clone();
    let command = assign(&state, of.shard, Some(1));
    apply(&mut state, &command);
    paused.labels.insert("team".into(), "a".into());
    apply(&mut state, &update(of.id, paused));
    assert_eq!(state.assignments[&of.shard], before);
}

#[test]
fn an_update_is_dated_and_an_owner_s_report_is_none() {
    let (mut state, of) = owned();
    let later = Command::UpdateCluster {
        id: of.id,
        expected: None,
        spec: some_spec_with_label("team"),
        request_id: None,
        at: UnixMillis(2000),
    };
    apply(&mut state, &later);
    let cluster = state.clusters[&of.id].clone();
    assert_eq!((cluster.created, cluster.updated), (AT, UnixMillis(2000)));
    assert_eq!(cluster.revision, state.revision);
    let stream = state.streams_of(of.shard).next().unwrap().id;
    begin_era(&mut state, stream, of.epoch, 10, false);
    assert_eq!(state.clusters[&of.id].updated, cluster.updated);
    assert_eq!(state.clusters[&of.id].revision, cluster.revision);
}

#[test]
fn only_another_source_or_other_streams_change_the_watches() {
    let (mut state, of) = owned();
    let watches = |state: &State| state.clusters[&of.id].watch_revision;
    let begun = watches(&state);
    let mut same = spec("c", &["v1/events"]);
    same.labels.insert("team".into(), "a".into());
    same.description = "a description".into();
    same.duplicate_of = "other".into();
    apply(&mut state, &update(of.id, same.clone()));
    assert_eq!(watches(&state), begun);
    // Written in another way, these are the same streams.
    same.resources.clear();
    apply(&mut state, &update(of.id, same.clone()));
    assert_eq!(watches(&state), begun);
    same.source = Source::Configured { name: "eu".into() };
    apply(&mut state, &update(of.id, same.clone()));
    assert_eq!(watches(&state), state.revision);
    same.resources = spec("c", &["v1/pods"]).resources;
    apply(&mut state, &update(of.id, same));
    assert_eq!(watches(&state), state.revision);
    assert_eq!(state.run_revision(of.shard), Some(state.revision));
}

#[test]
fn a_stale_owner_gets_the_epoch() {
    let (mut state, of) = owned();
    let command = assign(&state, of.shard, None);
    apply(&mut state, &command);
    let stale = Rejection::StaleEpoch(Epoch(of.epoch.0 + 1));
    let report = super::report(of.shard, of.epoch, Condition::Connected);
    assert_eq!(rejection(&mut state, &report), stale);
    let begin = super::begin(&state, of.stream, of.epoch, 10, false);
    assert_eq!(rejection(&mut state, &Command::BeginEra(begin)), stale);
}

#[test]
fn an_outage_is_confirmed_unless_the_owner_has_reported_something_else_meanwhile() {
    let (mut state, owned) = owned();
    let mut reported = |condition, reason: &str| {
        let report = Command::ReportHealth {
            shard: owned.shard,
            epoch: owned.epoch,
            condition,
            reason: reason.into(),
            at: AT,
        };
        apply(&mut state, &report);
        let confirm = Command::ConfirmOutage {
            shard: owned.shard,
            epoch: owned.epoch,
            reason: "timeout".into(),
        };
        for _ in 0..2 {
            apply(&mut state, &confirm);
        }
        state.clusters[&owned.id].health.reason.clone()
    };
    let confirmed = "timeout; no other replica can watch it either";
    assert_eq!(reported(Condition::Unreachable, "timeout"), confirmed);
    assert_eq!(reported(Condition::Unreachable, "refused"), "refused");
    assert_eq!(reported(Condition::Connected, "timeout"), "timeout");
}
