//! One of the programs of deploy/clients, and what it wrote.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crc32c::crc32c;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quorumwatch::{
    domain::{
        frame::{Change, GapReason},
        position::Position,
    },
    proto::v1::Gap,
    sim::{Audit, Delivered, SeenGap},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tempfile::TempDir;

use crate::harness::{PATIENCE, Record, eventually, holds};

/// A program that follows. Dropping it kills it.
pub(super) struct Program {
    command: Vec<PathBuf>,
    endpoints: String,
    folder: TempDir,
    child: Option<Child>,
}

/// What the state file says.
#[derive(Deserialize)]
pub(super) struct State {
    cursor: String,
    output_bytes: usize,
}

impl Program {
    /// The program of a language, as `tests/clients/run.sh` has built it; it does not run yet.
    pub(super) fn new(language: &str, ports: &[u16]) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let built = target.join("clients/deploy/clients").join(language);
        let command = match language {
            "python" => vec![built.join(".venv/bin/python"), built.join("follow.py")],
            "go" => vec![built.join("follow")],
            _ => panic!("there is no program in {language}"),
        };
        let missing = command.iter().find(|path| !path.exists());
        assert_eq!(missing, None, "run tests/clients/run.sh, which builds it");
        let endpoints: Vec<_> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        Self {
            command,
            endpoints: endpoints.join(","),
            folder: TempDir::with_prefix("quorumwatch-client-").unwrap(),
            child: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"));
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .args(["--endpoints", &self.endpoints])
            .arg("--output")
            .arg(self.path("events.jsonl"))
            .arg("--state")
            .arg(self.path("state.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Starts it and waits until it has saved a cursor.
    pub(super) async fn start_and_follow(&mut self) {
        self.start();
        holds("the program saves a cursor", PATIENCE, async || {
            fs::exists(self.path("state.json")).unwrap() && !self.state().cursor.is_empty()
        })
        .await;
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until it has logged something so many times.
    pub(super) async fn logs(&self, text: &str, times: usize) {
        let what = format!("the program logs {text:?} {times} times");
        holds(&what, PATIENCE, async || {
            self.log().matches(text).count() >= times
        })
        .await;
    }

    /// The port of the replica that serves it.
    pub(super) fn serving_port(&self) -> u16 {
        let log = self.log();
        let (_, last) = log
            .rsplit_once("following at 127.0.0.1:")
            .expect("it follows");
        last.lines().next().unwrap().trim().parse().unwrap()
    }

    pub(super) fn state(&self) -> State {
        let text = fs::read(self.path("state.json")).unwrap();
        // It is replaced in one step: whenever it is read, it is whole.
        serde_json::from_slice(&text).unwrap()
    }

    fn output(&self) -> Vec<u8> {
        fs::read(self.path("events.jsonl")).unwrap()
    }

    /// The lines that count.
    pub(super) fn journal(&self) -> Vec<u8> {
        let counted = self.state().output_bytes;
        let mut output = self.output();
        assert!(output.len() >= counted, "lines that count are missing");
        output.truncate(counted);
        output
    }

    /// Waits until so many more bytes count.
    pub(super) async fn grows(&self, bytes: usize) {
        let before = self.state().output_bytes;
        holds("the program writes", PATIENCE, async || {
            self.state().output_bytes >= before + bytes
        })
        .await;
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().expect("it runs").id();
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// SIGKILL: no last word, and at the end of the output a line that was begun: the worst moment
    /// for it is too short to be hit by chance.
    pub(super) fn kill_while_writing(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
        let output = File::options().append(true).open(self.path("events.jsonl"));
        let torn = br#"{"kind": "event", "cluster": "sim-1", "resou"#;
        output.unwrap().write_all(torn).unwrap();
    }

    /// SIGTERM: everything that was written counts.
    pub(super) async fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let child = self.child.as_mut().expect("it runs");
        let ended = eventually("the program ends", within, async || {
            child.try_wait().unwrap()
        });
        let (status, _) = ended.await;
        self.child = None;
        assert_eq!(self.output().len(), self.journal().len());
        status
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the program ---\n{}", self.log());
        }
    }
}

/// A line of any kind; what a kind does not have is empty.
#[derive(Deserialize)]
struct Line<'a> {
    kind: String,
    cluster: String,
    resource: String,
    #[serde(default)]
    position: String,
    #[serde(default)]
    r#type: String,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    repaired: bool,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
}

/// Reads lines as what a subscriber was told.
pub(super) fn record_of(journal: &[u8]) -> Record {
    let text = std::str::from_utf8(journal).expect("lines are text");
    assert!(text.is_empty() || text.ends_with('\n'), "a line is torn");
    let mut record = Record::default();
    for line in text.lines() {
        let line: serde_json::Result<Line<'_>> = serde_json::from_str(line);
        take(&mut record, &line.unwrap());
    }
    record
}

fn take(record: &mut Record, line: &Line<'_>) {
    let at = || line.position.parse::<Position>().unwrap();
    let key = (line.cluster.clone(), line.resource.clone());
    match line.kind.as_str() {
        "event" => {
            let change = change(&line.r#type);
            let object = line.object.expect("an event has an object").get();
            deliver(&mut record.audit, line, change, object);
            record.delivered += 1;
            let last = record.reached.get(&key);
            if change != Change::Snapshot && last.is_some_and(|last| at() <= *last) {
                record.not_after += 1;
            }
            record.reached.insert(key, at());
        }
        // Nothing is missing: the program was too slow once more, and the snapshot begins again.
        "gap" if line.reason == "SNAPSHOT_RESTARTED" => {}
        "gap" => {
            record.audit.gap(&gap(line));
            record.gaps.push(Gap::default());
        }
        "synced" => {
            let of = line.resource.parse().unwrap();
            record.audit.synced(&line.cluster, &of, &at().rv);
            record.reached.insert(key, at());
        }
        other => panic!("there is no kind {other:?}"),
    }
}

fn gap(line: &Line<'_>) -> SeenGap {
    assert_eq!(line.reason, "HISTORY_EXPIRED", "no other is provoked");
    let rv = |text: &str| text.parse::<Position>().unwrap().rv;
    SeenGap {
        cluster: line.cluster.clone(),
        resource: line.resource.parse().unwrap(),
        from: Some(line.from.as_str())
            .filter(|from| !from.is_empty())
            .map(rv),
        to: rv(&line.to),
        reason: GapReason::HistoryExpired,
        repaired: line.repaired,
    }
}

fn change(text: &str) -> Change {
    match text {
        "ADDED" => Change::Added,
        "MODIFIED" => Change::Modified,
        "DELETED" => Change::Deleted,
        "SNAPSHOT" => Change::Snapshot,
        other => panic!("there is no change {other:?}"),
    }
}

fn deliver(audit: &mut Audit, line: &Line<'_>, change: Change, object: &str) {
    let Object { metadata } = serde_json::from_str(object).unwrap();
    audit.deliver(&Delivered {
        cluster: line.cluster.clone(),
        resource: line.resource.parse().unwrap(),
        change,
        rv: metadata.resource_version.parse().unwrap(),
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        object_crc: crc32c(object.as_bytes()),
    });
}
