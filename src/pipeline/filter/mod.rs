//! Which events a subscriber wants. Object bytes are read only where a filter asks for what is in
//! them.

mod fields;
mod labels;

use std::borrow::Cow;

use serde::Deserialize;

use crate::domain::{
    cluster::{Cluster, Resource},
    frame::Frame,
};

pub use fields::{FieldSelector, NotAFieldSelector};
pub use labels::{LabelSelector, NotASelector};

/// Which events a subscriber wants: fields are joined by "and", the values of one by "or", and an
/// empty field matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Names of clusters.
    pub clusters: Vec<String>,
    /// Labels of clusters.
    pub cluster_labels: LabelSelector,
    /// Resources.
    pub resources: Vec<Resource>,
    /// Namespaces of the object.
    pub namespaces: Vec<String>,
    /// Names of the object.
    pub names: Vec<String>,
    /// What Kubernetes Events say.
    pub event: EventFilter,
    /// Fields, in Kubernetes' words.
    pub fields: FieldSelector,
}

/// The part of a filter that only Kubernetes Events can match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// `type`: Normal or Warning.
    pub types: Vec<String>,
    /// `reason`.
    pub reasons: Vec<String>,
    /// `involvedObject.kind`, in any case; empty for any, as for the following.
    pub kind: String,
    /// `involvedObject.namespace`.
    pub namespace: String,
    /// `involvedObject.name`.
    pub name: String,
    /// `involvedObject.uid`.
    pub uid: String,
}

/// What a filter reads of an Event, of either of its two API groups.
#[derive(Deserialize)]
struct EventFields<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    reason: Cow<'a, str>,
    #[serde(borrow, default, alias = "regarding", rename = "involvedObject")]
    object: ObjectFields<'a>,
    #[serde(borrow, default, alias = "deprecatedSource")]
    source: SourceFields<'a>,
    #[serde(
        borrow,
        default,
        alias = "reportingController",
        rename = "reportingComponent"
    )]
    reporting: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct SourceFields<'a> {
    #[serde(borrow, default)]
    component: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct ObjectFields<'a> {
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
}

fn one_of(wanted: &[String], value: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|want| want == value)
}

impl Filter {
    /// Whether a stream can carry anything that is wanted.
    pub fn wants_stream(&self, cluster: &Cluster, resource: &Resource) -> bool {
        one_of(&self.clusters, &cluster.spec.name)
            && self.cluster_labels.matches(&cluster.spec.labels)
            && (self.resources.is_empty() || self.resources.contains(resource))
            && (!self.reads_events() || resource.is_events())
    }

    /// Whether a frame of a wanted stream is wanted.
    pub fn wants_frame(&self, frame: &Frame) -> bool {
        one_of(&self.namespaces, &frame.namespace)
            && one_of(&self.names, &frame.name)
            && self.fields.matches_metadata(&frame.namespace, &frame.name)
            && self.wants_object(&frame.object)
    }

    /// Whether anything is asked that only a Kubernetes Event can answer.
    fn reads_events(&self) -> bool {
        !self.event.is_empty() || self.fields.reads_events()
    }

    fn wants_object(&self, object: &[u8]) -> bool {
        if !self.reads_events() {
            return true;
        }
        // What cannot be read is let through: a filter must never be the cause of a loss.
        let Ok(event) = serde_json::from_slice::<EventFields<'_>>(object) else {
            return true;
        };
        self.event.matches(&event) && self.fields.matches_event(&event)
    }
}

impl EventFilter {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn matches(&self, event: &EventFields<'_>) -> bool {
        let same = |want: &str, value: &str| want.is_empty() || want == value;
        one_of(&self.types, &event.kind)
            && one_of(&self.reasons, &event.reason)
            // As kubectl does, and as we print it: pod/web-0 is Pod/web-0.
            && (self.kind.is_empty() || self.kind.eq_ignore_ascii_case(&event.object.kind))
            && same(&self.namespace, &event.object.namespace)
            && same(&self.name, &event.object.name)
            && same(&self.uid, &event.object.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::{EventFilter, Filter};

    #[test]
    fn event_fields_are_read_from_either_api_group() {
        let filter = Filter {
            event: EventFilter {
                kind: "pod".into(),
                reasons: vec!["Killing".into()],
                ..Default::default()
            },
            ..Default::default()
        };
        let wanted = |object: &[u8]| filter.wants_object(object);
        assert!(wanted(
            br#"{"reason":"Killing","involvedObject":{"kind":"Pod"}}"#
        ));
        assert!(wanted(
            br#"{"reason":"Killing","regarding":{"kind":"Pod"}}"#
        ));
        assert!(!wanted(
            br#"{"reason":"Killing","involvedObject":{"kind":"Node"}}"#
        ));
        assert!(!wanted(
            br#"{"reason":"Started","involvedObject":{"kind":"Pod"}}"#
        ));
        assert!(wanted(b"torn {"), "what cannot be read is let through");
    }

    #[test]
    fn a_field_selector_says_what_it_says_in_kubernetes() {
        let object = br#"{"type":"Warning","reason":"BackOff","source":{"component":"kubelet"},
            "involvedObject":{"kind":"Pod","namespace":"x","name":"a,b"}}"#;
        let wanted = |selector: &str| {
            let fields = selector.parse().unwrap();
            let filter = Filter {
                fields,
                ..Filter::default()
            };
            filter.wants_object(object) && filter.fields.matches_metadata("x", "e.1")
        };
        for selector in [
            "",
            "type=Warning,reason==BackOff",
            "type!=Normal,involvedObject.kind=pod,involvedObject.namespace=x",
            "metadata.namespace=x,metadata.name!=e.2",
            r"involvedObject.name=a\,b",
            "source=kubelet,reportingComponent=",
            " type = Warning ",
        ] {
            assert!(wanted(selector), "{selector}");
        }
        for selector in [
            "type=Normal",
            "type!=Warning",
            "involvedObject.kind!=Pod",
            "metadata.namespace!=x",
            "metadata.name=e.2",
            "involvedObject.uid=1",
            "source!=kubelet",
        ] {
            assert!(!wanted(selector), "{selector}");
        }
    }
}
