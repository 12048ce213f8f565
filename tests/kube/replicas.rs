//! The replicas of one group, as processes.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use quorumwatch::client::{Endpoint, Endpoints};

/// The replicas' names.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];
/// Ports below those that systems hand out to outgoing connections (32768 and up): one of those
/// could take the port of a killed replica before it is back.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How much of each log is shown after a failure.
const LOG_LINES: usize = 60;

/// A group of three. Dropping it kills them all; after a panic it shows the ends of their logs.
pub(crate) struct Replicas {
    replicas: Vec<Replica>,
    flags: Vec<String>,
}

struct Replica {
    name: &'static str,
    client_address: String,
    peer_address: String,
    folder: PathBuf,
    child: Option<Child>,
}

impl Replicas {
    /// Starts them with these flags, besides those that every replica needs.
    pub(crate) fn start(folder: &Path, flags: Vec<String>) -> Self {
        let ports = free_ports(NAMES.len() * 2);
        let address = |port: u16| format!("127.0.0.1:{port}");
        let replica = |(name, ports): (&'static str, &[u16])| {
            let folder = folder.join(name);
            fs::create_dir_all(&folder).unwrap();
            Replica {
                name,
                client_address: address(ports[0]),
                peer_address: address(ports[1]),
                folder,
                child: None,
            }
        };
        let mut all = Self {
            replicas: NAMES
                .into_iter()
                .zip(ports.chunks_exact(2))
                .map(replica)
                .collect(),
            flags,
        };
        for name in NAMES {
            all.launch(name);
        }
        all
    }

    /// Starts one that does not run.
    pub(crate) fn launch(&mut self, name: &str) {
        let peers: Vec<_> = self
            .replicas
            .iter()
            .map(|replica| format!("{}={}", replica.name, replica.peer_address))
            .collect();
        let flags = self.flags.clone();
        let replica = self.get_mut(name);
        assert!(replica.child.is_none(), "{name} runs");
        replica.child = Some(replica.spawn(&peers.join(","), &flags));
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) fn kill(&mut self, name: &str) {
        let replica = self.get_mut(name);
        let mut child = replica.child.take().unwrap();
        assert_eq!(child.try_wait().unwrap(), None, "{name} ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Every endpoint, that of `first` first.
    pub(crate) fn endpoints(&self, first: &str) -> Endpoints {
        let (first, others): (Vec<_>, Vec<_>) = self
            .replicas
            .iter()
            .partition(|replica| replica.name == first);
        Endpoints::new(
            first[0].endpoint(),
            others.into_iter().map(Replica::endpoint),
        )
    }

    /// Every endpoint of a replica that runs, each alone.
    pub(crate) fn running(&self) -> Vec<Endpoints> {
        let running = self
            .replicas
            .iter()
            .filter(|replica| replica.child.is_some());
        running.map(|replica| replica.endpoint().into()).collect()
    }

    /// Any replica that runs first, then the others.
    pub(crate) fn any(&self) -> Endpoints {
        let running = self.replicas.iter().find(|replica| replica.child.is_some());
        self.endpoints(running.unwrap().name)
    }

    fn get_mut(&mut self, name: &str) -> &mut Replica {
        let found = self
            .replicas
            .iter_mut()
            .find(|replica| replica.name == name);
        found.unwrap()
    }
}

impl Replica {
    fn endpoint(&self) -> Endpoint {
        self.client_address.parse().unwrap()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn spawn(&self, peers: &str, flags: &[String]) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorumwatch"));
        command
            .arg("serve")
            .args(["--name", self.name, "--peers", peers])
            .arg("--data-dir")
            .arg(self.folder.join("data"))
            .args(["--client-listen", &self.client_address])
            .args(["--peer-listen", &self.peer_address])
            .args(["--log-format", "text", "--log-level", "quorumwatch=debug"])
            .arg("--exit-with-parent")
            .args(flags);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORUMWATCH_") {
                command.env_remove(name);
            }
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn show_log(&self) {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
        let path = self.log_path();
        eprintln!("== end of {}\n{}", path.display(), end.join("\n"));
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for replica in &mut self.replicas {
            if let Some(mut child) = replica.child.take() {
                // Both fail only for a process that is gone.
                let _ = child.kill();
                let _ = child.wait();
            }
            if std::thread::panicking() {
                replica.show_log();
            }
        }
    }
}

/// Free ports, all different.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    let span = PORTS.end - PORTS.start;
    // Two runs at once begin at different places.
    let offset = u16::try_from(std::process::id() * 31 % u32::from(span)).unwrap();
    let candidates = (0..span).map(|step| PORTS.start + (offset + step) % span);
    let held: Vec<_> = candidates
        .filter_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)))
        .take(count)
        .collect();
    held.into_iter().map(|(port, _)| port).collect()
}
