//! Who takes part.

mod api_server;
mod replica;
mod subscriber;
mod writer;

pub(crate) use api_server::{ApiServer, RESOURCES};
pub(crate) use replica::{Member, Replica};
pub(crate) use subscriber::Subscriber;

/// Where replicas serve clients.
const CLIENT_PORT: u16 = 7400;
/// Where replicas serve each other.
const PEER_PORT: u16 = 7401;
/// Where API servers listen.
const API_PORT: u16 = 8080;

/// `host:port`.
fn at(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}
