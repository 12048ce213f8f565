//! Reaching the group: any of its replicas will do.

use std::{fmt, str::FromStr, time::Duration};

use tonic::{Code, Response, Status, transport::Channel};

use super::{Error, chain};

/// A replica that takes longer than this to accept a connection is passed over for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A replica that takes longer than this to begin its answer is passed over for the next.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a quiet connection is probed, and how long the probe may take: a frozen replica is
/// left after their sum.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Above the largest object that etcd stores and the largest page that a replica sends.
pub(super) const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Where the group is reached.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Connection {
    /// Replicas to ask, joined by ','; the next one is asked where one does not answer.
    #[arg(
        long,
        env = "QUORUMWATCH_ENDPOINTS",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7400"
    )]
    endpoints: Vec<Endpoint>,
}

impl Connection {
    pub(super) fn endpoints(self) -> Endpoints {
        Endpoints(self.endpoints)
    }
}

/// The client listener of one replica.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(http::Uri);

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form http://host:port")]
pub struct NotAnEndpoint(String);

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let url = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let wrong = || NotAnEndpoint(text.to_owned());
        let uri = url.parse::<http::Uri>().map_err(|_| wrong())?;
        if uri.scheme_str() == Some("http") && uri.port().is_some() && uri.path() == "/" {
            Ok(Self(uri))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            self.0
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
    /// Opens a connection, with probes so that a frozen replica is noticed.
    pub async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        Channel::builder(self.0.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .http2_keep_alive_interval(PROBE_INTERVAL)
            .keep_alive_timeout(PROBE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect()
            .await
    }
}

/// Replicas of one group, in the order in which they are asked. Never empty.
#[derive(Clone, Debug)]
pub struct Endpoints(Vec<Endpoint>);

impl From<Endpoint> for Endpoints {
    fn from(only: Endpoint) -> Self {
        Self(vec![only])
    }
}

impl Endpoints {
    /// The first, then the others.
    pub fn new(first: Endpoint, others: impl IntoIterator<Item = Endpoint>) -> Self {
        Self([first].into_iter().chain(others).collect())
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The endpoint of a turn: they are asked round and round.
    pub fn at_turn(&self, turn: usize) -> &Endpoint {
        &self.0[turn % self.0.len()]
    }

    /// Asks a question; another replica where one cannot answer.
    pub async fn ask<T, A>(&self, question: impl Fn(Channel) -> A) -> Result<T, Error>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        self.call(question, |status| {
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
        })
        .await
    }

    /// Asks for a change. It goes to another replica only where none can have begun with it.
    pub async fn tell<T, A>(&self, change: impl Fn(Channel) -> A) -> Result<T, Error>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        self.call(change, |_| false).await
    }

    async fn call<T, A>(
        &self,
        call: impl Fn(Channel) -> A,
        elsewhere: impl Fn(&Status) -> bool,
    ) -> Result<T, Error>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let mut tried = Vec::new();
        for endpoint in &self.0 {
            let channel = match endpoint.connect().await {
                Ok(channel) => channel,
                Err(error) => {
                    tried.push(format!("{endpoint}: {}", chain(&error)));
                    continue;
                }
            };
            match call(channel).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if elsewhere(&status) && tried.len() + 1 < self.len() => {
                    tried.push(format!("{endpoint}: {}", status.message()));
                }
                Err(status) => return Err(refused(endpoint.clone(), Box::new(status))),
            }
        }
        Err(Error::NoAnswer(tried))
    }
}

/// What an answer that is an error means.
pub(super) fn refused(endpoint: Endpoint, status: Box<Status>) -> Error {
    if is_foreign(&status) {
        Error::NotAReplica(endpoint)
    } else {
        Error::Refused { endpoint, status }
    }
}

/// Whether a gRPC server answers that lacks our services, or an HTTP server that knows no gRPC.
pub(super) fn is_foreign(status: &Status) -> bool {
    match status.code() {
        Code::Unimplemented => true,
        Code::Internal => status.message().contains("protocol error"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Endpoints, Error};

    #[test]
    fn an_endpoint_is_http_with_a_port() {
        for text in ["http://127.0.0.1:7400", "localhost:7400", " [::1]:7400 "] {
            assert!(text.parse::<Endpoint>().is_ok(), "{text:?}");
        }
        for text in ["", "localhost", "https://h:1", "http://h:1/path", "a b:1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn all_that_do_not_answer_are_named() {
        // Port 1 is reserved and nothing listens there.
        let endpoints = Endpoints::new(
            "127.0.0.1:1".parse().unwrap(),
            ["localhost:1".parse().unwrap()],
        );
        let answer = endpoints
            .ask(|_| async { Ok(tonic::Response::new(())) })
            .await;
        match answer {
            Err(Error::NoAnswer(tried)) => assert_eq!(tried.len(), 2, "{tried:?}"),
            other => panic!("{other:?}"),
        }
    }
}
