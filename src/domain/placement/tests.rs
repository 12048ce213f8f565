use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
};

use super::{Observed, Plan, Policy, plan};
use crate::domain::{
    assignment::{Assignment, MoveReason},
    cluster::{ClusterSpec, Resource, ResourceSelector, Source},
    command::{Command, Move},
    id::{ClusterId, ReplicaId, Revision, ShardId, UnixMillis},
    member::Availability::{self, Active, Suspect, Unavailable},
    state::State,
};

/// No limit on voluntary moves.
const UNLIMITED: Policy = Policy {
    moves_in_flight_max: usize::MAX,
};

fn apply(state: &mut State, command: &Command) {
    let revision = Revision(state.revision.0 + 1);
    state.apply(revision, command);
    state.check_invariants().unwrap();
}

fn register(state: &mut State, replica: u64) {
    apply(
        state,
        &Command::RegisterMember {
            replica: ReplicaId(replica),
            name: format!("replica-{replica}"),
            peer_address: String::new(),
            client_address: String::new(),
            at: UnixMillis(0),
        },
    );
}

fn spec(name: String, paused: bool) -> ClusterSpec {
    ClusterSpec {
        name,
        labels: BTreeMap::new(),
        source: Source::InCluster,
        resources: vec![ResourceSelector::all(Resource::events())],
        paused,
        description: String::new(),
        duplicate_of: String::new(),
    }
}

fn create(state: &mut State, paused: bool) {
    let name = format!("c{}", state.revision);
    let at = UnixMillis(0);
    let spec = spec(name, paused);
    let create = Command::CreateCluster {
        spec,
        request_id: None,
        at,
    };
    apply(state, &create);
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
    let step = Move {
        shard,
        epoch: state.assignments[&shard].epoch(),
        to: Some(owner),
        reason: MoveReason::Placed,
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

/// The fewest moves that even out these counts: what everybody has above its fair share, when the
/// ones with the most are those that keep one more.
fn fewest_moves(counts: &BTreeMap<ReplicaId, usize>) -> usize {
    let total: usize = counts.values().sum();
    let (share, rest) = (total / counts.len(), total % counts.len());
    let mut sorted: Vec<_> = counts.values().copied().collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let fair = |index| share + usize::from(index < rest);
    let above = |(index, count): (usize, usize)| count.saturating_sub(fair(index));
    sorted.into_iter().enumerate().map(above).sum()
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
    seen.unreachable.insert(shard, 1);
    let tried = |seen: &Observed| reasons(&plan(&state, seen, &Policy::default()));
    assert_eq!(tried(&seen), [(Some(3), MoveReason::Reachability)]);
    let preparing = (ReplicaId(3), MoveReason::Reachability);
    seen.preparing.insert(shard, preparing);
    assert_eq!(tried(&seen), []);
    seen.preparing.clear();
    seen.unfit.insert((shard, ReplicaId(3)));
    assert_eq!(tried(&seen), [(Some(2), MoveReason::Reachability)]);
    // Nobody can: the cluster is down, and the shard stays.
    seen.unfit.insert((shard, ReplicaId(2)));
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
        seen.unreachable.insert(*shard, failures);
    }
    let policy = Policy {
        moves_in_flight_max: 0,
    };
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
        seen.unreachable.insert(*shard, 1);
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
fn without_any_available_replica_shards_are_reported_as_unowned() {
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
    let policy = Policy {
        moves_in_flight_max: 3,
    };
    assert_eq!(plan(&state, &observed, &policy).prepare.len(), 3);
    observed.moves_in_flight = 2;
    assert_eq!(plan(&state, &observed, &policy).prepare.len(), 1);
    observed.moves_in_flight = 4;
    assert_eq!(plan(&state, &observed, &policy).prepare.len(), 0);
}

/// Any state, with any opinion of its replicas.
fn any_world() -> impl Strategy<Value = (State, Observed)> {
    let replicas = 1u64..7;
    replicas.prop_flat_map(|replicas| {
        let availability = prop_oneof![
            4 => Just(Active),
            1 => Just(Suspect),
            1 => Just(Unavailable),
        ];
        let shards = vec((0..=replicas, any::<bool>(), any::<bool>()), 0..40);
        let availability = vec(availability, usize::try_from(replicas).unwrap());
        (shards, availability, any::<bool>()).prop_map(move |(shards, availability, removed)| {
            let owners: Vec<_> = shards.iter().map(|(owner, ..)| *owner).collect();
            let mut state = state(replicas, &owners);
            let ids: Vec<ClusterId> = state.clusters.keys().copied().collect();
            for (id, (_, some, more)) in ids.into_iter().zip(shards) {
                if some && more {
                    pause(&mut state, id);
                }
            }
            if removed {
                let replica = ReplicaId(replicas);
                apply(&mut state, &Command::RemoveMember { replica });
            }
            (state, observed(&availability))
        })
    })
}

fn pause(state: &mut State, id: ClusterId) {
    let spec = spec(state.clusters[&id].spec.name.clone(), true);
    let (expected, at) = (None, UnixMillis(0));
    apply(
        state,
        &Command::UpdateCluster {
            id,
            expected,
            spec,
            request_id: None,
            at,
        },
    );
}

/// All replicas active and the load even: where a planner leaves a healthy group.
fn settled_world() -> impl Strategy<Value = State> {
    (1u64..8, 0usize..60).prop_map(|(replicas, shards)| {
        let mut state = state(replicas, &vec![0; shards]);
        let first = plan(&state, &all_active(&state), &UNLIMITED);
        carry_out(&mut state, &first);
        state
    })
}

proptest! {
    #[test]
    fn a_plan_that_is_carried_out_leaves_nothing_to_plan((state, observed) in any_world()) {
        let mut after = state.clone();
        carry_out(&mut after, &plan(&state, &observed, &UNLIMITED));
        prop_assert_eq!(plan(&after, &observed, &UNLIMITED), Plan::default());
    }

    #[test]
    fn small_allowances_lead_to_the_same_rest_in_the_same_number_of_moves(
        (state, observed) in any_world(),
        moves_in_flight_max in 1usize..4,
    ) {
        let policy = Policy { moves_in_flight_max };
        let whole = plan(&state, &observed, &UNLIMITED);
        let mut after = state;
        let mut moves = 0;
        for _ in 0..=all_moves(&whole).len() {
            let part = plan(&after, &observed, &policy);
            let voluntary = |m: &&Move| m.reason == MoveReason::Rebalance;
            prop_assert!(all_moves(&part).iter().filter(voluntary).count() <= moves_in_flight_max);
            moves += all_moves(&part).len();
            carry_out(&mut after, &part);
        }
        prop_assert_eq!(plan(&after, &observed, &policy), Plan::default());
        prop_assert_eq!(moves, all_moves(&whole).len());
    }

    #[test]
    fn plans_move_each_shard_once_and_only_to_active_members((state, observed) in any_world()) {
        let plan = plan(&state, &observed, &UNLIMITED);
        let shards: BTreeSet<_> = all_moves(&plan).iter().map(|step| step.shard).collect();
        prop_assert_eq!(shards.len(), all_moves(&plan).len());
        for step in &all_moves(&plan) {
            let assignment = &state.assignments[&step.shard];
            prop_assert_eq!(step.epoch, assignment.epoch());
            prop_assert!(step.to != assignment.owner());
            if let Some(to) = step.to {
                prop_assert!(state.members.contains_key(&to));
                prop_assert_eq!(observed.replicas.get(&to), Some(&Active));
                prop_assert!(state.is_ownable(step.shard));
            }
        }
    }

    #[test]
    fn with_every_opinion_settled_all_are_owned_and_the_load_is_even(
        (state, mut observed) in any_world(),
    ) {
        for availability in observed.replicas.values_mut() {
            if *availability == Suspect {
                *availability = Active;
            }
        }
        let mut after = state.clone();
        carry_out(&mut after, &plan(&state, &observed, &UNLIMITED));
        let active: BTreeMap<_, _> = counts(&after)
            .into_iter()
            .filter(|(id, _)| observed.replicas.get(id) == Some(&Active))
            .collect();
        for (shard, assignment) in &after.assignments {
            let owned = assignment.owner().is_some_and(|owner| active.contains_key(&owner));
            prop_assert_eq!(owned, after.is_ownable(*shard) && !active.is_empty());
        }
        if let (Some(most), Some(least)) = (active.values().max(), active.values().min()) {
            prop_assert!(most - least <= 1);
        }
    }

    #[test]
    fn any_uneven_load_is_evened_with_the_fewest_moves(
        replicas in 1u64..7,
        owners in vec(1u64..7, 0..40),
    ) {
        let owners: Vec<_> = owners.iter().map(|owner| (owner - 1) % replicas + 1).collect();
        let state = state(replicas, &owners);
        let plan = plan(&state, &all_active(&state), &UNLIMITED);
        prop_assert_eq!(all_moves(&plan).len(), fewest_moves(&counts(&state)));
    }

    #[test]
    fn a_replica_that_joins_gets_its_share_and_nothing_else_moves(mut state in settled_world()) {
        let newcomer = ReplicaId(100);
        register(&mut state, newcomer.0);
        let share = state.assignments.len() / state.members.len();
        let plan = plan(&state, &all_active(&state), &UNLIMITED);
        prop_assert_eq!(all_moves(&plan).len(), share);
        prop_assert!(all_moves(&plan).iter().all(|step| step.to == Some(newcomer)));
    }

    #[test]
    fn a_takeover_touches_only_the_shards_of_the_dead(
        state in settled_world(),
        dead in any::<proptest::sample::Index>(),
    ) {
        let ids: Vec<_> = state.members.keys().copied().collect();
        let dead = ids[dead.index(ids.len())];
        let mut observed = all_active(&state);
        observed.replicas.insert(dead, Unavailable);
        let plan = plan(&state, &observed, &UNLIMITED);
        let moved: BTreeSet<_> = all_moves(&plan).iter().map(|step| step.shard).collect();
        let owned: BTreeSet<_> = state
            .assignments
            .values()
            .filter(|assignment| assignment.owner() == Some(dead))
            .map(Assignment::shard)
            .collect();
        prop_assert_eq!(moved, owned);
    }

    #[test]
    fn nothing_moves_voluntarily_while_a_replica_is_suspect((state, observed) in any_world()) {
        let suspect = state
            .members
            .keys()
            .any(|id| observed.replicas.get(id).is_none_or(|a| *a == Suspect));
        let plan = plan(&state, &observed, &UNLIMITED);
        let voluntary = all_moves(&plan).iter().any(|step| step.reason == MoveReason::Rebalance);
        prop_assert!(!(suspect && voluntary));
    }

    #[test]
    fn the_same_view_gives_the_same_plan((state, observed) in any_world()) {
        let (other_state, other_observed) = (state.clone(), observed.clone());
        prop_assert_eq!(
            plan(&state, &observed, &UNLIMITED),
            plan(&other_state, &other_observed, &UNLIMITED)
        );
    }
}

mod takers;
