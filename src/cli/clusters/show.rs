//! Clusters as tables.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::flags::KUBERNETES_EVENTS;
use crate::{
    cli::{
        json::word,
        table::{Table, or_dash, plain},
        time::{age, instant, short_or_dash},
    },
    proto::v1::{Cluster, ResourceSelector, cluster_source::Source},
};

/// One line for each cluster.
pub(super) fn write_all(out: &mut impl Write, clusters: &[Cluster]) -> io::Result<()> {
    let rows: Vec<_> = clusters.iter().map(row).collect();
    let head = [
        "NAME",
        "HEALTH",
        "LAG",
        "AGE",
        "SOURCE",
        "RESOURCES",
        "LABELS",
        "REASON",
    ];
    Table::new(head).write(out, &rows)?;
    out.flush()
}

fn row(cluster: &Cluster) -> [String; 8] {
    let resources: Vec<_> = cluster.resources.iter().map(selector).collect();
    let resources = match resources.as_slice() {
        [] => KUBERNETES_EVENTS.to_owned(),
        resources => resources.join(","),
    };
    let created = cluster.create_time.as_ref().and_then(instant);
    [
        cluster.name.clone(),
        condition(cluster),
        short_or_dash(cluster.lag.as_ref()),
        created.map_or_else(|| "-".into(), |at| age(&at)),
        source(cluster),
        resources,
        or_dash(&labels(cluster)),
        or_dash(&reason(cluster)),
    ]
}

/// Everything about one cluster.
pub(super) fn write_one(out: &mut impl Write, cluster: &Cluster) -> io::Result<()> {
    let health = cluster.health.clone().unwrap_or_default();
    let ago = |time: Option<&prost_types::Timestamp>| {
        let at = time.and_then(instant);
        at.map_or_else(|| "-".into(), |at| format!("{} ago", age(&at)))
    };
    let lines = [
        ("name", cluster.name.clone()),
        ("description", cluster.description.clone()),
        ("health", condition(cluster)),
        ("since", ago(health.since_time.as_ref())),
        ("reason", reason(cluster)),
        ("lag", short_or_dash(cluster.lag.as_ref())),
        ("source", source(cluster)),
        ("labels", labels(cluster)),
        ("duplicate of", cluster.duplicate_of.clone()),
        ("uid", cluster.uid.clone()),
        ("created", ago(cluster.create_time.as_ref())),
        ("updated", ago(cluster.update_time.as_ref())),
        ("etag", cluster.etag.clone()),
    ];
    for (name, value) in lines {
        writeln!(out, "{name:<12}   {}", plain(&or_dash(&value)))?;
    }
    writeln!(out)?;
    let row = |selector: &ResourceSelector| {
        [
            selector.resource.clone(),
            or_dash(&selector.namespaces.join(",")),
            or_dash(&selector.label_selector),
            or_dash(&selector.field_selector),
        ]
    };
    let mut rows: Vec<_> = cluster.resources.iter().map(row).collect();
    if rows.is_empty() {
        rows.push([KUBERNETES_EVENTS, "-", "-", "-"].map(str::to_owned));
    }
    Table::new(["RESOURCE", "NAMESPACES", "LABELS", "FIELDS"]).write(out, &rows)?;
    out.flush()
}

/// Its condition, in one word.
pub(in crate::cli) fn condition(cluster: &Cluster) -> String {
    let health = cluster.health.clone().unwrap_or_default();
    if cluster.paused {
        "paused".to_owned()
    } else {
        word(health.condition().as_str_name(), "CLUSTER_CONDITION_").replace('_', " ")
    }
}

/// The reason for its condition; may be empty.
pub(super) fn reason(cluster: &Cluster) -> String {
    let health = cluster.health.as_ref();
    health.map_or_else(String::new, |health| health.reason.clone())
}

fn labels(cluster: &Cluster) -> String {
    let labels: BTreeMap<_, _> = cluster.labels.iter().collect();
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

/// `v1/events`, or `v1/events[shop web type=Warning]` where it is narrowed.
fn selector(selector: &ResourceSelector) -> String {
    let mut narrowed = selector.namespaces.clone();
    let selectors = [&selector.label_selector, &selector.field_selector];
    narrowed.extend(
        selectors
            .into_iter()
            .filter(|text| !text.is_empty())
            .cloned(),
    );
    match narrowed.as_slice() {
        [] => selector.resource.clone(),
        narrowed => format!("{}[{}]", selector.resource, narrowed.join(" ")),
    }
}

fn source(cluster: &Cluster) -> String {
    let source = cluster.source.as_ref();
    let in_context = |what: &str, context: &str| match context {
        "" => what.to_owned(),
        context => format!("{what} ({context})"),
    };
    match source.and_then(|from| from.source.as_ref()) {
        None => "-".into(),
        Some(Source::KubeconfigFile(file)) => in_context(&file.path, &file.context),
        Some(Source::KubeconfigInline(inline)) => in_context("inline", &inline.context),
        Some(Source::Configured(name)) => format!("[sources.{name}]"),
        Some(Source::InCluster(_)) => "in-cluster".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cluster, ResourceSelector, row, write_one};
    use crate::proto::v1::{ClusterCondition, ClusterHealth};

    #[test]
    fn a_row_shows_what_is_watched_and_how_it_is() {
        let mut cluster = Cluster {
            name: "a".into(),
            health: Some(ClusterHealth {
                condition: ClusterCondition::PermissionDenied.into(),
                reason: "because".into(),
                ..ClusterHealth::default()
            }),
            ..Cluster::default()
        };
        assert_eq!(row(&cluster)[1], "permission denied");
        assert_eq!(row(&cluster)[5], "v1/events");
        cluster.paused = true;
        cluster.resources = vec![
            ResourceSelector {
                resource: "v1/pods".into(),
                ..ResourceSelector::default()
            },
            ResourceSelector {
                resource: "v1/events".into(),
                namespaces: vec!["shop".into(), "web".into()],
                field_selector: "type=Warning".into(),
                ..ResourceSelector::default()
            },
        ];
        assert_eq!(row(&cluster)[1], "paused");
        assert_eq!(row(&cluster)[5], "v1/pods,v1/events[shop web type=Warning]");
    }

    #[test]
    fn one_cluster_is_shown_with_its_etag_and_each_resource() {
        let cluster = Cluster {
            name: "a".into(),
            etag: "17".into(),
            ..Cluster::default()
        };
        let mut out = Vec::new();
        write_one(&mut out, &cluster).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("etag           17\n"), "{text}");
        assert!(
            text.ends_with("v1/events   -            -        -\n"),
            "{text}"
        );
    }
}
