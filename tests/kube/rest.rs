//! The few requests that the tests make of an API server themselves.

use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::time::timeout;

use crate::{
    condition::eventually,
    control_plane::{Error, Result},
    kind::{Kind, NAMESPACE, widget_definition},
};

/// For one request; one that an API server's death cut off never comes back.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// For a new resource to be served.
const SERVED_WITHIN: Duration = Duration::from_secs(30);
/// Where the definitions of custom resources are.
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Talks to one API server.
#[derive(Clone)]
pub(crate) struct Rest(pub(crate) Client);

/// What was written, as the API server's answer has it.
pub(crate) struct Written {
    pub(crate) uid: String,
    /// Not of a deletion: its response does not have it.
    pub(crate) rv: Option<u64>,
}

/// A consistent list.
pub(crate) struct List {
    pub(crate) rv: u64,
    /// `namespace/name`, version and JSON of each object.
    pub(crate) items: Vec<(String, u64, Box<RawValue>)>,
}

/// Just enough of an object to know which one it is.
#[derive(Deserialize)]
pub(crate) struct Identity {
    pub(crate) metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    #[serde(default)]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) resource_version: String,
}

impl Identity {
    /// `namespace/name` and the version.
    pub(crate) fn of(object: &RawValue) -> Result<(String, u64)> {
        let Self { metadata } = serde_json::from_str(object.get())?;
        let key = format!("{}/{}", metadata.namespace, metadata.name);
        Ok((key, metadata.resource_version.parse()?))
    }
}

impl Rest {
    pub(crate) async fn create(&self, kind: Kind, name: &str, text: &str) -> Result<Written> {
        let object = kind.object(name, text);
        self.write(Method::POST, &kind.collection(), Some(&object))
            .await
    }

    pub(crate) async fn update(&self, kind: Kind, name: &str, text: &str) -> Result<Written> {
        let path = format!("{}/{name}", kind.collection());
        self.write(Method::PATCH, &path, Some(&kind.change(text)))
            .await
    }

    pub(crate) async fn delete(&self, kind: Kind, name: &str) -> Result<Written> {
        let path = format!("{}/{name}", kind.collection());
        self.write(Method::DELETE, &path, None).await
    }

    /// Makes widgets known, and waits until they are served.
    pub(crate) async fn define_widgets(&self) {
        let definition = widget_definition(&[]);
        self.send(Method::POST, DEFINITIONS, Some(&definition))
            .await
            .unwrap();
        eventually("widgets are served", SERVED_WITHIN, async || {
            self.list(Kind::Widget, None).await.ok()
        })
        .await;
    }

    /// Changes the definition of widgets: from now on there are further versions of them.
    pub(crate) async fn redefine_widgets(&self, further: &[&str]) {
        let path = format!("{DEFINITIONS}/widgets.quorumwatch.test");
        let spec = widget_definition(further)["spec"].take();
        let patch = serde_json::json!({ "spec": spec });
        self.send(Method::PATCH, &path, Some(&patch)).await.unwrap();
    }

    /// All objects of a kind: as they are, or as they were at `exactly` this version.
    pub(crate) async fn list(&self, kind: Kind, exactly: Option<u64>) -> Result<List> {
        #[derive(Deserialize)]
        struct Page {
            metadata: Metadata,
            items: Vec<Box<RawValue>>,
        }
        let at = exactly
            .map(|rv| format!("?resourceVersion={rv}&resourceVersionMatch=Exact"))
            .unwrap_or_default();
        let request = Request::get(format!("{}{at}", kind.everywhere())).body(Vec::new())?;
        let text = timeout(ANSWER_WITHIN, self.0.request_text(request)).await??;
        let page: Page = serde_json::from_str(&text)?;
        let identified = |object: Box<RawValue>| {
            let (key, rv) = Identity::of(&object)?;
            Ok::<_, Error>((key, rv, object))
        };
        Ok(List {
            rv: page.metadata.resource_version.parse()?,
            items: page
                .items
                .into_iter()
                .map(identified)
                .collect::<Result<_>>()?,
        })
    }

    async fn write(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Written> {
        let answer = self.send(method, path, body).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let rv = text(&answer["metadata"]["resourceVersion"]);
        let uid = text(&answer["metadata"]["uid"]).or_else(|| text(&answer["details"]["uid"]));
        Ok(Written {
            uid: uid.ok_or_else(|| format!("an answer without a UID: {answer}"))?,
            rv: rv.map(|rv| rv.parse()).transpose()?,
        })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let content = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let body = body.map(serde_json::to_vec).transpose()?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content)
            .body(body.unwrap_or_default())?;
        Ok(timeout(ANSWER_WITHIN, self.0.request(request)).await??)
    }
}

/// The key of an object that the tests wrote.
pub(crate) fn key_of(name: &str) -> String {
    format!("{NAMESPACE}/{name}")
}
