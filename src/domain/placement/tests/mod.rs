mod drains;
mod properties;

use std::collections::{BTreeMap, BTreeSet};

use super::{Observed, Plan, Policy, Tries, plan, takers};
use crate::domain::{
    assignment::{Assignment, MoveReason},
    cluster::ClusterSpec,
    command::{Command, Move},
    fixtures,
    id::{ClusterId, ReplicaId, Revision, ShardId, UnixMillis},
    member::Availability::{self, Active, Suspect, Unavailable},
    state::State,
};

/// No limit on moves.
const UNLIMITED: Policy = at_most(usize::MAX);

const fn at_most(moves: usize) -> Policy {
    Policy {
        moves_in_flight_max: moves,
        drains_in_flight_max: moves,
    }
}

fn apply(state: &mut State, command: &Command) {
    let revision = Revision(state.revision.0 + 1);
    state.apply(revision, command);
    state.check_invariants().unwrap();
}

fn tries(failures: u32) -> Tries {
    Tries {
        failures,
        ..Tries::default()
    }
}

fn register(state: &mut State, replica: u64) {
    let name = format!("replica-{replica}");
    apply(state, &fixtures::register(ReplicaId(replica), &name));
}

fn drain(state: &mut State, replica: u64) {
    let replica = ReplicaId(replica);
    apply(state, &Command::DrainMember { replica });
}

fn spec(name: &str, paused: bool) -> ClusterSpec {
    ClusterSpec {
        paused,
        ..fixtures::spec(name, &["v1/events"])
    }
}

fn create(state: &mut State, paused: bool) {
    let name = format!("c{}", state.revision);
    apply(state, &fixtures::create(spec(&name, paused)));
}

/// What is to move at once, and what once it is prepared.
fn all_moves(plan: &Plan) -> Vec<Move> {
    [&plan.moves[..], &plan.prepare].concat()
}

fn carry_out(state: &mut State, plan: &Plan) {
    let at = UnixMillis(state.revision.0);
    let moves = all_moves(plan);
    apply(state, &Command::Assign { moves, at });
}

/// Replicas 1..=replicas and one shard for each owner: 0 for none.
fn state(replicas: u64, owners: &[u64]) -> State {
    let mut state = State::default();
    for replica in 1..=replicas {
        register(&mut state, replica);
    }
    for _ in owners {
        create(&mut state, false);
    }
    let shards: Vec<_> = state.assignments.keys().copied().collect();
    for (shard, owner) in shards.into_iter().zip(owners) {
        if *owner > 0 {
            give(&mut state, shard, ReplicaId(*owner));
        }
    }
    state
}

fn give(state: &mut State, shard: ShardId, owner: ReplicaId) {
    give_for(state, shard, owner, MoveReason::Placed);
}

fn give_for(state: &mut State, shard: ShardId, owner: ReplicaId, reason: MoveReason) {
    let step = Move {
        shard,
        epoch: state.assignments[&shard].epoch(),
        to: Some(owner),
        reason,
    };
    let moves = vec![step];
    carry_out(
        state,
        &Plan {
            moves,
            ..Plan::default()
        },
    );
}

fn observed(availability: &[Availability]) -> Observed {
    Observed {
        replicas: (1..).map(ReplicaId).zip(availability.to_vec()).collect(),
        ..Observed::default()
    }
}

fn all_active(state: &State) -> Observed {
    Observed {
        replicas: state.members.keys().map(|id| (*id, Active)).collect(),
        ..Observed::default()
    }
}

fn counts(state: &State) -> BTreeMap<ReplicaId, usize> {
    let mut counts: BTreeMap<_, _> = state.members.keys().map(|id| (*id, 0)).collect();
    for owner in state.assignments.values().filter_map(Assignment::owner) {
        *counts.entry(owner).or_default() += 1;
    }
    counts
}

fn reasons(plan: &Plan) -> Vec<(Option<u64>, MoveReason)> {
    let short = |step: &Move| (step.to.map(|owner| owner.0), step.reason);
    all_moves(plan).iter().map(short).collect()
}

#[test]
fn a_first_plan_spreads_shards_evenly() {
    let mut state = state(3, &[0; 7]);
    let plan = plan(&state, &observed(&[Active; 3]), &Policy::default());
    assert!(plan.moves.iter().all(|m| m.reason == MoveReason::Placed));
    carry_out(&mut state, &plan);
    assert_eq!(
        counts(&state).into_values().collect::<Vec<_>>(),
        vec![3, 2, 2]
    );
}

#[test]
fn shards_of_a_lost_replica_go_to_the_others() {
    let state = state(3, &[1, 2, 3, 1]);
    let plan = plan(
        &state,
        &observed(&[Unavailable, Active, Active]),
        &Policy::default(),
    );
    assert_eq!(
        reasons(&plan),
        [
            (Some(2), MoveReason::Takeover),
            (Some(3), MoveReason::Takeover)
        ]
    );
}

#[test]
fn a_replica_that_is_about_to_stop_hands_over() {
    let state = state(2, &[1, 2]);
    let mut seen = observed(&[Unavailable, Active]);
    seen.leaving.insert(ReplicaId(1));
    let plan = plan(&state, &seen, &Policy::default());
    assert_eq!(reasons(&plan), [(Some(2), MoveReason::Handover)]);
    assert_eq!(plan.moves, [], "it publishes until the receiver is ready");
    let preparing = (ReplicaId(2), MoveReason::Handover);
    seen.preparing.insert(plan.prepare[0].shard, preparing);
    assert_eq!(
        super::plan(&state, &seen, &Policy::default()),
        Plan::default()
    );
    // It stops before the receiver is ready.
    seen.leaving.clear();
    let plan = super::plan(&state, &seen, &Policy::default());
    assert_eq!(reasons(&plan), [(Some(2), MoveReason::Takeover)]);
    assert_eq!(plan.prepare, []);
}

#[test]
fn a_takeover_goes_to_the_replica_that_prepares_the_shard() {
    let state = state(3, &[1, 2, 3, 3]);
    let shard = *state.assignments.keys().next().unwrap();
    let mut seen = observed(&[Unavailable, Active, Active]);
    let to = |seen: &Observed| plan(&state, seen, &Policy::default()).moves[0].to;
    assert_eq!(to(&seen), Some(ReplicaId(2)));
    let preparing = (ReplicaId(3), MoveReason::Rebalance);
    seen.preparing.insert(shard, preparing);
    assert_eq!(to(&seen), Some(ReplicaId(3)));
    // Unless that one is lost as well.
    seen.replicas.insert(ReplicaId(3), Unavailable);
    assert_eq!(to(&seen), Some(ReplicaId(2)));
}

#[test]
fn what_is_being_prepared_counts_as_moved() {
    let state = state(2, &[1, 1, 1, 1]);
    let mut seen = all_active(&state);
    let first = plan(&state, &seen, &UNLIMITED);
    assert_eq!(reasons(&first), [(Some(2), MoveReason::Rebalance); 2]);
    for step in &first.prepare {
        let preparing = (ReplicaId(2), step.reason);
        seen.preparing.insert(step.shard, preparing);
    }
    assert_eq!(plan(&state, &seen, &UNLIMITED), Plan::default());
}

#[test]
fn a_shard_that_its_owner_cannot_reach_is_tried_by_one_replica_after_the_other() {
    let state = state(3, &[1, 2, 2, 3]);
    let shard = *state.assignments.keys().next().unwrap();
    let mut seen = all_active(&state);
    seen.unreachable.insert(shard, tries(1));
    let tried = |seen: &Observed| reasons(&plan(&state, seen, &Policy::default()));
    assert_eq!(tried(&seen), [(Some(3), MoveReason::Reachability)]);
    let preparing = (ReplicaId(3), MoveReason::Reachability);
    seen.preparing.insert(shard, preparing);
    assert_eq!(tried(&seen), []);
    seen.preparing.clear();
    seen.unfit.insert((shard, ReplicaId(3)));
    assert_eq!(tried(&seen), [(Some(2), MoveReason::Reachability)]);
    // Those that failed in an outage before are tried once nobody else is left.
    seen.unfit.insert((shard, ReplicaId(2)));
    assert_eq!(tried(&seen), [(Some(3), MoveReason::Reachability)]);
    let passed_over = |seen: &mut Observed, replica| {
        let tries = seen.unreachable.get_mut(&shard).unwrap();
        tries.passed_over.insert(ReplicaId(replica));
    };
    passed_over(&mut seen, 3);
    assert_eq!(tried(&seen), [(Some(2), MoveReason::Reachability)]);
    // Nobody can: the cluster is down, and the shard stays.
    passed_over(&mut seen, 2);
    assert_eq!(tried(&seen), []);
}

#[test]
fn a_replica_that_could_not_watch_a_shard_lately_gets_it_only_where_nobody_else_is() {
    let lost = state(3, &[1, 2, 3, 3]);
    let shard = *lost.assignments.keys().next().unwrap();
    let mut seen = observed(&[Unavailable, Active, Active]);
    seen.unfit.insert((shard, ReplicaId(2)));
    let to = |seen: &Observed| plan(&lost, seen, &Policy::default()).moves[0].to;
    assert_eq!(to(&seen), Some(ReplicaId(3)));
    seen.unfit.insert((shard, ReplicaId(3)));
    assert_eq!(to(&seen), Some(ReplicaId(2)));
    // Nor to even the load: another shard is given, or to another replica.
    let uneven = state(3, &[1, 1, 1]);
    let mut seen = all_active(&uneven);
    for shard in uneven.assignments.keys() {
        seen.unfit.insert((*shard, ReplicaId(2)));
    }
    let plan = plan(&uneven, &seen, &UNLIMITED);
    assert_eq!(reasons(&plan), [(Some(3), MoveReason::Rebalance)]);
}

#[test]
fn few_clusters_are_tried_at_a_time_and_those_first_that_were_tried_least() {
    let state = state(2, &[1; 40]);
    let mut seen = all_active(&state);
    let shards: Vec<_> = state.assignments.keys().copied().collect();
    for (index, shard) in shards.iter().enumerate() {
        let failures = if index < 30 { 2 } else { 1 };
        seen.unreachable.insert(*shard, tries(failures));
    }
    let policy = at_most(0);
    let mut tried = Vec::new();
    loop {
        let plan = plan(&state, &seen, &policy);
        for step in &plan.prepare {
            assert_eq!(step.reason, MoveReason::Reachability);
            let preparing = (ReplicaId(2), MoveReason::Reachability);
            seen.preparing.insert(step.shard, preparing);
            tried.push(step.shard);
        }
        if plan.prepare.is_empty() {
            break;
        }
    }
    let least_tried = &shards[30..];
    assert_eq!(tried, [least_tried, &shards[..6]].concat());
}

#[test]
fn attempts_to_reach_clusters_do_not_hold_back_what_evens_the_load() {
    let state = state(2, &[1; 40]);
    let mut seen = all_active(&state);
    for shard in state.assignments.keys().take(20) {
        seen.unreachable.insert(*shard, tries(1));
        seen.unfit.insert((*shard, ReplicaId(2)));
    }
    for shard in state.assignments.keys().take(16) {
        let preparing = (ReplicaId(2), MoveReason::Reachability);
        seen.preparing.insert(*shard, preparing);
    }
    let reasons = reasons(&plan(&state, &seen, &Policy::default()));
    assert_eq!(reasons, [(Some(2), MoveReason::Rebalance); 16]);
}

#[test]
fn shards_of_a_removed_member_go_to_the_others() {
    let mut state = state(2, &[1, 2]);
    let replica = ReplicaId(1);
    apply(&mut state, &Command::RemoveMember { replica });
    let plan = plan(&state, &all_active(&state), &Policy::default());
    assert_eq!(reasons(&plan), [(Some(2), MoveReason::Takeover)]);
}

#[test]
fn without_any_available_replica_shards_are_told_to_be_unowned() {
    let mut state = state(2, &[1, 2]);
    let lost = observed(&[Unavailable; 2]);
    let first = plan(&state, &lost, &Policy::default());
    assert_eq!(reasons(&first), [(None, MoveReason::NoReplica); 2]);
    carry_out(&mut state, &first);
    assert_eq!(plan(&state, &lost, &Policy::default()), Plan::default());
    let back = plan(&state, &observed(&[Suspect, Active]), &Policy::default());
    assert_eq!(reasons(&back), [(Some(2), MoveReason::Placed); 2]);
}

#[test]
fn while_others_are_in_doubt_a_lost_replicas_shards_wait_for_them() {
    let state = state(2, &[1, 2]);
    let plan = plan(
        &state,
        &observed(&[Unavailable, Suspect]),
        &Policy::default(),
    );
    assert_eq!(plan, Plan::default());
}

#[test]
fn a_suspect_replica_keeps_its_shards_and_gets_none() {
    let state = state(2, &[1, 1, 1, 1, 0]);
    let plan = plan(&state, &observed(&[Suspect, Active]), &Policy::default());
    assert_eq!(reasons(&plan), [(Some(2), MoveReason::Placed)]);
}

#[test]
fn a_member_nobody_has_an_opinion_of_is_suspect() {
    let state = state(2, &[1, 1, 1, 1]);
    let plan = plan(&state, &observed(&[Active]), &Policy::default());
    assert_eq!(plan, Plan::default());
}

#[test]
fn shards_of_paused_clusters_stay_without_owner() {
    let mut state = state(1, &[]);
    create(&mut state, true);
    assert_eq!(
        plan(&state, &all_active(&state), &Policy::default()),
        Plan::default()
    );
}

#[test]
fn the_shard_that_stayed_longest_is_the_one_that_moves() {
    let mut state = state(2, &[1, 1, 1]);
    let first = *state.assignments.keys().next().unwrap();
    give(&mut state, first, ReplicaId(1));
    let plan = plan(&state, &all_active(&state), &Policy::default());
    assert_eq!((plan.moves.len(), plan.prepare.len()), (0, 1));
    assert_ne!(plan.prepare[0].shard, first);
}

#[test]
fn moves_under_way_use_up_the_allowance() {
    let state = state(2, &[1; 10]);
    let mut observed = all_active(&state);
    let policy = at_most(3);
    assert_eq!(plan(&state, &observed, &policy).prepare.len(), 3);
    observed.moves_in_flight = 2;
    assert_eq!(plan(&state, &observed, &policy).prepare.len(), 1);
    observed.moves_in_flight = 4;
    assert_eq!(plan(&state, &observed, &policy).prepare.len(), 0);
}

#[test]
fn takers_are_named_for_each_shard_of_an_active_replica() {
    // Replica 4 is gone, and its shard with it: that is for the leader.
    let state = state(4, &[1, 1, 2, 3, 0, 4]);
    let ids = |ids: &[u64]| -> BTreeSet<ReplicaId> { ids.iter().copied().map(ReplicaId).collect() };
    let of = |n: usize| state.assignments.keys().nth(n).unwrap();
    let named = takers(&state, &ids(&[1, 2, 3]), ReplicaId(3));
    assert_eq!(named.len(), 4, "{named:?}");
    assert_eq!([&named[of(0)], &named[of(1)]], [&ids(&[2]), &ids(&[3])]);
    assert_eq!(named[of(3)], ids(&[1, 2]), "any other may lead next");
    assert_eq!(takers(&state, &ids(&[1]), ReplicaId(2)), BTreeMap::new());
}
