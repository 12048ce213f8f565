//! The objects of one resource and the changes that led to them.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use super::lease::Leases;
use crate::{
    domain::event::Change,
    sim::{kind::Served, object::Object, selector::Selection},
};

/// One committed change, as watches see it.
#[derive(Debug)]
pub(in crate::sim) struct Entry {
    pub(in crate::sim) rv: u64,
    pub(in crate::sim) change: Change,
    /// The object after the change; for a deletion the last one, at the deletion's revision.
    pub(in crate::sim) object: Arc<Object>,
    /// The object before the change.
    pub(in crate::sim) before: Option<Arc<Object>>,
    /// When, since the cluster began.
    pub(super) at: Duration,
}

impl Entry {
    pub(super) fn cost_bytes(&self) -> usize {
        // The object before is shared with an earlier entry, or will be with none: counting each
        // object once, where it comes in, is near enough for a limit.
        size_of::<Self>() + size_of::<Object>() + self.object.json().len()
    }
}

/// One page of a list.
#[derive(Debug, Default)]
pub(in crate::sim) struct Page {
    pub(in crate::sim) items: Vec<Arc<Object>>,
    /// The key of the last item, where there are more.
    pub(in crate::sim) last: Option<Arc<str>>,
    /// How many more, where no selector makes that unknown.
    pub(in crate::sim) remaining: Option<usize>,
}

/// The objects of one resource.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) served: Served,
    pub(super) objects: BTreeMap<Arc<str>, Arc<Object>>,
    /// Oldest first; those that share a revision in key order.
    pub(super) log: VecDeque<Arc<Entry>>,
    /// Only where objects end by themselves.
    pub(super) leases: Option<Leases>,
}

impl Table {
    pub(super) fn new(served: Served, event_ttl: Option<Duration>) -> Self {
        let ttl = event_ttl.filter(|_| served.resource.is_events());
        Self {
            served,
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            leases: ttl.map(Leases::new),
        }
    }

    /// Up to about `max` changes after `rv`; never a part of those that share a revision.
    pub(super) fn changes_after(&self, rv: u64, max: usize) -> Vec<Arc<Entry>> {
        let start = self.log.partition_point(|entry| entry.rv <= rv);
        let mut changes: Vec<Arc<Entry>> = Vec::new();
        for entry in self.log.range(start..) {
            if changes.len() >= max && changes.last().is_some_and(|last| last.rv != entry.rv) {
                break;
            }
            changes.push(Arc::clone(entry));
        }
        changes
    }

    /// The last `count` changes up to and including `rv`.
    pub(super) fn changes_before(&self, rv: u64, count: usize) -> Vec<Arc<Entry>> {
        let end = self.log.partition_point(|entry| entry.rv <= rv);
        let start = end.saturating_sub(count);
        self.log.range(start..end).cloned().collect()
    }

    /// One page of the objects as they were at `rv`, in key order, from key `start` on.
    pub(super) fn page(&self, rv: u64, start: &str, selection: &Selection, limit: usize) -> Page {
        let prefix = if selection.namespace.is_empty() {
            String::new()
        } else {
            format!("{}/", selection.namespace)
        };
        let start = start.max(prefix.as_str());
        let undone = self.undone_after(rv);
        let mut objects = merge(&self.objects, &undone, start)
            .take_while(|object| object.identity.key.starts_with(&prefix));
        let mut page = Page::default();
        for object in objects.by_ref() {
            if !selection.matches(object) {
                continue;
            }
            if page.items.len() == limit {
                page.last = page.items.last().map(|last| Arc::clone(&last.identity.key));
                page.remaining = (!selection.is_selective()).then(|| 1 + objects.count());
                break;
            }
            page.items.push(Arc::clone(object));
        }
        page
    }

    /// What the objects changed after `rv` were at `rv`.
    fn undone_after(&self, rv: u64) -> BTreeMap<&str, Option<&Arc<Object>>> {
        let start = self.log.partition_point(|entry| entry.rv <= rv);
        let mut undone = BTreeMap::new();
        for entry in self.log.range(start..) {
            // The first change after `rv` knows the state at `rv`; later ones do not.
            undone
                .entry(&*entry.object.identity.key)
                .or_insert(entry.before.as_ref());
        }
        undone
    }

    /// Makes the objects what they were at `rv`, and forgets the changes after it. Returns how
    /// many bytes were freed.
    pub(super) fn rewind(&mut self, rv: u64) -> usize {
        let mut freed = 0;
        while let Some(entry) = self.log.back()
            && entry.rv > rv
        {
            freed += entry.cost_bytes();
            let key = &entry.object.identity.key;
            match &entry.before {
                Some(before) => self.objects.insert(Arc::clone(key), Arc::clone(before)),
                None => self.objects.remove(key),
            };
            self.log.pop_back();
        }
        freed
    }
}

/// The objects in key order from `start` on, with those in `undone` as it has them.
fn merge<'a>(
    objects: &'a BTreeMap<Arc<str>, Arc<Object>>,
    undone: &BTreeMap<&str, Option<&'a Arc<Object>>>,
    start: &str,
) -> impl Iterator<Item = &'a Arc<Object>> {
    let bounds = (Bound::Included(start), Bound::Unbounded);
    let mut now = objects.range::<str, _>(bounds).peekable();
    let then: Vec<_> = undone
        .range::<str, _>(bounds)
        .map(|(key, object)| (key.to_string(), *object))
        .collect();
    let mut then = then.into_iter().peekable();
    std::iter::from_fn(move || {
        loop {
            let next_then = then.peek().map(|(key, _)| key.as_str());
            match (now.peek(), next_then) {
                (Some((key, _)), Some(changed)) if &***key < changed => {
                    return now.next().map(|(_, object)| object);
                }
                (Some((key, _)), Some(changed)) if &***key == changed => {
                    now.next();
                }
                (Some(_), None) => return now.next().map(|(_, object)| object),
                (_, Some(_)) => {
                    if let Some((_, Some(object))) = then.next() {
                        return Some(object);
                    }
                }
                (None, None) => return None,
            }
        }
    })
}
