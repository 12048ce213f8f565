//! Publishes one stream: what its session gives, stamped, under the lease.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{agreement::Agreement, reconcile::RunKey};
use crate::{
    clock::unix_now,
    domain::{
        command::{BeginEra, Command, Outcome, Rejection},
        event::GapReason,
        id::Era,
        stream::EraStart,
    },
    group::lease::LeaseClock,
    pipeline::owned::OwnedStream,
    raft::ProposeError,
    watcher::{Signal, Signals},
};

/// The pause before a command that found no leader is proposed again.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(200);

/// One stream of a run.
pub(super) struct StreamRun {
    pub(super) group: Arc<dyn Agreement>,
    pub(super) lease: LeaseClock,
    pub(super) owned: Arc<OwnedStream>,
    pub(super) cluster: String,
    /// The run that it is part of.
    pub(super) key: RunKey,
    /// The era that it publishes in.
    pub(super) era: Option<Era>,
}

/// Why a stream is published no longer.
pub(super) enum Ended {
    /// The session has ended, the shard has another owner or another run, or it is gone.
    Over,
    /// What answers is registered already, as this cluster.
    Duplicate(Duplicate),
    /// The watch was opened before the last owner stopped, and cannot be continued: it begins again
    /// at the checkpoint.
    Behind,
}

/// The cluster that answers is registered under another name.
pub(super) struct Duplicate {
    /// The name of the other registration.
    pub(super) of: String,
    /// The identity of the cluster that answers.
    pub(super) uid: String,
}

impl StreamRun {
    /// Publishes until the session ends or may not continue.
    pub(super) async fn run(mut self, mut signals: Signals) -> Ended {
        while let Some(signal) = signals.recv().await {
            // Without a lease nothing is published; the session's queue fills, then its socket,
            // and it resumes from there.
            self.lease.wait().await;
            match signal {
                Signal::Events(events) => {
                    let late = self.owned.publish(events);
                    if late > 0 {
                        tracing::error!(cluster = %self.cluster, stream = %self.owned.id, late, "events arrived after their resource version was closed");
                    }
                }
                Signal::Closed(rv) => self.owned.close(&rv),
                Signal::Repaired(events) => self.owned.publish_repair(events),
                Signal::Heard => self.owned.hear(),
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
                        run: self.key.run,
                        expected_era: self.era,
                        from: self.owned.checkpoint(),
                        reason,
                        to,
                        repaired,
                        cluster_uid,
                        at: unix_now(),
                    };
                    if let Err(ended) = self.begin_era(begin, granted).await {
                        return ended;
                    }
                }
            }
        }
        Ended::Over
    }

    /// Commits a new era, then lets the session continue in it.
    async fn begin_era(
        &mut self,
        begin: BeginEra,
        granted: oneshot::Sender<()>,
    ) -> Result<(), Ended> {
        let start = loop {
            if let Some(start) = self.propose(&begin).await? {
                break start;
            }
            tokio::time::sleep(RETRY_AFTER).await;
        };
        let (reason, to) = (start.reason, &start.to);
        if reason == GapReason::StreamCreated {
            tracing::info!(cluster = %self.cluster, stream = %self.owned.id, %to, "stream begins");
        } else {
            tracing::warn!(cluster = %self.cluster, stream = %self.owned.id, ?reason, %to, repaired = start.repaired, "stream lost continuity, starting a new era");
        }
        self.era = Some(start.era);
        self.owned.begin_era(start);
        // Where the session has ended meanwhile, the next owner resumes from the committed era.
        let _ = granted.send(());
        Ok(())
    }

    /// How the era began, once it is known to be committed and applied here; `None` to try again.
    async fn propose(&self, begin: &BeginEra) -> Result<Option<EraStart>, Ended> {
        let proposed = match self.group.submit(Command::BeginEra(begin.clone())).await {
            Ok(proposed) => proposed,
            Err(error @ ProposeError::Unknown(_)) => {
                // Proposed again, it takes effect once at most.
                tracing::debug!(%error, "outcome of the new era unknown, retrying");
                return Ok(self.begun(begin));
            }
            Err(error) => {
                tracing::debug!(%error, "new era not committed, retrying");
                return Ok(None);
            }
        };
        let revision = proposed.revision;
        while !self.group.wait_applied(revision, RETRY_AFTER * 10).await {
            tracing::debug!(%revision, "waiting for the new era to be applied");
        }
        match proposed.outcome {
            // Where it is gone by now, the run is over, too.
            Outcome::Era(_) => self.begun(begin).map(Some).ok_or(Ended::Over),
            // It took effect before, its outcome unknown; nobody else begins eras of this run.
            Outcome::Rejected(Rejection::StaleEra(era)) => {
                let begun = self.begun(begin);
                if begun.is_none() {
                    tracing::error!(cluster = %self.cluster, stream = %self.owned.id, ?era, "stream is in an unknown era");
                }
                begun.map(Some).ok_or(Ended::Over)
            }
            Outcome::Rejected(Rejection::DuplicateCluster { of }) => {
                let uid = begin.cluster_uid.clone();
                Err(Ended::Duplicate(Duplicate { of, uid }))
            }
            Outcome::Rejected(Rejection::StaleCheckpoint) => Err(Ended::Behind),
            _ => Err(Ended::Over),
        }
    }

    /// How the era began that this proposal asked for, if the state here knows it.
    fn begun(&self, begin: &BeginEra) -> Option<EraStart> {
        let state = self.group.state();
        let start = state.streams.get(&self.owned.id)?.era.as_ref()?;
        let is_own = Some(start.era) > begin.expected_era
            && start.reason == begin.reason
            && start.to == begin.to
            && start.at == begin.at;
        is_own.then(|| start.clone())
    }
}
