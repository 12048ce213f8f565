//! The handle of one simulated cluster.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::extract::Request;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Error, Faults, Ledger, Manifest,
    object::key_of,
    requests::{Requests, SeenRequest},
    store::{Now, Store, StoreOptions},
};
use crate::domain::{cluster::Resource, position::ResourceVersion};

/// One simulated cluster. A cheap clone.
#[derive(Clone, Debug)]
pub struct SimCluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    store: Mutex<Store>,
    /// Changes whenever the store does, or open watches must end.
    wake: watch::Sender<u64>,
    faults: Faults,
    requests: Requests,
    open_watches: AtomicUsize,
    /// How often all open watches had to end.
    ends: AtomicU64,
    /// How often those served from the watch cache had to end.
    cache_ends: AtomicU64,
    context: Context,
}

/// What the clusters of a fleet have in common.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) clock: Clock,
    pub(super) bookmark_interval: Duration,
    /// Cancelled when the fleet stops.
    pub(super) stopping: CancellationToken,
}

/// Time since the fleet began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    start_unix_us: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            start_unix_us: crate::clock::unix_now().0.saturating_mul(1000),
        }
    }

    pub(super) fn now(&self) -> Now {
        let elapsed = self.start.elapsed();
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        Now {
            elapsed,
            unix_us: self.start_unix_us.saturating_add(elapsed_us),
        }
    }
}

impl SimCluster {
    pub(super) fn new(options: StoreOptions, context: Context) -> Self {
        Self {
            inner: Arc::new(Inner {
                name: options.cluster.clone(),
                store: Mutex::new(Store::new(options)),
                wake: watch::Sender::new(0),
                faults: Faults::new(),
                requests: Requests::default(),
                open_watches: AtomicUsize::new(0),
                ends: AtomicU64::new(0),
                cache_ends: AtomicU64::new(0),
                context,
            }),
        }
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The UID of its kube-system namespace: its identity.
    pub fn uid(&self) -> String {
        self.read(|store| store.uid().to_string())
    }

    /// Its current revision.
    pub fn current_rv(&self) -> ResourceVersion {
        self.read(Store::revision).into()
    }

    /// How many watches are open.
    pub fn open_watches(&self) -> usize {
        self.inner.open_watches.load(Ordering::Acquire)
    }

    /// How many watches were opened since the start.
    pub fn watch_count(&self) -> u64 {
        self.inner.faults.watches()
    }

    /// How often it was asked anything.
    pub fn request_count(&self) -> u64 {
        self.inner.requests.count()
    }

    /// The newest requests, oldest first: so many as are remembered.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.inner.requests.seen()
    }

    pub(super) fn note_request(&self, request: &Request, client: Option<SocketAddr>) {
        let at = self.inner.context.clock.now().elapsed;
        self.inner.requests.note(request, client, at);
    }

    /// Its switches.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Everything it has committed.
    pub fn ledger(&self) -> Ledger {
        self.read(Store::ledger)
    }

    /// Creates an object.
    pub fn create(
        &self,
        resource: &Resource,
        manifest: &Manifest,
    ) -> Result<ResourceVersion, Error> {
        self.write(|store, now| {
            let table = store.table_of(resource)?;
            Ok(store.create(table, manifest, now)?.into())
        })
    }

    /// Replaces an object's labels and body.
    pub fn update(
        &self,
        resource: &Resource,
        manifest: &Manifest,
    ) -> Result<ResourceVersion, Error> {
        self.write(|store, now| {
            let table = store.table_of(resource)?;
            Ok(store.update(table, manifest, now)?.into())
        })
    }

    /// Deletes an object.
    pub fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<ResourceVersion, Error> {
        self.delete_batch(resource, &[(namespace, name)])
    }

    /// Deletes objects, named by namespace and name, at one revision that they share, as the end
    /// of a lease does (watch trap T7). Watches see them in key order.
    pub fn delete_batch(
        &self,
        resource: &Resource,
        objects: &[(&str, &str)],
    ) -> Result<ResourceVersion, Error> {
        let keys = objects
            .iter()
            .map(|(namespace, name)| key_of(namespace, name).into())
            .collect();
        self.write(|store, now| {
            let table = store.table_of(resource)?;
            Ok(store.delete(table, keys, now)?.into())
        })
    }

    /// Forgets what happened up to and including the current revision, as etcd's compaction does:
    /// a watch or an exact list at an older one gets an error that it is gone (watch trap T2).
    pub fn compact(&self) {
        self.write(|store, _| store.compact());
    }

    /// Begins a new window of the watch cache, as a restart of the API server does (watch trap
    /// T29), and ends the open watches that it served. Events have no watch cache.
    pub fn reset_watch_cache(&self) {
        self.write(|store, _| {
            store.reset_watch_cache();
            self.inner.cache_ends.fetch_add(1, Ordering::AcqRel);
        });
    }

    /// Goes back to an older revision, as a restore of etcd from a backup does (watch trap T4).
    /// Open watches stay open, and silent until the revision they had reached is passed again.
    pub fn rewind(&self, to: &ResourceVersion) -> Result<(), Error> {
        // What does not fit is beyond any revision here, and refused as such.
        let to = to.as_u64().unwrap_or(u64::MAX);
        self.write(|store, now| store.rewind(to, now))
    }

    /// Goes back to an older revision, and then ahead by `ahead`, with all history gone, as a
    /// restore of etcd with `--bump-revision --mark-compacted` does (watch trap T5).
    pub fn restore_ahead(&self, to: &ResourceVersion, ahead: u64) -> Result<(), Error> {
        let to = to.as_u64().unwrap_or(u64::MAX);
        self.write(|store, now| store.restore_ahead(to, ahead, now))
    }

    /// Another, empty cluster answers from now on (watch trap T6); open watches end. Returns its
    /// UID.
    pub fn replace(&self) -> String {
        self.write(|store, _| {
            store.replace();
            self.inner.ends.fetch_add(1, Ordering::AcqRel);
            store.uid().to_string()
        })
    }

    pub(super) fn context(&self) -> &Context {
        &self.inner.context
    }

    /// Reads the store.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        // The store is whole whenever none of its own methods panics, and those have tests.
        let store = self.inner.store.lock();
        look(&store.unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the store, and wakes the watches.
    fn write<T>(&self, change: impl FnOnce(&mut Store, Now) -> T) -> T {
        let now = self.inner.context.clock.now();
        let store = self.inner.store.lock();
        let result = change(&mut store.unwrap_or_else(PoisonError::into_inner), now);
        self.inner.wake.send_modify(|version| *version += 1);
        result
    }

    /// Ends what has lived its time.
    pub(super) fn tick(&self) {
        let before = self.read(Store::revision);
        let now = self.inner.context.clock.now();
        let store = self.inner.store.lock();
        store.unwrap_or_else(PoisonError::into_inner).tick(now);
        if self.read(Store::revision) != before {
            self.inner.wake.send_modify(|version| *version += 1);
        }
    }

    /// Wakes whenever the store changes, or open watches must end.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.wake.subscribe()
    }

    /// A number that changes whenever open watches must end.
    pub(super) fn watch_ends(&self, cached: bool) -> u64 {
        let cache_ends = if cached {
            &self.inner.cache_ends
        } else {
            &self.inner.ends
        };
        // Where there is no cache, `ends` is simply counted twice.
        self.inner.faults.closes()
            + self.inner.ends.load(Ordering::Acquire)
            + cache_ends.load(Ordering::Acquire)
    }

    /// Counts a watch for as long as the answer lives.
    pub(super) fn open_watch(&self) -> OpenWatch {
        self.inner.open_watches.fetch_add(1, Ordering::AcqRel);
        OpenWatch(self.clone())
    }
}

/// An open watch, counted.
#[derive(Debug)]
pub(super) struct OpenWatch(SimCluster);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.inner.open_watches.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The clusters of a fleet, in the order of the options.
#[derive(Clone, Debug)]
pub(super) struct Clusters(Arc<[SimCluster]>);

impl Clusters {
    pub(super) fn new(clusters: Vec<SimCluster>) -> Self {
        Self(clusters.into())
    }

    pub(super) fn all(&self) -> &[SimCluster] {
        &self.0
    }

    pub(super) fn get(&self, name: &str) -> Option<&SimCluster> {
        self.0.iter().find(|cluster| cluster.name() == name)
    }
}
