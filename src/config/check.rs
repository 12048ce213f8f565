//! From [`Settings`] to [`Serve`]: every rule that a configuration must keep.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::SocketAddr,
    ops::RangeInclusive,
    path::PathBuf,
};

use super::{
    ConfiguredSource, Invalid, LimitSettings, Limits, Log, LogSettings, Peer, Serve, Settings,
};

const CLIENT_LISTEN: &str = "127.0.0.1:7400";
const PEER_LISTEN: &str = "127.0.0.1:7401";
const DATA_DIR: &str = "quorumwatch-data";
/// As long as a DNS name.
const NAME_BYTES_MAX: usize = 253;
/// Below, one large object fills a ring; above, one ring fills a machine.
const RING_BYTES: RangeInclusive<usize> = 64 * 1024..=1024 * 1024 * 1024;
/// Below, a network hiccup counts as slow; above, history ends before the subscriber is told.
const SLOW_SUBSCRIBER_MS: RangeInclusive<u64> = 100..=240_000;

pub(super) fn serve(settings: Settings) -> Result<Serve, Invalid> {
    let mut problems = Problems::default();
    let insecure = settings.insecure_plaintext;
    let name = problems.name(settings.name);
    let client_listen = problems.listen(
        "client_listen",
        settings.client_listen,
        CLIENT_LISTEN,
        insecure,
    );
    let peer_listen = problems.listen("peer_listen", settings.peer_listen, PEER_LISTEN, insecure);
    if client_listen.is_some() && client_listen == peer_listen {
        problems.add("client_listen and peer_listen are the same address; give two".into());
    }
    let own_peer = settings.peers.iter().flatten().find(|p| p.name == name);
    let own_address = own_peer.map(|peer| peer.address.clone());
    let advertise_client =
        problems.advertise("advertise_client", settings.advertise_client, client_listen);
    let advertise_peer = problems.advertise(
        "advertise_peer",
        settings.advertise_peer.or(own_address),
        peer_listen,
    );
    let peers = problems.peers(settings.peers, &name, &advertise_peer);
    let kubeconfig_dirs = problems.folders(settings.kubeconfig_dirs);
    let sources: BTreeMap<_, _> = settings
        .sources
        .into_iter()
        .map(|(name, source)| {
            let (kubeconfig, context) = (source.kubeconfig, source.context);
            (
                name,
                ConfiguredSource {
                    kubeconfig,
                    context,
                },
            )
        })
        .collect();
    let clusters = problems.clusters(settings.clusters, &kubeconfig_dirs, &sources);
    let limits = problems.limits(&settings.limits);
    let log = problems.log(settings.log);
    let (Some(client_listen), Some(peer_listen)) = (client_listen, peer_listen) else {
        return Err(problems.into_invalid());
    };
    if !problems.0.is_empty() {
        return Err(problems.into_invalid());
    }
    Ok(Serve {
        name,
        data_dir: settings.data_dir.unwrap_or_else(|| DATA_DIR.into()),
        client_listen,
        peer_listen,
        advertise_client,
        advertise_peer,
        peers,
        kubeconfig_dirs,
        sources,
        allow_exec: settings.allow_exec,
        allow_file_references: settings.allow_file_references,
        insecure_plaintext: insecure,
        limits,
        clusters,
        log,
    })
}

/// Collects what is wrong; each check goes on with some value, so that later ones still run.
#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, problem: String) {
        self.0.push(problem);
    }

    fn into_invalid(self) -> Invalid {
        Invalid { problems: self.0 }
    }

    fn name(&mut self, written: Option<String>) -> String {
        let name = written.or_else(host_name).unwrap_or_default();
        if name.is_empty() {
            self.add("name is not set and this machine has no host name; pass --name".into());
        } else if !is_replica_name(&name) {
            self.add(format!(
                "name {name:?} is not valid: use up to {NAME_BYTES_MAX} letters, digits, '-', \
                 '_' or '.'"
            ));
        }
        name
    }

    fn listen(
        &mut self,
        field: &str,
        written: Option<String>,
        default: &str,
        insecure: bool,
    ) -> Option<SocketAddr> {
        let text = written.unwrap_or_else(|| default.to_owned());
        let Ok(address) = text.parse::<SocketAddr>() else {
            self.add(format!(
                "{field} {text:?} is not an address with a port, like {default}"
            ));
            return None;
        };
        if !address.ip().is_loopback() && !insecure {
            self.add(format!(
                "{field} {address} can be reached from other machines, and what is spoken there \
                 is neither encrypted nor authenticated: whoever reaches it reads every event and \
                 changes what is monitored. Listen on a loopback address, or pass \
                 --insecure-plaintext where the network itself is protected"
            ));
        }
        Some(address)
    }

    fn advertise(
        &mut self,
        field: &str,
        written: Option<String>,
        listen: Option<SocketAddr>,
    ) -> String {
        match (written, listen) {
            (Some(text), _) => {
                if !is_host_and_port(&text) {
                    self.add(format!("{field} {text:?} is not of the form host:port"));
                }
                text
            }
            (None, Some(address)) if address.ip().is_unspecified() || address.port() == 0 => {
                self.add(format!(
                    "{field} is not set and nobody can connect to the listen address {address}; \
                     set it to the host:port under which this replica is reached"
                ));
                String::new()
            }
            (None, Some(address)) => address.to_string(),
            (None, None) => String::new(),
        }
    }

    fn peers(&mut self, written: Option<Vec<Peer>>, name: &str, advertise: &str) -> Vec<Peer> {
        let Some(mut peers) = written.filter(|peers| !peers.is_empty()) else {
            let (name, address) = (name.to_owned(), advertise.to_owned());
            return vec![Peer { name, address }];
        };
        peers.sort();
        for peer in &peers {
            if !is_replica_name(&peer.name) {
                self.add(format!("peers: {:?} is not a valid name", peer.name));
            }
            if !is_host_and_port(&peer.address) {
                let Peer { name, address } = peer;
                self.add(format!("peers: {name}'s {address:?} is not host:port"));
            }
        }
        for pair in peers.windows(2) {
            if pair[0].name == pair[1].name {
                self.add(format!("peers: {:?} is named twice", pair[0].name));
            }
        }
        let addresses: BTreeSet<_> = peers.iter().map(|peer| &peer.address).collect();
        if addresses.len() < peers.len() {
            self.add("peers: two replicas have the same address".into());
        }
        match peers.iter().find(|peer| peer.name == name) {
            None => self.add(format!(
                "peers does not name this replica, {name:?}; name every replica, this one included"
            )),
            Some(own) if own.address != advertise => self.add(format!(
                "peers says that this replica is at {}, but advertise_peer says {advertise}",
                own.address
            )),
            Some(_) => {}
        }
        peers
    }

    fn folders(&mut self, written: Vec<PathBuf>) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for folder in written {
            match fs::canonicalize(&folder) {
                Ok(path) if path.is_dir() => folders.push(path),
                Ok(_) => self.add(format!(
                    "kubeconfig_dirs: {} is no folder",
                    folder.display()
                )),
                Err(error) => {
                    self.add(format!("kubeconfig_dirs: {}: {error}", folder.display()));
                }
            }
        }
        folders
    }

    fn limits(&mut self, written: &LimitSettings) -> Limits {
        let default = Limits::default();
        Limits {
            ring_bytes: self.within(
                "limits.ring_bytes",
                written.ring_bytes.unwrap_or(default.ring_bytes),
                &RING_BYTES,
            ),
            hub_ring_bytes: self.within(
                "limits.hub_ring_bytes",
                written.hub_ring_bytes.unwrap_or(default.hub_ring_bytes),
                &RING_BYTES,
            ),
            slow_subscriber_ms: self.within(
                "limits.slow_subscriber_ms",
                written
                    .slow_subscriber_ms
                    .unwrap_or(default.slow_subscriber_ms),
                &SLOW_SUBSCRIBER_MS,
            ),
        }
    }

    fn within<T: PartialOrd + std::fmt::Display>(
        &mut self,
        field: &str,
        value: T,
        range: &RangeInclusive<T>,
    ) -> T {
        if !range.contains(&value) {
            let (least, most) = (range.start(), range.end());
            self.add(format!(
                "{field} is {value}; it must be from {least} to {most}"
            ));
        }
        value
    }

    fn log(&mut self, written: LogSettings) -> Log {
        let level = written.level.unwrap_or_default();
        if !level.split(',').all(is_log_directive) {
            self.add(format!(
                "log.level {level:?}: use error, warn, info, debug or trace, or target=level pairs \
                 joined by ','"
            ));
        }
        Log {
            format: written.format.unwrap_or_default(),
            level,
        }
    }
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
    name.or_else(from_kernel).map(|name| name.trim().to_owned())
}
