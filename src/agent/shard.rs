//! A shard that runs here: its watcher, and what is published of each of its streams.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    options::RunOptions,
    reconcile::RunKey,
    restarts::{Restart, Restarts},
    standby::Standby,
    stream::{Duplicate, Ended, StreamRun},
};
use crate::{
    clock::unix_now,
    domain::{
        cluster::{Condition, Health},
        command::{Command, Rejection},
        delivery::feed::Look,
        history::HistoryItem,
        id::ShardId,
        stream::Stream,
    },
    panics::{Panic, contain},
    pipeline::owned::{History, Owned, OwnedStream},
    watcher::StreamHistory,
};

/// The pause before a report that found no leader is tried again.
const HEALTH_RETRY: Duration = Duration::from_millis(250);

/// How often a cluster that is a duplicate is checked: it is another one once the other
/// registration is deleted, or `duplicate_of` is set.
const DUPLICATE_LOOK: Duration = Duration::from_secs(1);

/// How long the watches of a changed specification may take to open before those of the old one
/// are closed all the same: what the user wants now counts.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A shard that runs here, under one epoch.
pub(super) struct ShardRun {
    keys: watch::Sender<RunKey>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl ShardRun {
    /// Begins at the last owner's checkpoints, with the watches of `standby` where it fits.
    pub(super) fn start(
        options: &RunOptions,
        shard: ShardId,
        key: RunKey,
        standby: Option<Standby>,
    ) -> Self {
        let keys = watch::Sender::new(key);
        let runs = ShardRuns {
            options: options.clone(),
            shard,
            keys: keys.subscribe(),
        };
        let stop = CancellationToken::new();
        let thread = options.watch.threads.of(shard.cluster);
        let task = thread.spawn(runs.run(stop.clone(), standby));
        Self { keys, stop, task }
    }

    pub(super) fn key(&self) -> RunKey {
        *self.keys.borrow()
    }

    /// What is watched has changed: another run under the same epoch follows, after this one.
    pub(super) fn change(&self, key: RunKey) {
        self.keys.send_replace(key);
    }

    /// Ends the run without waiting.
    pub(super) fn abandon(self) {
        self.stop.cancel();
    }

    /// Ends the run and waits until it has ended.
    pub(super) async fn end(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!("shard run failed");
        }
    }
}

/// The runs of a shard under one epoch, one after the other.
struct ShardRuns {
    options: RunOptions,
    shard: ShardId,
    keys: watch::Receiver<RunKey>,
}

impl ShardRuns {
    /// Runs the shard until it is stopped. A panic of what serves this one cluster ends the run, and
    /// another begins at the checkpoints after a pause; the replica and its other shards go on.
    async fn run(mut self, stop: CancellationToken, mut standby: Option<Standby>) {
        let mut restarts = Restarts::default();
        loop {
            let began = Instant::now();
            let ended = contain(self.follow_keys(&stop, standby.take())).await;
            let Err(panic) = ended.and_then(|ended| ended) else {
                return;
            };
            let restart = restarts.panicked(began.elapsed(), &panic.to_string());
            let run = self.current();
            tokio::select! {
                () = run.rest_after(&panic, restart) => {}
                _ = self.keys.changed() => restarts.reset(),
                () = stop.cancelled() => return,
            }
        }
    }

    /// The run that is due now.
    fn current(&mut self) -> Run {
        Run {
            options: self.options.clone(),
            shard: self.shard,
            key: *self.keys.borrow_and_update(),
        }
    }

    /// Runs one after the other, as what is watched changes.
    async fn follow_keys(
        &mut self,
        stop: &CancellationToken,
        mut standby: Option<Standby>,
    ) -> Result<(), Panic> {
        loop {
            let replaced = stop.child_token();
            let run = self.current().run(replaced.clone(), standby.take());
            tokio::pin!(run);
            tokio::select! {
                ended = &mut run => return ended,
                next = self.next() => standby = next,
            }
            // Two runs of one epoch must not publish at the same time.
            replaced.cancel();
            run.await?;
        }
    }

    /// Waits until what is watched has changed, and for the new watches. The old ones continue
    /// meanwhile.
    async fn next(&mut self) -> Option<Standby> {
        self.changed().await;
        let until = Instant::now() + CHANGE_TIMEOUT;
        loop {
            let standby = Standby::open(&self.options, self.shard)?;
            let opening = timeout_at(until, standby.opening(false).wait());
            tokio::select! {
                opened = opening => {
                    if let Ok(Err(reason)) = opened {
                        tracing::warn!(cluster = %standby.cluster, reason, "cannot watch the cluster as changed");
                    }
                    return Some(standby);
                }
                // It has changed again, and nobody wants these watches any more.
                () = self.changed() => {}
            }
        }
    }

    async fn changed(&mut self) {
        if self.keys.changed().await.is_err() {
            // The run is being ended.
            std::future::pending::<()>().await;
        }
    }
}

/// One run of a shard, under one epoch and one specification of its cluster.
struct Run {
    options: RunOptions,
    shard: ShardId,
    key: RunKey,
}

impl Run {
    /// Watches and publishes until it is stopped; not while the cluster is a duplicate.
    async fn run(self, stop: CancellationToken, mut standby: Option<Standby>) -> Result<(), Panic> {
        let name = self.options.group.state().shard_name(self.shard);
        tracing::info!(shard = %name, epoch = %self.key.epoch, "shard run starts");
        while let Some(interruption) = self.watch(&stop, standby.take()).await {
            let duplicate = match interruption {
                Interruption::Duplicate(duplicate) => duplicate,
                Interruption::Behind => {
                    tracing::info!(shard = %name, "prepared watches cannot be used, opening new ones");
                    continue;
                }
                Interruption::Panicked(panic) => return Err(panic),
            };
            tokio::select! {
                () = self.wait_while(duplicate) => {}
                () = stop.cancelled() => break,
            }
        }
        tracing::info!(shard = %name, epoch = %self.key.epoch, "shard run ended");
        Ok(())
    }

    /// Watches and publishes from the checkpoints on until it is stopped, or interrupted.
    async fn watch(
        &self,
        stop: &CancellationToken,
        standby: Option<Standby>,
    ) -> Option<Interruption> {
        let Standby {
            cluster,
            streams,
            watcher,
            signals,
            health,
            ..
        } = self.fitting(standby).await?;
        let mut published = Published::new(&self.options.owned);
        let mut tasks = JoinSet::new();
        for (id, signals) in signals {
            let stream = streams.iter().find(|stream| stream.id == id);
            let (Some(stream), Some(history)) = (stream, watcher.history(id)) else {
                continue;
            };
            let run = self.publish(stream, history, cluster.clone());
            published.streams.push(run.owned.clone());
            // A task each: what comes for one stream wakes nothing else.
            tasks.spawn(contain(run.run(signals)));
        }
        let interruption = tokio::select! {
            interruption = first_interruption(&mut tasks) => Some(interruption),
            panic = watcher.panicked() => Some(Interruption::Panicked(panic)),
            () = self.report_changes(health) => None,
            () = stop.cancelled() => None,
        };
        tasks.shutdown().await;
        watcher.stop().await;
        interruption
    }

    /// The watches to publish from: those that are open already, where nothing has changed since
    /// that they do not know of.
    async fn fitting(&self, standby: Option<Standby>) -> Option<Standby> {
        if let Some(standby) = standby {
            if standby.fits(&self.options.group.state()) {
                return Some(standby);
            }
            tracing::debug!(shard = %self.shard, "prepared watches no longer match the assignment");
            standby.close().await;
        }
        Standby::open(&self.options, self.shard)
    }

    /// Goes on publishing where the last owner stopped.
    fn publish(&self, stream: &Stream, history: StreamHistory, cluster: String) -> StreamRun {
        let past = Arc::new(StreamPast(history));
        let owned = self.options.owned.begin(stream.id, self.key.epoch, past);
        if let Some(era) = stream.era.clone() {
            owned.resume(era, &stream.resume_point());
        }
        StreamRun {
            group: self.options.group.clone(),
            lease: self.options.lease.clone(),
            owned,
            cluster,
            key: self.key,
            era: stream.era.as_ref().map(|start| start.era),
        }
    }

    /// Reports that a run of this shard panicked, and waits until the next may begin.
    async fn rest_after(&self, panic: &Panic, restart: Restart) {
        let Restart {
            panics,
            pause,
            is_news,
        } = restart;
        let Panic { message, place } = panic;
        let shard = self.options.group.state().shard_name(self.shard);
        if is_news {
            tracing::error!(%shard, message, place, panics, ?pause, "watching a cluster panicked, beginning again");
        } else {
            tracing::debug!(%shard, message, place, panics, ?pause, "watching a cluster panicked again");
        }
        let health = Health {
            condition: Condition::Degraded,
            // What it says may hold what it could not read.
            reason: format!(
                "watching it panicked at {place}, {panics} times so far; it begins again after a \
                 pause of up to a minute; this is a defect of quorumwatch, please report it with \
                 the log"
            ),
            since: unix_now(),
        };
        let tell = async {
            self.report(&health).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = tell => {}
            () = sleep(pause) => {}
        }
    }

    /// Reports that the cluster is a duplicate, and waits until it may be none any more.
    async fn wait_while(&self, duplicate: Duplicate) {
        let Duplicate { of, uid } = duplicate;
        let cluster = self.options.group.state().shard_name(self.shard);
        let reason = Rejection::DuplicateCluster { of }.to_string();
        tracing::warn!(shard = %cluster, reason, "cluster is not being watched");
        let health = Health {
            condition: Condition::Duplicate,
            reason,
            since: unix_now(),
        };
        self.report(&health).await;
        loop {
            sleep(DUPLICATE_LOOK).await;
            // A third registration may be in the way by now.
            let Some(of) = self.duplicate(&uid) else {
                return;
            };
            let reason = Rejection::DuplicateCluster { of }.to_string();
            self.report(&Health {
                reason,
                ..health.clone()
            })
            .await;
        }
    }

    /// The name of another registration of a cluster of this identity.
    fn duplicate(&self, uid: &str) -> Option<String> {
        let state = self.options.group.state();
        let other = state.duplicate(self.shard.cluster, uid)?;
        Some(other.spec.name.clone())
    }

    /// Reports the health at each change.
    async fn report_changes(&self, mut health: watch::Receiver<Health>) {
        loop {
            let current = health.borrow_and_update().clone();
            if current.condition != Condition::Unknown {
                self.report(&current).await;
            }
            if health.changed().await.is_err() {
                // The watcher has ended; what stopped it ends this too.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Reports a health, unless it is known already, however long that takes.
    async fn report(&self, health: &Health) {
        loop {
            if self.is_known(health) {
                return;
            }
            let command = Command::ReportHealth {
                shard: self.shard,
                epoch: self.key.epoch,
                condition: health.condition,
                reason: health.reason.clone(),
                at: health.since,
            };
            match self.options.group.submit(command).await {
                Ok(_) => return,
                Err(error) => tracing::debug!(%error, "cluster health not reported, retrying"),
            }
            sleep(HEALTH_RETRY).await;
        }
    }

    /// Whether the group knows of this health, or of the cluster no longer. What an earlier owner
    /// could not reach is reported again: the leader looks for a replica that can.
    fn is_known(&self, health: &Health) -> bool {
        let state = self.options.group.state();
        let cluster = state.clusters.get(&self.shard.cluster);
        cluster.is_none_or(|cluster| {
            let is_own = cluster.health_epoch == self.key.epoch;
            cluster.health.says_the_same_as(health)
                && (is_own || !health.condition.is_out_of_reach())
        })
    }
}

/// Why all streams of a run begin again.
enum Interruption {
    /// What answers one of them is registered already.
    Duplicate(Duplicate),
    /// The watches were opened too early.
    Behind,
    /// What serves the cluster panicked.
    Panicked(Panic),
}

/// The streams that a run publishes. However it ends, they are published no longer then.
struct Published<'a> {
    owned: &'a Owned,
    streams: Vec<Arc<OwnedStream>>,
}

impl<'a> Published<'a> {
    fn new(owned: &'a Owned) -> Self {
        let streams = Vec::new();
        Self { owned, streams }
    }
}

impl Drop for Published<'_> {
    fn drop(&mut self) {
        for stream in &self.streams {
            self.owned.remove(stream);
        }
    }
}

/// Waits until one of the streams interrupts them all.
async fn first_interruption(streams: &mut JoinSet<Result<Ended, Panic>>) -> Interruption {
    while let Some(ended) = streams.join_next().await {
        match ended {
            Ok(Ok(Ended::Duplicate(duplicate))) => return Interruption::Duplicate(duplicate),
            Ok(Ok(Ended::Behind)) => return Interruption::Behind,
            Ok(Err(panic)) => return Interruption::Panicked(panic),
            // Its session has ended, or the runtime ends.
            Ok(Ok(Ended::Over)) | Err(_) => {}
        }
    }
    std::future::pending().await
}

/// A stream's history at the API server, as the pipeline asks for it.
struct StreamPast(StreamHistory);

impl History for StreamPast {
    fn look(&self, look: Look) -> mpsc::Receiver<HistoryItem> {
        match look {
            Look::Watch(from) => self.0.catch_up(from),
            Look::List(exactly) => self.0.snapshot(exactly),
            Look::NetChanges { from, to } => self.0.repair(from, to),
        }
    }
}
