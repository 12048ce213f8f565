use std::collections::BTreeMap;

use super::{Applied, State};
use crate::domain::{
    assignment::{MoveReason, Phase},
    cluster::{ClusterSpec, Condition, ResourceSelector, Source},
    command::{BeginEra, CheckpointEntry, Command, Move, Outcome, Rejection},
    frame::GapReason,
    id::{
        ClusterId, Epoch, Era, GroupId, Incarnation, ReplicaId, Revision, ShardId, StreamId,
        UnixMillis,
    },
    position::{Ordinal, Position, ResourceVersion},
    stream::ResumePoint,
};

pub(super) const AT: UnixMillis = UnixMillis(1000);

fn apply(state: &mut State, command: &Command) -> Applied {
    let revision = Revision(state.revision.0 + 1);
    let applied = state.apply(revision, command);
    state.check_invariants().unwrap();
    applied
}

fn outcome(state: &mut State, command: &Command) -> Outcome {
    apply(state, command).outcome
}

pub(super) fn register(replica: u64, name: &str) -> Command {
    Command::RegisterMember {
        replica: ReplicaId(replica),
        name: name.into(),
        peer_address: format!("{name}:7001"),
        client_address: format!("{name}:7000"),
        at: AT,
    }
}

pub(super) fn spec(name: &str, resources: &[&str]) -> ClusterSpec {
    let selector = |text: &&str| ResourceSelector::all(text.parse().unwrap());
    ClusterSpec {
        name: name.into(),
        labels: BTreeMap::new(),
        source: Source::InCluster,
        selectors: resources.iter().map(selector).collect(),
        paused: false,
    }
}

pub(super) fn create(spec: ClusterSpec) -> Command {
    Command::CreateCluster { spec, at: AT }
}

fn update(id: ClusterId, spec: ClusterSpec) -> Command {
    Command::UpdateCluster {
        id,
        expected: None,
        spec,
        at: AT,
    }
}

fn assign(state: &State, shard: ShardId, to: Option<u64>) -> Command {
    let step = Move {
        shard,
        epoch: state.assignments[&shard].epoch(),
        to: to.map(ReplicaId),
        reason: MoveReason::Placed,
    };
    Command::Assign {
        moves: vec![step],
        at: AT,
    }
}

pub(super) fn begin_era(stream: StreamId, epoch: Epoch, to: u64, repaired: bool) -> Command {
    Command::BeginEra(BeginEra {
        stream,
        epoch,
        reason: if repaired {
            GapReason::WatchCacheReset
        } else {
            GapReason::HistoryExpired
        },
        to: ResourceVersion::from(to),
        repaired,
        cluster_uid: "uid".into(),
        at: AT,
    })
}

fn advance(stream: StreamId, epoch: Epoch, position: Position) -> Command {
    let entry = CheckpointEntry {
        stream,
        epoch,
        position,
    };
    Command::AdvanceCheckpoints {
        entries: vec![entry],
    }
}

fn closed(era: Era, rv: u64) -> Position {
    Position::closed(era, ResourceVersion::from(rv))
}

/// One replica that owns one cluster with one stream.
fn owned() -> (State, ClusterId, ShardId, StreamId, Epoch) {
    let mut state = State::default();
    apply(&mut state, &register(1, "a"));
    let created = outcome(&mut state, &create(spec("c", &["v1/events"])));
    let Outcome::Cluster(cluster) = created else {
        panic!("{created:?}");
    };
    let shard = ShardId { cluster, slice: 0 };
    let command = assign(&state, shard, Some(1));
    apply(&mut state, &command);
    let stream = state.streams_of(shard).next().unwrap().id;
    let epoch = state.assignments[&shard].epoch();
    (state, cluster, shard, stream, epoch)
}

fn era_of(state: &State, stream: StreamId) -> Era {
    state.streams[&stream].era.as_ref().unwrap().era
}

#[test]
fn the_first_founder_names_the_group() {
    let mut state = State::default();
    for group in [GroupId([1; 16]), GroupId([2; 16])] {
        apply(&mut state, &Command::FoundGroup { group });
    }
    assert_eq!(state.group, Some(GroupId([1; 16])));
}

#[test]
fn a_restart_gives_a_member_a_greater_incarnation() {
    let mut state = State::default();
    apply(&mut state, &register(1, "a"));
    apply(&mut state, &register(1, "a"));
    let member = state.member_named("a").unwrap();
    assert_eq!(member.incarnation, Incarnation(2));
}

#[test]
fn a_name_belongs_to_one_replica_until_that_one_is_removed() {
    let mut state = State::default();
    apply(&mut state, &register(1, "a"));
    let taken = Rejection::MemberNameTaken("a".into(), ReplicaId(1));
    assert_eq!(
        outcome(&mut state, &register(2, "a")),
        Outcome::Rejected(taken)
    );
    let replica = ReplicaId(1);
    apply(&mut state, &Command::RemoveMember { replica });
    assert_eq!(outcome(&mut state, &register(2, "a")), Outcome::Done);
}

#[test]
fn a_new_cluster_has_an_unassigned_shard_with_its_streams() {
    let mut state = State::default();
    let applied = apply(&mut state, &create(spec("c", &["v1/events", "v1/pods"])));
    let [change] = applied.changes.as_slice() else {
        panic!("{:?}", applied.changes);
    };
    assert_eq!((change.epoch, change.new_owner), (Epoch(0), None));
    assert_eq!(change.reason, MoveReason::Created);
    assert_eq!(change.cluster, "c");
    assert_eq!(state.shard_name(change.shard), "c/0");
    assert_eq!(state.streams_of(change.shard).count(), 2);
    assert_eq!(state.assignments[&change.shard].phase(), Phase::Unassigned);
}

#[test]
fn a_cluster_that_is_created_anew_is_another_cluster() {
    let (mut state, id, ..) = owned();
    let old_streams: Vec<_> = state.streams.keys().copied().collect();
    let delete = Command::DeleteCluster {
        id,
        expected: None,
        at: AT,
    };
    let deleted = apply(&mut state, &delete);
    assert_eq!(deleted.changes[0].reason, MoveReason::Deleted);
    assert_eq!(deleted.changes[0].cluster, "c");
    assert!(state.assignments.is_empty() && state.streams.is_empty());
    apply(&mut state, &create(spec("c", &["v1/events"])));
    assert_ne!(state.cluster_named("c").unwrap().id, id);
    assert!(old_streams.iter().all(|id| !state.streams.contains_key(id)));
}

#[test]
fn refusals_name_the_reason_and_change_nothing() {
    let (mut state, id, ..) = owned();
    let stale = Some(Revision(0));
    let at = AT;
    let revision = state.clusters[&id].revision;
    let absent = ClusterId(999);
    let some_spec = || spec("c", &["v1/pods"]);
    let refused = [
        (create(some_spec()), Rejection::NameTaken("c".into())),
        (update(id, spec("other", &["v1/pods"])), Rejection::Renamed),
        (update(absent, some_spec()), Rejection::NoSuchCluster),
        (
            Command::UpdateCluster {
                id,
                expected: stale,
                spec: some_spec(),
                at,
            },
            Rejection::RevisionMismatch(revision),
        ),
        (
            Command::DeleteCluster {
                id,
                expected: stale,
                at,
            },
            Rejection::RevisionMismatch(revision),
        ),
        (
            begin_era(StreamId(999), Epoch(1), 5, false),
            Rejection::NoSuchStream,
        ),
    ];
    for (command, rejection) in refused {
        let mut expected = state.clone();
        assert_eq!(
            outcome(&mut state, &command),
            Outcome::Rejected(rejection),
            "{command:?}"
        );
        expected.revision = state.revision;
        assert_eq!(state, expected, "{command:?}");
    }
}

#[test]
fn streams_that_stay_in_a_specification_keep_their_history() {
    let (mut state, id, shard, stream, epoch) = owned();
    apply(&mut state, &begin_era(stream, epoch, 10, false));
    let before = state.streams[&stream].clone();
    apply(
        &mut state,
        &update(id, spec("c", &["v1/pods", "v1/events"])),
    );
    assert_eq!(state.streams[&stream], before);
    assert_eq!(state.streams_of(shard).count(), 2);
    apply(&mut state, &update(id, spec("c", &["v1/pods"])));
    assert!(!state.streams.contains_key(&stream));
}

#[test]
fn a_paused_cluster_has_no_owner_and_keeps_its_checkpoints() {
    let (mut state, id, shard, stream, epoch) = owned();
    apply(&mut state, &begin_era(stream, epoch, 10, false));
    let mut paused = spec("c", &["v1/events"]);
    paused.paused = true;
    let applied = apply(&mut state, &update(id, paused.clone()));
    assert_eq!(applied.changes[0].reason, MoveReason::Paused);
    assert_eq!(applied.changes[0].old_owner, Some(ReplicaId(1)));
    assert_eq!(state.assignments[&shard].owner(), None);
    assert!(!state.is_ownable(shard));
    assert!(state.streams[&stream].checkpoint.is_some());

    let command = assign(&state, shard, Some(1));
    assert_eq!(apply(&mut state, &command).changes, []);

    paused.labels.insert("team".into(), "a".into());
    let again = apply(&mut state, &update(id, paused));
    assert_eq!(again.changes, [], "it was paused already");
}

#[test]
fn a_move_is_left_out_when_it_is_stale_or_goes_to_a_stranger() {
    let (mut state, _, shard, _, epoch) = owned();
    let step = |epoch, to| Command::Assign {
        moves: vec![Move {
            shard,
            epoch,
            to,
            reason: MoveReason::Takeover,
        }],
        at: AT,
    };
    for command in [
        step(Epoch(0), None),
        step(Epoch(epoch.0 + 1), None),
        step(epoch, Some(ReplicaId(9))),
    ] {
        assert_eq!(apply(&mut state, &command).changes, [], "{command:?}");
    }
    let applied = apply(&mut state, &step(epoch, None));
    assert_eq!(applied.changes[0].epoch, Epoch(epoch.0 + 1));
}

#[test]
fn an_era_without_repair_begins_at_its_list() {
    let (mut state, _, _, stream, epoch) = owned();
    assert_eq!(state.streams[&stream].resume_point(), ResumePoint::Fresh);
    apply(&mut state, &begin_era(stream, epoch, 10, false));
    let era = era_of(&state, stream);
    assert_eq!(
        state.streams[&stream].resume_point(),
        ResumePoint::At(closed(era, 10))
    );
    assert_eq!(
        state.clusters.values().next().unwrap().uid.as_deref(),
        Some("uid")
    );
}

#[test]
fn a_repair_is_resumed_until_all_of_it_is_published() {
    let (mut state, _, _, stream, epoch) = owned();
    apply(&mut state, &begin_era(stream, epoch, 10, false));
    let first = era_of(&state, stream);
    apply(&mut state, &begin_era(stream, epoch, 20, true));
    let second = era_of(&state, stream);
    let repair = ResumePoint::Repair {
        era: second,
        from: ResourceVersion::from(10),
        to: ResourceVersion::from(20),
    };
    assert_eq!(state.streams[&stream].resume_point(), repair);

    // Neither the era before nor half a repair is progress.
    for position in [closed(first, 15), closed(second, 19)] {
        apply(&mut state, &advance(stream, epoch, position));
        assert_eq!(state.streams[&stream].resume_point(), repair);
    }
    apply(&mut state, &advance(stream, epoch, closed(second, 20)));
    assert_eq!(
        state.streams[&stream].resume_point(),
        ResumePoint::At(closed(second, 20))
    );
}

#[test]
fn without_a_checkpoint_there_is_nothing_to_repair() {
    let (mut state, _, _, stream, epoch) = owned();
    apply(&mut state, &begin_era(stream, epoch, 10, true));
    let start = state.streams[&stream].era.clone().unwrap();
    assert!(!start.repaired);
    assert_eq!(
        state.streams[&stream].resume_point(),
        ResumePoint::At(closed(start.era, 10))
    );
}

#[test]
fn checkpoints_are_closed_of_the_current_epoch_and_only_move_forward() {
    let (mut state, _, _, stream, epoch) = owned();
    apply(&mut state, &begin_era(stream, epoch, 10, false));
    let era = era_of(&state, stream);
    apply(&mut state, &advance(stream, epoch, closed(era, 20)));
    let kept = Some(closed(era, 20));
    let open = Position::at(era, ResourceVersion::from(30), Ordinal::FIRST);
    for (epoch, position) in [
        (epoch, closed(era, 19)),
        (epoch, open),
        (epoch, closed(Era(era.0 + 1), 30)),
        (Epoch(epoch.0 - 1), closed(era, 30)),
        (Epoch(epoch.0 + 1), closed(era, 30)),
    ] {
        apply(&mut state, &advance(stream, epoch, position));
        assert_eq!(state.streams[&stream].checkpoint, kept);
    }
}

#[test]
fn a_stale_owner_is_told_the_epoch() {
    let (mut state, _, shard, stream, epoch) = owned();
    let command = assign(&state, shard, None);
    apply(&mut state, &command);
    let stale = Outcome::Rejected(Rejection::StaleEpoch(Epoch(epoch.0 + 1)));
    let report = Command::ReportHealth {
        shard,
        epoch,
        condition: Condition::Connected,
        reason: String::new(),
        at: AT,
    };
    assert_eq!(outcome(&mut state, &report), stale);
    assert_eq!(
        outcome(&mut state, &begin_era(stream, epoch, 10, false)),
        stale
    );
}
