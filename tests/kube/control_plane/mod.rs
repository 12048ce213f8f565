//! A real Kubernetes control plane for one test: its own etcd and its own
//! kube-apiserver as child processes, with nothing shared and no containers.
//!
//! It is not a cluster: there are no nodes, no controllers and no scheduler, so
//! nothing happens in it but what the test does. The binaries come from
//! `tests/kube/build-tools.sh`, which must have been run before.
//!
//! Servers are killed, not stopped, and etcd does not sync its disk: the faults
//! here are those of processes, never of the machine.
#![allow(dead_code, reason = "each test binary uses the part that it needs")]

mod etcd_watch;
mod layout;
mod server;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::Request;
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::time::{Instant, sleep, timeout};

pub(crate) use self::etcd_watch::{EtcdAction, EtcdWatch};
use self::layout::Layout;
use self::server::{Server, run_tool};

/// Any failure here fails the test, so all that counts is what it says.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
/// What every operation of this module returns.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Knows where the binaries are.
const BUILD_TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/build-tools.sh");
/// For a server to be ready. About 2.5 s are usual; the rest is for a machine
/// that runs many of them at once.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// For one request of a readiness check, so that a hung one is asked again.
const PROBE_WITHIN: Duration = Duration::from_secs(5);
/// Interval between two checks of a condition.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// A port found free can be taken before its server binds it; then others are
/// tried. Three losses in a row have another cause.
const PORT_ATTEMPTS: u32 = 3;

/// What differs between control planes. The defaults are those of Kubernetes.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where the API server listens; etcd stays on the loopback.
    pub(crate) address: Ipv4Addr,
    /// How long the API server keeps an Event.
    pub(crate) event_ttl: Duration,
    /// How often the API server compacts etcd; zero means never.
    pub(crate) compaction_interval: Duration,
    /// Feature gates of the API server, such as `("ShardedListAndWatch", true)`.
    pub(crate) feature_gates: Vec<(&'static str, bool)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST,
            event_ttl: Duration::from_secs(60 * 60),
            compaction_interval: Duration::from_secs(5 * 60),
            feature_gates: Vec::new(),
        }
    }
}

/// One etcd and one kube-apiserver, both killed when this is dropped.
///
/// Ports, keys, token and kubeconfig stay the same over restarts and restores,
/// as they do for a cluster that comes back.
pub(crate) struct ControlPlane {
    // The API server is dropped, and so killed, before the etcd that it uses.
    api_server: Option<Server>,
    etcd: Option<Server>,
    client: Client,
    layout: Layout,
}

impl ControlPlane {
    /// Starts a control plane named `name` in the directory `dir/name`, which must
    /// not be in use, and returns once it is ready.
    pub(crate) async fn start(dir: &Path, name: &str, options: Options) -> Result<Self> {
        let binaries = binaries().await?;
        let mut attempt = 1;
        loop {
            let layout = Layout::create(&binaries, &dir.join(name), name, &options)?;
            match Self::start_in(layout).await {
                Err(error) if attempt < PORT_ATTEMPTS && is_lost_port(&error) => attempt += 1,
                result => return result,
            }
        }
    }

    async fn start_in(layout: Layout) -> Result<Self> {
        let etcd = layout.spawn_etcd()?;
        let mut api_server = layout.spawn_api_server()?;
        wait_for_serving_key(&layout, &mut api_server).await?;
        layout.write_kubeconfig()?;
        let mut control_plane = Self {
            api_server: Some(api_server),
            etcd: Some(etcd),
            client: client_of(&layout.kubeconfig_path()).await?,
            layout,
        };
        control_plane.wait_ready().await?;
        Ok(control_plane)
    }

    /// The name it was started with, which is also its context's name.
    pub(crate) fn name(&self) -> &str {
        &self.layout.name
    }

    /// A kubeconfig file of an administrator, with everything inline.
    pub(crate) fn kubeconfig_path(&self) -> PathBuf {
        self.layout.kubeconfig_path()
    }

    /// A client with an administrator's rights; it stays valid over restarts.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// SIGKILL: every connection and watch ends at once.
    pub(crate) fn kill_api_server(&mut self) {
        self.api_server = None;
    }

    /// SIGTERM, without waiting: new connections are refused from here on, but
    /// the process goes on serving watches that are open, for up to a minute.
    pub(crate) fn term_api_server(&mut self) -> Result<()> {
        self.api_server
            .as_ref()
            .ok_or("the API server does not run")?
            .terminate()
    }

    /// Starts the API server again, on its old port, and waits until it is
    /// ready. One that still runs or is still stopping is killed first.
    pub(crate) async fn start_api_server(&mut self) -> Result<()> {
        self.kill_api_server();
        self.api_server = Some(self.layout.spawn_api_server()?);
        self.wait_ready().await
    }

    /// The newest resource version, read from etcd through the API server.
    pub(crate) async fn current_rv(&self) -> Result<u64> {
        let events: Api<Event> = Api::all(self.client());
        let list = events.list(&ListParams::default().limit(1)).await?;
        let resource_version = list
            .metadata
            .resource_version
            .ok_or("a list without an RV")?;
        Ok(resource_version.parse()?)
    }

    /// Makes etcd forget all before its current revision, which is returned.
    pub(crate) async fn etcd_compact(&self) -> Result<u64> {
        let status = self
            .etcdctl(&["endpoint", "status", "--write-out=json"])
            .await?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let revision = status[0]["Status"]["header"]["revision"]
            .as_u64()
            .ok_or_else(|| format!("no revision in etcd's status: {status}"))?;
        self.etcdctl(&["compact", &revision.to_string()]).await?;
        Ok(revision)
    }

    /// Begins to record what etcd commits, from its first revision on. It does not live through a
    /// restore: begin another one after it.
    pub(crate) fn etcd_watch(&self) -> Result<EtcdWatch> {
        EtcdWatch::spawn(self.layout.etcdctl_command(), self.layout.etcd_watch_file())
    }

    /// Deletes a key of etcd, also while there is no API server.
    pub(crate) async fn etcd_delete(&self, key: &str) -> Result<()> {
        let deleted = self.etcdctl(&["del", key]).await?;
        if deleted.trim() == "1" {
            Ok(())
        } else {
            Err(format!("{key} was not there").into())
        }
    }

    /// Saves etcd's present state to the file `path`.
    pub(crate) async fn etcd_snapshot(&self, path: &Path) -> Result<()> {
        self.etcdctl(&["snapshot", "save", utf8(path)?]).await?;
        Ok(())
    }

    /// Goes back to a saved state: both servers are killed, etcd gets a new data
    /// directory made from the snapshot, and both start again. Resource versions
    /// handed out since the snapshot are then handed out a second time.
    pub(crate) async fn etcd_restore(&mut self, path: &Path) -> Result<()> {
        self.api_server = None;
        self.etcd = None;
        self.layout.restores += 1;
        run_tool(self.layout.restore_command(path)).await?;
        self.etcd = Some(self.layout.spawn_etcd()?);
        self.start_api_server().await
    }

    async fn etcdctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.layout.etcdctl_command();
        command.args(arguments);
        run_tool(command).await
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let (Some(etcd), Some(api_server)) = (&mut self.etcd, &mut self.api_server) else {
            return Err("only a control plane that was started gets ready".into());
        };
        loop {
            let reason = match timeout(PROBE_WITHIN, check_ready(&self.client)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            etcd.check_running()?;
            api_server.check_running()?;
            if Instant::now() > deadline {
                return Err(api_server.failure(&format!("is not ready in time: {reason}")));
            }
            // poll: both servers are ready
            sleep(LOOK_EVERY).await;
        }
    }
}

/// The directory with the control plane's binaries. They are not built here: that
/// takes minutes, which a test's time limit must not have to include.
pub(crate) async fn binaries() -> Result<PathBuf> {
    let mut command = Command::new(BUILD_TOOLS);
    command.arg("--print");
    let folder = run_tool(command)
        .await
        .map_err(|error| format!("run tests/kube/build-tools.sh first: {error}"))?;
    Ok(folder.trim_end().into())
}

/// Waits until a first start has written its certificate and, after it, the key.
async fn wait_for_serving_key(layout: &Layout, api_server: &mut Server) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    while !layout.has_serving_key() {
        api_server.check_running()?;
        if Instant::now() > deadline {
            return Err(api_server.failure("wrote no serving key in time"));
        }
        // poll: the API server has written its key
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn client_of(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The API server makes its system namespaces after it has said that it is ready.
async fn check_ready(client: &Client) -> Result<()> {
    client
        .request_text(Request::get("/readyz").body(Vec::new())?)
        .await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for namespace in ["default", "kube-system"] {
        namespaces.get(namespace).await?;
    }
    Ok(())
}

fn is_lost_port(error: &Error) -> bool {
    error.to_string().contains("address already in use")
}

fn utf8(path: &Path) -> Result<&str> {
    Ok(path
        .to_str()
        .ok_or_else(|| format!("{} is not UTF-8", path.display()))?)
}
