//! Which fields an update changes: [`merge`], as AIP-134 and AIP-161 have it.
//!
//! `name`, `etag` and what is output only may be named and are ignored, so that a client may send
//! back a cluster as it has read it, with a mask of all that it knows.

use prost_types::FieldMask;
use tonic::Status;

use crate::{
    api::status::{invalid, invalid_fields},
    proto::v1::Cluster,
};

/// What can be updated, for errors.
const UPDATABLE: &str = "labels, labels.KEY, source, resources, paused, description, \
                         duplicate_of, or * for all of them";

/// Fields that an update does not change.
const IGNORED: [&str; 7] = [
    "name",
    "uid",
    "health",
    "create_time",
    "update_time",
    "etag",
    "lag",
];

/// Most paths of a mask: several times as many as a cluster may have labels.
const PATHS_MAX: usize = 256;

/// Longest path that is shown in an error.
const SHOWN_CHARS_MAX: usize = 80;

/// The current values, replaced by new ones where the mask names them.
pub(super) fn merge(
    current: Cluster,
    new: Cluster,
    mask: Option<FieldMask>,
) -> Result<Cluster, Status> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    match paths.as_slice() {
        [] => merge_populated(current, new),
        [all] if all == "*" => Ok(replaced(current, new)),
        paths if paths.len() > PATHS_MAX => {
            let text = format!(
                "{} paths are too many; the maximum is {PATHS_MAX}",
                paths.len()
            );
            Err(invalid("update_mask", text))
        }
        paths => merge_paths(current, &new, paths),
    }
}

/// Everything that a user writes is new.
fn replaced(current: Cluster, new: Cluster) -> Cluster {
    Cluster {
        labels: new.labels,
        source: new.source,
        resources: new.resources,
        paused: new.paused,
        description: new.description,
        duplicate_of: new.duplicate_of,
        ..current
    }
}

/// Without a mask: what is not empty is new.
fn merge_populated(mut current: Cluster, new: Cluster) -> Result<Cluster, Status> {
    let mut is_populated = false;
    let mut take = |populated: bool| {
        is_populated |= populated;
        populated
    };
    if take(!new.labels.is_empty()) {
        current.labels = new.labels;
    }
    if take(new.source.is_some()) {
        current.source = new.source;
    }
    if take(!new.resources.is_empty()) {
        current.resources = new.resources;
    }
    if take(new.paused) {
        current.paused = true;
    }
    if take(!new.description.is_empty()) {
        current.description = new.description;
    }
    if take(!new.duplicate_of.is_empty()) {
        current.duplicate_of = new.duplicate_of;
    }
    if is_populated {
        return Ok(current);
    }
    // Most likely the caller wants to clear a field, such as `paused`, and would otherwise wait for
    // an effect that never comes.
    Err(invalid(
        "update_mask",
        format!(
            "is not set, and no field of cluster has a value: to give a field its empty value, as \
             false, name it here: {UPDATABLE}"
        ),
    ))
}

fn merge_paths(mut current: Cluster, new: &Cluster, paths: &[String]) -> Result<Cluster, Status> {
    let mut faults = Vec::new();
    for path in paths {
        if let Err(text) = merge_path(&mut current, new, path) {
            faults.push(("update_mask".to_owned(), text));
        }
    }
    if faults.is_empty() {
        Ok(current)
    } else {
        Err(invalid_fields(faults))
    }
}

fn merge_path(current: &mut Cluster, new: &Cluster, path: &str) -> Result<(), String> {
    let shown = || {
        let short: String = path.chars().take(SHOWN_CHARS_MAX).collect();
        format!("{short:?}")
    };
    match path.split_once('.') {
        None => match path {
            "labels" => current.labels.clone_from(&new.labels),
            "source" => current.source.clone_from(&new.source),
            "resources" => current.resources.clone_from(&new.resources),
            "paused" => current.paused = new.paused,
            "description" => current.description.clone_from(&new.description),
            "duplicate_of" => current.duplicate_of.clone_from(&new.duplicate_of),
            "*" => return Err("\"*\" names all fields: give no other path with it".to_owned()),
            ignored if IGNORED.contains(&ignored) => {}
            _ => {
                let text = format!("{} cannot be updated; what can: {UPDATABLE}", shown());
                return Err(text);
            }
        },
        Some(("labels", key)) => merge_label(current, new, key)?,
        Some((whole @ ("source" | "resources"), _)) => {
            return Err(format!(
                "{} names a part of {whole}, which is replaced as a whole: name {whole:?}",
                shown()
            ));
        }
        Some((field, _)) if IGNORED.contains(&field) => {}
        Some(_) => {
            let text = format!("{} cannot be updated; what can: {UPDATABLE}", shown());
            return Err(text);
        }
    }
    Ok(())
}

/// One label is set, or removed where it has no new value. Keys may have dots; a client that takes
/// them for separators puts the key between backticks.
fn merge_label(current: &mut Cluster, new: &Cluster, path: &str) -> Result<(), String> {
    let quoted = path
        .strip_prefix('`')
        .and_then(|rest| rest.strip_suffix('`'));
    let key = quoted.unwrap_or(path);
    if key.is_empty() {
        return Err("\"labels.\" names no label: write labels.KEY, or labels".to_owned());
    }
    match new.labels.get(key) {
        Some(value) => current.labels.insert(key.to_owned(), value.clone()),
        None => current.labels.remove(key),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost_types::FieldMask;

    use super::{PATHS_MAX, merge};
    use crate::proto::v1::{
        Cluster, ClusterSource, InCluster, ResourceSelector, cluster_source::Source,
    };

    fn labels(labels: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        labels.iter().map(owned).collect()
    }

    fn current() -> Cluster {
        Cluster {
            name: "c".into(),
            labels: labels(&[("env", "prod"), ("example.com/tier", "1")]),
            source: Some(ClusterSource {
                source: Some(Source::Configured("file".into())),
            }),
            resources: vec![ResourceSelector::default()],
            paused: true,
            description: "old".into(),
            duplicate_of: "other".into(),
            ..Cluster::default()
        }
    }

    fn merged(new: Cluster, paths: &[&str]) -> Result<Cluster, String> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let merged = merge(current(), new, Some(FieldMask { paths }));
        merged.map_err(|status| status.message().to_owned())
    }

    #[test]
    fn without_a_mask_what_has_a_value_is_new() {
        let new = Cluster {
            name: "c".into(),
            description: "new".into(),
            ..Cluster::default()
        };
        let expected = Cluster {
            description: "new".into(),
            ..current()
        };
        assert_eq!(merge(current(), new.clone(), None).unwrap(), expected);
        assert_eq!(
            merged(new, &[]),
            Ok(expected),
            "an empty mask means no mask"
        );
    }

    #[test]
    fn without_a_mask_and_without_a_value_nothing_could_change() {
        let new = Cluster {
            name: "c".into(),
            paused: false,
            uid: "output only".into(),
            ..Cluster::default()
        };
        let text = merged(new, &[]).unwrap_err();
        assert!(text.contains("paused"), "{text}");
    }

    #[test]
    fn a_star_replaces_everything_that_can_be_written() {
        let new = Cluster {
            name: "c".into(),
            source: Some(ClusterSource {
                source: Some(Source::InCluster(InCluster {})),
            }),
            ..Cluster::default()
        };
        assert_eq!(merged(new.clone(), &["*"]), Ok(new.clone()));
        let text = merged(new, &["labels", "*"]).unwrap_err();
        assert!(text.contains("no other path"), "{text}");
    }

    #[test]
    fn labels_are_set_and_removed_one_by_one() {
        let new = Cluster {
            labels: labels(&[("env", "test"), ("new", "2"), ("other", "3")]),
            ..Cluster::default()
        };
        let paths = ["labels.env", "labels.new", "labels.example.com/tier"];
        let expected = labels(&[("env", "test"), ("new", "2")]);
        assert_eq!(merged(new.clone(), &paths).unwrap().labels, expected);
        let quoted = merged(new.clone(), &["labels.`example.com/tier`"]).unwrap();
        assert_eq!(quoted.labels, labels(&[("env", "prod")]));
        assert!(merged(new, &["labels."]).is_err());
        let none = merged(Cluster::default(), &["labels"]).unwrap();
        assert_eq!(none.labels, labels(&[]));
    }

    #[test]
    fn fields_are_given_their_empty_values_by_name() {
        let paths = [
            "source",
            "resources",
            "paused",
            "description",
            "duplicate_of",
        ];
        let expected = Cluster {
            name: "c".into(),
            labels: current().labels,
            ..Cluster::default()
        };
        assert_eq!(merged(Cluster::default(), &paths), Ok(expected));
    }

    #[test]
    fn what_an_update_does_not_change_is_ignored() {
        let new = Cluster {
            uid: "x".into(),
            etag: "9".into(),
            ..Cluster::default()
        };
        let paths = [
            "name",
            "uid",
            "etag",
            "health.condition",
            "lag",
            "update_time",
        ];
        assert_eq!(merged(new, &paths), Ok(current()));
    }

    #[test]
    fn paths_that_name_nothing_are_refused_with_what_could_be_named() {
        let refused = |path: &str| merged(Cluster::default(), &[path]).unwrap_err();
        let part = refused("source.kubeconfig_file.path");
        assert!(part.contains("name \"source\""), "{part}");
        assert!(refused("resources.0").contains("as a whole"));
        for unknown in ["selectors", "duplicateOf", "", "paused.x", "spec.labels"] {
            assert!(refused(unknown).contains("duplicate_of"), "{unknown}");
        }
        let two = merged(Cluster::default(), &["a", "b"]).unwrap_err();
        assert!(two.contains("\"a\"") && two.contains("\"b\""), "{two}");
        assert!(merged(Cluster::default(), &["a"; PATHS_MAX + 1]).is_err());
    }
}
