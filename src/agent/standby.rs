//! A shard's watches, open and not published yet: [`Standby`]. A planned move and a changed
//! specification begin with one.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{sync::watch, time::timeout};

use super::options::RunOptions;
use crate::{
    domain::{
        cluster::{Condition, Health},
        id::{Revision, ShardId, StreamId},
        state::State,
        stream::Stream,
    },
    panics::Panic,
    watcher::{ShardWatcher, Signals, StreamStart, Watches},
};

/// How long a watch that is open may take to bring anything. One that begins in the past is silent at
/// first where the API server does not cache the resource, as it does not cache Events: etcd serves
/// such watches in rounds, one every 100 ms (its `watchResyncPeriod`). A stream that is quiet for
/// longer brings nothing, and nobody notices its move.
const FLOW_TIMEOUT: Duration = Duration::from_millis(250);

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
    watches: watch::Receiver<Watches>,
    health: watch::Receiver<Health>,
    panicked: BoxFuture<'static, Panic>,
    /// A condition that is as good as open watches.
    enough: Option<Condition>,
    /// Whether the owner publishes until the move, so that it is worth to wait for what flows.
    must_flow: bool,
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

    /// To wait until the watches are open and bring what happens, or one of them cannot be opened.
    /// Where only some could be opened by the owner either, that is enough. `must_connect`: the
    /// owner cannot reach the cluster, so all must be open, and nothing else is waited for.
    pub(super) fn opening(&self, must_connect: bool) -> Opening {
        Opening {
            watches: self.watcher.watches(),
            health: self.health.clone(),
            panicked: Box::pin(self.watcher.panicked()),
            enough: (!must_connect && is_partial(self.owners)).then_some(self.owners),
            must_flow: !must_connect,
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
        self.open().await?;
        if self.must_flow {
            let flows = self
                .watches
                .wait_for(|watches| *watches == Watches::Flowing);
            // Without it the move is only less smooth.
            let _ = timeout(FLOW_TIMEOUT, flows).await;
        }
        Ok(())
    }

    async fn open(&mut self) -> Result<(), String> {
        let closed = || "its watches were closed".to_owned();
        let failed = self.health.wait_for(|health| is_failing(health.condition));
        let opened = self.watches.wait_for(|watches| *watches >= Watches::Open);
        tokio::select! {
            biased;
            panic = &mut self.panicked => Err(format!("watching it panicked at {}", panic.place)),
            opened = opened => opened.map(|_| ()).map_err(|_| closed()),
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

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{Duration, FLOW_TIMEOUT, Health, Opening, Watches, watch};
    use crate::domain::id::UnixMillis;

    struct World {
        watches: watch::Sender<Watches>,
        health: watch::Sender<Health>,
    }

    impl World {
        fn new() -> Self {
            Self {
                watches: watch::Sender::default(),
                health: watch::Sender::new(Health::unknown(UnixMillis(0))),
            }
        }

        fn opening(&self, must_flow: bool) -> Opening {
            Opening {
                watches: self.watches.subscribe(),
                health: self.health.subscribe(),
                panicked: Box::pin(std::future::pending()),
                enough: None,
                must_flow,
            }
        }

        /// How long it takes where the watches are open after 10 ms, and flow after 60 ms.
        async fn waited(&self, must_flow: bool, flow: bool) -> Duration {
            let begun = Instant::now();
            let watches = async {
                for (watches, at) in [(Watches::Open, 10), (Watches::Flowing, 60)] {
                    tokio::time::sleep_until(begun + Duration::from_millis(at)).await;
                    if flow || watches == Watches::Open {
                        self.watches.send_replace(watches);
                    }
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                waited = self.opening(must_flow).wait() => waited.unwrap(),
                () = watches => {}
            }
            begun.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_planned_move_waits_until_the_watches_flow_unless_the_stream_is_quiet() {
        let ms = Duration::from_millis;
        assert_eq!(World::new().waited(true, true).await, ms(60));
        assert_eq!(
            World::new().waited(true, false).await,
            ms(10) + FLOW_TIMEOUT
        );
        assert_eq!(World::new().waited(false, true).await, ms(10));
    }
}
