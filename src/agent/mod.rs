//! On every replica: makes what runs here equal what is assigned here.
//!
//! It starts and stops shards as the state says, publishes what they watch under the replica's
//! lease, and hands their progress to the log. It decides nothing about who owns what.

mod checkpoint;
mod heartbeat;
pub mod lease;
pub mod reconcile;
mod shard;
mod stream;

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{id::ShardId, state::State},
    peer::Channels,
    pipeline::owned::Owned,
    raft::Raft,
    watcher::{CredentialPolicy, WatchPolicy},
};
use heartbeat::Heartbeat;
use lease::LeaseClock;
use reconcile::{RunKey, reconcile};
use shard::ShardRun;

/// What an agent works with.
#[derive(Clone)]
pub struct Options {
    /// The replica's part in the group.
    pub raft: Raft,
    /// Connections to peers.
    pub channels: Channels,
    /// Where what it publishes is found by those who serve it.
    pub owned: Owned,
    /// Which credentials may be used for clusters.
    pub credentials: Arc<CredentialPolicy>,
    /// Limits and times of watches.
    pub watch: WatchPolicy,
    /// Memory of each stream's ring, in bytes.
    pub ring_bytes: usize,
}

/// Runs until `stop` is cancelled; then stops every watch, hands in the last checkpoints, and asks
/// the leader to take the shards away.
pub async fn run(options: Options, stop: CancellationToken) {
    let lease = LeaseClock::default();
    let leaving = CancellationToken::new();
    let heartbeat = Heartbeat {
        raft: options.raft.clone(),
        channels: options.channels.clone(),
        owned: options.owned.clone(),
        lease: lease.clone(),
        leaving: leaving.clone(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(heartbeat.run());
    let checkpoints_stop = CancellationToken::new();
    let checkpoints = checkpoint::run(
        options.raft.clone(),
        options.owned.clone(),
        checkpoints_stop.clone(),
    );
    let checkpoints = tokio::spawn(checkpoints);

    let mut agent = Agent {
        options,
        lease,
        running: BTreeMap::new(),
    };
    agent.follow_state(&stop).await;
    // Checkpoints first: what is published after them is replayed by the next owners, and dropped.
    checkpoints_stop.cancel();
    if checkpoints.await.is_err() {
        tracing::error!("checkpoint task failed");
    }
    let runs = std::mem::take(&mut agent.running);
    futures::future::join_all(runs.into_values().map(ShardRun::end)).await;
    leaving.cancel();
    while tasks.join_next().await.is_some() {}
}

struct Agent {
    options: Options,
    lease: LeaseClock,
    running: BTreeMap<ShardId, ShardRun>,
}

impl Agent {
    async fn follow_state(&mut self, stop: &CancellationToken) {
        let mut states = self.options.raft.watch_state();
        loop {
            let state = states.borrow_and_update().clone();
            self.reconcile(&state).await;
            tokio::select! {
                changed = states.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    async fn reconcile(&mut self, state: &Arc<State>) {
        let running: BTreeMap<ShardId, RunKey> = self
            .running
            .iter()
            .map(|(shard, run)| (*shard, run.key()))
            .collect();
        let steps = reconcile(state, self.options.raft.replica_id(), &running);
        for shard in steps.stop {
            if let Some(run) = self.running.remove(&shard) {
                // What it published stays valid: the next owner resumes at the checkpoint.
                run.abandon();
            }
        }
        for (shard, key) in steps.start {
            if let Some(run) = ShardRun::start(&self.options, &self.lease, state, shard, key) {
                self.running.insert(shard, run);
            }
        }
    }
}
