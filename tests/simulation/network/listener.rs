//! How a simulated API server is reached.

use std::{io, net::SocketAddr};

use axum::serve::Listener;
use turmoil::net::TcpListener;

use super::{HostNetwork, Wire};

/// Takes connections for an API server.
pub(crate) struct ApiListener {
    listener: TcpListener,
    network: HostNetwork,
}

impl ApiListener {
    /// Listens at this address of the host that runs.
    pub(crate) async fn bind(network: HostNetwork, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, network })
    }
}

impl Listener for ApiListener {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            // A request whose sender has gone is no connection.
            if let Ok((stream, peer)) = self.listener.accept().await {
                return (self.network.accepted(stream, peer), peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
