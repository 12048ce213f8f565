//! What stands between a process and the network, as the kernel of its machine does: [`Machine`]. It
//! goes on while the process stands still: it takes connections, and keeps what arrives for as long
//! as there is room.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    task::{Context, Poll},
};

use futures::{future::BoxFuture, stream};
use quorumwatch::net::{self, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, copy_bidirectional, duplex},
    sync::{mpsc, oneshot},
};
use turmoil::net::TcpListener;

use super::{HostNetwork, Wire};

/// Requests of a process that may wait.
const REQUESTS_MAX: usize = 256;

/// Connections that may wait for a process to take them.
const BACKLOG_MAX: usize = 1024;

/// Bytes of a connection that may wait in each direction, as in the buffer of a socket.
const BUFFER_BYTES: usize = 128 * 1024;

/// What a process asks of its machine.
#[derive(Debug)]
enum Request {
    Bind(SocketAddr, oneshot::Sender<io::Result<Bound>>),
    Connect(String, oneshot::Sender<io::Result<Pipe>>),
}

/// A port that is open.
#[derive(Debug)]
struct Bound {
    address: SocketAddr,
    accepted: mpsc::Receiver<(Pipe, SocketAddr)>,
}

/// A machine, which may start several times. A cheap clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine(Arc<Mutex<Option<mpsc::Sender<Request>>>>);

/// The network as a process on a machine sees it.
#[derive(Clone, Debug)]
pub(crate) struct ProcessNetwork(mpsc::Sender<Request>);

impl Machine {
    /// Starts it. What this returns is to run on its host.
    pub(crate) fn start(
        &self,
        network: HostNetwork,
    ) -> impl Future<Output = turmoil::Result> + use<> {
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        *self.0.lock().unwrap() = Some(requests);
        serve(network, received)
    }

    /// What a process on it reaches others over. It has started.
    pub(crate) fn network(&self) -> ProcessNetwork {
        let requests = self.0.lock().unwrap();
        ProcessNetwork(requests.clone().unwrap())
    }
}

impl net::Network for ProcessNetwork {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<net::Listener>> {
        let requests = self.0.clone();
        Box::pin(async move {
            let (reply, bound) = oneshot::channel();
            ask(&requests, Request::Bind(address, reply)).await?;
            let Bound { address, accepted } = answer(bound).await?;
            let accepted = stream::unfold(accepted, |mut accepted| async move {
                let (pipe, peer): (Pipe, SocketAddr) = accepted.recv().await?;
                Some((Ok(Connection::new(pipe, Some(peer.ip()))), accepted))
            });
            Ok(net::Listener::new(address, accepted))
        })
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Connection>> {
        let (requests, address) = (self.0.clone(), address.to_owned());
        Box::pin(async move {
            let (reply, connected) = oneshot::channel();
            ask(&requests, Request::Connect(address, reply)).await?;
            let pipe = answer(connected).await?;
            Ok(Connection::new(pipe, None))
        })
    }
}

async fn ask(requests: &mpsc::Sender<Request>, request: Request) -> io::Result<()> {
    let sent = requests.send(request).await;
    sent.map_err(|_| io::ErrorKind::NotConnected.into())
}

async fn answer<T>(answer: oneshot::Receiver<io::Result<T>>) -> io::Result<T> {
    match answer.await {
        Ok(answer) => answer,
        Err(_) => Err(io::ErrorKind::NotConnected.into()),
    }
}

/// Does what the process asks for. Each connection is a task of its own.
async fn serve(network: HostNetwork, mut requests: mpsc::Receiver<Request>) -> turmoil::Result {
    while let Some(request) = requests.recv().await {
        let network = network.clone();
        match request {
            Request::Bind(address, reply) => {
                drop(tokio::spawn(listen(network, address, reply)));
            }
            Request::Connect(address, reply) => {
                drop(tokio::spawn(connect(network, address, reply)));
            }
        }
    }
    // What it still carries would stand still if the host had nothing more to do.
    std::future::pending().await
}

async fn listen(
    network: HostNetwork,
    address: SocketAddr,
    reply: oneshot::Sender<io::Result<Bound>>,
) {
    let opened = open(address).await;
    let (listener, address) = match opened {
        Ok(opened) => opened,
        Err(error) => return drop(reply.send(Err(error))),
    };
    let (connections, accepted) = mpsc::channel(BACKLOG_MAX);
    if reply.send(Ok(Bound { address, accepted })).is_err() {
        return;
    }
    loop {
        let taken = tokio::select! {
            biased;
            () = connections.closed() => return,
            taken = listener.accept() => taken,
        };
        // A request whose sender has gone is no connection, and one too many is dropped.
        if let Ok((stream, peer)) = taken
            && let Ok(place) = connections.try_reserve()
        {
            let (pipe, end) = pipe();
            place.send((pipe, peer));
            drop(tokio::spawn(carry(network.accepted(stream, peer), end)));
        }
    }
}

async fn open(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Connects, unless the process gives up before.
async fn connect(
    network: HostNetwork,
    address: String,
    mut reply: oneshot::Sender<io::Result<Pipe>>,
) {
    let dialled = tokio::select! {
        biased;
        dialled = network.dial(address) => dialled,
        () = reply.closed() => return,
    };
    match dialled {
        Ok(wire) => {
            let (pipe, end) = pipe();
            if reply.send(Ok(pipe)).is_ok() {
                carry(wire, end).await;
            }
        }
        Err(error) => drop(reply.send(Err(error))),
    }
}

/// Carries what the two ends send until both have ended, or one is broken.
async fn carry(mut wire: Wire, mut end: Pipe) {
    let carried = copy_bidirectional(&mut wire, &mut end.stream).await;
    if let Err(error) = carried {
        // The process is to see how it ended. Nothing else is set here, and nobody else sets it.
        let _ = end.broken.set(error.kind());
    }
}

/// The end of a connection that a process has, and the one that its machine has.
fn pipe() -> (Pipe, Pipe) {
    let (ours, theirs) = duplex(BUFFER_BYTES);
    let broken = Arc::new(OnceLock::new());
    let of = |stream| Pipe {
        stream,
        broken: Arc::clone(&broken),
    };
    (of(ours), of(theirs))
}

/// One end of a connection between a process and its machine.
#[derive(Debug)]
struct Pipe {
    stream: DuplexStream,
    /// How the network has broken it.
    broken: Arc<OnceLock<io::ErrorKind>>,
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let is_end = room > 0 && buffer.filled().len() == before;
        if matches!(read, Poll::Ready(Ok(())))
            && is_end
            && let Some(kind) = self.broken.get()
        {
            return Poll::Ready(Err((*kind).into()));
        }
        read
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
