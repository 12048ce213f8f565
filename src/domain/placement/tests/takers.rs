//! Who would take which shard over.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    collection::vec,
    prelude::{prop_assert, proptest},
};

use super::{
    super::{plan, takers},
    UNLIMITED, observed, state,
};
use crate::domain::{
    assignment::MoveReason,
    id::ReplicaId,
    member::Availability::{Active, Unavailable},
};

#[test]
fn takers_are_named_for_each_shard_of_an_active_replica() {
    // Replica 4 is gone, and its shard with it: that is for the leader.
    let state = state(4, &[1, 1, 2, 3, 0, 4]);
    let ids = |ids: &[u64]| -> BTreeSet<ReplicaId> { ids.iter().copied().map(ReplicaId).collect() };
    let of = |n: usize| state.assignments.keys().nth(n).unwrap();
    let named = takers(&state, &ids(&[1, 2, 3]), ReplicaId(3));
    assert_eq!(named.len(), 4, "{named:?}");
    assert_eq!([&named[of(0)], &named[of(1)]], [&ids(&[2]), &ids(&[3])]);
    assert_eq!(named[of(3)], ids(&[1, 2]), "whoever leads next");
    assert_eq!(takers(&state, &ids(&[1]), ReplicaId(2)), BTreeMap::new());
}

proptest! {
    #[test]
    fn who_takes_over_was_named_before(
        owners in vec(0..=4_u64, 0..30),
        dead in 1..=4_u64,
        leader in 1..=4_u64,
    ) {
        let state = state(4, &owners);
        let active = (1..=4).map(ReplicaId).collect();
        let named = takers(&state, &active, ReplicaId(leader));
        let gone = (1..=4).map(|n| if n == dead { Unavailable } else { Active });
        let plan = plan(&state, &observed(&gone.collect::<Vec<_>>()), &UNLIMITED);
        let taken = plan.moves.iter().filter(|step| step.reason == MoveReason::Takeover);
        for step in taken {
            prop_assert!(named[&step.shard].contains(&step.to.unwrap()));
        }
    }
}
