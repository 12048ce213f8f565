//! `quorumwatch serve`: a replica.

use std::{io, pin::pin, thread, time::Duration};

use tokio::{sync::oneshot, time::timeout};

use super::{Error, configuration::Configuration, interrupt};
use crate::{server, telemetry};

/// How long a replica may take to shut down after losing its parent.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// Flags override environment variables, which override the file; nothing is merged. `quorumwatch
/// check` takes the same flags and shows the effective values.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  quorumwatch serve                              a group of one, for this machine only
  quorumwatch serve --config quorumwatch.toml    one of three; the file is in src/docs/operations.md
  quorumwatch check --config quorumwatch.toml    what would be in force")]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Exit when standard input is closed, so that no replica outlives its parent.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let exit_with_parent = arguments.exit_with_parent;
    let loaded = arguments.configuration.load();
    let config = loaded.serve?;
    telemetry::start(&config.log)?;
    for warning in loaded.warnings {
        tracing::warn!("{warning}");
    }
    let shutdown = interrupt::token()?;
    let mut running = pin!(server::run(config, shutdown.clone()));
    tokio::select! {
        ended = &mut running => return Ok(ended?),
        () = parent_gone(), if exit_with_parent => shutdown.cancel(),
    }
    match timeout(ORPHAN_GRACE, running).await {
        Ok(ended) => Ok(ended?),
        // Nobody is left who waits for an end in order.
        Err(_) => Ok(()),
    }
}

/// Returns when standard input is closed: the parent holds its other end, and its kernel closes it
/// however the parent ends.
async fn parent_gone() {
    let (gone, parent) = oneshot::channel::<()>();
    thread::spawn(move || {
        // The end, or an error: either way nobody is there any more.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        drop(gone);
    });
    // It fails when the other side is dropped, which is what is waited for.
    let _ = parent.await;
}
