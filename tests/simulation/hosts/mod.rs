//! Who takes part.

mod api_server;
mod operator;
mod process;
mod reach;
mod replica;
mod scope;
mod subscriber;
mod writer;

pub(crate) use api_server::{ApiServer, RESOURCES};
pub(crate) use operator::{Change, Operator, TIERS};
pub(crate) use replica::{Member, Replica};
pub(crate) use scope::Scope;
pub(crate) use subscriber::{Subscriber, Wish};
pub(crate) use writer::{drain, flood, mark};

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
