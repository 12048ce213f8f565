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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

/// A listener of such connections.
#[derive(Debug)]
pub(super) struct BreakableListener<L>(pub(super) L);

/// A stream that its handle can break.
#[derive(Debug)]
pub(super) struct BreakableStream<S> {
    stream: S,
    connection: Connection,
}

impl<L: Listener<Addr = SocketAddr>> Listener for BreakableListener<L> {
    type Io = BreakableStream<L::Io>;
    type Addr = Connection;

    async fn accept(&mut self) -> (BreakableStream<L::Io>, Connection) {
        let (stream, client) = self.0.accept().await;
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
        self.0.local_addr().map(|_| Connection::default())
    }
}

impl<L: Listener<Addr = SocketAddr>> Connected<IncomingStream<'_, BreakableListener<L>>>
    for Connection
{
    fn connect_info(stream: IncomingStream<'_, BreakableListener<L>>) -> Self {
        stream.remote_addr().clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BreakableStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BreakableStream<S> {
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
