//! Where the group is: flags, the environment, the client configuration.

use std::{env, path::PathBuf};

use super::{
    Endpoint, Endpoints, Error,
    client_config::{self, ClientConfig},
};
use crate::client::Client;

/// Every environment variable that locates the group.
pub(super) const VARIABLES: [&str; 3] = [
    ENDPOINTS_VARIABLE,
    CONTEXT_VARIABLE,
    client_config::VARIABLE,
];
const ENDPOINTS_VARIABLE: &str = "QUORUMWATCH_ENDPOINTS";
const CONTEXT_VARIABLE: &str = "QUORUMWATCH_CONTEXT";
/// The default endpoint.
const DEFAULT_ENDPOINT: &str = "127.0.0.1:7400";

/// The help heading of these flags.
const HEADING: &str = "Where the group is";

/// Where the group is reached.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Connection {
    /// Replicas to connect to, like host:7400, separated by ','; the next one is tried if one does
    /// not answer [env: QUORUMWATCH_ENDPOINTS] [default: 127.0.0.1:7400].
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
    /// The endpoints: from flags, the environment, the client configuration or by default, in
    /// decreasing precedence.
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

    /// A client of the group.
    pub(super) fn client(self) -> Result<Client, Error> {
        self.endpoints().map(Client::new)
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
    /// Picks the one with the highest precedence. The file is read only if it can decide.
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
    let mut endpoints = endpoints.into_iter();
    match endpoints.next() {
        Some(first) => Ok(Endpoints::new(first, endpoints).with_origin(origin)),
        None => Err(Error::Usage(format!("no address {origin}"))),
    }
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

#[cfg(test)]
mod tests {
    use super::{Choice, ClientConfig};

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
}
