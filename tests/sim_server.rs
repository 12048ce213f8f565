//! The simulated API server, met as the service meets it: through a kube client.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, time::Duration};

use futures::{AsyncBufReadExt as _, Stream, StreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace};
use kube::{
    Api, Client, Config, Discovery, ResourceExt as _,
    api::{DynamicObject, ListParams, VersionMatch, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
};
use quorumwatch::{
    domain::{cluster::Resource, event::Change},
    sim::{
        Audit, Delivered, Fault, Fleet, FleetOptions, Ledger, LoadOptions, Manifest, SimCluster,
    },
};
use serde_json::{Value, json, value::RawValue};

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing has to come for it to be called silence.
const SILENCE: Duration = Duration::from_millis(200);

struct World {
    fleet: Fleet,
    cluster: SimCluster,
    client: Client,
}

fn maps() -> Resource {
    "v1/configmaps".parse().unwrap()
}

fn named(name: &str) -> Manifest {
    Manifest::new("default", name)
}

async fn client_of(fleet: &Fleet, cluster: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&fleet.kubeconfig(cluster)).unwrap();
    let options = KubeConfigOptions {
        context: Some(cluster.to_owned()),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = config.unwrap();
    // Refusals are what is tested: they must not be retried away.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

async fn world_with(options: FleetOptions) -> World {
    let fleet = Fleet::start(options).await.unwrap();
    let name = fleet.cluster_names()[0].clone();
    World {
        cluster: fleet.cluster(&name).unwrap(),
        client: client_of(&fleet, &name).await,
        fleet,
    }
}

async fn world() -> World {
    world_with(FleetOptions::default()).await
}

fn request(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).unwrap()
}

/// The lines of a watch, as they are on the wire.
async fn lines(client: &Client, path: &str) -> kube::Result<BoxStream<'static, String>> {
    let lines = client.request_stream(request(path)).await?.lines();
    let ok = lines.take_while(|line| std::future::ready(line.is_ok()));
    Ok(ok.map(Result::unwrap).boxed())
}

impl World {
    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), "default")
    }

    fn create(&self, name: &str) -> String {
        let rv = self.cluster.create(&maps(), &named(name)).unwrap();
        rv.to_string()
    }

    fn update(&self, name: &str) {
        self.cluster.update(&maps(), &named(name)).unwrap();
    }

    /// The lines of a watch.
    async fn watch(&self, path: &str) -> kube::Result<BoxStream<'static, Value>> {
        let lines = lines(&self.client, path).await?;
        Ok(lines
            .map(|line| serde_json::from_str(&line).unwrap())
            .boxed())
    }

    async fn watch_maps(&self, rv: &str) -> BoxStream<'static, Value> {
        let path = format!("/api/v1/configmaps?watch=true&resourceVersion={rv}");
        self.watch(&path).await.unwrap()
    }

    async fn get(&self, path: &str) -> kube::Result<Value> {
        self.client.request(request(path)).await
    }
}

async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> Option<T> {
    tokio::time::timeout(PATIENCE, stream.next()).await.unwrap()
}

async fn is_silent<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> bool {
    tokio::time::timeout(SILENCE, stream.next()).await.is_err()
}

/// `TYPE name@rv` of the next line.
async fn line_text(stream: &mut BoxStream<'static, Value>) -> String {
    let line = next(stream).await.expect("the watch has ended");
    let metadata = &line["object"]["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&line["type"]), text(&metadata["name"]));
    format!("{kind} {name}@{}", text(&metadata["resourceVersion"]))
}

/// The next lines, as [`line_text`] has them, are these.
async fn expect_lines(stream: &mut BoxStream<'static, Value>, expected: &str) {
    for expected in expected.split(", ") {
        assert_eq!(line_text(stream).await, expected);
    }
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("not a status: {other}"),
    }
}

fn names(items: &[ConfigMap]) -> Vec<String> {
    items.iter().map(|item| item.name_any()).collect()
}

#[tokio::test]
async fn a_client_discovers_what_is_served() {
    let widgets = "example.com/v1/widgets".parse::<Resource>().unwrap();
    let world = world_with(FleetOptions {
        resources: vec![Resource::events(), widgets.clone()],
        ..FleetOptions::default()
    })
    .await;
    assert_eq!(world.client.apiserver_version().await.unwrap().minor, "36");
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let system = namespaces.get("kube-system").await.unwrap();
    assert_eq!(system.uid(), Some(world.cluster.uid()));

    let discovery = Discovery::new(world.client.clone()).run().await.unwrap();
    let widget = GroupVersionKind::gvk("example.com", "v1", "Widget");
    let (found, _) = discovery.resolve_gvk(&widget).unwrap();
    assert_eq!(found.plural, "widgets");
    let event = GroupVersionKind::gvk("", "v1", "Event");
    assert!(discovery.resolve_gvk(&event).is_some());

    let manifest = named("w").member("spec", &json!({"size": 3}));
    world.cluster.create(&widgets, &manifest).unwrap();
    let api: Api<DynamicObject> = Api::default_namespaced_with(world.client.clone(), &found);
    let list = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items[0].data["spec"]["size"], 3);
}

#[tokio::test]
async fn pages_of_a_list_are_of_one_revision() {
    let world = world().await;
    for name in ["a", "b", "c", "d"] {
        world.create(name);
    }
    let two = ListParams::default().limit(2);
    let first = world.maps().list(&two).await.unwrap();
    assert_eq!(names(&first.items), ["a", "b"]);
    assert_eq!(first.metadata.remaining_item_count, Some(2));
    world.cluster.delete(&maps(), "default", "c").unwrap();
    world.create("e");
    let token = first.metadata.continue_.unwrap();
    let next_page = two.clone().continue_token(&token);
    let second = world.maps().list(&next_page).await.unwrap();
    assert_eq!(names(&second.items), ["c", "d"]);
    assert_eq!(
        second.metadata.resource_version,
        first.metadata.resource_version
    );
    assert_eq!(second.metadata.continue_, None);

    world.cluster.compact();
    let gone = world.maps().list(&next_page).await;
    let kube::Error::Api(status) = gone.unwrap_err() else {
        panic!("not a status");
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    let inconsistent = status.metadata.unwrap().continue_.unwrap();
    let rest = world
        .maps()
        .list(&two.continue_token(&inconsistent))
        .await
        .unwrap();
    assert_eq!(names(&rest.items), ["d", "e"]);
}

#[tokio::test]
async fn an_exact_list_shows_the_past() {
    let world = world().await;
    let rv = world.create("a");
    world.update("a");
    world.create("b");
    let exact = |rv: &str| {
        let params = ListParams::default().at(rv).matching(VersionMatch::Exact);
        let maps = world.maps();
        async move { maps.list(&params).await }
    };
    let past = exact(&rv).await.unwrap();
    assert_eq!(names(&past.items), ["a"]);
    assert_eq!(past.items[0].resource_version(), Some(rv.clone()));
    assert_eq!(past.metadata.resource_version, Some(rv.clone()));
    assert_eq!(code(&exact("999").await.unwrap_err()), 504);
    world.cluster.compact();
    assert_eq!(code(&exact(&rv).await.unwrap_err()), 410);
}

#[tokio::test]
async fn a_watch_has_every_change_after_its_revision() {
    let world = world().await;
    let rv = world.create("a");
    let mut lines = world.watch_maps(&rv).await;
    world.create("b");
    world.update("a");
    for name in ["x1", "x0", "x10"] {
        world.create(name);
    }
    let together = [("default", "x1"), ("default", "x10"), ("default", "x0")];
    world.cluster.delete_batch(&maps(), &together).unwrap();
    expect_lines(&mut lines, "ADDED b@3, MODIFIED a@4").await;
    expect_lines(&mut lines, "ADDED x1@5, ADDED x0@6, ADDED x10@7").await;
    expect_lines(&mut lines, "DELETED x0@8, DELETED x1@8, DELETED x10@8").await;
    assert_eq!(world.cluster.open_watches(), 1);
    world.fleet.stop().await;
    assert_eq!(next(&mut lines).await, None);
    assert_eq!(world.cluster.open_watches(), 0);
}

#[tokio::test]
async fn what_is_gone_is_an_error_in_each_of_the_three_ways() {
    let world = world().await;
    let rv = world.create("a");
    world.create("b");
    world.cluster.compact();
    let path = format!("/api/v1/events?watch=true&resourceVersion={rv}");
    let mut lines = world.watch(&path).await.unwrap();
    let line = next(&mut lines).await.unwrap();
    assert_eq!(line["type"], "ERROR");
    assert_eq!(line["object"]["code"], 410);
    assert_eq!(next(&mut lines).await, None);

    let faults = world.cluster.faults();
    faults.set_times(Fault::SilentClose410, 1);
    let mut lines = world.watch(&path).await.unwrap();
    assert_eq!(next(&mut lines).await, None);

    faults.set_times(Fault::HttpGone410, 1);
    let events: Api<Event> = Api::all(world.client.clone());
    let refused = events.watch(&WatchParams::default(), &rv).await.err();
    assert_eq!(code(&refused.unwrap()), 410);
}

#[tokio::test]
async fn bookmarks_come_for_all_but_events() {
    let world = world_with(FleetOptions {
        bookmark_interval: Duration::from_millis(30),
        ..FleetOptions::default()
    })
    .await;
    let path = |plural| format!("/api/v1/{plural}?watch=1&resourceVersion=1&allowWatchBookmarks=1");
    let mut of_events = world.watch(&path("events")).await.unwrap();
    let mut of_maps = world.watch(&path("configmaps")).await.unwrap();
    let rv = world
        .cluster
        .create(&"v1/pods".parse().unwrap(), &named("p"))
        .unwrap();
    // A bookmark carries the revision of the whole cluster.
    while line_text(&mut of_maps).await != format!("BOOKMARK @{rv}") {}
    assert!(is_silent(&mut of_events).await);
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let world = world().await;
    for name in ["a", "b", "c"] {
        world.create(name);
    }
    let params = WatchParams::default().initial_events();
    let maps = world.maps();
    let mut watch = maps.watch(&params, "0").await.unwrap().boxed();
    let mut seen = Vec::new();
    let bookmark = loop {
        match next(&mut watch).await.unwrap().unwrap() {
            WatchEvent::Added(map) => seen.push(map.name_any()),
            WatchEvent::Bookmark(bookmark) => break bookmark,
            other => panic!("{other:?}"),
        }
    };
    seen.sort();
    assert_eq!(seen, ["a", "b", "c"]);
    assert_eq!(bookmark.metadata.resource_version, "4");
    assert_eq!(
        bookmark.metadata.annotations["k8s.io/initial-events-end"],
        "true"
    );
    world.create("d");
    let live = next(&mut watch).await.unwrap().unwrap();
    assert!(matches!(live, WatchEvent::Added(map) if map.name_any() == "d"));

    let mut without_rv = world.watch("/api/v1/configmaps?watch=1").await.unwrap();
    for _ in 0..4 {
        assert!(line_text(&mut without_rv).await.starts_with("ADDED "));
    }
    world.cluster.faults().set(Fault::NoWatchList);
    let refused = maps.watch(&params, "0").await.err().unwrap();
    assert_eq!(code(&refused), 422);
}

#[tokio::test]
async fn metadata_alone_can_be_listed_and_watched() {
    let world = world().await;
    let manifest = named("a")
        .label("app", "web")
        .member("data", &json!({"k": "v"}));
    world.cluster.create(&maps(), &manifest).unwrap();
    let maps = world.maps();
    let list = maps.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(list.items[0].labels()["app"], "web");
    let one = maps.get_metadata("a").await.unwrap();
    assert_eq!(one.metadata, list.items[0].metadata);
    let params = WatchParams::default();
    let mut watch = maps.watch_metadata(&params, "1").await.unwrap().boxed();
    let event = next(&mut watch).await.unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Added(partial) if partial.metadata == one.metadata));
}

#[tokio::test]
async fn a_selector_turns_updates_into_additions_and_deletions() {
    let world = world().await;
    let path = "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=1\
                &labelSelector=app%3Dweb";
    let mut lines = world.watch(path).await.unwrap();
    let (web, plain) = (named("a").label("app", "web"), named("a"));
    world.cluster.create(&maps(), &plain).unwrap();
    for manifest in [&web, &web, &plain] {
        world.cluster.update(&maps(), manifest).unwrap();
    }
    expect_lines(&mut lines, "ADDED a@3, MODIFIED a@4, DELETED a@5").await;
    let unknown = world
        .get("/api/v1/configmaps?fieldSelector=data.k%3Dv")
        .await;
    assert_eq!(code(&unknown.unwrap_err()), 400);
}

#[tokio::test]
async fn after_a_rewind_an_old_watch_is_silent_and_a_list_goes_back() {
    let world = world().await;
    let restored = world.create("a");
    let reached = world.create("b");
    let mut old = world.watch_maps(&reached).await;
    world.cluster.rewind(&restored.parse().unwrap()).unwrap();
    let mut future = world.watch_maps(&reached).await;
    let list = world.maps().list(&ListParams::default()).await.unwrap();
    assert_eq!(list.metadata.resource_version, Some(restored));
    assert_eq!(names(&list.items), ["a"]);
    world.create("c");
    assert!(is_silent(&mut old).await && is_silent(&mut future).await);
    world.create("d");
    // What came in between is lost to them in silence: that is the trap.
    assert_eq!(line_text(&mut old).await, "ADDED d@4");
    assert_eq!(line_text(&mut future).await, "ADDED d@4");
    let path = "/api/v1/configmaps?watch=1&resourceVersion=99&sendInitialEvents=true\
                &resourceVersionMatch=NotOlderThan";
    let refused = next(&mut world.watch(path).await.unwrap()).await.unwrap();
    assert_eq!(refused["object"]["code"], 504);
}

#[tokio::test]
async fn a_reset_watch_cache_forgets_what_exact_lists_still_show() {
    let world = world().await;
    let rv = world.create("a");
    let mut of_maps = world.watch_maps(&rv).await;
    let events = format!("/api/v1/events?watch=true&resourceVersion={rv}");
    let mut of_events = world.watch(&events).await.unwrap();
    let event = world
        .cluster
        .create(&Resource::events(), &named("e"))
        .unwrap();
    world.cluster.reset_watch_cache();
    assert_eq!(next(&mut of_maps).await, None);
    let line = next(&mut world.watch_maps(&rv).await).await.unwrap();
    assert_eq!(
        line["object"]["message"],
        format!("too old resource version: {rv} ({event})")
    );
    let exact = ListParams::default().at(&rv).matching(VersionMatch::Exact);
    assert_eq!(world.maps().list(&exact).await.unwrap().items.len(), 1);
    assert_eq!(line_text(&mut of_events).await, format!("ADDED e@{event}"));
    assert!(is_silent(&mut of_events).await);
}

#[tokio::test]
async fn events_end_together_by_their_ttl() {
    let world = world_with(FleetOptions {
        event_ttl: Some(Duration::from_millis(400)),
        ..FleetOptions::default()
    })
    .await;
    let path = "/api/v1/events?watch=true&resourceVersion=1";
    let mut lines = world.watch(path).await.unwrap();
    for name in ["b", "a"] {
        world
            .cluster
            .create(&Resource::events(), &named(name))
            .unwrap();
    }
    expect_lines(&mut lines, "ADDED b@2, ADDED a@3, DELETED a@4, DELETED b@4").await;
}

#[tokio::test]
async fn a_replaced_cluster_ends_its_watches_and_has_another_identity() {
    let world = world().await;
    let rv = world.create("a");
    let mut lines = world.watch_maps(&rv).await;
    let uid = world.cluster.replace();
    assert_eq!(next(&mut lines).await, None);
    let system = world.get("/api/v1/namespaces/kube-system").await.unwrap();
    assert_eq!(system["metadata"]["uid"], *uid);
}

#[tokio::test]
async fn faults_strike_while_they_are_on() {
    let world = world().await;
    let faults = world.cluster.faults();
    for (fault, expected) in [
        (Fault::Unauthorised, 401),
        (Fault::Forbidden, 403),
        (Fault::TooManyRequests, 429),
        (Fault::Refuse, 503),
    ] {
        faults.set_times(fault, 1);
        assert_eq!(code(&world.get("/version").await.unwrap_err()), expected);
    }
    let mut lines = world.watch_maps("1").await;
    faults.set(Fault::CloseWatches);
    assert_eq!(next(&mut lines).await, None);

    let mut lines = world.watch_maps("1").await;
    faults.set(Fault::InternalErrorLine);
    assert_eq!(next(&mut lines).await.unwrap()["object"]["code"], 500);
    assert_eq!(next(&mut lines).await, None);
    faults.clear_all();

    let mut lines = world.watch_maps("1").await;
    faults.set(Fault::Unreachable);
    assert_eq!(next(&mut lines).await, None);
    let unanswered = world.get("/version").await;
    assert!(!matches!(unanswered, Ok(_) | Err(kube::Error::Api(_))));
    faults.clear_all();
    assert!(world.get("/version").await.is_ok());
}

#[tokio::test]
async fn a_stalled_server_says_nothing_and_then_goes_on() {
    let world = world().await;
    let faults = world.cluster.faults();
    let mut lines = world.watch_maps("1").await;
    faults.set(Fault::Stall);
    world.create("a");
    assert!(is_silent(&mut lines).await);
    {
        let mut version = std::pin::pin!(world.get("/version"));
        assert!(tokio::time::timeout(SILENCE, &mut version).await.is_err());
        faults.clear(Fault::Stall);
        assert!(version.await.is_ok());
    }
    assert_eq!(line_text(&mut lines).await, "ADDED a@2");
}

#[tokio::test]
async fn events_are_dropped_and_repeated_on_demand() {
    let world = world().await;
    let rv = ["a", "b", "c"].map(|name| world.create(name))[1].clone();
    world.cluster.faults().set_times(Fault::ReplayEvents(2), 1);
    let mut lines = world.watch_maps(&rv).await;
    expect_lines(&mut lines, "ADDED a@2, ADDED b@3, ADDED c@4").await;
    world.cluster.faults().set(Fault::DropEvent(2));
    let mut lines = world.watch_maps("1").await;
    expect_lines(&mut lines, "ADDED a@2, ADDED c@4").await;
    world.cluster.faults().clear(Fault::DropEvent(0));
    world.cluster.faults().set_times(Fault::RepeatEvents, 2);
    let mut lines = world.watch_maps("2").await;
    expect_lines(&mut lines, "ADDED b@3, ADDED b@3, ADDED c@4, ADDED c@4").await;
}

#[tokio::test]
async fn what_a_load_writes_is_delivered_as_the_ledger_says() {
    let clusters = ["a", "b"].map(String::from);
    let fleet = Fleet::start(FleetOptions {
        clusters: clusters.to_vec(),
        event_ttl: Some(Duration::from_millis(400)),
        ..FleetOptions::default()
    })
    .await
    .unwrap();
    let mut watches = Vec::new();
    for name in &clusters {
        let client = client_of(&fleet, name).await;
        let path = "/api/v1/events?watch=true&resourceVersion=1";
        let watch = lines(&client, path).await.unwrap();
        watches.push(watch.map(|line| read_event(name, &line)).boxed());
    }
    let mut events = futures::stream::select_all(watches);
    let load = fleet.load(LoadOptions {
        events_per_second: 2000.0,
        update_share: 0.4,
        ..LoadOptions::default()
    });
    let mut audit = Audit::new();
    let (mut delivered, mut deleted) = (0, 0);
    while delivered < 1500 || deleted < 50 {
        let event = next(&mut events).await.unwrap();
        delivered += 1;
        deleted += u32::from(event.change == Change::Deleted);
        audit.deliver(&event);
    }
    let report = load.stop().await;
    assert!(
        report.updated > 0 && report.created > report.updated,
        "{report:?}"
    );

    let uri = format!("http://{}", fleet.address()).parse().unwrap();
    let bare = Client::try_from(Config::new(uri)).unwrap();
    let from = clusters.clone().map(|name| (name, 1.into())).into();
    loop {
        let mut ledgers = Vec::new();
        for name in &clusters {
            let path = format!("/sim/ledger?cluster={name}");
            let text = bare.request_text(request(&path)).await.unwrap();
            ledgers.push(Ledger::from_json_lines(&text).unwrap());
        }
        let report = audit.report(&ledgers, &from);
        assert_eq!(
            report.duplicated + report.out_of_order + report.corrupted,
            0,
            "{report:?}"
        );
        if report.is_clean() && report.produced == report.delivered {
            break;
        }
        // What was committed last is still under way, the ends of leases among it.
        for _ in 0..report.lost {
            audit.deliver(&next(&mut events).await.unwrap());
        }
    }
    fleet.stop().await;
}

/// A watch's line as a subscriber would have it: the object's bytes untouched.
fn read_event(cluster: &str, line: &str) -> Delivered {
    let line: BTreeMap<&str, &RawValue> = serde_json::from_str(line).unwrap();
    let object = line["object"].get();
    let metadata = &serde_json::from_str::<Value>(object).unwrap()["metadata"];
    let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
    Delivered {
        cluster: cluster.to_owned(),
        resource: Resource::events(),
        change: match line["type"].get() {
            r#""ADDED""# => Change::Added,
            r#""MODIFIED""# => Change::Modified,
            r#""DELETED""# => Change::Deleted,
            other => panic!("{other}"),
        },
        rv: text("resourceVersion").parse().unwrap(),
        namespace: text("namespace"),
        name: text("name"),
        uid: text("uid"),
        object_crc: crc32c::crc32c(object.as_bytes()),
    }
}
