//! The programs of deploy/clients, judged by what is in their files in the end.
//!
//! They are built by `tests/clients/run.sh`, which also runs these tests.

mod program;

use std::time::Duration;

use nix::sys::signal::Signal;
use quorumwatch::sim::LoadOptions;

use self::program::{Program, record_of};
use crate::harness::{Options, PATIENCE, Replica, World, WorldOptions, holds};

/// What an event takes in the file, at least: a rough measure of progress.
const LINE_BYTES: usize = 1000;

/// How often a program stands still until it is told: a replica that is busy itself may not have
/// noticed.
const ROUNDS_MAX: usize = 5;

/// Within this a program that is told to stop has stopped.
const STOP_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python: tests/clients/run.sh"]
async fn python_outlives_kills() {
    outlives_kills("python").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go: tests/clients/run.sh"]
async fn go_outlives_kills() {
    outlives_kills("go").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python: tests/clients/run.sh"]
async fn python_is_told_that_it_is_slow_and_of_a_gap() {
    is_told("python").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go: tests/clients/run.sh"]
async fn go_is_told_that_it_is_slow_and_of_a_gap() {
    is_told("go").await;
}

/// Kills whoever serves the program, an owner, the leader, and the program itself, all under load.
async fn outlives_kills(language: &str) {
    let mut world = World::start().await;
    let seat = (world.group.leader().await + 1) % 3;
    // Once the replica serves everything, it serves everything to the program too.
    world.subscriber(seat).await;
    let mut program = Program::new(language, &ports_from(&world, seat));
    program.start_and_follow().await;
    world.begin(200.0);
    program.grows(100 * LINE_BYTES).await;

    let serving = serving(&world, &program);
    kill_and_restart(&mut world, &mut program, serving).await;
    let owner = world.group.owner_besides_leader().await;
    kill_and_restart(&mut world, &mut program, owner).await;
    let leader = world.group.leader().await;
    kill_and_restart(&mut world, &mut program, leader).await;

    for _ in 0..3 {
        program.kill_while_writing();
        let counted = program.journal();
        program.start();
        program.grows(100 * LINE_BYTES).await;
        assert!(program.journal().starts_with(&counted), "the past changed");
    }

    world.end().await;
    let report = complete(&world, &mut program).await;
    assert!(report.is_clean() && report.gaps == 0, "{report:#?}");
    let log = program.log();
    eprintln!(
        "{language}: produced {} delivered {} lost {} duplicated {} out of order {} corrupted {}; \
         subscribed {} times",
        report.produced,
        report.delivered,
        report.lost,
        report.duplicated,
        report.out_of_order,
        report.corrupted,
        log.matches("following at").count(),
    );
    assert_eq!(report.produced, report.delivered);
}

async fn kill_and_restart(world: &mut World, program: &mut Program, victim: usize) {
    let followed = program.log().matches("following at").count();
    let was_serving = serving(world, program) == victim;
    world.group.replicas[victim].kill();
    if was_serving {
        program.logs("following at", followed + 1).await;
    }
    program.grows(200 * LINE_BYTES).await;
    world.group.launch(victim);
    world.group.whole().await;
    program.grows(100 * LINE_BYTES).await;
}

/// Stops the program once it has everything, and judges what it wrote.
async fn complete(world: &World, program: &mut Program) -> quorumwatch::sim::AuditReport {
    holds("the program has everything", PATIENCE, async || {
        world.is_complete(&record_of(&program.journal()))
    })
    .await;
    let status = program.terminate(STOP_WITHIN).await;
    assert!(status.success(), "{status}");
    let record = record_of(&program.journal());
    assert_eq!(record.not_after, 0);
    world.report(&record)
}

/// A program that stands still is told so, and one whose cursor is too old is told what is missing.
async fn is_told(language: &str) {
    let mut world = World::start_with(WorldOptions {
        clusters: 1,
        replicas: 1,
        group: Options {
            config: "[limits]\nslow_subscriber_ms = 300\n\
                     ring_bytes = 65536\nhub_ring_bytes = 65536\n"
                .into(),
        },
    })
    .await;
    world.subscriber(0).await;
    let mut program = Program::new(language, &ports_from(&world, 0));
    program.start_and_follow().await;
    world.begin(50.0);
    program.grows(20 * LINE_BYTES).await;
    world.end().await;

    let followed = program.log().matches("following at").count();
    for round in 1.. {
        assert!(round <= ROUNDS_MAX, "it is never told that it is slow");
        program.signal(Signal::SIGSTOP);
        burst(&world).await;
        program.signal(Signal::SIGCONT);
        // What it is told comes after all that was sent before.
        holds("the program has everything", PATIENCE, async || {
            world.is_complete(&record_of(&program.journal()))
        })
        .await;
        if program.log().contains("too slow") {
            break;
        }
    }
    program.logs("following at", followed + 1).await;
    let report = complete(&world, &mut program).await;
    assert!(report.is_clean() && report.gaps == 0, "{report:#?}");

    world.begin(200.0);
    let missed = world.produced() + 100;
    holds("the program misses something", PATIENCE, async || {
        world.produced() >= missed
    })
    .await;
    world.end().await;
    world.cluster("sim-1").compact();
    program.start();
    program.logs("gap in sim-1 v1/events", 1).await;
    let report = complete(&world, &mut program).await;
    eprintln!("{language}: {report:?}");
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.gaps, 1);
    assert!(report.declared > 0 && report.snapshot > 0, "{report:#?}");
}

/// More than all that waits between a replica and a program that stands still: 256 responses, and
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
    // poll: a program is slow only once it has taken nothing for 300 ms
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn ports_from(world: &World, first: usize) -> Vec<u16> {
    let replicas = &world.group.replicas;
    let turns = (0..replicas.len()).map(|turn| &replicas[(first + turn) % replicas.len()]);
    turns.map(|replica| replica.client_port).collect()
}

fn serving(world: &World, program: &Program) -> usize {
    let port = program.serving_port();
    let serves = |replica: &Replica| replica.client_port == port;
    world.group.replicas.iter().position(serves).unwrap()
}
