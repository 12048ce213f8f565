//! Connections that can be closed without an answer, as an API server that dies does.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// The handle of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    broken: Arc<AtomicBool>,
    /// The client's end; the listener itself has none.
    client: Option<SocketAddr>,
}

impl Connection {
    /// The address of the client's end.
    pub(super) fn client(&self) -> Option<SocketAddr> {
        self.client
    }

    /// Nothing more is read or written: what is being answered is never sent.
    pub(super) fn break_off(&self) {
        self.broken.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        if self.broken.load(Ordering::Acquire) {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

/// A TCP listener of such connections.
#[derive(Debug)]
pub(super) struct BreakableListener(pub(super) TcpListener);

/// A TCP stream that its handle can break.
#[derive(Debug)]
pub(super) struct BreakableStream {
    stream: TcpStream,
    connection: Connection,
}

impl Listener for BreakableListener {
    type Io = BreakableStream;
    type Addr = Connection;

    async fn accept(&mut self) -> (BreakableStream, Connection) {
        let (stream, client) = Listener::accept(&mut self.0).await;
        // Lines are small and must not wait for each other; a failure costs only time.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            client: Some(client),
            ..Connection::default()
        };
        let stream = BreakableStream {
            stream,
            connection: connection.clone(),
        };
        (stream, connection)
    }

    fn local_addr(&self) -> io::Result<Connection> {
        self.0
            .local_addr()
            .map(|_: SocketAddr| Connection::default())
    }
}

impl Connected<IncomingStream<'_, BreakableListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, BreakableListener>) -> Self {
        stream.remote_addr().clone()
    }
}

impl AsyncRead for BreakableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BreakableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
