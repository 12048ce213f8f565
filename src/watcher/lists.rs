//! A list, page by page: [`Pager`].

use super::{
    api_error::{ApiError, PAGE_BYTES_MAX},
    client::{ApiServer, COPIES},
    events::{Malformed, read_identities, read_page},
    requests::{At, Detail, list},
};
use crate::{
    clock::unix_now,
    domain::{
        cluster::StreamSelector,
        event::{Change, Event},
        position::ResourceVersion,
        watch_session::Listing,
    },
    memory::{Budget, Reservation},
};

/// How much smaller the next page is after one that was too long.
const SHRINK: u32 = 8;

/// How much larger it may be again after one that came.
const GROW: u32 = 2;

/// Memory for a page of which nothing is known yet.
const FIRST_PAGE_BYTES: usize = 512 * 1024;

/// What an object takes of which nothing is known yet.
const OBJECT_BYTES: usize = 16 * 1024;

/// A list in progress. After an error the same page can be asked for again.
pub(super) struct Pager {
    api: ApiServer,
    selector: StreamSelector,
    /// Exactly this state, or the newest.
    exactly: Option<ResourceVersion>,
    detail: Detail,
    /// The change type of each object's event.
    change: Change,
    page_items: u32,
    /// What the last page took on the wire, and how many objects it had.
    last: Option<(usize, usize)>,
    /// Memory for a page; kept from page to page, for callers that read one page of each of two
    /// lists.
    held: Option<Reservation>,
    version: Option<ResourceVersion>,
    next: Option<String>,
    done: bool,
    requests: u64,
    bytes: u64,
}

impl Pager {
    /// The state at a resource version, or the newest where none is given.
    pub(super) fn new(
        api: &ApiServer,
        selector: &StreamSelector,
        exactly: Option<ResourceVersion>,
        detail: Detail,
        change: Change,
    ) -> Self {
        Self {
            page_items: api.policy().page_items,
            api: api.clone(),
            selector: selector.clone(),
            exactly,
            detail,
            change,
            last: None,
            held: None,
            version: None,
            next: None,
            done: false,
            requests: 0,
            bytes: 0,
        }
    }

    /// Requests that were sent, and bytes that were received.
    pub(super) fn cost(&self) -> (u64, u64) {
        (self.requests, self.bytes)
    }

    /// The list's resource version, once its first page has come.
    pub(super) fn version(&self) -> Option<&ResourceVersion> {
        self.version.as_ref()
    }

    /// The expected size of the next page on the wire, estimated from the last one.
    pub(super) fn expected_bytes(&self) -> usize {
        self.last.map_or(FIRST_PAGE_BYTES, |(bytes, _)| bytes)
    }

    /// Asks for no more objects in the next page than take about so many bytes.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let known = self.last.filter(|(_, items)| *items > 0);
        let object_bytes = known.map_or(OBJECT_BYTES, |(bytes, items)| bytes / items);
        let items = u32::try_from(bytes / object_bytes.max(1)).unwrap_or(u32::MAX);
        self.page_items = self.page_items.min(items.max(1));
    }

    /// Memory that was taken for the last page, for what is left of it.
    pub(super) fn split_memory(&mut self, bytes: usize) -> Option<Reservation> {
        self.held.as_mut().map(|held| held.split(bytes))
    }

    /// Gives back the memory for pages, before something else is waited for.
    pub(super) fn release_memory(&mut self) {
        self.held = None;
    }

    fn budget(&self) -> &Budget {
        let budgets = &self.api.policy().budgets;
        match self.detail {
            Detail::Full => &budgets.pages,
            Detail::Metadata => &budgets.metadata_pages,
        }
    }

    /// The next page; `None` after the last one.
    pub(super) async fn next_page(&mut self) -> Result<Option<Vec<Event>>, ApiError> {
        let Some(bytes) = self.next_bytes().await? else {
            return Ok(None);
        };
        let page = read_page(&bytes, self.change, unix_now())?;
        self.learn(bytes.len(), page.items.len());
        self.turn(&page.rv, page.next)?;
        Ok(Some(page.items))
    }

    /// The whole list, of which nothing is kept but what a verification needs.
    pub(super) async fn listing(&mut self, mut listing: Listing) -> Result<Listing, ApiError> {
        while let Some(bytes) = self.next_bytes().await? {
            let page = read_identities(&bytes)?;
            self.learn(bytes.len(), page.items.len());
            for item in &page.items {
                listing.add(&item.namespace, &item.name, &item.uid, &item.rv);
            }
            self.turn(&page.rv, page.next)?;
        }
        let at = self.version.clone().unwrap_or(ResourceVersion::ZERO);
        Ok(listing.taken_at(at))
    }

    async fn next_bytes(&mut self) -> Result<Option<bytes::Bytes>, ApiError> {
        if self.done {
            self.held = None;
            return Ok(None);
        }
        let bytes = self.fetch().await?;
        self.bytes += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// A page of so many bytes and objects was read.
    fn learn(&mut self, bytes: usize, items: usize) {
        self.last = Some((bytes, items));
        self.page_items = self.page_items.saturating_mul(GROW);
        self.page_items = self.page_items.min(self.api.policy().page_items);
        if let Some(held) = &mut self.held {
            // What was taken for one large page is not kept for small ones.
            held.try_resize(COPIES * bytes.max(FIRST_PAGE_BYTES));
        }
    }

    /// A page was read; it is of this version, and `next` follows it.
    fn turn(&mut self, version: &ResourceVersion, next: Option<String>) -> Result<(), ApiError> {
        if self.exactly.as_ref().is_some_and(|rv| rv != version) {
            return Err(ApiError::OtherVersion);
        }
        // Pages of two lists are never mixed (trap T17).
        if self.version.get_or_insert_with(|| version.clone()) != version {
            return Err(Malformed::Json("page of the list that was begun").into());
        }
        self.done = next.is_none();
        self.next = next;
        Ok(())
    }

    /// Reads the next page, with fewer objects where it does not fit.
    async fn fetch(&mut self) -> Result<bytes::Bytes, ApiError> {
        let mut least = COPIES * FIRST_PAGE_BYTES;
        loop {
            let mut held = match self.held.take() {
                Some(held) if held.bytes() >= least.min(self.budget().limit()) => held,
                // Who waits holds nothing.
                other => {
                    drop(other);
                    self.budget().reserve(least).await
                }
            };
            self.requests += 1;
            match self.ask(&mut held).await {
                Err(ApiError::PageTooLong) if self.page_items > 1 => {
                    self.page_items = (self.page_items / SHRINK).max(1);
                    self.held = Some(held);
                }
                // One object: there is room for it when nothing else has any.
                Err(ApiError::PageTooLong) if least < COPIES * PAGE_BYTES_MAX => {
                    least = COPIES * PAGE_BYTES_MAX;
                }
                Err(error) => return Err(error),
                Ok(bytes) => {
                    self.held = Some(held);
                    return Ok(bytes);
                }
            }
        }
    }

    async fn ask(&self, held: &mut Reservation) -> Result<bytes::Bytes, ApiError> {
        let at = match (&self.next, &self.exactly) {
            (Some(token), _) => At::Continue(token),
            (None, Some(rv)) => At::Exactly(rv),
            (None, None) => At::Now,
        };
        let request = list(&self.selector, at, self.detail, self.page_items);
        self.api.get_page(request, held).await
    }
}
