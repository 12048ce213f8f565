//! Panics in what serves one cluster: they cost that cluster time, and nobody anything else.

use std::time::Duration;

use quorumwatch::domain::{
    cluster::{Condition, Health},
    id::ReplicaId,
};

use crate::{
    api::{Manners, Panics},
    scenarios::{LARGE, catch_up, finish, subscribe},
    subscriber::Begin,
    world::World,
};

fn health(world: &World, cluster: &str) -> Health {
    world.cluster(cluster).unwrap().health
}

/// Waits until the cluster's health is so.
async fn eventually(world: &World, cluster: &str, what: impl Fn(&Health) -> bool) {
    for _ in 0..1_000 {
        if what(&health(world, cluster)) {
            return;
        }
        world.settle().await;
    }
    panic!("not so: {:?}", health(world, cluster));
}

fn panicked(times: &str) -> impl Fn(&Health) -> bool {
    move |health| {
        health.condition == Condition::Degraded
            && health.reason.contains("panicked")
            && health.reason.contains(times)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_what_serves_one_cluster_costs_that_cluster_time_and_nothing_else() {
    for place in [Panics::Call, Panics::Answer, Panics::Watch] {
        let mut world = World::new(80, LARGE).await;
        let mut subscriber = subscribe(&world, ReplicaId(1), Begin::Now).await;
        world.write("east", 20);
        world.write("west", 20);
        catch_up(&world, &mut subscriber).await;
        let owner = world.owner("east");
        let east = world.api("east");
        east.set_manners(Manners {
            close: 1_000,
            panics: Some(place),
            ..Manners::default()
        });
        world.write("east", 20);
        // It is tried again, and panics again, after pauses that grow.
        eventually(&world, "east", panicked("5 times")).await;
        assert_eq!(world.owner("east"), owner, "{place:?}");
        // The others of the same replica are watched meanwhile.
        assert_eq!(health(&world, "west").condition, Condition::Connected);
        let planted = east.faults()["panic"];
        tokio::time::sleep(Duration::from_secs(600)).await;
        let more = east.faults()["panic"] - planted;
        assert!((8..60).contains(&more), "{place:?}: {more} in ten minutes");
        east.set_manners(Manners::default());
        world.write("east", 20);
        finish(&world, &mut subscriber).await;
        assert!(subscriber.gaps().is_empty(), "{place:?}");
        eventually(&world, "east", |health| {
            health.condition == Condition::Connected
        })
        .await;
    }
}
