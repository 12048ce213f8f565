//! `quorumwatch serve`: a replica.

use std::{io, path::PathBuf, pin::pin, thread, time::Duration};

use tokio::{sync::oneshot, time::timeout};

use super::{Error, interrupt};
use crate::{
    config::{LimitSettings, LogFormat, LogSettings, Peer, Serve, Settings},
    server, telemetry,
};

/// How long a replica that lost its parent may take to end in order.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// Flags go over what the configuration file says; lists of both are joined.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A TOML file; its fields are named as the flags here, with '_' for '-'.
    #[arg(long, env = "QUORUMWATCH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// This replica's stable name; the host's where it is not set.
    #[arg(long, env = "QUORUMWATCH_NAME")]
    name: Option<String>,
    /// Where this replica keeps its data. [default: quorumwatch-data]
    #[arg(long, env = "QUORUMWATCH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where clients are answered. [default: 127.0.0.1:7400]
    #[arg(long, env = "QUORUMWATCH_CLIENT_LISTEN", value_name = "ADDRESS")]
    client_listen: Option<String>,
    /// Where other replicas are answered. [default: 127.0.0.1:7401]
    #[arg(long, env = "QUORUMWATCH_PEER_LISTEN", value_name = "ADDRESS")]
    peer_listen: Option<String>,
    /// host:port under which clients reach this replica; --client-listen where it is not set.
    #[arg(long, env = "QUORUMWATCH_ADVERTISE_CLIENT", value_name = "HOST:PORT")]
    advertise_client: Option<String>,
    /// host:port under which other replicas reach this one; what --peers says of it, else
    /// --peer-listen, where it is not set.
    #[arg(long, env = "QUORUMWATCH_ADVERTISE_PEER", value_name = "HOST:PORT")]
    advertise_peer: Option<String>,
    /// Every replica that founds the group, this one included, joined by ','. This one alone
    /// where it is not set.
    #[arg(
        long,
        env = "QUORUMWATCH_PEERS",
        value_name = "NAME=HOST:PORT",
        value_delimiter = ','
    )]
    peers: Option<Vec<Peer>>,
    /// A folder whose kubeconfig files clusters may name; may be repeated.
    #[arg(long = "kubeconfig-dir", value_name = "DIR")]
    kubeconfig_dirs: Vec<PathBuf>,
    /// A command that kubeconfigs may run for credentials; may be repeated. None by default.
    #[arg(long, value_name = "COMMAND")]
    allow_exec: Vec<String>,
    /// Let kubeconfigs name other files: tokens, certificates, keys.
    #[arg(long)]
    allow_file_references: bool,
    /// Listen beyond this machine although nothing is encrypted or authenticated yet: whoever
    /// reaches a listener reads every event and changes what is monitored.
    #[arg(long, env = "QUORUMWATCH_INSECURE_PLAINTEXT")]
    insecure_plaintext: bool,
    /// Memory of an owner's ring, in bytes per stream. [default: 4194304]
    #[arg(long, value_name = "BYTES")]
    ring_bytes: Option<usize>,
    /// Memory of the ring that serves subscribers, in bytes per stream. [default: 4194304]
    #[arg(long, value_name = "BYTES")]
    hub_ring_bytes: Option<usize>,
    /// How a log line looks: auto (text on a terminal, JSON elsewhere), text or json.
    #[arg(long, env = "QUORUMWATCH_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Which lines are logged: error, warn, info, debug, trace, or target=level pairs, joined by
    /// ','. openraft is silent, unless it is named: info,openraft=warn. [default: info]
    #[arg(long, env = "QUORUMWATCH_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
    /// End when standard input is closed, so that no replica outlives whoever started it.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let exit_with_parent = arguments.exit_with_parent;
    let file = arguments
        .config
        .as_deref()
        .map(Settings::read)
        .transpose()?;
    let settings = arguments.into_settings().over(file.unwrap_or_default());
    let config = Serve::new(settings)?;
    telemetry::start(&config.log)?;
    let shutdown = interrupt::token()?;
    let mut running = pin!(server::run(config, shutdown.clone()));
    tokio::select! {
        ended = &mut running => return Ok(ended?),
        () = parent_gone(), if exit_with_parent => shutdown.cancel(),
    }
    match timeout(ORPHAN_GRACE, running).await {
        Ok(ended) => Ok(ended?),
        // Nobody is left who waits for an end in order.
        Err(_) => Ok(()),
    }
}

impl Arguments {
    fn into_settings(self) -> Settings {
        Settings {
            name: self.name,
            data_dir: self.data_dir,
            client_listen: self.client_listen,
            peer_listen: self.peer_listen,
            advertise_client: self.advertise_client,
            advertise_peer: self.advertise_peer,
            peers: self.peers,
            kubeconfig_dirs: self.kubeconfig_dirs,
            allow_exec: self.allow_exec,
            allow_file_references: self.allow_file_references,
            insecure_plaintext: self.insecure_plaintext,
            limits: LimitSettings {
                ring_bytes: self.ring_bytes,
                hub_ring_bytes: self.hub_ring_bytes,
                slow_subscriber_ms: None,
            },
            log: LogSettings {
                format: self.log_format,
                level: self.log_level,
            },
            ..Settings::default()
        }
    }
}

/// Returns when standard input is closed: the parent holds its other end, and its kernel closes it
/// however the parent ends.
async fn parent_gone() {
    let (gone, told) = oneshot::channel::<()>();
    thread::spawn(move || {
        // The end, or an error: either way nobody is there any more.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        drop(gone);
    });
    // It fails when the other side is dropped, which is what is waited for.
    let _ = told.await;
}
