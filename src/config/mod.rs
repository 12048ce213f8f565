//! The configuration of a replica: a TOML file, the environment and flags, in increasing
//! precedence, checked, with every problem reported at once.
//!
//! [`keys`] is the table of all keys; [`load`] reads the three places, compares them with it and
//! applies the rules; [`Serve`] is what comes of it. Nothing else reads configuration.

mod clusters;
mod environment;
mod file;
mod in_force;
mod keys;
mod limits;
mod memory;
mod origin;
#[cfg(test)]
mod reference;
mod rules;
mod value;

use std::{
    collections::BTreeMap, ffi::OsString, fmt, net::SocketAddr, path::PathBuf, str::FromStr,
};

pub use environment::Environment;
pub use in_force::InForce;
pub use keys::{Absent, KEYS, Key, Kind, nearest};
pub use origin::{Invalid, Origin, Problem};

use origin::Problems;
use value::Layer;

use crate::domain::cluster::ClusterSpec;

/// The configuration of `quorumwatch serve`, checked.
#[derive(Clone, Debug)]
pub struct Serve {
    /// The replica's stable name, the pod's.
    pub name: String,
    /// Where the replica keeps its data.
    pub data_dir: PathBuf,
    /// The address on which clients are served.
    pub client_listen: SocketAddr,
    /// The address on which other replicas are served.
    pub peer_listen: SocketAddr,
    /// `host:port` under which clients reach `client_listen`.
    pub advertise_client: String,
    /// `host:port` under which other replicas reach `peer_listen`.
    pub advertise_peer: String,
    /// The replicas that found the group, by name, this one among them.
    pub peers: Vec<Peer>,
    /// Directories whose kubeconfig files clusters may use; absolute.
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
    /// Limits per subscriber, client and connection.
    pub limits: Limits,
    /// How watches are verified.
    pub watch: Watch,
    /// Memory budgets, in bytes.
    pub memory: Memory,
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

/// A kubeconfig that the replica's own configuration holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredSource {
    /// The kubeconfig, YAML, credentials included.
    pub kubeconfig: Secret,
    /// The context to use; empty for its current context.
    pub context: String,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
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
    /// Memory for the newest part of a stream that a replica owns or serves, in bytes.
    pub ring_bytes: usize,
    /// How long a subscriber may read nothing before it is disconnected as too slow, in
    /// milliseconds.
    pub slow_subscriber_ms: u64,
    /// How long the end of a subscription may stay unread before its connection is closed, in
    /// milliseconds.
    pub unread_ms: u64,
    /// Subscriptions and watches at once.
    pub subscriptions: usize,
    /// Of them, those of one address.
    pub client_subscriptions: usize,
    /// Connections of clients at once.
    pub connections: usize,
    /// Of them, those of one address.
    pub client_connections: usize,
    /// Calls under way on one connection.
    pub connection_streams: u32,
}

/// How much memory a replica may take, in bytes, and how that is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the process may take in all.
    pub total: usize,
    /// All rings together.
    pub rings: usize,
    /// What waits between all watches and the owners of their streams.
    pub queues: usize,
    /// Pages of lists that are being read.
    pub pages: usize,
    /// What was read for snapshots and catch-ups and was not taken by all who asked.
    pub snapshots: usize,
    /// Subscriptions and their filters.
    pub subscriptions: usize,
    /// Responses that wait for subscribers.
    pub responses: usize,
}

/// How watches are verified by lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// How often each stream is, in milliseconds; `None` for never.
    pub audit_interval_ms: Option<u64>,
    /// After how long a quiet stream is, in milliseconds.
    pub quiet_interval_ms: u64,
    /// For how many clusters of other replicas connections are kept ready.
    pub warm_clusters: usize,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Human-readable lines.
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

/// What was given, before any of it is read.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The value of `--config`.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Environment,
    /// The flags, each with all its occurrences.
    pub flags: Vec<(&'static Key, Vec<OsString>)>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Every key with its value; for an invalid one, the value with the next lower precedence.
    pub in_force: Vec<InForce>,
    /// What hinders nothing, but is hardly meant.
    pub warnings: Vec<Problem>,
    /// What it means, or all that is wrong.
    pub serve: Result<Serve, Invalid>,
}

/// Reads the file, the environment and the flags, in that order of strength, and checks what comes
/// of it.
pub fn load(given: &Given) -> Loaded {
    let mut problems = Problems::default();
    let environment = &given.environment;
    let named = environment.get(environment::CONFIG).map(PathBuf::from);
    let file = given.file.clone().or(named);
    let mut layer = Layer::defaults();
    let mut whole = true;
    if let Some(path) = &file {
        let mut written = Layer::default();
        whole = file::read(path, &mut written, &mut problems);
        layer.overlay(written);
    }
    let mut written = Layer::default();
    environment.read(&mut written, &mut problems);
    layer.overlay(written);
    layer.overlay(flags(&given.flags, &mut problems));
    // What a file lacks that could not be read is not what is wrong.
    let serve = whole
        .then(|| rules::serve(&mut layer, &mut problems))
        .flatten();
    Loaded {
        file,
        in_force: in_force::in_force(&layer),
        warnings: environment.unread(),
        serve: serve.ok_or_else(|| Invalid {
            problems: problems.into_sorted(),
        }),
    }
}

fn flags(given: &[(&'static Key, Vec<OsString>)], problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    for (key, values) in given {
        let origin = Origin::Flag(key.flag.unwrap_or(key.path));
        let texts: Option<Vec<_>> = values.iter().map(|value| value.to_str()).collect();
        let Some(texts) = texts else {
            problems.add(
                &origin,
                key.path,
                "the value is not UTF-8; write it as UTF-8",
            );
            continue;
        };
        let texts = texts.into_iter();
        let written = if key.kind == Kind::Addresses {
            let items = texts.flat_map(|text| text.split(','));
            items.map(str::to_owned).collect()
        } else {
            texts.map(str::to_owned).collect()
        };
        layer.read(key, written, &origin, problems);
    }
    layer
}

#[cfg(test)]
mod tests;
