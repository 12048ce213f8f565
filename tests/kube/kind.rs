//! The three kinds of objects that are written and watched.

use serde_json::{Value, json};

/// The namespace that everything is written to.
pub(crate) const NAMESPACE: &str = "default";

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Kubernetes Events: they expire, and the API server keeps no watch cache for them.
    Event,
    /// ConfigMaps: served from a watch cache.
    ConfigMap,
    /// Objects of a CRD: their watch cache begins again whenever the CRD changes.
    Widget,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Event, Self::ConfigMap, Self::Widget];

    /// As quorumwatch names the resource.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Event => "v1/events",
            Self::ConfigMap => "v1/configmaps",
            Self::Widget => "quorumwatch.test/v1/widgets",
        }
    }

    /// The kind that a resource's name means.
    pub(crate) fn of(resource: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.resource() == resource)
    }

    /// The URL of all its objects.
    pub(crate) fn everywhere(self) -> &'static str {
        match self {
            Self::Event => "/api/v1/events",
            Self::ConfigMap => "/api/v1/configmaps",
            Self::Widget => "/apis/quorumwatch.test/v1/widgets",
        }
    }

    /// The URL of its objects in [`NAMESPACE`].
    pub(crate) fn collection(self) -> String {
        let (root, plural) = self.everywhere().rsplit_once('/').unwrap();
        format!("{root}/namespaces/{NAMESPACE}/{plural}")
    }

    /// Where etcd keeps its objects, as `namespace/name` below this.
    pub(crate) fn etcd_prefix(self) -> &'static str {
        match self {
            Self::Event => "/registry/events/",
            Self::ConfigMap => "/registry/configmaps/",
            Self::Widget => "/registry/quorumwatch.test/widgets/",
        }
    }

    /// A new object that carries `text`.
    pub(crate) fn object(self, name: &str, text: &str) -> Value {
        let metadata = json!({ "name": name, "namespace": NAMESPACE });
        let mut object = self.change(text);
        object["metadata"] = metadata;
        let (version, kind) = match self {
            Self::Event => {
                let about = json!({ "kind": "Pod", "namespace": NAMESPACE, "name": "web-0" });
                object["involvedObject"] = about;
                object["reason"] = "Tested".into();
                object["type"] = "Normal".into();
                ("v1", "Event")
            }
            Self::ConfigMap => ("v1", "ConfigMap"),
            Self::Widget => ("quorumwatch.test/v1", "Widget"),
        };
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        object
    }

    /// A merge patch after which the object carries `text`.
    pub(crate) fn change(self, text: &str) -> Value {
        match self {
            Self::Event => json!({ "message": text }),
            Self::ConfigMap => json!({ "data": { "text": text } }),
            Self::Widget => json!({ "spec": { "text": text } }),
        }
    }
}

/// The CRD of [`Kind::Widget`], serving these versions besides its first.
pub(crate) fn widget_definition(further: &[&str]) -> Value {
    let version = |name: &str| {
        let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        json!({
            "name": name,
            "served": true,
            "storage": name == "v1",
            "schema": { "openAPIV3Schema": schema },
        })
    };
    let versions: Vec<_> = std::iter::once("v1")
        .chain(further.iter().copied())
        .map(version)
        .collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.quorumwatch.test" },
        "spec": {
            "group": "quorumwatch.test",
            "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget" },
            "versions": versions,
        },
    })
}
