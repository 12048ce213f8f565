//! Which events a subscriber wants.
//!
//! [`Filters`] is what was asked for, [`StreamFilter`] what of it one stream can match. A filter
//! must never be the cause of a loss: what cannot be read is let through.

mod content;
mod contradiction;
mod digest;
mod fields;
mod labels;
mod stream;
mod values;

use std::{collections::BTreeSet, sync::Arc};

use crate::domain::{
    cluster::{Cluster, Resource, StreamSelector},
    event::{Change, Event},
};

use content::{Content, KubernetesEvent};
use digest::Digest;
use fields::Field;

pub use contradiction::Contradiction;
pub use fields::{FieldSelector, NotAFieldSelector, is_object_name};
pub use labels::{LabelSelector, NotALabelSelector};
pub use stream::{StreamFilter, Verdict};
pub use values::Values;

/// Most filters of one subscription: each is tried for each event.
pub const FILTERS_MAX: usize = 32;
const _: () = assert!(
    FILTERS_MAX <= u32::BITS as usize,
    "a mask has a bit for each"
);

/// Most bytes that the filters of one subscription may have together: they stay in memory as long
/// as it does. Room for some thousand names.
pub const FILTER_BYTES_MAX: usize = 64 * 1024;

/// Most requirements of one selector: each is tried for each event.
pub const REQUIREMENTS_MAX: usize = 64;

/// Which events a subscriber wants: those that match at least one filter; everything if there are
/// no filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters {
    /// Those that ask for nothing inside of objects come first: where one of them matches, no
    /// object need be read. Empty where everything is wanted.
    filters: Arc<[Arc<Filter>]>,
    digest: u64,
}

/// One filter: fields are joined by "and", the values of one by "or", and an empty field matches
/// everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Names of clusters.
    pub clusters: Values,
    /// Labels of clusters.
    pub cluster_labels: LabelSelector,
    /// Resources.
    pub resources: BTreeSet<Resource>,
    /// Namespaces of the object.
    pub namespaces: Values,
    /// Names of the object.
    pub names: Values,
    /// Labels of the object.
    pub object_labels: LabelSelector,
    /// Kinds of changes.
    pub changes: BTreeSet<Change>,
    /// Requirements on Kubernetes Events; if set, nothing else matches.
    pub kubernetes_event: Option<KubernetesEventFilter>,
    /// Fields, in Kubernetes' words.
    pub fields: FieldSelector,
}

/// The part of a filter that only Kubernetes Events can match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubernetesEventFilter {
    /// `type`: Normal or Warning.
    pub types: Values,
    /// `reason`.
    pub reasons: Values,
    /// The component that reports it.
    pub sources: Values,
    /// `involvedObject.kind`, in any case; empty for any, as for the following.
    pub kind: String,
    /// `involvedObject.namespace`.
    pub namespace: String,
    /// `involvedObject.name`.
    pub name: String,
    /// `involvedObject.uid`.
    pub uid: String,
}

impl Default for Filters {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Filters {
    /// What matches at least one filter; everything if there are no filters.
    pub fn new(mut filters: Vec<Filter>) -> Self {
        if filters.iter().any(Filter::is_everything) {
            filters.clear();
        }
        filters.sort_by_cached_key(|filter| (filter.asks_for_content(), filter.digest()));
        filters.dedup();
        let mut digests: Vec<u64> = filters.iter().map(Filter::digest).collect();
        digests.sort_unstable();
        digests.dedup();
        let mut digest = Digest::default();
        digest.numbers(&digests);
        Self {
            filters: filters.into_iter().map(Arc::new).collect(),
            digest: digest.finish(),
        }
    }

    /// The filters that a stream can match; `None` where it can match none.
    pub fn for_stream(&self, cluster: &Cluster, selector: &StreamSelector) -> Option<StreamFilter> {
        let (mut matching, mut mask) = (Vec::new(), 0);
        for (index, filter) in self.filters.iter().enumerate() {
            if filter.can_match(cluster, selector) {
                matching.push(filter.clone());
                mask |= 1_u32.checked_shl(u32::try_from(index).ok()?)?;
            }
        }
        if matching.len() == self.filters.len() {
            // Shared by all such streams, mostly by all there are.
            return Some(StreamFilter::new(self.filters.clone(), 0));
        }
        (!matching.is_empty()).then(|| StreamFilter::new(matching.into(), mask))
    }

    /// A digest of what is asked for, whatever the order of the filters and of their values: the
    /// same in every build and on every machine.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Whether anything is asked of the kind of change.
    pub fn asks_for_change_types(&self) -> bool {
        self.filters.iter().any(|filter| !filter.changes.is_empty())
    }
}

impl Filter {
    /// Why nothing can ever match; empty where something can.
    pub fn contradictions(&self) -> Vec<Contradiction> {
        contradiction::contradictions(self)
    }

    fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a stream can carry anything that matches.
    fn can_match(&self, cluster: &Cluster, selector: &StreamSelector) -> bool {
        let labels = &cluster.spec.labels;
        let resource = &selector.resource;
        self.clusters.accepts(&cluster.spec.name)
            && self
                .cluster_labels
                .matches(|key| labels.get(key).map(String::as_str))
            && (self.resources.is_empty() || self.resources.contains(resource))
            && (!self.is_for_kubernetes_events() || resource.is_events())
            && self.can_match_namespace(&selector.namespace)
    }

    /// Whether a stream of one namespace, or of all of them where it is empty, can carry anything
    /// that matches.
    fn can_match_namespace(&self, namespace: &str) -> bool {
        namespace.is_empty()
            || self.namespaces.accepts(namespace) && self.fields.allows(Field::Namespace, namespace)
    }

    /// Whether only Kubernetes Events can match.
    fn is_for_kubernetes_events(&self) -> bool {
        self.kubernetes_event.is_some() || self.fields.asks_for_kubernetes_event()
    }

    /// Whether anything is asked that only the object itself can answer.
    fn asks_for_content(&self) -> bool {
        self.asks_for_labels() || self.asks_for_kubernetes_event()
    }

    fn asks_for_labels(&self) -> bool {
        !self.object_labels.is_empty()
    }

    /// Whether anything is asked that only the fields of a Kubernetes Event can answer.
    fn asks_for_kubernetes_event(&self) -> bool {
        self.fields.asks_for_kubernetes_event()
            || self
                .kubernetes_event
                .as_ref()
                .is_some_and(|event| !event.is_empty())
    }

    /// Whether what an object can never change matches, and what happened to it.
    fn matches_identity(&self, event: &Event) -> bool {
        (self.changes.is_empty() || self.changes.contains(&event.change))
            && self.namespaces.accepts(event.namespace())
            && self.names.accepts(event.name())
            && self
                .fields
                .matches_metadata(event.namespace(), event.name())
    }

    /// Whether the object as it is now matches.
    fn matches_content(&self, content: &Content<'_>) -> bool {
        self.object_labels.matches(|key| content.label(key))
            && content
                .kubernetes_event()
                .is_none_or(|event| self.matches_kubernetes_event(event))
    }

    fn matches_kubernetes_event(&self, object: &KubernetesEvent<'_>) -> bool {
        self.fields.matches_kubernetes_event(object)
            && self
                .kubernetes_event
                .as_ref()
                .is_none_or(|event| event.matches(object))
    }

    fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        digest.texts(&self.clusters.sorted());
        self.cluster_labels.digest(&mut digest);
        let resources: Vec<_> = self.resources.iter().map(ToString::to_string).collect();
        digest.texts(&resources);
        digest.texts(&self.namespaces.sorted());
        digest.texts(&self.names.sorted());
        self.object_labels.digest(&mut digest);
        let changes: Vec<_> = self.changes.iter().copied().map(change_name).collect();
        digest.texts(&changes);
        digest.number(self.kubernetes_event.is_some().into());
        if let Some(event) = &self.kubernetes_event {
            event.digest(&mut digest);
        }
        self.fields.digest(&mut digest);
        digest.finish()
    }
}

/// What a digest calls a change: never to be altered.
fn change_name(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Modified => "modified",
        Change::Deleted => "deleted",
        Change::Snapshot => "snapshot",
    }
}

impl KubernetesEventFilter {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn matches(&self, event: &KubernetesEvent<'_>) -> bool {
        let same = |want: &str, value: &str| want.is_empty() || want == value;
        self.types.accepts(event.event_type())
            && self.reasons.accepts(event.reason())
            && self.sources.accepts(event.source())
            // As kubectl does, and as we print it: pod/web-0 is Pod/web-0.
            && (self.kind.is_empty() || self.kind.eq_ignore_ascii_case(event.kind()))
            && same(&self.namespace, event.namespace())
            && same(&self.name, event.name())
            && same(&self.uid, event.uid())
    }

    fn digest(&self, digest: &mut Digest) {
        digest.texts(&self.types.sorted());
        digest.texts(&self.reasons.sorted());
        digest.texts(&self.sources.sorted());
        digest.text(&self.kind.to_ascii_lowercase());
        digest.text(&self.namespace);
        digest.text(&self.name);
        digest.text(&self.uid);
    }
}

/// As much of a text as fits into a message.
fn clipped(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
