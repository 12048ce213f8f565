//! Ctrl-C and SIGTERM.

use std::process;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Error;

/// What shells expect of a process that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// A token that Ctrl-C or SIGTERM cancels. The second signal ends the process at once: whatever
/// the first one waits for is stuck.
pub(super) fn token() -> Result<CancellationToken, Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Start)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Start)?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancelled.is_cancelled() {
                process::exit(EXIT_INTERRUPTED);
            }
            cancelled.cancel();
        }
    });
    Ok(token)
}
