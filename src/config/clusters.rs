//! The clusters that a configuration asks for.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    ConfiguredSource,
    keys::{self, nearest},
    origin::{Origin, Placed, is_document, quoted},
    rules::Rules,
    value::{Table, Value, text_in},
};
use crate::domain::cluster::{ClusterSpec, InvalidSpec, Resource, ResourceSelector, Source};

/// One table of `[[clusters]]`.
struct Written<'a> {
    table: &'a Table,
    /// The line of the table's header.
    origin: &'a Origin,
    /// How messages call it.
    shown: String,
}

impl<'a> Written<'a> {
    fn new(at: usize, placed: &'a Placed<Value>) -> Option<Self> {
        let table = placed.value.table()?;
        let name = text_in(table, "name").map(|name| name.value.to_owned());
        let short = name.filter(|name| name.len() < 64 && !name.contains('\n'));
        let label = short.unwrap_or_else(|| (at + 1).to_string());
        Some(Self {
            table,
            origin: &placed.origin,
            shown: format!("clusters[{label}]"),
        })
    }

    fn text(&self, key: &str) -> Option<Placed<&'a str>> {
        text_in(self.table, key)
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.shown)
    }

    /// Where a key stands; where the table begins, if it does not.
    fn origin_of(&self, key: &str) -> &'a Origin {
        self.table
            .get(key)
            .map_or(self.origin, |placed| &placed.origin)
    }
}

impl Rules<'_> {
    pub(super) fn clusters(
        &mut self,
        directories: &[PathBuf],
        sources: &BTreeMap<String, ConfiguredSource>,
    ) -> Vec<ClusterSpec> {
        let written = self.list(&keys::CLUSTERS);
        let mut names: BTreeMap<&str, Origin> = BTreeMap::new();
        let mut specs = Vec::new();
        for (at, placed) in written.iter().enumerate() {
            let Some(cluster) = Written::new(at, placed) else {
                continue;
            };
            let source = self.source(&cluster, directories, sources);
            let resources = self.resources(&cluster);
            let Some(name) = cluster.text("name") else {
                if !cluster.table.contains_key("name") {
                    let message = "name is missing; give the cluster a name";
                    self.add(cluster.origin, &cluster.shown, message);
                }
                continue;
            };
            if let Some(first) = names.insert(name.value, name.origin.clone()) {
                let message = format!(
                    "cluster {} is already defined at {first}; define each once",
                    quoted(name.value)
                );
                self.add(&name.origin, &cluster.key("name"), message);
            }
            let (Some(source), Some(resources)) = (source, resources) else {
                continue;
            };
            let text = |key| cluster.text(key).map_or("", |text| text.value).to_owned();
            let spec = ClusterSpec {
                name: name.value.to_owned(),
                labels: labels(&cluster),
                source,
                resources,
                paused: false,
                description: text("description"),
                duplicate_of: text("duplicate_of"),
            };
            let faults = spec.violations();
            for fault in &faults {
                self.invalid(&cluster, fault);
            }
            if faults.is_empty() {
                specs.push(spec);
            }
        }
        specs
    }

    fn invalid(&mut self, cluster: &Written<'_>, fault: &InvalidSpec) {
        let field = fault.field().strip_prefix("cluster.").unwrap_or_default();
        let key = match field {
            "source.configured" => "source",
            _ if field.starts_with("source.") && field.ends_with(".context") => "context",
            _ if field.starts_with("source.") => "kubeconfig",
            _ => field.split(['.', '[']).next().unwrap_or_default(),
        };
        let (origin, key) = (cluster.origin_of(key), cluster.key(key));
        self.add(origin, &key, fault.to_string());
    }

    fn source(
        &mut self,
        cluster: &Written<'_>,
        directories: &[PathBuf],
        sources: &BTreeMap<String, ConfiguredSource>,
    ) -> Option<Source> {
        let context = cluster.text("context");
        let in_cluster = cluster.table.get("in_cluster");
        let in_cluster = in_cluster.is_some_and(|placed| placed.value == Value::Switch(true));
        let (file, source) = (cluster.text("kubeconfig"), cluster.text("source"));
        if let (None, Some(context)) = (&file, &context) {
            let message = "context needs kubeconfig; a source has its own context";
            self.add(&context.origin, &cluster.key("context"), message);
        }
        match (file, source, in_cluster) {
            (Some(file), None, false) => {
                let context = context.map_or("", |context| context.value).to_owned();
                self.file(cluster, &file, context, directories)
            }
            (None, Some(name), false) => self.named(cluster, &name, sources),
            (None, None, true) => Some(Source::InCluster),
            _ => {
                // One of the wrong kind is reported already.
                let given = |key: &str| cluster.table.contains_key(key);
                let message = "give exactly one of kubeconfig, source and in_cluster";
                if given("kubeconfig") || given("source") || !in_cluster {
                    self.add(cluster.origin, &cluster.shown, message);
                }
                None
            }
        }
    }

    fn file(
        &mut self,
        cluster: &Written<'_>,
        file: &Placed<&str>,
        context: String,
        directories: &[PathBuf],
    ) -> Option<Source> {
        let key = cluster.key("kubeconfig");
        if is_document(file.value) {
            // It is not repeated: it may hold credentials.
            let message = "this is a kubeconfig, not the path of one; put it into a table \
                           [sources.NAME], and reference that with source";
            self.add(&file.origin, &key, message);
            return None;
        }
        if !is_below(Path::new(file.value), directories) {
            let message = format!(
                "{} is not in a directory of kubeconfig_dirs; add its directory there",
                quoted(file.value)
            );
            self.add(&file.origin, &key, message);
        }
        let path = file.value.to_owned();
        Some(Source::KubeconfigFile { path, context })
    }

    fn named(
        &mut self,
        cluster: &Written<'_>,
        name: &Placed<&str>,
        sources: &BTreeMap<String, ConfiguredSource>,
    ) -> Option<Source> {
        let known = self.source_names();
        if !sources.contains_key(name.value) && !known.contains(name.value) {
            let meant = nearest(name.value, known.iter().map(String::as_str));
            let advice = meant.map_or_else(
                || "add that table, with the kubeconfig in it".to_owned(),
                |meant| format!("did you mean {}?", quoted(meant)),
            );
            let shown = quoted(name.value);
            let message = format!("there is no {shown} in [sources]; {advice}");
            self.add(&name.origin, &cluster.key("source"), message);
        }
        let name = name.value.to_owned();
        Some(Source::Configured { name })
    }

    /// `None` if one of them is invalid, so that nothing further is reported about them.
    fn resources(&mut self, cluster: &Written<'_>) -> Option<Vec<ResourceSelector>> {
        let written = cluster.table.get("resources");
        let written = written
            .map(|placed| placed.value.list())
            .unwrap_or_default();
        let mut selectors = Some(Vec::new());
        for item in written {
            let table = item.value.table();
            let in_table = table.and_then(|table| text_in(table, "resource"));
            let text = item.value.text().map(|text| item.with(text)).or(in_table);
            let Some(text) = text else {
                if table.is_some_and(|table| !table.contains_key("resource")) {
                    let message = "resource is missing; name it, like v1/configmaps";
                    self.add(&item.origin, &cluster.key("resources"), message);
                }
                selectors = None;
                continue;
            };
            match text.value.parse() {
                Ok(resource) => selectors.iter_mut().for_each(|all: &mut Vec<_>| {
                    let resource: &Resource = &resource;
                    all.push(narrow(ResourceSelector::all(resource.clone()), table));
                }),
                Err(_) => {
                    let message = format!(
                        "{} is not of the form version/plural or group/version/plural, like \
                         v1/configmaps or apps/v1/deployments",
                        quoted(text.value)
                    );
                    self.add(&text.origin, &cluster.key("resources"), message);
                    selectors = None;
                }
            }
        }
        selectors
    }
}

fn labels(cluster: &Written<'_>) -> BTreeMap<String, String> {
    let labels = cluster.table.get("labels");
    let labels = labels.and_then(|labels| labels.value.table());
    let label = |(name, value): (&String, &Placed<Value>)| {
        Some((name.clone(), value.value.text()?.to_owned()))
    };
    labels.into_iter().flatten().filter_map(label).collect()
}

fn narrow(all: ResourceSelector, table: Option<&Table>) -> ResourceSelector {
    let Some(table) = table else {
        return all;
    };
    let text = |key| text_in(table, key).map_or("", |text| text.value).to_owned();
    let namespaces = table.get("namespaces").map(|placed| placed.value.texts());
    let namespaces = namespaces.unwrap_or_default();
    ResourceSelector {
        namespaces: namespaces.iter().map(|n| n.value.to_owned()).collect(),
        label_selector: text("label_selector"),
        field_selector: text("field_selector"),
        ..all
    }
}

/// The file may not exist yet, but its directory must be one of those allowed.
fn is_below(path: &Path, directories: &[PathBuf]) -> bool {
    let Some(Ok(parent)) = path.parent().map(fs::canonicalize) else {
        return false;
    };
    directories
        .iter()
        .any(|directory| parent.starts_with(directory))
}
