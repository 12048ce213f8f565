//! What a watch can no longer deliver (trap T29): the net changes between two exact lists, merged
//! in key order with one page of each in memory. The same two lists always give the same changes
//! in the same order, so that a repair can be done again.

use std::{cmp::Ordering, collections::VecDeque};

use tokio::sync::Semaphore;

use super::{
    api_error::ApiError,
    client::ApiServer,
    events::read_list_version,
    lists::Pager,
    outlet::{Batch, Outlet, Stopped},
    requests::{At, Detail, list},
};
use crate::domain::{
    cluster::StreamSelector,
    event::{Change, Event},
    position::ResourceVersion,
    watch_session::Listing,
};

/// Why net changes cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RepairError {
    /// One of the lists is gone for good.
    Irreparable,
    /// It may work later.
    Failed(ApiError),
}

impl From<ApiError> for RepairError {
    fn from(error: ApiError) -> Self {
        let is_irreparable = match &error {
            // 410: compacted. Other 4xx: exact lists are unsupported.
            ApiError::Status { status, .. } => {
                matches!(status.code, 400 | 405 | 406 | 410 | 415 | 422)
                    // The server has not reached that version yet, or never will (a restored
                    // etcd). Any other 504 is a timeout, which may not recur.
                    || (status.code == 504 && status.is_too_large)
            }
            ApiError::OtherVersion => true,
            _ => false,
        };
        if is_irreparable {
            Self::Irreparable
        } else {
            Self::Failed(error)
        }
    }
}

/// Whether exact lists at both ends answer, and are what they have to be: net changes between lists
/// of other versions would be wrong without a word.
pub(super) async fn check(
    api: &ApiServer,
    selector: &StreamSelector,
    ends: [&ResourceVersion; 2],
) -> Result<(), RepairError> {
    for end in ends {
        if *end == ResourceVersion::ZERO {
            return Err(RepairError::Irreparable);
        }
        let request = list(selector, At::Exactly(end), Detail::Metadata, 1);
        let answer = api.get(request).await?;
        let version = read_list_version(&answer).map_err(ApiError::from)?;
        if version != *end {
            return Err(RepairError::Irreparable);
        }
    }
    Ok(())
}

/// Whether exact lists at both ends show the same, where one at `from` answers. One page at a time
/// is held: a task that waits for memory for a page holds no other.
pub(super) async fn compare(
    api: &ApiServer,
    selector: &StreamSelector,
    from: &ResourceVersion,
    [old, new]: [&ResourceVersion; 2],
) -> Result<bool, RepairError> {
    check(api, selector, [from, new]).await?;
    let listing = async |at: &ResourceVersion| {
        let at = Some(at.clone());
        let mut pager = Pager::new(api, selector, at, Detail::Metadata, Change::Snapshot);
        pager.listing(Listing::new(None)).await
    };
    let before = listing(old).await?;
    let now = listing(new).await?;
    Ok(before.shows_the_same_as(&now))
}

/// The publishing of a repair. It remembers how far it came, so that it can continue after a
/// failure.
pub(super) struct Publication {
    from: ResourceVersion,
    to: ResourceVersion,
    published: usize,
}

impl Publication {
    /// Goes on with `earlier` where it is the same repair.
    pub(super) fn resume(
        earlier: Option<Self>,
        from: ResourceVersion,
        to: ResourceVersion,
    ) -> Self {
        earlier
            .filter(|earlier| earlier.from == from && earlier.to == to)
            .unwrap_or(Self {
                from,
                to,
                published: 0,
            })
    }

    /// Publishes what was not published yet. `lists` bounds how many ask the cluster at a time.
    pub(super) async fn run(
        &mut self,
        api: &ApiServer,
        selector: &StreamSelector,
        lists: Option<&Semaphore>,
        outlet: &mut Outlet,
    ) -> Result<Result<(), RepairError>, Stopped> {
        let mut merge = Merge::new(api, selector, lists, [&self.from, &self.to]);
        let mut known = self.published;
        let mut batch = Batch::default();
        loop {
            let changes = match merge.next().await {
                Ok(Some(changes)) => changes,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            let skipped = known.min(changes.len());
            known -= skipped;
            for event in changes.into_iter().skip(skipped) {
                if let Some(full) = batch.push(event) {
                    self.publish(outlet, full, false).await?;
                }
            }
            let rest = batch.take();
            if !rest.is_empty() {
                self.publish(outlet, rest, false).await?;
            }
        }
        self.publish(outlet, Vec::new(), true).await?;
        Ok(Ok(()))
    }

    async fn publish(
        &mut self,
        outlet: &mut Outlet,
        events: Vec<Event>,
        last: bool,
    ) -> Result<(), Stopped> {
        self.published += events.len();
        outlet.repaired(&self.to, events, last).await
    }
}

/// Net changes in progress.
struct Merge<'a> {
    old: Side<'a>,
    new: Side<'a>,
}

struct Side<'a> {
    pager: Pager,
    lists: Option<&'a Semaphore>,
    detail: Detail,
    queue: VecDeque<Event>,
    /// The last object's key; an order that is not that of keys cannot be merged.
    last: Option<Key>,
    done: bool,
}

type Key = (Box<str>, Box<str>);

impl<'a> Merge<'a> {
    fn new(
        api: &ApiServer,
        selector: &StreamSelector,
        lists: Option<&'a Semaphore>,
        [from, to]: [&ResourceVersion; 2],
    ) -> Self {
        let side = |at: &ResourceVersion, detail, change| Side {
            pager: Pager::new(api, selector, Some(at.clone()), detail, change),
            lists,
            detail,
            queue: VecDeque::new(),
            last: None,
            done: false,
        };
        Self {
            old: side(from, Detail::Metadata, Change::Deleted),
            new: side(to, Detail::Full, Change::Added),
        }
    }

    /// Some more changes; `None` when there are no more.
    async fn next(&mut self) -> Result<Option<Vec<Event>>, RepairError> {
        if self.old.is_over() && self.new.is_over() {
            return Ok(None);
        }
        self.old.fill().await?;
        self.new.fill().await?;
        let mut changes = Vec::new();
        while self.old.is_ready() && self.new.is_ready() {
            if !merge_step(&mut self.old.queue, &mut self.new.queue, &mut changes) {
                break;
            }
        }
        Ok(Some(changes))
    }
}

impl Side<'_> {
    fn is_over(&self) -> bool {
        self.done && self.queue.is_empty()
    }

    /// Whether the next object is known, or known not to be.
    fn is_ready(&self) -> bool {
        self.done || !self.queue.is_empty()
    }

    async fn fill(&mut self) -> Result<(), RepairError> {
        while !self.is_ready() {
            let Some(page) = self.next_page().await? else {
                self.done = true;
                break;
            };
            for mut event in page {
                event.metadata_only = matches!(self.detail, Detail::Metadata);
                let key = (event.namespace().into(), event.name().into());
                let ordered = self
                    .last
                    .as_ref()
                    .is_none_or(|last| compare_keys(last, &key) == Ordering::Less);
                if !ordered {
                    return Err(RepairError::Irreparable);
                }
                self.last = Some(key);
                self.queue.push_back(event);
            }
        }
        Ok(())
    }

    /// Asks for a page, in its turn. While a reader takes what was read, others ask.
    async fn next_page(&mut self) -> Result<Option<Vec<Event>>, ApiError> {
        let _permit = match self.lists {
            // It is never closed.
            Some(lists) => lists.acquire().await.ok(),
            None => None,
        };
        self.pager.next_page().await
    }
}

/// Takes the lesser of both heads and emits its net change; false when both are empty.
fn merge_step(
    old: &mut VecDeque<Event>,
    new: &mut VecDeque<Event>,
    changes: &mut Vec<Event>,
) -> bool {
    let order = match (old.front(), new.front()) {
        (None, None) => return false,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(was), Some(is)) => compare_events(was, is),
    };
    let was = order.is_le().then(|| old.pop_front()).flatten();
    let is = order.is_ge().then(|| new.pop_front()).flatten();
    match (was, is) {
        (Some(was), Some(is)) if was.uid() != is.uid() => changes.extend([was, is]),
        (Some(was), Some(is)) if was.rv != is.rv => changes.push(Event {
            change: Change::Modified,
            ..is
        }),
        (Some(_), Some(_)) => {}
        (was, is) => changes.extend(was.into_iter().chain(is)),
    }
    true
}

fn compare_events(a: &Event, b: &Event) -> Ordering {
    compare_parts([a.namespace(), a.name()], [b.namespace(), b.name()])
}

fn compare_keys(a: &Key, b: &Key) -> Ordering {
    compare_parts([&a.0, &a.1], [&b.0, &b.1])
}

/// etcd's order: that of `namespace/name` as bytes, which is not that of the pair.
fn compare_parts(a: [&str; 2], b: [&str; 2]) -> Ordering {
    let bytes = |[namespace, name]: [&str; 2]| {
        let separator = if namespace.is_empty() { "" } else { "/" };
        [namespace.to_owned(), separator.to_owned(), name.to_owned()].concat()
    };
    bytes(a).cmp(&bytes(b))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{
        collection::btree_map,
        prelude::{prop_assert_eq, proptest},
    };

    use super::{Change, Event, Ordering, VecDeque, compare_parts, merge_step};
    use crate::domain::{event::ObjectKey, id::UnixMillis};

    /// Name to UID and version.
    type Objects = BTreeMap<String, (u8, u64)>;

    fn events(objects: &Objects, change: Change) -> VecDeque<Event> {
        let event = |(name, (uid, rv)): (&String, &(u8, u64))| Event {
            change,
            rv: (*rv).into(),
            key: ObjectKey::new("", name, &uid.to_string()),
            object: bytes::Bytes::new(),
            metadata_only: false,
            seen: UnixMillis(0),
        };
        objects.iter().map(event).collect()
    }

    #[test]
    fn keys_are_ordered_as_etcd_orders_them() {
        assert_eq!(
            compare_parts(["a", "x"], ["a-b", "c"]),
            Ordering::Greater,
            "'-' comes before '/'"
        );
        assert_eq!(compare_parts(["", "a"], ["", "b"]), Ordering::Less);
    }

    proptest! {
        #[test]
        fn the_changes_turn_the_old_state_into_the_new_one(
            old in btree_map("[a-c]{1,2}", (0..2_u8, 0..3_u64), 0..8),
            new in btree_map("[a-c]{1,2}", (0..2_u8, 0..3_u64), 0..8),
        ) {
            let mut changes = Vec::new();
            let mut sides = [events(&old, Change::Deleted), events(&new, Change::Added)];
            let [left, right] = &mut sides;
            while merge_step(left, right, &mut changes) {}
            let mut state = old;
            for event in &changes {
                let name = event.name().to_owned();
                let value = (event.uid().parse().unwrap(), event.rv.as_u64().unwrap());
                match event.change {
                    Change::Deleted => prop_assert_eq!(state.remove(&name), Some(value)),
                    Change::Added => prop_assert_eq!(state.insert(name, value), None),
                    _ => {
                        let before = state.insert(name, value);
                        prop_assert_eq!(before.map(|(uid, _)| uid), Some(value.0));
                    }
                }
            }
            prop_assert_eq!(state, new);
        }
    }
}
