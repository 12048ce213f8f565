//! Which objects of a cluster: as a user writes it, and as one stream carries them.

use std::{fmt, str::FromStr};

/// One API resource: group, version and plural name.
///
/// Prints as its `apiVersion` and plural: `v1/events`, `apps/v1/deployments`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The plural name, as in a URL.
    pub plural: String,
}

impl Resource {
    /// Kubernetes Events as core/v1 serves them. `events.k8s.io/v1` serves the same objects from
    /// the same storage (watch trap T19), so only one of the two may be watched.
    pub fn events() -> Self {
        Self {
            group: String::new(),
            version: "v1".into(),
            plural: "events".into(),
        }
    }

    /// Whether these are Kubernetes Events, under either of their two names.
    pub fn is_events(&self) -> bool {
        self.plural == "events" && matches!(self.group.as_str(), "" | "events.k8s.io")
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.group.is_empty() {
            write!(f, "{}/", self.group)?;
        }
        write!(f, "{}/{}", self.version, self.plural)
    }
}

/// Why a text is not a resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "resource {0:?} is not of the form version/plural or group/version/plural, \
     like v1/configmaps or apps/v1/deployments"
)]
pub struct NotAResource(pub String);

impl FromStr for Resource {
    type Err = NotAResource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let (group, version, plural) = match parts.as_slice() {
            [version, plural] => ("", *version, *plural),
            [group, version, plural] if !group.is_empty() => (*group, *version, *plural),
            _ => return Err(NotAResource(text.to_owned())),
        };
        let plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 253
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        };
        if plain(version) && plain(plural) && (group.is_empty() || plain(group)) {
            Ok(Self {
                group: group.into(),
                version: version.into(),
                plural: plural.into(),
            })
        } else {
            Err(NotAResource(text.to_owned()))
        }
    }
}

/// Which objects of a cluster to watch, as a user writes it: one stream, or one for each namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceSelector {
    /// The resource to watch.
    pub resource: Resource,
    /// Only these namespaces, each a stream of its own; all of them, as one stream, where it is
    /// empty.
    pub namespaces: Vec<String>,
    /// A Kubernetes label selector, handed to the API server as it stands; empty for all.
    pub label_selector: String,
    /// A Kubernetes field selector, handed to the API server as it stands; empty for all.
    pub field_selector: String,
}

impl ResourceSelector {
    /// Every object of a resource.
    pub fn all(resource: Resource) -> Self {
        Self {
            resource,
            namespaces: Vec::new(),
            label_selector: String::new(),
            field_selector: String::new(),
        }
    }

    /// The streams that it asks for.
    pub fn streams(&self) -> Vec<StreamSelector> {
        let stream = |namespace: &str| StreamSelector {
            resource: self.resource.clone(),
            namespace: namespace.to_owned(),
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
        };
        if self.namespaces.is_empty() {
            return vec![stream("")];
        }
        self.namespaces.iter().map(|name| stream(name)).collect()
    }
}

/// Which objects of a cluster one stream carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamSelector {
    /// The resource to watch.
    pub resource: Resource,
    /// Only this namespace; empty for all of them.
    pub namespace: String,
    /// A Kubernetes label selector, handed to the API server as it stands; empty for all.
    pub label_selector: String,
    /// A Kubernetes field selector, handed to the API server as it stands; empty for all.
    pub field_selector: String,
}

impl StreamSelector {
    /// Every object of a resource.
    pub fn all(resource: Resource) -> Self {
        Self {
            resource,
            namespace: String::new(),
            label_selector: String::new(),
            field_selector: String::new(),
        }
    }

    /// Whether the API server filters this stream: an update may then look like an addition or a
    /// deletion (watch trap T18).
    pub fn is_narrowed_by_selector(&self) -> bool {
        !self.label_selector.is_empty() || !self.field_selector.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Resource, ResourceSelector};

    #[test]
    fn resources_read_back_as_they_print() {
        for text in [
            "v1/events",
            "apps/v1/deployments",
            "events.k8s.io/v1/events",
        ] {
            assert_eq!(text.parse::<Resource>().unwrap().to_string(), text);
        }
        for text in [
            "", "pods", "/v1/pods", "a/b/c/d", "v1/Pods", "v1/", "v1/p?x",
        ] {
            assert!(text.parse::<Resource>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_namespace_is_a_stream_of_its_own() {
        let mut selector = ResourceSelector::all(Resource::events());
        selector.field_selector = "type=Warning".into();
        let [all] = selector.streams().try_into().unwrap();
        assert_eq!(all.namespace, "");
        selector.namespaces = vec!["shop".into(), "pay".into()];
        let streams = selector.streams();
        let namespaces: Vec<_> = streams.iter().map(|s| s.namespace.as_str()).collect();
        assert_eq!(namespaces, ["shop", "pay"]);
        assert!(streams.iter().all(|s| s.field_selector == "type=Warning"));
    }
}
