//! Hands the progress of what is published here to the log, in small coalesced batches.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::agreement::Agreement;
use crate::{
    domain::{
        command::{CheckpointEntry, Command},
        state::State,
    },
    pipeline::owned::{Owned, OwnedStream},
};

/// How often checkpoints are committed: a trade-off between what a new owner must replay and
/// entries in the log.
const EVERY: Duration = Duration::from_millis(250);

/// Most streams in one command, so that it stays a small log entry (about 20 bytes each).
const ENTRIES_MAX: usize = 1_000;

/// How long the last checkpoints of a replica that stops may take.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs until `stop`, then commits what is left.
pub async fn run(group: Arc<dyn Agreement>, owned: Owned, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let next = async {
            tick.tick().await;
            flush(&*group, &owned).await;
        };
        // A stop does not wait for a majority: what is interrupted here is committed below, or
        // replayed by the next owner.
        tokio::select! {
            () = next => {}
            () = stop.cancelled() => break,
        }
    }
    if tokio::time::timeout(LAST_TIMEOUT, flush(&*group, &owned))
        .await
        .is_err()
    {
        tracing::info!(
            "final checkpoint flush timed out; the new owners will replay a little more"
        );
    }
}

async fn flush(group: &dyn Agreement, owned: &Owned) {
    let state = group.state();
    let entries: Vec<_> = owned
        .all()
        .iter()
        .filter_map(|stream| progress(&state, stream))
        .collect();
    // The state is copied on write while it is held, so release it before proposing.
    drop(state);
    for entries in entries.chunks(ENTRIES_MAX) {
        let command = Command::AdvanceCheckpoints {
            entries: entries.to_vec(),
        };
        if let Err(error) = group.submit(command).await {
            // What was not taken is still ahead of the state at the next tick.
            tracing::debug!(%error, "checkpoints not committed, retrying");
            return;
        }
    }
}

/// What is published beyond the checkpoint, if anything is.
fn progress(state: &State, stream: &Arc<OwnedStream>) -> Option<CheckpointEntry> {
    let position = stream.checkpoint()?;
    let known = state.streams.get(&stream.id)?;
    let news = known
        .checkpoint
        .as_ref()
        .is_none_or(|checkpoint| *checkpoint < position);
    news.then(|| CheckpointEntry {
        stream: stream.id,
        epoch: stream.epoch,
        position,
    })
}
