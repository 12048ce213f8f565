//! One cluster's API server: [`ApiServer`] builds the client, sends requests, and distinguishes
//! failures apart. It knows nothing of sessions.

use std::{
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::{
    Client, Config,
    client::Body,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError, LoadDataError},
};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    CredentialError, CredentialPolicy, WatchPolicy,
    api_error::{ApiError, PAGE_BYTES_MAX},
    breaker::Breaker,
    by_cluster::ByCluster,
    connect::{address_of, connect, connect_over},
    contained::Connections,
    credentials::{parse, reject_credentials, without_terminal},
    events::{Status, read_list_version, read_status, read_uid},
    flow_schemas::FlowSchemas,
    liveness::Liveness,
    network::{self, Network},
    requests,
};
use crate::{
    blocking::blocking,
    domain::{
        cluster::{Cluster, Source, StreamSelector},
        position::ResourceVersion,
    },
    memory::Reservation,
    panics::{self, Panic},
};

/// Longest body of an error that is read.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// An answer that is no page is not counted up to this length.
const ANSWER_BYTES: usize = 1024 * 1024;
/// A page is in memory as it came and, object by object, once more while it is taken apart.
pub(super) const COPIES: usize = 2;
/// A client is not built again within this time: its streams would otherwise each run a credential
/// plugin.
const BUILD_PAUSE: Duration = Duration::from_secs(1);

/// One cluster's API server. Cheap to clone; clones share connections, and so do all that reach the
/// cluster in the same way at the same time.
#[derive(Clone)]
pub(super) struct ApiServer(Arc<Shared>);

/// The clients of a replica. Cheap to clone; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Clients(ByCluster<SharedClient>);

fn command_hangs(after: Duration) -> ApiError {
    ApiError::Client(format!(
        "the credential command has been running for {} s; run it by hand to see why",
        after.as_secs()
    ))
}

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
    breaker: Breaker,
    liveness: Liveness,
    client: Arc<SharedClient>,
}

/// A cluster's client, with its connections.
#[derive(Default)]
struct SharedClient {
    slot: Mutex<Slot>,
    /// `host:port` of the API server, once a kubeconfig has named it.
    address: std::sync::Mutex<Option<Arc<str>>>,
    connections: Connections,
    flow_schemas: FlowSchemas,
}

/// The client, or the way to it.
#[derive(Default)]
struct Slot {
    /// The client, or the error of building it, and since when.
    built: Option<(Result<Client, ApiError>, Instant)>,
    /// Builds it. It continues when nobody waits any more: a credential command that hangs is not
    /// started again and again.
    building: Option<JoinHandle<Result<Result<Client, ApiError>, Panic>>>,
}

impl ApiServer {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        credentials: Arc<CredentialPolicy>,
        policy: WatchPolicy,
    ) -> Self {
        Self(Arc::new(Shared {
            breaker: policy.breakers.of(&cluster, &policy.chance),
            client: policy.clients.0.of(&cluster, SharedClient::default),
            cluster,
            credentials,
            policy,
            liveness: Liveness::default(),
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

    /// The cluster's name.
    pub(super) fn cluster(&self) -> &str {
        self.0.cluster.spec.name.as_str()
    }

    /// Limits and times.
    pub(super) fn policy(&self) -> &WatchPolicy {
        &self.0.policy
    }

    /// What holds requests back while the API server is in trouble.
    pub(super) fn breaker(&self) -> &Breaker {
        &self.0.breaker
    }

    /// What notices that the API server has fallen silent.
    pub(super) fn liveness(&self) -> &Liveness {
        &self.0.liveness
    }

    /// Sends a request that is not held back, and reads the answer.
    pub(super) async fn read_all(
        &self,
        request: http::Result<Request<Body>>,
    ) -> Result<(), ApiError> {
        let mut body = self.send(request).await?.into_body();
        while self.next_chunk(&mut body).await?.is_some() {}
        Ok(())
    }

    /// The resource version of a consistent list, and the cluster's identity; the latter is empty
    /// where it may not be read.
    pub(super) async fn probe(
        &self,
        selector: &StreamSelector,
    ) -> Result<(ResourceVersion, String), ApiError> {
        let list = self.get(requests::probe(selector));
        let (list, identity) = tokio::join!(list, self.cluster_uid());
        Ok((read_list_version(&list?)?, identity?))
    }

    /// The UID of kube-system, which is the cluster's; empty where it may not be read.
    async fn cluster_uid(&self) -> Result<String, ApiError> {
        let answer = match self.answer(requests::identity()).await {
            Ok(answer) => answer,
            Err(error) if matches!(error.code(), Some(403 | 404)) => return Ok(String::new()),
            Err(error) => return Err(error),
        };
        let (head, body) = answer.into_parts();
        let uid = read_uid(&self.read_body(body).await?)?;
        self.0.client.flow_schemas.learn(&head.headers, &uid);
        Ok(uid)
    }

    /// Opens a watch, of this cluster where that is known, and finds out which cluster answers; empty
    /// where that may not be read.
    pub(super) async fn watch(
        &self,
        request: http::Result<Request<Body>>,
        expected: Option<&str>,
    ) -> Result<(Body, String), ApiError> {
        let (head, body) = self.answer(request).await?.into_parts();
        let Some(expected) = expected else {
            return Ok((body, String::new()));
        };
        let flow_schemas = &self.0.client.flow_schemas;
        if let Some(uid) = flow_schemas.cluster_of(&head.headers) {
            return Ok((body, uid));
        }
        let uid = self.cluster_uid().await?;
        // Before and after: so it was in between.
        if uid == expected {
            flow_schemas.learn(&head.headers, &uid);
        }
        Ok((body, uid))
    }

    /// Sends a request and reads the whole answer, which is small, unless the API server does not
    /// know how to limit a list.
    pub(super) async fn get(
        &self,
        request: http::Result<Request<Body>>,
    ) -> Result<Bytes, ApiError> {
        let body = self.open(request).await?;
        self.read_body(body).await
    }

    async fn read_body(&self, mut body: Body) -> Result<Bytes, ApiError> {
        let mut bytes = BytesMut::new();
        let mut held = None;
        while let Some(chunk) = self.next_chunk(&mut body).await? {
            let needed = bytes.len() + chunk.len();
            if needed > ANSWER_BYTES && held.is_none() {
                // All at once: who waits for memory must not hold some.
                let pages = &self.0.policy.budgets.pages;
                held = Some(pages.reserve(PAGE_BYTES_MAX).await);
            }
            if held.as_ref().is_some_and(|held| held.bytes() < needed) {
                return Err(ApiError::PageTooLong);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Sends a request and reads a page of a list. `held` is its memory, and grows with it where
    /// there is some; if there is none the page is too long.
    pub(super) async fn get_page(
        &self,
        request: http::Result<Request<Body>>,
        held: &mut Reservation,
    ) -> Result<Bytes, ApiError> {
        let mut body = self.open(request).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.next_chunk(&mut body).await? {
            let needed = COPIES * (bytes.len() + chunk.len());
            let grown = needed.max(2 * held.bytes()).min(COPIES * PAGE_BYTES_MAX);
            let fits = needed <= held.bytes()
                || held.try_resize(grown) && needed <= held.bytes()
                || held.try_resize(needed) && needed <= held.bytes();
            if !fits {
                return Err(ApiError::PageTooLong);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Sends a request, unless the breaker holds it back, and waits for the head of the answer;
    /// what is no success is an error.
    pub(super) async fn open(
        &self,
        request: http::Result<Request<Body>>,
    ) -> Result<Body, ApiError> {
        self.answer(request).await.map(Response::into_body)
    }

    async fn answer(
        &self,
        request: http::Result<Request<Body>>,
    ) -> Result<Response<Body>, ApiError> {
        self.0.breaker.admit()?;
        let answer = self.send(request).await;
        self.0.breaker.learn(&answer);
        answer
    }

    async fn send(&self, request: http::Result<Request<Body>>) -> Result<Response<Body>, ApiError> {
        let request =
            request.map_err(|_| ApiError::Client("a selector does not fit in a URL".into()))?;
        let verb = requests::verb(&request);
        // Its connection broke, for a reason that it cannot know.
        self.0.client.connections.resume_panic();
        let limit = self.0.policy.response_timeout;
        let client = timeout(limit, self.client())
            .await
            .map_err(|_| command_hangs(limit))??;
        let response = match timeout(limit, client.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(ApiError::of(&error).at(self.address())),
            Err(_) => return Err(self.timed_out(limit)),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            self.forget_client().await;
        }
        let status = self.read_error(response).await;
        Err(ApiError::Status { verb, status })
    }

    fn address(&self) -> Option<Arc<str>> {
        let address = &self.0.client.address;
        let address = address.lock().unwrap_or_else(PoisonError::into_inner);
        address.clone()
    }

    fn set_address(&self, found: String) {
        let address = &self.0.client.address;
        let mut address = address.lock().unwrap_or_else(PoisonError::into_inner);
        *address = Some(found.into());
    }

    /// The cause of a timeout of this length, when the caller has given up.
    pub(super) fn no_answer(&self, after: Duration) -> ApiError {
        let is_building = self.0.client.slot.try_lock();
        if is_building.map_or(true, |slot| slot.building.is_some()) {
            command_hangs(after)
        } else {
            self.timed_out(after)
        }
    }

    fn timed_out(&self, after: Duration) -> ApiError {
        let address = self.address();
        ApiError::Timeout { address, after }
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
        let mut status = read_status(&bytes);
        if status.message.is_empty() && !bytes.is_empty() {
            status.message = "a page that is not of an API server".into();
        }
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
            .map_err(|_| self.timed_out(limit))?
            .map_err(|error| error.at(self.address()))
    }

    async fn client(&self) -> Result<Client, ApiError> {
        let mut slot = self.0.client.slot.lock().await;
        if let Some((built, since)) = &slot.built
            && (built.is_ok() || since.elapsed() < BUILD_PAUSE)
        {
            return built.clone();
        }
        let building = slot.building.get_or_insert_with(|| {
            let this = self.clone();
            tokio::spawn(panics::contain(async move { this.build().await }))
        });
        let built = building.await;
        slot.building = None;
        let built = match built {
            Ok(Ok(built)) => built,
            Ok(Err(panic)) => panic.resume(),
            // The runtime ends.
            Err(_) => return std::future::pending().await,
        };
        slot.built = Some((built.clone(), Instant::now()));
        built
    }

    /// Opens so many connections, unless they are there, by a cheap request on each at a time. They
    /// are kept for the next requests.
    ///
    /// It is no attempt that the breaker counts: nobody waits for this cluster here.
    pub(super) async fn open_connections(&self, count: usize) -> Result<(), ApiError> {
        let answers = (0..count).map(|_| self.send(requests::readiness()));
        // A connection is free only once its answer has been read, so that each request needs one
        // of its own until all of them are answered.
        let answers = futures::future::join_all(answers).await;
        for answer in answers {
            match answer {
                Ok(answer) => drop(self.read_body(answer.into_body()).await?),
                // Whatever it thinks of this path, it answers.
                Err(ApiError::Status { status, .. }) if status.code != 401 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The credentials were refused: they may have been renewed at their source (trap T26). Or the
    /// server was not found where the kubeconfig says, which may have been corrected.
    pub(super) async fn forget_client(&self) {
        let mut slot = self.0.client.slot.lock().await;
        if slot
            .built
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() >= BUILD_PAUSE)
        {
            slot.built = None;
        }
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        blocking(&*self.0.policy.blocking, work).await
    }

    async fn build(&self) -> Result<Client, ApiError> {
        if let Network::InProcess(server) = &self.0.policy.network {
            return Ok(network::client(server, self.cluster()));
        }
        let config = self.configure().await?;
        if config.cluster_url.authority().is_some() {
            self.set_address(address_of(&config.cluster_url));
        }
        let connect_timeout = self.0.policy.connect_timeout;
        let platform = self.0.credentials.platform.clone();
        // A credential plugin runs inside, and is waited for without yielding.
        let connections = self.0.client.connections.clone();
        if let Network::Over(network) = &self.0.policy.network {
            let network = Arc::clone(network);
            return connect_over(network, &config, connect_timeout, &platform, connections);
        }
        self.blocking(move || connect(&config, connect_timeout, &platform, connections))
            .await
    }

    async fn configure(&self) -> Result<Config, ApiError> {
        let credentials = &self.0.credentials;
        let (kubeconfig, context) = match &self.0.cluster.spec.source {
            Source::InCluster => {
                return Config::incluster().map_err(|_| {
                    ApiError::Client(
                        "this replica does not run in a pod with a service account: give the \
                         cluster another source than in-cluster"
                            .into(),
                    )
                });
            }
            Source::KubeconfigFile { path, context } => {
                let admitted = credentials.admit_file(Path::new(path))?;
                let read = move || Kubeconfig::read_from(admitted);
                let read = self.blocking(read).await.map_err(|error| {
                    CredentialError::of(&format!("kubeconfig file {path:?}"), &error)
                })?;
                (read, context)
            }
            Source::KubeconfigInline { yaml, context } => {
                reject_credentials(yaml)?;
                (parse("the kubeconfig", yaml)?, context)
            }
            Source::Configured { name } => {
                let configured = credentials.configured(name)?;
                let place = format!("the kubeconfig in [sources.{name}]");
                let yaml = configured.kubeconfig.expose();
                (parse(&place, yaml)?, &configured.context)
            }
        };
        credentials.admit(&kubeconfig, context)?;
        let options = KubeConfigOptions {
            context: Some(context.clone()).filter(|name| !name.is_empty()),
            ..KubeConfigOptions::default()
        };
        Config::from_custom_kubeconfig(without_terminal(kubeconfig), &options)
            .await
            .map_err(|error| ApiError::Client(kubeconfig_trouble(&error)))
    }
}

/// A file that cannot be read, without its content.
fn kubeconfig_trouble(error: &KubeconfigError) -> String {
    let load = |what: &str, error: &LoadDataError| match error {
        LoadDataError::ReadFile(cause, path) => format!(
            "the kubeconfig names {} as {what}, which cannot be read on this replica ({cause}): \
             mount it, or correct the path",
            path.display()
        ),
        _ => format!("the kubeconfig's {what} is not valid base64"),
    };
    match error {
        KubeconfigError::MissingClusterUrl => "the kubeconfig's cluster has no `server`".into(),
        KubeconfigError::ParseClusterUrl(_) => "the kubeconfig's `server` is not a URL".into(),
        KubeconfigError::LoadCertificateAuthority(error) => load("certificate authority", error),
        KubeconfigError::LoadClientCertificate(error) => load("client certificate", error),
        KubeconfigError::LoadClientKey(error) => load("client key", error),
        KubeconfigError::ParseCertificates(_) => {
            "the kubeconfig's certificate authority is not PEM".into()
        }
        _ => "the kubeconfig cannot be used".into(),
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
            Some(Err(error)) => return Err(ApiError::of(&error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
