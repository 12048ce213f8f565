//! The network as a replica needs it: [`Network`]. What ships is [`Tcp`]; a network that is simulated
//! in one process does the same.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt as _, future::BoxFuture, stream::BoxStream};
use hyper_util::client::legacy::connect;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, lookup_host},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Connected;

/// A peer that does not answer a connection attempt within this time is treated as down: inside a
/// data centre an attempt takes a millisecond.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one attempt may take once the name is resolved. A packet that is lost is sent again
/// after a second: reconnecting is faster, and detects that a partition has healed.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(300);

/// Lets others in, and reaches them.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Listens at an address.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Listener>>;

    /// Connects to `host:port`. The error is `ConnectionRefused` only where the machine answers that
    /// nothing listens there.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Connection>>;
}

/// What carries a connection.
pub trait Wire: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin + 'static> Wire for T {}

/// A connection, to either side.
#[derive(Debug)]
pub struct Connection {
    wire: Box<dyn Wire>,
    /// The machine at the other end, where it is known.
    peer: Option<IpAddr>,
}

impl Connection {
    /// A connection over some wire.
    pub fn new(wire: impl Wire, peer: Option<IpAddr>) -> Self {
        let wire = Box::new(wire);
        Self { wire, peer }
    }

    /// The machine at the other end, where it is known.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
}

impl Connected for Connection {
    // tidy: the name is the trait's
    type ConnectInfo = Option<IpAddr>;

    fn connect_info(&self) -> Option<IpAddr> {
        self.peer
    }
}

/// So that API servers can be reached over such a connection, too.
impl connect::Connection for Connection {
    fn connected(&self) -> connect::Connected {
        connect::Connected::new()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.wire).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.wire).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.wire).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.wire).poll_shutdown(context)
    }
}

/// Connections as they come in. The port is closed when this is dropped.
pub struct Listener {
    address: SocketAddr,
    accepted: BoxStream<'static, io::Result<Connection>>,
}

impl Listener {
    /// Listens at `address`.
    pub fn new(
        address: SocketAddr,
        accepted: impl Stream<Item = io::Result<Connection>> + Send + 'static,
    ) -> Self {
        let accepted = accepted.boxed();
        Self { address, accepted }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.address)
    }
}

impl Stream for Listener {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.accepted.as_mut().poll_next(context)
    }
}

/// The network of this machine. Without TCP_NODELAY on its connections, every hundredth commit would
/// wait 40 ms for a delayed acknowledgement.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

impl Network for Tcp {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Listener>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            let accepted = TcpListenerStream::new(listener);
            Ok(Listener::new(address, accepted.map(|stream| over(stream?))))
        })
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Connection>> {
        let address = address.to_owned();
        Box::pin(async move {
            let resolved: Vec<_> = lookup_host(address).await?.collect();
            let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
            // One address that does not answer leaves time for the others.
            let each = CONNECT_TIMEOUT / u32::try_from(resolved.len().max(1)).unwrap_or(1);
            let timeout = each.min(ATTEMPT_TIMEOUT);
            for address in resolved {
                let connecting = tokio::time::timeout(timeout, TcpStream::connect(address));
                match connecting.await {
                    Ok(Ok(stream)) => return over(stream),
                    Ok(Err(error)) => failed = error,
                    Err(_) => failed = io::ErrorKind::TimedOut.into(),
                }
            }
            Err(failed)
        })
    }
}

fn over(stream: TcpStream) -> io::Result<Connection> {
    // One that has broken already has no address, and takes no option.
    let peer = stream.peer_addr().ok().map(|peer| peer.ip());
    let _ = stream.set_nodelay(true);
    Ok(Connection::new(stream, peer))
}
