//! The searches can fail: each fault that is planted in the driver is found, by the invariant that
//! it violates.

use std::{fmt::Debug, hash::Hash};

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    delivery::{
        CHECKPOINT_CLOSED, CHECKPOINT_PUBLISHED, Delivery, EPOCHS_GROW, ERA_AT_REST, EXACTLY_ONCE,
        GAP_BEFORE_SNAPSHOT, GAPS_JUSTIFIED, HOLES_DECLARED, NO_DEFECT, NO_STALE_EPOCH, ONE_SOURCE,
        POSITIONS_GROW,
    },
    lease::{self, Leases},
    scope::{Plant, Scope},
    scopes,
};

/// Searches until this property is violated.
fn expect_violated<M>(model: M, plant: impl Debug, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Clone + PartialEq + Debug,
{
    let finish = HasDiscoveries::AnyOf([property].into());
    let checker = model.checker().finish_when(finish).spawn_bfs().join();
    let states = checker.unique_state_count();
    match checker.discovery(property) {
        Some(path) => {
            let actions = path.into_actions();
            println!("{plant:?}: found in {states} states: {actions:?}");
        }
        None => panic!("{plant:?} was not found in {states} states"),
    }
}

fn expect_found(plant: Plant, scope: Scope, property: &'static str) {
    let scope = Scope {
        plant: Some(plant),
        ..scope
    };
    expect_violated(Delivery { scope }, plant, property);
}

#[test]
fn a_log_that_does_not_compare_epochs() {
    expect_found(Plant::FenceDropped, scopes::takeover(), NO_STALE_EPOCH);
}

#[test]
fn a_log_that_does_not_mark_a_hole() {
    expect_found(Plant::HoleUnmarked, scopes::small_rings(), HOLES_DECLARED);
}

#[test]
fn a_replica_that_publishes_a_shard_of_another_one() {
    expect_found(Plant::OwnerIgnored, scopes::takeover(), ONE_SOURCE);
}

#[test]
fn an_owner_that_resumes_after_the_checkpoint() {
    let property = CHECKPOINT_PUBLISHED;
    expect_found(Plant::ResumedTooLate, scopes::takeover(), property);
}

#[test]
fn an_owner_that_skips_a_net_change() {
    expect_found(Plant::NetChangeSkipped, scopes::repaired(), HOLES_DECLARED);
}

#[test]
fn a_checkpoint_of_what_was_not_published() {
    let property = CHECKPOINT_PUBLISHED;
    expect_found(Plant::CheckpointAhead, scopes::takeover(), property);
}

#[test]
fn a_checkpoint_inside_a_version() {
    let property = CHECKPOINT_CLOSED;
    expect_found(Plant::CheckpointInsideVersion, scopes::versions(), property);
}

#[test]
fn a_proposal_of_a_run_that_was_replaced() {
    expect_found(Plant::RunIgnored, scopes::proposals(), NO_DEFECT);
}

#[test]
fn a_proposal_that_takes_effect_twice() {
    // The outcome of the first proposal is lost, and both are committed.
    let mut scope = scopes::proposals();
    scope.budget.moves = 0;
    scope.budget.unknowns = 1;
    expect_found(Plant::EraIgnored, scope, ERA_AT_REST);
}

#[test]
fn an_epoch_that_is_used_twice() {
    expect_found(Plant::EpochReused, scopes::takeover(), EPOCHS_GROW);
}

#[test]
fn a_repaired_gap_that_is_not_sent() {
    let property = HOLES_DECLARED;
    expect_found(Plant::RepairedGapSwallowed, scopes::repaired(), property);
}

#[test]
fn a_snapshot_without_a_gap() {
    let property = GAP_BEFORE_SNAPSHOT;
    expect_found(Plant::GapSwallowed, scopes::expired(), property);
}

#[test]
fn a_gap_where_nothing_was_lost() {
    expect_found(Plant::GapInvented, scopes::small_rings(), GAPS_JUSTIFIED);
}

#[test]
fn a_subscriber_that_takes_what_it_has() {
    let property = POSITIONS_GROW;
    expect_found(Plant::PositionsIgnored, scopes::versions(), property);
}

#[test]
fn a_cursor_that_is_saved_too_early() {
    expect_found(Plant::CursorAhead, scopes::versions(), HOLES_DECLARED);
}

#[test]
fn a_cursor_that_is_not_saved() {
    expect_found(Plant::CursorBehind, scopes::versions(), EXACTLY_ONCE);
}

#[test]
fn a_replay_that_begins_too_late() {
    expect_found(
        Plant::ReplayedTooLate,
        scopes::small_rings(),
        HOLES_DECLARED,
    );
}

#[test]
fn a_snapshot_without_its_end() {
    expect_found(Plant::SnapshotCutShort, scopes::snapshots(), HOLES_DECLARED);
}

/// The same for leases.
fn expect_two_leases(plant: lease::Plant) {
    expect_violated(Leases::new(Some(plant)), plant, lease::ONE_LEASE);
}

#[test]
fn a_lease_that_is_counted_from_its_receipt() {
    expect_two_leases(lease::Plant::CountedFromReceipt);
}

#[test]
fn a_lease_of_a_leader_without_a_quorum() {
    expect_two_leases(lease::Plant::QuorumIgnored);
}
