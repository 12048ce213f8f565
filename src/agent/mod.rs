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

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

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
    /// This replica's lease, for all that need to know whether it holds.
    pub lease: LeaseClock,
    /// Where what it publishes is found by those who serve it.
    pub owned: Owned,
    /// Which credentials may be used for clusters.
    pub credentials: Arc<CredentialPolicy>,
    /// Limits and times of watches.
    pub watch: WatchPolicy,
    /// Memory of each stream's ring, in bytes.
    pub ring_bytes: usize,
}

/// How long the group may take to give this replica's shards to others: without a leader, or alone,
/// it cannot.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Runs until `stop` is cancelled; then asks the leader to give the shards to others, publishes
/// until they have them, hands in the last checkpoints, and ends every watch.
pub async fn run(options: Options, stop: CancellationToken) {
    let lease = options.lease.clone();
    let leaving = CancellationToken::new();
    let heartbeat = Heartbeat {
        raft: options.raft.clone(),
        channels: options.channels.clone(),
        owned: options.owned.clone(),
        lease: lease.clone(),
        leaving: leaving.clone(),
        round_trip_us: AtomicU64::default(),
    };
    let heartbeat = tokio::spawn(heartbeat.run());
    let checkpoints_stop = CancellationToken::new();
    let checkpoints = tokio::spawn(checkpoint::run(
        options.raft.clone(),
        options.owned.clone(),
        checkpoints_stop.clone(),
    ));

    let mut agent = Agent {
        options,
        lease,
        running: BTreeMap::new(),
    };
    tokio::select! {
        () = agent.follow_state(|_| false) => {}
        () = stop.cancelled() => {}
    }
    agent.hand_over(&leaving).await;
    checkpoints_stop.cancel();
    let runs = std::mem::take(&mut agent.running);
    let ended = futures::future::join_all(runs.into_values().map(ShardRun::end));
    let (checkpoints, _) = tokio::join!(checkpoints, ended);
    if checkpoints.is_err() {
        tracing::error!("handing in checkpoints failed");
    }
    // It has said that this replica leaves, or has found nobody to say it to.
    heartbeat.abort();
}

struct Agent {
    options: Options,
    lease: LeaseClock,
    running: BTreeMap<ShardId, ShardRun>,
}

impl Agent {
    /// Says to the leader that this replica leaves, and publishes until others own what it owned.
    async fn hand_over(&mut self, leaving: &CancellationToken) {
        let replica = self.options.raft.replica_id();
        let state = self.options.raft.state();
        if state.members.keys().all(|member| *member == replica) {
            if state.owns_any(replica) {
                tracing::info!("this replica is the only one: its shards wait for its return");
            }
            return;
        }
        leaving.cancel();
        let left = self.follow_state(|state| !state.owns_any(replica));
        if tokio::time::timeout(LEAVE_WITHIN, left).await.is_err() {
            tracing::warn!(
                "nobody took this replica's shards: no other replica is up, or there is no leader; \
                 they wait for one"
            );
        }
    }

    /// Does what each state asks for, until one that is `last`.
    async fn follow_state(&mut self, last: impl Fn(&State) -> bool) {
        let mut states = self.options.raft.watch_state();
        loop {
            let state = states.borrow_and_update().clone();
            self.reconcile(&state);
            if last(&state) || states.changed().await.is_err() {
                return;
            }
        }
    }

    fn reconcile(&mut self, state: &State) {
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
            let run = ShardRun::start(&self.options, &self.lease, shard, key);
            self.running.insert(shard, run);
        }
    }
}
