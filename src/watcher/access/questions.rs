//! What is asked of an API server about itself and about us.

use http::{Request, header};
use kube::client::Body;
use serde::Deserialize;
use serde_json::json;

use super::super::{
    api_error::ApiError,
    client::ApiServer,
    events::{Malformed, read_list_version, read_uid},
    requests,
};
use crate::{
    config::nearest,
    domain::{
        cluster::{Resource, StreamSelector},
        position::ResourceVersion,
    },
};

/// What watching does with a resource. It never asks for a single object, so `get` is not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verb {
    List,
    Watch,
}

impl Verb {
    pub(super) const ALL: [Self; 2] = [Self::List, Self::Watch];

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

/// A resource, as discovery lists it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Served {
    pub(super) name: String,
    #[serde(default, rename = "singularName")]
    pub(super) singular: String,
    #[serde(default, rename = "shortNames")]
    pub(super) short: Vec<String>,
    #[serde(default)]
    pub(super) namespaced: bool,
    #[serde(default)]
    pub(super) verbs: Vec<String>,
}

impl Served {
    pub(super) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }
}

#[derive(Deserialize)]
struct Discovered {
    resources: Vec<Served>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

#[derive(Deserialize)]
struct Review<S> {
    status: S,
}

#[derive(Deserialize)]
struct Access {
    #[serde(default)]
    allowed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SelfSubject {
    user_info: User,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

impl ApiServer {
    /// The Kubernetes version, like `v1.36.3`.
    pub(super) async fn version(&self) -> Result<String, ApiError> {
        let version: Version = self.ask("/version", "version").await?;
        Ok(version.git_version)
    }

    /// The user name that the server sees; unavailable before Kubernetes 1.28.
    pub(super) async fn user(&self) -> Result<String, ApiError> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "SelfSubjectReview",
        });
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let answer: Review<SelfSubject> = self.post(path, &review).await?;
        Ok(answer.status.user_info.username)
    }

    /// The UID of kube-system.
    pub(super) async fn identity(&self) -> Result<String, ApiError> {
        let namespace = self.get(requests::identity()).await?;
        Ok(read_uid(&namespace)?)
    }

    /// What a group and version serves.
    pub(super) async fn served(&self, path: &str) -> Result<Vec<Served>, ApiError> {
        let found: Discovered = self.ask(path, "list of resources").await?;
        Ok(found.resources)
    }

    /// Lists one object, with the stream's own selectors.
    pub(super) async fn list_version(
        &self,
        selector: &StreamSelector,
    ) -> Result<ResourceVersion, ApiError> {
        let one = requests::list(selector, requests::At::Now, requests::Detail::Metadata, 1);
        Ok(read_list_version(&self.get(one).await?)?)
    }

    /// Whether the server's own review allows a verb.
    pub(super) async fn review(
        &self,
        selector: &StreamSelector,
        verb: Verb,
    ) -> Result<bool, ApiError> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "group": selector.resource.group,
                "resource": selector.resource.plural,
                "namespace": selector.namespace,
                "verb": verb.name(),
            }},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer: Review<Access> = self.post(path, &review).await?;
        Ok(answer.status.allowed)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        what: &'static str,
    ) -> Result<T, ApiError> {
        let request = Request::get(path)
            .header(header::ACCEPT, "application/json")
            .body(Body::empty());
        let answer = self.get(request).await?;
        Ok(serde_json::from_slice(&answer).map_err(|_| Malformed::Json(what))?)
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, ApiError> {
        let request = Request::post(path)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string().into_bytes()));
        let answer = self.get(request).await?;
        Ok(serde_json::from_slice(&answer).map_err(|_| Malformed::Json("review"))?)
    }
}

/// `v1` or `apps/v1`.
pub(super) fn version_of(resource: &Resource) -> String {
    if resource.group.is_empty() {
        resource.version.clone()
    } else {
        format!("{}/{}", resource.group, resource.version)
    }
}

/// The discovery path of a resource's group and version.
pub(super) fn discovery_path(resource: &Resource) -> String {
    let root = if resource.group.is_empty() {
        "api"
    } else {
        "apis"
    };
    format!("/{root}/{}", version_of(resource))
}

/// The plural that was probably meant: another of its names, or a misspelling.
pub(super) fn meant<'a>(written: &str, served: &'a [Served]) -> Option<&'a str> {
    let alias = served
        .iter()
        .find(|served| served.singular == written || served.short.iter().any(|s| s == written));
    let names = served.iter().map(|served| served.name.as_str());
    let whole = names.filter(|name| !name.contains('/'));
    alias
        .map(|served| served.name.as_str())
        .or_else(|| nearest(written, whole))
}
