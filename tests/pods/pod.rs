//! A container without a container engine: a process that sees the image's file system read-only,
//! its volumes, and its own network, as a user without any privilege.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::{
    image::{Image, entrypoint},
    wait::eventually,
};

/// One volume.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    /// On this machine.
    pub(crate) from: PathBuf,
    /// In the container.
    pub(crate) to: String,
    pub(crate) is_writable: bool,
}

/// What a container is made of.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) root: PathBuf,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) user: u32,
    /// A network namespace; this machine's where it is not set.
    pub(crate) network: Option<String>,
    pub(crate) environment: BTreeMap<String, String>,
}

impl Container {
    pub(crate) fn of(image: &Image, user: u32) -> Self {
        Self {
            root: image.root.clone(),
            mounts: Vec::new(),
            user,
            network: None,
            environment: BTreeMap::new(),
        }
    }

    /// The image's program with these arguments.
    pub(crate) fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-ec"])
            .args([&self.script(), "sh"])
            .arg(entrypoint())
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            );
        command
    }

    /// Mounts, then becomes the program: the process keeps its id all the way.
    fn script(&self) -> String {
        let root = self.root.display();
        let mut script = format!(
            "mount --bind '{root}' '{root}'\n\
             mount -o remount,bind,ro '{root}'\n"
        );
        for mount in &self.mounts {
            let (from, to) = (mount.from.display(), &mount.to);
            script += &format!("mount --bind '{from}' '{root}{to}'\n");
            if !mount.is_writable {
                script += &format!("mount -o remount,bind,ro '{root}{to}'\n");
            }
        }
        let user = self.user;
        let network = self.network.as_ref();
        let network = network.map_or_else(String::new, |path| format!("nsenter --net='{path}' "));
        script += &format!(
            "exec {network}setpriv --no-new-privs chroot --userspec={user}:{user} \
             --groups={user} '{root}' \"$@\"\n"
        );
        script
    }
}

/// A running container. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it logs is added to the file `log`.
    pub(crate) fn start(container: &Container, arguments: &[String], log: &Path) -> Self {
        let mut log_file = File::options().create(true).append(true).open(log).unwrap();
        writeln!(log_file, "== started").unwrap();
        // It ends when we do, however that comes.
        let arguments: Vec<_> = arguments
            .iter()
            .cloned()
            .chain(["--exit-with-parent".into()])
            .collect();
        let child = container
            .command(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log_file)
            .spawn()
            .unwrap();
        Self {
            child,
            log: log.into(),
        }
    }

    /// Its number on this machine.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) fn kill(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; how it ended, and how long that took.
    pub(crate) async fn terminate(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let process = Pid::from_raw(self.id().try_into().unwrap());
        signal::kill(process, Signal::SIGTERM).unwrap();
        let ended = async || self.child.try_wait().unwrap();
        let (status, _) = eventually("it stops within its grace", within, ended).await;
        (status, begun.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
