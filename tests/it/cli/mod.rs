//! The command line, as people and scripts use it.

mod alone;
mod events;
mod group;
mod mistakes;
mod moves;

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    process::Stdio,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quorumwatch::proto::v1::Event;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

use crate::harness::{Group, PATIENCE};

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// It failed with this code, and said this.
    fn failed(&self, code: i32, said: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(said), "{said:?} is not in {self:?}");
    }
}

/// A command line with a home of its own, and no variables of ours.
pub(crate) struct Cli {
    home: TempDir,
    endpoints: Option<String>,
}

impl Cli {
    /// It knows no group.
    fn alone() -> Self {
        Self {
            home: TempDir::with_prefix("quorumwatch-cli-").unwrap(),
            endpoints: None,
        }
    }

    /// It knows the replicas of a group, that of `first` first.
    pub(crate) fn of(group: &Group, first: usize) -> Self {
        let count = group.replicas.len();
        let turns = (0..count).map(|turn| &group.replicas[(first + turn) % count]);
        let endpoints: Vec<_> = turns
            .map(|replica| replica.endpoint().to_string())
            .collect();
        Self {
            endpoints: Some(endpoints.join(",")),
            ..Self::alone()
        }
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    /// The arguments are what stands between blanks.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorumwatch"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORUMWATCH_") {
                command.env_remove(name);
            }
        }
        command
            .args(line.split_whitespace())
            .current_dir(self.home())
            .env("HOME", self.home())
            .env_remove("XDG_CONFIG_HOME")
            .envs(
                self.endpoints
                    .iter()
                    .map(|all| ("QUORUMWATCH_ENDPOINTS", all)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    async fn run(&self, line: &str) -> Ran {
        ended(self.command(line)).await
    }

    /// Starts a command that prints a stream.
    pub(crate) fn start(&self, line: &str) -> Running {
        let mut child = self.command(line).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let notes = BufReader::new(child.stderr.take().unwrap()).lines();
        Running {
            child,
            lines,
            notes,
            noted: String::new(),
        }
    }
}

async fn ended(mut command: Command) -> Ran {
    // `output` would take standard output from where it was led.
    let child = command.spawn().unwrap();
    let line = format!("{:?}", command.as_std());
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    let output = ended.unwrap_or_else(|_| panic!("{line} does not end"));
    let output = output.unwrap();
    Ran {
        code: output.status.code().expect("no signal ended it"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A command that prints a stream.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    notes: Lines<BufReader<ChildStderr>>,
    /// What it has said on standard error.
    noted: String,
}

impl Running {
    /// The next line.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("a line comes in time")
            .unwrap()
            .expect("it goes on")
    }

    /// Lines up to the first that is wanted.
    async fn line_with(&mut self, wanted: &[&str]) -> String {
        loop {
            let line = self.line().await;
            if wanted.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    /// Waits until it says something on standard error; its lines are taken meanwhile.
    async fn says(&mut self, word: &str, mut take: impl FnMut(&str)) {
        let said = async {
            while !self.noted.contains(word) {
                tokio::select! {
                    line = self.lines.next_line() => take(&line.unwrap().expect("it goes on")),
                    note = self.notes.next_line() => {
                        self.noted += &note.unwrap().expect("it goes on");
                        self.noted.push('\n');
                    }
                }
            }
        };
        let said = timeout(PATIENCE, said).await;
        assert!(said.is_ok(), "{word:?} is not in {:?}", self.noted);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it runs");
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// Ctrl-C, and what it still prints.
    pub(crate) async fn interrupt(self) -> Ran {
        self.signal(Signal::SIGINT);
        self.end().await
    }

    /// Its end, with what it prints until then.
    async fn end(mut self) -> Ran {
        let mut stdout = String::new();
        let mut stderr = self.noted;
        let lines = rest(&mut self.lines, &mut stdout);
        let notes = rest(&mut self.notes, &mut stderr);
        let both = timeout(PATIENCE, futures::future::join(lines, notes)).await;
        both.expect("the output ends");
        let status = timeout(PATIENCE, self.child.wait()).await;
        let code = status.expect("it ends").unwrap().code();
        Ran {
            code: code.expect("no signal ended it"),
            stdout,
            stderr,
        }
    }
}

/// All lines until the end.
async fn rest(lines: &mut Lines<impl AsyncBufRead + Unpin>, text: &mut String) {
    while let Some(line) = lines.next_line().await.unwrap() {
        *text += &line;
        text.push('\n');
    }
}

/// The ids of the events in JSON lines, by cluster.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeMap<String, Vec<String>>);

impl Told {
    pub(crate) fn take(&mut self, line: &str) {
        let frame: serde_json::Value = serde_json::from_str(line).unwrap();
        if let Some(event) = frame.get("event") {
            let text = |field: &str| event[field].as_str().unwrap().to_owned();
            self.0.entry(text("cluster")).or_default().push(text("id"));
        }
    }

    pub(crate) fn take_all(&mut self, lines: &str) {
        lines.lines().for_each(|line| self.take(line));
    }

    pub(crate) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether it has the last event of every cluster.
    pub(crate) fn has_reached(&self, truth: &VecDeque<Event>) -> bool {
        let last: BTreeMap<_, _> = truth
            .iter()
            .map(|event| (&event.cluster, &event.id))
            .collect();
        let reached = |(cluster, id)| self.0.get(cluster).and_then(|ids| ids.last()) == Some(id);
        last.into_iter().all(reached)
    }

    /// Per cluster it is what the truth has, from some moment to some other: nothing is missing,
    /// nothing comes twice.
    pub(crate) fn expect_unbroken(&self, truth: &VecDeque<Event>) {
        assert!(self.count() > 0);
        for (cluster, ids) in &self.0 {
            let truth: Vec<_> = truth
                .iter()
                .filter(|event| event.cluster == *cluster)
                .collect();
            let first = truth.iter().position(|event| event.id == ids[0]);
            let first = first.unwrap_or_else(|| panic!("{cluster}: {} is not known", ids[0]));
            let wanted = truth[first..].iter().map(|event| &event.id).take(ids.len());
            assert!(wanted.eq(ids.iter()), "{cluster}: {ids:?}");
        }
    }
}
