//! Streams that begin, end and change while a subscriber is connected, or away: each row of the
//! table in `src/docs/guarantees.md`.

use std::{collections::BTreeSet, time::Duration};

use quorumwatch::{
    client::Begin,
    domain::{cluster::Resource, position::ResourceVersion},
    proto::v1::{
        ClosingReason, Cluster, ClusterCondition, Filter, FromSnapshot, GapReason,
        ResourceSelector, StreamChangeReason as Why, StreamChangeType as What, SubscribeRequest,
        Until, subscribe_request::From, subscribe_response::Frame,
    },
    sim::{Fault, Manifest, SimCluster},
};

use crate::harness::{
    CONFIGMAPS, EVENTS, PATIENCE, Record, Recorder, World, WorldOptions, eventually, holds,
    masked_update,
};

/// A cluster is created, changed or removed, and subscribers notice.
const EFFECT: Duration = Duration::from_secs(20);

/// One cluster of two, watched, with the label `env=prod`.
async fn world() -> World {
    let options = WorldOptions {
        clusters: 2,
        replicas: 1,
        ..WorldOptions::default()
    };
    let world = World::start_empty(options).await;
    world.monitor_as("sim-1", &[("env", "prod")]).await;
    world.group.owned(1).await;
    world
}

fn prod() -> Filter {
    Filter {
        cluster_selector: "env=prod".into(),
        ..Filter::default()
    }
}

fn write(world: &World, cluster: &str, name: &str) {
    write_in(world, cluster, "default", name);
}

fn write_in(world: &World, cluster: &str, namespace: &str, name: &str) {
    let manifest = Manifest::new(namespace, name).member("reason", &"Tested".into());
    let cluster = world.cluster(cluster);
    cluster.create(&Resource::events(), &manifest).unwrap();
}

async fn subscribe(world: &World, filter: Filter, begin: Begin) -> Recorder {
    let recorder = Recorder::start(world.group.endpoints_from(0), filter, begin);
    recorder
        .sees("the subscription is up to date", PATIENCE, |record| {
            record.is_current
        })
        .await;
    recorder
}

/// How often events of these names were sent.
fn times(record: &Record, names: &[&str]) -> Vec<usize> {
    let named = |name: &str| {
        let events = record.events.iter();
        let objects = events.filter_map(|event| event.object.as_ref());
        objects.filter(|object| object.name == name).count()
    };
    names.iter().map(|name| named(name)).collect()
}

async fn sees_event(recorder: &Recorder, name: &str) {
    let what = format!("event {name} arrives");
    recorder
        .sees(&what, EFFECT, |record| times(record, &[name]) != [0])
        .await;
}

/// The changes of streams after the first `skip`, as what and why.
fn changes(record: &Record, skip: usize) -> Vec<(What, Why)> {
    let changes = record.changes.iter().skip(skip);
    let changes = changes.map(|change| (change.r#type(), change.reason()));
    // The moment at which a cluster is identified is not what is tested here.
    changes
        .filter(|(_, why)| *why != Why::ClusterIdentified)
        .collect()
}

async fn sees_change(recorder: &Recorder, what: What, why: Why) {
    recorder
        .sees(&format!("{what:?} {why:?}"), EFFECT, |record| {
            changes(record, 0).last() == Some(&(what, why))
        })
        .await;
}

async fn label(world: &World, env: &str) {
    let cluster = Cluster {
        name: "sim-1".into(),
        labels: [("env".to_owned(), env.to_owned())].into(),
        ..Cluster::default()
    };
    let update = masked_update(cluster, "labels");
    world.group.client().update(update).await.unwrap();
}

async fn watch_resources(world: &World, resources: Vec<ResourceSelector>) {
    let cluster = Cluster {
        name: "sim-1".into(),
        resources,
        ..Cluster::default()
    };
    let update = masked_update(cluster, "resources");
    world.group.client().update(update).await.unwrap();
}

async fn pause(world: &World, paused: bool) {
    let cluster = Cluster {
        name: "sim-1".into(),
        paused,
        ..Cluster::default()
    };
    let update = masked_update(cluster, "paused");
    world.group.client().update(update).await.unwrap();
}

fn events_in(namespaces: &[&str]) -> ResourceSelector {
    ResourceSelector {
        resource: "v1/events".into(),
        namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        ..ResourceSelector::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_stop_and_start_matching() {
    let world = world().await;
    let live = subscribe(&world, prod(), Begin::Now).await;
    let copy = subscribe(&world, prod(), Begin::Snapshot).await;
    let away = subscribe(&world, prod(), Begin::Now).await;
    write(&world, "sim-1", "one");
    for recorder in [&live, &copy, &away] {
        sees_event(recorder, "one").await;
    }
    let away = away.leave();
    label(&world, "test").await;
    sees_change(&live, What::Removed, Why::Unmatched).await;
    sees_change(&copy, What::Removed, Why::Unmatched).await;
    write(&world, "sim-1", "two");
    label(&world, "prod").await;
    sees_change(&live, What::Added, Why::Matched).await;
    write(&world, "sim-1", "three");
    let back = Recorder::resume_with(away, world.group.endpoints_from(0), prod());
    for recorder in [&live, &copy, &back] {
        sees_event(recorder, "three").await;
    }
    // Followed on, nothing is missing and nothing comes twice.
    assert_eq!(times(&live.record(), &["one", "two", "three"]), [1, 1, 1]);
    assert_eq!(times(&back.record(), &["one", "two", "three"]), [1, 1, 1]);
    assert_eq!(live.record().gaps, []);
    // A copy gets a snapshot of what it had dropped.
    let added = copy.record().changes.last().cloned().unwrap();
    assert!(added.snapshot_follows, "{added:?}");
    assert_eq!(times(&copy.record(), &["one", "two"]), [2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_is_edited() {
    let world = world().await;
    watch_resources(&world, vec![events_in(&["a"])]).await;
    let live = subscribe(&world, prod(), Begin::Now).await;
    let copy = subscribe(&world, prod(), Begin::Snapshot).await;
    let away = subscribe(&world, prod(), Begin::Now).await;
    write_in(&world, "sim-1", "a", "one");
    write_in(&world, "sim-1", "b", "hidden");
    for recorder in [&live, &copy, &away] {
        sees_event(recorder, "one").await;
    }
    let away = away.leave();
    watch_resources(&world, vec![events_in(&[])]).await;
    sees_change(&live, What::Added, Why::Created).await;
    world.group.owned(1).await;
    write_in(&world, "sim-1", "b", "two");
    let back = Recorder::resume_with(away, world.group.endpoints_from(0), prod());
    for recorder in [&live, &copy, &back] {
        sees_event(recorder, "two").await;
    }
    let expected = [
        (What::Removed, Why::ResourceRemoved),
        (What::Added, Why::Created),
    ];
    for recorder in [&live, &copy] {
        let record = recorder.record();
        assert!(changes(&record, 0).ends_with(&expected), "{record:#?}");
    }
    let expected = [
        (What::Removed, Why::RemovedSinceCursor),
        (What::Added, Why::Created),
    ];
    assert!(changes(&back.record(), 0).ends_with(&expected));
    // The copy has what the old selector hid; who follows changes gets what happens from here on.
    assert_eq!(times(&copy.record(), &["one", "hidden", "two"]), [2, 1, 1]);
    assert_eq!(times(&live.record(), &["one", "hidden", "two"]), [1, 0, 1]);
    assert_eq!(times(&back.record(), &["one", "hidden", "two"]), [1, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_removed_and_added() {
    let world = world().await;
    let configmaps = ResourceSelector {
        resource: "v1/configmaps".into(),
        ..ResourceSelector::default()
    };
    let live = subscribe(&world, prod(), Begin::Now).await;
    let away = subscribe(&world, prod(), Begin::Now).await.leave();
    watch_resources(&world, vec![configmaps]).await;
    sees_change(&live, What::Added, Why::Created).await;
    write(&world, "sim-1", "unseen");
    watch_resources(&world, vec![events_in(&[])]).await;
    world.group.owned(1).await;
    write(&world, "sim-1", "seen");
    let back = Recorder::resume_with(away, world.group.endpoints_from(0), prod());
    for recorder in [&live, &back] {
        sees_event(recorder, "seen").await;
        assert_eq!(times(&recorder.record(), &["unseen", "seen"]), [0, 1]);
    }
    // Another stream each time: none is continued as if nothing had been in between.
    let streams: Vec<_> = live
        .record()
        .changes
        .iter()
        .map(|it| it.stream.clone())
        .collect();
    let mut distinct = streams.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 3, "{streams:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_paused_and_resumed() {
    let world = world().await;
    let live = subscribe(&world, prod(), Begin::Now).await;
    let away = subscribe(&world, prod(), Begin::Now).await.leave();
    pause(&world, true).await;
    sees_change(&live, What::Paused, Why::ClusterPaused).await;
    write(&world, "sim-1", "meanwhile");
    let paused = Recorder::resume_with(away, world.group.endpoints_from(0), prod());
    paused
        .sees(
            "the resumed one learns that it is paused",
            EFFECT,
            |record| record.streams.values().any(|stream| stream.paused),
        )
        .await;
    pause(&world, false).await;
    sees_change(&live, What::Resumed, Why::ClusterPaused).await;
    for recorder in [&live, &paused] {
        sees_event(recorder, "meanwhile").await;
        assert_eq!(times(&recorder.record(), &["meanwhile"]), [1]);
        assert_eq!(recorder.record().gaps, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_deleted() {
    let world = world().await;
    let live = subscribe(&world, Filter::default(), Begin::Now).await;
    let away = subscribe(&world, Filter::default(), Begin::Now).await;
    let away = away.leave();
    world.group.client().delete("sim-1").await.unwrap();
    sees_change(&live, What::Removed, Why::ClusterDeleted).await;
    assert!(live.record().streams.is_empty());
    let back = Recorder::resume(away, world.group.endpoints_from(0));
    sees_change(&back, What::Removed, Why::RemovedSinceCursor).await;
    assert!(back.record().streams.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_deleted_and_created_again() {
    let world = world().await;
    let live = subscribe(&world, Filter::default(), Begin::Now).await;
    let away = subscribe(&world, Filter::default(), Begin::Now).await;
    write(&world, "sim-1", "before");
    for recorder in [&live, &away] {
        sees_event(recorder, "before").await;
    }
    let away = away.leave();
    world.group.client().delete("sim-1").await.unwrap();
    write(&world, "sim-1", "between");
    world.monitor_as("sim-1", &[]).await;
    world.group.owned(1).await;
    write(&world, "sim-1", "after");
    let back = Recorder::resume(away, world.group.endpoints_from(0));
    for recorder in [&live, &back] {
        sees_event(recorder, "after").await;
        let record = recorder.record();
        assert_eq!(times(&record, &["before", "between", "after"]), [1, 0, 1]);
        let changes = changes(&record, 0);
        let gone = changes.iter().filter(|(what, _)| *what == What::Removed);
        assert_eq!(gone.count(), 1, "{changes:?}");
        assert_eq!(changes.last(), Some(&(What::Added, Why::Created)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_created_while_away() {
    let world = world().await;
    let away = subscribe(&world, Filter::default(), Begin::Now).await;
    let away = away.leave();
    world.monitor("sim-2").await;
    world.group.owned(2).await;
    write(&world, "sim-2", "one");
    write(&world, "sim-2", "two");
    let back = Recorder::resume(away, world.group.endpoints_from(0));
    sees_event(&back, "two").await;
    assert_eq!(times(&back.record(), &["one", "two"]), [1, 1]);
    assert!(changes(&back.record(), 0).contains(&(What::Added, Why::Created)));
}

/// Waits until the group has agreed that it has everything of a cluster's only stream up to a
/// version; returns the era that the stream is in then.
async fn era_at(world: &World, cluster: &str, rv: &ResourceVersion) -> u64 {
    let client = world.group.client();
    let what = format!("{cluster} is watched up to {rv}");
    let (era, _) = eventually(&what, EFFECT, async || {
        let shard = client.shard(cluster).await.ok()?;
        let at = shard.streams.first()?.checkpoint.as_ref()?;
        let reached: ResourceVersion = at.resource_version.parse().ok()?;
        (reached >= *rv).then_some(at.era)
    })
    .await;
    era
}

/// In a cluster with one stream, an object is created in the first era, and another one while the
/// API server is gone. What is done to its history then makes a further era begin.
async fn begins_another_era(
    world: &World,
    cluster: &str,
    resource: &str,
    lose: impl FnOnce(&SimCluster),
) {
    let resource: Resource = resource.parse().unwrap();
    let sim = world.cluster(cluster);
    let create = |name: &str| {
        let manifest = Manifest::new("default", name);
        sim.create(&resource, &manifest).unwrap()
    };
    let first = era_at(world, cluster, &create("one")).await;
    sim.faults().set(Fault::Unreachable);
    let has_ended = async || sim.open_watches() == 0;
    holds("its watch has ended", PATIENCE, has_ended).await;
    let two = create("two");
    lose(&sim);
    sim.faults().clear(Fault::Unreachable);
    assert!(era_at(world, cluster, &two).await > first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_created_while_away_whose_first_era_is_over() {
    let world = World::start_empty(WorldOptions {
        clusters: 3,
        replicas: 1,
        ..WorldOptions::default()
    })
    .await;
    world.monitor("sim-1").await;
    world.group.owned(1).await;
    let endpoints = || world.group.endpoints_from(0);
    let away = Recorder::start_keeping(endpoints(), Filter::default(), Begin::Now);
    away.covers(1).await;
    let away = away.leave();
    for (cluster, resource) in [("sim-2", CONFIGMAPS), ("sim-3", EVENTS)] {
        let created = Cluster {
            resources: vec![ResourceSelector {
                resource: resource.into(),
                ..ResourceSelector::default()
            }],
            ..world.described(cluster)
        };
        world.group.client().create(created).await.unwrap();
    }
    world.group.owned(3).await;
    // The era that follows is repaired in the one, and continues nothing in the other.
    begins_another_era(&world, "sim-2", CONFIGMAPS, SimCluster::reset_watch_cache).await;
    begins_another_era(&world, "sim-3", EVENTS, SimCluster::compact).await;
    let back = Recorder::resume(away, endpoints());
    let repaired = ["ADDED one", "GAP WATCH_CACHE_RESET repaired", "ADDED two"];
    let snapshot = ["SNAPSHOT one", "SNAPSHOT two", "SYNCED"];
    let lost = ["ADDED one", "GAP HISTORY_EXPIRED"];
    let broken = [&lost[..], &snapshot[..]].concat();
    let has_all = |record: &Record| {
        let kept = record.kept();
        kept.of(CONFIGMAPS) == repaired && kept.of(EVENTS) == broken
    };
    back.sees("both come from their beginning", EFFECT, has_all)
        .await;
    let record = back.record();
    let created = changes(&record, 0);
    let created = created
        .iter()
        .filter(|change| **change == (What::Added, Why::Created));
    assert_eq!(created.count(), 2, "{record:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_registered_twice() {
    let world = world().await;
    let client = world.group.client();
    let twin = Cluster {
        name: "twin".into(),
        ..world.described("sim-1")
    };
    client.create(twin.clone()).await.unwrap();
    let live = subscribe(&world, prod(), Begin::Now).await;
    let refused = async || {
        let health = client.cluster("twin").await.unwrap().health.unwrap();
        health.condition() == ClusterCondition::Duplicate && health.reason.contains("sim-1")
    };
    holds("it is refused, and named", EFFECT, refused).await;
    write(&world, "sim-1", "one");
    sees_event(&live, "one").await;
    assert_eq!(times(&live.record(), &["one"]), [1]);
    // Asked for by name, it is watched.
    let meant = Cluster {
        duplicate_of: "sim-1".into(),
        ..twin
    };
    let update = masked_update(meant, "duplicate_of");
    client.update(update).await.unwrap();
    world.group.owned(2).await;
    let both = subscribe(&world, Filter::default(), Begin::Now).await;
    write(&world, "sim-1", "two");
    both.sees("it comes under both names", EFFECT, |record| {
        times(record, &["two"]) == [2]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_under_another_filter() {
    let world = world().await;
    let narrow = || Filter {
        namespaces: vec!["a".into()],
        ..Filter::default()
    };
    let follower = subscribe(&world, narrow(), Begin::Now).await;
    let copy = subscribe(&world, narrow(), Begin::Snapshot).await;
    write_in(&world, "sim-1", "a", "one");
    write_in(&world, "sim-1", "b", "hidden");
    for recorder in [&follower, &copy] {
        sees_event(recorder, "one").await;
    }
    let (follower, copy) = (follower.leave(), copy.leave());
    let endpoints = || world.group.endpoints_from(0);
    let follower = Recorder::resume_with(follower, endpoints(), Filter::default());
    let copy = Recorder::resume_with(copy, endpoints(), Filter::default());
    sees_change(&follower, What::Changed, Why::FilterChanged).await;
    sees_event(&copy, "hidden").await;
    write_in(&world, "sim-1", "b", "two");
    for recorder in [&follower, &copy] {
        sees_event(recorder, "two").await;
    }
    // Followed on from where it was; what the old filter left out is said to be left out.
    assert_eq!(times(&follower.record(), &["one", "two"]), [1, 1]);
    assert_eq!(follower.record().gaps, []);
    // A copy is made new.
    let gaps: Vec<_> = copy.record().gaps.iter().map(|gap| gap.reason()).collect();
    assert_eq!(gaps, [GapReason::FilterChanged]);
    assert_eq!(times(&copy.record(), &["one", "hidden", "two"]), [2, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_resource_are_distinguished() {
    let world = world().await;
    watch_resources(&world, vec![events_in(&["a", "b", "c"])]).await;
    world.group.owned(1).await;
    let copy = subscribe(&world, Filter::default(), Begin::Snapshot).await;
    copy.sees("every stream is complete", EFFECT, |record| {
        record.synced_streams.len() == 3
    })
    .await;
    let namespaces = {
        let record = copy.record();
        let synced = record.synced_streams.iter();
        synced
            .map(|stream| record.streams[stream].namespace.clone())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(namespaces.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    // What was written reads back as it was written.
    let cluster = world.group.client().cluster("sim-1").await.unwrap();
    assert_eq!(cluster.resources, [events_in(&["a", "b", "c"])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_until_it_is_up_to_date_is_a_list() {
    let world = world().await;
    write(&world, "sim-1", "one");
    let request = SubscribeRequest {
        from: Some(From::Snapshot(FromSnapshot {})),
        until: Until::UpToDate.into(),
        ..SubscribeRequest::default()
    };
    let mut frames = world.group.client().subscribe(request).await.unwrap();
    let mut record = Record::default();
    let mut last = None;
    while let Some(response) = frames.message().await.unwrap() {
        last = response.frame.clone();
        record.take(response);
    }
    assert_eq!(times(&record, &["one"]), [1]);
    let Some(Frame::Closing(closing)) = last else {
        panic!("the last frame says why: {last:?}");
    };
    assert_eq!(closing.reason(), ClosingReason::Complete);
}
