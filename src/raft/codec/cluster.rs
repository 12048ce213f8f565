//! Specifications of clusters.

use super::{Corrupt, required, try_all};
use crate::{
    domain::cluster::{ClusterSpec, Resource, ResourceSelector, Source, StreamSelector},
    proto::store::v1::{self as store, source},
};

impl From<&Resource> for store::Resource {
    fn from(resource: &Resource) -> Self {
        Self {
            group: resource.group.clone(),
            version: resource.version.clone(),
            plural: resource.plural.clone(),
        }
    }
}

impl From<store::Resource> for Resource {
    fn from(record: store::Resource) -> Self {
        Self {
            group: record.group,
            version: record.version,
            plural: record.plural,
        }
    }
}

impl From<&ResourceSelector> for store::ResourceSelector {
    fn from(selector: &ResourceSelector) -> Self {
        Self {
            resource: Some((&selector.resource).into()),
            namespaces: selector.namespaces.clone(),
            label_selector: selector.label_selector.clone(),
            field_selector: selector.field_selector.clone(),
        }
    }
}

impl TryFrom<store::ResourceSelector> for ResourceSelector {
    type Error = Corrupt;

    fn try_from(record: store::ResourceSelector) -> Result<Self, Corrupt> {
        Ok(Self {
            resource: required(record.resource, "a selector's resource")?.into(),
            namespaces: record.namespaces,
            label_selector: record.label_selector,
            field_selector: record.field_selector,
        })
    }
}

impl From<&StreamSelector> for store::StreamSelector {
    fn from(selector: &StreamSelector) -> Self {
        Self {
            resource: Some((&selector.resource).into()),
            namespace: selector.namespace.clone(),
            label_selector: selector.label_selector.clone(),
            field_selector: selector.field_selector.clone(),
        }
    }
}

impl TryFrom<store::StreamSelector> for StreamSelector {
    type Error = Corrupt;

    fn try_from(record: store::StreamSelector) -> Result<Self, Corrupt> {
        Ok(Self {
            resource: required(record.resource, "a selector's resource")?.into(),
            namespace: record.namespace,
            label_selector: record.label_selector,
            field_selector: record.field_selector,
        })
    }
}

impl From<&Source> for store::Source {
    fn from(source: &Source) -> Self {
        let source = match source {
            Source::KubeconfigFile { path, context } => {
                source::Source::KubeconfigFile(store::KubeconfigFile {
                    path: path.clone(),
                    context: context.clone(),
                })
            }
            Source::KubeconfigInline { yaml, context } => {
                source::Source::KubeconfigInline(store::KubeconfigInline {
                    yaml: yaml.clone(),
                    context: context.clone(),
                })
            }
            Source::Configured { name } => source::Source::Configured(name.clone()),
            Source::InCluster => source::Source::InCluster(store::Done {}),
        };
        Self {
            source: Some(source),
        }
    }
}

impl TryFrom<store::Source> for Source {
    type Error = Corrupt;

    fn try_from(record: store::Source) -> Result<Self, Corrupt> {
        Ok(match required(record.source, "a cluster's source")? {
            source::Source::KubeconfigFile(file) => Self::KubeconfigFile {
                path: file.path,
                context: file.context,
            },
            source::Source::KubeconfigInline(inline) => Self::KubeconfigInline {
                yaml: inline.yaml,
                context: inline.context,
            },
            source::Source::Configured(name) => Self::Configured { name },
            source::Source::InCluster(store::Done {}) => Self::InCluster,
        })
    }
}

impl From<&ClusterSpec> for store::ClusterSpec {
    fn from(spec: &ClusterSpec) -> Self {
        let label = |(key, value): (&String, &String)| store::Label {
            key: key.clone(),
            value: value.clone(),
        };
        Self {
            name: spec.name.clone(),
            labels: spec.labels.iter().map(label).collect(),
            source: Some((&spec.source).into()),
            resources: spec.resources.iter().map(Into::into).collect(),
            paused: spec.paused,
            description: spec.description.clone(),
            duplicate_of: spec.duplicate_of.clone(),
        }
    }
}

impl TryFrom<store::ClusterSpec> for ClusterSpec {
    type Error = Corrupt;

    fn try_from(record: store::ClusterSpec) -> Result<Self, Corrupt> {
        Ok(Self {
            name: record.name,
            labels: record
                .labels
                .into_iter()
                .map(|l| (l.key, l.value))
                .collect(),
            source: required(record.source, "a cluster's source")?.try_into()?,
            resources: try_all(record.resources)?,
            paused: record.paused,
            description: record.description,
            duplicate_of: record.duplicate_of,
        })
    }
}
