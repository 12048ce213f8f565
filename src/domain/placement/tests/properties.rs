//! What holds of every plan.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
};

use super::*;

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
        let count = usize::try_from(replicas).unwrap();
        let availability = vec(availability, count);
        let drained = vec(prop_oneof![3 => Just(false), 1 => Just(true)], count);
        let rest = (availability, drained, any::<bool>());
        (shards, rest).prop_map(move |(shards, (availability, drained, removed))| {
            let owners: Vec<_> = shards.iter().map(|(owner, ..)| *owner).collect();
            let mut state = state(replicas, &owners);
            let ids: Vec<ClusterId> = state.clusters.keys().copied().collect();
            for (id, (_, some, more)) in ids.into_iter().zip(shards) {
                if some && more {
                    pause(&mut state, id);
                }
            }
            for (replica, _) in (1..).zip(drained).filter(|(_, drained)| *drained) {
                drain(&mut state, replica);
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
    let spec = spec(&state.clusters[&id].spec.name, true);
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
        let policy = at_most(moves_in_flight_max);
        let whole = plan(&state, &observed, &UNLIMITED);
        let mut after = state;
        let mut moves = 0;
        for _ in 0..=all_moves(&whole).len() {
            let part = plan(&after, &observed, &policy);
            for limited in [MoveReason::Rebalance, MoveReason::Drained] {
                let moves = part.prepare.iter().filter(|step| step.reason == limited);
                prop_assert!(moves.count() <= moves_in_flight_max);
            }
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
                prop_assert!(!state.is_drained(to));
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
        let takers: BTreeMap<_, _> = active.iter().filter(|(id, _)| !after.is_drained(**id)).collect();
        for (shard, assignment) in &after.assignments {
            let before = state.assignments[shard].owner();
            let owned = assignment.owner().is_some_and(|owner| active.contains_key(&owner));
            // Where all are drained, each keeps what it has.
            let is_kept = before.is_some_and(|owner| active.contains_key(&owner));
            let is_to_be = after.is_ownable(*shard) && (!takers.is_empty() || is_kept);
            prop_assert_eq!(owned, is_to_be);
            let with_drained = assignment.owner().is_some_and(|owner| after.is_drained(owner));
            prop_assert!(!with_drained || takers.is_empty() && assignment.owner() == before);
        }
        if let (Some(most), Some(least)) = (takers.values().max(), takers.values().min()) {
            prop_assert!(**most - **least <= 1);
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

proptest! {
    #[test]
    fn who_takes_over_was_named_before(
        owners in vec(0..=4_u64, 0..30),
        dead in 1..=4_u64,
        leader in 1..=4_u64,
        drained in 0..=4_u64,
    ) {
        let mut state = state(4, &owners);
        if drained > 0 {
            drain(&mut state, drained);
        }
        let active = (1..=4).map(ReplicaId).collect();
        let named = takers(&state, &active, ReplicaId(leader));
        let gone = (1..=4).map(|n| if n == dead { Unavailable } else { Active });
        let plan = plan(&state, &observed(&gone.collect::<Vec<_>>()), &UNLIMITED);
        let taken = plan.moves.iter().filter(|step| step.reason == MoveReason::Takeover);
        for step in taken {
            prop_assert!(named[&step.shard].contains(&step.to.unwrap()));
        }
        let named: BTreeSet<_> = named.into_values().flatten().collect();
        prop_assert!(!named.contains(&ReplicaId(drained)));
    }
}
