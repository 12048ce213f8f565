//! The requests of a stream: paths and queries. No discovery is needed, because a selector names
//! group, version and plural.

use std::fmt::Write as _;

use http::{Request, header};
use kube::client::Body;

use crate::domain::{cluster::StreamSelector, position::ResourceVersion, watch_session::Question};

/// Objects as they are.
const ACCEPT_FULL: &str = "application/json";
/// Only metadata, where the server knows how; else objects as they are, which serves as well.
const ACCEPT_METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
const ACCEPT_METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// Which state a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At<'a> {
    /// The newest, read consistently.
    Now,
    /// Exactly the state at a resource version.
    Exactly(&'a ResourceVersion),
    /// The next page of a list that was begun.
    Continue(&'a str),
}

/// How much of each object a list carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Metadata,
    Full,
}

/// The namespace whose UID is the cluster's identity (KEP-2149). It never changes, so the API
/// server's cache may answer.
pub(super) fn identity() -> http::Result<Request<Body>> {
    get(
        "/api/v1/namespaces/kube-system?resourceVersion=0".into(),
        ACCEPT_METADATA,
    )
}

/// Whether the API server is ready. Every user may ask that, where nobody has taken it away.
pub(super) fn readiness() -> http::Result<Request<Body>> {
    get("/readyz".into(), "*/*")
}

/// A consistent list of one object, for its resource version. Labels cannot change that version,
/// and a selector that matches nothing would make the server read everything.
pub(super) fn probe(selector: &StreamSelector) -> http::Result<Request<Body>> {
    let mut query = Query::new(selector);
    query.add("fieldSelector", &selector.field_selector);
    query.add("limit", "1");
    get(query.0, ACCEPT_METADATA_LIST)
}

/// One page of a list.
pub(super) fn list(
    selector: &StreamSelector,
    at: At<'_>,
    detail: Detail,
    limit: u32,
) -> http::Result<Request<Body>> {
    let mut query = Query::new(selector);
    query.select(selector);
    query.add("limit", &limit.to_string());
    match at {
        At::Now => {}
        At::Exactly(rv) => {
            query.add("resourceVersion", &rv.to_string());
            query.add("resourceVersionMatch", "Exact");
        }
        // The token names the version; giving one beside it is refused.
        At::Continue(token) => query.add("continue", token),
    }
    let accept = match detail {
        Detail::Metadata => ACCEPT_METADATA_LIST,
        Detail::Full => ACCEPT_FULL,
    };
    get(query.0, accept)
}

/// One object as it was at a resource version. By its name within its namespace, so that the server
/// reads one key, and without the stream's selectors, which it need not match any more.
pub(super) fn object(
    selector: &StreamSelector,
    question: &Question,
) -> http::Result<Request<Body>> {
    let mut query = Query::new(&StreamSelector {
        namespace: question.witness.key.namespace().to_owned(),
        ..selector.clone()
    });
    let name = format!("metadata.name={}", question.witness.key.name());
    query.add("fieldSelector", &name);
    query.add("limit", "1");
    query.add("resourceVersion", &question.at.to_string());
    query.add("resourceVersionMatch", "Exact");
    get(query.0, ACCEPT_METADATA_LIST)
}

/// A watch after a resource version.
pub(super) fn watch(
    selector: &StreamSelector,
    from: &ResourceVersion,
    timeout_seconds: u64,
) -> http::Result<Request<Body>> {
    let mut query = Query::new(selector);
    query.select(selector);
    query.add("watch", "true");
    query.add("resourceVersion", &from.to_string());
    query.add("allowWatchBookmarks", "true");
    query.add("timeoutSeconds", &timeout_seconds.to_string());
    get(query.0, ACCEPT_FULL)
}

/// What a request asks for, as a role names it.
pub(super) fn verb(request: &Request<Body>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    if query.contains("watch=true") {
        "watch"
    } else if request.uri().path().ends_with("/kube-system") {
        "get"
    } else if request.uri().path().ends_with("/readyz") {
        "readiness check"
    } else {
        "list"
    }
}

fn get(uri: String, accept: &'static str) -> http::Result<Request<Body>> {
    Request::get(uri)
        .header(header::ACCEPT, accept)
        // A compressed watch is flushed late and cannot be cut into lines.
        .header(header::ACCEPT_ENCODING, "identity")
        .body(Body::empty())
}

/// A path with a growing query.
struct Query(String);

impl Query {
    fn new(selector: &StreamSelector) -> Self {
        let resource = &selector.resource;
        let mut path = if resource.group.is_empty() {
            format!("/api/{}", encode(&resource.version))
        } else {
            format!(
                "/apis/{}/{}",
                encode(&resource.group),
                encode(&resource.version)
            )
        };
        if !selector.namespace.is_empty() {
            path.push_str("/namespaces/");
            path.push_str(&encode(&selector.namespace));
        }
        path.push('/');
        path.push_str(&encode(&resource.plural));
        Self(path)
    }

    fn select(&mut self, selector: &StreamSelector) {
        self.add("labelSelector", &selector.label_selector);
        self.add("fieldSelector", &selector.field_selector);
    }

    /// Adds a parameter unless its value is empty.
    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            let separator = if self.0.contains('?') { '&' } else { '?' };
            self.0.push(separator);
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&encode(value));
        }
    }
}

/// Percent-encodes everything but unreserved characters.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::{At, Detail, StreamSelector, list, probe, watch};

    fn selector(resource: &str) -> StreamSelector {
        StreamSelector::all(resource.parse().unwrap())
    }

    #[test]
    fn paths_follow_group_and_namespace() {
        let path = |selector: &StreamSelector| {
            let request = probe(selector).unwrap();
            request.uri().path().to_owned()
        };
        assert_eq!(path(&selector("v1/events")), "/api/v1/events");
        let mut narrowed = selector("apps/v1/deployments");
        narrowed.namespace = "a/../b".into();
        assert_eq!(
            path(&narrowed),
            "/apis/apps/v1/namespaces/a%2F..%2Fb/deployments"
        );
    }

    #[test]
    fn selectors_are_encoded() {
        let mut selected = selector("v1/pods");
        selected.label_selector = "app in (a,b)&x".into();
        let request = watch(&selected, &7.into(), 240).unwrap();
        assert_eq!(
            request.uri().query(),
            Some(
                "labelSelector=app%20in%20%28a%2Cb%29%26x&watch=true&resourceVersion=7\
                 &allowWatchBookmarks=true&timeoutSeconds=240"
            )
        );
    }

    #[test]
    fn a_continued_list_names_no_version() {
        let version = 7.into();
        let query = |at| {
            let request = list(&selector("v1/pods"), at, Detail::Full, 500).unwrap();
            request.uri().query().unwrap_or_default().to_owned()
        };
        assert_eq!(
            query(At::Exactly(&version)),
            "limit=500&resourceVersion=7&resourceVersionMatch=Exact"
        );
        assert_eq!(query(At::Continue("a=")), "limit=500&continue=a%3D");
    }
}
