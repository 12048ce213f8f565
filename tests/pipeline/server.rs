//! One stream of an API server: its objects and its history.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use quorumwatch::{
    domain::{
        frame::{Change, Frame},
        history::HistoryItem,
        id::UnixMillis,
        position::ResourceVersion,
    },
    pipeline::owned::History,
};
use tokio::sync::{mpsc, watch};

/// A cheap clone.
#[derive(Clone, Default)]
pub(crate) struct ApiServer {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Inner {
    frames: Vec<Frame>,
    rv: u64,
    written: u64,
    /// Nothing at or before this version can be listed or watched any more.
    compacted: u64,
    /// No watch can begin before this version, though lists can.
    watchable: u64,
    catch_ups: u64,
}

/// A watch cannot begin where it should.
pub(crate) struct WatchLost {
    pub(crate) repairable: bool,
}

type Objects = BTreeMap<String, Frame>;

impl Inner {
    fn push(&mut self, change: Change, name: &str, rv: u64) {
        self.frames.push(Frame {
            change,
            rv: rv.into(),
            namespace: "ns".into(),
            name: name.into(),
            uid: name.into(),
            object: format!("{{\"rv\":{rv}}}").into(),
            metadata_only: false,
            seen: UnixMillis(0),
        });
    }

    fn objects_at(&self, rv: u64) -> Objects {
        let mut objects = Objects::new();
        for frame in self.frames.iter().filter(|frame| frame.rv <= rv.into()) {
            if frame.change == Change::Deleted {
                objects.remove(&*frame.name);
            } else {
                objects.insert(frame.name.to_string(), frame.clone());
            }
        }
        objects
    }

    fn net_changes(&self, from: u64, to: u64) -> Vec<Frame> {
        let (before, after) = (self.objects_at(from), self.objects_at(to));
        let mut changes = Objects::new();
        for (name, frame) in &after {
            let change = match before.get(name) {
                Some(old) if old.rv == frame.rv => continue,
                Some(_) => Change::Modified,
                None => Change::Added,
            };
            changes.insert(
                name.clone(),
                Frame {
                    change,
                    ..frame.clone()
                },
            );
        }
        for (name, frame) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
            changes.insert(
                name.clone(),
                Frame {
                    change: Change::Deleted,
                    ..frame.clone()
                },
            );
        }
        changes.into_values().collect()
    }
}

impl ApiServer {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Creates an object, updates one or deletes one, in turns.
    pub(crate) fn write(&self) {
        let mut inner = self.lock();
        inner.rv += 1;
        inner.written += 1;
        let (rv, written) = (inner.rv, inner.written);
        let objects = inner.objects_at(rv);
        match (written % 4, objects.keys().next().cloned()) {
            (2, Some(name)) => inner.push(Change::Modified, &name, rv),
            (3, Some(name)) if objects.len() > 4 => inner.push(Change::Deleted, &name, rv),
            _ => inner.push(Change::Added, &format!("o{written:05}"), rv),
        }
        drop(inner);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Deletes objects at one version, as the end of a lease does.
    pub(crate) fn delete_together(&self, most: usize) {
        let mut inner = self.lock();
        inner.rv += 1;
        let rv = inner.rv;
        let names: Vec<_> = inner.objects_at(rv).into_keys().take(most).collect();
        for name in names {
            inner.push(Change::Deleted, &name, rv);
        }
        drop(inner);
        self.changed.send_modify(|version| *version += 1);
    }

    pub(crate) fn compact(&self) {
        let mut inner = self.lock();
        inner.compacted = inner.rv;
    }

    /// From now on no watch can begin before the present; lists still can.
    pub(crate) fn reset_watch(&self) {
        let mut inner = self.lock();
        inner.watchable = inner.rv;
    }

    pub(crate) fn last_rv(&self) -> u64 {
        self.lock().rv
    }

    pub(crate) fn catch_ups(&self) -> u64 {
        self.lock().catch_ups
    }

    pub(crate) fn objects(&self) -> BTreeMap<String, u64> {
        let inner = self.lock();
        let objects = inner.objects_at(inner.rv).into_iter();
        objects
            .map(|(name, frame)| (name, frame.rv.as_u64().unwrap()))
            .collect()
    }

    pub(crate) fn frames_after(&self, rv: u64) -> Vec<Frame> {
        self.frames_after_len(rv, usize::MAX)
    }

    /// Some frames after `rv`, whole versions only.
    pub(crate) fn frames_after_len(&self, rv: u64, most: usize) -> Vec<Frame> {
        let inner = self.lock();
        let after = inner.frames.iter().filter(|frame| frame.rv > rv.into());
        let mut frames: Vec<Frame> = Vec::new();
        for frame in after {
            if frames.len() >= most && frames.last().is_some_and(|last| last.rv != frame.rv) {
                break;
            }
            frames.push(frame.clone());
        }
        frames
    }

    pub(crate) fn net_changes(&self, from: u64, to: u64) -> Vec<Frame> {
        self.lock().net_changes(from, to)
    }

    /// Whether a watch can begin after `rv`.
    pub(crate) fn watch_lost_after(&self, rv: u64) -> Option<WatchLost> {
        let inner = self.lock();
        let repairable = rv >= inner.compacted;
        (!repairable || rv < inner.watchable).then_some(WatchLost { repairable })
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    async fn watch(self, mut rv: u64, sender: mpsc::Sender<HistoryItem>) {
        if let Some(lost) = self.watch_lost_after(rv) {
            if !lost.repairable {
                let _ = sender.send(HistoryItem::Expired).await;
                return;
            }
            let to = self.last_rv();
            for item in repaired(&self.net_changes(rv, to), to) {
                let _ = sender.send(item).await;
            }
            rv = to;
        }
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            let frames = self.frames_after_len(rv, 7);
            if let Some(last) = frames.last() {
                rv = last.rv.as_u64().unwrap();
                if sender.send(HistoryItem::Frames(frames)).await.is_err() {
                    return;
                }
                continue;
            }
            let idle = tokio::time::sleep(std::time::Duration::from_secs(3));
            tokio::select! {
                _ = changes.changed() => {}
                () = idle => {
                    let now = self.last_rv();
                    if self.frames_after_len(rv, 1).is_empty()
                        && sender.send(HistoryItem::Closed(now.into())).await.is_err()
                    {
                        return;
                    }
                }
                () = sender.closed() => return,
            }
        }
    }
}

fn repaired(changes: &[Frame], to: u64) -> Vec<HistoryItem> {
    let mut items: Vec<_> = changes
        .chunks(4)
        .map(|some| HistoryItem::Repaired {
            to: to.into(),
            frames: some.to_vec(),
            last: false,
        })
        .collect();
    items.push(HistoryItem::Repaired {
        to: to.into(),
        frames: Vec::new(),
        last: true,
    });
    items
}

impl History for ApiServer {
    fn catch_up(&self, from: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
        self.lock().catch_ups += 1;
        let (sender, receiver) = mpsc::channel(2);
        tokio::spawn(self.clone().watch(from.as_u64().unwrap(), sender));
        receiver
    }

    fn snapshot(&self) -> mpsc::Receiver<HistoryItem> {
        let (sender, receiver) = mpsc::channel(2);
        let this = self.clone();
        tokio::spawn(async move {
            let (objects, rv) = {
                let inner = this.lock();
                (inner.objects_at(inner.rv), inner.rv)
            };
            let frames: Vec<_> = objects
                .into_values()
                .map(|frame| Frame {
                    change: Change::Snapshot,
                    ..frame
                })
                .collect();
            for some in frames.chunks(5) {
                let _ = sender.send(HistoryItem::Snapshot(some.to_vec())).await;
            }
            let _ = sender.send(HistoryItem::Synced(rv.into())).await;
        });
        receiver
    }

    fn repair(&self, from: ResourceVersion, to: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
        let (sender, receiver) = mpsc::channel(2);
        let (from, to) = (from.as_u64().unwrap(), to.as_u64().unwrap());
        let this = self.clone();
        tokio::spawn(async move {
            if this.lock().compacted > from {
                let _ = sender.send(HistoryItem::Expired).await;
                return;
            }
            for item in repaired(&this.net_changes(from, to), to) {
                let _ = sender.send(item).await;
            }
        });
        receiver
    }
}
