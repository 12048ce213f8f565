//! Settings as they are written, in flags or in TOML, before any of them is checked.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer};

use super::{LogFormat, Peer, Secret};

/// What was written; `None` where nothing was.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// See [`super::Serve::name`].
    pub name: Option<String>,
    /// See [`super::Serve::data_dir`].
    pub data_dir: Option<PathBuf>,
    /// See [`super::Serve::client_listen`].
    pub client_listen: Option<String>,
    /// See [`super::Serve::peer_listen`].
    pub peer_listen: Option<String>,
    /// See [`super::Serve::advertise_client`].
    pub advertise_client: Option<String>,
    /// See [`super::Serve::advertise_peer`].
    pub advertise_peer: Option<String>,
    /// See [`super::Serve::peers`]. In TOML a table from name to address.
    #[serde(deserialize_with = "peers_by_name")]
    pub peers: Option<Vec<Peer>>,
    /// See [`super::Serve::kubeconfig_dirs`].
    pub kubeconfig_dirs: Vec<PathBuf>,
    /// See [`super::Serve::sources`].
    pub sources: BTreeMap<String, SourceSettings>,
    /// See [`super::Serve::allow_exec`].
    pub allow_exec: Vec<String>,
    /// See [`super::Serve::allow_file_references`].
    pub allow_file_references: bool,
    /// See [`super::Serve::insecure_plaintext`].
    pub insecure_plaintext: bool,
    /// See [`super::Serve::limits`].
    pub limits: LimitSettings,
    /// See [`super::Serve::clusters`].
    pub clusters: Vec<ClusterSettings>,
    /// See [`super::Serve::log`].
    pub log: LogSettings,
}

/// A kubeconfig with credentials.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// The kubeconfig, YAML.
    pub kubeconfig: Secret,
    /// The context to use.
    #[serde(default)]
    pub context: String,
}

/// See [`super::Limits`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// See [`super::Limits::ring_bytes`].
    pub ring_bytes: Option<usize>,
    /// See [`super::Limits::hub_ring_bytes`].
    pub hub_ring_bytes: Option<usize>,
    /// See [`super::Limits::slow_subscriber_ms`].
    pub slow_subscriber_ms: Option<u64>,
}

/// See [`super::Log`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// See [`super::Log::format`].
    pub format: Option<LogFormat>,
    /// See [`super::Log::level`].
    pub level: Option<String>,
}

/// A cluster to create at the start.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// A kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the file; its current one where it is not set.
    pub context: Option<String>,
    /// Or the name of a source in `[sources]`.
    pub source: Option<String>,
    /// Or the service account of the pod.
    pub in_cluster: bool,
    /// What to watch; Kubernetes Events where it is empty.
    pub resources: Vec<ResourceSettings>,
}

/// What to watch: the resource alone, or with what narrows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a resource like \"v1/configmaps\", or a table with resource, namespaces, \
                 label_selector and field_selector"
)]
pub enum ResourceSettings {
    /// All objects of a resource.
    All(String),
    /// Some of them.
    Some(NarrowedSettings),
}

/// Some objects of a resource.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NarrowedSettings {
    /// The resource.
    pub resource: String,
    /// Only these namespaces.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// A Kubernetes label selector.
    #[serde(default)]
    pub label_selector: String,
    /// A Kubernetes field selector.
    #[serde(default)]
    pub field_selector: String,
}

/// Why a configuration file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system refused.
    #[error("read the configuration file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is not TOML, or names what does not exist. The text itself is not repeated: it may
    /// hold credentials.
    #[error("configuration file {}, line {line}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
}

impl Settings {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let text = std::fs::read_to_string(path).map_err(|source| ReadError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|(line, message)| ReadError::Format {
            path: path.to_owned(),
            line,
            message,
        })
    }

    /// Reads TOML; says the line and the reason where that fails.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|b| *b == b'\n').count() + 1;
            (line, error.message().to_owned())
        })
    }

    /// What `self` says, and what `below` says where `self` says nothing. Lists are joined.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            name: self.name.or(below.name),
            data_dir: self.data_dir.or(below.data_dir),
            client_listen: self.client_listen.or(below.client_listen),
            peer_listen: self.peer_listen.or(below.peer_listen),
            advertise_client: self.advertise_client.or(below.advertise_client),
            advertise_peer: self.advertise_peer.or(below.advertise_peer),
            peers: self.peers.or(below.peers),
            kubeconfig_dirs: joined(self.kubeconfig_dirs, below.kubeconfig_dirs),
            sources: below.sources.into_iter().chain(self.sources).collect(),
            allow_exec: joined(self.allow_exec, below.allow_exec),
            allow_file_references: self.allow_file_references || below.allow_file_references,
            insecure_plaintext: self.insecure_plaintext || below.insecure_plaintext,
            limits: LimitSettings {
                ring_bytes: self.limits.ring_bytes.or(below.limits.ring_bytes),
                hub_ring_bytes: self.limits.hub_ring_bytes.or(below.limits.hub_ring_bytes),
                slow_subscriber_ms: self
                    .limits
                    .slow_subscriber_ms
                    .or(below.limits.slow_subscriber_ms),
            },
            clusters: joined(self.clusters, below.clusters),
            log: LogSettings {
                format: self.log.format.or(below.log.format),
                level: self.log.level.or(below.log.level),
            },
        }
    }
}

fn joined<T>(mut first: Vec<T>, second: Vec<T>) -> Vec<T> {
    first.extend(second);
    first
}

fn peers_by_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<Peer>>, D::Error> {
    let by_name = BTreeMap::<String, String>::deserialize(from)?;
    let peers = by_name
        .into_iter()
        .map(|(name, address)| Peer { name, address });
    Ok(Some(peers.collect()))
}
