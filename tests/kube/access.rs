//! What `check` says of a service account that may not do everything.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use http::{Request, header};
use kube::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    condition::eventually,
    control_plane::{ControlPlane, Options, Result},
};

/// For a new rule to count: the API server learns it through a watch of its own.
const COUNTS_WITHIN: Duration = Duration::from_secs(20);
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn check_names_exactly_the_verbs_that_are_missing_and_a_role_that_is_enough() {
    let folder = TempDir::with_prefix("quorumwatch-kube-").unwrap();
    let control_plane = ControlPlane::start(folder.path(), "k0", Options::default());
    let control_plane = control_plane.await.unwrap();
    let client = control_plane.client();
    let token = limited_account(&client).await.unwrap();
    let kubeconfig = folder.path().join("limited");
    let text = fs::read(control_plane.kubeconfig_path()).unwrap();
    let mut limited: Value = serde_json::from_slice(&text).unwrap();
    limited["users"][0]["user"]["token"] = token.as_str().into();
    fs::write(&kubeconfig, limited.to_string()).unwrap();

    let document = eventually("the rules count", COUNTS_WITHIN, async || {
        let (_, document) = check(&kubeconfig);
        let counts = result(&document, "v1/configmaps").starts_with("ok");
        counts.then_some(document)
    })
    .await;
    assert!(!document.to_string().contains(&token), "{document:#}");
    let user = result(&document, "credentials");
    assert!(
        user.contains("system:serviceaccount:default:limited"),
        "{user}"
    );
    for (check, expected) in [
        ("API server", "ok | https://127.0.0.1:"),
        ("get namespace kube-system", "warning | cannot be read"),
        ("v1/configmaps", "ok | may list, watch | "),
        (
            "v1/events",
            "FAILED | may not watch | grant {apiGroups: [\"\"], resources: [\"events\"], \
             verbs: [\"watch\"]}",
        ),
        (
            "apps/v1/deployments",
            "FAILED | may not list, watch | grant {apiGroups: [\"apps\"], resources: \
             [\"deployments\"], verbs: [\"list\", \"watch\"]}",
        ),
        (
            "v1/bindings",
            "FAILED | cannot be watched; its verbs are create",
        ),
        ("apps/v1/deployment", "did you mean apps/v1/deployments?"),
    ] {
        let found = result(&document, check);
        assert!(found.contains(expected), "{check}: {found}");
    }

    let manifest = document["manifests"]["cluster"].as_str().unwrap();
    apply(&client, manifest).await.unwrap();
    eventually("the role is enough", COUNTS_WITHIN, async || {
        let (_, document) = check(&kubeconfig);
        let fine = [
            "get namespace kube-system",
            "v1/events",
            "apps/v1/deployments",
        ];
        let fine = fine.map(|check| result(&document, check).starts_with("ok"));
        (fine == [true; 3] && document["manifests"] == json!({})).then_some(())
    })
    .await;
    eprintln!("a role of {} bytes is what was missing", manifest.len());
}

/// An account that may list and watch ConfigMaps, but only list Events; its token.
async fn limited_account(client: &Client) -> Result<String> {
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "limited" },
    });
    post(client, accounts, &account.to_string(), "application/json").await?;
    let rule = |resource: &str, verbs: &[&str]| json!({ "apiGroups": [""], "resources": [resource], "verbs": verbs });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "limited" },
        "rules": [rule("configmaps", &["list", "watch"]), rule("events", &["list"])],
    });
    post(client, ROLES, &role.to_string(), "application/json").await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "limited" },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "limited",
        },
        "subjects": [{ "kind": "ServiceAccount", "namespace": "default", "name": "limited" }],
    });
    post(client, BINDINGS, &binding.to_string(), "application/json").await?;
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "expirationSeconds": 3600 },
    });
    let path = format!("{accounts}/limited/token");
    let answer = post(client, &path, &request.to_string(), "application/json").await?;
    let token = answer["status"]["token"].as_str().ok_or("no token")?;
    Ok(token.to_owned())
}

/// Creates what a manifest holds, as it stands.
async fn apply(client: &Client, manifest: &str) -> Result<()> {
    for document in manifest.split("---\n") {
        let collection = if document.contains("kind: ClusterRoleBinding\n") {
            BINDINGS
        } else {
            ROLES
        };
        post(client, collection, document, "application/yaml").await?;
    }
    Ok(())
}

async fn post(client: &Client, path: &str, body: &str, content: &str) -> Result<Value> {
    let request = Request::post(format!("{path}?fieldValidation=Strict"))
        .header(header::CONTENT_TYPE, content)
        .header(header::ACCEPT, "application/json")
        .body(body.as_bytes().to_vec())?;
    Ok(client.request(request).await?)
}

/// The exit code, and what it prints.
fn check(kubeconfig: &Path) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorumwatch"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORUMWATCH_") {
            command.env_remove(name);
        }
    }
    command
        .args(["check", "-o", "json", "--kubeconfig"])
        .arg(kubeconfig);
    for resource in [
        "v1/configmaps",
        "v1/events",
        "apps/v1/deployments",
        "v1/bindings",
        "apps/v1/deployment",
    ] {
        command.args(["--resource", resource]);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let document = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), document)
}

/// What is said of one check, in one line.
fn result(document: &Value, check: &str) -> String {
    let findings = document["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["check"] == check);
    let text = |key: &str| {
        finding
            .and_then(|f| f[key].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    ["result", "detail", "advice"].map(text).join(" | ")
}
