//! A StatefulSet's life, as its manifest says: pods start together, are probed, die, come back with
//! another address under their names, and are stopped.

use std::time::Duration;

use tonic_health::pb::health_check_response::ServingStatus;

use crate::{can_run, layout::expect_no_privilege, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_alive_while_they_wait_and_ready_once_they_are_a_group() {
    if !can_run("probes of pods") {
        return;
    }
    let mut world = World::prepare().await;
    world.launch(0);
    world.launch(1);
    for index in [0, 1] {
        for probe in ["startupProbe", "livenessProbe"] {
            world.probes(index, probe, ServingStatus::Serving).await;
        }
        world
            .probes(index, "readinessProbe", ServingStatus::NotServing)
            .await;
    }
    world.launch(2);
    world.ready().await;

    // Without a quorum, the one that is left is alive, and not ready: be it the leader that has lost
    // its followers, or a follower.
    let leader = world.leader(0).await;
    for last in [leader, (leader + 1) % 3] {
        let killed: Vec<_> = (0..3).filter(|index| *index != last).collect();
        for index in &killed {
            world.kill(*index);
        }
        world
            .probes(last, "readinessProbe", ServingStatus::NotServing)
            .await;
        world
            .probes(last, "livenessProbe", ServingStatus::Serving)
            .await;
        let group = world.client(last).group().await.unwrap();
        assert_eq!(group.leader, "", "{group:?}");
        assert!(!group.has_quorum && !group.problem.is_empty(), "{group:?}");
        for index in killed {
            world.launch(index);
        }
        world.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_die_move_and_stop_and_nothing_is_lost() {
    if !can_run("deaths and moves of pods") {
        return;
    }
    let mut world = World::start().await;
    let user = world.template.user();
    for pod in &world.pods {
        expect_no_privilege(pod.process.as_ref().unwrap().id(), user);
    }
    let leader = world.leader(0).await;
    let (first, second) = ((leader + 1) % 3, (leader + 2) % 3);
    let recorder = world.subscriber(second).await;
    world.begin();
    world.flows(&recorder, 100).await;

    // Its container is killed, and started again in the same pod.
    world.kill(first);
    let moved = world.without(first, leader).await;
    world.launch(first);
    world.ready().await;
    world.catches_up(&recorder).await;
    eprintln!("a container was killed: its shards moved after {moved:?}");

    // The pod itself is gone with its address, and another one has its name.
    world.evict(first);
    let moved = world.without(first, leader).await;
    world.launch(first);
    let back = world.ready().await;
    let owns = world.pods[first].name.clone();
    let shards = async || {
        let shards = world.client(leader).shards().await.unwrap_or_default();
        shards.iter().any(|shard| shard.owner == owns)
    };
    let rebalanced = crate::wait::holds("it owns shards again", crate::PATIENCE, shards).await;
    world.catches_up(&recorder).await;
    eprintln!(
        "a pod was deleted: its shards moved after {moved:?}; at its new address it was healthy \
         {back:?} after it was ready, and owned shards {rebalanced:?} later"
    );

    // The leader's pod is deleted as well.
    world.evict(leader);
    let moved = world.without(leader, second).await;
    world.launch(leader);
    world.ready().await;
    world.catches_up(&recorder).await;
    eprintln!("the leader's pod was deleted: its shards moved after {moved:?}");

    // A rolling update: each in turn, as the kubelet stops it.
    let grace = world.template.grace();
    for index in (0..3).rev() {
        let process = world.pods[index].process.as_mut().unwrap();
        let (status, took) = process.terminate(grace).await;
        assert!(status.success(), "{status}: {}", process.log());
        world.kill(index);
        world.launch(index);
        world.ready().await;
        eprintln!("a planned stop took {took:?} of {grace:?}");
    }
    let delivered = world.expect_exactly_once(&recorder).await;
    eprintln!("{delivered} events, none lost, none twice, no gap");
    stop_all(&mut world, grace).await;
}

/// The StatefulSet is deleted: no replica is left to take anything over.
async fn stop_all(world: &mut World, grace: Duration) {
    let pods = world.pods.iter_mut();
    let stopping = pods.map(|pod| pod.process.as_mut().unwrap().terminate(grace));
    for (status, took) in futures::future::join_all(stopping).await {
        assert!(status.success(), "{status}");
        eprintln!("stopped with all the others after {took:?}");
    }
}
