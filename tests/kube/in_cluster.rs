//! A replica that runs in a pod of the cluster that it watches: with the token of its service
//! account, which is replaced now and then, and here revoked as well.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Method;
use quorumwatch::{
    client::{Endpoint, Endpoints},
    domain::event::Change,
    proto::v1::ClusterCondition,
};
use serde_json::{Value, json};

use crate::{
    condition::eventually,
    control_plane::{ControlPlane, Options},
    group,
    kind::Kind,
    manifests::{Manifest, Run, render, send, token},
    record::{Record, Seen},
    replicas::free_ports,
    rest::{Rest, key_of},
    subscriber::Subscriber,
    world::{ARRIVES_WITHIN, WHOLE_WITHIN},
};

const NAMESPACE: &str = "quorumwatch";
const ACCOUNT: &str = "quorumwatch";
/// The name under which the overlay's configuration watches the cluster.
const CLUSTER: &str = "here";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn a_replica_in_a_pod_watches_its_own_cluster_and_takes_a_new_token() {
    let mut mounts = Command::new("unshare");
    mounts.args(["--mount", "--propagation", "private", "true"]);
    if !mounts.status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: mounts of its own need root and unshare (util-linux)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plane = ControlPlane::start(folder.path(), "k0", Options::default()).await;
    let mut plane = plane.unwrap();
    let rest = Rest(plane.client());
    for manifest in render("in-cluster").await {
        manifest.expect(&rest, Run::Real).await;
    }
    let pod = Pod::start(folder.path(), &plane, &rest).await;
    pod.wait_condition(ClusterCondition::Connected).await;
    let mut subscriber = Subscriber::start(pod.endpoints());
    subscriber
        .wait("the stream is synced", ARRIVES_WITHIN, |record| {
            record.has_synced(&[(CLUSTER.to_owned(), Kind::Event)])
        })
        .await;
    let mut written = Vec::new();
    write(&rest, "first", &mut written).await;
    wait_for(&mut subscriber, &written).await;

    // The account is deleted and created again: tokens of the old one are refused from now on.
    let account = render("in-cluster").await;
    let account = account.iter().find(|m| m.kind() == "ServiceAccount");
    let account = account.unwrap();
    remove(account, &rest).await;
    account.expect(&rest, Run::Real).await;
    plane.kill_api_server();
    plane.start_api_server().await.unwrap();
    let reason = pod.wait_condition(ClusterCondition::Unauthenticated).await;
    assert!(reason.contains("401"), "{reason}");
    assert!(reason.contains("Unauthorized"), "{reason}");
    write(&rest, "refused", &mut written).await;

    // The kubelet brings a new one.
    pod.replace_token(&rest).await;
    pod.wait_condition(ClusterCondition::Connected).await;
    write(&rest, "renewed", &mut written).await;
    wait_for(&mut subscriber, &written).await;
    let (record, _) = subscriber.leave().await;
    assert_eq!(received(&record), written);
    let has_none = record.all().all(|stream| stream.gaps.is_empty());
    assert!(has_none, "{}", record.summary());
    eprintln!(
        "in a pod: {} events, none lost and none twice over a revoked token, said as {reason:?}",
        written.len()
    );
}

async fn remove(manifest: &Manifest, rest: &Rest) {
    let url = manifest.path();
    let content = "application/json";
    let verdict = send(rest, Method::DELETE, &url, content, &json!({})).await;
    assert!(verdict.is_clean(), "{}", verdict.summary());
}

/// Writes some Events, and remembers them.
async fn write(rest: &Rest, what: &str, written: &mut Vec<String>) {
    for number in 0..10 {
        let name = format!("{what}-{number}");
        rest.create(Kind::Event, &name, what).await.unwrap();
        written.push(key_of(&name));
    }
}

async fn wait_for(subscriber: &mut Subscriber, written: &[String]) {
    subscriber
        .wait("what was written arrives", ARRIVES_WITHIN, |record| {
            received(record).len() >= written.len()
        })
        .await;
}

/// The Events that were created, in the order in which they came.
fn received(record: &Record) -> Vec<String> {
    let seen = record.all().flat_map(|stream| &stream.seen);
    let created = seen.filter_map(|seen| match seen {
        Seen::Event(event) if event.change == Change::Added => Some(event.key.clone()),
        _ => None,
    });
    created.collect()
}

/// A replica with the mounts and the environment of a pod.
struct Pod {
    child: Child,
    client_address: String,
    secrets: PathBuf,
}

impl Pod {
    async fn start(folder: &Path, plane: &ControlPlane, rest: &Rest) -> Self {
        let kubeconfig = fs::read(plane.kubeconfig_path()).unwrap();
        let kubeconfig: Value = serde_json::from_slice(&kubeconfig).unwrap();
        let cluster = &kubeconfig["clusters"][0]["cluster"];
        let authority = cluster["certificate-authority-data"].as_str().unwrap();
        let secrets = folder.join("secrets");
        fs::create_dir(&secrets).unwrap();
        let authority = BASE64_STANDARD.decode(authority).unwrap();
        fs::write(secrets.join("ca.crt"), authority).unwrap();
        fs::write(secrets.join("namespace"), NAMESPACE).unwrap();
        write_token(&secrets, &token(rest, ACCOUNT, NAMESPACE, "").await);
        let server = cluster["server"].as_str().unwrap();
        let (_, port) = server.rsplit_once(':').unwrap();
        let ports = free_ports(2);
        let address = |index: usize| format!("127.0.0.1:{}", ports[index]);
        Self {
            child: launch(folder, &secrets, port, [&address(0), &address(1)]),
            client_address: address(0),
            secrets,
        }
    }

    fn endpoints(&self) -> Endpoints {
        let endpoint: Endpoint = self.client_address.parse().unwrap();
        endpoint.into()
    }

    async fn wait_condition(&self, wanted: ClusterCondition) -> String {
        let what = format!("the cluster is {wanted:?}");
        eventually(&what, WHOLE_WITHIN, async || {
            let (condition, reason) = group::health(&self.endpoints(), CLUSTER).await?;
            (condition == wanted).then_some(reason)
        })
        .await
    }

    async fn replace_token(&self, rest: &Rest) {
        write_token(&self.secrets, &token(rest, ACCOUNT, NAMESPACE, "").await);
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As the kubelet does it: a new directory, to which a link is turned in one step.
fn write_token(secrets: &Path, token: &str) {
    let folder = tempfile::Builder::new().prefix("..").tempdir_in(secrets);
    let folder = folder.unwrap().keep();
    fs::write(folder.join("token"), token).unwrap();
    let (link, new) = (secrets.join("..data"), secrets.join("..data_tmp"));
    symlink(folder.file_name().unwrap(), &new).unwrap();
    fs::rename(&new, &link).unwrap();
    let token = secrets.join("token");
    if !token.is_symlink() {
        symlink("..data/token", token).unwrap();
    }
}

/// Starts the replica with the overlay's configuration, in mounts of its own.
fn launch(folder: &Path, secrets: &Path, port: &str, addresses: [&str; 2]) -> Child {
    let configuration = folder.join("quorumwatch.toml");
    let overlay = Path::new(crate::manifests::FOLDER).join("in-cluster/quorumwatch.toml");
    let kubeconfigs = folder.join("kubeconfigs");
    fs::create_dir(&kubeconfigs).unwrap();
    let text = fs::read_to_string(overlay).unwrap();
    let text = text.replace(
        "/etc/quorumwatch/kubeconfigs",
        kubeconfigs.to_str().unwrap(),
    );
    fs::write(&configuration, text).unwrap();
    let mounting = "mount -t tmpfs tmpfs /run && \
                    mkdir -p /var/run/secrets/kubernetes.io/serviceaccount && \
                    mount --bind \"$1\" /var/run/secrets/kubernetes.io/serviceaccount && \
                    shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", mounting])
        .arg("sh")
        .arg(secrets)
        .arg(env!("CARGO_BIN_EXE_quorumwatch"))
        .args(["serve", "--name", "alone", "--exit-with-parent"])
        .arg("--config")
        .arg(configuration)
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--client-listen", addresses[0]])
        .args(["--peer-listen", addresses[1]])
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", port);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(File::create(folder.join("log")).unwrap())
        .spawn()
        .unwrap()
}
