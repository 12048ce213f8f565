//! Moves that are prepared at their receivers.

use super::*;

#[tokio::test(start_paused = true)]
async fn voluntary_moves_are_prepared_a_few_at_a_time_and_committed_when_they_are_ready() {
    let group = Group::new(1, 100);
    let controller = group.start();
    keep_alive(&controller, A);
    group.until_owned_by(A).await;
    group.hold_receivers();
    group.change(|state| register(state, B));
    keep_alive(&controller, B);
    let most = Policy::MOVES_IN_FLIGHT_MAX;
    for round in 0..3 {
        pass(Duration::from_secs(1)).await;
        assert_eq!(group.owned_by(B), round * most, "nothing moves unprepared");
        assert_eq!(group.end_preparations(Outcome::Ready).len(), most);
    }
    pass(Duration::from_secs(1)).await;
    assert_eq!(group.owned_by(B), 48);
    // A receiver that cannot watch these gets others.
    let unfit = group.end_preparations(Outcome::Unfit);
    assert_eq!(unfit.len(), 2);
    pass(Duration::from_secs(1)).await;
    let others = group.end_preparations(Outcome::Ready);
    assert!(
        others.iter().all(|step| !unfit.contains(step)),
        "{others:?}"
    );
    pass(Duration::from_secs(1)).await;
    assert_eq!(group.owned_by(B), 50);
    let streams = group.streams();
    let working = Heartbeat {
        streams,
        ..heartbeat(B)
    };
    controller.heartbeat(working).await;
    pass(Duration::from_millis(100)).await;
    let lags = controller.observed().await.unwrap().streams;
    assert_eq!(lags.len(), 50);
    let expected = Duration::from_millis(107);
    assert!(lags.values().all(|lag| *lag == expected));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_stops_keeps_its_shards_until_others_are_ready() {
    let group = Group::new(2, 4);
    let controller = group.start();
    keep_alive(&controller, A);
    let beats = keep_alive(&controller, B);
    group.until_all_owned().await;
    pass(Duration::from_secs(1)).await;
    group.hold_receivers();
    beats.abort();
    let leave = async || {
        let last = Heartbeat {
            leaving: true,
            ..heartbeat(B)
        };
        let lease = controller.heartbeat(last).await;
        assert!(lease.is_some(), "it publishes still");
    };
    let stays_for = async |time: Duration| {
        for _ in 0..4 {
            leave().await;
            pass(time / 4).await;
        }
        leave().await;
    };
    stays_for(HANDOVER_TIMEOUT / 2).await;
    assert_eq!(group.owned_by(B), 2);
    let step = group.preparing.lock().unwrap().remove(0);
    step.1.send(Outcome::Ready).unwrap();
    pass(Duration::from_millis(1)).await;
    assert_eq!(group.owned_by(B), 1);
    // The other receiver does not answer in time: the owner stops anyway.
    stays_for(HANDOVER_TIMEOUT / 2).await;
    group.until_owned_by(A).await;
    let last = group.proposals().pop().unwrap();
    assert!(last.iter().all(|step| step.reason == MoveReason::Handover));
}

#[tokio::test(start_paused = true)]
async fn a_shard_moves_to_a_replica_that_can_reach_its_cluster() {
    let group = Group::new(2, 2);
    let controller = group.start();
    keep_alive(&controller, A);
    keep_alive(&controller, B);
    group.until_all_owned().await;
    pass(Duration::from_secs(1)).await;
    group.hold_receivers();
    let report = |group: &Group, replica: ReplicaId| {
        group.change(|state| {
            let own = |it: &&Assignment| it.owner() == Some(replica);
            let own = state.assignments.values().find(own).unwrap().clone();
            let (shard, epoch) = (own.shard(), own.epoch());
            let report = Command::ReportHealth {
                shard,
                epoch,
                condition: Condition::Unreachable,
                reason: "timeout".into(),
                at: UnixMillis(0),
            };
            apply(state, &report);
        });
    };
    report(&group, B);
    pass(Duration::from_millis(100)).await;
    // A cannot reach it either: the shard stays where it is.
    let tried = group.end_preparations(Outcome::Unfit);
    let [step] = &tried[..] else {
        panic!("{tried:?}");
    };
    assert_eq!((step.to, step.reason), (Some(A), MoveReason::Reachability));
    pass(Duration::from_secs(5)).await;
    assert_eq!(
        group.end_preparations(Outcome::Unfit),
        [],
        "it is passed over for a while"
    );
    assert_eq!(group.owned_by(B), 1);
    // The health says so, once for each reason that the owner reports.
    let health = || {
        let state = group.state();
        state.clusters[&step.shard.cluster].health.clone()
    };
    let confirmed = "timeout; no other replica can watch it either";
    assert_eq!(health().reason, confirmed);
    let proposals = group.proposed.lock().unwrap().len();
    pass(Duration::from_secs(1)).await;
    assert_eq!(group.proposed.lock().unwrap().len(), proposals);
    report(&group, B);
    assert_eq!(health().reason, "timeout");
    pass(Duration::from_millis(100)).await;
    assert_eq!(health().reason, confirmed);
    // It can later, and then B does not get the shard back to even the load.
    pass(Duration::from_secs(8)).await;
    assert_eq!(group.end_preparations(Outcome::Ready).len(), 1);
    pass(Duration::from_secs(1)).await;
    assert_eq!(group.owned_by(B), 1, "B has some time to reach it as well");
    pass(Duration::from_secs(5)).await;
    assert_eq!(group.owned_by(A), 2);
    // What the old owner reported says nothing of the new one, and B gets the other shard instead.
    pass(Duration::from_secs(1)).await;
    let even = group.end_preparations(Outcome::Ready);
    let [other] = &even[..] else {
        panic!("{even:?}");
    };
    assert_eq!(other.reason, MoveReason::Rebalance);
    assert!(other.shard != step.shard, "{other:?}");
}
