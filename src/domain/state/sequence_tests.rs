//! Random sequences of commands, and what must hold after each of them.

use std::collections::BTreeMap;

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
    sample::{Index, select},
    test_runner::TestCaseError,
};

use super::{
    Applied, State,
    tests::{AT, begin_era, create, register, spec},
};
use crate::domain::{
    assignment::{Assignment, MoveReason},
    cluster::{ClusterSpec, Condition},
    command::{CheckpointEntry, Command, Move, Outcome},
    id::{ClusterId, Epoch, Era, ReplicaId, Revision, ShardId, StreamId},
    position::{Ordinal, Position, ResourceVersion},
    stream::EraStart,
};

/// A command in the making: what it is about is chosen among what the state holds by then.
#[derive(Clone, Debug)]
enum Step {
    Register(u64, &'static str),
    Remove(u64),
    Create(ClusterSpec),
    Update(Index, ClusterSpec, bool),
    Delete(Index, bool),
    Assign(Vec<(Index, u64, Option<u64>)>),
    Begin(Index, u64, u64, bool),
    Advance(Vec<(Index, u64, u64, u64, bool)>),
    Report(Index, u64),
}

fn any_spec() -> impl Strategy<Value = ClusterSpec> {
    let resources = vec(
        select(vec!["v1/events", "v1/pods", "apps/v1/deployments"]),
        0..4,
    );
    let name = select(vec!["a", "b", "c", "-"]);
    (name, resources, any::<bool>()).prop_map(|(name, resources, paused)| {
        let mut spec = spec(name, &resources);
        spec.paused = paused;
        spec
    })
}

/// How far back an epoch or era is from the current one: mostly not at all.
fn age() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0u64), 1 => 0u64..3]
}

fn any_step() -> impl Strategy<Value = Step> {
    let replica = || 1u64..4;
    let index = any::<Index>;
    let moves = vec((index(), age(), option::of(replica())), 0..5);
    let entries = vec((index(), age(), age(), 0u64..60, any::<bool>()), 0..5);
    prop_oneof![
        2 => (replica(), select(vec!["x", "y", "z"])).prop_map(|(id, name)| Step::Register(id, name)),
        1 => replica().prop_map(Step::Remove),
        3 => any_spec().prop_map(Step::Create),
        2 => (index(), any_spec(), any::<bool>())
            .prop_map(|(at, spec, expect)| Step::Update(at, spec, expect)),
        1 => (index(), any::<bool>()).prop_map(|(at, expect)| Step::Delete(at, expect)),
        5 => moves.prop_map(Step::Assign),
        4 => (index(), age(), 0u64..60, any::<bool>())
            .prop_map(|(at, age, to, repaired)| Step::Begin(at, age, to, repaired)),
        5 => entries.prop_map(Step::Advance),
        1 => (index(), age()).prop_map(|(at, age)| Step::Report(at, age)),
    ]
}

/// The chosen key, or one that does not exist where there is none to choose.
fn choose<K: Copy, V>(map: &BTreeMap<K, V>, index: &Index, absent: K) -> K {
    let keys: Vec<_> = map.keys().copied().collect();
    if keys.is_empty() {
        absent
    } else {
        *index.get(&keys)
    }
}

fn choose_shard(state: &State, index: &Index) -> ShardId {
    let absent = ShardId {
        cluster: ClusterId(u64::MAX),
        slice: 0,
    };
    choose(&state.assignments, index, absent)
}

fn aged_epoch(state: &State, shard: ShardId, age: u64) -> Epoch {
    let current = state.assignments.get(&shard).map_or(0, |a| a.epoch().0);
    Epoch(current.saturating_sub(age))
}

fn choose_stream(state: &State, index: &Index, age: u64) -> (StreamId, Epoch) {
    let id = choose(&state.streams, index, StreamId(u64::MAX));
    let shard = state.streams.get(&id).map(|stream| stream.shard);
    (
        id,
        shard.map_or(Epoch(0), |shard| aged_epoch(state, shard, age)),
    )
}

fn command(state: &State, step: &Step) -> Command {
    let choose_cluster = |index| choose(&state.clusters, index, ClusterId(u64::MAX));
    let expect = |id: &ClusterId, expect: bool| {
        let revision = state.clusters.get(id).map(|cluster| cluster.revision);
        revision.filter(|_| expect)
    };
    match step {
        Step::Register(replica, name) => register(*replica, name),
        Step::Remove(replica) => Command::RemoveMember {
            replica: ReplicaId(*replica),
        },
        Step::Create(spec) => create(spec.clone()),
        Step::Update(index, spec, expected) => {
            let id = choose_cluster(index);
            let mut spec = spec.clone();
            if let Some(cluster) = state.clusters.get(&id)
                && *expected
            {
                spec.name.clone_from(&cluster.spec.name);
            }
            Command::UpdateCluster {
                id,
                expected: expect(&id, *expected),
                spec,
                at: AT,
            }
        }
        Step::Delete(index, expected) => {
            let id = choose_cluster(index);
            Command::DeleteCluster {
                id,
                expected: expect(&id, *expected),
                at: AT,
            }
        }
        Step::Assign(moves) => {
            let step = |(index, age, to): &(Index, u64, Option<u64>)| {
                let shard = choose_shard(state, index);
                Move {
                    shard,
                    epoch: aged_epoch(state, shard, *age),
                    to: to.map(ReplicaId),
                    reason: MoveReason::Placed,
                }
            };
            Command::Assign {
                moves: moves.iter().map(step).collect(),
                at: AT,
            }
        }
        Step::Begin(index, age, to, repaired) => {
            let (stream, epoch) = choose_stream(state, index, *age);
            begin_era(stream, epoch, *to, *repaired)
        }
        Step::Advance(entries) => Command::AdvanceCheckpoints {
            entries: entries.iter().map(|entry| progress(state, entry)).collect(),
        },
        Step::Report(index, age) => {
            let shard = choose_shard(state, index);
            Command::ReportHealth {
                shard,
                epoch: aged_epoch(state, shard, *age),
                condition: Condition::Connected,
                reason: String::new(),
                at: AT,
            }
        }
    }
}

fn progress(state: &State, entry: &(Index, u64, u64, u64, bool)) -> CheckpointEntry {
    let (index, epoch_age, era_age, rv, open) = entry;
    let (stream, epoch) = choose_stream(state, index, *epoch_age);
    let start = state.streams.get(&stream).and_then(|s| s.era.as_ref());
    let era = Era(start
        .map_or(0, |start| start.era.0)
        .saturating_sub(*era_age));
    let rv = ResourceVersion::from(*rv);
    let ordinal = if *open {
        Ordinal::FIRST
    } else {
        Ordinal::CLOSED
    };
    CheckpointEntry {
        stream,
        epoch,
        position: Position::at(era, rv, ordinal),
    }
}

/// What must hold between the state before a command and the one after it.
fn check_growth(before: &State, after: &State, applied: &Applied) -> Result<(), TestCaseError> {
    prop_assert!(after.last_id >= before.last_id);
    for (shard, old) in &before.assignments {
        let Some(new) = after.assignments.get(shard) else {
            continue;
        };
        prop_assert!(new.epoch() >= old.epoch());
        let handed_over = new.owner() != old.owner();
        prop_assert!(!handed_over || new.epoch() > old.epoch());
        prop_assert!(new.epoch() > old.epoch() || new == old);
    }
    for (id, old) in &before.streams {
        let Some(new) = after.streams.get(id) else {
            continue;
        };
        let era = |start: &EraStart| start.era;
        prop_assert!(new.era.as_ref().map(era) >= old.era.as_ref().map(era));
        prop_assert!(new.checkpoint >= old.checkpoint);
    }
    for change in &applied.changes {
        prop_assert_eq!(change.revision, after.revision);
        match after.assignments.get(&change.shard) {
            None => prop_assert_eq!(change.reason, MoveReason::Deleted),
            Some(now) => {
                prop_assert_eq!(change.epoch, now.epoch());
                prop_assert_eq!(change.new_owner, now.owner());
            }
        }
    }
    if matches!(applied.outcome, Outcome::Rejected(_)) {
        let mut unchanged = before.clone();
        unchanged.revision = after.revision;
        prop_assert_eq!(&unchanged, after);
        prop_assert_eq!(&applied.changes, &[]);
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
        Command::ReportHealth { shard, epoch, .. } => stale(*shard, *epoch),
        _ => false,
    }
}

proptest! {
    #[test]
    fn whatever_is_applied_the_state_holds_its_promises(steps in vec(any_step(), 1..60)) {
        let mut state = State::default();
        let mut twin = State::default();
        for step in &steps {
            let before = state.clone();
            let command = command(&state, step);
            let revision = Revision(before.revision.0 + 1);
            let applied = state.apply(revision, &command);
            prop_assert_eq!(state.check_invariants(), Ok(()), "after {:?}", command);
            check_growth(&before, &state, &applied)?;
            if is_stale(&before, &command) {
                let mut unchanged = before;
                unchanged.revision = revision;
                prop_assert_eq!(&unchanged, &state, "after {:?}", command);
            }
            prop_assert_eq!(twin.apply(revision, &command), applied);
        }
        prop_assert_eq!(state, twin);
    }
}
