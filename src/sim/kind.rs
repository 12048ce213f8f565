//! What a cluster serves: kinds, scopes and shapes, derived from the resource's name.

use std::sync::Arc;

use crate::domain::cluster::Resource;

/// A resource with everything that its URL does not contain.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) resource: Arc<Resource>,
    pub(super) kind: String,
    pub(super) namespaced: bool,
    /// Served by Kubernetes itself, not through a CRD: list items then have neither `kind` nor
    /// `apiVersion`.
    pub(super) built_in: bool,
}

/// Plurals whose kind is not simply the singular with a capital letter.
const KINDS: &[(&str, &str)] = &[
    ("clusterrolebindings", "ClusterRoleBinding"),
    ("clusterroles", "ClusterRole"),
    ("configmaps", "ConfigMap"),
    ("cronjobs", "CronJob"),
    ("customresourcedefinitions", "CustomResourceDefinition"),
    ("daemonsets", "DaemonSet"),
    ("endpoints", "Endpoints"),
    ("endpointslices", "EndpointSlice"),
    ("horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    ("ingresses", "Ingress"),
    ("networkpolicies", "NetworkPolicy"),
    ("persistentvolumeclaims", "PersistentVolumeClaim"),
    ("persistentvolumes", "PersistentVolume"),
    ("poddisruptionbudgets", "PodDisruptionBudget"),
    ("priorityclasses", "PriorityClass"),
    ("replicasets", "ReplicaSet"),
    ("resourcequotas", "ResourceQuota"),
    ("rolebindings", "RoleBinding"),
    ("serviceaccounts", "ServiceAccount"),
    ("statefulsets", "StatefulSet"),
    ("storageclasses", "StorageClass"),
];

const CLUSTER_SCOPED: &[&str] = &[
    "clusterrolebindings",
    "clusterroles",
    "customresourcedefinitions",
    "namespaces",
    "nodes",
    "persistentvolumes",
    "priorityclasses",
    "storageclasses",
];

const BUILT_IN_GROUPS: &[&str] = &[
    "",
    "apiextensions.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

impl Served {
    pub(super) fn new(resource: Resource) -> Self {
        let built_in = BUILT_IN_GROUPS.contains(&resource.group.as_str());
        Self {
            kind: kind_of(&resource.plural),
            namespaced: !(built_in && CLUSTER_SCOPED.contains(&resource.plural.as_str())),
            built_in,
            resource: Arc::new(resource),
        }
    }

    /// `v1`, or `group/version`.
    pub(super) fn api_version(&self) -> String {
        let Resource { group, version, .. } = &*self.resource;
        if group.is_empty() {
            version.clone()
        } else {
            format!("{group}/{version}")
        }
    }

    /// Whether watches are served from the watch cache. Events are the one resource that is not.
    pub(super) fn is_cached(&self) -> bool {
        !self.resource.is_events()
    }
}

fn kind_of(plural: &str) -> String {
    if let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == plural) {
        return (*kind).to_owned();
    }
    let singular = match plural.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => plural.strip_suffix('s').unwrap_or(plural).to_owned(),
    };
    let mut letters = singular.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::Served;

    fn served(text: &str) -> Served {
        Served::new(text.parse().unwrap())
    }

    #[test]
    fn kinds_are_those_of_the_real_server() {
        assert_eq!(served("v1/configmaps").kind, "ConfigMap");
        assert_eq!(served("v1/events").kind, "Event");
        assert_eq!(served("example.com/v1/policies").kind, "Policy");
        assert_eq!(served("example.com/v1/widgets").kind, "Widget");
    }

    #[test]
    fn scope_and_shape_follow_the_group() {
        assert!(!served("v1/nodes").namespaced);
        assert!(served("example.com/v1/nodes").namespaced);
        assert!(served("apps/v1/deployments").built_in);
        assert!(!served("example.com/v1/widgets").built_in);
        assert!(!served("v1/events").is_cached());
    }
}
