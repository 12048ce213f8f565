//! The replicas of one group, and calls that any of them may answer.

use std::time::Duration;

use tokio::time::sleep;
use tonic::{Response, Status};

use super::{
    Connection, Endpoint, Error, NotAnEndpoint, Reaction,
    error::{cause, chain, is_foreign, refused},
};

/// How often all replicas are tried with a write whose outcome is not known, and the pause before
/// the second time, which doubles: enough for an election in between.
const WRITE_ROUNDS: u32 = 4;
const WRITE_PAUSE: Duration = Duration::from_millis(250);

/// Replicas of one group, in the order in which they are asked. Never empty.
#[derive(Clone, Debug)]
pub struct Endpoints {
    all: Vec<Endpoint>,
    /// Where they were configured, as errors name it.
    origin: String,
}

impl From<Endpoint> for Endpoints {
    fn from(only: Endpoint) -> Self {
        Self::new(only, [])
    }
}

impl Endpoints {
    /// The first, then the others.
    pub fn new(first: Endpoint, others: impl IntoIterator<Item = Endpoint>) -> Self {
        Self {
            all: [first].into_iter().chain(others).collect(),
            origin: "that were given".into(),
        }
    }

    /// Reads `host:port` texts.
    pub fn parse(texts: impl IntoIterator<Item = String>) -> Result<Self, NotAnEndpoint> {
        let endpoints = texts.into_iter().map(|text| text.parse());
        let mut endpoints = endpoints.collect::<Result<Vec<Endpoint>, _>>()?.into_iter();
        let first = endpoints.next().ok_or(NotAnEndpoint::None)?;
        Ok(Self::new(first, endpoints))
    }

    /// Says where they come from, as "that --endpoints names", for [`Error::NoAnswer`].
    #[must_use]
    pub fn with_origin(self, origin: impl Into<String>) -> Self {
        let origin = origin.into();
        Self { origin, ..self }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.all.iter()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The endpoint of a turn: they are asked round and round.
    pub fn at_turn(&self, turn: usize) -> &Endpoint {
        &self.all[turn % self.all.len()]
    }

    /// The error where none of them answered.
    pub fn no_answer(&self, tried: Vec<String>) -> Error {
        let origin = self.origin.clone();
        Error::NoAnswer { tried, origin }
    }

    /// Makes a call that changes nothing; at another replica where one does not answer, or cannot.
    pub async fn read<T, A>(&self, call: impl Fn(Connection) -> A) -> Result<T, Error>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let mut round = Round::default();
        for endpoint in &self.all {
            match round.attempt(endpoint, &call).await {
                Ok(answer) => return Ok(answer),
                Err(Some(error)) if error.is_final() => return Err(error),
                Err(_) => {}
            }
        }
        Err(round.failed(self))
    }

    /// Makes a change whose request carries a `request_id`, or that does nothing where it is made
    /// already: the call is repeated, also elsewhere, where its outcome is not known, and takes effect
    /// once all the same.
    pub async fn write<T, A>(&self, call: impl Fn(Connection) -> A) -> Result<T, Error>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let mut unknown = None;
        for round in 0..WRITE_ROUNDS {
            if let Some(doublings) = round.checked_sub(1) {
                sleep(WRITE_PAUSE * 2_u32.pow(doublings)).await;
            }
            let mut attempts = Round::default();
            for endpoint in &self.all {
                match attempts.attempt(endpoint, &call).await {
                    Ok(answer) => return Ok(answer),
                    Err(Some(error)) if error.is_final() => return Err(error),
                    Err(Some(error)) if error.reaction() == Reaction::Repeat => {
                        unknown = Some(error);
                    }
                    Err(_) => {}
                }
            }
            if unknown.is_none() {
                // No replica has begun with it: the caller decides, as after a read.
                return Err(attempts.failed(self));
            }
        }
        Err(unknown.unwrap_or_else(|| self.no_answer(Vec::new())))
    }

    /// Makes a change that has no `request_id`. It goes to another replica only where none can have
    /// begun with it.
    pub async fn write_once<T, A>(&self, call: impl Fn(Connection) -> A) -> Result<T, Error>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let mut round = Round::default();
        for endpoint in &self.all {
            match round.attempt(endpoint, &call).await {
                Ok(answer) => return Ok(answer),
                // Without a reason it may be from what stands between here and the replica.
                Err(Some(error))
                    if error.reaction() != Reaction::Elsewhere || error.reason().is_none() =>
                {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        Err(round.failed(self))
    }
}

/// What came of trying one replica after another.
#[derive(Default)]
struct Round {
    /// Replicas that could not be reached, with why.
    tried: Vec<String>,
    /// The last answer that was an error, of a replica that another may not give.
    refusal: Option<(Endpoint, Box<Status>)>,
}

impl Round {
    /// Tries one replica. No error where it could not be reached: it cannot have begun then.
    async fn attempt<T, A>(
        &mut self,
        endpoint: &Endpoint,
        call: &impl Fn(Connection) -> A,
    ) -> Result<T, Option<Error>>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let connection = match endpoint.connect().await {
            Ok(connection) => connection,
            Err(error) => {
                self.tried.push(format!("{endpoint}: {}", chain(&error)));
                return Err(None);
            }
        };
        let status = match call(connection).await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => Box::new(status),
        };
        let endpoint = endpoint.clone();
        Err(Some(match cause(&status) {
            Some(why) if !is_foreign(&status) => {
                self.tried.push(format!("{endpoint}: {why}"));
                Error::Unanswered { endpoint, why }
            }
            _ => {
                self.refusal = Some((endpoint.clone(), status.clone()));
                refused(endpoint, status)
            }
        }))
    }

    /// The error where none gave an answer: a replica's error is worth more than a timeout.
    fn failed(self, endpoints: &Endpoints) -> Error {
        match self.refusal {
            Some((endpoint, status)) => refused(endpoint, status),
            None => endpoints.no_answer(self.tried),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Code, Response, Status, service::Routes, transport::Server};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::{Endpoint, Endpoints, Error};

    /// A listener that speaks gRPC and has no service of ours: the calls of these tests answer by
    /// themselves.
    async fn replica() -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Routes::default();
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(
            Server::builder()
                .add_routes(routes)
                .serve_with_incoming(incoming),
        );
        address.parse().unwrap()
    }

    /// Port 1 is reserved and nothing listens there.
    fn unreachable() -> Endpoint {
        "127.0.0.1:1".parse().unwrap()
    }

    fn answer(code: Code, reason: &str) -> Status {
        let details = ErrorDetails::with_error_info(reason, "quorumwatch.dev", []);
        Status::with_error_details(code, reason, details)
    }

    /// Answers in order, then with success; counts the calls.
    struct Script(RefCell<(Vec<Status>, usize)>);

    impl Script {
        fn new(answers: impl IntoIterator<Item = Status>) -> Self {
            let mut answers: Vec<_> = answers.into_iter().collect();
            answers.reverse();
            Self(RefCell::new((answers, 0)))
        }

        fn next(&self) -> Result<Response<usize>, Status> {
            let mut script = self.0.borrow_mut();
            script.1 += 1;
            let calls = script.1;
            script.0.pop().map_or(Ok(Response::new(calls)), Err)
        }

        fn calls(&self) -> usize {
            self.0.borrow().1
        }
    }

    async fn two() -> Endpoints {
        Endpoints::new(replica().await, [replica().await])
    }

    #[tokio::test]
    async fn all_that_do_not_answer_are_named() {
        let endpoints = Endpoints::new(unreachable(), ["localhost:1".parse().unwrap()]);
        let answer = endpoints.read(|_| async { Ok(Response::new(())) }).await;
        match answer {
            Err(Error::NoAnswer { tried, .. }) => assert_eq!(tried.len(), 2, "{tried:?}"),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_read_goes_to_the_next_replica_and_the_last_refusal_is_the_error() {
        let behind = || answer(Code::Unavailable, "REPLICA_BEHIND");
        let script = Script::new([behind()]);
        let endpoints = two().await;
        let read = endpoints.read(|_| async { script.next() }).await;
        assert_eq!(read.unwrap(), 2);
        let script = Script::new([behind(), behind()]);
        let error = endpoints
            .read(|_| async { script.next() })
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(Code::Unavailable));
        let script = Script::new([answer(Code::NotFound, "CLUSTER_NOT_FOUND")]);
        let error = endpoints
            .read(|_| async { script.next() })
            .await
            .unwrap_err();
        assert!(error.is_final() && script.calls() == 1, "{error}");
    }

    #[tokio::test]
    async fn a_write_whose_outcome_is_unknown_is_repeated_and_not_without_end() {
        let unknown = || answer(Code::Unknown, "OUTCOME_UNKNOWN");
        let endpoints = two().await;
        let script = Script::new([unknown(), answer(Code::Unavailable, "NO_QUORUM"), unknown()]);
        let written = endpoints.write(|_| async { script.next() }).await;
        assert_eq!(written.unwrap(), 4);
        let script = Script::new(std::iter::repeat_with(unknown).take(100));
        let error = endpoints
            .write(|_| async { script.next() })
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(Code::Unknown));
        assert_eq!(script.calls(), 8);
    }

    #[tokio::test]
    async fn a_write_that_none_has_begun_with_is_tried_once_at_each() {
        let no_quorum = || answer(Code::Unavailable, "NO_QUORUM");
        let script = Script::new([no_quorum(), no_quorum()]);
        let error = two().await.write(|_| async { script.next() }).await;
        assert_eq!(error.unwrap_err().code(), Some(Code::Unavailable));
        assert_eq!(script.calls(), 2);
    }

    #[tokio::test]
    async fn a_write_without_a_request_id_is_not_repeated_where_it_may_have_begun() {
        let endpoints = two().await;
        for first in [
            answer(Code::Unknown, "OUTCOME_UNKNOWN"),
            Status::unavailable("a proxy says so"),
        ] {
            let script = Script::new([first]);
            let error = endpoints.write_once(|_| async { script.next() }).await;
            assert!(error.is_err() && script.calls() == 1);
        }
        let script = Script::new([answer(Code::Unavailable, "NO_QUORUM")]);
        let written = endpoints.write_once(|_| async { script.next() }).await;
        assert_eq!(written.unwrap(), 2);
    }
}
