//! Selectors, two names for the same objects, versions of any size, and stamps that mean nothing.

use quorumwatch::{
    client::Begin,
    domain::cluster::Resource,
    proto::v1::{Cluster, ResourceSelector},
    sim::Manifest,
};
use serde_json::json;

use crate::harness::{
    ApiServer, CONFIGMAPS, EVENTS, PATIENCE, Record, Recorder, Reply, Stage, StageOptions,
};

async fn sees_script(recorder: &Recorder, resource: &str, expected: &[&str]) {
    let arrived = |record: &Record| record.kept().of(resource).len() >= expected.len();
    let _ = tokio::time::timeout(PATIENCE, recorder.sees("it comes", PATIENCE * 2, arrived)).await;
    assert_eq!(recorder.record().kept().of(resource), expected);
}

fn selected() -> Vec<ResourceSelector> {
    let selector = |resource: &str, labels: &str, fields: &str| ResourceSelector {
        resource: resource.into(),
        label_selector: labels.into(),
        field_selector: fields.into(),
        ..ResourceSelector::default()
    };
    vec![
        selector(CONFIGMAPS, "tier=front", ""),
        selector(EVENTS, "", "type=Warning"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_begins_and_ceases_to_match_the_selectors_of_a_stream() {
    let options = StageOptions {
        resources: selected(),
    };
    let stage = Stage::open_with("selected", options).await;
    let copy = stage.subscribe(0, Begin::Snapshot).await;
    let log = stage.subscribe(1, Begin::Now).await;
    let away = stage.subscribe(2, Begin::Now).await.leave();
    let (maps, events): (Resource, Resource) =
        (CONFIGMAPS.parse().unwrap(), EVENTS.parse().unwrap());
    let map = |name: &str, tier: &str| Manifest::new("default", name).label("tier", tier);
    let event =
        |name: &str, kind: &str| Manifest::new("default", name).member("type", &json!(kind));
    let cluster = &stage.cluster;
    cluster.create(&maps, &map("a", "back")).unwrap();
    cluster.update(&maps, &map("a", "front")).unwrap();
    cluster.create(&events, &event("e", "Normal")).unwrap();
    cluster.update(&events, &event("e", "Warning")).unwrap();
    cluster
        .update(&maps, &map("a", "front").member("data", &json!({"n": "2"})))
        .unwrap();
    cluster.create(&maps, &map("b", "front")).unwrap();
    cluster.update(&maps, &map("a", "back")).unwrap();
    cluster.delete(&maps, "default", "a").unwrap();
    cluster.update(&events, &event("e", "Normal")).unwrap();
    cluster.create(&events, &event("f", "Warning")).unwrap();
    // Created where it never matched, and deleted while it did: both say what the stream saw.
    let of_maps = ["ADDED a", "MODIFIED a", "ADDED b", "DELETED a"];
    let of_events = ["ADDED e", "DELETED e", "ADDED f"];
    let back = stage.resume(away, 0);
    for recorder in [&log, &back] {
        sees_script(recorder, CONFIGMAPS, &of_maps).await;
        sees_script(recorder, EVENTS, &of_events).await;
    }
    let synced = |rest: &[&'static str]| [&["SYNCED"], rest].concat();
    sees_script(&copy, CONFIGMAPS, &synced(&of_maps)).await;
    sees_script(&copy, EVENTS, &synced(&of_events)).await;
    let names: Vec<_> = {
        let record = copy.record();
        let table = &record.kept().table;
        table.iter().map(|(_, key, _)| key.name.clone()).collect()
    };
    assert_eq!(
        names.iter().filter(|name| *name == "b").count(),
        1,
        "{names:?}"
    );
    assert_eq!(names.len(), 2, "b and f: {names:?}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_only_lives_on_and_one_with_an_old_stamp_come_like_any_other() {
    let stage = Stage::open("stamps").await;
    let log = stage.subscribe(0, Begin::Now).await;
    let events = EVENTS.parse().unwrap();
    let event = |name: &str, stamp: &str| {
        let series = json!({"count": 5, "lastObservedTime": stamp});
        Manifest::new("default", name)
            .member("lastTimestamp", &json!(stamp))
            .member("count", &json!(5))
            .member("series", &series)
    };
    let (new, old) = ("2026-05-01T12:00:00Z", "2001-01-01T00:00:00Z");
    stage.cluster.create(&events, &event("a", new)).unwrap();
    stage.cluster.create(&events, &event("b", new)).unwrap();
    // A client refreshes a series every half hour: nothing happened, and the object is another.
    stage.cluster.update(&events, &event("a", new)).unwrap();
    stage.cluster.update(&events, &event("b", old)).unwrap();
    stage.cluster.create(&events, &event("c", old)).unwrap();
    let expected = ["ADDED a", "ADDED b", "MODIFIED a", "MODIFIED b", "ADDED c"];
    sees_script(&log, EVENTS, &expected).await;
    stage.judge("log", &log, &Begin::Now, super::NONE);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_both_groups_are_the_same_and_only_one_may_be_watched() {
    let stage = Stage::open("both-groups").await;
    let resources = ["v1/events", "events.k8s.io/v1/events"];
    let resources = resources.map(|resource| ResourceSelector {
        resource: resource.into(),
        ..ResourceSelector::default()
    });
    let cluster = Cluster {
        name: "twice".into(),
        resources: resources.to_vec(),
        ..crate::harness::described(&stage.fleet, "both-groups")
    };
    let refused = stage.group.client().create(cluster).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("events.k8s.io"), "{refused}");
    stage.close().await;
}

/// One below 2^128, and what follows.
const BEFORE: &str = "340282366920938463463374607431768211455";
const FIRST: &str = "340282366920938463463374607431768211456";
const SECOND: &str = "1340282366920938463463374607431768211456";

/// An API server of versions that no machine word holds.
fn counts_far(head: &str) -> Reply {
    let target = head.split(' ').nth(1).unwrap_or_default();
    if target.contains("/namespaces/kube-system") {
        return Reply::json("200 OK", r#"{"metadata":{"uid":"far"}}"#);
    }
    if !target.contains("watch=true") {
        let list = format!(
            r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"{BEFORE}"}},"items":[]}}"#
        );
        return Reply::json("200 OK", &list);
    }
    let line = |rv: &str, name: &str| {
        format!(
            r#"{{"type":"ADDED","object":{{"metadata":{{"namespace":"default","name":"{name}","uid":"{name}","resourceVersion":"{rv}"}}}}}}"#
        )
    };
    let (first, second) = (line(FIRST, "first"), line(SECOND, "second"));
    if target.contains(&format!("resourceVersion={BEFORE}&")) {
        Reply::json("200 OK", &format!("{first}\n{second}\n"))
    } else {
        Reply::Open
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_no_machine_word_holds_are_ordered_and_come_once() {
    let server = ApiServer::start(counts_far, None).await;
    let stage = Stage::open("far").await;
    let yaml = stage.fleet.kubeconfig("far");
    let of_fleet = format!("http://{}/clusters/far", stage.fleet.address());
    let yaml = yaml.replace(&of_fleet, &format!("http://127.0.0.1:{}", server.port));
    let cluster = crate::harness::registered("far-server", yaml, "far");
    let client = stage.group.client();
    let filter = quorumwatch::proto::v1::Filter {
        clusters: vec!["far-server".into()],
        ..Default::default()
    };
    // It covers the cluster from its beginning: the first watch may be quicker than we are.
    let log = Recorder::start_keeping(stage.group.endpoints_from(0), filter, Begin::Now);
    let is_current = |record: &Record| record.is_current;
    log.sees("it is current", PATIENCE, is_current).await;
    client.create(cluster).await.unwrap();
    sees_script(&log, EVENTS, &["ADDED first", "ADDED second"]).await;
    {
        let record = log.record();
        let versions = record
            .events
            .iter()
            .filter_map(|event| event.position.as_ref());
        let versions: Vec<_> = versions.map(|at| at.resource_version.clone()).collect();
        assert_eq!(versions, [FIRST, SECOND]);
        assert_eq!(record.not_after, 0);
    }
    client.delete("far-server").await.unwrap();
    stage.close().await;
}
