//! Watches clusters: [`ShardWatcher`]. The only module that names kube.
//!
//! It uses kube's client for kubeconfig, TLS and authentication, and our own list/watch session
//! above it. It decides nothing: [`crate::domain::watch_session`] does. It knows neither owners nor
//! epochs; the caller that starts a [`ShardWatcher`] does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::Instrument as _;

use crate::{
    blocking::{Blocking, Threads},
    domain::{
        cluster::{Cluster, Health, StreamSelector},
        event::{Event, GapReason},
        history::HistoryItem,
        id::StreamId,
        position::ResourceVersion,
        stream::ResumePoint,
        watch_session::SessionPolicy,
    },
    memory::Budgets,
    panics::{self, Panic},
};

pub mod access;
mod alarm;
mod api_error;
mod attempts;
mod backoff;
mod breaker;
mod by_cluster;
mod chance;
mod client;
mod connect;
mod contained;
mod credentials;
mod events;
mod flow_schemas;
mod health;
mod history;
mod holding;
mod lists;
mod liveness;
mod liveness_probe;
mod metadata;
mod network;
mod outlet;
mod queue;
mod readiness;
mod repair;
mod requests;
mod snapshot;
mod spool;
mod stream_watcher;
mod threads;
mod verify;
mod warm;

pub use breaker::{Breaker, BreakerStatus, Breakers};
pub use chance::Chance;
pub use client::Clients;
pub use credentials::{CredentialError, CredentialPolicy, PlatformTrust, reject_credentials};
pub use health::Watches;
pub use history::StreamHistory;
pub use network::{Answer, Asked, Network, Server};
pub use queue::Signals;
pub use threads::WatchThreads;
pub use verify::Verifications;
pub use warm::{WarmClient, Warming};

use client::ApiServer;
use health::Board;
use history::HistoryLimits;
use outlet::Outlet;
use queue::queue;
use stream_watcher::{ClusterIdentity, Setting, StreamWatcher};
use verify::Auditor;

/// One stream to watch, and where to begin.
#[derive(Clone, Debug)]
pub struct StreamStart {
    /// The stream's identity.
    pub stream: StreamId,
    /// What it carries.
    pub selector: StreamSelector,
    /// Where to begin.
    pub resume: ResumePoint,
    /// The identity of the cluster that the resume point belongs to, where known.
    pub cluster_uid: Option<String>,
}

/// What a stream's session reports to its owner, in order.
#[derive(Debug)]
pub enum Signal {
    /// Live events, in order; all that one read gave, up to a limit.
    Events(Vec<Event>),
    /// Everything up to and including this resource version has been delivered.
    Closed(ResourceVersion),
    /// Continuity with the past is lost, or was never there: the session waits for a new era.
    /// A `Closed` at the resource version that a repair begins from comes just before.
    EraNeeded {
        /// The cause, for the `Gap`.
        reason: GapReason,
        /// The resource version of the consistent list at which the era begins.
        to: ResourceVersion,
        /// Whether the net changes follow, so that no snapshot is needed.
        repaired: bool,
        /// The identity of the cluster that answered; empty where it may not be read.
        cluster_uid: String,
        /// Send to let the session continue; drop to end it.
        granted: oneshot::Sender<()>,
    },
    /// Net changes of a repair, in key order; `Closed` at the era's `to` ends them.
    Repaired(Vec<Event>),
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
    /// Memory, shared by all watchers of a replica.
    pub budgets: Budgets,
    /// The clusters' circuit breakers, shared by all watchers of a replica.
    pub breakers: Breakers,
    /// The clusters' clients, shared in the same way.
    pub clients: Clients,
    /// How API servers are reached.
    pub network: Network,
    /// Does what may block: reading files, and running credential commands.
    pub blocking: Arc<dyn Blocking>,
    /// Where everything runs that watches a cluster.
    pub threads: WatchThreads,
    /// Where random numbers come from.
    pub chance: Chance,
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
            budgets: Budgets::default(),
            breakers: Breakers::default(),
            clients: Clients::default(),
            network: Network::default(),
            blocking: Arc::new(Threads),
            threads: WatchThreads::default(),
            chance: Chance::default(),
        }
    }
}

/// What [`ShardWatcher::start`] gives.
pub type Started = (
    ShardWatcher,
    Vec<(StreamId, Signals)>,
    watch::Receiver<Health>,
);

/// One cluster's connection, shared by its streams. Dropping it ends everything.
#[derive(Debug)]
pub struct ShardWatcher {
    histories: BTreeMap<StreamId, StreamHistory>,
    watches: watch::Receiver<Watches>,
    auditor: Auditor,
    breaker: Breaker,
    tasks: Tasks,
    /// Ends the tasks when this is dropped.
    _ends: DropGuard,
}

/// What runs for one cluster.
#[derive(Clone, Debug, Default)]
struct Tasks {
    ended: CancellationToken,
    tracker: TaskTracker,
    /// The first panic of any of them.
    panicked: Arc<watch::Sender<Option<Panic>>>,
}

impl Tasks {
    /// Runs `work` until it is done, or everything ends.
    fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.contain(async move {
            tokio::select! {
                () = work => {}
                () = ended.cancelled() => {}
            }
        });
    }

    /// Runs `work` until it is done, its receiver is gone, or everything ends.
    fn spawn<T: Send + 'static>(
        &self,
        receiver: mpsc::Sender<T>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let ended = self.ended.clone();
        self.contain(async move {
            tokio::select! {
                () = work => {}
                () = receiver.closed() => {}
                () = ended.cancelled() => {}
            }
        });
    }

    /// Runs `work`, of which a panic ends everything: what is left would look as if it were whole.
    fn contain(&self, work: impl Future<Output = ()> + Send + 'static) {
        let (ended, panicked) = (self.ended.clone(), self.panicked.clone());
        self.tracker.spawn(async move {
            if let Err(panic) = panics::contain(work).await {
                panicked.send_if_modified(|first| {
                    let is_first = first.is_none();
                    first.get_or_insert(panic);
                    is_first
                });
                ended.cancel();
            }
        });
    }

    /// Waits for a panic; never returns if there is none.
    fn panicked(&self) -> impl Future<Output = Panic> + Send + use<> {
        let mut panicked = self.panicked.subscribe();
        async move {
            let met = panicked.wait_for(Option::is_some).await;
            let met = met.ok().and_then(|met| met.clone());
            match met {
                Some(panic) => panic,
                // All has ended without one.
                None => std::future::pending().await,
            }
        }
    }
}

impl ShardWatcher {
    /// Begins to watch; to be called within a runtime. Never fails: an unreachable or refusing
    /// cluster is retried, as its circuit breaker or a back-off of the stream requires, and
    /// reported through the health.
    pub fn start(
        cluster: Arc<Cluster>,
        streams: Vec<StreamStart>,
        credentials: Arc<CredentialPolicy>,
        policy: WatchPolicy,
    ) -> Started {
        let name: Arc<str> = cluster.spec.name.as_str().into();
        let source = cluster.spec.source.clone();
        let budgets = policy.budgets.clone();
        let thread = policy.threads.of(cluster.id);
        let _entered = thread.enter();
        let api = ApiServer::new(cluster, credentials, policy);
        let (board, health) = Board::new(name.clone(), source, api.breaker());
        let tasks = Tasks::default();
        tasks.run(board.clone().follow_breaker());
        let limits = HistoryLimits::default();
        let auditor = Auditor::default();
        let mut histories = BTreeMap::new();
        let mut signals = Vec::new();
        if let Some(first) = streams.first() {
            tasks.run(liveness_probe::watch_over(
                api.clone(),
                first.selector.clone(),
            ));
        }
        for start in streams {
            let setting = Setting {
                api: api.clone(),
                reporter: Some(board.reporter(start.stream, &start.selector)),
                selector: start.selector,
                identity: Arc::new(ClusterIdentity::new(start.cluster_uid)),
                auditor: auditor.clone(),
            };
            let history = StreamHistory::new(setting.without_reporter(), &limits, &tasks);
            histories.insert(start.stream, history);
            let (queue, receiver) = queue(&budgets.queues);
            let sender = queue.sender();
            signals.push((start.stream, receiver));
            let watcher = StreamWatcher::new(setting, start.resume, Outlet::live(queue));
            let span = tracing::info_span!("stream", cluster = %name, stream = %start.stream);
            tasks.spawn(sender, watcher.run().instrument(span));
        }
        let watcher = Self {
            histories,
            watches: board.watches(),
            auditor,
            breaker: api.breaker().clone(),
            _ends: tasks.ended.clone().drop_guard(),
            tasks,
        };
        (watcher, signals, health)
    }

    /// The history of one of its streams.
    pub fn history(&self, stream: StreamId) -> Option<StreamHistory> {
        self.histories.get(&stream).cloned()
    }

    /// The cluster's circuit breaker.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// How far the watches of its streams have come.
    pub fn watches(&self) -> watch::Receiver<Watches> {
        self.watches.clone()
    }

    /// Waits for a panic of anything that runs for it, which has ended everything then; never
    /// returns if there is none.
    pub fn panicked(&self) -> impl Future<Output = Panic> + Send + use<> {
        self.tasks.panicked()
    }

    /// What the verifications of its streams have cost and found so far.
    pub fn verifications(&self) -> Verifications {
        self.auditor.counted()
    }

    /// Ends everything, and waits until it has ended.
    pub async fn stop(self) {
        self.tasks.ended.cancel();
        self.tasks.tracker.close();
        self.tasks.tracker.wait().await;
    }
}
