//! A shell of its own, in namespaces of its own: nothing outside has its ports, and nothing that it
//! started outlives it.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::harness::{eventually, holds};

/// What is printed after each command, followed by its exit code.
const MARK: &str = "~~ended~~";

/// How long a command may take; those that never end must have shown what they are to show.
const PATIENCE: Duration = Duration::from_secs(30);

/// A shell. Dropping it kills everything in it.
pub(super) struct Shell {
    child: Child,
    /// Its own process, as it is called out here.
    shell_pid: u32,
    stdin: ChildStdin,
    output: Arc<Mutex<Vec<u8>>>,
    pub(super) folder: TempDir,
}

/// How a command ended.
pub(super) struct Ended {
    /// What it printed, to wherever.
    pub(super) output: String,
    /// `None` where it was ended by Ctrl-C.
    pub(super) code: Option<i32>,
}

/// `unshare` with what it needs here, or why there is no such thing.
fn namespaces() -> Result<Command, String> {
    let mut refused = String::new();
    for user in [&[][..], &["--map-root-user"]] {
        let mut command = Command::new("unshare");
        command.args(user);
        command.args(["--net", "--pid", "--fork", "--kill-child"]);
        let tried = Command::new(command.get_program())
            .args(command.get_args())
            .args(["ip", "link", "set", "lo", "up"])
            .output();
        match tried {
            Ok(output) if output.status.success() => return Ok(command),
            Ok(output) => refused = String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => refused = error.to_string(),
        }
    }
    Err(format!(
        "`unshare` and `ip` cannot make a network here: {refused}"
    ))
}

impl Shell {
    /// Starts one in an empty directory, the program in its `PATH`; fails where this machine cannot.
    pub(super) async fn start() -> Result<Self, String> {
        let mut command = namespaces()?;
        let folder = TempDir::with_prefix("quorumwatch-documented-").unwrap();
        let programs = Path::new(env!("CARGO_BIN_EXE_quorumwatch")).parent();
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", programs.unwrap().display());
        let mut child = command
            .args(["bash", "--norc", "--noprofile"])
            .env("PATH", path)
            // Nobody's own contexts and addresses.
            .env("HOME", folder.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("QUORUMWATCH_CONTEXT")
            .env_remove("QUORUMWATCH_CLIENT_CONFIG")
            .env_remove("QUORUMWATCH_ENDPOINTS")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut stdout = child.stdout.take().unwrap();
        let sink = Arc::clone(&output);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                sink.lock().unwrap().extend(&buffer[..read]);
            }
        });
        let (shell_pid, _) = eventually("the shell runs", PATIENCE, async || {
            children(child.id()).first().copied()
        })
        .await;
        let stdin = child.stdin.take().unwrap();
        let mut shell = Self {
            child,
            shell_pid,
            stdin,
            output,
            folder,
        };
        shell
            .run("exec 2>&1; ip link set lo up", |_| false)
            .await
            .map(|_| shell)
    }

    /// Runs a command. Once `is_enough` holds of its output, Ctrl-C is pressed.
    pub(super) async fn run(
        &mut self,
        command: &str,
        is_enough: impl Fn(&str) -> bool,
    ) -> Result<Ended, String> {
        self.output.lock().unwrap().clear();
        let background = children(self.shell_pid);
        writeln!(
            self.stdin,
            "{{\n{command}\n}} < /dev/null\nprintf '%s %s\\n' '{MARK}' $?"
        )
        .map_err(|error| format!("the shell is gone: {error}"))?;
        let start = Instant::now();
        let mut is_interrupted = false;
        while start.elapsed() < PATIENCE {
            let output = String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned();
            if let Some((output, code)) = output.split_once(MARK)
                && let Some((code, _)) = code.split_once('\n')
            {
                let code = code.trim().parse::<i32>().unwrap();
                return Ok(Ended {
                    output: without_notices(output),
                    code: (!is_interrupted).then_some(code),
                });
            }
            if !is_interrupted && is_enough(&output) {
                is_interrupted = true;
                for pid in children(self.shell_pid) {
                    if !background.contains(&pid) {
                        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT);
                    }
                }
            }
            // poll: output comes in pieces
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let output = String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned();
        Err(format!(
            "`{command}` has not ended in {PATIENCE:?}:\n{output}"
        ))
    }

    /// Waits until nothing runs in the background.
    pub(super) async fn is_idle(&self) {
        let what = "the document ends what it began";
        holds(what, PATIENCE, async || children(self.shell_pid).is_empty()).await;
    }
}

/// Without what the shell itself says when something in the background was killed: it comes with
/// whatever is typed next.
fn without_notices(output: &str) -> String {
    let is_notice = |line: &str| {
        line.starts_with("bash: line ")
            && [" Killed ", " Terminated "]
                .iter()
                .any(|end| line.contains(end))
    };
    let lines = output.lines().filter(|line| !is_notice(line));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The processes that a process has begun and that have not been waited for.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    let alive = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    let pids = text.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter(alive).collect()
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The shell is the first process of its namespace, and takes all others with it.
        let _ = kill(Pid::from_raw(self.shell_pid.cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
