//! The environment: one variable for each key that has one.

use std::ffi::{OsStr, OsString};

use super::{
    keys::{KEYS, nearest},
    origin::{Origin, Problem, Problems},
    value::Layer,
};

/// All of ours begin with this.
const PREFIX: &str = "QUORUMWATCH_";
/// Names the configuration file.
pub(super) const CONFIG: &str = "QUORUMWATCH_CONFIG";

/// The environment, and what of it is not for us.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Every variable.
    pub variables: Vec<(OsString, OsString)>,
    /// Variables of ours that are no keys: other commands read them.
    pub others: Vec<String>,
}

impl Environment {
    /// A variable that is set to something.
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        let found = self.variables.iter().find(|(variable, _)| variable == name);
        found
            .map(|(_, value)| value.as_os_str())
            .filter(|value| !value.is_empty())
    }

    /// Reads the environment variable of every key. An empty one counts as not set.
    pub(super) fn read(&self, layer: &mut Layer, problems: &mut Problems) {
        for key in KEYS {
            let Some((name, value)) = key.variable.and_then(|name| Some((name, self.get(name)?)))
            else {
                continue;
            };
            let origin = Origin::Environment(name.to_owned());
            let Some(text) = value.to_str() else {
                problems.add(
                    &origin,
                    key.path,
                    "the value is not UTF-8; write it as UTF-8",
                );
                continue;
            };
            let written = if key.kind.is_list() {
                let items = text.split(',').map(str::trim);
                items
                    .filter(|item| !item.is_empty())
                    .map(str::to_owned)
                    .collect()
            } else {
                vec![text.to_owned()]
            };
            layer.read(key, written, &origin, problems);
        }
    }

    /// Variables that look like ours and are unknown.
    pub(super) fn unread(&self) -> Vec<Problem> {
        let known = || {
            let keys = KEYS.iter().filter_map(|key| key.variable);
            keys.chain(self.others.iter().map(String::as_str))
                .chain([CONFIG])
        };
        let unread = |(name, _): &(OsString, OsString)| {
            let name = name.to_str()?;
            let own = name.starts_with(PREFIX) && !known().any(|known| known == name);
            if !own || is_of_a_service(name) {
                return None;
            }
            let message = match nearest(name, known()) {
                Some(meant) => format!("unknown environment variable; did you mean {meant}?"),
                None => "unknown environment variable; correct its name or remove it".to_owned(),
            };
            Some(Problem {
                origin: Origin::Environment(name.to_owned()),
                key: String::new(),
                message,
            })
        };
        let mut unread: Vec<_> = self.variables.iter().filter_map(unread).collect();
        unread.sort();
        unread
    }
}

/// Kubernetes gives every pod variables about each Service of its namespace, and a Service may well
/// be called quorumwatch: `QUORUMWATCH_SERVICE_HOST`, `QUORUMWATCH_PORT_7400_TCP_ADDR`.
fn is_of_a_service(name: &str) -> bool {
    let service = name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let port = name.ends_with("_PORT");
    let protocols = ["_TCP", "_UDP", "_SCTP"];
    let named = name.contains("_PORT_") && protocols.iter().any(|protocol| name.contains(protocol));
    service || port || named
}

#[cfg(test)]
mod tests {
    use super::{Environment, Layer, Problems};
    use crate::config::keys;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let pair = |(name, value): &(&str, &str)| (name.into(), value.into());
        Environment {
            variables: variables.iter().map(pair).collect(),
            others: vec!["QUORUMWATCH_ENDPOINTS".into()],
        }
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let mut layer = Layer::default();
        let mut problems = Problems::default();
        environment(&[
            ("QUORUMWATCH_NAME", ""),
            ("QUORUMWATCH_ALLOW_EXEC", "aws, gcloud,"),
        ])
        .read(&mut layer, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        assert!(layer.get(&keys::NAME).is_none());
        let commands = layer.texts(&keys::ALLOW_EXEC);
        let commands: Vec<_> = commands.iter().map(|placed| placed.value).collect();
        assert_eq!(commands, ["aws", "gcloud"]);
    }

    #[test]
    fn a_variable_that_nobody_reads_is_reported_with_the_nearest_name() {
        let unread = environment(&[
            ("QUORUMWATCH_RING_BYTE", "1"),
            ("QUORUMWATCH_ENDPOINTS", "h:1"),
            ("QUORUMWATCH_SERVICE_HOST", "10.0.0.1"),
            ("QUORUMWATCH_PORT_7400_TCP_ADDR", "10.0.0.1"),
            ("QUORUMWATCH_PORT", "tcp://10.0.0.1:7400"),
            ("QUORUMWATCH_ZZZZZZZZZZZZZ", "1"),
            ("OTHER", "1"),
        ])
        .unread();
        let unread: Vec<_> = unread.iter().map(ToString::to_string).collect();
        assert_eq!(unread.len(), 2, "{unread:?}");
        assert!(
            unread[0].contains("did you mean QUORUMWATCH_RING_BYTES?"),
            "{unread:?}"
        );
        assert!(
            unread[1].contains("QUORUMWATCH_ZZZZZZZZZZZZZ: unknown environment variable"),
            "{unread:?}"
        );
    }
}
