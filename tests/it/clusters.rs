//! Clusters come, change and go while the group runs.

use std::time::Duration;

use quorumwatch::{
    proto::v1::{Cluster, ClusterCondition, ResourceSelector, ShardPhase},
    sim::{Fault, Manifest},
};
use tonic::Code;

use crate::harness::{PATIENCE, Record, Recorder, World, WorldOptions, holds, masked_update};

/// How soon a change must take effect.
const EFFECT: Duration = Duration::from_secs(1);

/// How long health may take: it is reported once a failure is more than a hiccup.
const DIAGNOSIS: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_created_is_watched_and_one_that_is_deleted_is_not() {
    let (world, recorder) = one_of_three_watched().await;
    let client = world.group.replicas[1].client();
    client.create(world.described("sim-2")).await.unwrap();
    watches(&world, 1).await;
    world.group.owned(2).await;
    write_event(&world, "one");
    recorder.sees("its events flow", EFFECT, seen("one")).await;
    assert_eq!(recorder.record().gaps, []);

    client.delete("sim-2").await.unwrap();
    watches(&world, 0).await;
    let gone = [
        client.cluster("sim-2").await.unwrap_err(),
        client.shard("sim-2").await.unwrap_err(),
        client.delete("sim-2").await.unwrap_err(),
    ];
    assert_eq!(gone.map(|status| status.code()), [Code::NotFound; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_changed_where_nobody_else_changed_it_meanwhile() {
    let (world, _) = one_of_three_watched().await;
    let client = world.group.replicas[2].client();
    let created = client.create(world.described("sim-2")).await.unwrap();
    watches(&world, 1).await;
    let mut changed = Cluster {
        name: "sim-2".into(),
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        resources: ["v1/events", "v1/configmaps"].map(selector).to_vec(),
        etag: created.etag,
        ..Cluster::default()
    };
    let update = masked_update(changed.clone(), "resources");
    let updated = client.update(update).await.unwrap();
    watches(&world, 2).await;
    let stale = masked_update(changed.clone(), "labels");
    let refused = client.update(stale).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused}");
    changed.etag = updated.etag;
    let update = masked_update(changed, "labels");
    let updated = client.update(update).await.unwrap();
    assert_eq!(updated.labels["env"], "prod");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_cluster_goes_on_where_it_stopped() {
    let (world, recorder) = one_of_three_watched().await;
    let client = world.group.client();
    client.create(world.described("sim-2")).await.unwrap();
    world.group.owned(2).await;
    let mut changed = Cluster {
        name: "sim-2".into(),
        paused: true,
        ..Cluster::default()
    };
    client
        .update(masked_update(changed.clone(), "paused"))
        .await
        .unwrap();
    watches(&world, 0).await;
    let shard = client.shard("sim-2").await.unwrap();
    assert_eq!(shard.phase(), ShardPhase::Unassigned, "{shard:?}");
    write_event(&world, "two");
    changed.paused = false;
    client
        .update(masked_update(changed, "paused"))
        .await
        .unwrap();
    recorder
        .sees("what happened meanwhile is delivered", EFFECT, seen("two"))
        .await;
    assert_eq!(recorder.record().gaps, []);
}

/// A group that watches one of three clusters, and a subscriber to everything.
async fn one_of_three_watched() -> (World, Recorder) {
    let options = WorldOptions {
        clusters: 3,
        ..WorldOptions::default()
    };
    let world = World::start_empty(options).await;
    world.monitor("sim-1").await;
    world.group.owned(1).await;
    let recorder = Recorder::all_from_now(world.group.endpoints_from(0));
    recorder.covers(1).await;
    (world, recorder)
}

/// Waits until so many streams of the second cluster are watched.
async fn watches(world: &World, count: usize) {
    let cluster = world.cluster("sim-2");
    let what = format!("{count} streams are watched");
    let took = holds(&what, EFFECT, async || cluster.open_watches() == count).await;
    eprintln!("{what} after {took:?}");
}

/// Whether an event of an object of this name was delivered.
fn seen(name: &str) -> impl Fn(&Record) -> bool + use<'_> {
    move |record| {
        let mut objects = record
            .events
            .iter()
            .filter_map(|event| event.object.as_ref());
        objects.any(|object| object.name == name)
    }
}

fn write_event(world: &World, name: &str) {
    let resource = quorumwatch::domain::cluster::Resource::events();
    let manifest = Manifest::new("default", name).member("reason", &"Tested".into());
    world.cluster("sim-2").create(&resource, &manifest).unwrap();
}

fn selector(resource: &str) -> ResourceSelector {
    ResourceSelector {
        resource: resource.to_owned(),
        ..ResourceSelector::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let world = World::start_with(WorldOptions {
        clusters: 1,
        replicas: 1,
        ..Default::default()
    })
    .await;
    let client = world.group.client();
    let again = client.create(world.described("sim-1")).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists, "{again}");
    let nameless = Cluster {
        name: String::new(),
        ..world.described("sim-1")
    };
    let refused = client.create(nameless).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let sourceless = Cluster {
        name: "s".into(),
        source: None,
        ..Cluster::default()
    };
    let refused = client.create(sourceless).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let unknown = masked_update(world.described("sim-1"), "colour");
    let refused = client.update(unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("colour"), "{refused}");
    // What was written reads back as it was written.
    let shown = client.cluster("sim-1").await.unwrap();
    assert_eq!(shown.source, world.described("sim-1").source);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_fails_shows_it_and_disturbs_nobody() {
    let mut world = World::start_with(WorldOptions {
        clusters: 4,
        ..Default::default()
    })
    .await;
    let recorder = world.subscriber(0).await;
    world.begin(100.0);
    world.flows(&recorder, 50).await;
    let faults = [
        ("sim-1", Fault::Unreachable, ClusterCondition::Unreachable),
        (
            "sim-2",
            Fault::Unauthorised,
            ClusterCondition::Unauthenticated,
        ),
        (
            "sim-3",
            Fault::Forbidden,
            ClusterCondition::PermissionDenied,
        ),
    ];
    for (name, fault, _) in faults {
        world.cluster(name).faults().set(fault);
        world.cluster(name).faults().set(Fault::CloseWatches);
    }
    let client = world.group.client();
    for (name, _, condition) in faults {
        let shows = async || {
            let health = client.cluster(name).await.unwrap().health.unwrap();
            health.condition() == condition && !health.reason.is_empty()
        };
        let took = holds("its health says so", DIAGNOSIS, shows).await;
        let reason = client.cluster(name).await.unwrap().health.unwrap().reason;
        eprintln!("{name}: {condition:?} after {took:?}: {reason}");
    }
    let told = |record: &Record| {
        let newest = record.events.iter().rev().take(20);
        newest.filter(|event| event.cluster == "sim-4").count() == 20
    };
    recorder
        .sees("only the healthy one is delivered", PATIENCE, told)
        .await;
    let healthy = client.cluster("sim-4").await.unwrap().health.unwrap();
    assert_eq!(healthy.condition(), ClusterCondition::Connected);
    for (name, ..) in faults {
        world.cluster(name).faults().clear_all();
    }
    for (name, ..) in faults {
        let shows = async || {
            let health = client.cluster(name).await.unwrap().health.unwrap();
            health.condition() == ClusterCondition::Connected
        };
        let took = holds("it is well again", PATIENCE, shows).await;
        eprintln!("{name}: well again after {took:?}");
    }
    world.expect_exactly_once(&recorder).await;
}
