//! `quorumwatch serve`: a replica.

use std::{io, pin::pin, thread, time::Duration};

use tokio::{sync::oneshot, time::timeout};

use super::{Error, configuration::Configuration, interrupt};
use crate::{server, telemetry};

/// How long a replica that lost its parent may take to end in order.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// What a flag says goes over the environment, which goes over the file; nothing is joined.
/// `quorumwatch check` takes the same and says what would be in force.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  quorumwatch serve                              a group of one, for this machine alone
  quorumwatch serve --config quorumwatch.toml    one of three; src/docs/operations.md has the file
  quorumwatch check --config quorumwatch.toml    what would be in force")]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// End when standard input is closed, so that no replica outlives its parent.
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
