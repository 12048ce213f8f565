//! The public API as somebody meets it who has nothing but grpcurl: found by reflection, asked and
//! answered in JSON. One replica, one simulated cluster.

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
/// Between two looks at a condition.
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
        }
    }
}

/// The messages of a stream, as grpcurl prints them: JSON documents one after another.
struct Messages {
    child: Child,
    read: Vec<u8>,
}

impl Messages {
    async fn next(&mut self) -> Value {
        timeout(PATIENCE, async {
            loop {
                let mut documents = serde_json::Deserializer::from_slice(&self.read).into_iter();
                if let Some(Ok(document)) = documents.next() {
                    let length = documents.byte_offset();
                    self.read.drain(..length);
                    return document;
                }
                let stdout = self.child.stdout.as_mut().unwrap();
                let length = stdout.read_buf(&mut self.read).await.unwrap();
                assert_ne!(length, 0, "the stream has ended");
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

/// An address that nobody listens at.
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
    let described = world
        .text(&[], &["describe", "quorumwatch.v1.Filter"])
        .await;
    assert!(described.contains("cluster_selector"), "{described}");
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
    let told = world.text(&flags, &[method]).await;
    assert!(told.contains("quorumwatch.v1.EventService"), "{told}");
}

async fn monitor_a_cluster(world: &World) {
    let method = "quorumwatch.v1.ClusterService/CreateCluster";
    let inline = json!({ "yaml": world.fleet.kubeconfig("sim"), "context": "sim" });
    let cluster = json!({ "name": "prod", "source": { "kubeconfigInline": inline } });
    let created = world.call(method, &json!({ "cluster": cluster })).await;
    assert_eq!(created["cluster"]["resources"][0]["resource"], "v1/events");
    let owned = |listed: &Value| listed["shards"][0]["owner"] == "a";
    let list = "quorumwatch.v1.ShardService/ListShards";
    let listed = world.eventually(list, owned).await;
    assert_eq!(listed["shards"][0]["id"], "prod/0");
    let again = json!({ "cluster": cluster }).to_string();
    let refused = world.run(&["-d", &again], &[method]).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("AlreadyExists"), "{error}");
}

#[tokio::test]
async fn grpcurl_finds_and_uses_everything() {
    let Some(grpcurl) = grpcurl().await else {
        return;
    };
    let world = World::start(grpcurl).await;
    find_everything(&world).await;
    find_services_by_the_older_reflection(&world).await;

    let mut ownership = world.stream("quorumwatch.v1.ShardService/WatchShards", &json!({}));
    let empty = ownership.next().await;
    assert!(empty["snapshot"].is_object(), "{empty}");
    monitor_a_cluster(&world).await;
    let owner = ownership.find(|told| told["change"]["newOwner"].as_str().map(str::to_owned));
    assert_eq!(owner.await, "a");

    let cluster = world.fleet.cluster("sim").unwrap();
    let events = Resource::events();
    let about = json!({ "kind": "Pod", "name": "web-0" });
    let filter = json!({ "involvedObject": about, "eventReasons": ["BackOff"] });
    let request = json!({ "start": "START_NOW", "filter": filter });
    let mut stream = world.stream("quorumwatch.v1.EventService/Subscribe", &request);
    let current = |told: &Value| {
        let streams = told["progress"]["streams"].as_array()?;
        let catching_up = streams.first()?["catchingUp"] == true;
        (!catching_up).then_some(())
    };
    stream.find(current).await;
    for manifest in [
        about_pod("other-pod", "web-1", "BackOff"),
        about_pod("other-reason", "web-0", "Pulled"),
        about_pod("wanted", "web-0", "BackOff"),
    ] {
        cluster.create(&events, &manifest).unwrap();
    }
    let event = stream.find(|told| told.get("event").cloned()).await;
    assert_eq!(event["object"]["name"], "wanted");
    assert_eq!(event["cluster"], "prod");
}
