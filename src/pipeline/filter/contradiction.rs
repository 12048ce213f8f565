//! Filters whose parts exclude each other.

use super::{
    Filter, Values,
    fields::{Field, FieldSelector},
};

/// Parts of a filter that exclude each other, so that nothing can match it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Only Kubernetes Events are asked for, of resources that are others.
    #[error(
        "only Kubernetes Events have what it asks for, and resources names neither v1/events nor \
         events.k8s.io/v1/events: add one of them, or leave resources empty"
    )]
    NoKubernetesEvents {
        /// The part that asks for them, as the protocol names it.
        part: &'static str,
    },
    /// The field selector accepts none of the values that another part lists.
    #[error(
        "what it requires of {field} excludes every value in {list}: correct one of them, or use \
         several filters for \"or\""
    )]
    Excluded {
        /// The field.
        field: &'static str,
        /// The other part, as the protocol names it.
        list: &'static str,
    },
}

impl Contradiction {
    /// The part to correct, as the protocol names it.
    pub fn part(&self) -> &'static str {
        match self {
            Self::NoKubernetesEvents { part } => part,
            Self::Excluded { .. } => FIELD_SELECTOR,
        }
    }
}

const FIELD_SELECTOR: &str = "field_selector";

/// Why nothing can ever match a filter.
pub(super) fn contradictions(filter: &Filter) -> Vec<Contradiction> {
    let mut found = Vec::new();
    let no_events = !filter.resources.is_empty() && !filter.resources.iter().any(|r| r.is_events());
    if no_events && filter.kubernetes_event.is_some() {
        found.push(Contradiction::NoKubernetesEvents {
            part: "kubernetes_event",
        });
    }
    if no_events && filter.fields.asks_for_kubernetes_event() {
        found.push(Contradiction::NoKubernetesEvents {
            part: FIELD_SELECTOR,
        });
    }
    let fields = &filter.fields;
    let mut lists = vec![
        ("namespaces", Field::Namespace, &filter.namespaces),
        ("names", Field::Name, &filter.names),
    ];
    if let Some(event) = &filter.kubernetes_event {
        lists.extend([
            ("kubernetes_event.types", Field::Type, &event.types),
            ("kubernetes_event.reasons", Field::Reason, &event.reasons),
            ("kubernetes_event.sources", Field::Source, &event.sources),
        ]);
        let object = [
            (
                "kubernetes_event.involved_object.kind",
                Field::ObjectKind,
                &event.kind,
            ),
            (
                "kubernetes_event.involved_object.namespace",
                Field::ObjectNamespace,
                &event.namespace,
            ),
            (
                "kubernetes_event.involved_object.name",
                Field::ObjectName,
                &event.name,
            ),
            (
                "kubernetes_event.involved_object.uid",
                Field::ObjectUid,
                &event.uid,
            ),
        ];
        for (list, field, value) in object {
            if !value.is_empty() && !fields.allows(field, value) {
                found.push(excluded(list, field));
            }
        }
    }
    for (list, field, values) in lists {
        if excludes_all(fields, field, values) {
            found.push(excluded(list, field));
        }
    }
    found
}

fn excluded(list: &'static str, field: Field) -> Contradiction {
    Contradiction::Excluded {
        field: field.name(),
        list,
    }
}

fn excludes_all(fields: &FieldSelector, field: Field, values: &Values) -> bool {
    let mut all = values.sorted().into_iter();
    !values.is_empty() && !all.any(|value| fields.allows(field, value))
}
