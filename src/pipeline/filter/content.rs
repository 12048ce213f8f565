//! What filters read of an object.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;

/// What filters read of an object.
pub(super) enum Content<'a> {
    /// Of any object, or of one that was reduced to its metadata.
    Labelled(LabelledObject<'a>),
    /// Of a Kubernetes Event.
    KubernetesEvent(KubernetesEvent<'a>),
}

/// An object's labels.
#[derive(Deserialize)]
pub(super) struct LabelledObject<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

/// A Kubernetes Event, of either of its two API groups.
#[derive(Deserialize)]
pub(super) struct KubernetesEvent<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Cow<'a, str>,
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
struct Metadata<'a> {
    #[serde(borrow, default)]
    labels: Option<BTreeMap<Text<'a>, Text<'a>>>,
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

/// A text that is copied only where it has escapes: serde would copy every `Cow` inside of a map.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::borrow::Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'a> Content<'a> {
    /// Reads an object once; `None` where it cannot be read.
    pub(super) fn read(object: &'a [u8], of_kubernetes_event: bool) -> Option<Self> {
        let read = if of_kubernetes_event {
            serde_json::from_slice(object).map(Self::KubernetesEvent)
        } else {
            serde_json::from_slice(object).map(Self::Labelled)
        };
        read.ok()
    }

    /// The value of a label.
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        let metadata = match self {
            Self::Labelled(object) => &object.metadata,
            Self::KubernetesEvent(event) => &event.metadata,
        };
        let value = metadata.labels.as_ref()?.get(key)?;
        Some(&value.0)
    }

    /// The Kubernetes Event, where there is one to judge.
    pub(super) fn kubernetes_event(&self) -> Option<&KubernetesEvent<'a>> {
        match self {
            Self::Labelled(_) => None,
            Self::KubernetesEvent(event) => Some(event),
        }
    }
}

impl KubernetesEvent<'_> {
    /// `type`.
    pub(super) fn event_type(&self) -> &str {
        &self.event_type
    }

    /// `reason`.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// The component that reports it; where there are two names for it, which one, as the API
    /// server has it.
    pub(super) fn source(&self) -> &str {
        if self.source.component.is_empty() {
            &self.reporting
        } else {
            &self.source.component
        }
    }

    /// `reportingComponent`.
    pub(super) fn reporting_component(&self) -> &str {
        &self.reporting
    }

    /// `involvedObject.kind`.
    pub(super) fn kind(&self) -> &str {
        &self.object.kind
    }

    /// `involvedObject.namespace`.
    pub(super) fn namespace(&self) -> &str {
        &self.object.namespace
    }

    /// `involvedObject.name`.
    pub(super) fn name(&self) -> &str {
        &self.object.name
    }

    /// `involvedObject.uid`.
    pub(super) fn uid(&self) -> &str {
        &self.object.uid
    }
}
