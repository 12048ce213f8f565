//! Moves that users ask for, and replicas that they drain.

use super::*;
use crate::{
    controller::{MoveAnswer, MoveRequest},
    domain::requested::NotMoved,
};

/// A and B with two shards each.
async fn two_each() -> (Group, Controller) {
    let group = Group::new(2, 4);
    let controller = group.start();
    keep_alive(&controller, A);
    keep_alive(&controller, B);
    group.until_all_owned().await;
    pass(Duration::from_secs(3)).await;
    assert_eq!([group.owned_by(A), group.owned_by(B)], [2, 2]);
    (group, controller)
}

fn owned_by(group: &Group, owner: ReplicaId) -> Vec<ShardId> {
    let state = group.state.borrow();
    let shards = state.assignments.values();
    let shards = shards.filter(|assignment| assignment.owner() == Some(owner));
    shards.map(Assignment::shard).collect()
}

/// Asks, and lets it come as far as it does by itself.
async fn ask(
    controller: &Controller,
    shard: ShardId,
    to: ReplicaId,
    validate_only: bool,
) -> tokio::task::JoinHandle<Option<MoveAnswer>> {
    let controller = controller.clone();
    let request = MoveRequest {
        shard,
        to,
        validate_only,
    };
    let asked = tokio::spawn(async move { controller.move_shard(request).await });
    pass(Duration::from_millis(1)).await;
    asked
}

async fn refusal(controller: &Controller, shard: ShardId, to: ReplicaId) -> NotMoved {
    let asked = ask(controller, shard, to, false).await;
    asked.await.unwrap().expect("it leads").unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_shard_moves_to_where_a_user_wants_it_once_its_receiver_is_ready() {
    let (group, controller) = two_each().await;
    group.hold_receivers();
    let shard = owned_by(&group, A)[0];
    let first = ask(&controller, shard, B, false).await;
    let second = ask(&controller, shard, B, false).await;
    assert_eq!(group.owned_by(B), 2, "it is not ready");
    let prepared = group.end_preparations(Outcome::Ready);
    assert_eq!(prepared.len(), 1, "one move for both who ask");
    for asked in [first, second] {
        let revision = asked.await.unwrap().expect("it leads").unwrap();
        assert!(revision <= group.state.borrow().revision);
    }
    {
        let state = group.state.borrow();
        let moved = &state.assignments[&shard];
        assert_eq!(moved.owner(), Some(B));
        assert_eq!(moved.reason(), MoveReason::Requested);
    }
    // The load is evened with another shard.
    pass(Duration::from_secs(1)).await;
    let evened = group.end_preparations(Outcome::Ready);
    assert_eq!(evened.len(), 1);
    assert_ne!(evened[0].shard, shard);
    pass(Duration::from_secs(60)).await;
    assert_eq!([group.owned_by(A), group.owned_by(B)], [2, 2]);
    assert!(owned_by(&group, B).contains(&shard));
    // It is there already.
    let again = ask(&controller, shard, B, false).await;
    again.await.unwrap().expect("it leads").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_cannot_move_stays_and_the_user_learns_why() {
    let (group, controller) = two_each().await;
    group.hold_receivers();
    let shard = owned_by(&group, A)[0];
    let name = |replica: ReplicaId| format!("replica-{replica}");
    let asked = ask(&controller, shard, B, false).await;
    group.end_preparations(Outcome::Unfit);
    let refused = asked.await.unwrap().expect("it leads").unwrap_err();
    let expected = NotMoved::OutOfReach {
        receiver: name(B),
        reason: String::new(),
    };
    assert_eq!(refused, expected);
    // One that does not answer.
    let asked = ask(&controller, shard, B, false).await;
    let late = asked.await.unwrap().expect("it leads").unwrap_err();
    assert!(matches!(late, NotMoved::Late { .. }), "{late:?}");
    group.end_preparations(Outcome::Failed);
    // Drained while it prepares, and before.
    let asked = ask(&controller, shard, B, false).await;
    let drain = Command::DrainMember { replica: B };
    group.change(|state| drop(apply(state, &drain)));
    let drained = NotMoved::Drained(name(B));
    let refused = asked.await.unwrap().expect("it leads").unwrap_err();
    assert_eq!(refused, drained);
    assert_eq!(refusal(&controller, shard, B).await, drained);
    assert!(owned_by(&group, A).contains(&shard));
    let stranger = refusal(&controller, shard, ReplicaId(9)).await;
    assert!(matches!(stranger, NotMoved::NotYet(_)), "{stranger:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_gone_gets_nothing_and_the_first_of_two_requests_counts() {
    let group = Group::new(3, 3);
    let controller = group.start();
    let third = ReplicaId(3);
    for replica in [A, B] {
        keep_alive(&controller, replica);
    }
    let beats = keep_alive(&controller, third);
    group.until_all_owned().await;
    pass(Duration::from_secs(3)).await;
    group.hold_receivers();
    let shard = owned_by(&group, A)[0];
    let first = ask(&controller, shard, B, false).await;
    let other = refusal(&controller, shard, third).await;
    assert_eq!(other, NotMoved::Elsewhere("replica-2".into()));
    group.end_preparations(Outcome::Ready);
    first.await.unwrap().expect("it leads").unwrap();
    beats.abort();
    controller.mark_dead(third).await;
    let gone = refusal(&controller, shard, third).await;
    assert_eq!(gone, NotMoved::NotActive("replica-3".into()));
}

#[tokio::test(start_paused = true)]
async fn a_trial_says_whether_a_replica_could_watch_and_moves_nothing() {
    let (group, controller) = two_each().await;
    group.hold_receivers();
    let shard = owned_by(&group, A)[0];
    for outcome in [Outcome::Ready, Outcome::Unfit] {
        let asked = ask(&controller, shard, B, true).await;
        assert_eq!(group.end_preparations(outcome).len(), 1);
        let answer = asked.await.unwrap().expect("it leads");
        assert_eq!(answer.is_ok(), outcome == Outcome::Ready, "{answer:?}");
    }
    pass(Duration::from_secs(60)).await;
    assert!(owned_by(&group, A).contains(&shard));
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_leadership_gives_no_answer() {
    let (group, controller) = two_each().await;
    group.hold_receivers();
    let shard = owned_by(&group, A)[0];
    let asked = ask(&controller, shard, B, false).await;
    group.lead(2);
    assert_eq!(asked.await.unwrap(), None);
    group.leadership.send_replace(Leadership::default());
    let asked = ask(&controller, shard, B, false).await;
    assert_eq!(asked.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_drained_replica_is_emptied_move_by_move_and_resumed() {
    let (group, _controller) = two_each().await;
    group.hold_receivers();
    let drain = Command::DrainMember { replica: B };
    let resume = Command::ResumeMember { replica: B };
    group.change(|state| drop(apply(state, &drain)));
    pass(Duration::from_millis(1)).await;
    // One that is resumed before anybody is ready keeps what it has.
    group.change(|state| drop(apply(state, &resume)));
    pass(Duration::from_millis(1)).await;
    assert_eq!(group.end_preparations(Outcome::Ready).len(), 2);
    pass(Duration::from_secs(1)).await;
    assert_eq!(group.owned_by(B), 2);
    group.change(|state| drop(apply(state, &drain)));
    pass(Duration::from_secs(1)).await;
    assert_eq!(group.owned_by(B), 2, "nobody is ready");
    let moves = group.end_preparations(Outcome::Ready);
    let is_drained = |step: &Move| step.reason == MoveReason::Drained && step.to == Some(A);
    assert!(
        moves.len() == 2 && moves.iter().all(is_drained),
        "{moves:?}"
    );
    group.until_owned_by(A).await;
    // The next leader knows it, too.
    group.lead(2);
    pass(Duration::from_secs(60)).await;
    assert_eq!(group.owned_by(B), 0);
    group.change(|state| drop(apply(state, &resume)));
    pass(Duration::from_secs(1)).await;
    assert_eq!(group.end_preparations(Outcome::Ready).len(), 2);
    pass(Duration::from_secs(1)).await;
    assert_eq!(group.owned_by(B), 2);
}
