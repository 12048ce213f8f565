//! Reaching the group: any of its replicas will do.

use std::{env, path::PathBuf};

use tonic::{Code, Response, Status, transport::Channel};

use super::{
    Endpoint, Error, chain,
    client_config::{self, ClientConfig},
};

/// Above the largest object that etcd stores and the largest page that a replica sends.
pub(super) const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Every variable that says where the group is.
pub(super) const VARIABLES: [&str; 3] = [
    ENDPOINTS_VARIABLE,
    CONTEXT_VARIABLE,
    client_config::VARIABLE,
];
const ENDPOINTS_VARIABLE: &str = "QUORUMWATCH_ENDPOINTS";
const CONTEXT_VARIABLE: &str = "QUORUMWATCH_CONTEXT";
/// Where nobody names anything.
const DEFAULT_ENDPOINT: &str = "127.0.0.1:7400";

/// Above these flags in help texts.
const HEADING: &str = "Where the group is";

/// Where the group is reached.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Connection {
    /// Replicas to ask, like host:7400, joined by ','; the next one is asked where one does not
    /// answer [env: QUORUMWATCH_ENDPOINTS] [default: 127.0.0.1:7400].
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        conflicts_with = "context",
        help_heading = HEADING
    )]
    endpoints: Vec<Endpoint>,
    /// A context of the client configuration [env: QUORUMWATCH_CONTEXT] [default: its
    /// current_context].
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    context: Option<String>,
    /// The client configuration [env: QUORUMWATCH_CLIENT_CONFIG] [default:
    /// ~/.config/quorumwatch/config.toml].
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    client_config: Option<PathBuf>,
}

impl Connection {
    /// The endpoints: from flags, the environment, the client configuration or by default, in this
    /// order of strength.
    pub(super) fn endpoints(self) -> Result<Endpoints, Error> {
        let file = || ClientConfig::read(&client_config::path(self.client_config.clone()));
        let choice = Choice {
            endpoints: self.endpoints.clone(),
            context: self.context.clone(),
            endpoints_variable: variable(ENDPOINTS_VARIABLE),
            context_variable: variable(CONTEXT_VARIABLE),
        };
        choice.resolve(file)
    }
}

/// A variable of the environment; one that is empty is as good as none.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// All that may name the group.
#[derive(Default)]
struct Choice {
    endpoints: Vec<Endpoint>,
    context: Option<String>,
    endpoints_variable: Option<String>,
    context_variable: Option<String>,
}

impl Choice {
    /// The strongest of all. The file is read only where it may decide.
    fn resolve(
        self,
        file: impl FnOnce() -> Result<Option<ClientConfig>, Error>,
    ) -> Result<Endpoints, Error> {
        if !self.endpoints.is_empty() {
            return named(self.endpoints, "that --endpoints names");
        }
        if let Some(context) = self.context {
            return of_context(file()?, &context, "--context");
        }
        if let Some(text) = self.endpoints_variable {
            let endpoints: Result<Vec<_>, _> = text.split(',').map(str::parse).collect();
            let endpoints = endpoints
                .map_err(|error| Error::Usage(format!("{ENDPOINTS_VARIABLE}: {error}")))?;
            return named(endpoints, "that QUORUMWATCH_ENDPOINTS names");
        }
        if let Some(context) = self.context_variable {
            return of_context(file()?, &context, CONTEXT_VARIABLE);
        }
        match file()? {
            Some(file) if file.current().is_some() => {
                let context = file.current().unwrap_or_default().to_owned();
                of_context(Some(file), &context, "current_context")
            }
            _ => {
                let endpoint = DEFAULT_ENDPOINT.parse().map_err(usage)?;
                named(vec![endpoint], "that is the default")
            }
        }
    }
}

fn named(endpoints: Vec<Endpoint>, origin: &str) -> Result<Endpoints, Error> {
    let origin = origin.to_owned();
    Ok(Endpoints {
        all: endpoints,
        origin,
    })
}

fn of_context(
    file: Option<ClientConfig>,
    context: &str,
    chosen_by: &str,
) -> Result<Endpoints, Error> {
    let file = file.ok_or_else(|| {
        Error::Usage(format!(
            "{chosen_by} names the context {context:?}, and there is no client configuration yet; \
             make one with `quorumwatch contexts set {context} --endpoints HOST:PORT`"
        ))
    })?;
    let endpoints = file.endpoints(context, chosen_by)?;
    named(
        endpoints,
        &format!("of the context {context}, which {chosen_by} names"),
    )
}

fn usage(error: impl std::fmt::Display) -> Error {
    Error::Usage(error.to_string())
}

/// Replicas of one group, in the order in which they are asked. Never empty.
#[derive(Clone, Debug)]
pub struct Endpoints {
    all: Vec<Endpoint>,
    /// Who named them; for people.
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

    /// None of them answered.
    pub(super) fn no_answer(&self, tried: Vec<String>) -> Error {
        let origin = self.origin.clone();
        Error::NoAnswer { tried, origin }
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

    /// Asks a question; another replica where one cannot answer.
    pub async fn ask<T, A>(&self, question: impl Fn(Channel) -> A) -> Result<T, Error>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let mut tried = Vec::new();
        for endpoint in &self.all {
            let Some(channel) = connected(endpoint, &mut tried).await else {
                continue;
            };
            let status = match question(channel).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            let is_last = tried.len() + 1 == self.len();
            match cause(&status) {
                Some(cause) if !is_foreign(&status) => tried.push(format!("{endpoint}: {cause}")),
                None if is_transient(&status) && !is_last => {
                    tried.push(format!("{endpoint}: {}", status.message()));
                }
                _ => return Err(refused(endpoint.clone(), Box::new(status))),
            }
        }
        Err(self.no_answer(tried))
    }

    /// Asks for a change. It goes to another replica only where none can have begun with it.
    pub async fn tell<T, A>(&self, change: impl Fn(Channel) -> A) -> Result<T, Error>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let mut tried = Vec::new();
        for endpoint in &self.all {
            let Some(channel) = connected(endpoint, &mut tried).await else {
                continue;
            };
            let status = match change(channel).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            return Err(match cause(&status) {
                Some(why) if !is_foreign(&status) => Error::Unanswered {
                    endpoint: endpoint.clone(),
                    why,
                },
                _ => refused(endpoint.clone(), Box::new(status)),
            });
        }
        Err(self.no_answer(tried))
    }
}

/// A connection; where there is none, why not is added to what was tried.
async fn connected(endpoint: &Endpoint, tried: &mut Vec<String>) -> Option<Channel> {
    match endpoint.connect().await {
        Ok(channel) => Some(channel),
        Err(error) => {
            tried.push(format!("{endpoint}: {}", chain(&error)));
            None
        }
    }
}

/// What broke, where a status is none that a replica sent: the connection did.
pub(super) fn cause(status: &Status) -> Option<String> {
    std::error::Error::source(status).map(chain)
}

/// Why a stream ended: in a replica's own words, or else in ours, since what a transport says of it
/// helps nobody.
pub(super) fn why_ended(status: &Status) -> &str {
    match cause(status) {
        None => status.message(),
        Some(cause) if cause.contains("timed out") => "it no longer answers",
        Some(_) => "the connection broke",
    }
}

fn is_transient(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
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
    use super::{Choice, ClientConfig, Endpoints, Error};

    const FILE: &str = "current_context = \"home\"
[contexts.home]
endpoints = [\"home:1\"]
[contexts.prod]
endpoints = [\"prod-0:1\", \"prod-1:1\"]
";

    fn first(choice: Choice) -> String {
        let file = || ClientConfig::parse(FILE, "config.toml").map(Some);
        choice.resolve(file).unwrap().at_turn(0).to_string()
    }

    #[test]
    fn flags_are_stronger_than_the_environment_and_that_is_stronger_than_the_file() {
        let choice = || Choice {
            endpoints: vec!["flag:1".parse().unwrap()],
            context: None,
            endpoints_variable: Some("env-0:1,env-1:1".into()),
            context_variable: Some("prod".into()),
        };
        assert_eq!(first(choice()), "flag:1");
        let context = Some("prod".to_owned());
        let endpoints = Vec::new();
        assert_eq!(
            first(Choice {
                endpoints,
                context,
                ..choice()
            }),
            "prod-0:1"
        );
        let endpoints = Vec::new();
        assert_eq!(
            first(Choice {
                endpoints,
                ..choice()
            }),
            "env-0:1"
        );
        let by_context = Choice {
            context_variable: Some("prod".into()),
            ..Choice::default()
        };
        assert_eq!(first(by_context), "prod-0:1");
        assert_eq!(first(Choice::default()), "home:1");
        let nothing = Choice::default().resolve(|| Ok(None)).unwrap();
        assert_eq!(nothing.at_turn(0).to_string(), "127.0.0.1:7400");
    }

    #[test]
    fn a_context_that_is_unknown_is_wrong_usage_that_names_the_known_ones() {
        let choice = Choice {
            context: Some("prd".into()),
            ..Choice::default()
        };
        let file = || ClientConfig::parse(FILE, "config.toml").map(Some);
        let error = choice.resolve(file).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(
            text.contains("no context \"prd\"") && text.contains("home, prod"),
            "{text}"
        );
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
            Err(Error::NoAnswer { tried, .. }) => assert_eq!(tried.len(), 2, "{tried:?}"),
            other => panic!("{other:?}"),
        }
    }
}
