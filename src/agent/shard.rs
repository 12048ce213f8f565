//! One run of a shard: its watcher, and a task for each of its streams.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    Options,
    lease::LeaseClock,
    reconcile::RunKey,
    stream::{Duplicate, Ended, StreamRun},
};
use crate::{
    clock::unix_now,
    domain::{
        cluster::{Condition, Health},
        command::{Command, Rejection},
        history::HistoryItem,
        id::ShardId,
        position::ResourceVersion,
        stream::Stream,
    },
    pipeline::owned::{History, OwnedStream},
    watcher::{ShardWatcher, StreamHistory, StreamStart},
};

/// The pause before a report that found no leader is tried again.
const HEALTH_RETRY: Duration = Duration::from_secs(1);

/// How often a cluster that is a duplicate is looked at: it is another one once the other
/// registration is deleted, or `duplicate_of` is set.
const DUPLICATE_LOOK: Duration = Duration::from_secs(1);

/// One run of a shard, under one epoch and one specification of its cluster.
pub(super) struct ShardRun {
    key: RunKey,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl ShardRun {
    /// Begins where the last owner's checkpoints say.
    pub(super) fn start(
        options: &Options,
        lease: &LeaseClock,
        shard: ShardId,
        key: RunKey,
    ) -> Self {
        let run = Run {
            options: options.clone(),
            lease: lease.clone(),
            shard,
            key,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(run.run(stop.clone()));
        Self { key, stop, task }
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

/// What a run works with.
struct Run {
    options: Options,
    lease: LeaseClock,
    shard: ShardId,
    key: RunKey,
}

impl Run {
    /// Watches and publishes until it is stopped; not while the cluster is a duplicate.
    async fn run(self, stop: CancellationToken) {
        let state = self.options.raft.state();
        let name = state.shard_name(self.shard);
        tracing::info!(shard = %name, epoch = %self.key.epoch, "shard run starts");
        while let Some(duplicate) = self.watch(&stop).await {
            tokio::select! {
                () = self.wait_while(duplicate) => {}
                () = stop.cancelled() => break,
            }
        }
        tracing::info!(shard = %name, epoch = %self.key.epoch, "shard run ended");
    }

    /// Watches and publishes from the checkpoints on until it is stopped, or the cluster turns out
    /// to be a duplicate.
    async fn watch(&self, stop: &CancellationToken) -> Option<Duplicate> {
        let state = self.options.raft.state();
        let cluster = Arc::new(state.clusters.get(&self.shard.cluster)?.clone());
        let name = cluster.spec.name.clone();
        let streams: Vec<Stream> = state.streams_of(self.shard).cloned().collect();
        let starts = streams
            .iter()
            .map(|stream| StreamStart {
                stream: stream.id,
                selector: stream.selector.clone(),
                resume: stream.resume_point(),
                cluster_uid: stream.cluster_uid.clone(),
            })
            .collect();
        let credentials = self.options.credentials.clone();
        let policy = self.options.watch.clone();
        let (watcher, signals, health) = ShardWatcher::start(cluster, starts, credentials, policy);
        let mut tasks = FuturesUnordered::new();
        let mut published = Vec::new();
        for (id, signals) in signals {
            let stream = streams.iter().find(|stream| stream.id == id);
            let (Some(stream), Some(history)) = (stream, watcher.history(id)) else {
                continue;
            };
            let run = self.publish(stream, history, name.clone());
            published.push(run.owned.clone());
            tasks.push(run.run(signals));
        }
        let duplicate = tokio::select! {
            duplicate = first_duplicate(&mut tasks) => Some(duplicate),
            () = self.report_changes(health) => None,
            () = stop.cancelled() => None,
        };
        drop(tasks);
        watcher.stop().await;
        for stream in published {
            self.options.owned.remove(&stream);
        }
        duplicate
    }
    /// Goes on publishing where the last owner stopped.
    fn publish(&self, stream: &Stream, history: StreamHistory, cluster: String) -> StreamRun {
        let owned = OwnedStream::new(
            stream.id,
            self.key.epoch,
            Arc::new(StreamPast(history)),
            self.options.ring_bytes,
        );
        if let Some(era) = stream.era.clone() {
            owned.resume(era, &stream.resume_point());
        }
        self.options.owned.insert(owned.clone());
        StreamRun {
            raft: self.options.raft.clone(),
            lease: self.lease.clone(),
            owned,
            cluster,
            key: self.key,
            era: stream.era.as_ref().map(|start| start.era),
        }
    }

    /// Reports that the cluster is a duplicate, and waits until it may be none any more.
    async fn wait_while(&self, duplicate: Duplicate) {
        let Duplicate { of, uid } = duplicate;
        let cluster = self.options.raft.state().shard_name(self.shard);
        let reason = Rejection::DuplicateCluster { of }.to_string();
        tracing::warn!(shard = %cluster, reason, "cluster is not being watched");
        let health = Health {
            condition: Condition::Duplicate,
            reason,
            since: unix_now(),
        };
        self.report(&health).await;
        loop {
            tokio::time::sleep(DUPLICATE_LOOK).await;
            let state = self.options.raft.state();
            let Some(other) = state.duplicate(self.shard.cluster, &uid) else {
                return;
            };
            // A third registration may be in the way by now.
            let of = other.spec.name.clone();
            let reason = Rejection::DuplicateCluster { of }.to_string();
            self.report(&Health {
                reason,
                ..health.clone()
            })
            .await;
        }
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
            let state = self.options.raft.state();
            let cluster = state.clusters.get(&self.shard.cluster);
            if cluster.is_none_or(|cluster| cluster.health.says_the_same_as(health)) {
                return;
            }
            let command = Command::ReportHealth {
                shard: self.shard,
                epoch: self.key.epoch,
                condition: health.condition,
                reason: health.reason.clone(),
                at: health.since,
            };
            match self.options.raft.submit(command).await {
                Ok(_) => return,
                Err(error) => tracing::debug!(%error, "health not reported, trying again"),
            }
            tokio::time::sleep(HEALTH_RETRY).await;
        }
    }
}

/// Runs the streams until what answers one of them is registered already.
async fn first_duplicate(streams: &mut FuturesUnordered<impl Future<Output = Ended>>) -> Duplicate {
    while let Some(ended) = streams.next().await {
        if let Ended::Duplicate(duplicate) = ended {
            return duplicate;
        }
    }
    std::future::pending().await
}

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
