//! How replicas form a group and know of each other: bootstrap, joining and removal; identity;
//! who is alive, and whether a majority can be reached; who leads next.
//!
//! [`Group`] is the handle. What the group agrees on is [`Raft`]'s business, and what follows from a
//! death is decided in `domain`, for the [`controller`](crate::controller).

mod error;
mod formation;
mod handover;
mod identity;
pub mod lease;
mod liveness;
mod membership;
mod quorum;
mod registration;
mod service;

use std::{path::PathBuf, sync::Arc};

use tokio::sync::{mpsc, watch};

pub use crate::config::Peer;
use crate::{
    blocking::Blocking,
    domain::{
        id::ReplicaId,
        lifecycle::{Lifecycle, Milestone},
    },
    net::Channels,
    raft::{self, Disk, OpenError, Raft, Timing},
    telemetry::LogThrottle,
};
pub use error::FormError;
use lease::LeaseClock;
pub use membership::RemoveError;
pub use quorum::Reach;
pub use service::{LeaderServer, MembershipServer};

/// How a replica takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the data is kept.
    pub data_dir: PathBuf,
    /// This replica's stable name.
    pub name: String,
    /// `host:port` by which peers reach this replica.
    pub peer_address: String,
    /// `host:port` by which clients reach this replica.
    pub client_address: String,
    /// The replicas that found the group together, this one included.
    pub peers: Vec<Peer>,
    /// Raft's timeouts.
    pub timing: Timing,
    /// What the data is kept on.
    pub disk: Arc<dyn Disk>,
    /// Does what may block.
    pub blocking: Arc<dyn Blocking>,
}

/// The replica's part in the group. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    channels: Channels,
    raft: Raft,
    /// Drawn at the start: distinguishes this process from another one with the same data.
    process_id: u64,
    /// For what is logged again and again while a replica waits.
    throttle: LogThrottle,
    lifecycle: watch::Sender<Lifecycle>,
    lease: LeaseClock,
}

impl Group {
    /// Opens the data. The replica is no part of the group before [`Self::form`].
    pub async fn open(options: Options, channels: Channels) -> Result<Self, OpenError> {
        let lifecycle = watch::Sender::new(Lifecycle::default());
        let (stream_ends, ended) = mpsc::channel(liveness::STREAM_ENDS_MAX);
        let raft = raft::Options {
            data_dir: options.data_dir.clone(),
            name: options.name.clone(),
            timing: options.timing.clone(),
            disk: Arc::clone(&options.disk),
            blocking: Arc::clone(&options.blocking),
            stream_ends,
            lifecycle: lifecycle.subscribe(),
        };
        let raft = Raft::open(raft, channels.clone()).await?;
        let inner = Inner {
            options,
            channels,
            raft,
            process_id: rand::random_range(1..=u64::MAX),
            throttle: LogThrottle::default(),
            lifecycle,
            lease: LeaseClock::default(),
        };
        let this = Self {
            inner: Arc::new(inner),
        };
        this.spawn_watch_of_the_leader(ended);
        Ok(this)
    }

    /// What the group agrees on.
    pub fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    /// How far this replica has come.
    pub fn lifecycle(&self) -> watch::Receiver<Lifecycle> {
        self.inner.lifecycle.subscribe()
    }

    /// This replica's lease, which the heartbeats to the leader renew.
    pub fn lease(&self) -> &LeaseClock {
        &self.inner.lease
    }

    fn passed(&self, milestone: Milestone) {
        let lifecycle = &self.inner.lifecycle;
        lifecycle.send_modify(|lifecycle| *lifecycle = lifecycle.after(milestone));
    }

    /// This replica's id.
    pub fn replica_id(&self) -> ReplicaId {
        self.inner.raft.replica_id()
    }

    /// This replica's name.
    pub fn name(&self) -> &str {
        self.inner.raft.name()
    }
}
