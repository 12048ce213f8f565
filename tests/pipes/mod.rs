//! A network in one process, for replicas that are not to reach anything of this machine.

use std::{
    collections::BTreeMap,
    future::ready,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures::future::BoxFuture;
use quorumwatch::net::{Connection, Listener, Network};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

/// Connections are pipes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pipes(Arc<Mutex<BTreeMap<SocketAddr, mpsc::Sender<Connection>>>>);

impl Network for Pipes {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Listener>> {
        let (sender, receiver) = mpsc::channel(16);
        self.0.lock().unwrap().insert(address, sender);
        let accepted = ReceiverStream::new(receiver).map(Ok);
        Box::pin(ready(Ok(Listener::new(address, accepted))))
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Connection>> {
        let address: SocketAddr = address.parse().unwrap();
        let listener = self.0.lock().unwrap().get(&address).cloned();
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let accepted = listener.ok_or_else(refused)?;
            let sent = accepted.send(Connection::new(theirs, None)).await;
            sent.map_err(|_| refused())?;
            Ok(Connection::new(ours, None))
        })
    }
}
