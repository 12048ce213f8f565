//! What a replica is told at its start: flags over an optional TOML file, checked, with every
//! problem reported at once.
//!
//! [`Settings`] is what was written; [`Serve`] is what it means. Nothing else reads configuration.

mod check;
mod clusters;
mod settings;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, str::FromStr};

pub use settings::{
    ClusterSettings, LimitSettings, LogSettings, NarrowedSettings, ReadError, ResourceSettings,
    Settings, SourceSettings,
};

use crate::domain::cluster::ClusterSpec;

/// The configuration of `quorumwatch serve`, checked.
#[derive(Clone, Debug)]
pub struct Serve {
    /// The replica's stable name, the pod's.
    pub name: String,
    /// Where the replica keeps its data.
    pub data_dir: PathBuf,
    /// Where clients are answered.
    pub client_listen: SocketAddr,
    /// Where other replicas are answered.
    pub peer_listen: SocketAddr,
    /// `host:port` under which clients reach `client_listen`.
    pub advertise_client: String,
    /// `host:port` under which other replicas reach `peer_listen`.
    pub advertise_peer: String,
    /// The replicas that found the group, by name, this one among them.
    pub peers: Vec<Peer>,
    /// Folders whose kubeconfig files clusters may name; absolute.
    pub kubeconfig_dirs: Vec<PathBuf>,
    /// Kubeconfigs with credentials, by the name under which clusters refer to them.
    pub sources: BTreeMap<String, ConfiguredSource>,
    /// Commands that kubeconfigs may run for credentials; none by default, because a kubeconfig
    /// could otherwise run anything here.
    pub allow_exec: Vec<String>,
    /// Whether kubeconfigs may name files (tokens, certificates) outside of themselves.
    pub allow_file_references: bool,
    /// Whether listeners may be reached from other machines although they are not protected.
    pub insecure_plaintext: bool,
    /// Limits.
    pub limits: Limits,
    /// Clusters to create at the start where they are absent.
    pub clusters: Vec<ClusterSpec>,
    /// What is logged, and how.
    pub log: Log,
}

/// A replica that founds the group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its stable name.
    pub name: String,
    /// `host:port` of its peer listener.
    pub address: String,
}

/// Why a text is not a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer {0:?} is not of the form name=host:port")]
pub struct NotAPeer(String);

impl FromStr for Peer {
    type Err = NotAPeer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, address) = text
            .split_once('=')
            .ok_or_else(|| NotAPeer(text.to_owned()))?;
        Ok(Self {
            name: name.trim().to_owned(),
            address: address.trim().to_owned(),
        })
    }
}

/// A kubeconfig that the replica's own configuration holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredSource {
    /// The kubeconfig, YAML, credentials included.
    pub kubeconfig: Secret,
    /// The context to use; empty for its current context.
    pub context: String,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one who needs it. It must not go into a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Limits that an operator may move. All others are constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the ring that the owner of a stream keeps, in bytes, per stream.
    pub ring_bytes: usize,
    /// Memory of the ring from which a replica serves its subscribers, in bytes, per stream.
    pub hub_ring_bytes: usize,
    /// After how long without taking anything a subscriber is told that it is too slow, in
    /// milliseconds.
    pub slow_subscriber_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A few thousand Events of 1 KB: seconds of a busy cluster, so that a short pause of
            // a reader is bridged from memory and not by its API server.
            ring_bytes: 4 * 1024 * 1024,
            hub_ring_bytes: 4 * 1024 * 1024,
            // Longer than any pause of a healthy client, shorter than the five minutes of history
            // that its cursor can still be resumed from.
            slow_subscriber_ms: 30_000,
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// Which lines: a level, or `target=level` pairs joined by commas; empty for `info`.
    /// openraft is silent, unless a pair names it.
    pub level: String,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("use auto, text or json"),
        }
    }
}

/// Everything that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// One sentence each, never empty.
    pub problems: Vec<String>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is not valid:")?;
        for problem in &self.problems {
            write!(f, "\n  - {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl Serve {
    /// Checks settings and fills in the defaults.
    pub fn new(settings: Settings) -> Result<Self, Invalid> {
        check::serve(settings)
    }
}

#[cfg(test)]
mod tests;
