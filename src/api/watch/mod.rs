//! Watching a kind of thing that the group has agreed on: a snapshot in pages, then its changes.
//!
//! [`Watch`] decides what comes next and waits for nothing; [`serve`] sends it. A watch needs no
//! queue of its own: what it has not sent yet waits in the replica's [`ChangeLog`], which it reads
//! from its place on. One that was so slow that something is missing there gets a snapshot again.

mod serve;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, iter::Peekable, sync::Arc, time::Duration};

use prost::Message;
use prost_types::Timestamp;
pub use serve::Watches;
pub(super) use serve::{Ended, Outlet};
use tonic::Status;

use super::{
    page::take_fitting,
    reads::{Read, Reads},
    status::{invalid, not_formed},
    token::{Digest, Kind, NotAToken, Token},
};
use crate::{
    changes::{Change, ChangeLog, Place, Placed},
    domain::{id::Revision, state::State},
};

/// Most items of a message of a snapshot.
const ITEMS_MAX: usize = 100;

/// What the items of such a message may take: clients of gRPC accept 4 MiB unless they are set up
/// to accept more.
const BYTES_MAX: usize = 1024 * 1024;

/// Changes that are taken from the log at once.
const CHANGES_MAX: usize = 128;

/// A kind of thing that can be watched, and which of them are.
pub(super) trait Watched: Send + Sync + 'static {
    /// Names one thing.
    type Key: Send + 'static;
    /// One thing, in a snapshot.
    type Item: Message + 'static;
    /// What is kept of a change.
    type Kept: Change + Send + Sync + 'static;
    /// A change, as it is sent.
    type Change;
    /// A message.
    type Response: Send + 'static;

    /// What there is, in the order in which it is sent.
    fn keys(&self, state: &State) -> Vec<Self::Key>;

    /// The item with this key, if it exists.
    fn item(&self, state: &State, key: &Self::Key) -> Option<Self::Item>;

    /// A change, where it is asked for.
    fn change(&self, state: &State, change: &Self::Kept) -> Option<Self::Change>;

    /// The message with an update.
    fn response(
        resume_token: String,
        revision: u64,
        update: Update<Self::Item, Self::Change>,
    ) -> Self::Response;
}

/// What is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Update<I, C> {
    Snapshot(Vec<I>),
    SnapshotEnd,
    Change(C),
    Heartbeat(Timestamp),
}

/// Where a request to watch starts.
pub(super) struct From<'a> {
    pub(super) resume_token: &'a str,
    pub(super) min_revision: u64,
    /// The name of the method.
    pub(super) method: &'a str,
    /// The request without the two fields above.
    pub(super) request: &'a [u8],
    pub(super) timeout: Duration,
}

/// One watch.
pub(super) struct Watch<W: Watched> {
    watched: Arc<W>,
    reads: Reads,
    log: Arc<ChangeLog<W::Kept>>,
    digest: Digest,
    at: At<W>,
}

/// How far a watch has come.
enum At<W: Watched> {
    /// Inside a snapshot.
    Snapshot {
        revision: Revision,
        rest: Peekable<Box<dyn Iterator<Item = W::Item> + Send>>,
    },
    /// Just after a change, or after a snapshot.
    Changes {
        place: Place,
        /// Those after the place that have been taken from the log already.
        next: VecDeque<Arc<Placed<W::Kept>>>,
    },
}

impl<W: Watched> At<W> {
    fn place(place: Place) -> Self {
        Self::Changes {
            place,
            next: VecDeque::new(),
        }
    }
}

impl<W: Watched> Watch<W> {
    /// Starts at the requested revision, once that is applied here.
    pub(super) async fn open(
        watched: W,
        reads: Reads,
        log: Arc<ChangeLog<W::Kept>>,
        from: From<'_>,
    ) -> Result<Self, Status> {
        let group = reads.now().state.group.ok_or_else(not_formed)?;
        // What another group has agreed on at a revision is something else.
        let request = [group.0.as_slice(), from.request].concat();
        let digest = Digest::of(from.method, &request);
        let resumed = resumed(from.resume_token, digest)?;
        let known = resumed.map_or(0, |place| place.revision.0);
        let revision = from.min_revision.max(known);
        let read = reads.at_least(revision, from.timeout).await?;
        let watched = Arc::new(watched);
        let at = match resumed {
            Some(place) => At::place(place),
            None => snapshot(&watched, read),
        };
        Ok(Self {
            watched,
            reads,
            log,
            digest,
            at,
        })
    }

    /// The next message; `None` where there is nothing new.
    pub(super) fn next(&mut self) -> Option<W::Response> {
        loop {
            match &mut self.at {
                At::Snapshot { revision, rest } => {
                    let revision = *revision;
                    let items = take_fitting(rest, ITEMS_MAX, BYTES_MAX, Message::encoded_len);
                    if items.is_empty() {
                        let place = Place::end_of(revision);
                        self.at = At::place(place);
                        return Some(self.response(place, Update::SnapshotEnd));
                    }
                    let update = Update::Snapshot(items);
                    return Some(W::response(String::new(), revision.0, update));
                }
                At::Changes { place, next } => {
                    if let Some(placed) = next.pop_front() {
                        *place = placed.place;
                        let state = Arc::clone(&self.reads.state.borrow());
                        if let Some(change) = self.watched.change(&state, &placed.change) {
                            return Some(self.response(placed.place, Update::Change(change)));
                        }
                    } else {
                        match self.log.since(*place, CHANGES_MAX) {
                            Some(changes) if changes.is_empty() => return None,
                            Some(changes) => *next = changes.into(),
                            None => self.at = snapshot(&self.watched, self.reads.now()),
                        }
                    }
                }
            }
        }
    }

    /// The message to send where nothing has been new for a while. It moves the place to continue
    /// at past everything that brought nothing new, so that it is not forgotten for that.
    pub(super) fn heartbeat(&mut self, time: Timestamp) -> W::Response {
        // In this order: all changes up to what was applied before are in the log.
        let applied = *self.reads.applied.borrow();
        let place = match &mut self.at {
            At::Changes { place, next } => {
                let none_follows = |changes: Vec<_>| changes.is_empty();
                if next.is_empty() && self.log.since(*place, 1).is_some_and(none_follows) {
                    *place = (*place).max(Place::end_of(applied));
                }
                *place
            }
            At::Snapshot { revision, .. } => {
                let update = Update::Heartbeat(time);
                return W::response(String::new(), revision.0, update);
            }
        };
        self.response(place, Update::Heartbeat(time))
    }

    /// Follows whether there is anything new.
    pub(super) fn news(&self) -> tokio::sync::watch::Receiver<Place> {
        self.log.watch()
    }

    fn response(&self, place: Place, update: Update<W::Item, W::Change>) -> W::Response {
        let token = Token {
            digest: self.digest,
            content: place_bytes(place),
        };
        W::response(token.write(Kind::Resume), place.revision.0, update)
    }
}

fn snapshot<W: Watched>(watched: &Arc<W>, read: Read) -> At<W> {
    let Read { state, revision } = read;
    let watched = Arc::clone(watched);
    let keys = watched.keys(&state).into_iter();
    let items = keys.filter_map(move |key| watched.item(&state, &key));
    let items: Box<dyn Iterator<Item = W::Item> + Send> = Box::new(items);
    At::Snapshot {
        revision,
        rest: items.peekable(),
    }
}

fn place_bytes(place: Place) -> Vec<u8> {
    let mut bytes = place.revision.0.to_be_bytes().to_vec();
    bytes.extend(place.index.to_be_bytes());
    bytes
}

/// Where to continue; `None` for a snapshot: without a token, and where it does not fit.
fn resumed(resume_token: &str, digest: Digest) -> Result<Option<Place>, Status> {
    if resume_token.is_empty() {
        return Ok(None);
    }
    let damaged = || {
        invalid(
            "resume_token",
            "is damaged: give one exactly as it was received, or begin without one",
        )
    };
    let token = match Token::read(Kind::Resume, resume_token) {
        Ok(token) if token.digest == digest => token,
        // Of another request or group, or of a newer version: not remembered here.
        Ok(_) | Err(NotAToken::Newer) => return Ok(None),
        Err(NotAToken::Damaged) => return Err(damaged()),
    };
    let place = token.content.split_first_chunk::<8>();
    let (revision, index) = place.ok_or_else(damaged)?;
    Ok(Some(Place {
        revision: Revision(u64::from_be_bytes(*revision)),
        index: u32::from_be_bytes(index.try_into().map_err(|_| damaged())?),
    }))
}
