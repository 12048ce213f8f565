//! Clusters: what is written, and what reads back as it was written.

use tonic::Status;

use super::{duration, timestamp};
use crate::{
    api::status::invalid_fields,
    domain::{
        change::{ClusterChange, ClusterChangeKind},
        cluster::{Cluster, ClusterSpec, Condition, ResourceSelector, Source},
    },
    proto::v1,
};

/// Longest text of a request that is shown in an error.
const SHOWN_CHARS_MAX: usize = 80;

/// A cluster as users see it, with the largest lag of its streams where that is known.
pub(in crate::api) fn cluster(cluster: &Cluster, lag_ms: Option<u64>) -> v1::Cluster {
    let health = &cluster.health;
    v1::Cluster {
        uid: cluster.uid.clone().unwrap_or_default(),
        health: Some(v1::ClusterHealth {
            condition: condition(health.condition).into(),
            reason: health.reason.clone(),
            since_time: Some(timestamp(health.since)),
        }),
        create_time: Some(timestamp(cluster.created)),
        update_time: Some(timestamp(cluster.updated)),
        etag: cluster.revision.to_string(),
        lag: lag_ms.map(|lag| duration(i64::try_from(lag).unwrap_or(i64::MAX))),
        ..specified(&cluster.spec)
    }
}

/// The part of a cluster that users write, as they wrote it.
pub(in crate::api) fn specified(spec: &ClusterSpec) -> v1::Cluster {
    v1::Cluster {
        name: spec.name.clone(),
        labels: spec.labels.clone(),
        source: Some(source(&spec.source)),
        resources: spec.resources.iter().map(selector).collect(),
        paused: spec.paused,
        description: spec.description.clone(),
        duplicate_of: spec.duplicate_of.clone(),
        ..v1::Cluster::default()
    }
}

/// A change of a cluster. The lag of its streams is no part of it.
pub(in crate::api) fn cluster_change(change: &ClusterChange) -> v1::ClusterChange {
    let kind = match change.kind {
        ClusterChangeKind::Created => v1::ClusterChangeType::Created,
        ClusterChangeKind::Updated => v1::ClusterChangeType::Updated,
        ClusterChangeKind::Deleted => v1::ClusterChangeType::Deleted,
    };
    v1::ClusterChange {
        r#type: kind.into(),
        cluster: Some(cluster(&change.cluster, None)),
    }
}

fn condition(condition: Condition) -> v1::ClusterCondition {
    match condition {
        Condition::Unknown => v1::ClusterCondition::Unknown,
        Condition::Connected => v1::ClusterCondition::Connected,
        Condition::Degraded => v1::ClusterCondition::Degraded,
        Condition::Unreachable => v1::ClusterCondition::Unreachable,
        Condition::Unauthenticated => v1::ClusterCondition::Unauthenticated,
        Condition::PermissionDenied => v1::ClusterCondition::PermissionDenied,
        Condition::Duplicate => v1::ClusterCondition::Duplicate,
    }
}

fn source(source: &Source) -> v1::ClusterSource {
    use v1::cluster_source::Source as Out;
    let out = match source.clone() {
        Source::KubeconfigFile { path, context } => {
            Out::KubeconfigFile(v1::KubeconfigFile { path, context })
        }
        Source::KubeconfigInline { yaml, context } => {
            Out::KubeconfigInline(v1::KubeconfigInline { yaml, context })
        }
        Source::Configured { name } => Out::Configured(name),
        Source::InCluster => Out::InCluster(v1::InCluster {}),
    };
    v1::ClusterSource { source: Some(out) }
}

fn selector(selector: &ResourceSelector) -> v1::ResourceSelector {
    v1::ResourceSelector {
        resource: selector.resource.to_string(),
        namespaces: selector.namespaces.clone(),
        label_selector: selector.label_selector.clone(),
        field_selector: selector.field_selector.clone(),
    }
}

/// What a user asks for, checked; all that is wrong with it at once.
pub(in crate::api) fn cluster_spec(cluster: v1::Cluster) -> Result<ClusterSpec, Status> {
    let mut faults = Vec::new();
    let source = cluster_source(cluster.source).unwrap_or_else(|fault| {
        faults.push(fault);
        Source::InCluster
    });
    let mut resources = Vec::new();
    for (at, resource) in cluster.resources.into_iter().enumerate() {
        match resource_selector(at, resource) {
            Ok(selector) => resources.push(selector),
            // The others may all be of the same kind, and there may be very many.
            Err(fault) => {
                faults.push(fault);
                break;
            }
        }
    }
    let spec = ClusterSpec {
        name: cluster.name,
        labels: cluster.labels,
        source,
        resources,
        paused: cluster.paused,
        description: cluster.description,
        duplicate_of: cluster.duplicate_of,
    };
    let violations = spec.violations().into_iter();
    faults.extend(violations.map(|fault| (fault.field, fault.message)));
    if faults.is_empty() {
        Ok(spec)
    } else {
        Err(invalid_fields(faults))
    }
}

/// A field that is not valid, and what would be.
type Fault = (String, String);

/// Where the credentials come from; an inline kubeconfig must carry none.
fn cluster_source(source: Option<v1::ClusterSource>) -> Result<Source, Fault> {
    use v1::cluster_source::Source as In;
    let fault = |field: &str, text: String| Err((format!("cluster.source{field}"), text));
    match source.and_then(|source| source.source) {
        None => fault(
            "",
            "is missing: set one of kubeconfig_file, kubeconfig_inline, configured, in_cluster"
                .to_owned(),
        ),
        Some(In::KubeconfigFile(v1::KubeconfigFile { path, .. })) if path.is_empty() => fault(
            ".kubeconfig_file.path",
            "is empty: give the path that the file has on every replica".to_owned(),
        ),
        Some(In::KubeconfigFile(file)) => Ok(Source::KubeconfigFile {
            path: file.path,
            context: file.context,
        }),
        Some(In::KubeconfigInline(inline)) => {
            // One that is too long is refused for that, without being read.
            if inline.yaml.len() <= ClusterSpec::INLINE_BYTES_MAX
                && let Err(error) = crate::watcher::reject_credentials(&inline.yaml)
            {
                return fault(".kubeconfig_inline.yaml", error.to_string());
            }
            Ok(Source::KubeconfigInline {
                yaml: inline.yaml,
                context: inline.context,
            })
        }
        Some(In::Configured(name)) => Ok(Source::Configured { name }),
        Some(In::InCluster(_)) => Ok(Source::InCluster),
    }
}

fn resource_selector(at: usize, selector: v1::ResourceSelector) -> Result<ResourceSelector, Fault> {
    let resource = selector.resource.parse().map_err(|_| {
        let shown: String = selector.resource.chars().take(SHOWN_CHARS_MAX).collect();
        let text = format!(
            "{shown:?} is not a resource: write apiVersion/plural, like v1/configmaps or \
             apps/v1/deployments"
        );
        (format!("cluster.resources[{at}].resource"), text)
    })?;
    Ok(ResourceSelector {
        resource,
        namespaces: selector.namespaces,
        label_selector: selector.label_selector,
        field_selector: selector.field_selector,
    })
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::{cluster_spec, specified, v1};

    fn written() -> v1::Cluster {
        use v1::cluster_source::Source;
        let yaml = "apiVersion: v1\nkind: Config\n".to_owned();
        v1::Cluster {
            name: "c".into(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            source: Some(v1::ClusterSource {
                source: Some(Source::KubeconfigInline(v1::KubeconfigInline {
                    yaml,
                    context: "admin".into(),
                })),
            }),
            resources: vec![v1::ResourceSelector {
                resource: "apps/v1/deployments".into(),
                namespaces: vec!["b".into(), "a".into()],
                label_selector: "app=web".into(),
                field_selector: "metadata.name=x".into(),
            }],
            paused: true,
            description: "ours".into(),
            duplicate_of: "other".into(),
            ..v1::Cluster::default()
        }
    }

    #[test]
    fn what_is_written_reads_back_as_written() {
        let mut cluster = written();
        let spec = cluster_spec(cluster.clone()).unwrap();
        assert_eq!(specified(&spec), cluster);
        cluster.resources.clear();
        let spec = cluster_spec(cluster.clone()).unwrap();
        assert_eq!(specified(&spec), cluster);
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once() {
        let mut cluster = written();
        cluster.name = "A".into();
        cluster.source = None;
        cluster.resources[0].resource = "pods".into();
        let status = cluster_spec(cluster).unwrap_err();
        let request = status.get_details_bad_request().unwrap();
        let fields: Vec<_> = request
            .field_violations
            .into_iter()
            .map(|violation| violation.field)
            .collect();
        let expected = [
            "cluster.source",
            "cluster.resources[0].resource",
            "cluster.name",
        ];
        assert_eq!(fields, expected);
    }
}
