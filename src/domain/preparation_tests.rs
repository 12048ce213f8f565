use std::collections::BTreeMap;

use super::{
    ANSWER_MARGIN, Availability, Duration, Epoch, HANDOVER_TIMEOUT, HANDOVERS_MAX, KEPT_FOR, Move,
    MoveReason, Outcome, PREPARE_TIMEOUT, Preparations, REACH_TIMEOUT, RECOVERY, RECOVERY_OF_EACH,
    RETURN_GRACE, ReplicaId, Request, ShardId, State, UNANSWERED, UNFIT_FIRST, UNFIT_MAX,
};
use crate::domain::{
    command::Command,
    fixtures::{create, register, spec},
    id::{ClusterId, Revision, UnixMillis},
};

const OWNER: ReplicaId = ReplicaId(1);
const RECEIVER: ReplicaId = ReplicaId(2);
const AT: UnixMillis = UnixMillis(0);

fn apply(state: &mut State, command: &Command) {
    state.apply(Revision(state.revision.0 + 1), command);
}

/// Two replicas and this many shards, all of one owner.
fn state(shards: usize) -> State {
    let mut state = State::default();
    for replica in [OWNER, RECEIVER] {
        let name = format!("replica-{replica}");
        apply(&mut state, &register(replica, &name));
    }
    for number in 0..shards {
        let spec = spec(&format!("c{number}"), &["v1/events"]);
        apply(&mut state, &create(spec));
    }
    let moves = steps(&state, MoveReason::Placed, OWNER);
    apply(&mut state, &Command::Assign { moves, at: AT });
    state
}

fn steps(state: &State, reason: MoveReason, to: ReplicaId) -> Vec<Move> {
    let shards = state.assignments.values();
    shards
        .map(|assignment| Move {
            shard: assignment.shard(),
            epoch: assignment.epoch(),
            to: Some(to),
            reason,
        })
        .collect()
}

fn active() -> BTreeMap<ReplicaId, Availability> {
    [OWNER, RECEIVER]
        .map(|replica| (replica, Availability::Active))
        .into()
}

/// Every owner reaches its clusters.
fn reachable() -> BTreeMap<ShardId, ReplicaId> {
    BTreeMap::new()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn failures_of(preparations: &Preparations, shard: ShardId) -> u32 {
    preparations.tries(shard, Duration::ZERO).failures
}

/// One shard, and an attempt to move it that began at once.
fn attempt(reason: MoveReason) -> (Preparations, State, Move) {
    let state = state(1);
    let mut preparations = Preparations::default();
    let begun = preparations.begin(steps(&state, reason, RECEIVER), Duration::ZERO);
    let [Request { step, .. }] = begun.try_into().unwrap();
    (preparations, state, step)
}

/// The same where the owner cannot reach the cluster.
fn outage() -> (Preparations, State, Move, BTreeMap<ShardId, ReplicaId>) {
    let (mut preparations, state, step) = attempt(MoveReason::Reachability);
    let unreachable = BTreeMap::from([(step.shard, OWNER)]);
    preparations.due(&state, &active(), &unreachable, Duration::ZERO);
    (preparations, state, step, unreachable)
}

#[test]
fn a_move_is_committed_once_its_receiver_is_ready_and_not_before() {
    let (mut preparations, mut state, step) = attempt(MoveReason::Rebalance);
    assert_eq!(
        preparations.due(&state, &active(), &reachable(), seconds(1)),
        []
    );
    assert_eq!(preparations.voluntary(), 1);
    preparations.ended(&step, Outcome::Ready, seconds(1));
    // Again and again, until it is committed.
    for _ in 0..2 {
        let due = preparations.due(&state, &active(), &reachable(), seconds(2));
        assert_eq!(due, std::slice::from_ref(&step));
    }
    let moves = vec![step];
    apply(&mut state, &Command::Assign { moves, at: AT });
    assert_eq!(
        preparations.due(&state, &active(), &reachable(), seconds(2)),
        []
    );
    assert!(preparations.receivers().is_empty());
}

#[test]
fn an_attempt_that_fails_leaves_everything_as_it_was() {
    for outcome in [Outcome::Unfit, Outcome::Failed] {
        let (mut preparations, state, step) = attempt(MoveReason::Rebalance);
        preparations.ended(&step, outcome, seconds(1));
        assert_eq!(
            preparations.due(&state, &active(), &reachable(), seconds(1)),
            []
        );
        assert!(preparations.receivers().is_empty());
    }
    let (mut preparations, state, step) = attempt(MoveReason::Rebalance);
    // The receiver's answer that it has taken too long is waited for.
    preparations.due(
        &state,
        &active(),
        &reachable(),
        PREPARE_TIMEOUT + ANSWER_MARGIN,
    );
    assert_eq!(preparations.receivers().len(), 1);
    let over = PREPARE_TIMEOUT + 2 * ANSWER_MARGIN;
    assert_eq!(preparations.due(&state, &active(), &reachable(), over), []);
    assert!(preparations.receivers().is_empty());
    // An answer that comes after the timeout commits nothing.
    preparations.ended(&step, Outcome::Ready, over);
    assert_eq!(preparations.due(&state, &active(), &reachable(), over), []);
}

#[test]
fn watches_that_the_receiver_keeps_no_longer_are_not_counted_on() {
    let (mut preparations, state, step) = attempt(MoveReason::Rebalance);
    preparations.ended(&step, Outcome::Ready, Duration::ZERO);
    assert_eq!(
        preparations.due(&state, &active(), &reachable(), KEPT_FOR),
        []
    );
}

#[test]
fn the_shards_of_an_owner_that_stops_move_in_any_case() {
    for outcome in [Outcome::Unfit, Outcome::Failed, Outcome::Ready] {
        let (mut preparations, state, step) = attempt(MoveReason::Handover);
        assert_eq!(
            preparations.due(&state, &active(), &reachable(), seconds(1)),
            []
        );
        assert_eq!(preparations.voluntary(), 0);
        preparations.ended(&step, outcome, seconds(1));
        assert_eq!(
            preparations.due(&state, &active(), &reachable(), seconds(1)),
            [step]
        );
    }
    let (mut preparations, state, step) = attempt(MoveReason::Handover);
    assert_eq!(
        preparations.due(&state, &active(), &reachable(), HANDOVER_TIMEOUT),
        [step]
    );
}

#[test]
fn a_receiver_that_is_lost_is_not_waited_for() {
    let (mut preparations, state, step) = attempt(MoveReason::Handover);
    let mut replicas = active();
    replicas.insert(RECEIVER, Availability::Unavailable);
    assert_eq!(
        preparations.due(&state, &replicas, &reachable(), seconds(1)),
        []
    );
    let begun = preparations.begin(vec![step.clone()], seconds(1));
    assert_eq!(begun[0].step, step);
    // The answer of an attempt before does not count for another one.
    let other = Move {
        to: Some(OWNER),
        ..step
    };
    preparations.ended(&other, Outcome::Ready, seconds(1));
    assert_eq!(
        preparations.due(&state, &active(), &reachable(), seconds(2)),
        []
    );
}

#[test]
fn an_attempt_ends_when_the_shard_changes_hands_meanwhile() {
    let (mut preparations, mut state, step) = attempt(MoveReason::Rebalance);
    let moves = steps(&state, MoveReason::Takeover, OWNER);
    apply(&mut state, &Command::Assign { moves, at: AT });
    preparations.ended(&step, Outcome::Ready, seconds(1));
    assert_eq!(
        preparations.due(&state, &active(), &reachable(), seconds(1)),
        []
    );
    assert!(preparations.receivers().is_empty());
}

#[test]
fn a_shard_is_prepared_once_at_a_time_and_handovers_are_bounded() {
    let state = state(HANDOVERS_MAX + 5);
    let mut preparations = Preparations::default();
    let moves = steps(&state, MoveReason::Handover, RECEIVER);
    let begun = preparations.begin(moves.clone(), Duration::ZERO);
    assert_eq!(begun.len(), HANDOVERS_MAX);
    assert_eq!(preparations.begin(moves, Duration::ZERO), []);
    assert_eq!(preparations.receivers().len(), HANDOVERS_MAX);
}

#[test]
fn a_replica_that_cannot_watch_a_shard_is_passed_over_for_longer_each_time() {
    let (mut preparations, state, step) = attempt(MoveReason::Rebalance);
    let key = (step.shard, RECEIVER);
    let mut now = Duration::ZERO;
    let mut pause = UNFIT_FIRST;
    for failures in 1..8 {
        preparations.ended(&step, Outcome::Unfit, now);
        assert_eq!(failures_of(&preparations, step.shard), failures);
        assert!(preparations.unfit(now + pause - seconds(1)).contains(&key));
        now += pause + pause / 4;
        assert!(!preparations.unfit(now).contains(&key));
        preparations.due(&state, &active(), &reachable(), now);
        assert_eq!(preparations.begin(vec![step.clone()], now).len(), 1);
        pause = (pause * 2).min(UNFIT_MAX);
    }
    // Once it can it is not passed over, but the next failure counts with the others.
    preparations.ended(&step, Outcome::Ready, now);
    assert!(preparations.unfit(now).is_empty());
    assert!(!preparations.is_unfit(step.shard, RECEIVER));
    preparations.ended(&step, Outcome::Unfit, now);
    let later = now + UNFIT_MAX - seconds(1);
    assert!(preparations.unfit(later).contains(&key));
    // After a long time without a failure it is like any other.
    now += 3 * UNFIT_MAX;
    preparations.due(&state, &active(), &reachable(), now);
    assert_eq!(failures_of(&preparations, step.shard), 0);
}

#[test]
fn what_is_said_again_of_an_owner_does_not_lengthen_its_pause() {
    let state = state(1);
    let shard: ShardId = *state.assignments.keys().next().unwrap();
    assert_eq!(state.assignments[&shard].epoch(), Epoch(1));
    let mut preparations = Preparations::default();
    let unreachable = BTreeMap::from([(shard, OWNER)]);
    for second in 0..5 {
        preparations.due(&state, &active(), &unreachable, seconds(second));
    }
    assert_eq!(failures_of(&preparations, shard), 1);
    let end = UNFIT_FIRST + UNFIT_FIRST / 4;
    assert!(preparations.unfit(UNFIT_FIRST - seconds(1)).len() == 1);
    assert!(preparations.unfit(end).is_empty());
}

#[test]
fn a_receiver_that_is_to_do_better_than_the_owner_is_given_more_time_after_each_failure() {
    let state = state(1);
    let mut preparations = Preparations::default();
    let moves = steps(&state, MoveReason::Reachability, RECEIVER);
    let unreachable = BTreeMap::from([(moves[0].shard, OWNER)]);
    for timeout in [
        REACH_TIMEOUT,
        2 * REACH_TIMEOUT,
        4 * REACH_TIMEOUT,
        PREPARE_TIMEOUT,
    ] {
        let begun = preparations.begin(moves.clone(), Duration::ZERO);
        let [Request { timeout: given, .. }] = begun[..] else {
            panic!("{begun:?}");
        };
        assert_eq!(given, timeout);
        preparations.ended(&moves[0], Outcome::Unfit, Duration::ZERO);
        preparations.due(&state, &active(), &unreachable, Duration::ZERO);
    }
}

#[test]
fn a_receiver_that_does_not_answer_is_passed_over_for_a_moment() {
    let (mut preparations, state, step) = attempt(MoveReason::Rebalance);
    preparations.ended(&step, Outcome::Failed, Duration::ZERO);
    preparations.due(&state, &active(), &reachable(), Duration::ZERO);
    let key = (step.shard, RECEIVER);
    assert!(preparations.unfit(UNANSWERED / 2).contains(&key));
    assert!(preparations.unfit(UNANSWERED).is_empty());
    assert!(!preparations.is_unfit(step.shard, RECEIVER));
    assert_eq!(failures_of(&preparations, step.shard), 0);
}

#[test]
fn a_shard_whose_owner_reaches_its_cluster_again_does_not_move() {
    let (mut preparations, state, step, unreachable) = outage();
    preparations.ended(&step, Outcome::Ready, Duration::ZERO);
    let due = |preparations: &mut Preparations, unreachable, now| {
        preparations.due(&state, &active(), unreachable, now)
    };
    // The API server has come back to the receiver; the owner may find it a moment later.
    let too_soon = RECOVERY.saturating_sub(Duration::from_millis(1));
    assert_eq!(due(&mut preparations, &unreachable, too_soon), []);
    let moves = due(&mut preparations, &unreachable, RECOVERY);
    assert_eq!(moves, std::slice::from_ref(&step));
    assert_eq!(due(&mut preparations, &reachable(), RECOVERY), []);
    assert!(preparations.receivers().is_empty());
}

#[test]
fn an_owner_that_lost_many_clusters_has_longer_to_reach_each_again() {
    let (mut preparations, state, step, mut unreachable) = outage();
    let other = |number: u64| ShardId {
        cluster: ClusterId(1_000 + number),
        slice: 0,
    };
    unreachable.extend((0..300).map(|number| (other(number), OWNER)));
    // What another owner has lost does not count.
    unreachable.insert(other(300), RECEIVER);
    preparations.due(&state, &active(), &unreachable, Duration::ZERO);
    preparations.ended(&step, Outcome::Ready, Duration::ZERO);
    let due_from = RECOVERY + 300 * RECOVERY_OF_EACH;
    let too_soon = due_from.saturating_sub(Duration::from_millis(1));
    let due = preparations.due(&state, &active(), &unreachable, too_soon);
    assert_eq!(due, []);
    let due = preparations.due(&state, &active(), &unreachable, due_from);
    assert_eq!(due, [step]);
}

#[test]
fn a_cluster_that_is_back_for_those_who_could_not_reach_it_is_left_to_its_owner_for_a_while() {
    let (mut preparations, state, step, unreachable) = outage();
    let mut now = Duration::ZERO;
    preparations.ended(&step, Outcome::Unfit, now);
    assert!(preparations.is_unfit(step.shard, RECEIVER));
    let passed_over = preparations.tries(step.shard, now).passed_over;
    assert_eq!(passed_over, [OWNER, RECEIVER].into());
    now += 2 * UNFIT_FIRST;
    preparations.due(&state, &active(), &unreachable, now);
    assert_eq!(preparations.begin(vec![step.clone()], now).len(), 1);
    preparations.ended(&step, Outcome::Ready, now);
    let due = |preparations: &mut Preparations, now| {
        let due = preparations.due(&state, &active(), &unreachable, now);
        !due.is_empty()
    };
    assert!(!due(&mut preparations, now + RETURN_GRACE - seconds(1)));
    assert!(due(&mut preparations, now + RETURN_GRACE));
}

#[test]
fn what_failed_in_an_outage_before_holds_nobody_up_in_the_next() {
    let (mut preparations, state, step, unreachable) = outage();
    preparations.ended(&step, Outcome::Unfit, Duration::ZERO);
    preparations.due(&state, &active(), &reachable(), seconds(1));
    // A moment later the owner loses the cluster again.
    let now = seconds(2);
    preparations.due(&state, &active(), &unreachable, now);
    assert!(preparations.unfit(now).contains(&(step.shard, RECEIVER)));
    let passed_over = preparations.tries(step.shard, now).passed_over;
    assert!(!passed_over.contains(&RECEIVER));
    assert!(!preparations.is_unfit(step.shard, RECEIVER));
    assert_eq!(preparations.begin(vec![step.clone()], now).len(), 1);
    preparations.ended(&step, Outcome::Ready, now);
    let due = preparations.due(&state, &active(), &unreachable, now + RECOVERY);
    assert_eq!(due, [step]);
}

#[test]
fn a_receiver_that_did_not_answer_is_not_asked_again_at_once() {
    let (mut preparations, _, step, _) = outage();
    preparations.ended(&step, Outcome::Failed, Duration::ZERO);
    let is_passed_over = |at| {
        let tries = preparations.tries(step.shard, at);
        tries.passed_over.contains(&RECEIVER)
    };
    assert!(is_passed_over(UNANSWERED / 2));
    assert!(!is_passed_over(UNANSWERED));
}
