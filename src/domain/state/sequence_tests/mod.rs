//! Random sequences of commands, and what must hold after each of them.

mod checks;

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest},
    sample::{Index, select},
};

use super::{
    State,
    tests::{AT, begin, register, report, spec},
};
use crate::domain::{
    assignment::MoveReason,
    cluster::{ClusterSpec, Condition},
    command::{BeginEra, CheckpointEntry, Command, Move},
    id::{ClusterId, Epoch, Era, ReplicaId, Revision, ShardId, StreamId},
    position::{Ordinal, Position, ResourceVersion},
    request::RequestId,
    shared_map::SharedMap,
};

/// A command in the making: what it is about is chosen among what the state holds by then.
#[derive(Clone, Debug)]
enum Step {
    Register(u64, &'static str),
    Remove(u64),
    Drain(u64),
    Resume(u64),
    Create(ClusterSpec, Named),
    Update(Index, ClusterSpec, bool, Named),
    Delete(Index, bool, Named),
    Assign(Vec<(Index, u64, Option<u64>)>),
    Begin(Beginning),
    Advance(Vec<(Index, u64, u64, u64, bool)>),
    Report(Index, u64, Condition),
}

/// The text and the content of a request.
type Named = (&'static str, u8);

/// A new era in the making.
#[derive(Clone, Debug)]
struct Beginning {
    stream: Index,
    epoch_age: u64,
    run_age: u64,
    era_age: u64,
    to: u64,
    from: Option<u64>,
    repaired: bool,
    uid: &'static str,
}

fn named() -> impl Strategy<Value = Named> {
    (select(vec!["", "", "r", "s", "t"]), 0u8..2)
}

fn any_beginning() -> impl Strategy<Value = Beginning> {
    let ages = (age(), age(), age());
    let uid = select(vec!["u", "v", "w", ""]);
    let from = option::of(0u64..60);
    let rest = (0u64..60, from, any::<bool>(), uid);
    (any::<Index>(), ages, rest).prop_map(|(stream, ages, (to, from, repaired, uid))| Beginning {
        stream,
        epoch_age: ages.0,
        run_age: ages.1,
        era_age: ages.2,
        to,
        from,
        repaired,
        uid,
    })
}

fn any_spec() -> impl Strategy<Value = ClusterSpec> {
    let resources = vec(
        select(vec!["v1/events", "v1/pods", "apps/v1/deployments"]),
        0..4,
    );
    let name = select(vec!["a", "b", "c", "-"]);
    let namespaces = select(vec![&[][..], &["m"], &["m", "n"]]);
    let duplicate_of = select(vec!["", "", "a", "b"]);
    (name, resources, namespaces, duplicate_of, any::<bool>()).prop_map(
        |(name, resources, namespaces, duplicate_of, paused)| {
            let mut spec = spec(name, &resources);
            spec.paused = paused;
            spec.duplicate_of = duplicate_of.into();
            if let Some(first) = spec.resources.first_mut() {
                first.namespaces = namespaces.iter().map(|name| String::from(*name)).collect();
            }
            spec
        },
    )
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
        1 => replica().prop_map(Step::Drain),
        1 => replica().prop_map(Step::Resume),
        3 => (any_spec(), named()).prop_map(|(spec, named)| Step::Create(spec, named)),
        2 => (index(), any_spec(), any::<bool>(), named())
            .prop_map(|(at, spec, expect, named)| Step::Update(at, spec, expect, named)),
        1 => (index(), any::<bool>(), named())
            .prop_map(|(at, expect, named)| Step::Delete(at, expect, named)),
        5 => moves.prop_map(Step::Assign),
        5 => any_beginning().prop_map(Step::Begin),
        5 => entries.prop_map(Step::Advance),
        1 => (index(), age(), select(vec![Condition::Connected, Condition::Duplicate]))
            .prop_map(|(at, age, condition)| Step::Report(at, age, condition)),
    ]
}

/// The chosen key, or one that does not exist if there are no keys.
fn choose<K: Copy, V>(map: &SharedMap<K, V>, index: &Index, absent: K) -> K {
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
        Step::Drain(replica) => Command::DrainMember {
            replica: ReplicaId(*replica),
        },
        Step::Resume(replica) => Command::ResumeMember {
            replica: ReplicaId(*replica),
        },
        Step::Create(spec, named) => Command::CreateCluster {
            spec: spec.clone(),
            request_id: request_id(*named),
            at: AT,
        },
        Step::Update(index, spec, expected, named) => {
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
                request_id: request_id(*named),
                at: AT,
            }
        }
        Step::Delete(index, expected, named) => {
            let id = choose_cluster(index);
            Command::DeleteCluster {
                id,
                expected: expect(&id, *expected),
                request_id: request_id(*named),
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
        Step::Begin(beginning) => Command::BeginEra(era(state, beginning)),
        Step::Advance(entries) => Command::AdvanceCheckpoints {
            entries: entries.iter().map(|entry| progress(state, entry)).collect(),
        },
        Step::Report(index, age, condition) => {
            let shard = choose_shard(state, index);
            report(shard, aged_epoch(state, shard, *age), *condition)
        }
    }
}

fn request_id((text, content): Named) -> Option<RequestId> {
    RequestId::new(text, &[content])
}

fn era(state: &State, beginning: &Beginning) -> BeginEra {
    let (stream, epoch) = choose_stream(state, &beginning.stream, beginning.epoch_age);
    let mut begin = begin(state, stream, epoch, beginning.to, beginning.repaired);
    begin.run.0 = begin.run.0.saturating_sub(beginning.run_age);
    if let Some(era) = &mut begin.expected_era {
        era.0 = era.0.saturating_sub(beginning.era_age);
        let (era, from) = (*era, beginning.from);
        begin.from = from.map(|rv| Position::closed(era, ResourceVersion::from(rv)));
    }
    begin.cluster_uid = beginning.uid.into();
    begin
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
            checks::check(&before, &state, &command, &applied)?;
            prop_assert_eq!(twin.apply(revision, &command), applied);
        }
        prop_assert_eq!(state, twin);
    }
}
