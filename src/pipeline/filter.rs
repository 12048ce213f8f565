//! Which events a subscriber wants. Object bytes are read only where a filter asks for what is in
//! them.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;

use crate::domain::{
    cluster::{Cluster, Resource},
    frame::Frame,
};

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
            && (self.event.is_empty() || resource.is_events())
    }

    /// Whether a frame of a wanted stream is wanted.
    pub fn wants_frame(&self, frame: &Frame) -> bool {
        one_of(&self.namespaces, &frame.namespace)
            && one_of(&self.names, &frame.name)
            && (self.event.is_empty() || self.event.matches(&frame.object))
    }
}

impl EventFilter {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn matches(&self, object: &[u8]) -> bool {
        // What cannot be read is let through: a filter must never be the cause of a loss.
        let Ok(event) = serde_json::from_slice::<EventFields<'_>>(object) else {
            return true;
        };
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

/// A label selector in Kubernetes' words: `env=prod,tier!=test,region in (eu, us),!canary`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    /// Like in Kubernetes, a label that is absent satisfies it.
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// Why a text is not a label selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "label selector: {0:?} is none of key, !key, key=value, key!=value, key in (a,b), \
     key notin (a,b)"
)]
pub struct NotASelector(pub String);

impl LabelSelector {
    /// Whether labels satisfy every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => !labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

impl std::str::FromStr for LabelSelector {
    type Err = NotASelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = split_outside_parentheses(text);
        let parts = parts
            .iter()
            .map(|part| part.trim())
            .filter(|part| !part.is_empty());
        parts.map(requirement).collect::<Result<_, _>>().map(Self)
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|symbol| {
        match symbol {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        symbol == ',' && depth == 0
    })
    .collect()
}

fn requirement(text: &str) -> Result<Requirement, NotASelector> {
    let refuse = || NotASelector(text.chars().take(128).collect());
    let key = |key: &str| {
        let key = key.trim();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        if key.is_empty() || !key.bytes().all(plain) {
            Err(refuse())
        } else {
            Ok(key.to_owned())
        }
    };
    if let Some((left, set)) = text.split_once('(') {
        let set = set.strip_suffix(')').ok_or_else(refuse)?;
        let values = set
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let mut words = left.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(name), Some("in"), None) => Ok(Requirement::In(key(name)?, values)),
            (Some(name), Some("notin"), None) => Ok(Requirement::NotIn(key(name)?, values)),
            _ => Err(refuse()),
        };
    }
    if let Some((name, value)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(
            key(name)?,
            vec![value.trim().to_owned()],
        ));
    }
    if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(key(name)?, vec![value.trim().to_owned()]));
    }
    match text.strip_prefix('!') {
        Some(name) => key(name).map(Requirement::Absent),
        None => key(text).map(Requirement::Exists),
    }
}

#[cfg(test)]
mod tests {
    use super::{EventFilter, LabelSelector};

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        selector.parse::<LabelSelector>().unwrap().matches(&labels)
    }

    #[test]
    fn selectors_mean_what_they_mean_in_kubernetes() {
        let labels = [("env", "prod"), ("region", "eu")];
        for selector in [
            "",
            "env",
            "env=prod",
            "env==prod",
            "tier!=x",
            "region in (eu, us),!canary",
            "env notin (test)",
        ] {
            assert!(matches(selector, &labels), "{selector}");
        }
        for selector in [
            "canary",
            "env!=prod",
            "env=prod,region=us",
            "!env",
            "region notin (eu)",
        ] {
            assert!(!matches(selector, &labels), "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["a b", "=x", "a in b", "a in (b", "a within (b)", "!"] {
            assert!(text.parse::<LabelSelector>().is_err(), "{text}");
        }
    }

    #[test]
    fn event_fields_are_read_from_either_api_group() {
        let filter = EventFilter {
            kind: "pod".into(),
            reasons: vec!["Killing".into()],
            ..Default::default()
        };
        assert!(filter.matches(br#"{"reason":"Killing","involvedObject":{"kind":"Pod"}}"#));
        assert!(filter.matches(br#"{"reason":"Killing","regarding":{"kind":"Pod"}}"#));
        assert!(!filter.matches(br#"{"reason":"Killing","involvedObject":{"kind":"Node"}}"#));
        assert!(!filter.matches(br#"{"reason":"Started","involvedObject":{"kind":"Pod"}}"#));
        assert!(
            filter.matches(b"torn {"),
            "what cannot be read is let through"
        );
    }
}
