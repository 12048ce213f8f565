//! What a session needs for its verifications, taken beside the watch: leave, lists, and whether
//! history is still the one that was delivered. What that costs and finds is counted for each
//! cluster: [`Verifications`].

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    api_error::ApiError,
    client::ApiServer,
    events::read_identities,
    health::describe,
    lists::Pager,
    repair::RepairError,
    requests::{self, Detail},
};
use crate::{
    domain::{
        cluster::StreamSelector,
        event::Change,
        pace::Pace,
        position::ResourceVersion,
        watch_session::{Finding, Input, Listing, Question},
    },
    panics::{Panic, contain},
};

/// Lists of one cluster at a time, beside those for snapshots and repairs: an API server suffers
/// most from lists, and a verification can wait.
const LISTS_MAX: usize = 1;

/// What the verifications of one cluster have cost and found since its watcher was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verifications {
    /// Lists that were compared with what was delivered, or begun with.
    pub lists: u64,
    /// Requests for these and for exact lists of the past, pages counted each.
    pub requests: u64,
    /// Bytes of the answers.
    pub bytes: u64,
    /// Lists that could not be taken.
    pub failed: u64,
    /// Lists that showed nothing but what was delivered.
    pub agreed: u64,
    /// Lists that differed at first, and were checked again.
    pub doubtful: u64,
    /// Changes that a quiet watch did not deliver; their net changes were published.
    pub stuck: u64,
    /// Changes that were left out before what was delivered after them; eras began.
    pub lost: u64,
    /// Histories that were not the delivered ones; eras began.
    pub rewound: u64,
}

/// The verifications of one cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Auditor {
    leave: Arc<Semaphore>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    lists: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    agreed: AtomicU64,
    doubtful: AtomicU64,
    stuck: AtomicU64,
    lost: AtomicU64,
    rewound: AtomicU64,
    started: Instant,
    pace: Mutex<Pace>,
}

impl Default for Auditor {
    fn default() -> Self {
        Self {
            leave: Arc::new(Semaphore::new(LISTS_MAX)),
            counts: Arc::new(Counts {
                lists: AtomicU64::default(),
                requests: AtomicU64::default(),
                bytes: AtomicU64::default(),
                failed: AtomicU64::default(),
                agreed: AtomicU64::default(),
                doubtful: AtomicU64::default(),
                stuck: AtomicU64::default(),
                lost: AtomicU64::default(),
                rewound: AtomicU64::default(),
                started: Instant::now(),
                pace: Mutex::default(),
            }),
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Auditor {
    /// What has been counted so far.
    pub(super) fn counted(&self) -> Verifications {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        Verifications {
            lists: read(&counts.lists),
            requests: read(&counts.requests),
            bytes: read(&counts.bytes),
            failed: read(&counts.failed),
            agreed: read(&counts.agreed),
            doubtful: read(&counts.doubtful),
            stuck: read(&counts.stuck),
            lost: read(&counts.lost),
            rewound: read(&counts.rewound),
        }
    }

    /// Counts what was found, and logs it.
    pub(super) fn found(
        &self,
        cluster: &str,
        selector: &StreamSelector,
        at: &ResourceVersion,
        finding: Finding,
    ) {
        let counts = &self.counts;
        let resource = describe(selector);
        match finding {
            Finding::Agrees => {
                add(&counts.agreed, 1);
                tracing::debug!(%cluster, %resource, %at, "everything up to the list was delivered");
            }
            Finding::Begun => {
                tracing::debug!(%cluster, %resource, %at, "the next list is compared with this one");
            }
            Finding::Doubtful => {
                add(&counts.doubtful, 1);
                tracing::info!(%cluster, %resource, %at, "the list shows changes that were not delivered, checking again");
            }
            Finding::Stuck { missing } => {
                add(&counts.stuck, missing);
                tracing::warn!(%cluster, %resource, %at, missing, "the watch does not deliver what exists, publishing the net changes");
            }
            Finding::Lost { missing } => {
                add(&counts.lost, missing);
                tracing::warn!(%cluster, %resource, %at, missing, "the API server left out changes, starting a new era");
            }
            Finding::Rewound => {
                add(&counts.rewound, 1);
                tracing::warn!(%cluster, %resource, %at, "the API server's history is not the one that was delivered, starting a new era");
            }
        }
        self.log(cluster);
    }

    /// Says once in a while what it has cost.
    fn log(&self, cluster: &str) {
        let mut pace = self
            .counts
            .pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if pace.is_due("", self.counts.started.elapsed()) {
            let Verifications {
                lists,
                requests,
                bytes,
                failed,
                agreed,
                stuck,
                lost,
                rewound,
                ..
            } = self.counted();
            tracing::info!(
                %cluster, lists, requests, bytes, failed, agreed, stuck, lost, rewound,
                "verified what was delivered"
            );
        }
    }
}

/// What came of something that was begun beside the watch.
pub(super) enum Done {
    /// A list may be taken, for as long as this is held.
    Leave(OwnedSemaphorePermit),
    /// A list was taken, or was not.
    List(OwnedSemaphorePermit, Result<(Listing, bool), ListError>),
}

/// Why there is no list.
pub(super) enum ListError {
    /// The exact list is gone, or not known to the server.
    Gone,
    /// It may work later.
    Failed(ApiError),
}

/// One verification under way. What was begun for it ends when it is dropped.
pub(super) struct Verifying {
    work: Option<AbortOnDropHandle<Result<Option<Done>, Panic>>>,
}

impl Verifying {
    /// Asks for leave to take a list.
    pub(super) fn ask(auditor: &Auditor) -> Self {
        let leave = auditor.leave.clone();
        let work = tokio::spawn(contain(async move {
            let permit = leave.acquire_owned().await;
            permit.ok().map(Done::Leave)
        }));
        Self {
            work: Some(AbortOnDropHandle::new(work)),
        }
    }

    /// Takes a list.
    pub(super) fn list(&mut self, permit: OwnedSemaphorePermit, task: ListTask) {
        let work = tokio::spawn(contain(async move {
            let taken = task.run().await;
            Some(Done::List(permit, taken))
        }));
        self.work = Some(AbortOnDropHandle::new(work));
    }

    /// Waits until what was started is done; never returns if nothing was.
    pub(super) async fn done(&mut self) -> Option<Done> {
        let Some(work) = &mut self.work else {
            return std::future::pending().await;
        };
        let done = work.await;
        self.work = None;
        match done {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => panic.resume(),
            Err(_) => None,
        }
    }
}

/// A list to be taken.
pub(super) struct ListTask {
    pub(super) api: ApiServer,
    pub(super) auditor: Auditor,
    pub(super) selector: StreamSelector,
    pub(super) exactly: Option<ResourceVersion>,
    pub(super) above: Option<ResourceVersion>,
    /// What to ask with a list of the present.
    pub(super) questions: Vec<Question>,
}

impl ListTask {
    async fn run(self) -> Result<(Listing, bool), ListError> {
        let is_exact = self.exactly.is_some();
        let mut pager = Pager::new(
            &self.api,
            &self.selector,
            self.exactly.clone(),
            Detail::Metadata,
            Change::Snapshot,
        );
        let list = pager.listing(Listing::new(self.above.clone()));
        let history = is_rewound(&self.api, &self.selector, &self.questions);
        let (listing, is_rewound) = tokio::join!(list, history);
        let (requests, bytes) = pager.cost();
        let counts = &self.auditor.counts;
        add(&counts.requests, requests);
        add(&counts.bytes, bytes);
        let error = match listing {
            Ok(listing) => {
                add(&counts.lists, u64::from(!is_exact));
                return Ok((listing, is_rewound));
            }
            Err(error) => error,
        };
        add(&counts.failed, 1);
        tracing::debug!(%error, "list for a verification failed");
        match RepairError::from(error) {
            RepairError::Irreparable => Err(ListError::Gone),
            RepairError::Failed(error) => Err(ListError::Failed(error)),
        }
    }
}

/// Whether an exact list shows that an object that was delivered never was. A list that is gone, or
/// that the server does not know, proves nothing.
pub(super) async fn is_rewound(
    api: &ApiServer,
    selector: &StreamSelector,
    questions: &[Question],
) -> bool {
    let asked = questions
        .iter()
        .map(|question| contradicts(api, selector, question));
    let answers = futures::future::join_all(asked).await;
    answers.into_iter().any(|is_contradicted| is_contradicted)
}

async fn contradicts(api: &ApiServer, selector: &StreamSelector, question: &Question) -> bool {
    let Ok(answer) = api.get(requests::object(selector, question)).await else {
        return false;
    };
    let Ok(page) = read_identities(&answer) else {
        return false;
    };
    // A server that answers with another version, with other objects or with a part understands
    // something else.
    if page.rv != question.at || page.next.is_some() {
        return false;
    }
    let witness = &question.witness;
    match page.items.as_slice() {
        [] => true,
        [item] if *item.name == *witness.key.name() => {
            *item.uid != *witness.key.uid() || item.rv != witness.rv
        }
        _ => false,
    }
}

impl From<Result<(Listing, bool), ListError>> for Input<'_> {
    fn from(taken: Result<(Listing, bool), ListError>) -> Self {
        match taken {
            Ok((listing, is_rewound)) => Self::Listed {
                listing,
                is_rewound,
            },
            Err(ListError::Gone) => Self::ListGone,
            Err(ListError::Failed(error)) => Self::ListFailed {
                retry_after_ms: error.retry_after_ms(),
            },
        }
    }
}
