//! Flags that several commands about clusters share.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    cli::Error,
    proto::v1::{
        ClusterSource, InCluster, KubeconfigFile, KubeconfigInline, ResourceSelector,
        cluster_source::Source,
    },
};

/// What is watched if no resource is given.
pub(super) const KUBERNETES_EVENTS: &str = "v1/events";

/// The names of the flags of which at most one is given.
pub(super) const SOURCES: [&str; 4] = ["kubeconfig", "kubeconfig_inline", "source", "in_cluster"];

/// How a cluster is reached: at most one of the four.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct SourceFlags {
    /// A kubeconfig file present on every replica, in one of its --kubeconfig-dir directories.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A local kubeconfig file without credentials; its content is sent to the group and stored
    /// there.
    #[arg(long, value_name = "FILE")]
    kubeconfig_inline: Option<PathBuf>,
    /// The context of the kubeconfig. [default: its current context]
    #[arg(
        long,
        value_name = "CONTEXT",
        default_value = "",
        hide_default_value = true,
        requires = "from",
        conflicts_with_all = ["source", "in_cluster"]
    )]
    kube_context: String,
    /// The name of a source in the replicas' own configuration.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The service account of the pod that a replica runs in.
    #[arg(long)]
    in_cluster: bool,
}

/// What is watched.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct SelectorFlags {
    /// A resource to watch, like v1/configmaps; may be repeated. [default: v1/events]
    #[arg(long = "resource", value_name = "RESOURCE")]
    pub(super) resources: Vec<String>,
    /// Only these namespaces, separated by ','; may be repeated. Each is a separate stream.
    #[arg(
        short = 'n',
        long = "namespace",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    namespaces: Vec<String>,
    /// Only objects with these labels, as kubectl selects them; the API server filters.
    #[arg(
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    label_selector: String,
    /// Only objects with these fields, like type=Warning; the API server filters.
    #[arg(
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    field_selector: String,
}

/// Flags of every write.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct WriteFlags {
    /// Validate the request without changing anything.
    #[arg(long, visible_alias = "dry-run")]
    pub(super) validate_only: bool,
}

/// A condition on a write.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct EtagFlag {
    /// Reject the write unless the cluster still has this etag (see `clusters get`).
    #[arg(
        long,
        value_name = "ETAG",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) etag: String,
}

impl SourceFlags {
    /// The source; `None` if no flag names one.
    pub(super) fn source(&self) -> Result<Option<ClusterSource>, Error> {
        let context = self.kube_context.clone();
        let source = if let Some(path) = &self.kubeconfig {
            let absolute = std::path::absolute(path).map_err(|error| unreadable(path, error))?;
            let path = absolute.display().to_string();
            Source::KubeconfigFile(KubeconfigFile { path, context })
        } else if let Some(path) = &self.kubeconfig_inline {
            let yaml = fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
            Source::KubeconfigInline(KubeconfigInline { yaml, context })
        } else if let Some(name) = &self.source {
            Source::Configured(name.clone())
        } else if self.in_cluster {
            Source::InCluster(InCluster {})
        } else {
            return Ok(None);
        };
        let source = Some(source);
        Ok(Some(ClusterSource { source }))
    }
}

impl SelectorFlags {
    /// One for each resource, with the same namespaces and selectors; none where nothing is named.
    pub(super) fn selectors(&self) -> Vec<ResourceSelector> {
        let narrowed = !self.namespaces.is_empty()
            || !self.label_selector.is_empty()
            || !self.field_selector.is_empty();
        let mut resources = self.resources.clone();
        if resources.is_empty() && narrowed {
            resources.push(KUBERNETES_EVENTS.to_owned());
        }
        let selector = |resource| ResourceSelector {
            resource,
            namespaces: self.namespaces.clone(),
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
        };
        resources.into_iter().map(selector).collect()
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::File {
        action: "read the kubeconfig",
        path: path.display().to_string(),
        source,
    }
}
