//! On every replica: reconciles what runs here with what is assigned here.
//!
//! It starts and stops shards as the state requires, publishes what they watch under the replica's
//! lease, and commits their checkpoints. It decides nothing about ownership.

pub mod agreement;
pub mod checkpoint;
pub mod handover;
mod heartbeat;
pub mod options;
pub mod prepare;
mod prepared;
pub mod reconcile;
mod restarts;
pub mod runs;
mod shard;
mod standby;
mod stream;
mod warm;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    domain::id::ReplicaId,
    group::lease::LeaseClock,
    net::Channels,
    pipeline::owned::Owned,
    raft::Raft,
    watcher::{CredentialPolicy, WatchPolicy},
};
use heartbeat::Heartbeat;
use options::RunOptions;
use prepare::Requests;
use runs::Runs;

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
    /// For how many clusters of other replicas connections are kept ready.
    pub warm_clusters: usize,
}

/// How long the group may take to give this replica's shards to others: without a leader, or alone,
/// it cannot. Enough for a thousand shards, whose receivers open their watches first, and well
/// below the time after which Kubernetes kills what it has asked to stop (30 s).
const LEAVE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long it may take until the first of them is given away. Where none is by then, there is
/// nobody who could take it.
const LEAVE_PROGRESS_TIMEOUT: Duration = Duration::from_secs(4);

/// Runs until `stop` is cancelled; then asks the leader to give the shards to others, publishes
/// until they have them, commits the last checkpoints, and ends every watch.
pub async fn run(options: Options, requests: Requests, stop: CancellationToken) {
    let lease = options.lease.clone();
    let leaving = CancellationToken::new();
    let (available, available_now) = watch::channel(None);
    let heartbeat = Heartbeat {
        raft: options.raft.clone(),
        channels: options.channels.clone(),
        owned: options.owned.clone(),
        lease: lease.clone(),
        leaving: leaving.clone(),
        round_trip_us: AtomicU64::default(),
        available,
    };
    let heartbeat = tokio::spawn(heartbeat.run());
    let group = Arc::new(options.raft.clone());
    let checkpoints_stop = CancellationToken::new();
    let checkpoints = tokio::spawn(checkpoint::run(
        group.clone(),
        options.owned.clone(),
        checkpoints_stop.clone(),
    ));

    let run_options = RunOptions {
        replica: options.raft.replica_id(),
        group,
        lease,
        owned: options.owned.clone(),
        credentials: options.credentials.clone(),
        watch: options.watch.clone(),
    };
    // A task of its own: naming the takers of thousands of shards takes longer than a takeover may
    // wait for.
    let warm = warm::run(run_options.clone(), options.warm_clusters, available_now);
    let warm = AbortOnDropHandle::new(tokio::spawn(warm));
    let mut runs = Runs::new(run_options, requests);
    tokio::select! {
        () = runs.follow_state(|_| false) => {}
        () = stop.cancelled() => {}
    }
    drop(warm);
    hand_over(&options.raft, &mut runs, &leaving).await;
    checkpoints_stop.cancel();
    let (checkpoints, ()) = tokio::join!(checkpoints, runs.end());
    if checkpoints.is_err() {
        tracing::error!("the checkpoint task failed");
    }
    // Without a lease nothing could be published while others take over.
    heartbeat.abort();
}

/// Reports to the leader that this replica leaves, and publishes until others own what it owned.
async fn hand_over(raft: &Raft, runs: &mut Runs, leaving: &CancellationToken) {
    let replica = raft.replica_id();
    let state = raft.state();
    if state.members.keys().all(|member| *member == replica) {
        if state.owned_by(replica) > 0 {
            tracing::info!("no other replica: shards stay unowned until this one restarts");
        }
        return;
    }
    leaving.cancel();
    if !give_away(replica, runs).await {
        tracing::warn!(
            "no other replica took all of this replica's shards: none is up, or there is no \
             leader; the shards stay unowned until one is"
        );
    }
}

/// Publishes until others own everything; whether they do. Given up where nothing moves.
async fn give_away(replica: ReplicaId, runs: &mut Runs) -> bool {
    let deadline = Instant::now() + LEAVE_TIMEOUT;
    loop {
        let owned = runs.state().owned_by(replica);
        if owned == 0 {
            return true;
        }
        let fewer = runs.follow_state(|state| state.owned_by(replica) < owned);
        let until = deadline.min(Instant::now() + LEAVE_PROGRESS_TIMEOUT);
        if timeout_at(until, fewer).await.is_err() {
            return false;
        }
    }
}
