//! Connections of clients: counted, and closed where nothing else helps.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::admission::{Admission, Connection};
use crate::net::{self, Listener};

/// Connections as they come in, without those that are too many.
pub fn admitted(
    incoming: Listener,
    admission: Admission,
) -> impl Stream<Item = io::Result<ClientConnection>> {
    incoming.filter_map(move |accepted| {
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => return Some(Err(error)),
        };
        // One that has broken already has no address.
        let address = stream.peer()?;
        let connection = admission.connection(address)?;
        let close = CancellationToken::new();
        Some(Ok(ClientConnection {
            stream,
            client: Client {
                address,
                close: close.clone(),
            },
            closed: Box::pin(close.cancelled_owned()),
            _connection: Arc::new(connection),
        }))
    })
}

/// Who calls, and over which connection.
#[derive(Clone, Debug)]
pub struct Client {
    address: IpAddr,
    close: CancellationToken,
}

impl Client {
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Closes the connection: what was written for a client that does not read is in the
    /// transport's hands, and only so comes out of them.
    pub(super) fn disconnect(&self) {
        self.close.cancel();
    }
}

/// A connection of a client.
#[derive(Debug)]
pub struct ClientConnection {
    stream: net::Connection,
    client: Client,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _connection: Arc<Connection>,
}

impl Connected for ClientConnection {
    // tidy: the name is the trait's
    type ConnectInfo = Client;

    fn connect_info(&self) -> Client {
        self.client.clone()
    }
}

impl AsyncRead for ClientConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The task that serves it always waits for something to read.
        if self.closed.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
