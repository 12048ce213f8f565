//! Monitored clusters: what to watch there, with which credentials, and how they fare.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::id::{ClusterId, Revision, UnixMillis};

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

/// Which objects of a cluster one stream carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceSelector {
    /// The resource to watch.
    pub resource: Resource,
    /// Only this namespace; empty for all of them.
    pub namespace: String,
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

/// Where the credentials for a cluster come from. Credentials themselves never enter the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A kubeconfig file that every replica has; its folder must be allowed by configuration.
    KubeconfigFile {
        /// The file's path.
        path: String,
        /// The context to use; empty for the file's current context.
        context: String,
    },
    /// A kubeconfig that carries no credentials, kept in the state.
    KubeconfigInline {
        /// The kubeconfig, YAML.
        yaml: String,
        /// The context to use; empty for its current context.
        context: String,
    },
    /// A kubeconfig with credentials, which every replica's own configuration holds under this
    /// name.
    Configured {
        /// The name in the configuration.
        name: String,
    },
    /// The service account of the pod that the replica runs in.
    InCluster,
}

/// What a user asks for when creating or updating a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSpec {
    /// The name people use, unique in the group.
    pub name: String,
    /// Labels that subscribers select by.
    pub labels: BTreeMap<String, String>,
    /// How to reach it.
    pub source: Source,
    /// What to watch, without repetition.
    pub selectors: Vec<ResourceSelector>,
    /// Nothing of a paused cluster is watched; its checkpoints stay.
    pub paused: bool,
}

/// A monitored cluster, as agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// What was asked for.
    pub spec: ClusterSpec,
    /// The UID of its kube-system namespace, once its first owner has seen it: its identity.
    pub uid: Option<String>,
    /// When it was created.
    pub created: UnixMillis,
    /// The revision that created or last updated it.
    pub revision: Revision,
    /// How its owner fares with it.
    pub health: Health,
}

/// How an owner fares with a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The short answer.
    pub condition: Condition,
    /// One sentence for people; empty where there is nothing to say. Never a credential.
    pub reason: String,
    /// Since when the condition holds.
    pub since: UnixMillis,
}

impl Health {
    /// Nobody has tried yet.
    pub fn unknown(since: UnixMillis) -> Self {
        Self {
            condition: Condition::Unknown,
            reason: String::new(),
            since,
        }
    }
}

/// The short answer to "how is this cluster?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// No owner has reported yet.
    Unknown,
    /// Every stream is being watched.
    Connected,
    /// The API server answers, but at least one stream is not being watched.
    Degraded,
    /// The API server cannot be reached.
    Unreachable,
    /// The API server refuses our credentials or lacks a permission for us (401, 403).
    Unauthorised,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Connected => "connected",
            Self::Degraded => "degraded",
            Self::Unreachable => "unreachable",
            Self::Unauthorised => "unauthorised",
        })
    }
}

/// Why a cluster specification is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// The name is not one.
    #[error(
        "cluster name {0:?} is not valid: use 1 to 63 lowercase letters, digits, '-' or '.', \
         beginning and ending with a letter or digit"
    )]
    Name(String),
    /// No resource to watch.
    #[error("cluster {0:?} watches nothing: name at least one resource")]
    NoResources(String),
    /// The same stream twice.
    #[error("cluster {0:?} names resource {1} twice with the same namespace and selectors")]
    Repeated(String, Resource),
    /// Watch trap T19.
    #[error(
        "cluster {0:?} names both v1/events and events.k8s.io/v1/events: these are the same \
         objects and every event would come twice; keep one of them"
    )]
    EventsTwice(String),
    /// More streams than a shard may have.
    #[error("cluster {0:?} names {1} resources; the most is {max}", max = ClusterSpec::SELECTORS_MAX)]
    TooMany(String, usize),
    /// A limit on size, so that a record stays small.
    #[error("cluster {0:?}: {1} is longer than {2} bytes")]
    TooLong(String, &'static str, usize),
}

impl ClusterSpec {
    /// Most streams of one cluster: each costs a connection to its API server.
    pub const SELECTORS_MAX: usize = 64;
    /// Longest label, selector or path.
    pub const TEXT_BYTES_MAX: usize = 1024;
    /// Longest inline kubeconfig: it travels in one log entry.
    pub const INLINE_BYTES_MAX: usize = 64 * 1024;

    /// Checks everything that can be checked without reaching the cluster.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        if !is_cluster_name(&self.name) {
            return Err(InvalidSpec::Name(self.name.chars().take(80).collect()));
        }
        let name = || self.name.clone();
        if self.selectors.is_empty() {
            return Err(InvalidSpec::NoResources(name()));
        }
        if self.selectors.len() > Self::SELECTORS_MAX {
            return Err(InvalidSpec::TooMany(name(), self.selectors.len()));
        }
        for (index, selector) in self.selectors.iter().enumerate() {
            if self.selectors[..index].contains(selector) {
                return Err(InvalidSpec::Repeated(name(), selector.resource.clone()));
            }
        }
        let mut events = self
            .selectors
            .iter()
            .map(|s| &s.resource)
            .filter(|r| r.is_events());
        if let Some(first) = events.next()
            && events.any(|other| other != first)
        {
            return Err(InvalidSpec::EventsTwice(name()));
        }
        self.validate_lengths()
    }

    fn validate_lengths(&self) -> Result<(), InvalidSpec> {
        let long = |what, text: &str, max| {
            if text.len() > max {
                Err(InvalidSpec::TooLong(self.name.clone(), what, max))
            } else {
                Ok(())
            }
        };
        for (key, value) in &self.labels {
            long("a label key", key, Self::TEXT_BYTES_MAX)?;
            long("a label value", value, Self::TEXT_BYTES_MAX)?;
        }
        for selector in &self.selectors {
            long("a namespace", &selector.namespace, Self::TEXT_BYTES_MAX)?;
            long(
                "a label selector",
                &selector.label_selector,
                Self::TEXT_BYTES_MAX,
            )?;
            long(
                "a field selector",
                &selector.field_selector,
                Self::TEXT_BYTES_MAX,
            )?;
        }
        match &self.source {
            Source::KubeconfigFile { path, context } => {
                long("the kubeconfig path", path, Self::TEXT_BYTES_MAX)?;
                long("the context", context, Self::TEXT_BYTES_MAX)
            }
            Source::KubeconfigInline { yaml, context } => {
                long("the inline kubeconfig", yaml, Self::INLINE_BYTES_MAX)?;
                long("the context", context, Self::TEXT_BYTES_MAX)
            }
            Source::Configured { name } => long("the source name", name, Self::TEXT_BYTES_MAX),
            Source::InCluster => Ok(()),
        }
    }
}

/// A name that is safe in URLs, file names, log lines and shard names.
fn is_cluster_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(b);
    let outer = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    bytes.len() <= 63 && bytes.iter().all(inner) && outer(bytes.first()) && outer(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::{ClusterSpec, InvalidSpec, Resource, ResourceSelector, Source};

    fn spec(name: &str, resources: &[&str]) -> ClusterSpec {
        ClusterSpec {
            name: name.into(),
            labels: [].into(),
            source: Source::InCluster,
            selectors: resources
                .iter()
                .map(|r| ResourceSelector::all(r.parse().unwrap()))
                .collect(),
            paused: false,
        }
    }

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
    fn events_may_be_watched_under_one_name_only() {
        let both = spec("c", &["v1/events", "events.k8s.io/v1/events"]);
        assert_eq!(both.validate(), Err(InvalidSpec::EventsTwice("c".into())));
        assert_eq!(spec("c", &["v1/events", "v1/pods"]).validate(), Ok(()));
    }

    #[test]
    fn bad_names_are_refused() {
        for name in ["", "-a", "a-", "A", "a/b", "ä", &"a".repeat(64)] {
            assert!(matches!(
                spec(name, &["v1/pods"]).validate(),
                Err(InvalidSpec::Name(_))
            ));
        }
    }

    #[test]
    fn the_same_stream_twice_is_refused() {
        assert!(matches!(
            spec("c", &["v1/pods", "v1/pods"]).validate(),
            Err(InvalidSpec::Repeated(..))
        ));
        assert!(matches!(
            spec("c", &[]).validate(),
            Err(InvalidSpec::NoResources(_))
        ));
    }
}
