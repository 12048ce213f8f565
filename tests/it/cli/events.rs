//! `events`: formats, filters, and what becomes of the lines.

use std::fs::{self, File};

use nix::sys::signal::Signal;

use super::{Cli, Told, ended};
use crate::harness::{PATIENCE, World, WorldOptions};

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_lost_or_repeated_across_kills_and_runs() {
    let mut world = World::start_with(WorldOptions {
        clusters: 3,
        ..WorldOptions::default()
    })
    .await;
    let truth = world.subscriber(2).await;
    world.begin(200.0);
    let cli = Cli::of(&world.group, 0);
    let mut told = Told::default();
    let mut running = cli.start("events -o jsonl --cursor-file seen");
    // Lines that are no events, as of streams that were added, do not count.
    while told.count() < 100 {
        told.take(&running.line().await);
    }
    world.group.replicas[0].kill();
    running.says("takeover", |line| told.take(line)).await;
    let before = told.count();
    while told.count() < before + 200 {
        told.take(&running.line().await);
    }
    let first = running.interrupt().await;
    assert_eq!(first.code, 0, "{}", first.stderr);
    told.take_all(&first.stdout);
    for said in ["disconnected", "resumed at", "takeover"] {
        assert!(first.stderr.contains(said), "{said}: {}", first.stderr);
    }
    // The first replica is gone, and the file says where to go on.
    let second = cli
        .run("events -o jsonl --cursor-file seen --limit 200")
        .await;
    assert_eq!(second.code, 0, "{}", second.stderr);
    told.take_all(&second.stdout);
    // What cannot be written does not count as seen.
    let mut full = cli.command("events -o jsonl --cursor-file seen");
    full.stdout(File::options().write(true).open("/dev/full").unwrap());
    ended(full)
        .await
        .failed(1, "write the output: No space left on device");
    let third = cli
        .run("events -o jsonl --cursor-file seen --limit 50")
        .await;
    told.take_all(&third.stdout);
    world.expect_exactly_once(&truth).await;
    told.expect_unbroken(&truth.record().events);
    assert!(told.count() >= 550, "{}", told.count());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_shows_the_same_and_every_end_is_in_order() {
    let mut world = World::start_with(WorldOptions {
        clusters: 1,
        replicas: 1,
        ..WorldOptions::default()
    })
    .await;
    let truth = world.subscriber(0).await;
    world.begin(200.0);
    world.flows(&truth, 200).await;
    let cli = Cli::of(&world.group, 0);
    world.end().await;
    formats(&cli).await;
    filters(&cli).await;
    world.begin(600.0);
    // The reader leaves, as `head -1` does.
    let mut running = cli.start("events");
    assert!(running.line().await.starts_with("CLUSTER"));
    let (mut child, lines) = (running.child, running.lines);
    drop(lines);
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
    // Nobody reads: the first Ctrl-C waits for the output, the second does not.
    let mut running = cli.start("events -o jsonl --snapshot --cursor-file stuck");
    running.line().await;
    // Far more than pipes and buffers hold.
    world.flows(&truth, 1_000).await;
    running.signal(Signal::SIGINT);
    world.flows(&truth, 100).await;
    running.signal(Signal::SIGINT);
    let ended = tokio::time::timeout(PATIENCE, running.child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(130));
}

/// The events among the frames that were printed.
fn events_in(printed: &str) -> Vec<serde_json::Value> {
    let documents = serde_json::Deserializer::from_str(printed).into_iter();
    let frames = documents.map(Result::<serde_json::Value, _>::unwrap);
    frames
        .filter_map(|frame| frame.get("event").cloned())
        .collect()
}

/// The object of an event, which is JSON text in it.
fn object_of(event: &serde_json::Value) -> serde_json::Value {
    serde_json::from_str(event["objectJson"].as_str().unwrap()).unwrap()
}

async fn formats(cli: &Cli) {
    let run = async |format: &str| {
        let line = format!("events --snapshot --limit 3 -o {format}");
        let ran = cli.run(&line).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        ran.stdout
    };
    let table = run("table").await;
    assert!(table.starts_with("CLUSTER"), "{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(
        !table.contains('\u{1b}'),
        "colours are for terminals: {table}"
    );
    assert!(run("wide").await.contains("FIRST SEEN"));
    let lines = run("jsonl").await;
    assert!(lines.lines().all(|line| line.starts_with('{')), "{lines}");
    let (lines, indented) = (events_in(&lines), events_in(&run("json").await));
    assert_eq!((lines.len(), indented.len()), (3, 3));
    assert_eq!(lines[0]["object"], indented[0]["object"]);
    let yaml = run("yaml").await;
    assert_eq!(
        yaml.lines().filter(|line| *line == "event:").count(),
        3,
        "{yaml}"
    );
    let cursors = run("cursor").await;
    let last = cursors.lines().last().unwrap();
    fs::write(cli.home().join("c"), last).unwrap();
    let ran = cli.run("events --cursor-file c --duration 100ms").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let painted = cli
        .run("events --snapshot --limit 1 --color always")
        .await
        .stdout;
    assert!(painted.contains("\u{1b}[1mCLUSTER"), "{painted}");
}

async fn filters(cli: &Cli) {
    for (line, field, value) in [
        ("--type warning", "type", "Warning"),
        ("--types Warning", "type", "Warning"),
        ("--field-selector type=Warning", "type", "Warning"),
        ("--field-selector type!=Normal -A", "type", "Warning"),
        ("--reason BackOff", "reason", "BackOff"),
        (
            "--field-selector reason=BackOff,involvedObject.kind=Pod",
            "reason",
            "BackOff",
        ),
    ] {
        let line = format!("events --snapshot --limit 3 -o jsonl {line}");
        let ran = cli.run(&line).await;
        let events = events_in(&ran.stdout);
        assert_eq!((ran.code, events.len()), (0, 3), "{line}: {ran:?}");
        for event in events {
            assert_eq!(object_of(&event)[field], value, "{line}");
        }
    }
    // An object by its name, as `kubectl events --for` has it.
    let any = cli.run("events --snapshot --limit 1 -o jsonl").await.stdout;
    let any = object_of(&events_in(&any)[0]);
    let name = any["involvedObject"]["name"].as_str().unwrap();
    let line = format!("events --snapshot --limit 1 -o jsonl --for pods/{name}");
    assert!(cli.run(&line).await.stdout.contains(name));
}
