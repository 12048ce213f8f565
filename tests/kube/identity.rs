//! What answers say of the cluster that they come from.

use http::Request;
use kube::{Client, client::Body};
use tempfile::TempDir;

use crate::control_plane::{ControlPlane, Options};

/// The UID of the flow schema that a request is counted under.
const FLOW_SCHEMA: &str = "x-kubernetes-pf-flowschema-uid";
/// The identity, a list and a watch, as a session asks for them.
const PATHS: [&str; 3] = [
    "/api/v1/namespaces/kube-system?resourceVersion=0",
    "/api/v1/configmaps?limit=1",
    "/api/v1/events?watch=true&timeoutSeconds=1",
];

/// So an open watch needs no second request to know whose it is.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn every_answer_names_a_flow_schema_that_no_other_cluster_has() {
    let folder = TempDir::new().unwrap();
    let start = |name| ControlPlane::start(folder.path(), name, Options::default());
    let (mut one, other) = (start("k0").await.unwrap(), start("k1").await.unwrap());
    let first = flow_schema(&one.client()).await;
    assert_ne!(first, flow_schema(&other.client()).await);
    one.kill_api_server();
    one.start_api_server().await.unwrap();
    assert_eq!(first, flow_schema(&one.client()).await);
}

/// The one that all of the answers name.
async fn flow_schema(client: &Client) -> String {
    let mut named = Vec::new();
    for path in PATHS {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = client.send(request).await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        let flow_schema = answer.headers().get(FLOW_SCHEMA);
        named.push(flow_schema.expect(path).to_str().unwrap().to_owned());
    }
    named.dedup();
    assert_eq!(named.len(), 1, "{named:?}");
    named.remove(0)
}
