//! The HTTP surface: from paths to answers, and the faults that come in between.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderName, Method, StatusCode, Uri},
    response::Response,
    routing::get,
};
use uuid::Uuid;

use super::{
    cluster::{Clusters, SimCluster},
    connection::Connection,
    discovery,
    fault::Fault,
    kind::Served,
    list,
    manifest::Manifest,
    object::{Identity, Object},
    query::{Format, Query},
    review,
    status::{Status, json_response},
    store::rfc3339_seconds,
    watch,
};
use crate::domain::cluster::Resource;

/// Where an answer names the flow schema that its request was counted under.
const FLOW_SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");

/// The service that answers for all clusters.
pub(super) fn router(clusters: Clusters) -> Router {
    Router::new()
        .route("/sim/ledger", get(ledger))
        .fallback(answer)
        .with_state(clusters)
}

/// What a path below a cluster's base path is about.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    Health,
    Version,
    CoreVersions,
    Groups,
    Group(&'a str),
    Resources(&'a str, &'a str),
    Namespace(&'a str),
    Collection(Resource, &'a str),
    Object(Resource, &'a str, &'a str),
}

impl<'a> Target<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["livez" | "readyz" | "healthz", ..] => return Some(Self::Health),
            ["version"] => return Some(Self::Version),
            ["api"] => return Some(Self::CoreVersions),
            ["apis"] => return Some(Self::Groups),
            ["apis", group] => return Some(Self::Group(group)),
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let resource = |plural: &str| Resource {
            group: group.into(),
            version: version.into(),
            plural: plural.into(),
        };
        Some(match rest {
            [] => Self::Resources(group, version),
            ["namespaces", name] if group.is_empty() => Self::Namespace(name),
            ["namespaces", namespace, plural] => Self::Collection(resource(plural), namespace),
            ["namespaces", namespace, plural, name] => {
                Self::Object(resource(plural), namespace, name)
            }
            [plural] => Self::Collection(resource(plural), ""),
            [plural, name] => Self::Object(resource(plural), "", name),
            _ => return None,
        })
    }
}

async fn ledger(State(clusters): State<Clusters>, uri: Uri) -> Response {
    let name = uri.query().and_then(|query| query.strip_prefix("cluster="));
    match name.and_then(|name| clusters.get(name)) {
        Some(cluster) => Response::new(Body::from(cluster.ledger().to_json_lines())),
        None => Status::not_found("name a simulated cluster: /sim/ledger?cluster=NAME").response(),
    }
}

async fn answer(
    State(clusters): State<Clusters>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let no_such = || Status::not_found("the server could not find the requested resource");
    let path = request.uri().path();
    let Some((name, path)) = path
        .strip_prefix("/clusters/")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
    else {
        return no_such().response();
    };
    let Some(cluster) = clusters.get(name) else {
        return no_such().response();
    };
    cluster.note_request(&request, connection.client());
    if let Some(refusal) = meet_faults(cluster, &connection, path).await {
        return refusal;
    }
    if request.method() == Method::POST
        && let Some(kind) = path.strip_prefix("apis/")
        && kind.ends_with("reviews")
    {
        let path = path.to_owned();
        return review::answer(cluster, &path, request.into_body()).await;
    }
    if request.method() != Method::GET {
        return Status::method_not_allowed().response();
    }
    match Target::parse(path) {
        Some(target) => {
            let response = serve(cluster, target, &request);
            let mut response = response.unwrap_or_else(|status| status.response());
            if !response.headers().contains_key(FLOW_SCHEMA) {
                let uid = cluster.read(|store| store.uid().clone());
                name_flow_schema(&mut response, &uid);
            }
            response
        }
        None => no_such().response(),
    }
}

/// Lets the switches that strike requests strike.
async fn meet_faults(
    cluster: &SimCluster,
    connection: &Connection,
    path: &str,
) -> Option<Response> {
    let faults = cluster.faults();
    let mut changes = faults.changes();
    while faults.is_on(Fault::Stall) {
        tokio::select! {
            // The sender is the cluster's, which outlives this call.
            _ = changes.changed() => {}
            () = cluster.context().stopping.cancelled() => break,
        }
    }
    Some(match faults.strike_request()? {
        Fault::Unreachable => {
            connection.break_off();
            let mut never_sent = Response::new(Body::empty());
            *never_sent.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            never_sent
        }
        Fault::Unauthorised => Status::unauthorised().response(),
        Fault::Forbidden => Status::forbidden(&format!("/{path}")).response(),
        Fault::TooManyRequests => Status::too_many_requests().response(),
        _ => Status::unavailable().response(),
    })
}

fn serve(cluster: &SimCluster, target: Target<'_>, request: &Request) -> Result<Response, Status> {
    let no_such = || Status::not_found("the server could not find the requested resource");
    let format = Format::negotiate(request.headers());
    let json = |value: serde_json::Value| json_response(value.to_string());
    match target {
        Target::Health => Ok(Response::new(Body::from("ok"))),
        Target::Version => Ok(json(discovery::version())),
        Target::CoreVersions => Ok(json(discovery::core_versions())),
        Target::Groups => Ok(json(cluster.read(discovery::groups))),
        Target::Group(name) => cluster
            .read(|store| discovery::group(store, name))
            .map(json)
            .ok_or_else(no_such),
        Target::Resources(group, version) => cluster
            .read(|store| discovery::resources(store, group, version))
            .map(json)
            .ok_or_else(no_such),
        Target::Namespace(name @ ("kube-system" | "default")) => {
            let uid = cluster.read(|store| store.uid().clone());
            let object = namespace_object(&uid, name);
            let mut response = list::object_response(&Arc::new(object), format);
            name_flow_schema(&mut response, &uid);
            Ok(response)
        }
        Target::Namespace(name) => Err(Status::not_found(&format!(
            "namespaces \"{name}\" not found"
        ))),
        Target::Object(resource, namespace, name) => {
            let object = cluster.read(|store| {
                let table = store.table_of(&resource).map_err(|_| no_such())?;
                store.get(table, namespace, name).ok_or_else(|| {
                    Status::not_found(&format!("{} \"{name}\" not found", resource.plural))
                })
            })?;
            Ok(list::object_response(&object, format))
        }
        Target::Collection(resource, namespace) => {
            let query = Query::parse(request.uri())?;
            let (table, served) = cluster
                .read(|store| {
                    let table = store.table_of(&resource).ok()?;
                    Some((table, store.served().nth(table)?.clone()))
                })
                .ok_or_else(no_such)?;
            if query.watch {
                if cluster.faults().is_on(Fault::ForbidWatch) {
                    return Err(Status::forbidden(request.uri().path()));
                }
                return watch::open(cluster, table, served, namespace, &query, format);
            }
            let query = list::meet_faults(cluster.faults(), query)?;
            let found =
                cluster.read(|store| list::find(store, table, &served, namespace, &query))?;
            Ok(found.response(format))
        }
    }
}

/// Each cluster has one flow schema. Its UID is no other cluster's.
fn name_flow_schema(response: &mut Response, cluster_uid: &str) {
    let flow_schema = Uuid::new_v5(&Uuid::NAMESPACE_OID, cluster_uid.as_bytes()).to_string();
    if let Ok(flow_schema) = flow_schema.try_into() {
        response.headers_mut().insert(FLOW_SCHEMA, flow_schema);
    }
}

/// The namespaces that every cluster has. The UID of kube-system is the cluster's identity.
fn namespace_object(cluster_uid: &str, name: &str) -> Object {
    let served = Served::new(Resource {
        group: String::new(),
        version: "v1".into(),
        plural: "namespaces".into(),
    });
    let uid = if name == "kube-system" {
        cluster_uid.into()
    } else {
        format!("{name}-{cluster_uid}").into()
    };
    let identity = Identity {
        key: name.into(),
        namespace: "".into(),
        name: name.into(),
        uid,
        created: rfc3339_seconds(0).into(),
    };
    let manifest = Manifest::new("", name)
        .label("kubernetes.io/metadata.name", name)
        .member("spec", &serde_json::json!({"finalizers": ["kubernetes"]}))
        .member("status", &serde_json::json!({"phase": "Active"}));
    Object::new(&served, identity, 1, &manifest)
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn paths_lead_where_they_do_on_a_real_server() {
        let resource = |text: &str| text.parse().unwrap();
        let collection = |text, namespace| Some(Target::Collection(resource(text), namespace));
        for (path, expected) in [
            ("version", Some(Target::Version)),
            ("api/v1", Some(Target::Resources("", "v1"))),
            ("apis/apps/v1", Some(Target::Resources("apps", "v1"))),
            (
                "api/v1/namespaces/kube-system",
                Some(Target::Namespace("kube-system")),
            ),
            ("api/v1/events", collection("v1/events", "")),
            ("api/v1/namespaces/ns/events", collection("v1/events", "ns")),
            ("apis/e.com/v2/widgets", collection("e.com/v2/widgets", "")),
            (
                "api/v1/namespaces/ns/pods/p",
                Some(Target::Object(resource("v1/pods"), "ns", "p")),
            ),
            (
                "api/v1/nodes/n",
                Some(Target::Object(resource("v1/nodes"), "", "n")),
            ),
            ("metrics", None),
        ] {
            assert_eq!(Target::parse(path), expected, "{path}");
        }
    }
}
