//! The client configuration: the groups that a person works with, by name, as kubectl's contexts.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Endpoint, Error};

/// The variable that names the file.
pub(super) const VARIABLE: &str = "QUORUMWATCH_CLIENT_CONFIG";

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ClientConfig {
    /// The context that is used where nothing else is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    current_context: Option<String>,
    /// The groups, by name.
    contexts: BTreeMap<String, Context>,
    /// Where it was read from.
    #[serde(skip)]
    path: String,
}

/// How one group is reached. Each context is a table, so that keys can be added later.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Context {
    /// Replicas, `host:port`; at least one.
    endpoints: Vec<String>,
}

/// Where the file is: from the flag, the environment, or XDG's rules in the home directory.
pub(super) fn path(flag: Option<PathBuf>) -> PathBuf {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = flag.or_else(|| variable(VARIABLE).map(PathBuf::from)) {
        return path;
    }
    let base = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let base = base.filter(|path| path.is_absolute()).unwrap_or_else(|| {
        let home = variable("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        home.join(".config")
    });
    base.join("quorumwatch/config.toml")
}

impl ClientConfig {
    /// Reads the file; `None` where there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Error> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &path.display().to_string()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed("read the client configuration", path, source)),
        }
    }

    pub(super) fn parse(text: &str, path: &str) -> Result<Self, Error> {
        let parsed: Result<Self, _> = toml::from_str(text);
        let mut config = parsed.map_err(|error| {
            Error::Usage(format!(
                "the client configuration {path} cannot be read; correct it, or name another with \
                 --client-config: {error}"
            ))
        })?;
        config.path = path.to_owned();
        Ok(config)
    }

    /// Replaces the file, whole at any moment. Comments in it are lost.
    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let action = "write the client configuration";
        let text = toml::to_string(self).map_err(|error| Error::Usage(error.to_string()))?;
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        let write = || {
            fs::create_dir_all(directory)?;
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| failed(action, path, source))
    }

    /// The name of the current context.
    pub(super) fn current(&self) -> Option<&str> {
        self.current_context.as_deref()
    }

    /// All contexts, by name, with their endpoints.
    pub(super) fn contexts(&self) -> impl Iterator<Item = (&str, &[String])> {
        let contexts = self.contexts.iter();
        contexts.map(|(name, context)| (name.as_str(), context.endpoints.as_slice()))
    }

    /// The endpoints of a context; `chosen_by` is what named it.
    pub(super) fn endpoints(&self, name: &str, chosen_by: &str) -> Result<Vec<Endpoint>, Error> {
        let path = &self.path;
        let Some(context) = self.contexts.get(name) else {
            let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
            return Err(Error::Usage(format!(
                "{chosen_by}: there is no context {name:?} in {path}; it has: {}",
                known.join(", ")
            )));
        };
        if context.endpoints.is_empty() {
            let why = format!("{path}: the context {name:?} has no endpoints");
            return Err(Error::Usage(why));
        }
        let endpoints = context.endpoints.iter().map(|text| text.parse());
        let endpoints: Result<Vec<Endpoint>, _> = endpoints.collect();
        endpoints.map_err(|error| Error::Usage(format!("{path}: contexts.{name}: {error}")))
    }

    /// Makes a context that exists the current one.
    pub(super) fn choose(&mut self, name: &str) -> Result<(), Error> {
        self.endpoints(name, "use")?;
        self.current_context = Some(name.to_owned());
        Ok(())
    }

    /// Creates or changes a context; the first one becomes the current one.
    pub(super) fn set(&mut self, name: &str, endpoints: &[Endpoint]) {
        let endpoints = endpoints.iter().map(ToString::to_string).collect();
        self.contexts.insert(name.to_owned(), Context { endpoints });
        self.current_context.get_or_insert_with(|| name.to_owned());
    }

    /// Removes a context; `false` where there is none of that name.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        if self.current() == Some(name) {
            self.current_context = None;
        }
        self.contexts.remove(name).is_some()
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File {
        action,
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::ClientConfig;

    #[test]
    fn what_is_set_reads_back_and_the_first_context_is_the_current_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config.toml");
        assert_eq!(ClientConfig::read(&path).unwrap(), None);
        let mut config = ClientConfig::default();
        config.set("a", &["h:1".parse().unwrap(), "h:2".parse().unwrap()]);
        config.set("b", &["h:3".parse().unwrap()]);
        config.write(&path).unwrap();
        let mut config = ClientConfig::read(&path).unwrap().unwrap();
        assert_eq!(config.current(), Some("a"));
        assert_eq!(config.endpoints("a", "").unwrap().len(), 2);
        config.choose("b").unwrap();
        assert!(config.choose("c").is_err());
        assert!(config.remove("b") && !config.remove("b"));
        assert_eq!(config.current(), None);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = ClientConfig::parse("curent_context = \"a\"", "f").unwrap_err();
        assert!(error.to_string().contains("curent_context"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
