//! One replica: a process of the real executable.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quorumwatch::client::Endpoint;

use super::{client::Client, ports::free_ports, wait::eventually};

/// How a replica ended by itself.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    /// What it wrote to its log and to standard error, all of it.
    pub(crate) log: String,
}

/// One replica. Dropping it kills it.
pub(crate) struct Replica {
    pub(crate) name: String,
    /// Where it listens: the loopback, unless it has a network of its own.
    pub(crate) host: String,
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
    /// Where its data, its log and its configuration are.
    pub(crate) folder: PathBuf,
    /// Flags after the usual ones.
    pub(crate) flags: Vec<String>,
    pub(crate) log_format: &'static str,
    /// A command that is given the replica's own command to run in its place.
    pub(crate) wrapper: Vec<String>,
    child: Option<Child>,
    is_frozen: bool,
}

impl Replica {
    /// A replica with ports of its own that does not run yet; `config` is TOML.
    pub(crate) fn new(name: &str, folder: &Path, config: &str) -> Self {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.toml"), config).unwrap();
        let [client_port, peer_port] = free_ports();
        Self {
            name: name.to_owned(),
            host: "127.0.0.1".to_owned(),
            client_port,
            peer_port,
            folder,
            flags: Vec::new(),
            log_format: "text",
            wrapper: Vec::new(),
            child: None,
            is_frozen: false,
        }
    }

    pub(crate) fn peer_flag(&self) -> String {
        format!("{}={}:{}", self.name, self.host, self.peer_port)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        let address = format!("{}:{}", self.host, self.client_port);
        address.parse().unwrap()
    }

    /// A connection to it, opened at the first call.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.endpoint())
    }

    /// Starts the process.
    pub(crate) fn launch(&mut self, peers: &str) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"));
        // `EXECUTABLE` is another build of it, to compare the two.
        let other = std::env::var("EXECUTABLE").ok();
        let executable = other
            .as_deref()
            .unwrap_or(env!("CARGO_BIN_EXE_quorumwatch"));
        let own = [executable, "serve"];
        let mut words = self.wrapper.iter().map(String::as_str).chain(own);
        let mut command = Command::new(words.next().expect("two words at least"));
        command
            .args(words)
            .args(["--name", &self.name])
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--config")
            .arg(self.folder.join("config.toml"))
            .args([
                "--client-listen",
                &format!("{}:{}", self.host, self.client_port),
            ])
            .args([
                "--peer-listen",
                &format!("{}:{}", self.host, self.peer_port),
            ])
            .args(["--peers", peers])
            .args(["--log-format", self.log_format, "--exit-with-parent"])
            .args(&self.flags);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORUMWATCH_") {
                command.env_remove(name);
            }
        }
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.child = Some(child.unwrap());
        self.is_frozen = false;
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Whether it can answer.
    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some() && !self.is_frozen
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it as a power cut would: SIGKILL, no last word. The process is gone on return.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended by itself cannot be killed any more.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// Freezes it: SIGSTOP.
    pub(crate) fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
        self.is_frozen = true;
    }

    /// Wakes it: SIGCONT.
    pub(crate) fn thaw(&mut self) {
        self.signal(Signal::SIGCONT);
        self.is_frozen = false;
    }

    /// Asks it to stop: SIGTERM. Returns when it has.
    pub(crate) async fn terminate(&mut self, within: Duration) -> Exit {
        self.signal(Signal::SIGTERM);
        self.exit(within).await
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("it was launched");
        child.try_wait().unwrap().is_some()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn exit(&mut self, within: Duration) -> Exit {
        let what = format!("{} ends", self.name);
        let child = self.child.as_mut().expect("it was launched");
        let (status, _) = eventually(&what, within, async || child.try_wait().unwrap()).await;
        self.child = None;
        Exit {
            status,
            log: self.log(),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("it was launched");
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// What it has logged that nobody should ever see.
    pub(crate) fn alarms(&self) -> Vec<String> {
        // openraft calls it an error that a peer still speaks to a replica that stops in order.
        let is_expected = |line: &str| line.contains("openraft") && line.contains("raft stopped");
        let is_alarm = |line: &&str| {
            line.contains("panicked at") || line.contains(" ERROR ") && !is_expected(line)
        };
        let log = self.log();
        log.lines().filter(is_alarm).map(str::to_owned).collect()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}
