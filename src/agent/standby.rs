//! A shard's watches, open and not published yet: [`Standby`]. A planned move and a changed
//! specification begin with one.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

use super::options::RunOptions;
use crate::{
    domain::{
        cluster::{Condition, Health},
        id::{Revision, ShardId, StreamId},
        state::State,
        stream::Stream,
    },
    panics::Panic,
    watcher::{ShardWatcher, Signals, StreamStart},
};

/// Watches that begin at the checkpoints. What they bring waits in their queues, and when those are
/// full, in their sockets.
pub(super) struct Standby {
    shard: ShardId,
    /// See [`Cluster::watch_revision`](crate::domain::cluster::Cluster::watch_revision).
    watch_revision: Revision,
    /// How the shard's owner fared with the cluster.
    owners: Condition,
    pub(super) cluster: String,
    /// The streams as they were when the watches were opened: where they resume from.
    pub(super) streams: Vec<Stream>,
    pub(super) watcher: ShardWatcher,
    pub(super) signals: Vec<(StreamId, Signals)>,
    pub(super) health: watch::Receiver<Health>,
}

/// The opening of a standby's watches. Waiting for it does not hold the standby.
pub(super) struct Opening {
    opened: watch::Receiver<bool>,
    health: watch::Receiver<Health>,
    panicked: BoxFuture<'static, Panic>,
    /// A condition that is as good as open watches.
    enough: Option<Condition>,
}

impl Standby {
    /// Begins to open the watches of a shard; `None` where its cluster is gone.
    ///
    /// The state that they begin at is let go here: a run lasts for months, and one state would be
    /// kept for each.
    pub(super) fn open(options: &RunOptions, shard: ShardId) -> Option<Self> {
        let (cluster, streams) = {
            let state = options.group.state();
            let cluster = Arc::new(state.clusters.get(&shard.cluster)?.clone());
            let streams: Vec<Stream> = state.streams_of(shard).cloned().collect();
            (cluster, streams)
        };
        let starts = streams.iter().map(start_of).collect();
        let (watch_revision, name) = (cluster.watch_revision, cluster.spec.name.clone());
        let owners = cluster.health.condition;
        let credentials = options.credentials.clone();
        let policy = options.watch.clone();
        let (watcher, signals, health) = ShardWatcher::start(cluster, starts, credentials, policy);
        Some(Self {
            shard,
            watch_revision,
            owners,
            cluster: name,
            streams,
            watcher,
            signals,
            health,
        })
    }

    pub(super) fn shard(&self) -> ShardId {
        self.shard
    }

    /// To wait until the watches are open, or one of them cannot be opened.
    /// Where only some could be opened by the owner either, that is enough, unless `must_connect`.
    pub(super) fn opening(&self, must_connect: bool) -> Opening {
        Opening {
            opened: self.watcher.opened(),
            health: self.health.clone(),
            panicked: Box::pin(self.watcher.panicked()),
            enough: (!must_connect && is_partial(self.owners)).then_some(self.owners),
        }
    }

    /// Whether a run that begins now may resume from these watches: what is watched is the same,
    /// and no stream has begun another era since.
    pub(super) fn fits(&self, state: &State) -> bool {
        let Some(cluster) = state.clusters.get(&self.shard.cluster) else {
            return false;
        };
        let eras = |stream: &Stream| (stream.id, stream.era.clone());
        cluster.watch_revision == self.watch_revision
            && state
                .streams_of(self.shard)
                .map(eras)
                .eq(self.streams.iter().map(eras))
    }

    /// Closes the watches.
    pub(super) async fn close(self) {
        self.watcher.stop().await;
    }
}

impl Opening {
    /// Waits until the watches are open, or as many of them as the owner has. An error is the reason
    /// why one of them is not; it is tried again as long as the standby is kept.
    pub(super) async fn wait(mut self) -> Result<(), String> {
        let closed = || "its watches were closed".to_owned();
        let failed = self.health.wait_for(|health| is_failing(health.condition));
        tokio::select! {
            biased;
            panic = self.panicked => Err(format!("watching it panicked at {}", panic.place)),
            opened = self.opened.wait_for(|opened| *opened) => match opened {
                Ok(_) => Ok(()),
                Err(_) => Err(closed()),
            },
            failed = failed => match failed {
                // One resource is refused to the owner, too.
                Ok(health) if Some(health.condition) == self.enough => Ok(()),
                Ok(health) => Err(health.reason.clone()),
                Err(_) => Err(closed()),
            },
        }
    }
}

fn is_failing(condition: Condition) -> bool {
    !matches!(condition, Condition::Unknown | Condition::Connected)
}

/// Whether the API server can be reached, and answers.
fn is_partial(condition: Condition) -> bool {
    matches!(condition, Condition::Degraded | Condition::PermissionDenied)
}

fn start_of(stream: &Stream) -> StreamStart {
    StreamStart {
        stream: stream.id,
        selector: stream.selector.clone(),
        resume: stream.resume_point(),
        cluster_uid: stream.cluster_uid.clone(),
    }
}
