//! What a cluster serves, as clients discover it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{kind::Served, store::Store};

/// The Kubernetes version that is played.
const VERSION: (&str, &str, &str) = ("1", "36", "v1.36.3");

/// `GET /version`.
pub(super) fn version() -> Value {
    let (major, minor, git_version) = VERSION;
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": git_version,
        "gitCommit": "0000000000000000000000000000000000000000",
        "gitTreeState": "clean",
        "buildDate": "2026-11-01T00:00:00Z",
        "goVersion": "go1.26",
        "compiler": "gc",
        "platform": "linux/amd64",
    })
}

/// `GET /api`.
pub(super) fn core_versions() -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    })
}

/// `GET /apis`.
pub(super) fn groups(store: &Store) -> Value {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for served in store.served() {
        let resource = &served.resource;
        if !resource.group.is_empty() {
            let versions = groups.entry(&resource.group).or_default();
            if !versions.contains(&resource.version.as_str()) {
                versions.push(&resource.version);
            }
        }
    }
    let groups: Vec<Value> = groups
        .into_iter()
        .map(|(name, versions)| group_of(name, &versions))
        .collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `GET /apis/<group>`.
pub(super) fn group(store: &Store, name: &str) -> Option<Value> {
    let groups = groups(store);
    let found = groups["groups"]
        .as_array()?
        .iter()
        .find(|group| group["name"] == name)?;
    let mut group = found.clone();
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

fn group_of(name: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions.first() })
}

/// `GET /api/v1` and `GET /apis/<group>/<version>`.
pub(super) fn resources(store: &Store, group: &str, version: &str) -> Option<Value> {
    let mut resources: Vec<Value> = store
        .served()
        .filter(|served| served.resource.group == group && served.resource.version == version)
        .map(resource_of)
        .collect();
    let is_core = group.is_empty() && version == "v1";
    if is_core {
        let namespaces = crate::domain::cluster::Resource {
            group: String::new(),
            version: "v1".into(),
            plural: "namespaces".into(),
        };
        resources.push(resource_of(&Served::new(namespaces)));
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": resources,
        })
    })
}

fn resource_of(served: &Served) -> Value {
    json!({
        "name": served.resource.plural,
        "singularName": served.kind.to_lowercase(),
        "namespaced": served.namespaced,
        "kind": served.kind,
        "verbs": ["get", "list", "watch"],
    })
}
