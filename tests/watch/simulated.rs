//! The live watch against the simulated API server, with faults that only it can make.

use std::time::Duration;

use quorumwatch::{
    domain::{
        cluster::{Condition, Resource, StreamSelector},
        event::{Event, GapReason},
        position::ResourceVersion,
        stream::ResumePoint,
    },
    sim::{Fault, Fleet, FleetOptions, Manifest, SimCluster},
    watcher::{Signal, WatchPolicy},
};

use crate::harness::{Watched, policy, start_stream};

struct World {
    cluster: SimCluster,
    watched: Watched,
    _fleet: Fleet,
}

fn events() -> Resource {
    Resource::events()
}

/// Events of a simulated cluster, watched from its beginning.
async fn world(policy: WatchPolicy) -> World {
    let fleet = Fleet::start(FleetOptions::default()).await.unwrap();
    let cluster = fleet.cluster("sim").unwrap();
    let address = format!("http://{}/clusters/sim", fleet.address());
    let selector = StreamSelector::all(events());
    let mut watched = start_stream(&address, selector, ResumePoint::Fresh, policy);
    let Signal::EraNeeded { granted, .. } = watched.next().await else {
        panic!("a stream begins with an era")
    };
    granted.send(()).unwrap();
    watched.condition(Condition::Connected).await;
    World {
        cluster,
        watched,
        _fleet: fleet,
    }
}

impl World {
    fn write(&self, name: &str) -> ResourceVersion {
        let manifest = Manifest::new("default", name);
        self.cluster.create(&events(), &manifest).unwrap()
    }

    /// The next events, `count` of them, whatever is closed between them.
    async fn delivered(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            match self.watched.next().await {
                Signal::Events(more) => events.extend(more),
                Signal::Closed(_) => {}
                other => panic!("{other:?} instead of events"),
            }
        }
        assert_eq!(events.len(), count);
        events
    }
}

#[tokio::test]
async fn what_a_watch_keeps_back_until_it_is_cut_is_delivered_once() {
    let mut world = world(policy()).await;
    world.write("a");
    world.delivered(1).await;
    world.cluster.faults().set(Fault::HoldLines);
    let last = world.write("b");
    // Long enough for the position to be verified, which must not succeed.
    let quiet = tokio::time::timeout(Duration::from_secs(1), world.watched.next()).await;
    assert!(quiet.is_err(), "{quiet:?} while events are held back");
    world.cluster.faults().clear(Fault::HoldLines);
    let events = world.delivered(1).await;
    assert_eq!((events[0].name(), &events[0].rv), ("b", &last));
}

#[tokio::test]
async fn t1_a_quiet_stream_keeps_up_with_every_compaction() {
    let mut policy = policy();
    policy.session.quiet_ms = 300;
    let mut world = world(policy).await;
    for number in 0..4 {
        // Only what is written elsewhere moves the revision on.
        let manifest = Manifest::new("default", format!("other-{number}"));
        let maps = "v1/configmaps".parse().unwrap();
        let reached = world.cluster.create(&maps, &manifest).unwrap();
        loop {
            match world.watched.next().await {
                Signal::Closed(rv) if rv >= reached => break,
                Signal::Closed(_) => {}
                other => panic!("{other:?} on a quiet stream"),
            }
        }
        world.cluster.compact();
        world.cluster.faults().set(Fault::CloseWatches);
    }
    world.write("a");
    assert_eq!(world.delivered(1).await[0].name(), "a");
}

#[tokio::test]
async fn t4_a_rewind_that_is_overtaken_under_an_open_watch_is_noticed() {
    let mut policy = policy();
    policy.session.audit_ms = 300;
    let mut world = world(policy).await;
    for number in 0..60 {
        world.write(&format!("before-{number}"));
    }
    world.delivered(60).await;
    // Once it was verified, the last object is known to the verification.
    let verified = world.watched.watcher.verifications().agreed + 1;
    while world.watched.watcher.verifications().agreed < verified {
        tokio::task::yield_now().await;
    }
    let reached = world.cluster.current_rv().as_u64().unwrap();
    world.cluster.rewind(&(reached - 50).into()).unwrap();
    for number in 0..100 {
        world.write(&format!("after-{number}"));
    }
    loop {
        match world.watched.next().await {
            Signal::Events(_) | Signal::Closed(_) => {}
            Signal::EraNeeded { reason, .. } => {
                assert_eq!(reason, GapReason::HistoryReset);
                break;
            }
            other => panic!("{other:?} instead of an era"),
        }
    }
}

#[tokio::test]
async fn t11_each_event_that_is_dropped_is_noticed() {
    let mut policy = policy();
    policy.session.audit_ms = 300;
    let mut world = world(policy).await;
    world.cluster.faults().set_times(Fault::DropEvent(10), 1);
    for number in 0..30 {
        world.write(&format!("event-{number}"));
    }
    world.delivered(29).await;
    loop {
        match world.watched.next().await {
            Signal::Closed(_) => {}
            Signal::EraNeeded { reason, .. } => {
                assert_eq!(reason, GapReason::UpstreamInconsistent);
                break;
            }
            other => panic!("{other:?} instead of an era"),
        }
    }
    assert_eq!(world.watched.watcher.verifications().lost, 1);
}

/// What the verifications of one stream cost, for the table in `src/docs/operations.md`.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "it is read by people")]
#[ignore = "a measurement: cargo test --test watch -- --ignored --nocapture what_verification_costs"]
async fn what_verification_costs() {
    for objects in [100, 10_000] {
        let mut policy = policy();
        policy.page_items = WatchPolicy::default().page_items;
        policy.session.audit_ms = 500;
        let mut world = world(policy).await;
        for number in 0..objects {
            // Labels stand for the managed fields of a real Event, whose metadata is as long.
            let mut manifest =
                Manifest::new("default", format!("web-{number:08x}.17a8b3c4d5e6f708"));
            for field in 0..6 {
                manifest
                    .labels
                    .insert(format!("field-{field}"), "x".repeat(60));
            }
            world.cluster.create(&events(), &manifest).unwrap();
        }
        world.delivered(objects).await;
        let verifications = async |agreed: u64| {
            loop {
                let counted = world.watched.watcher.verifications();
                if counted.agreed >= agreed {
                    return counted;
                }
                tokio::task::yield_now().await;
            }
        };
        let first = world.watched.watcher.verifications().agreed + 1;
        let before = verifications(first).await;
        let after = verifications(first + 1).await;
        let (requests, bytes) = (after.requests - before.requests, after.bytes - before.bytes);
        assert_eq!(after.lists - before.lists, 1);
        println!(
            "{objects} objects: {requests} requests and {} KiB for a list, {} bytes for an object",
            bytes / 1024,
            bytes / objects as u64
        );
        for (what, seconds) in [("quiet", 126), ("busy", 330)] {
            println!(
                "  {what}, every {seconds} s: {} requests and {:.1} MiB in an hour",
                requests * 3_600 / seconds,
                bytes as f64 * 3_600.0 / seconds as f64 / 1_048_576.0
            );
        }
    }
}
