//! This program once more, in a process of its own: what it costs is counted apart.

use std::process::{Child, Command, Stdio};

/// A process that ends when this is dropped.
pub(crate) struct OwnProcess(pub(crate) Child);

impl OwnProcess {
    /// Starts it with these arguments; its standard input and output are piped.
    pub(crate) fn start(arguments: impl IntoIterator<Item = String>) -> Self {
        let own = std::env::current_exe().expect("this program has a file");
        let child = Command::new(own)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("it starts"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for OwnProcess {
    fn drop(&mut self) {
        // Killing a process that has ended already fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
