//! The `quorumwatch` command.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Events are allocated by one thread and freed by another when the ring drops them, hundreds of
/// thousands a second: the system's allocator took a fifth of the CPU time for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Every TLS connection of this process uses ring. It fails only where a provider is installed
    // already, and this is the first line that runs.
    let _ = rustls::crypto::ring::default_provider().install_default();
    quorumwatch::cli::main()
}
