//! What a subscriber asks for, checked: a filter that can never match is refused, with everything
//! that is wrong with it.

use std::collections::BTreeSet;

use prost::Message as _;

use crate::{
    domain::{
        cluster::{Resource, is_cluster_name},
        event::Change,
        label::is_dns_label,
    },
    pipeline::filter::{
        FILTER_BYTES_MAX, FILTERS_MAX, FieldSelector, Filter, Filters, KubernetesEventFilter,
        LabelSelector, Values, is_object_name,
    },
    proto::v1,
};

/// A field that is refused, as the protocol names it, and a sentence that explains what is valid.
pub(super) type Violation = (String, String);

/// Most violations that are collected. A status names fewer, as many as fit into it.
const VIOLATIONS_MAX: usize = 32;

/// Most bytes of a client's name.
const CLIENT_NAME_BYTES_MAX: usize = 64;

const CLUSTER_NAME: &str = "is not a valid cluster name: use 1 to 63 lowercase letters, digits, \
                            \"-\" or \".\", beginning and ending with a letter or digit";
const NAMESPACE: &str = "is not a valid namespace: use 1 to 63 lowercase letters, digits or \
                         \"-\", beginning and ending with a letter or digit";
const OBJECT_NAME: &str = "is not a valid object name: use 1 to 253 bytes, without \"/\" and \
                           \"%\"; write it without the kind";
const EVENT_TYPE: &str = "is not a type of Kubernetes Events: write \"Normal\" or \"Warning\"";
const NOT_EMPTY: &str = "matches nothing: leave it out";

/// What a subscriber asks for; else what is wrong with it.
pub(super) fn filters(filters: Vec<v1::Filter>) -> Result<Filters, Vec<Violation>> {
    if let Some(violation) = too_much(&filters) {
        return Err(vec![violation]);
    }
    let mut violations = Violations::default();
    let mut checked = Vec::with_capacity(filters.len());
    for (index, asked) in filters.into_iter().enumerate() {
        checked.push(filter(&format!("filters[{index}]"), asked, &mut violations));
    }
    if violations.0.is_empty() {
        Ok(Filters::new(checked))
    } else {
        Err(violations.0)
    }
}

/// Whether a client's name is one; it may be empty.
pub(super) fn client_name(name: &str) -> Result<(), Violation> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    if name.len() <= CLIENT_NAME_BYTES_MAX && name.bytes().all(plain) {
        return Ok(());
    }
    let text = format!(
        "{} is not a valid client name: use up to {CLIENT_NAME_BYTES_MAX} letters, digits, \"-\", \
         \"_\", \".\" or \"/\"",
        quoted(name)
    );
    Err(("client_name".to_owned(), text))
}

/// Everything that is wrong, as far as it is collected.
#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, text: &impl ToString) {
        if self.0.len() < VIOLATIONS_MAX {
            self.0.push((field.into(), text.to_string()));
        }
    }
}

/// Rejects requests that are too large to be examined.
fn too_much(filters: &[v1::Filter]) -> Option<Violation> {
    let bytes: usize = filters.iter().map(v1::Filter::encoded_len).sum();
    let text = if filters.len() > FILTERS_MAX {
        format!(
            "{} filters; the maximum is {FILTERS_MAX}: join those that differ in one field only, \
             by naming several values in it",
            filters.len()
        )
    } else if bytes > FILTER_BYTES_MAX {
        format!(
            "{bytes} bytes, encoded; the maximum is {FILTER_BYTES_MAX}: name fewer values, select \
             with cluster_selector or object_selector, or use several subscriptions"
        )
    } else {
        return None;
    };
    Some(("filters".to_owned(), text))
}

fn filter(path: &str, asked: v1::Filter, violations: &mut Violations) -> Filter {
    let mut list = |field: &str, values, is_right: fn(&str) -> bool, otherwise| {
        checked(
            &format!("{path}.{field}"),
            values,
            is_right,
            otherwise,
            violations,
        )
    };
    let clusters = list("clusters", asked.clusters, is_cluster_name, CLUSTER_NAME);
    let namespaces = list("namespaces", asked.namespaces, is_dns_label, NAMESPACE);
    let names = list("names", asked.names, is_object_name, OBJECT_NAME);
    let mut labels = |field: &str, text: &str| {
        LabelSelector::parse(text).unwrap_or_else(|errors| {
            for error in errors {
                violations.add(format!("{path}.{field}"), &error);
            }
            LabelSelector::default()
        })
    };
    let cluster_labels = labels("cluster_selector", &asked.cluster_selector);
    let object_labels = labels("object_selector", &asked.object_selector);
    let fields = FieldSelector::parse(&asked.field_selector).unwrap_or_else(|errors| {
        for error in errors {
            violations.add(format!("{path}.field_selector"), &error);
        }
        FieldSelector::default()
    });
    let filter = Filter {
        clusters,
        cluster_labels,
        resources: resources(path, &asked.resources, violations),
        namespaces,
        names,
        object_labels,
        changes: changes(path, &asked.change_types, violations),
        kubernetes_event: asked
            .kubernetes_event
            .map(|event| kubernetes_event(&format!("{path}.kubernetes_event"), event, violations)),
        fields,
    };
    for contradiction in filter.contradictions() {
        violations.add(format!("{path}.{}", contradiction.part()), &contradiction);
    }
    filter
}

fn kubernetes_event(
    path: &str,
    asked: v1::KubernetesEventFilter,
    violations: &mut Violations,
) -> KubernetesEventFilter {
    let object = asked.involved_object.unwrap_or_default();
    if !object.namespace.is_empty() && !is_dns_label(&object.namespace) {
        violations.add(
            format!("{path}.involved_object.namespace"),
            &format!("{} {NAMESPACE}", quoted(&object.namespace)),
        );
    }
    let is_type = |text: &str| matches!(text, "Normal" | "Warning");
    let is_text = |text: &str| !text.is_empty();
    let mut list = |field: &str, values, is_right: fn(&str) -> bool, otherwise| {
        checked(
            &format!("{path}.{field}"),
            values,
            is_right,
            otherwise,
            violations,
        )
    };
    KubernetesEventFilter {
        types: list("types", asked.types, is_type, EVENT_TYPE),
        reasons: list("reasons", asked.reasons, is_text, NOT_EMPTY),
        sources: list("sources", asked.sources, is_text, NOT_EMPTY),
        kind: object.kind,
        namespace: object.namespace,
        name: object.name,
        uid: object.uid,
    }
}

/// The values of a list that are right; the others are violations.
fn checked(
    path: &str,
    values: Vec<String>,
    is_right: fn(&str) -> bool,
    otherwise: &str,
    violations: &mut Violations,
) -> Values {
    for (index, value) in values.iter().enumerate() {
        if !is_right(value) {
            violations.add(
                format!("{path}[{index}]"),
                &format!("{} {otherwise}", quoted(value)),
            );
        }
    }
    values.into()
}

fn resources(path: &str, asked: &[String], violations: &mut Violations) -> BTreeSet<Resource> {
    let mut resources = BTreeSet::new();
    for (index, text) in asked.iter().enumerate() {
        match text.parse() {
            Ok(resource) => {
                resources.insert(resource);
            }
            Err(_) => violations.add(
                format!("{path}.resources[{index}]"),
                &format!(
                    "{} is not a resource: write version/plural or group/version/plural, like \
                     \"v1/configmaps\" or \"apps/v1/deployments\"",
                    quoted(text)
                ),
            ),
        }
    }
    resources
}

fn changes(path: &str, asked: &[i32], violations: &mut Violations) -> BTreeSet<Change> {
    let mut changes = BTreeSet::new();
    for (index, number) in asked.iter().enumerate() {
        let change = match v1::ChangeType::try_from(*number) {
            Ok(v1::ChangeType::Added) => Ok(Change::Added),
            Ok(v1::ChangeType::Modified) => Ok(Change::Modified),
            Ok(v1::ChangeType::Deleted) => Ok(Change::Deleted),
            Ok(v1::ChangeType::Snapshot) => Ok(Change::Snapshot),
            Ok(v1::ChangeType::Unmatched) => Err(
                "CHANGE_TYPE_UNMATCHED is sent only in a subscription that began with a snapshot, \
                 and change_types cannot be used there: leave it out"
                    .to_owned(),
            ),
            Ok(v1::ChangeType::Unspecified) | Err(_) => Err(format!(
                "{number} is not a change type that is sent: use CHANGE_TYPE_ADDED, \
                 CHANGE_TYPE_MODIFIED, CHANGE_TYPE_DELETED or CHANGE_TYPE_SNAPSHOT"
            )),
        };
        match change {
            Ok(change) => {
                changes.insert(change);
            }
            Err(text) => violations.add(format!("{path}.change_types[{index}]"), &text),
        }
    }
    changes
}

/// As much of a text as fits into a message, in quotation marks.
fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut chars = text.chars();
    let mut clipped: String = chars.by_ref().take(CHARS_MAX).collect();
    if chars.next().is_some() {
        clipped.push('…');
    }
    format!("{clipped:?}")
}

#[cfg(test)]
mod tests {
    use super::{FILTER_BYTES_MAX, FILTERS_MAX, VIOLATIONS_MAX, Violation, client_name, filters};
    use crate::proto::v1::{ChangeType, Filter, KubernetesEventFilter, ObjectReference};

    fn texts(values: &[&str]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    fn refused(asked: Vec<Filter>) -> Vec<Violation> {
        filters(asked).unwrap_err()
    }

    fn fields(violations: &[Violation]) -> Vec<&str> {
        violations.iter().map(|(field, _)| field.as_str()).collect()
    }

    /// Every field of a filter, with values that can match.
    fn full() -> Filter {
        Filter {
            clusters: texts(&["prod-eu.1"]),
            cluster_selector: "env=prod,tier!=test".into(),
            resources: texts(&["v1/events", "apps/v1/deployments"]),
            namespaces: texts(&["kube-system"]),
            names: texts(&["web-0.17b", "system:x"]),
            object_selector: "app in (a,b)".into(),
            change_types: vec![1, 2, 3, 4],
            kubernetes_event: Some(KubernetesEventFilter {
                types: texts(&["Normal", "Warning"]),
                reasons: texts(&["BackOff"]),
                sources: texts(&["kubelet"]),
                involved_object: Some(ObjectReference {
                    kind: "Pod".into(),
                    ..ObjectReference::default()
                }),
            }),
            field_selector: "type=Warning,metadata.namespace!=x".into(),
        }
    }

    #[test]
    fn what_can_match_is_accepted() {
        assert!(filters(vec![full(), Filter::default()]).is_ok());
        let asked = filters(vec![full()]).unwrap();
        assert!(asked.asks_for_change_types());
        let nothing = filters(vec![]).unwrap();
        assert_eq!(nothing, filters(vec![Filter::default()]).unwrap());
    }

    #[test]
    fn everything_that_can_never_match_is_named() {
        let violations = refused(vec![
            Filter {
                clusters: texts(&["a", "Prod", ""]),
                cluster_selector: "a b".into(),
                resources: texts(&["pods"]),
                namespaces: texts(&["a.b"]),
                names: texts(&["", "pod/web"]),
                object_selector: "a=b,a=c".into(),
                ..Filter::default()
            },
            Filter {
                change_types: vec![ChangeType::Unspecified.into(), 1, 9],
                kubernetes_event: Some(KubernetesEventFilter {
                    types: texts(&["warning"]),
                    reasons: texts(&[""]),
                    sources: texts(&["", "kubelet"]),
                    involved_object: Some(ObjectReference {
                        namespace: "A".into(),
                        ..ObjectReference::default()
                    }),
                }),
                ..Filter::default()
            },
        ]);
        assert_eq!(
            fields(&violations),
            [
                "filters[0].clusters[1]",
                "filters[0].clusters[2]",
                "filters[0].namespaces[0]",
                "filters[0].names[0]",
                "filters[0].names[1]",
                "filters[0].cluster_selector",
                "filters[0].object_selector",
                "filters[0].resources[0]",
                "filters[1].change_types[0]",
                "filters[1].change_types[2]",
                "filters[1].kubernetes_event.involved_object.namespace",
                "filters[1].kubernetes_event.types[0]",
                "filters[1].kubernetes_event.reasons[0]",
                "filters[1].kubernetes_event.sources[0]",
            ]
        );
        let text = &violations[11].1;
        assert!(
            text.contains("\"warning\"") && text.contains("\"Warning\""),
            "{text}"
        );
    }

    #[test]
    fn unmatched_cannot_be_asked_for() {
        for change_types in [vec![5], vec![1, 5]] {
            let violations = refused(vec![Filter {
                change_types,
                ..Filter::default()
            }]);
            assert!(violations[0].1.contains("UNMATCHED"), "{violations:?}");
            assert_eq!(violations.len(), 1);
        }
    }

    #[test]
    fn parts_that_exclude_each_other_are_refused() {
        let event = Some(KubernetesEventFilter::default());
        let violations = refused(vec![Filter {
            resources: texts(&["v1/pods"]),
            kubernetes_event: event,
            field_selector: "reason=a,metadata.namespace=x".into(),
            namespaces: texts(&["y", "z"]),
            ..Filter::default()
        }]);
        assert_eq!(
            fields(&violations),
            [
                "filters[0].kubernetes_event",
                "filters[0].field_selector",
                "filters[0].field_selector",
            ]
        );
        let text = &violations[2].1;
        assert!(
            text.contains("metadata.namespace") && text.contains("namespaces"),
            "{text}"
        );
        let contradicts = |change: fn(&mut Filter, &mut KubernetesEventFilter)| {
            let (mut filter, mut event) = (Filter::default(), KubernetesEventFilter::default());
            change(&mut filter, &mut event);
            filter.kubernetes_event = Some(event);
            refused(vec![filter])
        };
        let by_type = contradicts(|filter, event| {
            event.types = texts(&["Normal"]);
            filter.field_selector = "type=Warning".into();
        });
        let by_kind = contradicts(|filter, event| {
            event.involved_object = Some(ObjectReference {
                kind: "Pod".into(),
                ..ObjectReference::default()
            });
            filter.field_selector = "involvedObject.kind!=pod".into();
        });
        for violations in [by_type, by_kind] {
            assert_eq!(fields(&violations), ["filters[0].field_selector"]);
        }
    }

    #[test]
    fn a_field_selector_that_excludes_itself_is_refused() {
        for selector in ["reason=a,reason=b", "bogus=1", "type=warning", "reason"] {
            let violations = refused(vec![Filter {
                field_selector: selector.into(),
                ..Filter::default()
            }]);
            assert_eq!(
                fields(&violations),
                ["filters[0].field_selector"],
                "{selector}"
            );
        }
    }

    #[test]
    fn size_is_bounded() {
        assert!(filters(vec![full(); FILTERS_MAX]).is_ok());
        let violations = refused(vec![full(); FILTERS_MAX + 1]);
        assert!(violations[0].1.contains("33 filters"), "{violations:?}");
        let named = |count: usize| Filter {
            names: vec!["a-name-of-28-bytes-xxxxxxxxx".to_owned(); count],
            ..Filter::default()
        };
        let most = FILTER_BYTES_MAX / 30;
        assert!(filters(vec![named(most)]).is_ok());
        let violations = refused(vec![named(most / 2), named(most / 2 + 2)]);
        assert_eq!(fields(&violations), ["filters"]);
        assert!(violations[0].1.contains("65536"), "{violations:?}");
    }

    #[test]
    fn a_refusal_stays_small() {
        let violations = refused(vec![Filter {
            names: vec!["ü/".repeat(300); 50],
            ..Filter::default()
        }]);
        assert_eq!(violations.len(), VIOLATIONS_MAX);
        assert!(violations.iter().all(|(_, text)| text.len() < 256));
    }

    #[test]
    fn client_names_are_short_and_plain() {
        for name in ["", "team-a/forwarder_1.2", &"a".repeat(64)] {
            assert_eq!(client_name(name), Ok(()), "{name}");
        }
        for name in ["a b", "ä", "a\n", &"a".repeat(65)] {
            assert_eq!(client_name(name).unwrap_err().0, "client_name", "{name}");
        }
    }
}
