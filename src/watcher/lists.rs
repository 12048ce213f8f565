//! A list, page by page: [`Pager`].

use super::{
    api_error::ApiError,
    client::ApiServer,
    frames::{Malformed, read_page},
    requests::{At, Detail, list},
};
use crate::{
    clock::unix_now,
    domain::{
        cluster::StreamSelector,
        frame::{Change, Frame},
        position::ResourceVersion,
    },
};

/// How much smaller the next page is after one that was too long.
const SHRINK: u32 = 8;

/// A list in progress. After an error the same page can be asked for again.
pub(super) struct Pager {
    api: ApiServer,
    selector: StreamSelector,
    /// Exactly this state, or the newest.
    exactly: Option<ResourceVersion>,
    detail: Detail,
    /// What each object's frame says.
    change: Change,
    page_items: u32,
    version: Option<ResourceVersion>,
    next: Option<String>,
    done: bool,
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
            version: None,
            next: None,
            done: false,
        }
    }

    /// The list's resource version, once its first page has come.
    pub(super) fn version(&self) -> Option<&ResourceVersion> {
        self.version.as_ref()
    }

    /// The next page; `None` after the last one.
    pub(super) async fn next_page(&mut self) -> Result<Option<Vec<Frame>>, ApiError> {
        if self.done {
            return Ok(None);
        }
        let bytes = loop {
            match self.fetch().await {
                Err(ApiError::PageTooLong) if self.page_items > 1 => {
                    self.page_items = (self.page_items / SHRINK).max(1);
                }
                other => break other?,
            }
        };
        let page = read_page(&bytes, self.change, unix_now())?;
        if self.exactly.as_ref().is_some_and(|rv| *rv != page.rv) {
            return Err(ApiError::OtherVersion);
        }
        // Pages of two lists are never mixed (trap T17).
        if *self.version.get_or_insert_with(|| page.rv.clone()) != page.rv {
            return Err(Malformed::Json("page of the list that was begun").into());
        }
        self.done = page.next.is_none();
        self.next = page.next;
        Ok(Some(page.items))
    }

    async fn fetch(&self) -> Result<bytes::Bytes, ApiError> {
        let at = match (&self.next, &self.exactly) {
            (Some(token), _) => At::Continue(token),
            (None, Some(rv)) => At::Exactly(rv),
            (None, None) => At::Now,
        };
        let request = list(&self.selector, at, self.detail, self.page_items);
        self.api.get(request).await
    }
}
