//! One end of a connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use turmoil::net::TcpStream;

use super::HostNetwork;

/// One end of a connection, which the network can reset.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    /// Its sender is dropped to reset the connection; `None` once it is.
    reset: Option<oneshot::Receiver<()>>,
    network: HostNetwork,
}

impl Wire {
    pub(super) fn new(
        stream: TcpStream,
        reset: oneshot::Receiver<()>,
        network: HostNetwork,
    ) -> Self {
        Self {
            stream,
            reset: Some(reset),
            network,
        }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Some(reset) = &mut self.reset
            && Pin::new(reset).poll(context).is_ready()
        {
            self.reset = None;
        }
        match self.reset {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.network.note_received(&buffer.filled()[before..]);
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
