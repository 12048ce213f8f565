//! The clusters that a configuration asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::{ClusterSettings, ConfiguredSource, ResourceSettings, check::Problems};
use crate::domain::cluster::{ClusterSpec, Resource, ResourceSelector, Source};

impl Problems {
    pub(super) fn clusters(
        &mut self,
        written: Vec<ClusterSettings>,
        folders: &[PathBuf],
        sources: &BTreeMap<String, ConfiguredSource>,
    ) -> Vec<ClusterSpec> {
        let mut names = BTreeSet::new();
        let mut specs = Vec::new();
        for cluster in written {
            if !names.insert(cluster.name.clone()) {
                self.add(format!("cluster {:?} is there twice", cluster.name));
            }
            let source = self.source(&cluster, folders, sources);
            let selectors = self.selectors(&cluster);
            let Some(source) = source else { continue };
            let spec = ClusterSpec {
                name: cluster.name,
                labels: cluster.labels,
                source,
                selectors,
                paused: false,
            };
            match spec.validate() {
                Ok(()) => specs.push(spec),
                Err(error) => self.add(error.to_string()),
            }
        }
        specs
    }

    fn source(
        &mut self,
        cluster: &ClusterSettings,
        folders: &[PathBuf],
        sources: &BTreeMap<String, ConfiguredSource>,
    ) -> Option<Source> {
        let name = &cluster.name;
        let context = cluster.context.clone().unwrap_or_default();
        if cluster.kubeconfig.is_none() && cluster.context.is_some() {
            self.add(format!(
                "cluster {name:?}: context needs kubeconfig beside it"
            ));
        }
        match (&cluster.kubeconfig, &cluster.source, cluster.in_cluster) {
            (Some(path), None, false) => {
                if !is_below(path, folders) {
                    self.add(format!(
                        "cluster {name:?}: {} is not in a folder of kubeconfig_dirs; add its \
                         folder there",
                        path.display()
                    ));
                }
                let path = path.display().to_string();
                Some(Source::KubeconfigFile { path, context })
            }
            (None, Some(source), false) => {
                if !sources.contains_key(source) {
                    self.add(format!("cluster {name:?}: there is no [sources.{source}]"));
                }
                let name = source.clone();
                Some(Source::Configured { name })
            }
            (None, None, true) => Some(Source::InCluster),
            _ => {
                self.add(format!(
                    "cluster {name:?}: give one of kubeconfig, source and in_cluster"
                ));
                None
            }
        }
    }

    fn selectors(&mut self, cluster: &ClusterSettings) -> Vec<ResourceSelector> {
        if cluster.resources.is_empty() {
            return vec![ResourceSelector::all(Resource::events())];
        }
        let mut selectors = Vec::new();
        for written in &cluster.resources {
            let text = match written {
                ResourceSettings::All(text) => text,
                ResourceSettings::Some(narrowed) => &narrowed.resource,
            };
            match text.parse() {
                Ok(resource) => selectors.extend(narrow(resource, written)),
                Err(error) => self.add(format!("cluster {:?}: {error}", cluster.name)),
            }
        }
        selectors
    }
}

fn narrow(resource: Resource, written: &ResourceSettings) -> Vec<ResourceSelector> {
    let all = ResourceSelector::all(resource);
    let ResourceSettings::Some(narrowed) = written else {
        return vec![all];
    };
    let selected = ResourceSelector {
        label_selector: narrowed.label_selector.clone(),
        field_selector: narrowed.field_selector.clone(),
        ..all
    };
    if narrowed.namespaces.is_empty() {
        return vec![selected];
    }
    let in_namespace = |namespace: &String| ResourceSelector {
        namespace: namespace.clone(),
        ..selected.clone()
    };
    narrowed.namespaces.iter().map(in_namespace).collect()
}

/// The file may not exist yet, but its folder must be one of those allowed.
fn is_below(path: &Path, folders: &[PathBuf]) -> bool {
    let Some(Ok(parent)) = path.parent().map(fs::canonicalize) else {
        return false;
    };
    folders.iter().any(|folder| parent.starts_with(folder))
}
