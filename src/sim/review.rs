//! Reviews: a cluster's answers about a user's identity and permissions.

use axum::{body::Body, response::Response};
use serde_json::{Value, json};

use super::{
    cluster::SimCluster,
    fault::Fault,
    status::{Status, json_response},
};

/// Longest question that is read.
const QUESTION_BYTES_MAX: usize = 64 * 1024;
/// As whom everybody is known.
const USER: &str = "system:serviceaccount:default:simulated";

/// Answers a review that was posted to `path`.
pub(super) async fn answer(cluster: &SimCluster, path: &str, body: Body) -> Response {
    let question = axum::body::to_bytes(body, QUESTION_BYTES_MAX).await;
    let question = question
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(mut review) = question.filter(Value::is_object) else {
        return Status::bad_request("the body is no review").response();
    };
    review["status"] = match path {
        "apis/authentication.k8s.io/v1/selfsubjectreviews" => {
            json!({ "userInfo": { "username": USER, "groups": ["system:authenticated"] } })
        }
        "apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            let verb = &review["spec"]["resourceAttributes"]["verb"];
            let denied = verb == "watch" && cluster.faults().is_on(Fault::ForbidWatch);
            json!({ "allowed": !denied })
        }
        _ => {
            let message = "the server could not find the requested resource";
            return Status::not_found(message).response();
        }
    };
    json_response(review.to_string())
}
