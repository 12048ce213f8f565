//! Clusters that are not watched here and soon may be: [`WarmClient`] keeps the client, the
//! credentials and connections ready, so that a takeover need not make them first.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Breakers, CredentialPolicy, WatchPolicy,
    api_error::ApiError,
    backoff::Backoff,
    client::ApiServer,
    connect::{IDLE_CONNECTION_LIFE, IDLE_CONNECTIONS_MAX},
};
use crate::{domain::cluster::Cluster, panics::contain};

/// How often the connections are used, on average. Often enough that neither this side nor a load
/// balancer closes them as idle.
const USE_EVERY: Duration = Duration::from_secs(30);
/// By how much that may be less or more, so that the requests to many clusters spread.
const SPREAD: Duration = Duration::from_secs(8);
const _: () = assert!(USE_EVERY.as_secs() + SPREAD.as_secs() < IDLE_CONNECTION_LIFE.as_secs());

/// The first pause after a failure ...
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// ... and the longest: nobody waits for the cluster here, and who watches it reports its state.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// With how many requests at a time a stream begins: which cluster is it, and where does it stand?
const REQUESTS: usize = 2;

/// Clusters whose connections are opened at the same time: a TLS handshake costs a millisecond of a
/// core, a credential command a process.
const OPENINGS_MAX: usize = 8;

/// What the warm clients of a replica share. A cheap clone.
#[derive(Clone, Debug)]
pub struct Warming {
    credentials: Arc<CredentialPolicy>,
    policy: WatchPolicy,
    openings: Arc<Semaphore>,
}

impl Warming {
    /// Clients with these credentials, shared with the watchers that have this policy.
    pub fn new(credentials: Arc<CredentialPolicy>, policy: WatchPolicy) -> Self {
        Self {
            credentials,
            policy,
            openings: Arc::new(Semaphore::new(OPENINGS_MAX)),
        }
    }
}

/// A cluster's client with open connections. Dropping it closes them, unless the cluster is
/// watched by then.
#[derive(Debug)]
pub struct WarmClient {
    /// Ends the task when this is dropped.
    _ends: DropGuard,
}

impl WarmClient {
    /// Keeps connections for so many streams. Never fails: a cluster that cannot be reached is tried
    /// again now and then.
    pub fn keep(warming: &Warming, cluster: Arc<Cluster>, streams: usize) -> Self {
        let Warming {
            credentials,
            policy,
            openings,
        } = warming.clone();
        let backoff = Backoff::between(RETRY_FIRST, RETRY_MAX, &policy);
        let thread = policy.threads.of(cluster.id);
        // A breaker of its own, which is never asked: one that outlived the watches would hold back
        // the next ones for an outage that may be over.
        let policy = WatchPolicy {
            breakers: Breakers::default(),
            ..policy
        };
        let keeper = Keeper {
            backoff,
            api: ApiServer::new(cluster, credentials, policy),
            connections: (streams * REQUESTS).clamp(1, IDLE_CONNECTIONS_MAX),
            openings,
        };
        let ended = CancellationToken::new();
        thread.spawn(ended.clone().run_until_cancelled_owned(keeper.run()));
        Self {
            _ends: ended.drop_guard(),
        }
    }
}

struct Keeper {
    api: ApiServer,
    connections: usize,
    openings: Arc<Semaphore>,
    backoff: Backoff,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let pause = match contain(self.open()).await {
                Ok(Ok(())) => {
                    self.backoff.reset();
                    self.backoff.around(USE_EVERY, SPREAD)
                }
                Err(panic) => {
                    let cluster = self.api.cluster();
                    tracing::error!(
                        cluster,
                        message = panic.message,
                        place = panic.place,
                        "keeping connections ready for a takeover panicked"
                    );
                    self.backoff.next_within(RETRY_MAX, false)
                }
                Ok(Err(error)) => {
                    let cluster = self.api.cluster();
                    tracing::debug!(cluster, %error, "no connection kept ready for a takeover");
                    // The kubeconfig, and what it names, is read again.
                    self.api.forget_client().await;
                    self.backoff.next_within(RETRY_MAX, false)
                }
            };
            sleep(pause).await;
        }
    }

    async fn open(&self) -> Result<(), ApiError> {
        let limit = self.api.policy().response_timeout;
        let Ok(_permit) = self.openings.acquire().await else {
            return Ok(());
        };
        let opened = timeout(limit, self.api.open_connections(self.connections)).await;
        opened.unwrap_or_else(|_| Err(self.api.no_answer(limit)))
    }
}
