//! What an API server still knows of a stream's past and present, for those who are behind:
//! [`StreamHistory`]. It runs beside the live watch and never disturbs it.

use std::{fmt, sync::Arc};

use tokio::sync::{Semaphore, mpsc};

use super::{
    HistoryItem, Tasks,
    attempts::Attempts,
    outlet::{Outlet, Stopped},
    repair::{Publication, RepairError},
    snapshot,
    spool::spool,
    stream_watcher::{Setting, StreamWatcher},
};
use crate::{
    domain::{
        id::Era,
        position::{Position, ResourceVersion},
        stream::ResumePoint,
    },
    memory::Budgets,
};

/// Most catch-up watches of one cluster at a time: each is a connection and replays up to five
/// minutes. Those who come later wait.
const CATCH_UPS_MAX: usize = 16;
/// Most lists of one cluster that are asked for at a time: they are what an API server suffers most
/// from. What was read and waits for its reader does not count.
const LISTS_MAX: usize = 2;
/// Messages that the receiver may be behind. What it has not taken is counted where it was read.
const MESSAGES_MAX: usize = 4;

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

    /// A second watch, from after `from`: the same session, without eras. It continues until the
    /// receiver is dropped, or ends with [`HistoryItem::WatchLost`] or [`HistoryItem::Expired`].
    pub fn catch_up(&self, from: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
        self.spawn(|shared, items| async move {
            let Ok(_permit) = shared.limits.catch_ups.acquire().await else {
                return;
            };
            let setting = shared.setting.without_reporter();
            // The era does not matter: the receiver assigns positions.
            let resume = ResumePoint::At(Position::closed(Era(0), from));
            let outlet = Outlet::catch_up(items, &shared.budgets().snapshots);
            Box::pin(StreamWatcher::new(setting, resume, outlet).run()).await;
        })
    }

    /// A consistent list of exactly this version, or of the newest: from [`HistoryItem::Listing`] to
    /// [`HistoryItem::Synced`]. A version that is gone is [`HistoryItem::Expired`].
    pub fn snapshot(&self, exactly: Option<ResourceVersion>) -> mpsc::Receiver<HistoryItem> {
        self.spawn(|shared, items| async move {
            let _ = snapshot::send(&shared.setting, &shared.limits.lists, exactly, &items).await;
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
            let _ = spool(&items, |read| shared.send_repair(read, from, to)).await;
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
    fn budgets(&self) -> &Budgets {
        &self.setting.api.policy().budgets
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
        let mut outlet = Outlet::catch_up(items.clone(), &self.budgets().snapshots);
        loop {
            let lists = Some(&*self.limits.lists);
            match publication.run(api, selector, lists, &mut outlet).await? {
                Ok(()) => return Ok(()),
                Err(RepairError::Irreparable) => {
                    tracing::debug!(cluster = api.cluster(), "no exact lists to compare");
                    return items.send(HistoryItem::Expired).await.map_err(|_| Stopped);
                }
                Err(RepairError::Failed(error)) => attempts.failed(&items, &error).await?,
            }
        }
    }
}
