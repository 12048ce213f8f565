//! The consumers of deploy/clients, judged by what is in their databases in the end.
//!
//! `tests/clients/run.sh` builds them, says which there are, and runs these tests.

mod consumer;
mod database;

use std::time::Duration;

use nix::sys::signal::Signal;
use quorumwatch::sim::{AuditReport, LoadOptions};

use self::consumer::Consumer;
use crate::harness::{Options, PATIENCE, Replica, World, WorldOptions, holds};

/// How often consumers stand still until all have been closed as too slow: a replica that is busy
/// itself may not have noticed.
const ROUNDS_MAX: usize = 5;

/// The languages to judge, by commas.
const LANGUAGES: &str = "QUORUMWATCH_CLIENTS";

/// What each logs once a replica serves it, before the replica's address.
const FOLLOWING: &str = "following at ";

/// A consumer in each language, served by the replica at `seat` first.
fn consumers(world: &World, seat: usize) -> Vec<Consumer> {
    let languages = std::env::var(LANGUAGES).expect("tests/clients/run.sh says what it has built");
    let replicas = &world.group.replicas;
    let turns = (0..replicas.len()).map(|turn| &replicas[(seat + turn) % replicas.len()]);
    let ports: Vec<_> = turns.map(|replica| replica.client_port).collect();
    let languages = languages.split(',');
    languages
        .map(|language| Consumer::new(language, &ports))
        .collect()
}

/// Kills the replica that serves, an owner, the leader, and the consumers themselves, all under load.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs what tests/clients/run.sh builds"]
async fn consumers_outlive_kills() {
    let mut world = World::start().await;
    let seat = (world.group.leader().await + 1) % 3;
    // Once the replica serves everything, it serves everything to the consumers too.
    world.subscriber(seat).await;
    let mut consumers = consumers(&world, seat);
    for consumer in &mut consumers {
        consumer.start_and_follow().await;
    }
    world.begin(200.0);
    all_grow(&consumers, 100).await;

    let serving = serving(&world, &consumers[0]);
    kill_and_restart(&mut world, &consumers, serving).await;
    let owner = world.group.owner_besides_leader().await;
    kill_and_restart(&mut world, &consumers, owner).await;
    let leader = world.group.leader().await;
    kill_and_restart(&mut world, &consumers, leader).await;

    for _ in 0..3 {
        for consumer in &mut consumers {
            consumer.kill();
            let before = consumer.database().events();
            consumer.start();
            consumer.grows(100).await;
            assert!(consumer.database().events() > before, "the past is gone");
        }
    }

    world.end().await;
    for consumer in &mut consumers {
        let report = complete(&world, consumer).await;
        assert!(report.is_clean() && report.gaps == 0, "{report:#?}");
        assert_eq!(report.produced, report.delivered);
    }
}

async fn kill_and_restart(world: &mut World, consumers: &[Consumer], victim: usize) {
    let served: Vec<_> = consumers
        .iter()
        .filter(|consumer| serving(world, consumer) == victim)
        .map(|consumer| (consumer, consumer.logged(FOLLOWING)))
        .collect();
    world.group.replicas[victim].kill();
    for (consumer, followed) in served {
        consumer.logs(FOLLOWING, followed + 1).await;
    }
    all_grow(consumers, 200).await;
    world.group.launch(victim);
    world.group.whole().await;
    all_grow(consumers, 100).await;
}

async fn all_grow(consumers: &[Consumer], events: u64) {
    for consumer in consumers {
        consumer.grows(events).await;
    }
}

/// Ends a consumer once it has everything, and judges what it saved.
async fn complete(world: &World, consumer: &mut Consumer) -> AuditReport {
    let language = consumer.language.clone();
    holds(
        &format!("{language} has everything"),
        PATIENCE,
        async || world.is_complete(&consumer.database().record()),
    )
    .await;
    // Nothing that it does at its end counts: the last moment is like any other.
    consumer.kill();
    let record = consumer.database().record();
    assert_eq!(record.not_after, 0, "{language}");
    let report = world.report(&record);
    eprintln!(
        "{language}: produced {} delivered {} lost {} duplicated {} out of order {} corrupted {} \
         gaps {} declared {} in snapshots {}; followed {} times",
        report.produced,
        report.delivered,
        report.lost,
        report.duplicated,
        report.out_of_order,
        report.corrupted,
        report.gaps,
        report.declared,
        report.snapshot,
        consumer.logged(FOLLOWING),
    );
    report
}

/// A consumer that stands still is closed as too slow and resumes; one whose cursor is too old learns
/// what is missing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs what tests/clients/run.sh builds"]
async fn slow_and_late_consumers_lose_nothing_in_silence() {
    let mut world = World::start_with(WorldOptions {
        clusters: 1,
        replicas: 1,
        group: Options {
            config: "[limits]\nslow_subscriber_ms = 300\n\
                     ring_bytes = 65536\n"
                .into(),
        },
    })
    .await;
    world.subscriber(0).await;
    let mut consumers = consumers(&world, 0);
    for consumer in &mut consumers {
        consumer.start_and_follow().await;
    }
    world.begin(50.0);
    all_grow(&consumers, 20).await;
    world.end().await;

    stand_still_until_closed(&world, &consumers).await;
    for consumer in &mut consumers {
        let report = complete(&world, consumer).await;
        assert!(report.is_clean() && report.gaps == 0, "{report:#?}");
    }

    world.begin(200.0);
    let missed = world.produced() + 100;
    holds("the consumers miss something", PATIENCE, async || {
        world.produced() >= missed
    })
    .await;
    world.end().await;
    world.cluster("sim-1").compact();
    for consumer in &mut consumers {
        consumer.start();
        let report = complete(&world, consumer).await;
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!(report.gaps, 1);
        assert!(report.declared > 0 && report.snapshot > 0, "{report:#?}");
    }
}

async fn stand_still_until_closed(world: &World, consumers: &[Consumer]) {
    let is_closed = |consumer: &Consumer| consumer.logged("read nothing") > 0;
    for round in 1.. {
        assert!(round <= ROUNDS_MAX, "not all are closed as too slow");
        for consumer in consumers {
            consumer.signal(Signal::SIGSTOP);
        }
        burst(world).await;
        for consumer in consumers {
            consumer.signal(Signal::SIGCONT);
        }
        // The Closing comes after all that was sent before.
        for consumer in consumers {
            let what = format!("{} has everything", consumer.language);
            holds(&what, PATIENCE, async || {
                world.is_complete(&consumer.database().record())
            })
            .await;
        }
        if consumers.iter().all(is_closed) {
            return;
        }
    }
}

/// More than all that waits between a replica and a consumer that stands still: 256 responses, and
/// what HTTP/2 lets a stream send ahead.
async fn burst(world: &World) {
    let load = world.fleet.load(LoadOptions {
        events_per_second: 2000.0,
        object_bytes: 4 * 1024,
        ..LoadOptions::default()
    });
    let wanted = world.produced() + 3000;
    holds("the burst has been written", PATIENCE, async || {
        world.produced() >= wanted
    })
    .await;
    load.stop().await;
    // poll: a consumer is slow only once it has taken nothing for 300 ms
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn serving(world: &World, consumer: &Consumer) -> usize {
    let port = consumer.serving_port();
    let serves = |replica: &Replica| replica.client_port == port;
    world.group.replicas.iter().position(serves).unwrap()
}
