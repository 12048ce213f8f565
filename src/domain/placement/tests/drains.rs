//! Replicas that users drain, and shards that they want elsewhere.

use super::*;

#[test]
fn a_drained_replica_gives_everything_to_the_others_prepared_and_evenly() {
    let mut state = state(3, &[1, 1, 1, 1, 2, 3]);
    drain(&mut state, 1);
    let seen = all_active(&state);
    let first = plan(&state, &seen, &UNLIMITED);
    assert_eq!(
        first.moves,
        [],
        "it publishes until the receivers are ready"
    );
    let of = |step: &Move| step.reason;
    assert!(first.prepare.iter().map(of).eq([MoveReason::Drained; 4]));
    carry_out(&mut state, &first);
    assert_eq!(counts(&state).into_values().collect::<Vec<_>>(), [0, 3, 3]);
    assert_eq!(plan(&state, &seen, &UNLIMITED), Plan::default());
    // And takes its share again once it is resumed.
    let replica = ReplicaId(1);
    apply(&mut state, &Command::ResumeMember { replica });
    let back = plan(&state, &seen, &UNLIMITED);
    assert_eq!(reasons(&back), [(Some(1), MoveReason::Rebalance); 2]);
}

#[test]
fn what_nobody_else_can_watch_stays_with_the_replica_that_is_drained() {
    let mut state = state(3, &[1, 1, 1, 2, 3]);
    drain(&mut state, 1);
    let shards: Vec<_> = state.assignments.keys().copied().collect();
    let mut seen = all_active(&state);
    for replica in [2, 3] {
        seen.unfit.insert((shards[0], ReplicaId(replica)));
    }
    // Out of its own reach as well: one replica after the other tries.
    seen.unreachable.insert(shards[1], tries(1));
    let reasons: BTreeMap<_, _> = plan(&state, &seen, &UNLIMITED)
        .prepare
        .into_iter()
        .map(|s| (s.shard, s.reason))
        .collect();
    let expected = [
        (shards[1], MoveReason::Reachability),
        (shards[2], MoveReason::Drained),
    ];
    assert_eq!(reasons, expected.into());
    // Nobody else takes anything.
    let mut all = state.clone();
    drain(&mut all, 2);
    drain(&mut all, 3);
    assert_eq!(plan(&all, &all_active(&all), &UNLIMITED), Plan::default());
}

#[test]
fn a_drained_replica_takes_nothing_whatever_happens_to_the_others() {
    let mut state = state(3, &[1, 2, 3, 0]);
    drain(&mut state, 1);
    drain(&mut state, 2);
    let lost = observed(&[Active, Active, Unavailable]);
    let plan = plan(&state, &lost, &UNLIMITED);
    assert_eq!(reasons(&plan), [(None, MoveReason::NoReplica)]);
}

#[test]
fn moves_from_a_drained_replica_are_limited_by_themselves() {
    let mut state = state(2, &[1; 40]);
    drain(&mut state, 1);
    let mut seen = all_active(&state);
    let policy = Policy {
        moves_in_flight_max: 0,
        ..Policy::default()
    };
    let first = plan(&state, &seen, &policy);
    assert_eq!(first.prepare.len(), Policy::MOVES_IN_FLIGHT_MAX);
    for step in first.prepare.iter().skip(3) {
        let preparing = (ReplicaId(2), MoveReason::Drained);
        seen.preparing.insert(step.shard, preparing);
    }
    assert_eq!(plan(&state, &seen, &policy).prepare.len(), 3);
}

#[test]
fn a_shard_that_a_user_wants_elsewhere_counts_where_it_is_until_it_has_moved() {
    let state = state(2, &[1, 2]);
    let shard = *state.assignments.keys().next().unwrap();
    let mut seen = all_active(&state);
    let preparing = (ReplicaId(2), MoveReason::Requested);
    seen.preparing.insert(shard, preparing);
    assert_eq!(plan(&state, &seen, &UNLIMITED), Plan::default());
}

#[test]
fn a_shard_that_was_moved_by_request_is_the_last_to_be_moved_back() {
    let mut state = state(2, &[1, 2, 2]);
    let shards: Vec<_> = state.assignments.keys().copied().collect();
    let requested = MoveReason::Requested;
    give_for(&mut state, shards[0], ReplicaId(2), requested);
    // Both others came to the replica later, and go first all the same.
    give(&mut state, shards[1], ReplicaId(2));
    give(&mut state, shards[2], ReplicaId(2));
    let mut seen = all_active(&state);
    let moved = |seen: &Observed| plan(&state, seen, &UNLIMITED).prepare[0].shard;
    assert_eq!(moved(&seen), shards[1]);
    for shard in &shards[1..] {
        seen.unfit.insert((*shard, ReplicaId(1)));
    }
    assert_eq!(moved(&seen), shards[0]);
}
