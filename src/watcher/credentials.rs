//! Which credentials a cluster may use: [`CredentialPolicy`]. A kubeconfig can name commands to run
//! and files to read in our own process, so it is checked before it is used.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use kube::config::{AuthInfo, Cluster, ExecInteractiveMode, Kubeconfig, KubeconfigError};
use rustls_platform_verifier::Verifier;

use crate::{config::ConfiguredSource, panics};

/// What this replica allows kubeconfigs to do.
#[derive(Clone, Debug, Default)]
pub struct CredentialPolicy {
    /// Directories that may contain kubeconfig files, at any depth.
    pub kubeconfig_dirs: Vec<PathBuf>,
    /// Kubeconfigs of this replica's own configuration, by name.
    pub configured: BTreeMap<String, ConfiguredSource>,
    /// Commands that a credential plugin may run, exactly as the kubeconfig names them.
    pub allow_exec: Vec<String>,
    /// Whether a kubeconfig may refer to files (`tokenFile`, `client-certificate` and so on).
    pub allow_file_references: bool,
    /// What is trusted where a kubeconfig names no certificate authority.
    pub platform: PlatformTrust,
}

/// The certificate authorities that this machine trusts: some 150, which take 65 KiB. They are read
/// when the first kubeconfig names none, and shared by all clients from then on. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct PlatformTrust(Arc<Mutex<Option<Arc<Verifier>>>>);

impl PlatformTrust {
    /// Blocks while the certificates are being read. A machine that has none is asked again.
    pub(super) fn verifier(&self) -> Result<Arc<Verifier>, rustls::Error> {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verifier) = &*read {
            return Ok(Arc::clone(verifier));
        }
        let provider = rustls::crypto::ring::default_provider();
        let verifier = Arc::new(Verifier::new(Arc::new(provider))?);
        *read = Some(Arc::clone(&verifier));
        Ok(verifier)
    }

    /// Whether the certificates have been read.
    #[cfg(test)]
    pub(super) fn is_read(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }
}

/// Why a kubeconfig is refused. Never shows a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// It cannot be read.
    #[error("{place} is not YAML of kind Config{}", at_line(*.line))]
    Malformed {
        /// Where the kubeconfig came from, as errors name it.
        place: String,
        /// Where it stops making sense, from 1.
        line: Option<u64>,
    },
    /// A credential where none may be.
    #[error(
        "the kubeconfig carries a credential or a reference to one ({0}), which must not enter \
         the group's state; put the kubeconfig into every replica's configuration and name it \
         there as source"
    )]
    Credential(&'static str),
    /// No such context.
    #[error("the kubeconfig has no context {wanted:?}; {}", choices(known))]
    NoContext {
        /// The context asked for.
        wanted: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// No context was asked for, and the kubeconfig prefers none.
    #[error("no context is chosen and the kubeconfig has no current-context; {}", choices(.0))]
    NoCurrentContext(Vec<String>),
    /// A context leads nowhere.
    #[error("context {context:?} of the kubeconfig names {kind} {name:?}, which is not there")]
    Dangling {
        /// The context.
        context: String,
        /// "user" or "cluster".
        kind: &'static str,
        /// The missing user's or cluster's name.
        name: String,
    },
    /// The path does not exist or may not be read.
    #[error("kubeconfig file {0:?} cannot be read on this replica; mount it, or correct the path")]
    Unreadable(PathBuf),
    /// The path is outside of what is allowed.
    #[error(
        "kubeconfig file {0:?} is outside the allowed directories; add its directory to \
         kubeconfig_dirs in this replica's configuration"
    )]
    OutsideOfFolders(PathBuf),
    /// No kubeconfig of that name.
    #[error("this replica's configuration holds no kubeconfig named {0:?}; add it there")]
    NotConfigured(String),
    /// A command that is not allowed.
    #[error(
        "the kubeconfig runs the credential command {0:?}; add it to allow_exec in this replica's \
         configuration, or use a token"
    )]
    Exec(String),
    /// An old kind of plugin.
    #[error(
        "the kubeconfig uses an auth-provider, which Kubernetes has removed; use exec, a token or \
         a client certificate"
    )]
    AuthProvider,
    /// A file that is not allowed.
    #[error(
        "the kubeconfig refers to a file ({0}); embed its content in the kubeconfig, or set \
         allow_file_references in this replica's configuration"
    )]
    FileReference(&'static str),
    /// We have no proxy support.
    #[error("the kubeconfig names a proxy-url, which is not supported; reach the cluster directly")]
    Proxy,
}

/// Contexts that an error names; more would hide the rest of it.
const CHOICES_MAX: usize = 10;

fn choices(known: &[String]) -> String {
    if known.is_empty() {
        return "it has none at all: is it a kubeconfig?".to_owned();
    }
    let more = if known.len() > CHOICES_MAX {
        ", ..."
    } else {
        ""
    };
    let first = &known[..known.len().min(CHOICES_MAX)];
    format!("name one of its contexts: {}{more}", first.join(", "))
}

fn at_line(line: Option<u64>) -> String {
    line.map_or_else(String::new, |line| format!(": look at line {line}"))
}

impl CredentialError {
    /// Why a kubeconfig was not read. The parser's own text may quote it, and is not shown.
    pub(super) fn of(place: &str, error: &KubeconfigError) -> Self {
        let line = match error {
            KubeconfigError::Parse(error) => error.location().map(|at| at.line()),
            _ => None,
        };
        Self::Malformed {
            place: place.to_owned(),
            line,
        }
    }
}

/// Parses a kubeconfig; `place` names it in errors.
pub(super) fn parse(place: &str, yaml: &str) -> Result<Kubeconfig, CredentialError> {
    // A registration may hold any text, and each replica is asked in turn.
    let read = panics::catch(|| Kubeconfig::from_yaml(yaml)).map_err(|panic| {
        tracing::error!(
            message = panic.message,
            place = panic.place,
            "reading a kubeconfig panicked"
        );
        CredentialError::Malformed {
            place: place.to_owned(),
            line: None,
        }
    })?;
    read.map_err(|error| CredentialError::of(place, &error))
}

/// The same kubeconfig, whose credential commands neither read from nor write to the streams of
/// this process: their standard error would otherwise end up in the log.
pub(super) fn without_terminal(mut config: Kubeconfig) -> Kubeconfig {
    let users = config.auth_infos.iter_mut();
    for exec in users.filter_map(|user| user.auth_info.as_mut()?.exec.as_mut()) {
        exec.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    config
}

/// Fields of a kubeconfig's users that are credentials or lead to some. The text is searched for
/// them as well as the parsed structure, because a repeated name hides its second entry.
const CREDENTIAL_FIELDS: [&str; 10] = [
    "token",
    "tokenFile",
    "password",
    "username",
    "client-key",
    "client-key-data",
    "client-certificate",
    "client-certificate-data",
    "exec",
    "auth-provider",
];

/// Refuses a kubeconfig that carries credentials or refers to any: such a one may be replicated.
pub fn reject_credentials(yaml: &str) -> Result<(), CredentialError> {
    let config = parse("the kubeconfig", yaml)?;
    for user in &config.auth_infos {
        let field = user.auth_info.as_ref().and_then(first_credential);
        if let Some(field) = field {
            return Err(CredentialError::Credential(field));
        }
    }
    let found = CREDENTIAL_FIELDS
        .iter()
        .find(|field| names_field(yaml, field));
    if let Some(field) = found {
        return Err(CredentialError::Credential(field));
    }
    for cluster in config.clusters.iter().filter_map(|c| c.cluster.as_ref()) {
        if cluster.certificate_authority.is_some() {
            return Err(CredentialError::Credential("certificate-authority"));
        }
        let server = cluster.server.as_deref().unwrap_or_default();
        let proxy = cluster.proxy_url.as_deref().unwrap_or_default();
        if server.contains('@') || proxy.contains('@') {
            return Err(CredentialError::Credential("user in a URL"));
        }
    }
    Ok(())
}

fn first_credential(user: &AuthInfo) -> Option<&'static str> {
    let fields = [
        (user.token.is_some(), "token"),
        (user.token_file.is_some(), "tokenFile"),
        (user.password.is_some(), "password"),
        (user.username.is_some(), "username"),
        (user.client_key.is_some(), "client-key"),
        (user.client_key_data.is_some(), "client-key-data"),
        (user.client_certificate.is_some(), "client-certificate"),
        (
            user.client_certificate_data.is_some(),
            "client-certificate-data",
        ),
        (user.exec.is_some(), "exec"),
        (user.auth_provider.is_some(), "auth-provider"),
        (!user.other.is_empty(), "an unknown field of a user"),
        (user.extensions.is_some(), "extensions of a user"),
    ];
    fields
        .into_iter()
        .find_map(|(present, field)| present.then_some(field))
}

/// Whether the text has `field:` as a key, quoted or not.
fn names_field(yaml: &str, field: &str) -> bool {
    yaml.match_indices(field).any(|(at, _)| {
        let before = yaml[..at].chars().next_back();
        let after = yaml[at + field.len()..].trim_start_matches(['"', '\'']);
        before.is_none_or(|c| !c.is_alphanumeric() && !"-_./".contains(c))
            && after.trim_start_matches([' ', '\t']).starts_with(':')
    })
}

impl CredentialPolicy {
    /// The file's canonical path, if it is in an allowed directory.
    pub(super) fn admit_file(&self, path: &Path) -> Result<PathBuf, CredentialError> {
        let unreadable = |_| CredentialError::Unreadable(path.to_owned());
        let canonical = path.canonicalize().map_err(unreadable)?;
        let inside = self.kubeconfig_dirs.iter().any(|dir| {
            dir.canonicalize()
                .is_ok_and(|dir| canonical.starts_with(dir))
        });
        if inside {
            Ok(canonical)
        } else {
            Err(CredentialError::OutsideOfFolders(path.to_owned()))
        }
    }

    /// The kubeconfig of that name.
    pub(super) fn configured(&self, name: &str) -> Result<&ConfiguredSource, CredentialError> {
        self.configured
            .get(name)
            .ok_or_else(|| CredentialError::NotConfigured(name.to_owned()))
    }

    /// Checks what the chosen context would use.
    pub(super) fn admit(&self, config: &Kubeconfig, context: &str) -> Result<(), CredentialError> {
        let (cluster, user) = select(config, context)?;
        if cluster
            .proxy_url
            .as_deref()
            .is_some_and(|url| !url.is_empty())
        {
            return Err(CredentialError::Proxy);
        }
        let mut files = vec![(&cluster.certificate_authority, "certificate-authority")];
        if let Some(user) = user {
            self.admit_plugins(user)?;
            files.push((&user.token_file, "tokenFile"));
            files.push((&user.client_certificate, "client-certificate"));
            files.push((&user.client_key, "client-key"));
        }
        let file = files
            .into_iter()
            .find_map(|(path, field)| path.as_ref().map(|_| field));
        match file {
            Some(field) if !self.allow_file_references => {
                Err(CredentialError::FileReference(field))
            }
            _ => Ok(()),
        }
    }

    fn admit_plugins(&self, user: &AuthInfo) -> Result<(), CredentialError> {
        if user.auth_provider.is_some() {
            return Err(CredentialError::AuthProvider);
        }
        let Some(exec) = &user.exec else {
            return Ok(());
        };
        let command = exec.command.clone().unwrap_or_default();
        if self.allow_exec.contains(&command) {
            Ok(())
        } else {
            Err(CredentialError::Exec(command))
        }
    }
}

/// The cluster and the user of a context.
fn select<'a>(
    config: &'a Kubeconfig,
    context: &str,
) -> Result<(&'a Cluster, Option<&'a AuthInfo>), CredentialError> {
    let name = if context.is_empty() {
        config.current_context.as_deref().unwrap_or_default()
    } else {
        context
    };
    let known = || {
        config
            .contexts
            .iter()
            .map(|named| named.name.clone())
            .collect()
    };
    if name.is_empty() {
        return Err(CredentialError::NoCurrentContext(known()));
    }
    let found = config.contexts.iter().find(|named| named.name == name);
    let context = found
        .and_then(|named| named.context.as_ref())
        .ok_or_else(|| CredentialError::NoContext {
            wanted: name.to_owned(),
            known: known(),
        })?;
    let dangling = |kind, missing: &str| CredentialError::Dangling {
        context: name.to_owned(),
        kind,
        name: missing.to_owned(),
    };
    let mut clusters = config.clusters.iter();
    let cluster = clusters
        .find(|named| named.name == context.cluster)
        .and_then(|named| named.cluster.as_ref())
        .ok_or_else(|| dangling("cluster", &context.cluster))?;
    let Some(user) = context.user.as_deref().filter(|user| !user.is_empty()) else {
        return Ok((cluster, None));
    };
    let mut users = config.auth_infos.iter();
    // Otherwise requests go out unauthenticated, and the 401 is hard to explain.
    let user = users
        .find(|named| named.name == user)
        .ok_or_else(|| dangling("user", user))?;
    Ok((cluster, user.auth_info.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::{CredentialError, CredentialPolicy, Kubeconfig, reject_credentials};

    fn kubeconfig(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: 'https://h:6443'{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    fn admit(policy: &CredentialPolicy, yaml: &str) -> Result<(), CredentialError> {
        policy.admit(&Kubeconfig::from_yaml(yaml).unwrap(), "")
    }

    #[test]
    fn a_kubeconfig_without_credentials_may_be_replicated() {
        let ca = ", certificate-authority-data: Q0E=, tls-server-name: token";
        assert_eq!(reject_credentials(&kubeconfig(ca, "")), Ok(()));
        let torn = reject_credentials("users: [\n{token: SECRET\n").unwrap_err();
        assert!(matches!(torn, CredentialError::Malformed { .. }), "{torn}");
        assert!(!format!("{torn} {torn:?}").contains("SECRET"), "{torn}");
    }

    #[test]
    fn a_context_that_is_missing_or_leads_nowhere_is_named() {
        let policy = CredentialPolicy::default();
        let whole = kubeconfig("", "token: t");
        let refused = |yaml: &str, context: &str| {
            let config = Kubeconfig::from_yaml(yaml).unwrap();
            policy.admit(&config, context).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&whole, "x"),
            "the kubeconfig has no context \"x\"; name one of its contexts: c"
        );
        let undecided = whole.replace("current-context: c\n", "");
        assert!(refused(&undecided, "").contains("has no current-context; name one"));
        assert!(refused("hello: world", "").contains("is it a kubeconfig?"));
        for (missing, said) in [("k", "names cluster \"k\""), ("u", "names user \"u\"")] {
            let cut = whole.replace(&format!("[{{name: {missing}, "), "[{name: other, ");
            assert!(refused(&cut, "").contains(said), "{}", refused(&cut, ""));
        }
    }

    #[test]
    fn every_kind_of_credential_is_refused_for_replication() {
        for user in [
            "token: t",
            "tokenFile: /t",
            "username: a, password: b",
            "client-key-data: QQ==",
            "client-certificate: /c",
            "exec: {command: aws}",
            "auth-provider: {name: gcp}",
            "\"token\" : t",
            "whatever: t",
        ] {
            let refused = reject_credentials(&kubeconfig("", user));
            assert!(
                matches!(refused, Err(CredentialError::Credential(_))),
                "{user}: {refused:?}"
            );
        }
        let hidden = kubeconfig("", "") + "---\nusers: [{name: u, user: {token: t}}]\n";
        assert!(reject_credentials(&hidden).is_err());
        let in_url = kubeconfig("", "").replace("https://h", "https://a:b@h");
        assert!(reject_credentials(&in_url).is_err());
    }

    #[test]
    fn commands_and_files_need_permission() {
        let mut policy = CredentialPolicy::default();
        let exec = kubeconfig("", "exec: {command: aws, args: [secret]}");
        let file = kubeconfig(", certificate-authority: /etc/ca", "");
        let token = kubeconfig("", "token: t");
        assert_eq!(
            admit(&policy, &exec),
            Err(CredentialError::Exec("aws".into()))
        );
        assert_eq!(
            admit(&policy, &file),
            Err(CredentialError::FileReference("certificate-authority"))
        );
        assert_eq!(admit(&policy, &token), Ok(()));
        policy.allow_exec = vec!["aws".into()];
        policy.allow_file_references = true;
        assert_eq!(admit(&policy, &exec), Ok(()));
        assert_eq!(admit(&policy, &file), Ok(()));
        let provider = kubeconfig("", "auth-provider: {name: gcp, config: {cmd-path: sh}}");
        assert_eq!(
            admit(&policy, &provider),
            Err(CredentialError::AuthProvider)
        );
    }

    #[test]
    fn files_must_lie_in_an_allowed_directory_however_they_are_spelled() {
        let root = tempfile::tempdir().unwrap();
        let allowed = root.path().join("allowed");
        std::fs::create_dir(&allowed).unwrap();
        let (inside, outside) = (allowed.join("config"), root.path().join("config"));
        std::fs::write(&inside, "").unwrap();
        std::fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, allowed.join("link")).unwrap();
        let policy = CredentialPolicy {
            kubeconfig_dirs: vec![allowed.clone()],
            ..CredentialPolicy::default()
        };
        assert!(policy.admit_file(&inside).is_ok());
        for path in [outside, allowed.join("../config"), allowed.join("link")] {
            assert!(
                matches!(
                    policy.admit_file(&path),
                    Err(CredentialError::OutsideOfFolders(_))
                ),
                "{path:?}"
            );
        }
        assert!(matches!(
            policy.admit_file(&allowed.join("none")),
            Err(CredentialError::Unreadable(_))
        ));
    }
}
