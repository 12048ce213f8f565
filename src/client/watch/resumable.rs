//! A watch that resumes with a token, and its copy: what shards and clusters have in common.

use std::{collections::BTreeMap, mem};

use tonic::{Response, Status, Streaming};

use super::{SILENCE_MAX, Update};
use crate::client::{
    Connection, Endpoint, Endpoints, Error,
    failover::{Failover, Open, Step, by_call},
};

/// What is watched.
pub(super) trait Watched {
    type Request: Clone + Send + 'static;
    type Response: Send + 'static;
    type Item;
    type Change;

    /// The call.
    fn call(
        connection: Connection,
        request: Self::Request,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Response>>, Status>> + Send + 'static;

    /// The request that continues after a message with this token, at a replica that is not behind
    /// this revision.
    fn resumed(request: &Self::Request, token: &str, revision: u64) -> Self::Request;

    /// Takes a message apart.
    fn message(response: Self::Response) -> Message<Self::Item, Self::Change>;

    /// The name of an item.
    fn name(item: &Self::Item) -> &str;

    /// What a change does to the copy: the item's name, and the item unless it is gone.
    fn effect(request: &Self::Request, change: &Self::Change) -> (String, Option<Self::Item>);
}

/// A message of a watch.
pub(super) struct Message<I, C> {
    pub(super) token: String,
    pub(super) revision: u64,
    pub(super) news: News<I, C>,
}

/// What is new in it.
pub(super) enum News<I, C> {
    Page(Vec<I>),
    SnapshotEnd,
    Change(Box<C>),
    Nothing,
}

/// A watch of what has names, with a copy of it.
pub(super) struct Resumable<W: Watched> {
    request: W::Request,
    replicas: Failover<W::Request, W::Response>,
    items: BTreeMap<String, W::Item>,
    /// A snapshot that is not complete.
    pages: Option<BTreeMap<String, W::Item>>,
    token: String,
    revision: u64,
}

impl<W: Watched> Resumable<W> {
    pub(super) fn new(endpoints: Endpoints, request: W::Request) -> Self {
        Self::through(endpoints, request, by_call(W::call))
    }

    pub(super) fn through(
        endpoints: Endpoints,
        request: W::Request,
        open: Open<W::Request, W::Response>,
    ) -> Self {
        Self {
            request,
            replicas: Failover::new(endpoints, SILENCE_MAX, open),
            items: BTreeMap::new(),
            pages: None,
            token: String::new(),
            revision: 0,
        }
    }

    pub(super) fn items(&self) -> &BTreeMap<String, W::Item> {
        &self.items
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.replicas.endpoint()
    }

    pub(super) async fn next(&mut self) -> Result<Update<W::Change>, Error> {
        loop {
            let (request, token, revision) = (&self.request, &self.token, self.revision);
            let resumed = || W::resumed(request, token, revision);
            match self.replicas.step(resumed).await? {
                Step::Connected(endpoint) => return Ok(Update::Connected(endpoint)),
                Step::Interrupted(endpoint, why) => {
                    // The next replica begins a snapshot from its first page.
                    self.pages = None;
                    return Ok(Update::Interrupted { endpoint, why });
                }
                Step::Message(response) => {
                    if let Some(update) = self.take(response) {
                        return Ok(update);
                    }
                }
            }
        }
    }

    fn take(&mut self, response: W::Response) -> Option<Update<W::Change>> {
        let message = W::message(response);
        if !message.token.is_empty() {
            self.token = message.token;
        }
        let update = match message.news {
            News::Page(page) => {
                let named = page.into_iter();
                let named = named.map(|item| (W::name(&item).to_owned(), item));
                self.pages.get_or_insert_default().extend(named);
                // The copy stands where it stood until the last page is there.
                return None;
            }
            News::SnapshotEnd => {
                self.items = mem::take(&mut self.pages).unwrap_or_default();
                Some(Update::Snapshot)
            }
            News::Change(change) => {
                let (name, item) = W::effect(&self.request, &change);
                match item {
                    Some(item) => self.items.insert(name, item),
                    None => self.items.remove(&name),
                };
                Some(Update::Change(*change))
            }
            News::Nothing => None,
        };
        if self.pages.is_none() {
            self.revision = message.revision;
        }
        update
    }
}
