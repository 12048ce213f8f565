//! What one cluster has written: its objects and its history, as an etcd keeps them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use quorumwatch::domain::{cluster::StreamSelector, event::Change};
use tokio::sync::watch;

/// An object as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The value of its one label.
    pub(crate) tier: String,
    pub(crate) rv: u64,
    /// What it holds: another number with each write.
    pub(crate) serial: u64,
}

impl Object {
    /// etcd's order.
    fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn metadata(&self) -> String {
        let Self {
            namespace,
            name,
            uid,
            tier,
            rv,
            ..
        } = self;
        format!(
            r#"{{"name":"{name}","namespace":"{namespace}","uid":"{uid}","resourceVersion":"{rv}","labels":{{"tier":"{tier}"}}}}"#
        )
    }

    /// As the API server sends it: whole, or its metadata alone.
    pub(crate) fn json(&self, is_whole: bool) -> String {
        let metadata = self.metadata();
        if is_whole {
            let Self { serial, .. } = self;
            return format!(
                r#"{{"apiVersion":"v1","kind":"Thing","metadata":{metadata},"serial":{serial}}}"#
            );
        }
        format!(
            r#"{{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{metadata}}}"#
        )
    }
}

/// One object's change.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) rv: u64,
    before: Option<Arc<Object>>,
    after: Option<Arc<Object>>,
}

/// A change as a watch, or a comparison of two lists, reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) change: Change,
    pub(crate) rv: u64,
    /// As it is sent.
    pub(crate) object: Arc<Object>,
}

impl Told {
    fn new(change: Change, object: &Arc<Object>) -> Self {
        Self {
            change,
            rv: object.rv,
            object: object.clone(),
        }
    }
}

/// What one stream carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Selection {
    pub(crate) resource: String,
    /// Empty for all.
    pub(crate) namespace: String,
    /// Empty for all.
    pub(crate) tier: String,
}

impl From<&StreamSelector> for Selection {
    fn from(selector: &StreamSelector) -> Self {
        let label = selector.label_selector.strip_prefix("tier=");
        Self {
            resource: selector.resource.plural.clone(),
            namespace: selector.namespace.clone(),
            tier: label.unwrap_or_default().to_owned(),
        }
    }
}

impl Selection {
    pub(crate) fn matches(&self, object: &Object) -> bool {
        let is = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
        self.resource == object.resource
            && is(&self.namespace, &object.namespace)
            && is(&self.tier, &object.tier)
    }

    /// How a watch reports a change: an object that begins to match is added, one that ceases to is
    /// deleted.
    pub(crate) fn tell(&self, entry: &Entry) -> Option<Told> {
        let matching =
            |object: &Option<Arc<Object>>| object.clone().filter(|object| self.matches(object));
        let (change, object) = match (matching(&entry.before), matching(&entry.after)) {
            (None, None) => return None,
            (None, Some(after)) => (Change::Added, after),
            (Some(_), Some(after)) => (Change::Modified, after),
            (Some(before), None) => {
                let deleted = Object {
                    rv: entry.rv,
                    ..(*before).clone()
                };
                (Change::Deleted, Arc::new(deleted))
            }
        };
        Some(Told::new(change, &object))
    }

    /// What exists after these entries, in key order.
    pub(crate) fn list(&self, entries: &[Entry]) -> Vec<Arc<Object>> {
        let mut objects = BTreeMap::new();
        for entry in entries {
            if let Some(before) = &entry.before {
                objects.remove(&(before.resource.clone(), before.key()));
            }
            if let Some(after) = &entry.after {
                objects.insert((after.resource.clone(), after.key()), after.clone());
            }
        }
        let objects = objects.into_values();
        objects.filter(|object| self.matches(object)).collect()
    }
}

/// What turns the one list into the other, in key order.
pub(crate) fn net_changes(old: &[Arc<Object>], new: &[Arc<Object>]) -> Vec<Told> {
    let by_key = |objects: &[Arc<Object>]| -> BTreeMap<String, Arc<Object>> {
        let keyed = objects.iter();
        keyed.map(|object| (object.key(), object.clone())).collect()
    };
    let (old, new) = (by_key(old), by_key(new));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut changes = Vec::new();
    for key in keys {
        match (old.get(key), new.get(key)) {
            (Some(was), Some(is)) if was.uid != is.uid => {
                changes.push(Told::new(Change::Deleted, was));
                changes.push(Told::new(Change::Added, is));
            }
            (Some(was), Some(is)) if was.rv != is.rv => {
                changes.push(Told::new(Change::Modified, is));
            }
            (Some(was), None) => changes.push(Told::new(Change::Deleted, was)),
            (None, Some(is)) => changes.push(Told::new(Change::Added, is)),
            _ => {}
        }
    }
    changes
}

/// The history of one cluster. A cheap clone.
#[derive(Clone)]
pub(crate) struct Etcd {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<watch::Sender<u64>>,
}

struct Inner {
    /// The last one is the present; those before ended when the cluster was restored.
    timelines: Vec<Vec<Entry>>,
    revision: u64,
    serial: u64,
    /// Nothing before this version can be listed or watched any more.
    compacted: u64,
    /// No watch can begin before this version, though lists can.
    watchable: u64,
    /// UID and version of all that was ever written: two histories in which the same object has
    /// the same version cannot be distinguished, and do not occur here.
    written: BTreeSet<(String, u64)>,
}

/// Which object to write, and how.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) tier: String,
    pub(crate) delete: bool,
}

impl Default for Etcd {
    fn default() -> Self {
        let inner = Inner {
            timelines: vec![Vec::new()],
            revision: 10,
            serial: 0,
            compacted: 0,
            watchable: 0,
            written: BTreeSet::new(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            changed: Arc::default(),
        }
    }
}

impl Inner {
    fn now(&mut self) -> &mut Vec<Entry> {
        self.timelines.last_mut().unwrap()
    }

    fn existing(&mut self, resource: &str) -> Vec<Arc<Object>> {
        let everything = Selection {
            resource: resource.to_owned(),
            namespace: String::new(),
            tier: String::new(),
        };
        everything.list(self.now())
    }

    fn write(&mut self, write: &Write) {
        let existing = self.existing(&write.resource);
        let same = |object: &&Arc<Object>| {
            object.namespace == write.namespace && object.name == write.name
        };
        let before = existing.iter().find(same).cloned();
        self.serial += 1;
        self.revision += 1;
        let serial = self.serial;
        let uid = match &before {
            Some(before) => before.uid.clone(),
            None => format!("u{serial}"),
        };
        while !self.written.insert((uid.clone(), self.revision)) {
            self.revision += 1;
        }
        let rv = self.revision;
        let after = Object {
            resource: write.resource.clone(),
            namespace: write.namespace.clone(),
            name: write.name.clone(),
            uid,
            tier: write.tier.clone(),
            rv,
            serial,
        };
        let is_deletion = write.delete && before.is_some();
        let after = (!is_deletion).then(|| Arc::new(after));
        self.now().push(Entry { rv, before, after });
    }
}

impl Etcd {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let given = change(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
        given
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Creates, changes or deletes an object.
    pub(crate) fn write(&self, write: &Write) {
        self.change(|inner| inner.write(write));
    }

    /// Deletes objects of a resource at one version, as the end of a lease does.
    pub(crate) fn delete_together(&self, resource: &str, most: usize) {
        self.change(|inner| {
            inner.revision += 1;
            let rv = inner.revision;
            let objects = inner.existing(resource).into_iter().take(most);
            let entry = |object| Entry {
                rv,
                before: Some(object),
                after: None,
            };
            inner.now().extend(objects.map(entry));
        });
    }

    /// Something that no stream carries is written.
    pub(crate) fn write_elsewhere(&self) {
        self.change(|inner| inner.revision += 1);
    }

    pub(crate) fn compact(&self) {
        self.change(|inner| inner.compacted = inner.revision);
    }

    /// From now on no watch can begin before the present; lists still can.
    pub(crate) fn reset_watch_cache(&self) {
        self.change(|inner| inner.watchable = inner.revision);
    }

    /// Restores a state of a while ago, and writes to it, both under whatever is open.
    pub(crate) fn rewind(&self, back: u64, writes: &[Write]) {
        self.change(|inner| {
            let target = inner
                .revision
                .saturating_sub(back)
                .max(inner.compacted)
                .max(10);
            let mut entries = inner.now().clone();
            entries.retain(|entry| entry.rv <= target);
            inner.timelines.push(entries);
            inner.revision = target;
            inner.watchable = inner.watchable.min(target);
            for write in writes {
                inner.write(write);
            }
        });
    }

    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    pub(crate) fn compacted(&self) -> u64 {
        self.lock().compacted
    }

    pub(crate) fn watchable(&self) -> u64 {
        let inner = self.lock();
        inner.watchable.max(inner.compacted)
    }

    /// How many histories there have been.
    pub(crate) fn timelines(&self) -> usize {
        self.lock().timelines.len()
    }

    /// The entries of a history, the last of which is the present.
    pub(crate) fn entries(&self, timeline: usize) -> Vec<Entry> {
        self.lock().timelines[timeline].clone()
    }

    /// Entries of the present after the first so many at and all before a version.
    pub(crate) fn entries_after(&self, rv: u64, at_rv: usize, most: usize) -> Vec<Entry> {
        let mut inner = self.lock();
        let now = inner.now();
        let begin = now.partition_point(|entry| entry.rv < rv);
        let end = now.partition_point(|entry| entry.rv <= rv);
        let from = (begin + at_rv).min(end);
        now[from..].iter().take(most).cloned().collect()
    }

    /// Whether a version has one change only.
    pub(crate) fn is_alone(&self, rv: u64) -> bool {
        let mut inner = self.lock();
        inner.now().iter().filter(|entry| entry.rv == rv).count() == 1
    }

    /// What exists at a version of the present history.
    pub(crate) fn list(&self, selection: &Selection, rv: u64) -> Vec<Arc<Object>> {
        let mut inner = self.lock();
        let now = inner.now();
        let end = now.partition_point(|entry| entry.rv <= rv);
        selection.list(&now[..end])
    }
}
