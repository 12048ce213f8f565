//! One cluster's API server: [`ApiServer`] builds the client, sends requests, and tells failures
//! apart. It knows nothing of sessions.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _},
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tower::ServiceBuilder;

use super::{
    CredentialError, CredentialPolicy, WatchPolicy,
    credentials::reject_credentials,
    frames::{Malformed, Status, read_list_version, read_status, read_uid},
    requests,
};
use crate::domain::{
    cluster::{Cluster, Condition, ResourceSelector, Source},
    position::ResourceVersion,
    watch_session::Failure,
};

/// Silence on a connection after which the kernel asks whether the other side is there (T13).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(2);
/// How often it asks again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Data that is not acknowledged for so long means a broken connection.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// Read buffer of a connection. Hyper's own grows to 400 KiB during a burst and stays so.
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Idle connections that are kept: probes and lists of several streams come together.
const IDLE_CONNECTIONS_MAX: usize = 4;
/// Below the time after which load balancers forget idle connections.
const IDLE_CONNECTION_LIFE: Duration = Duration::from_secs(50);
/// Longest body of an error that is read.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// Longest page of a list: a page of fewer objects is asked for beyond it.
const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A client is not built again within this time: its streams would otherwise each run a credential
/// plugin.
const BUILD_PAUSE: Duration = Duration::from_secs(1);

/// Why a request failed. Never shows a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    /// The kubeconfig is refused.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// No client can be built. The cause is not shown: it may carry what a plugin printed.
    #[error("cannot build a client: {0}")]
    Build(&'static str),
    /// The API server answered with an error.
    #[error("the API server answered {} {}", .0.code, .0.message)]
    Status(Status),
    /// No answer.
    #[error("the API server cannot be reached: {0}")]
    Transport(String),
    /// No answer in time.
    #[error("the API server did not answer within {0:?}")]
    Timeout(Duration),
    /// An answer that is none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// More bytes than a page may have.
    #[error("a list page of one object is longer than {PAGE_BYTES_MAX} bytes")]
    PageTooLong,
}

impl ApiError {
    /// What a session needs to know.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Status(status) => status_failure(status),
            _ => Failure::Other {
                retry_after_ms: None,
            },
        }
    }

    /// What it says about the cluster.
    pub(super) fn condition(&self) -> Condition {
        match self {
            Self::Credentials(_) | Self::Build(_) => Condition::Unauthorised,
            Self::Status(status) if matches!(status.code, 401 | 403) => Condition::Unauthorised,
            Self::Status(_) | Self::Malformed(_) | Self::PageTooLong => Condition::Degraded,
            Self::Transport(_) | Self::Timeout(_) => Condition::Unreachable,
        }
    }

    /// How long the server asks us to wait.
    pub(super) fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Status(status) => status.retry_after_ms,
            _ => None,
        }
    }

    /// The status code, where there is one.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status.code),
            _ => None,
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

/// One cluster's API server. Cheap to clone; clones share connections.
#[derive(Clone)]
pub(super) struct ApiServer(Arc<Shared>);

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) url: String,
    /// What kind of credential they carry; not the credential.
    pub(super) credential: &'static str,
}

struct Shared {
    cluster: Arc<Cluster>,
    credentials: Arc<CredentialPolicy>,
    policy: WatchPolicy,
    /// The client, or why there is none, and since when.
    client: Mutex<Option<(Result<Client, ApiError>, Instant)>>,
}

impl ApiServer {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        credentials: Arc<CredentialPolicy>,
        policy: WatchPolicy,
    ) -> Self {
        Self(Arc::new(Shared {
            cluster,
            credentials,
            policy,
            client: Mutex::new(None),
        }))
    }

    /// Where the cluster is, and what kind of credential goes there. Sends nothing.
    pub(super) async fn target(&self) -> Result<Target, ApiError> {
        let config = self.configure().await?;
        Ok(Target {
            url: config.cluster_url.to_string(),
            credential: kind_of_credential(&config.auth_info),
        })
    }

    /// Limits and times.
    pub(super) fn policy(&self) -> &WatchPolicy {
        &self.0.policy
    }

    /// The resource version of a consistent list, and the cluster's identity; the latter is empty
    /// where it may not be read.
    pub(super) async fn probe(
        &self,
        selector: &ResourceSelector,
    ) -> Result<(ResourceVersion, String), ApiError> {
        let list = self.get(requests::probe(selector));
        let (list, identity) = tokio::join!(list, self.get(requests::identity()));
        let version = read_list_version(&list?)?;
        let uid = match identity {
            Ok(namespace) => read_uid(&namespace)?,
            Err(error) if matches!(error.code(), Some(403 | 404)) => String::new(),
            Err(error) => return Err(error),
        };
        Ok((version, uid))
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn get(
        &self,
        request: http::Result<Request<Body>>,
    ) -> Result<Bytes, ApiError> {
        let mut body = self.open(request).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.next_chunk(&mut body).await? {
            if bytes.len() + chunk.len() > PAGE_BYTES_MAX {
                return Err(ApiError::PageTooLong);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Sends a request and waits for the head of the answer; what is no success is an error.
    pub(super) async fn open(
        &self,
        request: http::Result<Request<Body>>,
    ) -> Result<Body, ApiError> {
        let request = request.map_err(|_| ApiError::Build("a selector does not fit in a URL"))?;
        let limit = self.0.policy.response_timeout;
        let answer = async {
            let client = self.client().await?;
            client
                .send(request)
                .await
                .map_err(|error| send_error(&error))
        };
        let response = timeout(limit, answer)
            .await
            .map_err(|_| ApiError::Timeout(limit))??;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            self.forget_client().await;
        }
        Err(ApiError::Status(self.read_error(response).await))
    }

    async fn read_error(&self, response: Response<Body>) -> Status {
        let code = response.status().as_u16();
        let retry_after_ms = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse::<u32>().ok())
            .map(|seconds| u64::from(seconds) * 1_000);
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        while let Ok(Some(chunk)) = self.next_chunk(&mut body).await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ERROR_BYTES_MAX {
                break;
            }
        }
        let status = read_status(&bytes);
        Status {
            code,
            retry_after_ms: retry_after_ms.or(status.retry_after_ms),
            ..status
        }
    }

    async fn next_chunk(&self, body: &mut Body) -> Result<Option<Bytes>, ApiError> {
        let limit = self.0.policy.response_timeout;
        timeout(limit, read_chunk(body))
            .await
            .map_err(|_| ApiError::Timeout(limit))?
    }

    async fn client(&self) -> Result<Client, ApiError> {
        let mut slot = self.0.client.lock().await;
        if let Some((built, since)) = &*slot
            && (built.is_ok() || since.elapsed() < BUILD_PAUSE)
        {
            return built.clone();
        }
        let built = self.build().await;
        *slot = Some((built.clone(), Instant::now()));
        built
    }

    /// The credentials were refused: they may have been renewed at their source (trap T26).
    async fn forget_client(&self) {
        let mut slot = self.0.client.lock().await;
        if slot
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() >= BUILD_PAUSE)
        {
            *slot = None;
        }
    }

    async fn build(&self) -> Result<Client, ApiError> {
        let config = self.configure().await?;
        let connect_timeout = self.0.policy.connect_timeout;
        // A credential plugin runs inside, and is waited for without yielding.
        tokio::task::spawn_blocking(move || connect(&config, connect_timeout))
            .await
            .unwrap_or(Err(ApiError::Build("the credential plugin panicked")))
    }

    async fn configure(&self) -> Result<Config, ApiError> {
        let credentials = &self.0.credentials;
        let (kubeconfig, context) = match &self.0.cluster.spec.source {
            Source::InCluster => {
                return Config::incluster().map_err(|_| {
                    ApiError::Build("this replica does not run in a pod with a service account")
                });
            }
            Source::KubeconfigFile { path, context } => {
                let path = credentials.admit_file(Path::new(path))?;
                let read = tokio::task::spawn_blocking(move || Kubeconfig::read_from(path)).await;
                let read = read.ok().and_then(Result::ok);
                (read.ok_or(CredentialError::Malformed)?, context)
            }
            Source::KubeconfigInline { yaml, context } => {
                reject_credentials(yaml)?;
                (parse(yaml)?, context)
            }
            Source::Configured { name } => {
                let configured = credentials.configured(name)?;
                (parse(&configured.yaml)?, &configured.context)
            }
        };
        credentials.admit(&kubeconfig, context)?;
        let options = KubeConfigOptions {
            context: Some(context.clone()).filter(|name| !name.is_empty()),
            ..KubeConfigOptions::default()
        };
        Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|_| ApiError::Build("the kubeconfig's URL or certificates cannot be read"))
    }
}

fn kind_of_credential(user: &AuthInfo) -> &'static str {
    if user.exec.is_some() {
        "a credential command"
    } else if user.token.is_some() || user.token_file.is_some() {
        "a token"
    } else if user.client_certificate.is_some() || user.client_certificate_data.is_some() {
        "a client certificate"
    } else if user.username.is_some() {
        "a password"
    } else {
        "no credential"
    }
}

/// The next bytes of a body; `None` at its end.
pub(super) async fn read_chunk(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(ApiError::Transport(chain(&error))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn parse(yaml: &str) -> Result<Kubeconfig, CredentialError> {
    Kubeconfig::from_yaml(yaml).map_err(|_| CredentialError::Malformed)
}

/// Builds the client. Our own HTTP stack under kube's layers: no retries below the session, small
/// read buffers, and a connection that notices when the other side is gone.
fn connect(config: &Config, connect_timeout: Duration) -> Result<Client, ApiError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.set_keepalive(Some(KEEPALIVE_IDLE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let tls = config
        .rustls_https_connector_with_connector(tcp)
        .map_err(|_| ApiError::Build("the certificates or the key cannot be used"))?;
    let http = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION_LIFE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http1_read_buf_exact_size(READ_BUFFER_BYTES)
        .build::<_, Body>(tls);
    let authentication = config.auth_layer().map_err(|_| {
        ApiError::Build("the token file cannot be read or the credential plugin failed")
    })?;
    let headers = config
        .extra_headers_layer()
        .map_err(|_| ApiError::Build("the kubeconfig's impersonation cannot be sent"))?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(authentication)
        .layer(headers)
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

fn send_error(error: &kube::Error) -> ApiError {
    match error {
        // Its text may carry what a plugin printed.
        kube::Error::Auth(_) => {
            ApiError::Build("the token file cannot be read or the credential plugin failed")
        }
        kube::Error::Service(source) => ApiError::Transport(chain(source.as_ref())),
        other => ApiError::Transport(chain(other)),
    }
}

/// An error and its causes, for people.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
