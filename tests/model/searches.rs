//! Exhaustive searches: each visits all states of its scope, finds no violation, and has come
//! across what it is for.

use std::{hash::Hash, time::Instant};

use stateright::{Checker, Model};

use crate::{
    delivery::{Delivery, INVARIANTS},
    lease::{self, Leases},
    scope::{Milestone, Reached, Scope},
    scopes,
};

/// Visits every state.
fn explore<M>(name: &str, model: M) -> impl Checker<M>
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Clone + PartialEq,
{
    let began = Instant::now();
    // One thread for each: tests run beside each other, and a path to a violation is the shortest.
    let checker = model.checker().spawn_bfs().join();
    println!(
        "{name}: {} states, {} steps, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    assert!(checker.is_done(), "the search was cut short");
    checker
}

/// Whether all that a search is for has happened in it.
fn expect_reached(reached: &Reached, milestones: &[Milestone]) {
    let missing: Vec<_> = milestones
        .iter()
        .filter(|milestone| !reached.has(**milestone))
        .collect();
    assert!(missing.is_empty(), "it never happened: {missing:?}");
}

fn search(name: &str, scope: Scope, states_min: usize, milestones: &[Milestone]) {
    let checker = explore(name, Delivery { scope });
    for invariant in INVARIANTS {
        let Some(path) = checker.discovery(invariant.name) else {
            continue;
        };
        let verdict = (invariant.verdict)(checker.model(), path.last_state());
        panic!(
            "not so: {}: {verdict:?}, after {:#?}",
            invariant.name,
            path.into_actions()
        );
    }
    assert!(
        checker.unique_state_count() >= states_min,
        "it is too small"
    );
    expect_reached(&checker.model().scope.reached, milestones);
}

#[test]
fn takeovers() {
    let milestones = [Milestone::TwoOwners, Milestone::Fenced];
    search("takeover", scopes::takeover(), 72_000, &milestones);
}

#[test]
fn a_replica_that_is_behind() {
    let milestones = [Milestone::ResumedBehind, Milestone::CursorRefused];
    search("lagging", scopes::lagging(), 38_000, &milestones);
}

#[test]
fn deletions_that_share_a_version() {
    let milestones = [Milestone::VersionResumed];
    search("versions", scopes::versions(), 19_000, &milestones);
}

#[test]
fn repairs_by_several_runs() {
    let milestones = [
        Milestone::RepairedGap,
        Milestone::RepairInterrupted,
        Milestone::RepairResumed,
        Milestone::NetChangesResumed,
    ];
    search("repaired", scopes::repaired(), 68_000, &milestones);
}

#[test]
fn history_that_is_gone() {
    let milestones = [Milestone::Gap, Milestone::Synced];
    search("expired", scopes::expired(), 13_000, &milestones);
}

#[test]
fn repairs_whose_lists_expire() {
    let milestones = [
        Milestone::RepairedGap,
        Milestone::RepairInterrupted,
        Milestone::Gap,
        Milestone::Synced,
    ];
    search("irreparable", scopes::irreparable(), 27_000, &milestones);
}

#[test]
fn proposals_that_are_delayed_repeated_and_stale() {
    let milestones = [
        Milestone::StaleEpoch,
        Milestone::StaleRun,
        Milestone::CheckpointLeftOut,
        Milestone::MoveLeftOut,
    ];
    search("proposals", scopes::proposals(), 57_000, &milestones);
}

#[test]
fn readers_that_catch_up() {
    let milestones = [
        Milestone::Replayed,
        Milestone::FellBehind,
        Milestone::Hole,
        Milestone::WatchLost,
    ];
    search("small rings", scopes::small_rings(), 43_000, &milestones);
}

#[test]
fn snapshots_that_are_interrupted() {
    let milestones = [Milestone::Synced, Milestone::SnapshotRestarted];
    search("snapshots", scopes::snapshots(), 115_000, &milestones);
}

#[test]
fn watches_that_are_opened_early() {
    let milestones = [Milestone::Prepared, Milestone::RunBehind];
    search("prepared", scopes::prepared(), 34_000, &milestones);
}

#[test]
fn a_stream_that_is_new() {
    search("fresh", scopes::fresh(), 51_000, &[Milestone::EraRepeated]);
}

#[test]
fn versions_whose_watch_is_lost() {
    let milestones = [Milestone::RepairedGap, Milestone::VersionClosed];
    search(
        "open versions",
        scopes::open_versions(),
        128_000,
        &milestones,
    );
}

#[test]
fn two_subscribers() {
    let milestones = [Milestone::RepairedGap, Milestone::Synced];
    search(
        "two subscribers",
        scopes::two_subscribers(),
        241_000,
        &milestones,
    );
}

#[test]
fn leases() {
    let checker = explore("leases", Leases::new(None));
    if let Some(path) = checker.discovery(lease::ONE_LEASE) {
        let verdict = lease::verdict(path.last_state());
        panic!("{verdict:?}, after {:#?}", path.into_actions());
    }
    assert!(checker.unique_state_count() >= 1_300_000, "it is too small");
    let milestones = [
        Milestone::Takeover,
        Milestone::TakeoverByNewLeader,
        Milestone::ShortLease,
    ];
    expect_reached(&checker.model().reached, &milestones);
}
