//! What an API server still knows of a stream's past and present, for those who are behind:
//! [`StreamHistory`]. It runs beside the live watch and never disturbs it.

use std::{fmt, sync::Arc};

use tokio::{
    sync::{Semaphore, mpsc},
    time::sleep,
};

use super::{
    HistoryItem, MESSAGES_MAX, Tasks,
    api_error::ApiError,
    backoff::Backoff,
    lists::Pager,
    outlet::{Batch, Outlet, Stopped},
    repair::{Publication, RepairError},
    requests::Detail,
    stream_watcher::{Setting, StreamWatcher},
};
use crate::domain::{
    frame::{Change, Frame},
    id::Era,
    position::{Position, ResourceVersion},
    stream::ResumePoint,
};

/// Most catch-up watches of one cluster at a time: each is a connection and replays up to five
/// minutes. Those who come later wait.
const CATCH_UPS_MAX: usize = 16;
/// Most lists of one cluster at a time: they are what an API server suffers most from.
const LISTS_MAX: usize = 2;
/// Failures in a row after which a list is given up; whoever asked may ask again.
const LIST_FAILURES_MAX: u32 = 8;

/// What the histories of one cluster share.
#[derive(Clone, Debug)]
pub(super) struct HistoryLimits {
    catch_ups: Arc<Semaphore>,
    lists: Arc<Semaphore>,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            catch_ups: Arc::new(Semaphore::new(CATCH_UPS_MAX)),
            lists: Arc::new(Semaphore::new(LISTS_MAX)),
        }
    }
}

/// One stream's history at the API server, for catch-up and snapshots. Cheap to clone. What it was
/// asked for ends when the receiver is dropped, and with its [`super::ShardWatcher`].
#[derive(Clone)]
pub struct StreamHistory(Arc<Shared>);

struct Shared {
    setting: Setting,
    limits: HistoryLimits,
    tasks: Tasks,
}

impl fmt::Debug for StreamHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamHistory")
            .field("selector", &self.0.setting.selector)
            .finish_non_exhaustive()
    }
}

impl StreamHistory {
    pub(super) fn new(setting: Setting, limits: &HistoryLimits, tasks: &Tasks) -> Self {
        Self(Arc::new(Shared {
            setting,
            limits: limits.clone(),
            tasks: tasks.clone(),
        }))
    }

    /// A second watch, from after `from`: the same session with its own repair, without eras.
    /// It goes on until the receiver is dropped, or ends with [`HistoryItem::Expired`].
    pub fn catch_up(&self, from: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
        self.spawn(|shared, items| async move {
            let Ok(_permit) = shared.limits.catch_ups.acquire().await else {
                return;
            };
            let setting = shared.setting.without_reporter();
            // The era does not matter: positions are made by whoever receives.
            let resume = ResumePoint::At(Position::closed(Era(0), from));
            let outlet = Outlet::CatchUp(items);
            Box::pin(StreamWatcher::new(setting, resume, outlet).run()).await;
        })
    }

    /// A consistent list, ended by [`HistoryItem::Synced`].
    pub fn snapshot(&self) -> mpsc::Receiver<HistoryItem> {
        self.spawn(|shared, items| async move {
            let Ok(_permit) = shared.limits.lists.acquire().await else {
                return;
            };
            let _ = shared.send_snapshot(&items).await;
        })
    }

    /// The net changes between two exact lists: what [`super::Signal::Repaired`] carried, in the
    /// same order.
    pub fn repair(
        &self,
        from: ResourceVersion,
        to: ResourceVersion,
    ) -> mpsc::Receiver<HistoryItem> {
        self.spawn(|shared, items| async move {
            let Ok(_permit) = shared.limits.lists.acquire().await else {
                return;
            };
            let _ = shared.send_repair(items, from, to).await;
        })
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Shared>, mpsc::Sender<HistoryItem>) -> F,
    ) -> mpsc::Receiver<HistoryItem> {
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        let work = work(self.0.clone(), sender.clone());
        self.0.tasks.spawn(sender, work);
        receiver
    }
}

impl Shared {
    async fn send_snapshot(&self, items: &mpsc::Sender<HistoryItem>) -> Result<(), Stopped> {
        let mut pager = self.pager();
        let mut attempts = Attempts::new(&self.setting);
        let mut begun = false;
        loop {
            match pager.next_page().await {
                Ok(Some(page)) => {
                    attempts.succeeded();
                    begun |= !page.is_empty();
                    send_page(items, page).await?;
                }
                Ok(None) => break,
                // The list's own past is gone (trap T17). Pages of two lists are never mixed.
                Err(error) if error.code() == Some(410) && begun => {
                    let reason = "the list expired while it was being sent; begin anew";
                    return send(items, HistoryItem::Failed(reason.into())).await;
                }
                Err(error) => {
                    if error.code() == Some(410) {
                        pager = self.pager();
                    }
                    attempts.failed(items, &error).await?;
                }
            }
        }
        match pager.version() {
            Some(version) => send(items, HistoryItem::Synced(version.clone())).await,
            None => Ok(()),
        }
    }

    fn pager(&self) -> Pager {
        let Setting { api, selector, .. } = &self.setting;
        Pager::new(api, selector, None, Detail::Full, Change::Snapshot)
    }

    async fn send_repair(
        &self,
        items: mpsc::Sender<HistoryItem>,
        from: ResourceVersion,
        to: ResourceVersion,
    ) -> Result<(), Stopped> {
        let Setting { api, selector, .. } = &self.setting;
        let mut attempts = Attempts::new(&self.setting);
        let mut publication = Publication::resume(None, from, to);
        let mut outlet = Outlet::CatchUp(items.clone());
        loop {
            match publication.run(api, selector, &mut outlet).await? {
                Ok(()) => return Ok(()),
                Err(RepairError::Irreparable) => return send(&items, HistoryItem::Expired).await,
                Err(RepairError::Failed(error)) => attempts.failed(&items, &error).await?,
            }
        }
    }
}

/// Failures in a row, and the wait after each.
struct Attempts {
    backoff: Backoff,
    failures: u32,
}

impl Attempts {
    fn new(setting: &Setting) -> Self {
        let policy = setting.api.policy();
        Self {
            backoff: Backoff::new(policy.backoff_min, policy.backoff_max),
            failures: 0,
        }
    }

    fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt, or gives up and says so.
    async fn failed(
        &mut self,
        items: &mpsc::Sender<HistoryItem>,
        error: &ApiError,
    ) -> Result<(), Stopped> {
        self.failures += 1;
        if self.failures >= LIST_FAILURES_MAX {
            send(items, HistoryItem::Failed(error.to_string())).await?;
            return Err(Stopped);
        }
        let delay = self
            .backoff
            .next(self.failures == 1, error.retry_after_ms());
        sleep(delay).await;
        Ok(())
    }
}

async fn send_page(items: &mpsc::Sender<HistoryItem>, page: Vec<Frame>) -> Result<(), Stopped> {
    let mut batch = Batch::default();
    for frame in page {
        if let Some(full) = batch.push(frame) {
            send(items, HistoryItem::Snapshot(full)).await?;
        }
    }
    let rest = batch.take();
    if rest.is_empty() {
        return Ok(());
    }
    send(items, HistoryItem::Snapshot(rest)).await
}

async fn send(items: &mpsc::Sender<HistoryItem>, item: HistoryItem) -> Result<(), Stopped> {
    items.send(item).await.map_err(|_| Stopped)
}
