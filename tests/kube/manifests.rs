//! The manifests of `deploy/kubernetes`, rendered as kustomize renders them, and sent to an API
//! server.

use std::{path::Path, process::Command, time::Duration};

use http::{Method, Request};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    control_plane::{Result, binaries},
    rest::Rest,
};

/// Where they are.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes");
/// For one request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// One document.
#[derive(Clone, Debug)]
pub(crate) struct Manifest(pub(crate) Value);

/// Whether a request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Checked, and then forgotten.
    Dry,
    Real,
}

/// What an API server said to a manifest.
pub(crate) struct Verdict {
    pub(crate) status: u16,
    /// The object, or why not.
    pub(crate) answer: Value,
    pub(crate) warnings: Vec<String>,
}

impl Verdict {
    /// Accepted, and without a word of doubt.
    pub(crate) fn is_clean(&self) -> bool {
        (200..300).contains(&self.status) && self.warnings.is_empty()
    }

    /// What is to be shown of it.
    pub(crate) fn summary(&self) -> String {
        let message = self.answer["message"].as_str().unwrap_or("accepted");
        format!("{} {message} {:?}", self.status, self.warnings)
    }
}

/// What `kustomize build` makes of a directory.
pub(crate) async fn render(folder: &str) -> Vec<Manifest> {
    let kustomize = binaries().await.unwrap().join("kustomize");
    let folder = Path::new(FOLDER).join(folder);
    let output = Command::new(kustomize)
        .arg("build")
        .arg(folder)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{error}");
    documents(&String::from_utf8(output.stdout).unwrap())
}

/// The documents of a YAML text.
pub(crate) fn documents(text: &str) -> Vec<Manifest> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().map(Manifest).collect()
}

impl Manifest {
    pub(crate) fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap()
    }

    pub(crate) fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.0["metadata"]["namespace"].as_str()
    }

    /// Its URL.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.name())
    }

    /// The URL of all that are like it.
    pub(crate) fn collection(&self) -> String {
        let version = self.0["apiVersion"].as_str().unwrap();
        let root = if version.contains('/') { "apis" } else { "api" };
        let namespace = self.namespace();
        let namespace = namespace.map_or_else(String::new, |name| format!("/namespaces/{name}"));
        format!("/{root}/{version}{namespace}/{}", plural(self.kind()))
    }

    /// Applies it on the server's side, with strict validation of its fields.
    pub(crate) async fn apply(&self, rest: &Rest, run: Run) -> Verdict {
        let dry = if run == Run::Dry { "&dryRun=All" } else { "" };
        let query = format!("fieldManager=tests&force=true&fieldValidation=Strict{dry}");
        let url = format!("{}?{query}", self.path());
        let content = "application/apply-patch+yaml";
        send(rest, Method::PATCH, &url, content, &self.0).await
    }

    /// Applies it, which must succeed without a warning.
    pub(crate) async fn expect(&self, rest: &Rest, run: Run) {
        let verdict = self.apply(rest, run).await;
        let (kind, name) = (self.kind(), self.name());
        assert!(verdict.is_clean(), "{kind} {name}: {}", verdict.summary());
    }

    /// What the API server has.
    pub(crate) async fn read(&self, rest: &Rest) -> Result<Value> {
        let request = Request::get(self.path()).body(Vec::new())?;
        Ok(timeout(ANSWER_WITHIN, rest.0.request(request)).await??)
    }
}

/// Sends JSON, and reads all of the answer, warnings included.
pub(crate) async fn send(
    rest: &Rest,
    method: Method,
    url: &str,
    content: &str,
    body: &Value,
) -> Verdict {
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header(http::header::CONTENT_TYPE, content)
        .body(Body::from(serde_json::to_vec(body).unwrap()))
        .unwrap();
    let answer = timeout(ANSWER_WITHIN, rest.0.send(request)).await;
    let answer = answer.unwrap().unwrap();
    let warnings = answer.headers().get_all(http::header::WARNING).iter();
    let warnings = warnings.map(|warning| warning.to_str().unwrap().to_owned());
    Verdict {
        status: answer.status().as_u16(),
        warnings: warnings.collect(),
        answer: {
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            serde_json::from_slice(&bytes).unwrap()
        },
    }
}

/// A token of a service account, as the API server hands them out; `bound` is the name of the Secret
/// with which it ends, where there is one.
pub(crate) async fn token(rest: &Rest, account: &str, namespace: &str, bound: &str) -> String {
    let url = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let mut request = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": { "expirationSeconds": 3600 },
    });
    if !bound.is_empty() {
        let secret = serde_json::json!({ "apiVersion": "v1", "kind": "Secret", "name": bound });
        request["spec"]["boundObjectRef"] = secret;
    }
    let verdict = send(rest, Method::POST, &url, "application/json", &request).await;
    let token = verdict.answer["status"]["token"].as_str();
    token
        .unwrap_or_else(|| panic!("{}", verdict.summary()))
        .into()
}

fn plural(kind: &str) -> &'static str {
    let plurals = [
        ("ClusterRole", "clusterroles"),
        ("ClusterRoleBinding", "clusterrolebindings"),
        ("ConfigMap", "configmaps"),
        ("Namespace", "namespaces"),
        ("NetworkPolicy", "networkpolicies"),
        ("Pod", "pods"),
        ("PodDisruptionBudget", "poddisruptionbudgets"),
        ("Secret", "secrets"),
        ("Service", "services"),
        ("ServiceAccount", "serviceaccounts"),
        ("StatefulSet", "statefulsets"),
    ];
    let found = plurals.into_iter().find(|(known, _)| *known == kind);
    found
        .unwrap_or_else(|| panic!("add the plural of {kind}"))
        .1
}
