//! How API servers are reached: [`Network`].

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::{Client, client::Body};

use super::contained::ContainedService;
use crate::net;

/// How API servers are reached.
#[derive(Clone, Default)]
pub enum Network {
    /// At the address in a cluster's kubeconfig.
    #[default]
    Real,
    /// At the same address, over a network that is simulated.
    Over(Arc<dyn net::Network>),
    /// Within the process: for tests, which then need no sockets and can stop the clock.
    InProcess(Arc<dyn Server>),
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real => "Real",
            Self::Over(_) => "Over",
            Self::InProcess(_) => "InProcess",
        })
    }
}

/// Answers what is asked of API servers.
pub trait Server: Send + Sync + 'static {
    /// Answers a GET for this path and query; an error is a connection that breaks.
    fn get(&self, asked: Asked) -> BoxFuture<'static, io::Result<Answer>>;
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The cluster's name.
    pub cluster: String,
    /// Path and query.
    pub uri: String,
    /// Whether metadata suffices.
    pub metadata: bool,
}

/// An answer, of which the body may still be on its way.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, chunk by chunk; an error breaks the connection.
    pub body: BoxStream<'static, io::Result<Bytes>>,
}

/// A client that asks within the process.
pub(super) fn client(server: &Arc<dyn Server>, cluster: &str) -> Client {
    let (server, cluster) = (server.clone(), cluster.to_owned());
    let service = tower::service_fn(move |request: Request<Body>| {
        let accept = request.headers().get(header::ACCEPT);
        let asked = Asked {
            cluster: cluster.clone(),
            uri: request.uri().to_string(),
            metadata: accept
                .is_some_and(|accept| accept.as_bytes().starts_with(b"application/json;as=")),
        };
        let answer = server.get(asked);
        async move {
            let Answer { status, body } = answer.await?;
            let mut response =
                Response::new(StreamBody::new(body.map(|chunk| chunk.map(Frame::data))));
            *response.status_mut() = status.try_into().map_err(io::Error::other)?;
            Ok::<_, io::Error>(response)
        }
    });
    Client::new(ContainedService::new(service), "default")
}
