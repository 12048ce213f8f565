//! One of the consumers of deploy/clients.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{FOLLOWING, database::Database};
use crate::harness::{PATIENCE, holds};

/// A consumer. Dropping it kills it.
pub(super) struct Consumer {
    pub(super) language: String,
    command: Vec<PathBuf>,
    endpoints: Vec<String>,
    folder: TempDir,
    child: Option<Child>,
}

impl Consumer {
    /// The consumer of a language, as `tests/clients/run.sh` has built it; it does not run yet.
    pub(super) fn new(language: &str, ports: &[u16]) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let built = target.join("clients/deploy/clients");
        let command = match language {
            "python" => vec![
                built.join("python/.venv/bin/python"),
                built.join("python/examples/consumer.py"),
            ],
            "go" => vec![built.join("go/consumer")],
            "rust" => {
                let binaries = Path::new(env!("CARGO_BIN_EXE_quorumwatch")).parent();
                vec![binaries.unwrap().join("examples/consumer")]
            }
            _ => panic!("there is no consumer in {language}"),
        };
        let missing = command.iter().find(|path| !path.exists());
        assert_eq!(missing, None, "run tests/clients/run.sh, which builds it");
        let endpoints = ports.iter().map(|port| format!("127.0.0.1:{port}"));
        Self {
            language: language.to_owned(),
            command,
            endpoints: endpoints.collect(),
            folder: TempDir::with_prefix("quorumwatch-client-").unwrap(),
            child: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn database(&self) -> Database {
        Database::open(&self.path("events.db"))
    }

    pub(super) fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"));
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .arg(self.path("events.db"))
            .args(&self.endpoints)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Starts it and waits until it has saved a cursor.
    pub(super) async fn start_and_follow(&mut self) {
        self.start();
        let what = format!("{} saves a cursor", self.language);
        holds(&what, PATIENCE, async || {
            self.path("events.db").exists() && self.database().has_cursor()
        })
        .await;
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// How often it has logged something.
    pub(super) fn logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Waits until it has logged something so many times.
    pub(super) async fn logs(&self, text: &str, times: usize) {
        let what = format!("{} logs {text:?} {times} times", self.language);
        holds(&what, PATIENCE, async || self.logged(text) >= times).await;
    }

    /// The port of the replica that serves it, or served it last.
    pub(super) fn serving_port(&self) -> u16 {
        let log = self.log();
        let (_, last) = log.rsplit_once(FOLLOWING).expect("it follows");
        let (_, port) = last.split_once(':').expect("an address has a port");
        let digits = port.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap().parse().unwrap()
    }

    /// Waits until it has saved so many more events.
    pub(super) async fn grows(&self, events: u64) {
        let wanted = self.database().events() + events;
        let what = format!("{} saves {events} events", self.language);
        holds(&what, PATIENCE, async || self.database().events() >= wanted).await;
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().expect("it runs").id();
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// SIGKILL: no last word.
    pub(super) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let ended = child.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "{} has ended by itself: {ended:?}",
            self.language
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.language, self.log());
        }
    }
}
