//! Where one control plane's files and ports are, and the command lines that
//! follow from them. It holds no process.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::server::Server;
use super::{Options, Result};

/// The fixed facts of a control plane, and how often it was restored.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) name: String,
    dir: PathBuf,
    binaries: PathBuf,
    options: Options,
    ports: Ports,
    /// How often etcd was restored: each restore has its own data directory.
    pub(super) restores: u32,
}

impl Layout {
    pub(super) fn create(
        binaries: &Path,
        dir: &Path,
        name: &str,
        options: &Options,
    ) -> Result<Self> {
        let layout = Self {
            name: name.to_owned(),
            dir: dir.to_owned(),
            binaries: binaries.to_owned(),
            options: options.clone(),
            ports: Ports::find_free(options.address)?,
            restores: 0,
        };
        fs::create_dir_all(layout.certificate_dir())?;
        let token_line = format!("{},admin,admin,\"system:masters\"\n", layout.token());
        fs::write(layout.token_file(), token_line)?;
        Ok(layout)
    }

    pub(super) fn kubeconfig_path(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    fn token_file(&self) -> PathBuf {
        self.dir.join("tokens.csv")
    }

    fn certificate_dir(&self) -> PathBuf {
        self.dir.join("certificates")
    }

    fn serving_key(&self) -> PathBuf {
        self.certificate_dir().join("apiserver.key")
    }

    fn etcd_data_dir(&self) -> PathBuf {
        self.dir.join(format!("etcd-data-{}", self.restores))
    }

    /// Another one per life of etcd.
    pub(super) fn etcd_watch_file(&self) -> PathBuf {
        self.dir.join(format!("etcd-watch-{}.json", self.restores))
    }

    /// Another one per cluster, so that a mix-up of credentials is refused.
    fn token(&self) -> String {
        format!("admin-of-{}", self.name)
    }

    pub(super) fn spawn_etcd(&self) -> Result<Server> {
        let mut command = Command::new(self.binaries.join("etcd"));
        command
            .args(["--unsafe-no-fsync", "--log-level=warn"])
            .arg(flag("--data-dir", &self.etcd_data_dir()))
            .arg(format!("--listen-client-urls={}", self.ports.etcd_url()))
            .arg(format!("--advertise-client-urls={}", self.ports.etcd_url()))
            .arg(format!("--listen-peer-urls={}", self.ports.etcd_peer_url()))
            .args(self.etcd_membership());
        Server::spawn("etcd", command, &self.dir)
    }

    /// etcdctl for this etcd, without a subcommand yet.
    pub(super) fn etcdctl_command(&self) -> Command {
        let mut command = Command::new(self.binaries.join("etcdctl"));
        command.arg(format!("--endpoints={}", self.ports.etcd_url()));
        command
    }

    /// Makes the data directory of the present `restores` from a snapshot.
    pub(super) fn restore_command(&self, snapshot: &Path) -> Command {
        let mut command = Command::new(self.binaries.join("etcdutl"));
        command
            .args(["snapshot", "restore"])
            .arg(snapshot)
            .arg(flag("--data-dir", &self.etcd_data_dir()))
            .args(self.etcd_membership());
        command
    }

    /// A restored data directory holds these, and etcd must be started with the same.
    fn etcd_membership(&self) -> [String; 3] {
        let peer_url = self.ports.etcd_peer_url();
        [
            "--name=only".to_owned(),
            format!("--initial-cluster=only={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
        ]
    }

    pub(super) fn spawn_api_server(&self) -> Result<Server> {
        // The API server writes its serving key before it reads the key for
        // service account tokens, so that one RSA key serves both.
        let key = self.serving_key();
        let event_ttl = self.options.event_ttl.as_millis();
        let compaction_interval = self.options.compaction_interval.as_millis();
        let mut command = Command::new(self.binaries.join("kube-apiserver"));
        command
            .arg(format!("--etcd-servers={}", self.ports.etcd_url()))
            .arg(format!("--secure-port={}", self.ports.api_server))
            .arg(format!("--bind-address={}", self.options.address))
            .arg(format!("--advertise-address={}", self.options.address))
            .arg(flag("--cert-dir", &self.certificate_dir()))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(flag("--service-account-key-file", &key))
            .arg(flag("--service-account-signing-key-file", &key))
            .arg(flag("--token-auth-file", &self.token_file()))
            .args([
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
            ])
            .args([
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.0.0.0/24",
            ])
            .arg(format!("--event-ttl={event_ttl}ms"))
            .arg(format!(
                "--etcd-compaction-interval={compaction_interval}ms"
            ));
        for (gate, enabled) in &self.options.feature_gates {
            command.arg(format!("--feature-gates={gate}={enabled}"));
        }
        Server::spawn("kube-apiserver", command, &self.dir)
    }

    /// Whether a first start has written its certificate and, after it, the key.
    pub(super) fn has_serving_key(&self) -> bool {
        fs::metadata(self.serving_key()).is_ok_and(|metadata| metadata.len() > 0)
    }

    /// JSON is YAML too, and what is JSON needs no quoting rules.
    pub(super) fn write_kubeconfig(&self) -> Result<()> {
        let certificate = fs::read(self.certificate_dir().join("apiserver.crt"))?;
        let cluster = json!({
            "server": format!("https://{}:{}", self.options.address, self.ports.api_server),
            "certificate-authority-data": BASE64_STANDARD.encode(certificate),
        });
        let name = &self.name;
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{ "name": name, "cluster": cluster }],
            "users": [{ "name": name, "user": { "token": self.token() } }],
            "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
        });
        fs::write(
            self.kubeconfig_path(),
            serde_json::to_vec_pretty(&kubeconfig)?,
        )?;
        Ok(())
    }
}

#[derive(Debug)]
struct Ports {
    api_server: u16,
    etcd: u16,
    etcd_peer: u16,
}

impl Ports {
    /// All three are held until all are known, so that they differ.
    fn find_free(address: Ipv4Addr) -> io::Result<Self> {
        let bind = |address: Ipv4Addr| TcpListener::bind((address, 0));
        let local = Ipv4Addr::LOCALHOST;
        let (api_server, etcd, etcd_peer) = (bind(address)?, bind(local)?, bind(local)?);
        Ok(Self {
            api_server: api_server.local_addr()?.port(),
            etcd: etcd.local_addr()?.port(),
            etcd_peer: etcd_peer.local_addr()?.port(),
        })
    }

    fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd)
    }

    fn etcd_peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_peer)
    }
}

/// `--name=path`, also for paths that are not UTF-8.
fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push("=");
    flag.push(path);
    flag
}
