//! The `quorumwatch` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Every TLS connection of this process uses ring. It fails only where a provider is installed
    // already, and this is the first line that runs.
    let _ = rustls::crypto::ring::default_provider().install_default();
    quorumwatch::cli::main()
}
