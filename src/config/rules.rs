//! From what was written to [`Serve`]: every rule that a configuration must keep.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::SocketAddr,
    path::PathBuf,
};

use super::{
    ConfiguredSource, Limits, Log, Peer, Secret, Serve, Watch,
    keys::{self, Key},
    origin::{Origin, Placed, Problems, quoted},
    value::{Layer, Table, Value, text_in},
};

/// As long as a DNS name.
const NAME_BYTES_MAX: usize = 253;

/// Applies every rule; what follows from something else is written into `layer`. `None` where there
/// was a problem, here or before.
pub(super) fn serve(layer: &mut Layer, problems: &mut Problems) -> Option<Serve> {
    let mut rules = Rules { layer, problems };
    let insecure = rules.layer.switch(&keys::INSECURE_PLAINTEXT);
    let name = rules.name();
    let client_listen = rules.listen(&keys::CLIENT_LISTEN, insecure);
    let peer_listen = rules.listen(&keys::PEER_LISTEN, insecure);
    rules.two_addresses(client_listen, peer_listen);
    rules.own_address(&name);
    let advertise_client = rules.advertise(
        &keys::ADVERTISE_CLIENT,
        &keys::CLIENT_LISTEN,
        "client_listen",
        client_listen,
    );
    let advertise_peer = rules.advertise(
        &keys::ADVERTISE_PEER,
        &keys::PEER_LISTEN,
        "peer_listen",
        peer_listen,
    );
    let peers = rules.peers(&name, &advertise_peer);
    let kubeconfig_dirs = rules.directories();
    let sources = rules.sources();
    let clusters = rules.clusters(&kubeconfig_dirs, &sources);
    let log = rules.log();
    let limits = rules.limits();
    let watch = rules.watch();
    let memory = rules.memory();
    let data_dir = rules.layer.text(&keys::DATA_DIR)?.value.into();
    if !rules.problems.is_empty() {
        return None;
    }
    Some(Serve {
        name,
        data_dir,
        client_listen: client_listen?,
        peer_listen: peer_listen?,
        advertise_client,
        advertise_peer,
        peers,
        kubeconfig_dirs,
        sources,
        allow_exec: texts(layer, &keys::ALLOW_EXEC),
        allow_file_references: layer.switch(&keys::ALLOW_FILE_REFERENCES),
        insecure_plaintext: insecure,
        limits,
        watch,
        memory,
        clusters,
        log,
    })
}

fn texts(layer: &Layer, key: &Key) -> Vec<String> {
    let texts = layer.texts(key).into_iter();
    texts.map(|text| text.value.to_owned()).collect()
}

/// What was written, and what is wrong with it. Each rule continues with some value, so that later
/// ones still run.
pub(super) struct Rules<'a> {
    layer: &'a mut Layer,
    pub(super) problems: &'a mut Problems,
}

impl Rules<'_> {
    pub(super) fn add(&mut self, origin: &Origin, key: &str, message: impl Into<String>) {
        self.problems.add(origin, key, message);
    }

    /// What was written in tables.
    pub(super) fn list(&self, key: &Key) -> Vec<Placed<Value>> {
        self.layer.list(key).to_vec()
    }

    /// A number that has a default.
    pub(super) fn number(&self, key: &Key) -> u64 {
        self.layer.number(key)
    }

    /// A number that may have none.
    pub(super) fn given(&self, key: &Key) -> Option<u64> {
        match self.layer.get(key)?.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn origin(&self, key: &Key) -> Option<Origin> {
        self.layer.get(key).map(|placed| placed.origin.clone())
    }

    pub(super) fn derive(&mut self, key: &'static Key, value: Value, from: &'static str) {
        let placed = Placed::new(value, Origin::Derived(from));
        self.layer.insert(key, placed);
    }

    fn name(&mut self) -> String {
        if self.layer.text(&keys::NAME).is_none()
            && let Some(host) = host_name()
        {
            self.derive(&keys::NAME, Value::Text(host), "the host's name");
        }
        let Some(name) = self.layer.text(&keys::NAME) else {
            let message = "is not set and this machine has no host name; pass --name";
            self.add(&Origin::Default, "name", message);
            return String::new();
        };
        let (name, origin) = (name.value.to_owned(), name.origin);
        if !is_replica_name(&name) {
            let shown = quoted(&name);
            self.add(&origin, "name", not_a_name(&shown));
        }
        name
    }

    fn listen(&mut self, key: &'static Key, insecure: bool) -> Option<SocketAddr> {
        let written = self.layer.text(key)?;
        let (text, origin) = (written.value, written.origin);
        let Ok(address) = text.parse::<SocketAddr>() else {
            let message = format!(
                "{} is not an address with a port, like 127.0.0.1:7400",
                quoted(text)
            );
            self.add(&origin, key.path, message);
            return None;
        };
        if !address.ip().is_loopback() && !insecure {
            let message = format!(
                "{address} can be reached from other machines, and traffic there is neither \
                 encrypted nor authenticated: anyone who reaches it can read every event and \
                 change what is monitored. Listen on a loopback address, or pass \
                 --insecure-plaintext if the network itself is protected"
            );
            self.add(&origin, key.path, message);
        }
        Some(address)
    }

    /// Port 0 is any free one, and so never the same.
    fn two_addresses(&mut self, client: Option<SocketAddr>, peer: Option<SocketAddr>) {
        if client.is_some() && client == peer && peer.is_some_and(|peer| peer.port() != 0) {
            let origins = [&keys::CLIENT_LISTEN, &keys::PEER_LISTEN]
                .map(|key| self.layer.get(key).map(|placed| placed.origin.clone()));
            // Only one of them may have been written.
            let origin = origins.into_iter().flatten().min();
            let origin = origin.unwrap_or(Origin::Default);
            let message = "client_listen and peer_listen are the same address; use two";
            self.add(&origin, "peer_listen", message);
        }
    }

    /// Without `advertise_peer`, this replica's entry in `peers` is its address.
    fn own_address(&mut self, name: &str) {
        let own = self.layer.table(&keys::PEERS);
        let own = own.and_then(|peers| Some(text_in(peers.value, name)?.value.to_owned()));
        if let Some(own) = own
            && self.layer.get(&keys::ADVERTISE_PEER).is_none()
        {
            self.derive(&keys::ADVERTISE_PEER, Value::Text(own), "peers");
        }
    }

    fn advertise(
        &mut self,
        key: &'static Key,
        listen_key: &'static Key,
        listen_name: &'static str,
        listen: Option<SocketAddr>,
    ) -> String {
        if let Some(written) = self.layer.text(key) {
            let (text, origin) = (written.value.to_owned(), written.origin);
            // For an address from `peers`, the problem is reported there.
            if !is_host_and_port(&text) && !matches!(origin, Origin::Derived(_)) {
                let message = format!("{} is not of the form host:port", quoted(&text));
                self.add(&origin, key.path, message);
            }
            return text;
        }
        let Some(address) = listen else {
            return String::new();
        };
        if address.ip().is_unspecified() || address.port() == 0 {
            let origin = self
                .layer
                .get(listen_key)
                .map(|placed| placed.origin.clone());
            let message = format!(
                "nothing can connect to {address}, and {} is not set; set it to the host:port \
                 at which this replica is reachable",
                key.path
            );
            self.add(&origin.unwrap_or(Origin::Default), listen_key.path, message);
            return String::new();
        }
        self.derive(key, Value::Text(address.to_string()), listen_name);
        address.to_string()
    }

    fn peers(&mut self, name: &str, advertise: &str) -> Vec<Peer> {
        let written = self.layer.table(&keys::PEERS);
        let written = written.filter(|peers| !peers.value.is_empty());
        let Some(peers) = written.map(|peers| peers.with(peers.value.clone())) else {
            let own = Placed::new(Value::Text(advertise.to_owned()), Origin::Default);
            let alone = Table::from([(name.to_owned(), own)]);
            self.derive(&keys::PEERS, Value::Table(alone), "this replica alone");
            let (name, address) = (name.to_owned(), advertise.to_owned());
            return vec![Peer { name, address }];
        };
        let mut addresses = BTreeMap::new();
        for (peer, placed) in &peers.value {
            let address = placed.value.text().unwrap_or_default();
            self.peer(peer, &placed.with(address));
            if let Some(other) = addresses.insert(address, peer) {
                let message = format!(
                    "{} and {} have the same address; give each its own",
                    quoted(other),
                    quoted(peer)
                );
                self.add(&placed.origin, "peers", message);
            }
        }
        match text_in(&peers.value, name) {
            None => {
                let message = format!(
                    "this replica, {}, is not in the list; list every replica, this one included",
                    quoted(name)
                );
                self.add(&peers.origin, "peers", message);
            }
            Some(own) if own.value != advertise => {
                let message = format!(
                    "this replica is at {} here, but advertise_peer is {}; make them equal, or \
                     leave advertise_peer out",
                    quoted(own.value),
                    quoted(advertise)
                );
                self.add(&own.origin, "peers", message);
            }
            Some(_) => {}
        }
        let peer = |(name, placed): (&String, &Placed<Value>)| Peer {
            name: name.clone(),
            address: placed.value.text().unwrap_or_default().to_owned(),
        };
        peers.value.iter().map(peer).collect()
    }

    fn peer(&mut self, name: &str, address: &Placed<&str>) {
        if !is_replica_name(name) {
            self.add(&address.origin, "peers", not_a_name(&quoted(name)));
        }
        if !is_host_and_port(address.value) {
            let shown = quoted(address.value);
            let message = format!("the address of {name}, {shown}, is not of the form host:port");
            self.add(&address.origin, "peers", message);
        }
    }

    fn directories(&mut self) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        let mut wrong = Vec::new();
        for directory in self.layer.texts(&keys::KUBECONFIG_DIRS) {
            match fs::canonicalize(directory.value) {
                Ok(path) if path.is_dir() => directories.push(path),
                Ok(_) => wrong.push(directory.with(format!(
                    "{} is not a directory; name the directory, not a file in it",
                    quoted(directory.value)
                ))),
                Err(error) => wrong.push(directory.with(format!(
                    "{}: {error}; create the directory, or correct its name",
                    quoted(directory.value)
                ))),
            }
        }
        for problem in wrong {
            self.add(&problem.origin, "kubeconfig_dirs", problem.value);
        }
        directories
    }

    fn sources(&mut self) -> BTreeMap<String, ConfiguredSource> {
        let mut sources = BTreeMap::new();
        let Some(written) = self.layer.table(&keys::SOURCES) else {
            return sources;
        };
        let written = written.value.clone();
        for (name, source) in &written {
            let Some(table) = source.value.table() else {
                continue;
            };
            let text = |key| text_in(table, key).map(|placed| placed.value.to_owned());
            let Some(kubeconfig) = text("kubeconfig") else {
                let key = format!("sources.{name}");
                if !table.contains_key("kubeconfig") {
                    let message = "kubeconfig is missing; give the kubeconfig's YAML between '''";
                    self.add(&source.origin, &key, message);
                }
                continue;
            };
            let configured = ConfiguredSource {
                kubeconfig: Secret::new(kubeconfig),
                context: text("context").unwrap_or_default(),
            };
            sources.insert(name.clone(), configured);
        }
        sources
    }

    /// The names in `[sources]`, those that cannot be used included.
    pub(super) fn source_names(&self) -> BTreeSet<String> {
        let table = self.layer.table(&keys::SOURCES);
        let names = table.map(|table| table.value.keys().cloned().collect());
        names.unwrap_or_default()
    }

    fn limits(&self) -> Limits {
        Limits::of(self.layer)
    }

    fn watch(&self) -> Watch {
        let is_audited = self.layer.switch(&keys::AUDIT);
        let interval_ms = self.layer.number(&keys::AUDIT_INTERVAL_MS);
        Watch {
            audit_interval_ms: is_audited.then_some(interval_ms),
            quiet_interval_ms: self.layer.number(&keys::QUIET_INTERVAL_MS),
            warm_clusters: usize::try_from(self.layer.number(&keys::WARM_CLUSTERS))
                .unwrap_or(usize::MAX),
        }
    }

    fn log(&mut self) -> Log {
        let level = self.layer.text(&keys::LOG_LEVEL);
        let (level, origin) = level.map_or((String::new(), Origin::Default), |level| {
            (level.value.to_owned(), level.origin)
        });
        if !level.split(',').all(is_log_directive) {
            let message = format!(
                "{} is not a log level; use off, error, warn, info, debug or trace, or \
                 target=level pairs separated by ','",
                quoted(&level)
            );
            self.add(&origin, "log.level", message);
        }
        let format = self.layer.text(&keys::LOG_FORMAT);
        let format = format.and_then(|format| format.value.parse().ok());
        Log {
            format: format.unwrap_or_default(),
            level,
        }
    }
}

fn not_a_name(shown: &str) -> String {
    format!(
        "{shown} is not a valid replica name: use up to {NAME_BYTES_MAX} letters, digits, '-', '_' \
         or '.'"
    )
}

fn is_replica_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain)
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let plain = |c: char| !c.is_whitespace() && c != '/';
    !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok_and(|p| p != 0)
}

/// A level, a `target=level` pair, or nothing.
fn is_log_directive(text: &str) -> bool {
    let level = text.rsplit_once('=').map_or(text, |(_, level)| level);
    matches!(
        level,
        "" | "off" | "error" | "warn" | "info" | "debug" | "trace"
    )
}

fn host_name() -> Option<String> {
    let from_kernel = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let name = name.or_else(from_kernel)?.trim().to_owned();
    Some(name).filter(|name| !name.is_empty())
}
