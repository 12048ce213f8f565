//! The address of one replica.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tonic::transport::{Channel, Error};

use super::Connection;

/// A replica that takes longer than this to accept a connection is passed over for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A replica that takes longer than this to begin its answer is passed over for the next.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a quiet connection is probed, and how long the probe may take: a machine that does not
/// answer is left after their sum.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The client listener of one replica. A cheap clone.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    uri: http::Uri,
    connect: Connect,
}

/// Opens a connection that is set up in this way.
type Connect = Box<
    dyn Fn(tonic::transport::Endpoint) -> BoxFuture<'static, Result<Channel, Error>> + Send + Sync,
>;

/// The same listener, however it is reached.
impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.0.uri == other.0.uri
    }
}

impl Eq for Endpoint {}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEndpoint {
    /// TLS is asked for.
    #[error("{0:?} asks for TLS, which replicas do not support yet; use http://host:port")]
    Tls(String),
    /// The port is missing.
    #[error("{0:?} has no port; the default client port is 7400")]
    NoPort(String),
    /// No endpoint was given.
    #[error("no endpoint is given; name at least one replica as host:port")]
    None,
    /// Anything else.
    #[error("{0:?} is not of the form host:port or http://host:port")]
    Malformed(String),
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let named = text.to_owned();
        let url = if text.contains("://") {
            named.clone()
        } else {
            format!("http://{text}")
        };
        let Ok(uri) = url.parse::<http::Uri>() else {
            return Err(NotAnEndpoint::Malformed(named));
        };
        match uri.scheme_str() {
            Some("https") => Err(NotAnEndpoint::Tls(named)),
            Some("http") if uri.path() == "/" && uri.query().is_none() => match uri.port_u16() {
                Some(_) => {
                    let connect: Connect =
                        Box::new(|setup| Box::pin(async move { setup.connect().await }));
                    Ok(Self(Arc::new(Inner { uri, connect })))
                }
                None if uri.port().is_none() => Err(NotAnEndpoint::NoPort(named)),
                None => Err(NotAnEndpoint::Malformed(named)),
            },
            _ => Err(NotAnEndpoint::Malformed(named)),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            self.0
                .uri
                .authority()
                .map_or("", |authority| authority.as_str()),
        )
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Endpoint {
    /// The same listener, reached in another way than over this machine's network: through a proxy,
    /// say.
    #[must_use]
    pub fn connected_by<C>(&self, connect: C) -> Self
    where
        C: Fn(tonic::transport::Endpoint) -> BoxFuture<'static, Result<Channel, Error>>
            + Send
            + Sync
            + 'static,
    {
        Self(Arc::new(Inner {
            uri: self.0.uri.clone(),
            connect: Box::new(connect),
        }))
    }

    /// Opens a connection, with keepalive probes so that a machine that is gone is noticed.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let setup = Channel::builder(self.0.uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .http2_keep_alive_interval(PROBE_INTERVAL)
            .keep_alive_timeout(PROBE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        Ok(Connection::new((self.0.connect)(setup).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, NotAnEndpoint};

    #[test]
    fn an_endpoint_is_http_with_a_port() {
        for text in ["http://127.0.0.1:7400", "localhost:7400", " [::1]:7400 "] {
            assert!(text.parse::<Endpoint>().is_ok(), "{text:?}");
        }
        for text in ["", "http://h:1/path", "a b:1", "h:1?x", "ftp://h:1"] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(
                matches!(error, NotAnEndpoint::Malformed(_)),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn what_is_nearly_an_endpoint_is_refused_with_what_it_lacks() {
        let error = "localhost".parse::<Endpoint>().unwrap_err().to_string();
        assert!(error.contains("has no port"), "{error}");
        let error = "https://h:7400"
            .parse::<Endpoint>()
            .unwrap_err()
            .to_string();
        assert!(error.contains("asks for TLS"), "{error}");
    }
}
