//! The public API with nothing but grpcurl: found by reflection, requests and answers in JSON. One
//! replica, one simulated cluster.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::print_stderr,
    reason = "a skipped test says so, and how to run it"
)]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use quorumwatch::{
    domain::cluster::Resource,
    sim::{Fleet, FleetOptions, Manifest},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// Builds grpcurl, and knows where it is.
const BUILD_TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/build-tools.sh");
/// Longest wait for what must come; a second is usual.
const PATIENCE: Duration = Duration::from_secs(30);
/// Interval between two checks of a condition.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where grpcurl is; `None`, and a word about it, where it has not been built.
async fn grpcurl() -> Option<PathBuf> {
    let found = Command::new(BUILD_TOOLS).arg("--print").output().await;
    match found {
        Ok(found) if found.status.success() => {
            let folder = String::from_utf8(found.stdout).unwrap();
            Some(Path::new(folder.trim()).join("grpcurl"))
        }
        _ => {
            eprintln!(
                "skipped: there is no grpcurl; tests/kube/build-tools.sh builds it (needs Go)"
            );
            None
        }
    }
}

/// A replica that is a group of its own, and what it watches.
struct World {
    grpcurl: PathBuf,
    fleet: Fleet,
    address: String,
    /// Killed when it is dropped.
    _replica: Child,
    folder: TempDir,
}

impl World {
    async fn start(grpcurl: PathBuf) -> Self {
        let fleet = Fleet::start(FleetOptions::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (client, peer) = (free_address(), free_address());
        let replica = Command::new(env!("CARGO_BIN_EXE_quorumwatch"))
            .args(["serve", "--name", "a", "--exit-with-parent"])
            .args(["--client-listen", &client, "--peer-listen", &peer])
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let world = Self {
            grpcurl,
            fleet,
            address: client,
            _replica: replica,
            folder,
        };
        world
            .eventually("grpc.health.v1.Health/Check", |health| {
                health["status"] == "SERVING"
            })
            .await;
        world
    }

    fn command(&self, flags: &[&str], symbols: &[&str]) -> Command {
        let mut command = Command::new(&self.grpcurl);
        command
            .arg("-plaintext")
            .args(flags)
            .arg(&self.address)
            .args(symbols)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, flags: &[&str], symbols: &[&str]) -> Output {
        let run = self.command(flags, symbols).output();
        timeout(PATIENCE, run).await.unwrap().unwrap()
    }

    /// What it prints, where it succeeds.
    async fn text(&self, flags: &[&str], symbols: &[&str]) -> String {
        let output = self.run(flags, symbols).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{symbols:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it prints of an error.
    async fn refusal(&self, method: &str, request: &Value) -> String {
        let output = self.run(&["-d", &request.to_string()], &[method]).await;
        assert!(!output.status.success(), "{method} {request} succeeds");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn call(&self, method: &str, request: &Value) -> Value {
        let request = request.to_string();
        let answer = self.text(&["-d", &request], &[method]).await;
        serde_json::from_str(&answer).unwrap()
    }

    /// Asks until the answer is as hoped.
    async fn eventually(&self, method: &str, hoped: impl Fn(&Value) -> bool) -> Value {
        let limit = Instant::now() + PATIENCE;
        loop {
            let output = self.run(&[], &[method]).await;
            let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            if hoped(&answer) {
                return answer;
            }
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(Instant::now() < limit, "{method}: {answer} {error}");
            // poll: one call is one answer.
            sleep(LOOK_EVERY).await;
        }
    }

    /// Opens a stream; nothing is read from it yet.
    fn stream(&self, method: &str, request: &Value) -> Messages {
        let request = request.to_string();
        let mut command = self.command(&["-d", &request], &[method]);
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        Messages {
            child,
            read: Vec::new(),
            cursors: Vec::new(),
        }
    }
}

/// The messages of a stream, as grpcurl prints them: JSON documents one after another.
struct Messages {
    child: Child,
    read: Vec<u8>,
    /// What is kept of a subscription's cursor.
    cursors: Vec<Value>,
}

impl Messages {
    async fn next(&mut self) -> Value {
        let message = self.read().await.expect("the stream goes on");
        match (message.get("cursor"), message.get("cursorDelta")) {
            (Some(whole), None) => self.cursors = vec![whole.clone()],
            (None, Some(delta)) => self.cursors.push(delta.clone()),
            (None, None) => {}
            (Some(_), Some(_)) => panic!("a whole cursor and a delta: {message}"),
        }
        message
    }

    /// The next message; `None` at the end.
    async fn read(&mut self) -> Option<Value> {
        timeout(PATIENCE, async {
            loop {
                let mut documents = serde_json::Deserializer::from_slice(&self.read).into_iter();
                if let Some(Ok(document)) = documents.next() {
                    let length = documents.byte_offset();
                    self.read.drain(..length);
                    return Some(document);
                }
                let stdout = self.child.stdout.as_mut().unwrap();
                let length = stdout.read_buf(&mut self.read).await.unwrap();
                if length == 0 {
                    return None;
                }
            }
        })
        .await
        .unwrap()
    }

    /// The next message for which `wanted` finds something.
    async fn find<T>(&mut self, wanted: impl Fn(&Value) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(&self.next().await) {
                return found;
            }
        }
    }
}

/// An address at which no process listens.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A Kubernetes Event about a pod.
fn about_pod(name: &str, pod: &str, reason: &str) -> Manifest {
    Manifest::new("shop", name)
        .member("reason", &json!(reason))
        .member("type", &json!("Warning"))
        .member(
            "involvedObject",
            &json!({ "kind": "Pod", "namespace": "shop", "name": pod }),
        )
}

async fn find_everything(world: &World) {
    let services = world.text(&[], &["list"]).await;
    let services: Vec<_> = services.lines().collect();
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "quorumwatch.v1.ClusterService",
        "quorumwatch.v1.EventService",
        "quorumwatch.v1.GroupService",
        "quorumwatch.v1.ShardService",
    ];
    assert_eq!(services, expected);
    for service in expected {
        let described = world.text(&[], &["describe", service]).await;
        assert!(described.contains("is a service"), "{described}");
    }
    let filter = ["describe", "quorumwatch.v1.Filter"];
    let described = world.text(&[], &filter).await;
    assert!(described.contains("cluster_selector"), "{described}");
    // What replicas say to each other, and what they keep, is not for clients.
    for private in [
        "quorumwatch.internal.v1.LeaderService",
        "quorumwatch.internal.v1.MembershipService",
        "quorumwatch.internal.v1.RaftService",
        "quorumwatch.internal.v1.RelayService",
        "quorumwatch.store.v1.Cluster",
    ] {
        let output = world.run(&[], &["describe", private]).await;
        assert!(!output.status.success(), "{private} is described");
    }
}

/// Tools from before 2023 know this version of reflection alone, and by the same path.
async fn find_services_by_the_older_reflection(world: &World) {
    let descriptors = world.folder.path().join("reflection");
    let v1alpha = tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET;
    std::fs::write(&descriptors, v1alpha).unwrap();
    let method = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
    let flags = [
        "-protoset",
        descriptors.to_str().unwrap(),
        "-d",
        r#"{"listServices": "*"}"#,
    ];
    let listed = world.text(&flags, &[method]).await;
    assert!(listed.contains("quorumwatch.v1.EventService"), "{listed}");
    assert!(!listed.contains("quorumwatch.internal"), "{listed}");
}

const CREATE: &str = "quorumwatch.v1.ClusterService/CreateCluster";

async fn monitor_a_cluster(world: &World) {
    let inline = json!({ "yaml": world.fleet.kubeconfig("sim"), "context": "sim" });
    let cluster = json!({ "name": "prod", "source": { "kubeconfigInline": inline } });
    let request = json!({ "cluster": cluster, "requestId": "the-first" });
    let created = world.call(CREATE, &request).await;
    assert_eq!(created["cluster"]["name"], "prod");
    // What is written reads back as it was written: nothing is filled in.
    assert!(created["cluster"].get("resources").is_none(), "{created}");
    let owned = |listed: &Value| listed["shards"][0]["owner"] == "a";
    let list = "quorumwatch.v1.ShardService/ListShards";
    let listed = world.eventually(list, owned).await;
    assert_eq!(listed["shards"][0]["name"], "prod/0");
    assert_eq!(listed["shards"][0]["streams"][0]["resource"], "v1/events");

    // Repeated, it succeeds without another effect; as another write, it is refused.
    let repeated = world.call(CREATE, &request).await;
    for field in ["createTime", "etag"] {
        assert!(created["cluster"][field].is_string(), "{created}");
        assert_eq!(repeated["cluster"][field], created["cluster"][field]);
    }
    let error = world.refusal(CREATE, &json!({ "cluster": cluster })).await;
    for said in ["AlreadyExists", "CLUSTER_EXISTS", "quorumwatch.dev"] {
        assert!(error.contains(said), "{said}: {error}");
    }
    let invalid = json!({ "cluster": { "name": "Not a name" } });
    let error = world.refusal(CREATE, &invalid).await;
    for said in ["InvalidArgument", "INVALID_REQUEST", "cluster.name"] {
        assert!(error.contains(said), "{said}: {error}");
    }
}

const WATCH_SHARDS: &str = "quorumwatch.v1.ShardService/WatchShards";

/// The watch that began before there was a shard, and others that begin now.
async fn watch_ownership(world: &World, mut ownership: Messages) {
    let owner = ownership.find(|message| {
        let change = message.get("change")?;
        let is_owned = change["shard"]["owner"] == "a";
        is_owned.then(|| message["resumeToken"].clone())
    });
    let token = owner.await;
    assert!(token.is_string(), "{token}");
    let is_heartbeat = |message: &Value| message.get("heartbeat").cloned();
    ownership.find(is_heartbeat).await;

    let mut second = world.stream(WATCH_SHARDS, &json!({}));
    let page = second.next().await;
    assert_eq!(page["snapshot"]["shards"][0]["name"], "prod/0", "{page}");
    let end = second.next().await;
    assert!(end["snapshotEnd"].is_object(), "{end}");
    assert!(end["resumeToken"].is_string(), "{end}");

    let mut resumed = world.stream(WATCH_SHARDS, &json!({ "resumeToken": token }));
    let next = resumed.next().await;
    assert!(next.get("snapshot").is_none(), "{next}");
    assert!(next.get("snapshotEnd").is_none(), "{next}");
}

async fn watch_clusters_and_the_group(world: &World) {
    let method = "quorumwatch.v1.ClusterService/WatchClusters";
    let mut clusters = world.stream(method, &json!({}));
    let page = clusters.next().await;
    assert_eq!(page["snapshot"]["clusters"][0]["name"], "prod", "{page}");
    let method = "quorumwatch.v1.GroupService/WatchGroup";
    let first = world.stream(method, &json!({})).next().await;
    assert_eq!(first["group"]["leader"], "a", "{first}");
    assert_eq!(first["answeredBy"], "a", "{first}");
}

async fn move_and_drain(world: &World) {
    let method = "quorumwatch.v1.ShardService/MoveShard";
    let moved = world
        .call(method, &json!({ "name": "prod", "to": "a" }))
        .await;
    assert_eq!(moved["shard"]["owner"], "a", "it is there already: {moved}");
    let stranger = json!({ "name": "prod", "to": "b" });
    let error = world.refusal(method, &stranger).await;
    assert!(error.contains("MEMBER_NOT_FOUND"), "{error}");
    let name = json!({ "name": "a" });
    let drain = "quorumwatch.v1.GroupService/DrainMember";
    let drained = world.call(drain, &name).await;
    assert_eq!(drained["member"]["draining"], true, "{drained}");
    assert_eq!(
        drained["member"]["shards"], 1,
        "nobody else is there: {drained}"
    );
    let resume = "quorumwatch.v1.GroupService/ResumeMember";
    let resumed = world.call(resume, &name).await;
    assert!(resumed["member"].get("draining").is_none(), "{resumed}");
}

const SUBSCRIBE: &str = "quorumwatch.v1.EventService/Subscribe";

async fn subscribe_and_resume(world: &World) {
    let cluster = world.fleet.cluster("sim").unwrap();
    let events = Resource::events();
    let about = json!({ "kind": "Pod", "name": "web-0" });
    let filter = json!({ "kubernetesEvent": { "involvedObject": about, "reasons": ["BackOff"] } });
    let filters = json!([filter, { "names": ["named"] }]);
    let request = json!({ "now": {}, "filters": filters });
    let mut stream = world.stream(SUBSCRIBE, &request);
    let first = stream.next().await;
    let added = &first["streamChange"];
    assert_eq!(added["type"], "STREAM_CHANGE_TYPE_ADDED", "{first}");
    assert_eq!(added["cluster"], "prod", "{first}");
    let current = |message: &Value| {
        let is_current = message["progress"]["upToDate"] == true;
        is_current.then_some(())
    };
    stream.find(current).await;
    for manifest in [
        about_pod("other-pod", "web-1", "BackOff"),
        about_pod("other-reason", "web-0", "Pulled"),
        about_pod("wanted", "web-0", "BackOff"),
        about_pod("named", "web-1", "Pulled"),
    ] {
        cluster.create(&events, &manifest).unwrap();
    }
    for name in ["wanted", "named"] {
        let event = stream.find(|message| message.get("event").cloned()).await;
        assert_eq!(event["object"]["name"], name);
        assert_eq!(event["stream"], added["stream"]);
        assert_eq!(event["cluster"], "prod");
        let object: Value = serde_json::from_str(event["objectJson"].as_str().unwrap()).unwrap();
        assert_eq!(object["metadata"]["name"], name);
    }

    let cursors = std::mem::take(&mut stream.cursors);
    drop(stream);
    let missed = about_pod("missed", "web-0", "BackOff");
    cluster.create(&events, &missed).unwrap();
    let request = json!({ "resume": { "cursors": cursors }, "filters": filters });
    let mut stream = world.stream(SUBSCRIBE, &request);
    let event = stream.find(|message| message.get("event").cloned()).await;
    assert_eq!(event["object"]["name"], "missed");
}

/// A list of what exists: a subscription that the server ends.
async fn list_what_exists(world: &World) {
    let request = json!({ "snapshot": {}, "until": "UNTIL_UP_TO_DATE", "view": "VIEW_NONE" });
    let mut stream = world.stream(SUBSCRIBE, &request);
    let mut names = Vec::new();
    let mut last = Value::Null;
    while let Some(message) = stream.read().await {
        if let Some(name) = message["event"]["object"]["name"].as_str() {
            names.push(name.to_owned());
        }
        last = message;
    }
    names.sort();
    let expected = ["missed", "named", "other-pod", "other-reason", "wanted"];
    assert_eq!(names, expected);
    assert_eq!(last["closing"]["reason"], "CLOSING_REASON_COMPLETE");
    assert_eq!(last["closing"]["action"], "CLOSING_ACTION_STOP");
    let status = stream.child.wait().await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn grpcurl_finds_and_uses_everything() {
    let Some(grpcurl) = grpcurl().await else {
        return;
    };
    let world = World::start(grpcurl).await;
    find_everything(&world).await;
    find_services_by_the_older_reflection(&world).await;

    let mut ownership = world.stream(WATCH_SHARDS, &json!({}));
    let empty = ownership.next().await;
    assert!(empty["snapshotEnd"].is_object(), "{empty}");
    monitor_a_cluster(&world).await;
    watch_ownership(&world, ownership).await;
    watch_clusters_and_the_group(&world).await;
    move_and_drain(&world).await;
    subscribe_and_resume(&world).await;
    list_what_exists(&world).await;
}
