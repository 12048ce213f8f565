//! Monitored clusters: what to watch there, with which credentials, and their condition.

mod resource;
mod validate;

pub use resource::{NotAResource, Resource, ResourceSelector, StreamSelector};
pub use validate::{InvalidSpec, is_cluster_name};

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::id::{ClusterId, Epoch, Revision, UnixMillis};

/// Where the credentials for a cluster come from. Credentials themselves never enter the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A kubeconfig file on every replica; its directory must be allowed by the configuration.
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

/// What a user asks for when creating or updating a cluster, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSpec {
    /// The name people use, unique in the group.
    pub name: String,
    /// Labels that subscribers select by.
    pub labels: BTreeMap<String, String>,
    /// How to reach it.
    pub source: Source,
    /// What to watch; Kubernetes Events (v1/events) where it is empty.
    pub resources: Vec<ResourceSelector>,
    /// Nothing of a paused cluster is watched; its checkpoints stay.
    pub paused: bool,
    /// A description for display.
    pub description: String,
    /// The name of another registration of the same Kubernetes cluster; empty for none.
    /// Set if watching it twice is intended.
    ///
    /// It plays a part only when a cluster takes up an identity that it does not have yet. Clearing
    /// it later does not stop what is watched already: two registrations that were both accepted
    /// stay so until one of them is deleted.
    pub duplicate_of: String,
}

impl ClusterSpec {
    /// The streams that this asks for, in the order in which they are written: one for each
    /// namespace that a selector names, or one for all of them.
    pub fn stream_selectors(&self) -> Vec<StreamSelector> {
        if self.resources.is_empty() {
            return vec![StreamSelector::all(Resource::events())];
        }
        self.resources
            .iter()
            .flat_map(ResourceSelector::streams)
            .collect()
    }
}

/// A monitored cluster, as agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Assigned at creation, never reused.
    pub id: ClusterId,
    /// What was asked for. Shared, because changes of the cluster are kept for those who watch.
    pub spec: Arc<ClusterSpec>,
    /// The UID of its kube-system namespace, once its first owner has seen it: its identity.
    pub uid: Option<String>,
    /// When it was created.
    pub created: UnixMillis,
    /// When a user last updated it; when it was created where nobody did.
    pub updated: UnixMillis,
    /// The revision of the last change by a user. As decimal text it is the etag.
    pub revision: Revision,
    /// The revision of the last change of what is watched and how: of the source or the streams.
    /// Watches restart when it changes, and only then.
    pub watch_revision: Revision,
    /// Its condition, as its owner reports it.
    pub health: Health,
    /// The epoch of the owner that has reported the health: a later owner may report another one.
    pub health_epoch: Epoch,
}

/// What is added to the reason where every replica has tried.
const CONFIRMED_OUTAGE: &str = "; no other replica can watch it either";

/// The condition of a cluster, as its owner reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The condition without its reason.
    pub condition: Condition,
    /// One readable sentence; empty if there is no reason. Never contains a credential.
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

    /// What an owner reports.
    pub fn new(condition: Condition, reason: &str, since: UnixMillis) -> Self {
        Self {
            condition,
            reason: reason.to_owned(),
            since,
        }
    }

    /// Whether it reports that no other replica can watch the cluster.
    pub fn is_confirmed_outage(&self) -> bool {
        self.reason.ends_with(CONFIRMED_OUTAGE)
    }

    /// No other replica can watch the cluster; whether that is news.
    pub fn confirm_outage(&mut self) -> bool {
        let is_news = self.condition.is_out_of_reach() && !self.is_confirmed_outage();
        if is_news {
            self.reason.push_str(CONFIRMED_OUTAGE);
        }
        is_news
    }

    /// Whether it equals another one, apart from the time.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.condition == other.condition && self.reason == other.reason
    }
}

impl Condition {
    /// Whether the API server could not be reached, or accepted nothing: another replica, with
    /// another route and other files, may succeed.
    pub fn is_out_of_reach(self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::Unauthenticated | Self::PermissionDenied
        )
    }
}

/// The condition of a cluster.
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
    /// The API server does not accept our credentials (401), or no credentials are available.
    Unauthenticated,
    /// The API server accepts our credentials, but they lack a permission (403).
    PermissionDenied,
    /// The same Kubernetes cluster is registered under another name; nothing is watched.
    Duplicate,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Connected => "connected",
            Self::Degraded => "degraded",
            Self::Unreachable => "unreachable",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission denied",
            Self::Duplicate => "duplicate",
        })
    }
}
