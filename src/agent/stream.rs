//! Publishes one stream: what its session tells, stamped, under the lease.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::lease::LeaseClock;
use crate::{
    clock::unix_now,
    domain::{
        command::{BeginEra, CheckpointEntry, Command, Outcome, Rejection},
        frame::GapReason,
        id::Era,
        position::ResourceVersion,
        stream::EraStart,
    },
    pipeline::owned::OwnedStream,
    raft::{ProposeError, Raft},
    watcher::Signal,
};

/// The pause before a command that found no leader is proposed again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// One stream of a run.
pub(super) struct StreamRun {
    pub(super) raft: Raft,
    pub(super) lease: LeaseClock,
    pub(super) owned: Arc<OwnedStream>,
    pub(super) cluster: String,
}

/// The shard has another owner, or is gone.
struct Fenced;

impl StreamRun {
    /// Publishes until the session ends or the shard has another owner.
    pub(super) async fn run(self, mut signals: mpsc::Receiver<Signal>) {
        while let Some(signal) = signals.recv().await {
            // Without a lease nothing is published; the session's queue fills, then its socket,
            // and it goes on from there.
            self.lease.wait().await;
            match signal {
                Signal::Frames(frames) => {
                    let late = self.owned.publish(frames);
                    if late > 0 {
                        tracing::error!(cluster = %self.cluster, stream = %self.owned.id, late, "frames came after their version was closed");
                    }
                }
                Signal::Closed(rv) => self.owned.close(&rv),
                Signal::Repaired(frames) => self.owned.publish_repair(frames),
                Signal::Heard => self.owned.heard(),
                Signal::EraNeeded {
                    reason,
                    to,
                    repaired,
                    cluster_uid,
                    granted,
                } => {
                    let begin = BeginEra {
                        stream: self.owned.id,
                        epoch: self.owned.epoch,
                        reason,
                        to,
                        repaired,
                        cluster_uid,
                        at: unix_now(),
                    };
                    if self.begin_era(begin, granted).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Commits a new era, then lets the session go on in it.
    ///
    /// The checkpoint goes first: a repair begins at it, and whoever repeats the repair must begin
    /// at the same place.
    async fn begin_era(&self, begin: BeginEra, granted: oneshot::Sender<()>) -> Result<(), Fenced> {
        if let Some(position) = self.owned.checkpoint() {
            let (stream, epoch) = (self.owned.id, self.owned.epoch);
            let entries = vec![CheckpointEntry {
                stream,
                epoch,
                position,
            }];
            self.commit(&Command::AdvanceCheckpoints { entries })
                .await?;
        }
        let (reason, to) = (begin.reason, begin.to.clone());
        let era = loop {
            let before = self.current_era();
            match self.commit(&Command::BeginEra(begin.clone())).await? {
                Outcome::Era(era) => break era,
                _ => match self.era_begun_since(before, reason, &to) {
                    Some(era) => break era,
                    None => tokio::time::sleep(RETRY_AFTER).await,
                },
            }
        };
        let start = self.era_start(era).await?;
        if reason == GapReason::StreamCreated {
            tracing::info!(cluster = %self.cluster, stream = %self.owned.id, %to, "stream begins");
        } else {
            tracing::warn!(cluster = %self.cluster, stream = %self.owned.id, ?reason, %to, repaired = start.repaired, "stream lost continuity, a new era begins");
        }
        self.owned.begin_era(start);
        // Where the session has ended meanwhile, the next owner goes on from the committed era.
        let _ = granted.send(());
        Ok(())
    }

    /// Proposes a command until it is known to be committed.
    async fn commit(&self, command: &Command) -> Result<Outcome, Fenced> {
        loop {
            match self.raft.submit(command.clone()).await {
                Ok(proposed) => {
                    self.raft
                        .wait_applied(proposed.revision, RETRY_AFTER * 10)
                        .await;
                    return match proposed.outcome {
                        Outcome::Rejected(
                            Rejection::StaleEpoch(_)
                            | Rejection::NoSuchStream
                            | Rejection::NoSuchCluster,
                        ) => Err(Fenced),
                        outcome => Ok(outcome),
                    };
                }
                Err(ProposeError::Unknown(error)) => {
                    tracing::debug!(%error, "outcome unknown, reading back");
                    tokio::time::sleep(RETRY_AFTER).await;
                    return Ok(Outcome::Done);
                }
                Err(error) => {
                    tracing::debug!(%error, "not committed, trying again");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    fn current_era(&self) -> Option<Era> {
        let state = self.raft.state();
        Some(state.streams.get(&self.owned.id)?.era.as_ref()?.era)
    }

    /// The era that a proposal of unknown outcome began after all.
    fn era_begun_since(
        &self,
        before: Option<Era>,
        reason: GapReason,
        to: &ResourceVersion,
    ) -> Option<Era> {
        let state = self.raft.state();
        let start = state.streams.get(&self.owned.id)?.era.as_ref()?;
        (Some(start.era) > before && start.reason == reason && start.to == *to).then_some(start.era)
    }

    /// How the era began, once it is applied here.
    async fn era_start(&self, era: Era) -> Result<EraStart, Fenced> {
        let id = self.owned.id;
        let mut states = self.raft.watch_state();
        let applied = states
            .wait_for(|state| {
                let stream = state.streams.get(&id);
                stream
                    .is_none_or(|stream| stream.era.as_ref().is_some_and(|start| start.era >= era))
            })
            .await
            .map_err(|_| Fenced)?;
        applied
            .streams
            .get(&id)
            .and_then(|stream| stream.era.clone())
            .ok_or(Fenced)
    }
}
