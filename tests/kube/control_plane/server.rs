//! Child processes: servers, which run until they are dropped, and tools, which
//! run once. It knows nothing of Kubernetes.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::time::timeout;

use super::{Error, Result};

/// For one tool, which takes some 50 ms.
const TOOL_WITHIN: Duration = Duration::from_secs(30);
/// How much of a server's log goes into an error.
const LOG_TAIL_LINES: usize = 15;

/// A running server, killed when dropped. Its log stays behind, and a restart
/// appends to it, to look into a failure.
#[derive(Debug)]
pub(super) struct Server {
    program: &'static str,
    child: Child,
    log: PathBuf,
}

impl Server {
    pub(super) fn spawn(program: &'static str, mut command: Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{program}.log"));
        let log_file = OpenOptions::new().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .spawn()
            .map_err(|error| format!("start {program}: {error}"))?;
        Ok(Self {
            program,
            child,
            log,
        })
    }

    /// SIGTERM, without waiting for what it does.
    pub(super) fn terminate(&self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        signal::kill(pid, Signal::SIGTERM)?;
        Ok(())
    }

    /// Fails once the process has ended, which no server does by itself.
    pub(super) fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.failure(&format!("ended by itself: {status}"))),
        }
    }

    /// An error about this server, with the end of its log.
    pub(super) fn failure(&self, what: &str) -> Error {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        format!(
            "{} {what}\n{}:\n{}",
            self.program,
            self.log.display(),
            tail.join("\n")
        )
        .into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that is gone, and then all is well. The
        // wait is short after SIGKILL; after it, the port is free again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end and gives what it printed.
pub(super) async fn run_tool(command: Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut command = tokio::process::Command::from(command);
    let output = timeout(
        TOOL_WITHIN,
        command.stdin(Stdio::null()).kill_on_drop(true).output(),
    )
    .await
    .map_err(|_| format!("{name} took more than {} s", TOOL_WITHIN.as_secs()))?
    .map_err(|error| format!("run {name}: {error}"))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name}: {}: {}", output.status, message.trim_end()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
