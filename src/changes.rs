//! Recently applied changes, for watches of shards and clusters: [`ChangeLog`].
//!
//! A watcher reads it from a [`Place`] on, as often as it can send something. One that is so slow
//! that what it needs is no longer kept reads the state instead.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::domain::{
    change::{Changes as Applied, ClusterChange, ShardChange},
    cluster::{ClusterSpec, Source},
    command::Command,
    id::Revision,
    state::State,
    stream::Stream,
};

/// Changes kept: hours of an ordinary group, and enough for a watcher that reconnects after every
/// shard of 4,000 clusters has moved once.
const CHANGES_MAX: usize = 4096;

/// What the changes that are kept may take. Only clusters with many streams, or large kubeconfigs
/// that are updated again and again, come near it.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A place among the changes of one kind: just after one of the changes of a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The revision that made the change.
    pub revision: Revision,
    /// Which of the changes that this revision made, from 0: the same at every replica.
    pub index: u32,
}

impl Place {
    /// After every change of a revision.
    pub fn end_of(revision: Revision) -> Self {
        Self {
            revision,
            index: u32::MAX,
        }
    }
}

/// A change and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<C> {
    /// Just after the change.
    pub place: Place,
    /// The change.
    pub change: C,
}

/// What a [`ChangeLog`] must know of a change.
pub trait Change {
    /// The revision that made it.
    fn revision(&self) -> Revision;

    /// What it takes in memory, about.
    fn bytes(&self) -> usize;
}

/// A change of a cluster, with what is needed to decide whether it matched a selector before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterChanged {
    /// The change.
    pub change: ClusterChange,
    /// The specification before; `None` where it did not change.
    pub before: Option<Arc<ClusterSpec>>,
}

impl Change for ShardChange {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn bytes(&self) -> usize {
        let streams = self.streams.iter().map(stream_bytes);
        size_of::<Self>() + self.cluster.len() + streams.sum::<usize>()
    }
}

fn stream_bytes(stream: &Stream) -> usize {
    let selector = &stream.selector;
    size_of::<Stream>()
        + selector.namespace.len()
        + selector.label_selector.len()
        + selector.field_selector.len()
}

impl Change for ClusterChanged {
    fn revision(&self) -> Revision {
        self.change.revision
    }

    // Specifications are shared. Counting them for each change errs on the safe side.
    fn bytes(&self) -> usize {
        let cluster = &self.change.cluster;
        let before = self.before.as_deref().map(spec_bytes);
        size_of::<Self>()
            + cluster.health.reason.len()
            + spec_bytes(&cluster.spec)
            + before.unwrap_or_default()
    }
}

fn spec_bytes(spec: &ClusterSpec) -> usize {
    let labels = spec
        .labels
        .iter()
        .map(|(key, value)| key.len() + value.len());
    let resources = spec.resources.iter().map(|selector| {
        let namespaces = selector.namespaces.iter().map(String::len);
        size_of_val(selector)
            + namespaces.sum::<usize>()
            + selector.label_selector.len()
            + selector.field_selector.len()
    });
    let source = match &spec.source {
        Source::KubeconfigInline { yaml, .. } => yaml.len(),
        _ => 0,
    };
    size_of::<ClusterSpec>()
        + labels.sum::<usize>()
        + resources.sum::<usize>()
        + source
        + spec.description.len()
}

/// The changes of every kind that are kept.
pub struct Changes {
    /// Changes of shards.
    pub shards: Arc<ChangeLog<ShardChange>>,
    /// Changes of clusters.
    pub clusters: Arc<ChangeLog<ClusterChanged>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            shards: Arc::new(ChangeLog::new(Revision(0))),
            clusters: Arc::new(ChangeLog::new(Revision(0))),
        }
    }
}

impl Changes {
    /// Starts over at the revision of a snapshot.
    pub fn reset(&self, complete_after: Revision) {
        self.shards.reset(complete_after);
        self.clusters.reset(complete_after);
    }

    /// Keeps what some entries changed.
    pub fn push(&self, batch: Batch) {
        self.shards.push(batch.shards);
        self.clusters.push(batch.clusters);
    }
}

/// What some entries of the log changed.
#[derive(Default)]
pub struct Batch {
    shards: Vec<ShardChange>,
    clusters: Vec<ClusterChanged>,
    /// What the cluster of the present command was like before it.
    before: Option<Arc<ClusterSpec>>,
}

impl Batch {
    /// To be called before a command is applied to the state.
    pub fn before(&mut self, state: &State, command: &Command) {
        self.before = match command {
            Command::UpdateCluster { id, .. } => {
                let cluster = state.clusters.get(id);
                cluster.map(|cluster| Arc::clone(&cluster.spec))
            }
            _ => None,
        };
    }

    /// Adds what the command changed.
    pub fn add(&mut self, changes: Applied) {
        self.shards.extend(changes.shards);
        let clusters = changes.clusters.into_iter();
        let before = self.before.take();
        self.clusters.extend(clusters.map(|change| ClusterChanged {
            change,
            before: before.clone(),
        }));
    }
}

/// The changes of one kind that are kept.
pub struct ChangeLog<C> {
    kept: Mutex<Kept<C>>,
    /// Changes whenever what is kept does.
    newest: watch::Sender<Place>,
}

struct Kept<C> {
    changes: VecDeque<Arc<Placed<C>>>,
    bytes: usize,
    /// Every change after this place is kept.
    complete_after: Place,
}

impl<C: Change> ChangeLog<C> {
    /// Nothing is kept of what was before the end of a revision.
    pub fn new(complete_after: Revision) -> Self {
        let place = Place::end_of(complete_after);
        Self {
            kept: Mutex::new(Kept::new(place)),
            newest: watch::Sender::new(place),
        }
    }

    /// Starts over at the revision of a snapshot.
    pub fn reset(&self, complete_after: Revision) {
        let place = Place::end_of(complete_after);
        *self.kept() = Kept::new(place);
        self.newest.send_replace(place);
    }

    /// Keeps what was applied, in order. All changes of a revision must come at once.
    pub fn push(&self, changes: impl IntoIterator<Item = C>) {
        let mut kept = self.kept();
        let mut newest = None;
        for change in changes {
            let place = kept.place_of_next(change.revision());
            kept.push(Placed { place, change });
            newest = Some(place);
        }
        drop(kept);
        if let Some(newest) = newest {
            self.newest.send_replace(newest);
        }
    }

    /// The first changes after a place, up to `most`; `None` where not all of them are kept.
    pub fn since(&self, place: Place, most: usize) -> Option<Vec<Arc<Placed<C>>>> {
        let kept = self.kept();
        if place < kept.complete_after {
            return None;
        }
        let first = kept.changes.partition_point(|known| known.place <= place);
        let changes = kept.changes.range(first..).take(most);
        Some(changes.cloned().collect())
    }

    /// Follows whether there is anything new.
    pub fn watch(&self) -> watch::Receiver<Place> {
        self.newest.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, Kept<C>> {
        // Every change of `Kept` is whole before anything could panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Change> Kept<C> {
    fn new(complete_after: Place) -> Self {
        Self {
            changes: VecDeque::new(),
            bytes: 0,
            complete_after,
        }
    }

    fn place_of_next(&self, revision: Revision) -> Place {
        let index = match self.changes.back().map(|last| last.place) {
            Some(last) if last.revision == revision => last.index.saturating_add(1),
            _ => 0,
        };
        Place { revision, index }
    }

    fn push(&mut self, placed: Placed<C>) {
        self.bytes += placed.change.bytes();
        self.changes.push_back(Arc::new(placed));
        // The newest one stays in any case: the places of those that follow count from it.
        while self.changes.len() > 1 && (self.changes.len() > CHANGES_MAX || self.bytes > BYTES_MAX)
        {
            let Some(oldest) = self.changes.pop_front() else {
                return;
            };
            self.bytes -= oldest.change.bytes();
            self.complete_after = oldest.place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, CHANGES_MAX, Change, ChangeLog, Place};
    use crate::domain::id::Revision;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Plain(u64, usize);

    impl Change for Plain {
        fn revision(&self) -> Revision {
            Revision(self.0)
        }

        fn bytes(&self) -> usize {
            self.1
        }
    }

    fn change(revision: u64) -> Plain {
        Plain(revision, 100)
    }

    fn since(log: &ChangeLog<Plain>, place: Place) -> Option<Vec<(u64, u32)>> {
        let changes = log.since(place, usize::MAX)?.into_iter();
        let place = |revision: Revision, index| (revision.0, index);
        Some(
            changes
                .map(|placed| place(placed.place.revision, placed.place.index))
                .collect(),
        )
    }

    fn end_of(revision: u64) -> Place {
        Place::end_of(Revision(revision))
    }

    #[test]
    fn changes_of_one_revision_are_distinguished() {
        let log = ChangeLog::new(Revision(10));
        log.push([change(11), change(12), change(12), change(12), change(14)]);
        assert_eq!(since(&log, end_of(9)), None);
        let all = vec![(11, 0), (12, 0), (12, 1), (12, 2), (14, 0)];
        assert_eq!(since(&log, end_of(10)), Some(all));
        let middle = Place {
            revision: Revision(12),
            index: 1,
        };
        assert_eq!(since(&log, middle), Some(vec![(12, 2), (14, 0)]));
        assert_eq!(since(&log, end_of(12)), Some(vec![(14, 0)]));
        assert_eq!(since(&log, end_of(14)), Some(vec![]));
        assert_eq!(log.since(middle, 1).map(|some| some.len()), Some(1));
    }

    #[test]
    fn a_watcher_learns_that_there_is_something_new() {
        let log = ChangeLog::new(Revision(0));
        let mut watch = log.watch();
        log.push([]);
        assert!(!watch.has_changed().unwrap());
        log.push([change(1)]);
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        log.reset(Revision(0));
        assert!(watch.has_changed().unwrap());
    }

    #[test]
    fn what_no_longer_fits_is_forgotten() {
        let log = ChangeLog::new(Revision(0));
        log.push((1..=CHANGES_MAX as u64 + 2).map(change));
        assert_eq!(since(&log, end_of(1)), None);
        let kept = since(&log, end_of(2));
        assert_eq!(kept.map(|kept| kept.len()), Some(CHANGES_MAX));
        log.reset(Revision(9_000));
        assert_eq!(since(&log, end_of(8_999)), None);
        assert_eq!(since(&log, end_of(9_000)), Some(vec![]));
    }

    #[test]
    fn large_changes_are_forgotten_sooner() {
        let log = ChangeLog::new(Revision(0));
        log.push((1..=10).map(|revision| Plain(revision, BYTES_MAX / 4)));
        assert_eq!(since(&log, end_of(5)), None);
        let kept = since(&log, end_of(6)).unwrap();
        assert_eq!(kept, [(7, 0), (8, 0), (9, 0), (10, 0)]);
        log.push([Plain(11, 2 * BYTES_MAX)]);
        assert_eq!(since(&log, end_of(10)), Some(vec![(11, 0)]));
    }
}
