//! Planned moves and changed specifications: subscribers notice nothing.

use std::time::Duration;

use quorumwatch::{
    agent::prepare::PrepareError,
    domain::{
        assignment::MoveReason, cluster::Source, command::Move, delivery::item::Part, id::ReplicaId,
    },
};
use tokio::time::Instant;

use crate::{
    api::Manners,
    etcd::Write,
    group::Trouble,
    scenarios::{LARGE, catch_up, finish, has_seen, reset, subscribe},
    subscriber::{Begin, Subscriber},
    world::World,
};

/// More than it takes to hear of a commit and to read from another replica. What opens a watch first
/// needs two answers of an API server, of up to 20 ms each.
const UNNOTICED: Duration = Duration::from_millis(20);

/// A write, and how long it takes until the subscriber has it.
async fn time_of_one_write(world: &mut World, subscriber: &mut Subscriber) -> Duration {
    let before = subscriber.count(Part::Live);
    let written = Instant::now();
    write_to(world, "o1");
    subscriber
        .wait_for(Duration::from_secs(60), has_seen(Part::Live, before + 1))
        .await;
    written.elapsed()
}

fn write_to(world: &World, name: &str) {
    world.etcd("east").write(&Write {
        resource: "configmaps".into(),
        namespace: "ns1".into(),
        name: name.into(),
        tier: "a".into(),
        delete: false,
    });
}

/// So many writes take longer than opening other watches.
const SWITCHED: usize = 120;

/// Each of so many writes is with the subscriber soon.
async fn goes_unnoticed(world: &mut World, subscriber: &mut Subscriber, writes: usize) {
    for _ in 0..writes {
        let silence = time_of_one_write(world, subscriber).await;
        assert!(silence < UNNOTICED, "{silence:?}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// A replica that does not own `east`, to watch from.
fn bystander(world: &World, step: &Move) -> ReplicaId {
    let owner = world.owner("east");
    let mut running = world.running();
    running.retain(|replica| Some(*replica) != owner && Some(*replica) != step.to);
    running[0]
}

#[tokio::test(start_paused = true)]
async fn a_prepared_move_asks_the_api_server_for_nothing_and_is_not_noticed() {
    let mut world = World::new(70, LARGE).await;
    for round in 0..10 {
        let step = world.choose_move("east", MoveReason::Rebalance).unwrap();
        let mut subscriber = subscribe(&world, bystander(&world, &step), Begin::Now).await;
        world.write("east", 20);
        catch_up(&world, &mut subscriber).await;
        let prepared = world.prepare(&step);
        world.write("east", 3);
        assert_eq!(prepared.await, Ok(()));
        world.write("east", 3);
        let requests = world.api("east").requests();
        world.commit(step.clone());
        let silence = time_of_one_write(&mut world, &mut subscriber).await;
        assert!(silence < UNNOTICED, "round {round}: {silence:?}");
        assert_eq!(world.owner("east"), step.to);
        assert_eq!(world.api("east").requests(), requests, "round {round}");
        finish(&world, &mut subscriber).await;
        assert!(subscriber.gaps().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_cannot_reach_the_cluster_costs_nothing_but_the_attempt() {
    let mut world = World::new(71, LARGE).await;
    let mut step = world.choose_move("east", MoveReason::Rebalance).unwrap();
    let mut subscriber = subscribe(&world, bystander(&world, &step), Begin::Now).await;
    let api = world.api("east");
    api.set_manners(Manners {
        refuse: 1_000,
        ..Manners::default()
    });
    for reason in [MoveReason::Rebalance, MoveReason::Reachability] {
        step.reason = reason;
        let prepared = world.prepare(&step).await;
        assert!(
            matches!(prepared, Err(PrepareError::Unfit(_))),
            "{prepared:?}"
        );
    }
    api.set_manners(Manners::default());
    let silence = time_of_one_write(&mut world, &mut subscriber).await;
    assert!(silence < UNNOTICED, "{silence:?}");
    assert_eq!(world.prepare(&step).await, Ok(()));
    // An epoch that is over is not prepared.
    world.commit(step.clone());
    world.settle().await;
    assert_eq!(world.prepare(&step).await, Err(PrepareError::Stale));
    finish(&world, &mut subscriber).await;
}

#[tokio::test(start_paused = true)]
async fn watches_that_were_opened_in_an_era_that_is_over_are_not_published_from() {
    let mut world = World::new(72, LARGE).await;
    let step = world.choose_move("east", MoveReason::Rebalance).unwrap();
    let mut subscriber = subscribe(&world, bystander(&world, &step), Begin::Now).await;
    world.write("east", 20);
    assert_eq!(world.prepare(&step).await, Ok(()));
    // The owner loses its watch and begins another era; the receiver's is still open.
    world.write("east", 10);
    reset(&world, "east");
    let owner = world.owner("east").unwrap();
    world.crash(owner);
    world.start(owner);
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.write("east", 3);
    let state = world.group.now();
    let now = &state.assignments[&step.shard];
    world.commit(Move {
        epoch: now.epoch(),
        ..step
    });
    world.write("east", 3);
    finish(&world, &mut subscriber).await;
}

#[tokio::test(start_paused = true)]
async fn a_repair_never_begins_before_the_checkpoint_that_is_agreed_on() {
    let mut world = World::new(75, LARGE).await;
    let step = world.choose_move("east", MoveReason::Rebalance).unwrap();
    let mut subscriber = subscribe(&world, bystander(&world, &step), Begin::Now).await;
    world.write("east", 20);
    catch_up(&world, &mut subscriber).await;
    // What the owner publishes next is not agreed on yet when the receiver begins. Both find that
    // their watches cannot be continued, and wait for an era.
    world.group.set_trouble(Trouble {
        refuse: 1_000,
        ..Trouble::default()
    });
    time_of_one_write(&mut world, &mut subscriber).await;
    reset(&world, "east");
    world.write("east", 5);
    assert_eq!(world.prepare(&step).await, Ok(()));
    world.agree_on_checkpoints("east");
    world.group.set_trouble(Trouble::default());
    world.commit(step);
    finish(&world, &mut subscriber).await;
}

#[tokio::test(start_paused = true)]
async fn prepared_watches_are_closed_where_no_move_follows() {
    let mut world = World::new(73, LARGE).await;
    let step = world.choose_move("east", MoveReason::Rebalance).unwrap();
    let watches = |world: &World| world.api("east").open_watches();
    let before = watches(&world);
    assert_eq!(world.prepare(&step).await, Ok(()));
    // Twice is once.
    assert_eq!(world.prepare(&step).await, Ok(()));
    assert_eq!(watches(&world), 2 * before);
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert_eq!(watches(&world), before);
    // The shard goes to another replica.
    assert_eq!(world.prepare(&step).await, Ok(()));
    let other = bystander(&world, &step);
    world.commit(Move {
        to: Some(other),
        ..step
    });
    world.settle().await;
    assert_eq!(watches(&world), before);
}

#[tokio::test(start_paused = true)]
async fn a_changed_source_is_watched_before_the_old_one_is_left() {
    let mut world = World::new(74, LARGE).await;
    let step = world.choose_move("east", MoveReason::Rebalance).unwrap();
    let mut subscriber = subscribe(&world, bystander(&world, &step), Begin::Now).await;
    for name in ["eu", "us", "eu"] {
        world.write("east", 5);
        catch_up(&world, &mut subscriber).await;
        let source = Source::Configured { name: name.into() };
        world.update("east", |spec| spec.source = source);
        goes_unnoticed(&mut world, &mut subscriber, SWITCHED).await;
    }
    finish(&world, &mut subscriber).await;
    assert!(subscriber.gaps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_changes_again_while_it_is_opened_is_watched_before_the_old_one_is_left() {
    let mut world = World::new(75, LARGE).await;
    let step = world.choose_move("east", MoveReason::Rebalance).unwrap();
    let mut subscriber = subscribe(&world, bystander(&world, &step), Begin::Now).await;
    for (name, writes) in [("eu", 3), ("us", 30), ("eu", SWITCHED)] {
        let source = Source::Configured { name: name.into() };
        world.update("east", |spec| spec.source = source);
        goes_unnoticed(&mut world, &mut subscriber, writes).await;
    }
    finish(&world, &mut subscriber).await;
    assert!(subscriber.gaps().is_empty());
}
