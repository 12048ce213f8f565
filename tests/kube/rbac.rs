//! The role of `deploy/kubernetes/watched-cluster` is enough to watch a cluster, and every verb of it
//! is needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Method;
use quorumwatch::proto::v1::{Cluster, ClusterCondition};
use serde_json::{Value, json};

use crate::{
    control_plane::{ControlPlane, Options},
    group,
    kind::Kind,
    manifests::{FOLDER, Manifest, Run, render, send, token},
    record::MARK,
    rest::Rest,
    subscriber::Subscriber,
    world::{ARRIVES_WITHIN, World},
};

const FOLDER_NAME: &str = "watched-cluster";
const ACCOUNT: &str = "quorumwatch-reader";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn the_read_only_role_is_enough_and_none_of_it_is_too_much() {
    let world = World::start(vec![], &[], &[]).await;
    let folder = world.folder.path();
    let plane = ControlPlane::start(&folder, "k0", Options::default()).await;
    let plane = plane.unwrap();
    let rest = Rest(plane.client());
    let manifests = render(FOLDER_NAME).await;
    for manifest in &manifests {
        manifest.expect(&rest, Run::Real).await;
    }
    fill_secret_in(&rest, &plane.kubeconfig_path()).await;
    let kubeconfig = make_kubeconfig(&rest, &plane.kubeconfig_path(), &folder).await;

    // Enough: Events flow, and with one more rule so does another resource.
    let watched = [Kind::Event];
    world.create("reader", &kubeconfig, &watched).await;
    let reason = world
        .wait_health("reader", ClusterCondition::Connected)
        .await;
    assert_eq!(reason, "");
    let role = find(&manifests, "ClusterRole");
    let wider = with_config_maps(role);
    let wider = stranger(&rest, &plane, &folder, "wider", &wider).await;
    let both = [Kind::Event, Kind::ConfigMap];
    register_again(&world, "wider", &wider, &both).await;
    let reason = world
        .wait_health("wider", ClusterCondition::Connected)
        .await;
    assert_eq!(reason, "");
    expect_flow(&world, &rest).await;

    // Not too much: each verb is missed where it is missing.
    let mut table = vec![row("(the whole role)", ClusterCondition::Connected, "")];
    for case in without_each_verb(role) {
        let kubeconfig = stranger(&rest, &plane, &folder, &case.name, &case.role).await;
        register_again(&world, &case.name, &kubeconfig, &watched).await;
        let reason = world.wait_health(&case.name, case.condition).await;
        assert!(reason.contains(case.says), "{}: {reason}", case.name);
        table.push(row(&case.name, case.condition, &reason));
    }
    eprintln!("{}", table.join("\n"));
}

/// The same cluster under another name, with other credentials; and that is meant.
async fn register_again(world: &World, name: &str, kubeconfig: &Path, kinds: &[Kind]) {
    let cluster = Cluster {
        duplicate_of: "reader".into(),
        ..group::cluster(name, kubeconfig, kinds)
    };
    world.register(cluster).await;
}

fn row(case: &str, condition: ClusterCondition, reason: &str) -> String {
    let condition = condition.as_str_name().replace("CLUSTER_CONDITION_", "");
    format!("{case:<40} {condition:<17} {reason}")
}

fn find<'a>(manifests: &'a [Manifest], kind: &str) -> &'a Manifest {
    manifests.iter().find(|m| m.kind() == kind).unwrap()
}

/// A role without one verb, and what is to be seen then.
struct Case {
    name: String,
    role: Manifest,
    condition: ClusterCondition,
    says: &'static str,
}

/// Every verb of every rule, left out once.
fn without_each_verb(role: &Manifest) -> Vec<Case> {
    let rules = role.0["rules"].as_array().unwrap();
    let mut cases = Vec::new();
    for (rule, description) in rules.iter().enumerate() {
        let resource = description["resources"][0].as_str().unwrap();
        for (verb, name) in description["verbs"].as_array().unwrap().iter().enumerate() {
            let name = name.as_str().unwrap();
            let mut without = role.clone();
            let verbs = without.0["rules"][rule]["verbs"].as_array_mut().unwrap();
            verbs.remove(verb);
            // A rule without verbs is not valid.
            if verbs.is_empty() {
                without.0["rules"].as_array_mut().unwrap().remove(rule);
            }
            let (condition, says) = match (name, resource) {
                ("list", "events") => (
                    ClusterCondition::PermissionDenied,
                    "cannot list resource \"events\"",
                ),
                ("watch", "events") => (
                    ClusterCondition::PermissionDenied,
                    "cannot watch resource \"events\"",
                ),
                ("get", "namespaces") => {
                    (ClusterCondition::Connected, "grant get on this namespace")
                }
                other => panic!("the role has a verb that nothing is known to need: {other:?}"),
            };
            cases.push(Case {
                name: format!("without-{name}-{resource}"),
                role: without,
                condition,
                says,
            });
        }
    }
    cases
}

fn with_config_maps(role: &Manifest) -> Manifest {
    let mut wider = role.clone();
    let mut rule = wider.0["rules"][0].clone();
    rule["resources"] = json!(["configmaps"]);
    wider.0["rules"].as_array_mut().unwrap().push(rule);
    wider
}

/// An account of this name that has this role; gives its kubeconfig.
async fn stranger(
    rest: &Rest,
    plane: &ControlPlane,
    folder: &Path,
    name: &str,
    role: &Manifest,
) -> PathBuf {
    let mut role = role.clone();
    role.0["metadata"]["name"] = name.into();
    role.expect(rest, Run::Real).await;
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": ACCOUNT },
    });
    Manifest(account).expect(rest, Run::Real).await;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "apiVersion": format!("{group}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": { "name": name },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": ACCOUNT }],
    });
    Manifest(binding).expect(rest, Run::Real).await;
    let token = token(rest, name, ACCOUNT, "").await;
    write_kubeconfig(&plane.kubeconfig_path(), &token, &folder.join(name))
}

/// That of the administrator, with another token.
fn write_kubeconfig(of_admin: &Path, token: &str, path: &Path) -> PathBuf {
    let text = fs::read_to_string(of_admin).unwrap();
    let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
    kubeconfig["users"][0]["user"]["token"] = token.into();
    fs::write(path, kubeconfig.to_string()).unwrap();
    path.into()
}

/// Does what a cluster's controller manager does: writes a token into the Secret.
async fn fill_secret_in(rest: &Rest, of_admin: &Path) {
    let token = token(rest, ACCOUNT, ACCOUNT, ACCOUNT).await;
    let of_admin: Value = serde_json::from_slice(&fs::read(of_admin).unwrap()).unwrap();
    let authority = &of_admin["clusters"][0]["cluster"]["certificate-authority-data"];
    let data = json!({ "data": { "token": BASE64_STANDARD.encode(token), "ca.crt": authority } });
    let url = format!("/api/v1/namespaces/{ACCOUNT}/secrets/{ACCOUNT}");
    let verdict = send(
        rest,
        Method::PATCH,
        &url,
        "application/merge-patch+json",
        &data,
    )
    .await;
    assert!(verdict.is_clean(), "{}", verdict.summary());
}

/// The kubeconfig as the script makes it; without kubectl, with the same token by hand.
async fn make_kubeconfig(rest: &Rest, of_admin: &Path, folder: &Path) -> PathBuf {
    let path = folder.join("reader");
    let kubectl = Command::new("kubectl")
        .args(["version", "--client"])
        .output();
    if !kubectl.is_ok_and(|ran| ran.status.success()) {
        eprintln!("SKIPPED: kubeconfig.sh was not run: there is no kubectl here");
        let token = token(rest, ACCOUNT, ACCOUNT, ACCOUNT).await;
        return write_kubeconfig(of_admin, &token, &path);
    }
    let script = Path::new(FOLDER).join(FOLDER_NAME).join("kubeconfig.sh");
    let made = Command::new(script)
        .arg("k0")
        .env("KUBECONFIG", of_admin)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "kubeconfig.sh: {error}");
    fs::write(&path, made.stdout).unwrap();
    path
}

/// What is written now arrives through each of the accounts.
async fn expect_flow(world: &World, rest: &Rest) {
    let streams = [
        ("reader".to_owned(), Kind::Event),
        ("wider".to_owned(), Kind::Event),
        ("wider".to_owned(), Kind::ConfigMap),
    ];
    let mut subscriber = Subscriber::start(world.replicas.any());
    subscriber
        .wait("every stream is synced", ARRIVES_WITHIN, |record| {
            record.has_synced(&streams)
        })
        .await;
    let mark = format!("{MARK}through-the-role");
    for kind in [Kind::Event, Kind::ConfigMap] {
        rest.create(kind, &mark, "mark").await.unwrap();
    }
    subscriber
        .wait("the marks arrive", ARRIVES_WITHIN, |record| {
            record.has_marks(&streams, &mark)
        })
        .await;
    let (record, _) = subscriber.leave().await;
    let has_none = record.all().all(|stream| stream.gaps.is_empty());
    assert!(has_none, "{}", record.summary());
}
