//! Clusters that their owners cannot reach.

use super::*;

/// The condition of a shard's cluster, as its owner sees it.
fn report(group: &Group, shard: ShardId, condition: Condition) {
    group.change(|state| {
        let report = Command::ReportHealth {
            shard,
            epoch: state.assignments[&shard].epoch(),
            condition,
            reason: "timeout".into(),
            at: UnixMillis(0),
        };
        apply(state, &report);
    });
}

fn shards_of(group: &Group, replica: ReplicaId) -> Vec<ShardId> {
    let state = group.state();
    let owned = state.assignments.values();
    owned
        .filter(|it| it.owner() == Some(replica))
        .map(Assignment::shard)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn many_clusters_that_are_down_are_tried_a_few_at_a_time_and_nothing_moves() {
    let group = Group::new(3, 300);
    let controller = group.start();
    for replica in 1..=3 {
        keep_alive(&controller, ReplicaId(replica));
    }
    group.until_all_owned().await;
    pass(Duration::from_secs(1)).await;
    group.hold_receivers();
    let before = group.state().assignments.clone();
    for replica in 1..=3 {
        for shard in shards_of(&group, ReplicaId(replica)) {
            report(&group, shard, Condition::Unreachable);
        }
    }
    let mut tried = 0;
    loop {
        pass(Duration::from_millis(100)).await;
        let ended = group.end_preparations(Outcome::Unfit);
        if ended.is_empty() {
            break;
        }
        assert!(ended.len() <= 16, "{} at a time", ended.len());
        tried += ended.len();
    }
    assert_eq!(tried, 600, "each of the other replicas once");
    let state = group.state();
    let healths = state.clusters.values().map(|cluster| &cluster.health);
    assert_eq!(healths.filter(|it| it.is_confirmed_outage()).count(), 300);
    let owner = |it: &Assignment| (it.shard(), it.epoch(), it.owner());
    let now = state.assignments.values().map(owner);
    assert!(now.eq(before.values().map(owner)));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_comes_and_goes_makes_shards_return_later_each_time() {
    let group = Group::new(2, 2);
    let controller = group.start();
    keep_alive(&controller, A);
    keep_alive(&controller, B);
    group.until_all_owned().await;
    let epochs = |group: &Group| {
        let state = group.state();
        let epochs = state.assignments.values().map(|it| it.epoch().0);
        epochs.sum::<u64>()
    };
    let before = epochs(&group);
    // An hour in which B cannot reach anything for 5 of 20 seconds.
    for _ in 0..180 {
        for shard in shards_of(&group, B) {
            report(&group, shard, Condition::Unreachable);
        }
        pass(Duration::from_secs(5)).await;
        for shard in shards_of(&group, B) {
            report(&group, shard, Condition::Connected);
        }
        pass(Duration::from_secs(15)).await;
    }
    let moves = epochs(&group) - before;
    assert!((4..60).contains(&moves), "{moves} moves in an hour");
}
