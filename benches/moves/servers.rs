//! An API server: a simulated one, or a real one.

use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use http::{Method, Request, header};
use quorumwatch::{
    domain::cluster::Resource,
    sim::{Fault, Manifest, SeenRequest, SimCluster},
};
use serde_json::Value;
use tokio::{runtime::Handle, sync::Mutex, time::timeout};

use crate::{
    control_plane::{ControlPlane, Options},
    kind::{Kind, NAMESPACE},
};

/// Objects of a stream. They are created first, then updated in turn.
const OBJECTS: u64 = 50;
/// What an object holds besides its metadata.
const BODY_BYTES: usize = 256;
/// How long a write may take; its client would wait for minutes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// An API server with its cluster. A cheap clone.
#[derive(Clone)]
pub(crate) enum Server {
    Simulated(SimCluster),
    Real(Arc<Real>),
}

/// A kube-apiserver with its etcd.
pub(crate) struct Real {
    control_plane: Mutex<ControlPlane>,
    name: String,
    kubeconfig: String,
    client: kube::Client,
    runtime: Handle,
}

impl Server {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Simulated(cluster) => cluster.name(),
            Self::Real(real) => &real.name,
        }
    }

    /// Writes the change of a number, from 0; returns its version. A real server is waited for: not
    /// to be called by a task.
    pub(crate) fn write(&self, resource: &Resource, number: u64) -> u64 {
        let object = format!("object-{}", number % OBJECTS);
        let is_new = number < OBJECTS;
        match self {
            Self::Simulated(cluster) => {
                let manifest = Manifest::new(NAMESPACE, object)
                    .member("message", &"x".repeat(BODY_BYTES).into())
                    .member("count", &number.into());
                let written = if is_new {
                    cluster.create(resource, &manifest)
                } else {
                    cluster.update(resource, &manifest)
                };
                let version = written.expect("objects are created before they are updated");
                version.as_u64().expect("versions are small")
            }
            Self::Real(real) => {
                let kind = Kind::of(&resource.to_string()).expect("it is one of the kinds");
                let written = real.write(kind, &object, is_new, number);
                let written = async { timeout(WRITE_TIMEOUT, written).await };
                // A timeout is made within the runtime.
                let written = real.runtime.block_on(written);
                written.expect("an API server that is up answers")
            }
        }
    }

    /// Connections are reset from now on; new ones are refused, or closed without an answer.
    pub(crate) async fn kill(&self) {
        match self {
            Self::Simulated(cluster) => cluster.faults().set(Fault::Unreachable),
            Self::Real(real) => real.control_plane.lock().await.kill_api_server(),
        }
    }

    /// It is back, with all that it had committed; returns once it is ready.
    pub(crate) async fn restore(&self) {
        match self {
            Self::Simulated(cluster) => cluster.faults().clear(Fault::Unreachable),
            Self::Real(real) => {
                let mut control_plane = real.control_plane.lock().await;
                let started = control_plane.start_api_server().await;
                started.expect("an API server starts again");
            }
        }
    }

    /// What it was asked lately. A real one does not say.
    pub(crate) fn requests(&self) -> Vec<SeenRequest> {
        match self {
            Self::Simulated(cluster) => cluster.requests(),
            Self::Real(_) => Vec::new(),
        }
    }
}

impl Real {
    pub(crate) async fn start(folder: &Path, name: &str, address: Ipv4Addr) -> Self {
        let options = Options {
            address,
            ..Options::default()
        };
        let control_plane = ControlPlane::start(folder, name, options).await;
        let control_plane = control_plane.expect("a control plane starts");
        let kubeconfig = std::fs::read_to_string(control_plane.kubeconfig_path());
        Self {
            name: name.to_owned(),
            kubeconfig: kubeconfig.expect("it was written"),
            client: control_plane.client(),
            control_plane: Mutex::new(control_plane),
            runtime: Handle::current(),
        }
    }

    pub(crate) fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    async fn write(&self, kind: Kind, name: &str, is_new: bool, number: u64) -> u64 {
        let text = format!("{number} {}", "x".repeat(BODY_BYTES));
        let collection = kind.collection();
        let (method, path, content, body) = if is_new {
            let object = kind.object(name, &text);
            (Method::POST, collection, "application/json", object)
        } else {
            let path = format!("{collection}/{name}");
            let content = "application/merge-patch+json";
            (Method::PATCH, path, content, kind.change(&text))
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content)
            .body(body.to_string().into_bytes())
            .expect("it is a request");
        // One whose outcome is not known would spoil the ledger.
        let answer: Value = self.client.request(request).await.expect("writes succeed");
        let version = answer["metadata"]["resourceVersion"].as_str();
        let version = version.and_then(|version| version.parse().ok());
        version.expect("an object has a version")
    }
}
