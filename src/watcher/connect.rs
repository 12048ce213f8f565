//! Connections to API servers, and the client over them: [`connect`].

use std::{io, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connect, Connection, HttpConnector},
    },
    rt::{TokioIo, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _},
};
use rustls::{ClientConfig, client::Resumption, pki_types::ServerName};
use tokio::time::timeout;
use tower::{Service, ServiceBuilder};

use super::{
    PlatformTrust,
    api_error::{ApiError, credential_trouble},
    contained::{Connections, ContainedService},
};
use crate::net;

/// Silence on a connection after which the kernel asks whether the other side is there (T13).
/// One small packet a second for an idle connection, and its answer: the kernels' work alone.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(1);
/// How often it asks again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Data that is not acknowledged for so long means a broken connection, and so does the first
/// question of the kernel when the second is due: just below two seconds. Data is sent three times
/// in this time.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_millis(1_900);
/// Read buffer of a connection. Hyper's own grows to 400 KiB during a burst and stays so.
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Idle connections that are kept: probes and lists of several streams come together.
pub(super) const IDLE_CONNECTIONS_MAX: usize = 4;
/// TLS sessions that are kept to be resumed: a client speaks to one server. The library would make
/// room for 256 at once.
const SESSIONS_MAX: usize = 2;
/// Below the time after which load balancers forget idle connections.
pub(super) const IDLE_CONNECTION_LIFE: Duration = Duration::from_secs(50);

/// Builds the client. Our own HTTP stack under kube's layers: no retries below the session, small
/// read buffers, and a connection that notices when the other side is gone.
pub(super) fn connect(
    config: &Config,
    connect_timeout: Duration,
    platform: &PlatformTrust,
    connections: Connections,
) -> Result<Client, ApiError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.set_keepalive(Some(KEEPALIVE_IDLE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
    secured(config, tcp, platform, connections)
}

/// The same over a network that is not this machine's, and notices by itself when the other side is
/// gone.
pub(super) fn connect_over(
    network: Arc<dyn net::Network>,
    config: &Config,
    connect_timeout: Duration,
    platform: &PlatformTrust,
    connections: Connections,
) -> Result<Client, ApiError> {
    let dial = tower::service_fn(move |server: Uri| {
        let connecting = network.connect(&address_of(&server));
        let connected = async move {
            let connected = timeout(connect_timeout, connecting).await;
            let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            connected.map(TokioIo::new)
        };
        Box::pin(connected) as BoxFuture<'static, io::Result<TokioIo<net::Connection>>>
    });
    secured(config, dial, platform, connections)
}

/// `host:port` of an API server.
pub(super) fn address_of(server: &Uri) -> String {
    let usual = if is_plain(server) { 80 } else { 443 };
    let port = server.port_u16().unwrap_or(usual);
    format!("{}:{port}", server.host().unwrap_or_default())
}

/// With TLS where the kubeconfig asks for it.
fn secured<C>(
    config: &Config,
    tcp: C,
    platform: &PlatformTrust,
    connections: Connections,
) -> Result<Client, ApiError>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Unpin + Send + 'static,
    C::Error: Into<tower::BoxError>,
    C::Future: Unpin + Send + 'static,
{
    if is_plain(&config.cluster_url) {
        return client_over(config, tcp, connections);
    }
    let mut tls = HttpsConnectorBuilder::new()
        .with_tls_config(tls_config(config, platform)?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone()).map_err(|_| {
            ApiError::Client("the kubeconfig's tls-server-name is not a host name".into())
        })?;
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let connector = tls.enable_http1().wrap_connector(tcp);
    client_over(config, connector, connections)
}

/// Whether an API server is reached without TLS.
fn is_plain(server: &Uri) -> bool {
    server.scheme_str() == Some("http")
}

/// What is trusted and what is shown.
fn tls_config(config: &Config, platform: &PlatformTrust) -> Result<ClientConfig, ApiError> {
    let mut config = config.clone();
    let names_authority = config.root_cert.is_some();
    if !names_authority {
        // With none, and not just an empty list, kube reads all that the platform trusts.
        config.root_cert = Some(Vec::new());
    }
    let mut tls = config.rustls_client_config().map_err(|_| {
        ApiError::Client("the kubeconfig's certificates or key are not valid PEM".into())
    })?;
    if !names_authority && !config.accept_invalid_certs {
        let verifier = platform.verifier().map_err(|_| {
            ApiError::Client(
                "the kubeconfig names no certificate authority, and this replica's machine has no \
                 certificates to trust: give it certificate-authority-data"
                    .into(),
            )
        })?;
        tls.dangerous().set_certificate_verifier(verifier);
    }
    tls.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(tls)
}

/// The client, over connections that are made in this way.
fn client_over<C>(
    config: &Config,
    connector: C,
    connections: Connections,
) -> Result<Client, ApiError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let http = legacy::Client::builder(connections)
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION_LIFE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http1_read_buf_exact_size(READ_BUFFER_BYTES)
        .build::<_, Body>(connector);
    let authentication = config.auth_layer().map_err(|error| match error {
        kube::Error::Auth(error) => ApiError::Client(credential_trouble(&error)),
        _ => ApiError::Client("the credentials cannot be used".into()),
    })?;
    let headers = config.extra_headers_layer().map_err(|_| {
        ApiError::Client("the kubeconfig's impersonation cannot be sent in headers".into())
    })?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(authentication)
        .layer(headers)
        .map_err(tower::BoxError::from)
        .service(http);
    let service = ContainedService::new(service);
    Ok(Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube::config::{KubeConfigOptions, Kubeconfig};

    use super::{ClientConfig, Config, PlatformTrust, is_plain, tls_config};

    async fn config(cluster: &str) -> Config {
        let yaml = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{{cluster}}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\n"
        );
        let kubeconfig = Kubeconfig::from_yaml(&yaml).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        config.unwrap()
    }

    fn tls(config: &Config, platform: &PlatformTrust) -> ClientConfig {
        let _ = rustls::crypto::ring::default_provider().install_default();
        tls_config(config, platform).unwrap()
    }

    #[tokio::test]
    async fn what_the_platform_trusts_is_read_once_and_only_where_it_is_asked_for() {
        let platform = PlatformTrust::default();
        assert!(is_plain(
            &config("server: 'http://h:8080'").await.cluster_url
        ));
        let authority = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap();
        let data = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            authority.cert.pem(),
        );
        let named = format!("server: 'https://h', certificate-authority-data: {data}");
        let insecure = "server: 'https://h', insecure-skip-tls-verify: true";
        for cluster in [named.as_str(), insecure] {
            tls(&config(cluster).await, &platform);
            assert!(!platform.is_read(), "{cluster}");
        }
        let nobody_named = config("server: 'https://h'").await;
        tls(&nobody_named, &platform);
        let first = platform.verifier().unwrap();
        tls(&nobody_named, &platform.clone());
        assert!(Arc::ptr_eq(&first, &platform.verifier().unwrap()));
        // This test's own, the keeper's, and one in the client configurations that are gone.
        assert_eq!(Arc::strong_count(&first), 2);
    }
}
