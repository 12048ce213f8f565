//! The deployment without a container engine: the image's file system as a directory, the manifests'
//! pods as processes in namespaces of their own, and the network between them, which can be cut.
//!
//! What needs root (namespaces, mounts) is skipped without it, and says so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a test prints its figures")]

#[path = "../it/harness/client.rs"]
#[allow(dead_code, reason = "shared, and not all of it is needed here")]
mod client;
#[path = "../it/harness/recorder.rs"]
#[allow(dead_code, reason = "shared, and not all of it is needed here")]
mod recorder;
#[path = "../it/harness/wait.rs"]
mod wait;

mod image;
mod manifest;
mod network;
mod pod;
mod world;

mod cuts;
mod group;
mod layout;

use std::process::Command;

use wait::PATIENCE;

/// Says what is missing here for namespaces; `None` where nothing is.
fn missing() -> Option<&'static str> {
    let is_root = nix::unistd::geteuid().is_root();
    let works = |program: &str, arguments: &[&str]| {
        let run = Command::new(program).args(arguments).output();
        run.is_ok_and(|output| output.status.success())
    };
    if !is_root {
        Some("namespaces of their own need root")
    } else if !works("ip", &["netns", "list"]) {
        Some("there is no ip (iproute2)")
    } else if !works("setpriv", &["--no-new-privs", "true"]) {
        Some("there is no setpriv (util-linux)")
    } else if !works("unshare", &["--mount", "--net", "true"]) {
        Some("unshare may not make namespaces here")
    } else {
        None
    }
}

/// Whether a test that needs namespaces can run; says why not.
fn can_run(test: &str) -> bool {
    let missing = missing();
    if let Some(missing) = missing {
        eprintln!("SKIPPED: {test}: {missing}");
    }
    missing.is_none()
}
