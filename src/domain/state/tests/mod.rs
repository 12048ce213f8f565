mod changes;
mod clusters;
mod duplicates;
mod eras;
mod requests;

use super::{Applied, State};
pub(super) use crate::domain::fixtures::spec;
use crate::domain::{
    assignment::MoveReason,
    cluster::{ClusterSpec, Condition},
    command::{BeginEra, CheckpointEntry, Command, Move, Outcome, Rejection},
    event::GapReason,
    id::{
        ClusterId, Epoch, Era, GroupId, Incarnation, ReplicaId, Revision, ShardId, StreamId,
        UnixMillis,
    },
    position::{Position, ResourceVersion},
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

fn rejection(state: &mut State, command: &Command) -> Rejection {
    match outcome(state, command) {
        Outcome::Rejected(rejection) => rejection,
        other => panic!("{other:?}"),
    }
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

fn create(spec: ClusterSpec) -> Command {
    Command::CreateCluster {
        spec,
        request_id: None,
        at: AT,
    }
}

fn update(id: ClusterId, spec: ClusterSpec) -> Command {
    Command::UpdateCluster {
        id,
        expected: None,
        spec,
        request_id: None,
        at: AT,
    }
}

fn delete(id: ClusterId) -> Command {
    Command::DeleteCluster {
        id,
        expected: None,
        request_id: None,
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

/// What the current run of a stream's shard would propose.
pub(super) fn begin(
    state: &State,
    stream: StreamId,
    epoch: Epoch,
    to: u64,
    repaired: bool,
) -> BeginEra {
    let known = state.streams.get(&stream);
    BeginEra {
        stream,
        epoch,
        run: known
            .and_then(|known| state.run_revision(known.shard))
            .unwrap_or_default(),
        expected_era: known.and_then(|known| Some(known.era.as_ref()?.era)),
        from: known.and_then(|known| known.checkpoint.clone()),
        reason: if repaired {
            GapReason::WatchCacheReset
        } else {
            GapReason::HistoryExpired
        },
        to: ResourceVersion::from(to),
        repaired,
        cluster_uid: "uid".into(),
        at: AT,
    }
}

fn begin_era(state: &mut State, stream: StreamId, epoch: Epoch, to: u64, repaired: bool) -> Era {
    let command = Command::BeginEra(begin(state, stream, epoch, to, repaired));
    match outcome(state, &command) {
        Outcome::Era(era) => era,
        other => panic!("{other:?}"),
    }
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

pub(super) fn report(shard: ShardId, epoch: Epoch, condition: Condition) -> Command {
    Command::ReportHealth {
        shard,
        epoch,
        condition,
        reason: String::new(),
        at: AT,
    }
}

fn closed(era: Era, rv: u64) -> Position {
    Position::closed(era, ResourceVersion::from(rv))
}

/// A cluster with one stream, and its owner's epoch.
struct Owned {
    id: ClusterId,
    shard: ShardId,
    stream: StreamId,
    epoch: Epoch,
}

/// Creates a cluster, and gives it to replica 1.
fn own(state: &mut State, spec: ClusterSpec) -> Owned {
    let created = outcome(state, &create(spec));
    let Outcome::Cluster(id) = created else {
        panic!("{created:?}");
    };
    let shard = ShardId {
        cluster: id,
        slice: 0,
    };
    let command = assign(state, shard, Some(1));
    apply(state, &command);
    Owned {
        id,
        shard,
        stream: state.streams_of(shard).next().unwrap().id,
        epoch: state.assignments[&shard].epoch(),
    }
}

/// One replica that owns one cluster with one stream.
fn owned() -> (State, Owned) {
    let mut state = State::default();
    apply(&mut state, &register(1, "a"));
    let owned = own(&mut state, spec("c", &["v1/events"]));
    (state, owned)
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
    assert_eq!(rejection(&mut state, &register(2, "a")), taken);
    let replica = ReplicaId(1);
    apply(&mut state, &Command::RemoveMember { replica });
    assert_eq!(outcome(&mut state, &register(2, "a")), Outcome::Done);
}

#[test]
fn a_drained_replica_keeps_what_it_owns_and_is_given_nothing_until_it_is_resumed() {
    let (mut state, Owned { shard, .. }) = owned();
    let (replica, stranger) = (ReplicaId(1), ReplicaId(9));
    let unknown = Command::DrainMember { replica: stranger };
    assert_eq!(rejection(&mut state, &unknown), Rejection::NoSuchMember);
    let drained = apply(&mut state, &Command::DrainMember { replica });
    assert!(drained.changes_topology && drained.changes.is_empty());
    let again = apply(&mut state, &Command::DrainMember { replica });
    assert_eq!(
        (again.outcome, again.changes_topology),
        (Outcome::Done, false)
    );
    assert_eq!(state.assignments[&shard].owner(), Some(replica));
    let none = assign(&state, shard, None);
    apply(&mut state, &none);
    let back = assign(&state, shard, Some(1));
    assert!(apply(&mut state, &back).changes.is_empty());
    // It starts again, and is drained still.
    apply(&mut state, &register(1, "a"));
    assert!(state.is_drained(replica));
    apply(&mut state, &Command::ResumeMember { replica });
    apply(&mut state, &back);
    assert_eq!(state.assignments[&shard].owner(), Some(replica));
}

#[test]
fn a_move_is_left_out_when_it_is_stale_or_goes_to_a_stranger() {
    let (mut state, Owned { shard, epoch, .. }) = owned();
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
        assert!(
            apply(&mut state, &command).changes.is_empty(),
            "{command:?}"
        );
    }
    apply(&mut state, &step(epoch, None));
    assert_eq!(state.assignments[&shard].epoch(), Epoch(epoch.0 + 1));
}
