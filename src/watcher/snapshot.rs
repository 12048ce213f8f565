//! A consistent list for one who asked: read at the API server's speed, handed out at the reader's.
//!
//! What was read and not taken lies in memory, within the budget of snapshots. As long as there is
//! some, the list is complete soon, and its reader may take its time. When none is left, the
//! list is read on as its reader takes; it then may expire at the API server, which forgets a list
//! five minutes after it began.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc};

use super::{
    HistoryItem,
    api_error::ApiError,
    attempts::Attempts,
    holding::{cost_bytes, hold_for},
    lists::Pager,
    outlet::{Batch, Stopped},
    repair::RepairError,
    requests::Detail,
    spool::spool,
    stream_watcher::Setting,
};
use crate::{
    domain::{
        event::{Change, Event},
        position::ResourceVersion,
    },
    memory::{Allowance, Hold, Reservation},
};

/// Pages that have room at once, at least.
const PAGES: usize = 4;

/// A page of a list that is read as its reader takes, and has no memory but its own: no budget
/// counts that, and there may be such a list for each stream of each subscriber. Smaller ones would
/// cost the API server more requests than a slow reader is worth.
const SMALL_PAGE_BYTES: usize = 64 * 1024;

/// Sends a list, of exactly this version where one is given: from [`HistoryItem::Listing`] to
/// [`HistoryItem::Synced`].
pub(super) async fn send(
    setting: &Setting,
    lists: &Semaphore,
    exactly: Option<ResourceVersion>,
    items: &mpsc::Sender<HistoryItem>,
) -> Result<(), Stopped> {
    spool(items, |read| {
        List::new(setting, lists, exactly, read).read()
    })
    .await
}

/// A list that is being read.
struct List<'a> {
    setting: &'a Setting,
    lists: &'a Semaphore,
    /// The right to ask the API server, while it is asked.
    permit: Option<SemaphorePermit<'a>>,
    allowance: Allowance,
    exactly: Option<ResourceVersion>,
    pager: Pager,
    read: mpsc::Sender<HistoryItem>,
    /// Whether it ever had to wait until something was taken.
    waited: bool,
    begun: bool,
    objects: usize,
}

/// Memory of one page.
struct PageHold {
    /// What was taken before it came.
    taken: Option<Reservation>,
    /// Or its reader's own.
    own: Option<Arc<OwnedSemaphorePermit>>,
    /// Where it was larger than that, some of what it was read into.
    rest: Option<Reservation>,
}

impl PageHold {
    fn new(hold: Hold, bytes: usize, pager: &mut Pager) -> Self {
        let (mut taken, own) = match hold {
            Hold::Shared(taken) => (Some(taken), None),
            Hold::Own(own) => (None, Some(Arc::new(own))),
        };
        let covered = taken.as_mut().map_or(2 * SMALL_PAGE_BYTES, |taken| {
            taken.try_resize(bytes);
            taken.bytes()
        });
        let rest = bytes.saturating_sub(covered);
        let rest = (rest > 0).then(|| pager.split_memory(rest)).flatten();
        Self { taken, own, rest }
    }

    /// Memory of a part of it, until its last object is dropped.
    fn part(&mut self, bytes: usize) -> Self {
        let mut open = bytes;
        let mut split = |held: &mut Option<Reservation>| {
            let part = held.as_mut().map(|held| held.split(open));
            open = open.saturating_sub(part.as_ref().map_or(0, Reservation::bytes));
            part
        };
        Self {
            taken: split(&mut self.taken),
            rest: split(&mut self.rest),
            own: self.own.clone(),
        }
    }
}

impl<'a> List<'a> {
    fn new(
        setting: &'a Setting,
        lists: &'a Semaphore,
        exactly: Option<ResourceVersion>,
        read: mpsc::Sender<HistoryItem>,
    ) -> Self {
        let budget = &setting.api.policy().budgets.snapshots;
        Self {
            setting,
            lists,
            permit: None,
            allowance: Allowance::new(budget, usize::MAX),
            pager: pager(setting, exactly.clone()),
            exactly,
            read,
            waited: false,
            begun: false,
            objects: 0,
        }
    }

    async fn read(mut self) -> Result<(), Stopped> {
        let mut attempts = Attempts::new(self.setting);
        loop {
            let hold = self.memory().await;
            if self.permit.is_none() {
                // It is never closed.
                self.permit = self.lists.acquire().await.ok();
            }
            match self.pager.next_page().await {
                Ok(Some(page)) => {
                    attempts.succeeded();
                    self.begin().await?;
                    self.keep(page, hold).await?;
                }
                Ok(None) => break,
                Err(error) if self.is_gone(&error) => {
                    return self.send(HistoryItem::Expired).await;
                }
                // The list's own past is gone (trap T17). Pages of two lists are never mixed.
                Err(error) if error.code() == Some(410) && self.objects > 0 => {
                    return self.expired().await;
                }
                Err(error) => {
                    if error.code() == Some(410) {
                        self.pager = pager(self.setting, None);
                    }
                    // Nobody else is kept waiting meanwhile.
                    self.permit = None;
                    attempts.failed(&self.read, &error).await?;
                }
            }
        }
        match self.pager.version().cloned() {
            Some(version) => self.send(HistoryItem::Synced(version)).await,
            None => Ok(()),
        }
    }

    /// Whether the version that was asked for is gone. An expired token does not prove that.
    fn is_gone(&self, error: &ApiError) -> bool {
        self.exactly.is_some() && !self.begun && is_irreparable(error)
    }

    /// Says which list it is, with the first page.
    async fn begin(&mut self) -> Result<(), Stopped> {
        match self.pager.version().cloned() {
            Some(version) if !self.begun => {
                self.begun = true;
                self.send(HistoryItem::Listing(version)).await
            }
            _ => Ok(()),
        }
    }

    /// Memory for the next page. If none is free, it waits without holding any.
    async fn memory(&mut self) -> Hold {
        let budget = &self.setting.api.policy().budgets.snapshots;
        let part = budget.limit() / PAGES;
        self.pager.shrink_to(part);
        let expected = self.pager.expected_bytes().min(part);
        if let Some(hold) = self.allowance.try_share(expected) {
            return hold;
        }
        self.waited = true;
        self.pager.release_memory();
        self.permit = None;
        let hold = self.allowance.take(expected).await;
        if matches!(hold, Hold::Own(_)) {
            self.pager.shrink_to(SMALL_PAGE_BYTES);
        }
        hold
    }

    /// Keeps a page until it is taken.
    async fn keep(&mut self, page: Vec<Event>, hold: Hold) -> Result<(), Stopped> {
        self.objects += page.len();
        let mut hold = PageHold::new(hold, cost_bytes(&page), &mut self.pager);
        let mut batch = Batch::default();
        for event in page {
            if let Some(full) = batch.push(event) {
                self.keep_batch(full, &mut hold).await?;
            }
        }
        self.keep_batch(batch.take(), &mut hold).await
    }

    async fn keep_batch(&self, events: Vec<Event>, hold: &mut PageHold) -> Result<(), Stopped> {
        if events.is_empty() {
            return Ok(());
        }
        let part = hold.part(cost_bytes(&events));
        self.send(HistoryItem::Snapshot(hold_for(events, part)))
            .await
    }

    async fn expired(self) -> Result<(), Stopped> {
        let objects = self.objects;
        let reason = if self.waited {
            let budget = &self.setting.api.policy().budgets.snapshots;
            format!(
                "the list did not fit into the {} bytes of {} and was read too slowly, so that it \
                 expired at the API server after {objects} objects: read faster, narrow the \
                 filter, or raise {}",
                budget.limit(),
                budget.key(),
                budget.key(),
            )
        } else {
            format!("the list expired at the API server after {objects} objects; begin it again")
        };
        let stream = &self.setting.selector;
        tracing::warn!(resource = %stream.resource, namespace = %stream.namespace, %reason, "snapshot list failed");
        self.send(HistoryItem::Failed(reason)).await
    }

    async fn send(&self, item: HistoryItem) -> Result<(), Stopped> {
        self.read.send(item).await.map_err(|_| Stopped)
    }
}

fn pager(setting: &Setting, exactly: Option<ResourceVersion>) -> Pager {
    let Setting { api, selector, .. } = setting;
    Pager::new(api, selector, exactly, Detail::Full, Change::Snapshot)
}

/// Whether an exact list is gone for good.
fn is_irreparable(error: &ApiError) -> bool {
    RepairError::from(error.clone()) == RepairError::Irreparable
}
