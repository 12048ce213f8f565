//! One run of a shard: its watcher, and a task for each of its streams.

use std::sync::Arc;

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Options, lease::LeaseClock, reconcile::RunKey, stream::StreamRun};
use crate::{
    domain::{
        cluster::Health, command::Command, history::HistoryItem, id::ShardId,
        position::ResourceVersion, state::State, stream::Stream,
    },
    pipeline::owned::{History, OwnedStream},
    watcher::{ShardWatcher, StreamHistory, StreamStart},
};

/// One run of a shard, under one epoch and one specification of its cluster.
pub(super) struct ShardRun {
    key: RunKey,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl ShardRun {
    /// Begins where the last owner's checkpoints say. `None` where the state has no such shard.
    pub(super) fn start(
        options: &Options,
        lease: &LeaseClock,
        state: &State,
        shard: ShardId,
        key: RunKey,
    ) -> Option<Self> {
        let cluster = Arc::new(state.clusters.get(&shard.cluster)?.clone());
        let name = cluster.spec.name.clone();
        tracing::info!(cluster = %name, epoch = %key.epoch, "shard run starts");
        let streams: Vec<Stream> = state.streams_of(shard).cloned().collect();
        let starts = streams
            .iter()
            .map(|stream| StreamStart {
                stream: stream.id,
                selector: stream.selector.clone(),
                resume: stream.resume_point(),
                cluster_uid: stream.cluster_uid.clone(),
            })
            .collect();
        let credentials = options.credentials.clone();
        let (watcher, signals, health) =
            ShardWatcher::start(cluster, starts, credentials, options.watch.clone());
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        let mut published = Vec::new();
        for (id, signals) in signals {
            let Some(stream) = streams.iter().find(|stream| stream.id == id) else {
                continue;
            };
            let Some(history) = watcher.history(id) else {
                continue;
            };
            let owned = OwnedStream::new(
                id,
                key.epoch,
                Arc::new(StreamPast(history)),
                options.ring_bytes,
            );
            if let Some(era) = stream.era.clone() {
                owned.resume(era, &stream.resume_point());
            }
            options.owned.insert(owned.clone());
            published.push(owned.clone());
            let run = StreamRun {
                raft: options.raft.clone(),
                lease: lease.clone(),
                owned,
                cluster: name.clone(),
            };
            tasks.push(run.run(signals));
        }
        let report = report_health(options.clone(), shard, key, health);
        let owned = options.owned.clone();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                _ = futures::future::join_all(tasks) => stopped.cancelled().await,
                () = report => {}
                () = stopped.cancelled() => {}
            }
            watcher.stop().await;
            for stream in published {
                owned.remove(&stream);
            }
            tracing::info!(cluster = %name, epoch = %key.epoch, "shard run ended");
        });
        Some(Self { key, stop, task })
    }

    pub(super) fn key(&self) -> RunKey {
        self.key
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

/// Tells the group how the cluster fares, at each change.
async fn report_health(
    options: Options,
    shard: ShardId,
    key: RunKey,
    mut health: watch::Receiver<Health>,
) {
    loop {
        let current = health.borrow_and_update().clone();
        let state = options.raft.state();
        let known = state
            .clusters
            .get(&shard.cluster)
            .map(|cluster| &cluster.health);
        let news = known.is_none_or(|known| {
            known.condition != current.condition || known.reason != current.reason
        });
        if news && current.condition != crate::domain::cluster::Condition::Unknown {
            let command = Command::ReportHealth {
                shard,
                epoch: key.epoch,
                condition: current.condition,
                reason: current.reason,
                at: current.since,
            };
            if let Err(error) = options.raft.submit(command).await {
                tracing::debug!(%error, "health not reported, trying again");
                tokio::time::sleep(HEALTH_RETRY).await;
                continue;
            }
        }
        if health.changed().await.is_err() {
            // The watcher has ended; whoever stopped it ends this too.
            std::future::pending::<()>().await;
        }
    }
}

/// The pause before a report that found no leader is tried again.
const HEALTH_RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// A stream's history at the API server, as the pipeline asks for it.
struct StreamPast(StreamHistory);

impl History for StreamPast {
    fn catch_up(&self, from: ResourceVersion) -> tokio::sync::mpsc::Receiver<HistoryItem> {
        self.0.catch_up(from)
    }

    fn snapshot(&self) -> tokio::sync::mpsc::Receiver<HistoryItem> {
        self.0.snapshot()
    }

    fn repair(
        &self,
        from: ResourceVersion,
        to: ResourceVersion,
    ) -> tokio::sync::mpsc::Receiver<HistoryItem> {
        self.0.repair(from, to)
    }
}
