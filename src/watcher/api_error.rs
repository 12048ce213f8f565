//! Why a request to an API server failed, in words for the engineer on call: what happened,
//! and what to do about it. Nothing here ever shows a credential.

use std::{error::Error, io, iter, sync::Arc, time::Duration};

use hyper_util::client::legacy;
use kube::client::AuthError;
use rustls::CertificateError;

use super::{
    CredentialError,
    events::{Malformed, Status},
};
use crate::domain::{
    cluster::{Condition, Source, StreamSelector},
    watch_session::Failure,
};

/// Longest page of a list: a page of fewer objects is asked for beyond it.
pub(super) const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a request failed. Never shows a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    /// The kubeconfig is refused.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// No client can be built, or it has no credentials; what a plugin printed is not shown.
    #[error("no request can be sent: {0}")]
    Client(String),
    /// The API server answered with an error.
    #[error("the API server answers {} to a {verb}: {}", status.code, status.message)]
    Status {
        /// What was asked for, as a role names it.
        verb: &'static str,
        /// The `metav1.Status` of the response.
        status: Status,
    },
    /// No response: the connection could not be used.
    #[error("the API server{} cannot be reached: {}", place(address), trouble.text)]
    Transport {
        /// `host:port`, where it is known.
        address: Option<Arc<str>>,
        /// The diagnosis, with a hint.
        trouble: Trouble,
        /// Whether nothing was acknowledged for too long.
        is_timeout: bool,
    },
    /// No answer in time.
    #[error("the API server{} did not answer within {} s", place(address), after.as_secs())]
    Timeout {
        /// `host:port`, where it is known.
        address: Option<Arc<str>>,
        /// The timeout that was exceeded.
        after: Duration,
    },
    /// A malformed response.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// More bytes than a page may have.
    #[error(
        "a list page of one object is longer than {PAGE_BYTES_MAX} bytes, or than what memory.pages \
         has room for"
    )]
    PageTooLong,
    /// Nothing was sent: the circuit breaker is open.
    #[error("{0}")]
    HeldBack(Box<Self>),
    /// A list at one resource version was asked for, and another one came: the server does not know
    /// `resourceVersionMatch=Exact`.
    #[error("the API server answers with another resource version than the one asked for")]
    OtherVersion,
}

/// What is wrong with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What happened.
    text: String,
    /// What to do; empty where that is not known.
    hint: &'static str,
}

fn place(address: &Option<Arc<str>>) -> String {
    let address = address.as_deref();
    address.map_or_else(String::new, |address| format!(" at {address}"))
}

impl ApiError {
    /// kube's error of a request that got no response, or failed midway.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let causes = || Causes(Some(error));
        let credentials = causes().find_map(|cause| cause.downcast_ref::<AuthError>());
        if let Some(error) = credentials {
            return Self::Client(credential_trouble(error));
        }
        let tls = causes().find_map(|cause| cause.downcast_ref::<rustls::Error>());
        let transport = causes().filter_map(|cause| cause.downcast_ref::<io::Error>());
        let transport = transport.last();
        let is_timeout = transport.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        let trouble = match (tls, transport) {
            (Some(error), _) => tls_trouble(error),
            (None, Some(error)) => transport_trouble(error, &chain(error)),
            (None, None) => causes()
                .find_map(closed_trouble)
                .unwrap_or_else(|| Trouble {
                    text: chain(error),
                    hint: "",
                }),
        };
        Self::Transport {
            address: None,
            trouble,
            is_timeout,
        }
    }

    /// The same, with the address of the API server.
    pub(super) fn at(mut self, own: Option<Arc<str>>) -> Self {
        if let Self::Transport { address, .. } | Self::Timeout { address, .. } = &mut self {
            *address = own;
        }
        self
    }

    /// Whether nothing came back, not even a refusal.
    pub(super) fn is_no_answer(&self) -> bool {
        matches!(self, Self::Transport { .. } | Self::Timeout { .. })
    }

    /// Whether the connection has ended because nothing was acknowledged.
    pub(super) fn is_unacknowledged(&self) -> bool {
        matches!(
            self,
            Self::Transport {
                is_timeout: true,
                ..
            }
        )
    }

    /// What a session needs to know.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Status { status, .. } => status_failure(status),
            _ => Failure::Other {
                retry_after_ms: None,
            },
        }
    }

    /// Whether it may be the cluster's fault, and not that of what was asked for. A server answers
    /// with 429 and 5xx also where only one resource is in trouble.
    pub(super) fn may_be_the_clusters(&self) -> bool {
        match self {
            Self::Status { status, .. } => match status.code {
                401 | 429 => true,
                504 => !status.is_too_large,
                code => code >= 500,
            },
            Self::Credentials(_)
            | Self::Client(_)
            | Self::Transport { .. }
            | Self::Timeout { .. } => true,
            Self::Malformed(_) | Self::PageTooLong | Self::OtherVersion | Self::HeldBack(_) => {
                false
            }
        }
    }

    /// What it means for the cluster.
    pub(super) fn condition(&self) -> Condition {
        match self {
            Self::Credentials(_) | Self::Client(_) => Condition::Unauthenticated,
            Self::Status { status, .. } if status.code == 401 => Condition::Unauthenticated,
            Self::Status { status, .. } if status.code == 403 => Condition::PermissionDenied,
            Self::Status { .. } | Self::Malformed(_) | Self::PageTooLong | Self::OtherVersion => {
                Condition::Degraded
            }
            Self::Transport { .. } | Self::Timeout { .. } => Condition::Unreachable,
            Self::HeldBack(cause) => cause.condition(),
        }
    }

    /// How long the server asks us to wait.
    pub(super) fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Status { status, .. } => status.retry_after_ms,
            _ => None,
        }
    }

    /// The status code, where there is one.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(status.code),
            _ => None,
        }
    }

    /// What to do about it; empty where nothing helps but waiting.
    pub(super) fn hint(&self, selector: &StreamSelector, source: &Source) -> String {
        match self {
            Self::Status { status, .. } if status.code != 401 => status_hint(status, selector),
            Self::HeldBack(cause) => cause.hint(selector, source),
            _ => self.hint_whatever_was_asked(source),
        }
    }

    /// What to do about it, where that does not depend on what was asked for; empty otherwise.
    pub(super) fn hint_whatever_was_asked(&self, source: &Source) -> String {
        match self {
            Self::Status { status, .. } if status.code == 401 => {
                format!(
                    "the credentials are wrong or have expired: {}",
                    renew(source)
                )
            }
            Self::Transport { trouble, .. } => trouble.hint.to_owned(),
            Self::Timeout { .. } => "is it overloaded, or does a firewall drop packets?".into(),
            Self::Malformed(Malformed::Json(_)) => {
                "does the kubeconfig's `server` lead to an API server, and not to a proxy?".into()
            }
            Self::HeldBack(cause) => cause.hint_whatever_was_asked(source),
            Self::Status { .. }
            | Self::Credentials(_)
            | Self::Client(_)
            | Self::Malformed(_)
            | Self::PageTooLong
            | Self::OtherVersion => String::new(),
        }
    }
}

/// What a session needs to know of a status, be it the response's or one in a watch.
pub(super) fn status_failure(status: &Status) -> Failure {
    match status.code {
        410 => Failure::Gone,
        500 => Failure::Internal,
        _ => Failure::Other {
            retry_after_ms: status.retry_after_ms,
        },
    }
}

fn status_hint(status: &Status, selector: &StreamSelector) -> String {
    let resource = &selector.resource;
    match status.code {
        300..=399 => "something in front of the API server redirects: correct `server`".into(),
        403 => format!(
            "grant it with this rule in a {}: {{apiGroups: [\"{}\"], resources: [\"{}\"], \
             verbs: [\"list\", \"watch\"]}}",
            match selector.namespace.as_str() {
                "" => "ClusterRole".to_owned(),
                namespace => format!("Role of namespace {namespace}"),
            },
            resource.group,
            resource.plural
        ),
        404 => format!(
            "this cluster does not serve {resource}: `kubectl api-resources` lists what it \
             serves; correct the cluster's resources"
        ),
        405 => format!(
            "{resource} cannot be listed and watched there: take it out of the cluster's resources"
        ),
        429 | 503 => match status.retry_after_ms {
            Some(ms) => format!("it asks to retry after {} s", ms / 1_000),
            None => "it is overloaded or not ready; retrying".into(),
        },
        _ => String::new(),
    }
}

/// Where credentials are renewed.
fn renew(source: &Source) -> String {
    match source {
        Source::KubeconfigFile { path, .. } => {
            format!("renew them in {path} on every replica; it is reread automatically")
        }
        Source::Configured { name } => {
            format!("renew them in [sources.{name}] of every replica and restart it")
        }
        Source::InCluster => "the pod's service account token is not accepted there".into(),
        Source::KubeconfigInline { .. } => {
            "an inline kubeconfig carries none; name a file or a configured source instead".into()
        }
    }
}

/// An error and its causes, the errors inside of I/O errors included.
struct Causes<'a>(Option<&'a (dyn Error + 'static)>);

impl<'a> Iterator for Causes<'a> {
    type Item = &'a (dyn Error + 'static);

    fn next(&mut self) -> Option<Self::Item> {
        let error = self.0?;
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        self.0 = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
        Some(error)
    }
}

/// What kube's text of these errors may show, a plugin's output, is left out.
pub(super) fn credential_trouble(error: &AuthError) -> String {
    let by_hand = "run it by hand as this process's user to see why; what it prints is not shown \
                   here, it may hold credentials";
    match error {
        AuthError::AuthExecStart(cause) => format!(
            "the credential command cannot be started ({cause}): install it on every replica"
        ),
        AuthError::AuthExecRun { out, .. } => {
            format!("the credential command failed ({}): {by_hand}", out.status)
        }
        AuthError::AuthExecParse(_)
        | AuthError::ExecPluginFailed
        | AuthError::MalformedTokenExpirationDate(_)
        | AuthError::UnrefreshableTokenResponse
        | AuthError::AuthExec(_) => {
            format!("the credential command did not print an ExecCredential: {by_hand}")
        }
        AuthError::MissingCommand => "the kubeconfig's exec names no command".into(),
        AuthError::ReadTokenFile(cause, path) => {
            format!("the token file {} cannot be read ({cause})", path.display())
        }
        AuthError::InvalidBearerToken(_) | AuthError::InvalidBasicAuth(_) => {
            "the token or password holds characters that cannot be sent, perhaps a line end".into()
        }
        _ => "the credentials cannot be used".into(),
    }
}

fn tls_trouble(error: &rustls::Error) -> Trouble {
    let (text, hint) = match error {
        rustls::Error::InvalidCertificate(reason) => return certificate_trouble(reason),
        rustls::Error::AlertReceived(_) => (
            error.to_string(),
            "a client certificate is missing, has expired, or is not signed by its authority",
        ),
        rustls::Error::InvalidMessage(_) => (
            "the endpoint does not speak TLS".to_owned(),
            "correct the port or the scheme of `server`",
        ),
        other => (other.to_string(), ""),
    };
    Trouble { text, hint }
}

fn certificate_trouble(reason: &CertificateError) -> Trouble {
    let (text, hint) = match reason {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "its certificate is not signed by an authority that the kubeconfig trusts",
            "correct certificate-authority-data",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            "its certificate is for other host names",
            "use one of these names in `server`, or set tls-server-name",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "its certificate has expired",
            "renew it there, and check the clock here",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            "its certificate is not valid yet",
            "check the clocks, there and here",
        ),
        other => {
            return Trouble {
                text: format!("its certificate is refused ({other})"),
                hint: "",
            };
        }
    };
    Trouble {
        text: text.to_owned(),
        hint,
    }
}

fn transport_trouble(error: &io::Error, text: &str) -> Trouble {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
        UnexpectedEof,
    };
    let hint = match error.kind() {
        ConnectionRefused => "nothing listens there: is it up, and is the port of `server` right?",
        HostUnreachable | NetworkUnreachable | TimedOut => {
            "unreachable from this replica: check routes and firewalls"
        }
        ConnectionReset | UnexpectedEof => {
            "it closed the connection: check it, and any proxy in between"
        }
        _ if text.contains("lookup address") => {
            "the name does not resolve on this replica: correct `server`, or its DNS"
        }
        _ => "",
    };
    Trouble {
        text: text.to_owned(),
        hint,
    }
}

/// Of a connection that closed without an error of the operating system, hyper only says so in its
/// own terms.
fn closed_trouble(error: &(dyn Error + 'static)) -> Option<Trouble> {
    let error = error.downcast_ref::<hyper::Error>()?;
    let (text, hint) = if error.is_incomplete_message() {
        let text = "it closed the connection before its answer was complete";
        (text, "check it, and any proxy in between")
    } else if error.is_canceled() || error.is_closed() {
        ("the connection closed before the request was sent", "")
    } else {
        return None;
    };
    Some(Trouble {
        text: text.to_owned(),
        hint,
    })
}

/// An error and its causes, as text. Around every cause stand the errors of kube, which print their
/// cause as well, and of hyper's client, which say only that a request failed: they are left out.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |&error| error.source());
    let shown = causes.filter(|error| !is_wrapper(*error));
    let texts: Vec<_> = shown.map(ToString::to_string).collect();
    texts.join(": ")
}

fn is_wrapper(error: &(dyn Error + 'static)) -> bool {
    error.source().is_some() && (error.is::<kube::Error>() || error.is::<legacy::Error>())
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::ExitStatusExt as _,
        process::{ExitStatus, Output},
    };

    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::{ApiError, AuthError, Duration, Source, StreamSelector, io, legacy};

    #[test]
    fn what_does_not_answer_or_cannot_be_reached_says_where() {
        let selector = StreamSelector::all("v1/events".parse().unwrap());
        let hint = |error: &ApiError| error.hint(&selector, &Source::InCluster);
        let silent = ApiError::Timeout {
            address: None,
            after: Duration::from_secs(10),
        };
        let silent = silent.at(Some("h:6443".into()));
        let said = "the API server at h:6443 did not answer within 10 s";
        assert_eq!(silent.to_string(), said);
        assert!(hint(&silent).contains("firewall"));
        let unreachable = io::Error::from(io::ErrorKind::HostUnreachable);
        let unreachable = ApiError::of(&kube::Error::Service(Box::new(unreachable)));
        assert!(hint(&unreachable).contains("unreachable from this replica"));
    }

    fn get(address: &str) -> http::Request<String> {
        let uri = format!("http://{address}/");
        http::Request::get(uri).body(String::new()).unwrap()
    }

    /// The error of a request that gets these bytes for an answer.
    async fn answered_with(bytes: &[u8]) -> ApiError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let request = get(&listener.local_addr().unwrap().to_string());
        let client = legacy::Client::builder(TokioExecutor::new()).build_http();
        let (answer, ()) = tokio::join!(client.request(request), async {
            let (mut connection, _) = listener.accept().await.unwrap();
            let read = connection.read(&mut [0; 1024]).await.unwrap();
            assert!(read > 0);
            connection.write_all(bytes).await.unwrap();
        });
        ApiError::of(&kube::Error::Service(Box::new(answer.unwrap_err())))
    }

    #[tokio::test]
    async fn a_connection_that_the_server_closes_is_reported_as_closed() {
        let closed = answered_with(b"").await.at(Some("h:6443".into()));
        assert_eq!(
            closed.to_string(),
            "the API server at h:6443 cannot be reached: it closed the connection before its \
             answer was complete"
        );
        let hint = closed.hint_whatever_was_asked(&Source::InCluster);
        assert_eq!(hint, "check it, and any proxy in between");
    }

    #[tokio::test]
    async fn a_connection_that_closes_before_the_request_is_reported_as_closed() {
        let (client, server) = tokio::io::duplex(64);
        let connecting = hyper::client::conn::http1::handshake(TokioIo::new(client));
        let (mut sender, connection) = connecting.await.unwrap();
        drop(server);
        connection.await.unwrap_err();
        let unsent = sender.send_request(get("h")).await.unwrap_err();
        assert_eq!(
            ApiError::of(&kube::Error::HyperError(unsent)).to_string(),
            "the API server cannot be reached: the connection closed before the request was sent"
        );
    }

    #[tokio::test]
    async fn a_cause_is_shown_once_and_without_what_wraps_it() {
        let nonsense = answered_with(b"nonsense\r\n\r\n").await;
        assert_eq!(
            nonsense.to_string(),
            "the API server cannot be reached: invalid HTTP version parsed"
        );
        let other = ApiError::of(&kube::Error::Service("it is odd".into()));
        let shown = other.to_string();
        assert_eq!(shown, "the API server cannot be reached: it is odd");
    }

    #[test]
    fn what_a_credential_command_printed_is_never_shown() {
        let out = Output {
            status: ExitStatus::from_raw(3 << 8),
            stdout: b"SECRET".to_vec(),
            stderr: b"SECRET".to_vec(),
        };
        let failed = AuthError::AuthExecRun {
            cmd: "plugin SECRET".into(),
            out: Box::new(out),
        };
        // A token is renewed within a request, and the error comes wrapped as any other.
        let wrapped = kube::Error::Service(Box::new(failed));
        let shown = ApiError::of(&wrapped);
        assert!(shown.to_string().contains("exit status: 3"), "{shown}");
        assert!(!format!("{shown} {shown:?}").contains("SECRET"), "{shown}");
    }
}
