//! Connections to other replicas: [`Channels`], one connection for each peer address and concern.
//!
//! Consensus and leases, live feeds and catch-ups each have a connection of their own. On one that
//! they shared, the data that a slow reader leaves unread would fill the window, and a lease or an
//! acknowledgement behind it would not arrive in time.
//!
//! The only place that dials a peer, and so the only place that will know of TLS between replicas.
//! It does not know which replica is at an address: every call names its target.

mod network;

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tonic::transport::{Channel, Endpoint};

use network::CONNECT_TIMEOUT;
pub use network::{Connection, Listener, Network, Tcp, Wire};

/// How often an otherwise silent connection is probed, so that a peer whose machine vanished is
/// noticed within [`KEEPALIVE_TIMEOUT`] more.
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// How long a probe may stay unanswered. About as long as a lease: after that the peer is succeeded
/// anyway. What was sent to a peer that is cut off is sent again by TCP after pauses that double, so
/// that a connection which is kept for long begins to work seconds after the cut has healed; a new
/// one works at once.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after a connection was taken and broke: a process that ends is gone milliseconds later,
/// and a listener that takes and drops everything is not to be overrun.
const REFUSED_PAUSE: Duration = Duration::from_millis(2);

/// What may be under way on a connection. The windows of its streams bound it: a feed that is not
/// read takes its own window, and never holds up the others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// What may be under way of one live feed: there are as many as streams, and each is read by a hub
/// that never stops.
const LIVE_STREAM_WINDOW: u32 = 2 << 20;

/// What may be under way of one catch-up: there may be some for each subscriber, and each is read
/// only as fast as its subscriber reads.
const CATCH_UP_STREAM_WINDOW: u32 = 256 << 10;

/// Most addresses kept; far above the replicas of any group. Beyond it the cache starts over.
const ADDRESSES_MAX: usize = 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// Calls: consensus, leases, proposals. Never much at once, and never late.
    Calls,
    /// Feeds of hubs.
    Live,
    /// Feeds of single subscribers.
    CatchUps,
}

/// One lazily connected channel for each peer address and concern. Cheap to clone; clones share the
/// channels.
#[derive(Clone, Debug)]
pub struct Channels {
    network: Arc<dyn Network>,
    open: Arc<Mutex<BTreeMap<(String, Concern), Channel>>>,
}

/// Why there is no channel to an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer address {0:?} is not of the form host:port")]
pub struct BadAddress(pub String);

impl Channels {
    /// No connections yet; they will go over this network.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self {
            network,
            open: Arc::default(),
        }
    }

    /// What the connections go over.
    pub fn network(&self) -> &dyn Network {
        &*self.network
    }

    /// The channel for calls to `address` (`host:port`). Does not wait: the first call on it
    /// connects, and a broken connection is opened again by the next call.
    pub fn channel(&self, address: &str) -> Result<Channel, BadAddress> {
        self.channel_for(address, Concern::Calls)
    }

    /// The channel for one concern.
    pub fn channel_for(&self, address: &str, concern: Concern) -> Result<Channel, BadAddress> {
        // A panic while the lock is held leaves the map whole: inserting is its only change.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address.to_owned(), concern);
        if let Some(channel) = open.get(&key) {
            return Ok(channel.clone());
        }
        let network = Arc::clone(&self.network);
        let peer = address.to_owned();
        let connect = tower::service_fn(move |_: Uri| {
            let connecting = network.connect(&peer);
            async move { Ok::<_, io::Error>(TokioIo::new(connecting.await?)) }
        });
        let channel = endpoint(address, concern)?.connect_with_connector_lazy(connect);
        if open.len() >= ADDRESSES_MAX {
            open.clear();
        }
        open.insert(key, channel.clone());
        Ok(channel)
    }
}

/// Whether the port at `address` refuses connections (ECONNREFUSED): the process that
/// did is gone. Silence proves nothing and is not waited for beyond `timeout`.
///
/// A kernel closes the connections of a process that it ends before its listener. So a connection
/// that is taken proves nothing yet either: it is held until it breaks, as it does when the
/// listener closes, and then asked for again.
pub async fn is_refused(network: &dyn Network, address: &str, timeout: Duration) -> bool {
    let asking = async {
        loop {
            match network.connect(address).await {
                Ok(mut taken) => {
                    if matches!(taken.read(&mut [0]).await, Ok(1..)) {
                        // The port accepts connections.
                        return false;
                    }
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) => return error.kind() == ErrorKind::ConnectionRefused,
            }
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    };
    tokio::time::timeout(timeout, asking).await.unwrap_or(false)
}

fn endpoint(address: &str, concern: Concern) -> Result<Endpoint, BadAddress> {
    let refuse = || BadAddress(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(refuse)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(refuse());
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| refuse())?;
    let endpoint = match concern {
        Concern::Calls => endpoint,
        Concern::Live => endpoint.initial_stream_window_size(LIVE_STREAM_WINDOW),
        Concern::CatchUps => endpoint.initial_stream_window_size(CATCH_UP_STREAM_WINDOW),
    };
    Ok(endpoint
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

    use super::{Channels, Duration, Tcp, is_refused};

    /// Far longer than a refusal takes.
    const WITHIN: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_closed_listener_is_distinguished_from_an_open_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(!is_refused(&Tcp, &address, Duration::from_millis(50)).await);
        drop(listener);
        assert!(is_refused(&Tcp, &address, WITHIN).await);
    }

    #[tokio::test]
    async fn a_listener_that_closes_after_its_connections_is_distinguished_from_an_open_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = tokio::spawn(async move { is_refused(&Tcp, &address, WITHIN).await });
        // One connection is closed by hand; whatever waits to be taken, with the listener.
        drop(listener.accept().await.unwrap());
        let taken = listener.accept().await.unwrap();
        drop((listener, taken));
        assert!(asked.await.unwrap());
    }

    #[tokio::test]
    async fn only_host_and_port_is_an_address() {
        let channels = Channels::new(Arc::new(Tcp));
        for address in ["replica-0.replicas:7100", "127.0.0.1:1", "[::1]:7100"] {
            assert!(channels.channel(address).is_ok(), "{address}");
        }
        for address in ["", "host", "host:", ":1", "host:99999", "a b:1"] {
            assert!(channels.channel(address).is_err(), "{address}");
        }
    }
}
