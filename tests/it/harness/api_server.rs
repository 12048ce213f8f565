//! API servers that misbehave as the simulated ones do not: by TLS, and by bytes.

use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};
use tokio_util::task::AbortOnDropHandle;

/// A list without objects, as every API server knows it.
pub(crate) const EMPTY_LIST: &str =
    r#"{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"10"},"items":[]}"#;

/// What a server does with a request, given its head.
pub(crate) type Script = fn(head: &str) -> Reply;

/// One answer.
pub(crate) enum Reply {
    /// These bytes, and the end of the connection.
    Raw(String),
    /// The head of an answer, and then nothing for as long as the server lives.
    Open,
}

impl Reply {
    /// An answer with a JSON body.
    pub(crate) fn json(status: &str, body: &str) -> Self {
        Self::with("application/json", status, "", body)
    }

    /// An answer; `headers` are whole lines.
    pub(crate) fn with(kind: &str, status: &str, headers: &str, body: &str) -> Self {
        Self::Raw(format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n{headers}\
             connection: close\r\n\r\n{body}",
            body.len()
        ))
    }
}

/// A script that serves an empty cluster to everybody.
pub(crate) fn empty_cluster(head: &str) -> Reply {
    let path = head.split(' ').nth(1).unwrap_or_default();
    if path.contains("watch=true") {
        Reply::Open
    } else if path.contains("/namespaces/kube-system") {
        Reply::json("200 OK", &identity(head))
    } else {
        Reply::json("200 OK", EMPTY_LIST)
    }
}

/// The kube-system namespace: each server is a cluster of its own, distinguished by its port.
fn identity(head: &str) -> String {
    let host = head
        .lines()
        .find(|line| line.to_lowercase().starts_with("host:"));
    let uid = host
        .unwrap_or_default()
        .rsplit(':')
        .next()
        .unwrap_or_default();
    format!(r#"{{"metadata":{{"uid":"kube-system-of-{uid}"}}}}"#)
}

/// A server. Dropping it ends it.
pub(crate) struct ApiServer {
    pub(crate) port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl ApiServer {
    /// Serves on a port of the loopback, with TLS where a configuration is given.
    pub(crate) async fn start(script: Script, tls: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::default());
        let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let (seen, tls) = (Arc::clone(&seen), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(connection, script, &seen).await,
                        Some(tls) => {
                            // A handshake that fails is what some tests are about.
                            if let Ok(connection) = tls.accept(connection).await {
                                serve(connection, script, &seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            port,
            heads,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Answers one request.
async fn serve<C: AsyncRead + AsyncWrite + Unpin>(
    mut connection: C,
    script: Script,
    seen: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read_u8().await {
            // As any HTTP server does with a TLS handshake.
            Ok(byte) if head.is_empty() && !byte.is_ascii_uppercase() => {
                let answer = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";
                let _ = connection.write_all(answer).await;
                return;
            }
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    seen.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(head.clone());
    match script(&head) {
        Reply::Raw(answer) => {
            // The client may have gone.
            let _ = connection.write_all(answer.as_bytes()).await;
            let _ = connection.shutdown().await;
        }
        Reply::Open => {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
            let _ = connection.write_all(answer).await;
            let _ = connection.flush().await;
            std::future::pending::<()>().await;
        }
    }
}

/// An authority, and what it has signed.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

/// A certificate with its key, both PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    /// An authority that nobody else knows.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            root: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for this host name or address, valid up to the end of `last_year`.
    pub(crate) fn sign(&self, name: &str, last_year: i32) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }
}

impl Identity {
    /// What a server with this certificate needs; `clients` is who must have signed the client's.
    pub(crate) fn server(&self, clients: Option<&Authority>) -> ServerConfig {
        let config = ServerConfig::builder();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.root.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        config
            .with_single_cert(vec![self.der.clone()], key)
            .unwrap()
    }
}
