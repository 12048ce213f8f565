//! Clusters as people write them into a file: protobuf's JSON of `Cluster`, as JSON or YAML.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{Error, json::json},
    proto::{
        self,
        v1::{Cluster, ListClustersResponse},
    },
};

/// The largest file: 10,000 clusters with a kubeconfig of 6 KiB each.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The part of a cluster that a user writes; the group adds the rest.
pub(super) fn written(cluster: &Cluster) -> Cluster {
    Cluster {
        name: cluster.name.clone(),
        labels: cluster.labels.clone(),
        source: cluster.source.clone(),
        resources: cluster.resources.clone(),
        paused: cluster.paused,
        description: cluster.description.clone(),
        duplicate_of: cluster.duplicate_of.clone(),
        ..Cluster::default()
    }
}

/// The same to be read by people: the name first, labels in order, so that two exports differ only
/// where clusters do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    paused: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    duplicate_of: &'a str,
}

/// What an export prints.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    clusters: Vec<Entry<'a>>,
}

impl<'a> Document<'a> {
    pub(super) fn of(clusters: &'a [Cluster]) -> Self {
        let labels = |cluster: &'a Cluster| {
            let labels = cluster.labels.iter();
            labels
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect()
        };
        let entry = |cluster: &'a Cluster| Entry {
            name: &cluster.name,
            description: &cluster.description,
            labels: labels(cluster),
            source: cluster.source.as_ref().map(json),
            resources: cluster.resources.iter().map(json).collect(),
            paused: cluster.paused,
            duplicate_of: &cluster.duplicate_of,
        };
        Self {
            clusters: clusters.iter().map(entry).collect(),
        }
    }
}

/// Reads the clusters of a file, or of standard input where it is "-".
pub(super) fn read(path: &Path) -> Result<Vec<Cluster>, Error> {
    let shown = path.display().to_string();
    let failed = |source| Error::File {
        action: "read",
        path: shown.clone(),
        source,
    };
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
    } else {
        let file = File::open(path).map_err(failed)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)
    };
    let bytes = read.map_err(failed)?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        let most = FILE_BYTES_MAX / (1024 * 1024);
        let wrong = format!("{shown} is larger than {most} MiB; split it into several files");
        return Err(Error::Usage(wrong));
    }
    parse(&text).map_err(|wrong| Error::Usage(format!("{shown}: {wrong}")))
}

/// A list as `clusters -o json` prints it, a cluster, an array of clusters, or several of these.
fn parse(text: &str) -> Result<Vec<Cluster>, String> {
    let mut clusters = Vec::new();
    for document in documents(text)? {
        match document {
            Value::Null => {}
            Value::Array(all) => {
                for one in all {
                    clusters.push(cluster(one)?);
                }
            }
            Value::Object(ref fields) if fields.contains_key("clusters") => {
                let list: ListClustersResponse =
                    proto::from_json(document).map_err(|error| error.to_string())?;
                clusters.extend(list.clusters);
            }
            other => clusters.push(cluster(other)?),
        }
    }
    check(&clusters)?;
    Ok(clusters)
}

/// JSON is valid YAML, except for some escapes.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    if text.trim_start().starts_with(['{', '[']) {
        let documents = serde_json::Deserializer::from_str(text).into_iter();
        return documents
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string());
    }
    serde_saphyr::from_multiple(text).map_err(|error| error.to_string())
}

fn cluster(value: Value) -> Result<Cluster, String> {
    let name = value
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("?")
        .to_owned();
    proto::from_json(value).map_err(|error| format!("cluster {name}: {error}"))
}

fn check(clusters: &[Cluster]) -> Result<(), String> {
    if clusters.is_empty() {
        return Err("it contains no cluster".into());
    }
    let mut names = BTreeSet::new();
    for cluster in clusters {
        if cluster.name.is_empty() {
            return Err("a cluster has no name; give it one".into());
        }
        if !names.insert(&cluster.name) {
            let name = &cluster.name;
            return Err(format!("cluster {name} is listed twice; keep one of them"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Cluster, Document, json, parse, written};
    use crate::proto::v1::{
        ClusterHealth, ClusterSource, KubeconfigInline, ListClustersResponse, ResourceSelector,
        cluster_source::Source,
    };

    /// A cluster with every field set.
    fn full() -> Cluster {
        Cluster {
            name: "prod-eu".into(),
            labels: [("env".into(), "prod".into()), ("on".into(), "true".into())].into(),
            source: Some(ClusterSource {
                source: Some(Source::KubeconfigInline(KubeconfigInline {
                    yaml: "apiVersion: v1\nkind: Config\n# \"quoted\": yes\n".into(),
                    context: "c".into(),
                })),
            }),
            resources: vec![ResourceSelector {
                resource: "v1/events".into(),
                namespaces: vec!["shop".into()],
                label_selector: "a=b".into(),
                field_selector: "type=Warning".into(),
            }],
            paused: true,
            description: "the shop: \u{1f6d2}".into(),
            duplicate_of: "other".into(),
            uid: "u".into(),
            health: Some(ClusterHealth::default()),
            create_time: Some(prost_types::Timestamp::default()),
            update_time: Some(prost_types::Timestamp::default()),
            etag: "7".into(),
            lag: Some(prost_types::Duration::default()),
        }
    }

    #[test]
    fn an_export_reads_back_as_what_was_written() {
        let clusters = [full()];
        let document = Document::of(&clusters);
        let expected = vec![written(&clusters[0])];
        let yaml = serde_saphyr::to_string(&document).unwrap();
        assert_eq!(parse(&yaml).unwrap(), expected, "{yaml}");
        let text = serde_json::to_string_pretty(&document).unwrap();
        assert_eq!(parse(&text).unwrap(), expected, "{text}");
    }

    #[test]
    fn a_list_a_cluster_and_several_documents_are_read() {
        let list = ListClustersResponse {
            clusters: vec![full()],
            revision: 12,
            ..ListClustersResponse::default()
        };
        assert_eq!(parse(&json(&list).to_string()).unwrap(), [full()]);
        assert_eq!(parse(&json(&full()).to_string()).unwrap(), [full()]);
        let names = |text: &str| {
            let clusters = parse(text).unwrap();
            clusters
                .into_iter()
                .map(|cluster| cluster.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names("[{\"name\": \"a\"}, {\"name\": \"b\"}]"), ["a", "b"]);
        assert_eq!(names("{\"name\": \"a\"}\n{\"name\": \"b\"}"), ["a", "b"]);
        assert_eq!(names("# two\nname: a\n---\nname: b\n"), ["a", "b"]);
    }

    #[test]
    fn what_is_no_cluster_is_refused_with_its_name_and_place() {
        for (text, expected) in [
            ("", "no cluster"),
            ("clusters: []", "no cluster"),
            ("name: a\nlabel: {}", "cluster a: "),
            ("name: a\n---\nname: a", "is listed twice"),
            ("labels: {a: b}", "no name"),
            ("just text", "cluster ?"),
        ] {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.contains(expected), "{text:?}: {wrong}");
        }
    }
}
