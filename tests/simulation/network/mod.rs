//! The network between the hosts: turmoil's, and what it does not do by itself.
//!
//! turmoil refuses a connection at once where a cut link drops the request for it; a replica would
//! take that for the end of a process. Here a request that is dropped is sent again, and waits. And
//! turmoil does not send again what a cut link has dropped, so that a connection over it would hang
//! forever: here it is reset when the link is whole again.

mod listener;
mod machine;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{future::BoxFuture, stream};
use quorumwatch::net::{self, Connection};
use tokio::sync::{oneshot, watch};
use turmoil::net::{TcpListener, TcpStream};

pub(crate) use listener::ApiListener;
pub(crate) use machine::Machine;
pub(crate) use wire::Wire;

/// How long a machine takes to answer that nothing listens.
const REFUSAL: Duration = Duration::from_millis(2);

/// After how long a request for a connection that was dropped is sent again.
const SENT_AGAIN: Duration = Duration::from_millis(200);

/// What there is between the hosts. A cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct Fabric(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    links: Mutex<Links>,
    /// Changes whenever a way is closed or opened.
    changes: watch::Sender<u64>,
}

/// Two hosts, in order.
type Pair = (String, String);

#[derive(Debug, Default)]
struct Links {
    /// Hosts whose process has ended, and whose machine answers.
    refusing: BTreeSet<String>,
    /// Links that drop everything, and for how many reasons.
    cut: BTreeMap<Pair, usize>,
    /// What resets a connection, dropped, by link.
    resets: BTreeMap<Pair, Vec<oneshot::Sender<()>>>,
    /// CRC-32C of all that a host has received.
    received: BTreeMap<String, u32>,
}

/// What becomes of a request for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    Refused,
    Cut,
}

impl Fabric {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            links: Mutex::default(),
            changes: watch::Sender::new(0),
        }))
    }

    /// The network as a host sees it.
    pub(crate) fn of(&self, host: &str) -> HostNetwork {
        HostNetwork {
            fabric: self.clone(),
            host: host.into(),
        }
    }

    /// The machine of a host answers for a process that has ended, or no more.
    pub(crate) fn set_refusing(&self, host: &str, refuses: bool) {
        let mut links = self.links();
        if refuses {
            links.refusing.insert(host.to_owned());
        } else {
            links.refusing.remove(host);
        }
        drop(links);
        self.changed();
    }

    /// A link drops everything from now on.
    pub(crate) fn cut(&self, a: &str, b: &str) {
        *self.links().cut.entry(pair(a, b)).or_default() += 1;
        self.changed();
    }

    /// One reason less for a link to be cut. Where that was the last one, the link is whole again,
    /// and connections over it that were there before are reset.
    pub(crate) fn mend(&self, a: &str, b: &str) -> bool {
        let pair = pair(a, b);
        let mut links = self.links();
        let reasons = links.cut.get(&pair).copied().unwrap_or(0);
        if reasons > 1 {
            links.cut.insert(pair, reasons - 1);
            return false;
        }
        links.cut.remove(&pair);
        let resets = links.resets.remove(&pair);
        drop(links);
        drop(resets);
        self.changed();
        true
    }

    /// A number for all that a host has received so far.
    pub(crate) fn received(&self, host: &str) -> u32 {
        self.links().received.get(host).copied().unwrap_or(0)
    }

    fn note_received(&self, host: &str, bytes: &[u8]) {
        let mut links = self.links();
        match links.received.get_mut(host) {
            Some(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
            None => drop(
                links
                    .received
                    .insert(host.to_owned(), crc32c::crc32c(bytes)),
            ),
        }
    }

    fn way(&self, from: &str, to: &str) -> Way {
        let links = self.links();
        if links.cut.contains_key(&pair(from, to)) {
            Way::Cut
        } else if links.refusing.contains(to) {
            Way::Refused
        } else {
            Way::Open
        }
    }

    /// What resets a new connection.
    fn reset_of(&self, a: &str, b: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut links = self.links();
        let resets = links.resets.entry(pair(a, b)).or_default();
        resets.retain(|reset| !reset.is_closed());
        resets.push(sender);
        receiver
    }

    fn changed(&self) {
        self.0.changes.send_modify(|version| *version += 1);
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.0.links.lock().unwrap()
    }
}

fn pair(a: &str, b: &str) -> Pair {
    let (first, second) = if a < b { (a, b) } else { (b, a) };
    (first.to_owned(), second.to_owned())
}

/// The network as one host sees it. A cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct HostNetwork {
    fabric: Fabric,
    host: Arc<str>,
}

impl net::Network for HostNetwork {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<net::Listener>> {
        let this = self.clone();
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            let accepted = stream::unfold((listener, this), |(listener, this)| async move {
                let accepted = listener.accept().await;
                let accepted = accepted.map(|(stream, peer)| {
                    Connection::new(this.accepted(stream, peer), Some(peer.ip()))
                });
                Some((accepted, (listener, this)))
            });
            Ok(net::Listener::new(address, accepted))
        })
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Connection>> {
        let (this, address) = (self.clone(), address.to_owned());
        Box::pin(async move {
            let wire = this.dial(address).await?;
            Ok(Connection::new(wire, None))
        })
    }
}

impl HostNetwork {
    /// Connects to `host:port`; waits for as long as nothing answers.
    async fn dial(self, address: String) -> io::Result<Wire> {
        let Some((peer, _)) = address.rsplit_once(':') else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        loop {
            let mut changes = self.fabric.0.changes.subscribe();
            match self.fabric.way(&self.host, peer) {
                Way::Open => {}
                Way::Refused => {
                    // poll: so long is the way to the machine and back
                    tokio::time::sleep(REFUSAL).await;
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Way::Cut => {
                    let _ = changes.changed().await;
                    continue;
                }
            }
            // A task, so that a connection for which nothing waits any more is closed.
            let connecting = tokio::spawn(TcpStream::connect(address.clone()));
            tokio::select! {
                biased;
                connected = connecting => match connected.unwrap() {
                    Ok(stream) => return Ok(self.wire(stream, peer)),
                    Err(error) if !was_dropped(&error, &changes) => return Err(error),
                    // poll: a request that was lost is sent again
                    Err(_) => tokio::time::sleep(SENT_AGAIN).await,
                },
                () = self.closes(peer, changes.clone()) => {}
            }
        }
    }

    /// Waits until the way to a host is not open.
    async fn closes(&self, peer: &str, mut changes: watch::Receiver<u64>) {
        while self.fabric.way(&self.host, peer) == Way::Open {
            let _ = changes.changed().await;
        }
    }

    /// A connection that a peer has asked for.
    fn accepted(&self, stream: TcpStream, peer: SocketAddr) -> Wire {
        let name = turmoil::reverse_lookup(peer.ip()).unwrap_or_default();
        self.wire(stream, &name)
    }

    fn wire(&self, stream: TcpStream, peer: &str) -> Wire {
        let reset = self.fabric.reset_of(&self.host, peer);
        Wire::new(stream, reset, self.clone())
    }

    fn note_received(&self, bytes: &[u8]) {
        self.fabric.note_received(&self.host, bytes);
    }
}

/// Whether the network refused a connection only because a link dropped the request.
fn was_dropped(error: &io::Error, changes: &watch::Receiver<u64>) -> bool {
    let is_changed = changes.has_changed().unwrap_or(false);
    error.kind() == io::ErrorKind::ConnectionRefused && is_changed
}
