//! The demo's replicas: real processes of this very executable, on loopback, that end with it.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, Command};

use crate::{
    cli::Error,
    client::{Endpoint, Endpoints},
};

/// The replicas' names.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// Ports below those that systems hand out to outgoing connections (32768 and up): one of those
/// could take the port of a killed replica before it is back.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How much of a replica's log is shown when it exits unexpectedly.
const LOG_LINES: usize = 4;

/// One replica.
pub(super) struct Replica {
    pub(super) name: &'static str,
    pub(super) endpoint: Endpoint,
    client_port: u16,
    peer_port: u16,
    directory: PathBuf,
    child: Option<Child>,
    /// The demo has killed it, so its exit is expected.
    is_killed: bool,
}

/// The demo's replicas. Dropping them kills them.
pub(super) struct Replicas {
    replicas: Vec<Replica>,
    /// Flags that all of them are started with.
    flags: Vec<String>,
}

impl Replicas {
    /// Starts all of them, with their data below `directory`.
    pub(super) fn start(directory: &Path, flags: Vec<String>) -> Result<Self, Error> {
        let ports = free_ports(NAMES.len() * 2)?;
        let mut all = Self {
            replicas: Vec::new(),
            flags,
        };
        for (name, ports) in NAMES.into_iter().zip(ports.chunks_exact(2)) {
            let directory = directory.join(name);
            fs::create_dir_all(&directory).map_err(|source| not_started(&directory, source))?;
            let endpoint = format!("127.0.0.1:{}", ports[0]);
            all.replicas.push(Replica {
                name,
                // An address and a port always make an endpoint.
                endpoint: endpoint.parse().map_err(|_| Error::Usage(endpoint))?,
                client_port: ports[0],
                peer_port: ports[1],
                directory,
                child: None,
                is_killed: false,
            });
        }
        for name in NAMES {
            all.launch(name)?;
        }
        Ok(all)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter()
    }

    /// The endpoints, that of `first` first.
    pub(super) fn endpoints(&self, first: &str) -> Endpoints {
        let mut ordered: Vec<_> = self.replicas.iter().collect();
        ordered.sort_by_key(|replica| replica.name != first);
        let mut endpoints = ordered.into_iter().map(|replica| replica.endpoint.clone());
        let first = endpoints.next().expect("NAMES is not empty");
        Endpoints::new(first, endpoints)
    }

    /// The process id of a replica while it runs.
    pub(super) fn pid(&self, name: &str) -> Option<u32> {
        let replica = self.replicas.iter().find(|replica| replica.name == name)?;
        replica.child.as_ref().and_then(Child::id)
    }

    /// Starts a replica that is not running, with its old data and addresses.
    pub(super) fn launch(&mut self, name: &str) -> Result<(), Error> {
        let peers: Vec<_> = self
            .replicas
            .iter()
            .map(|replica| format!("{}=127.0.0.1:{}", replica.name, replica.peer_port))
            .collect();
        let flags = self.flags.clone();
        let Some(replica) = self
            .replicas
            .iter_mut()
            .find(|replica| replica.name == name)
        else {
            return Ok(());
        };
        let launched = replica.spawn(&peers.join(","), &flags);
        launched.map_err(|source| not_started(&replica.directory, source))
    }

    /// Kills a replica with SIGKILL, as a power cut would.
    pub(super) fn kill(&mut self, name: &str) -> Result<(), Error> {
        let replica = self
            .replicas
            .iter_mut()
            .find(|replica| replica.name == name);
        replica.map_or(Ok(()), Replica::kill).map_err(Error::Start)
    }

    /// Waits until a killed replica is gone.
    pub(super) async fn reap(&mut self, name: &str) -> Result<(), Error> {
        for replica in &mut self.replicas {
            if replica.name == name
                && let Some(mut child) = replica.child.take()
            {
                child.wait().await.map_err(Error::Start)?;
            }
        }
        Ok(())
    }

    /// Fails if a replica has exited unexpectedly, with the end of its log.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        for replica in self.replicas.iter_mut().filter(|it| !it.is_killed) {
            let ended = replica.child.as_mut().map(Child::try_wait);
            if let Some(Ok(Some(status))) = ended {
                let name = replica.name;
                let log = replica.log_end();
                return Err(Error::Demo(format!(
                    "replica {name} exited ({status}): {log}"
                )));
            }
        }
        Ok(())
    }

    /// Kills all of them and waits until they are gone.
    pub(super) async fn stop(&mut self) {
        for name in NAMES {
            // A process that cannot be killed is gone already.
            let _ = self.kill(name);
            let _ = self.reap(name).await;
        }
    }
}

impl Replica {
    fn spawn(&mut self, peers: &str, flags: &[String]) -> io::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("serve")
            .args(["--name", self.name])
            .arg("--data-dir")
            .arg(self.directory.join("data"))
            .args([
                "--client-listen",
                &format!("127.0.0.1:{}", self.client_port),
            ])
            .args(["--peer-listen", &format!("127.0.0.1:{}", self.peer_port)])
            .args(["--peers", peers])
            .args(["--log-format", "text", "--exit-with-parent"])
            .args(flags);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORUMWATCH_") {
                command.env_remove(name);
            }
        }
        // A group of its own: Ctrl-C reaches the demo alone, which then ends its replicas.
        let child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        self.child = Some(child);
        self.is_killed = false;
        Ok(())
    }

    fn kill(&mut self) -> io::Result<()> {
        self.is_killed = true;
        self.child.as_mut().map_or(Ok(()), Child::start_kill)
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        // A panic has the cause in its first lines; anything else, in the last ones.
        let panicked = lines.iter().rposition(|line| line.contains("panicked at"));
        let begin = panicked.unwrap_or_else(|| lines.len().saturating_sub(LOG_LINES));
        let end = lines.len().min(begin + LOG_LINES);
        lines[begin..end].join(" | ")
    }
}

fn not_started(directory: &Path, source: io::Error) -> Error {
    Error::File {
        action: "start a replica in",
        path: directory.display().to_string(),
        source,
    }
}

/// Free ports, all different.
fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    let span = PORTS.end - PORTS.start;
    // Two demos at once begin at different places.
    let offset = u16::try_from(std::process::id() * 31 % u32::from(span)).unwrap_or(0);
    let mut held = Vec::new();
    for step in 0..span {
        let port = PORTS.start + (offset + step) % span;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
        if held.len() == count {
            return Ok(held.into_iter().map(|(port, _)| port).collect());
        }
    }
    let all_taken = io::Error::from(io::ErrorKind::AddrInUse);
    Err(Error::Start(all_taken))
}
