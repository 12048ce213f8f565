//! Namespaces of this program's own: for networks, mounts and processes.
//!
//! It starts itself again as the first process of them. When that process ends, however it does,
//! the kernel ends every replica, also a frozen one, and removes networks and mounts.

use std::{
    future::Future,
    process::{ExitCode, Stdio},
};

use tokio::process::Command;

/// Says that this process runs in namespaces of its own.
const INSIDE: &str = "MOVES_ISOLATED";

const UNSHARE: [&str; 8] = [
    "--net",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
    "--",
];

/// Whether this process runs in namespaces of its own.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Why there can be no namespaces here; `None` where there can.
pub(crate) fn missing() -> Option<String> {
    let works = |program: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !nix::unistd::geteuid().is_root() {
        Some("networks of their own need root".into())
    } else if !works("ip", &["-V"]) {
        Some("there is no ip (iproute2)".into())
    } else if !works("nsenter", &["--version"]) {
        Some("there is no nsenter (util-linux)".into())
    } else if !works("unshare", &[&UNSHARE[..], &["ip", "rule"]].concat()) {
        Some("unshare (util-linux) may not make namespaces here".into())
    } else {
        None
    }
}

/// Runs the same program in namespaces of its own, and returns its exit code. It ends when this
/// process does: its standard input ends then.
pub(crate) async fn entered(mut interrupted: impl Future<Output = ()> + Unpin) -> ExitCode {
    let own = std::env::current_exe().expect("this program has a file");
    let mut command = Command::new("unshare");
    command
        .args(UNSHARE)
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        // A Ctrl-C reaches this process alone: API servers and replicas that end by themselves would
        // leave writes without an answer, and the figures so far would wait for them.
        .process_group(0)
        .stdin(Stdio::piped());
    let mut child = command.spawn().expect("it was tried before");
    let input = child.stdin.take();
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = &mut interrupted => {
            drop(input);
            child.wait().await
        }
    };
    let code = ended.expect("a child can be waited for").code();
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Waits until the process that started this one has ended, or wants this one to.
pub(crate) async fn parent_ends() {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    if is_inside() {
        // A thread of its own: the end of the program does not wait for it.
        std::thread::spawn(move || {
            // An error is an end as well.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            drop(ended);
        });
        let _ = end.await;
    } else {
        std::future::pending::<()>().await;
    }
}
