//! What all of a replica share that reach a cluster in the same way: [`ByCluster`].

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::domain::{
    cluster::Cluster,
    id::{ClusterId, Revision},
};

/// One value for each cluster, for as long as it is used. A cheap clone; clones share it.
pub(super) struct ByCluster<T>(Arc<Mutex<BTreeMap<Key, Weak<T>>>>);

/// A cluster that is reached in another way since it was changed is another one here.
type Key = (ClusterId, Revision);

impl<T> Clone for ByCluster<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for ByCluster<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> fmt::Debug for ByCluster<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByCluster").finish_non_exhaustive()
    }
}

impl<T> ByCluster<T> {
    /// The value of a cluster; made where nobody uses one.
    pub(super) fn of(&self, cluster: &Cluster, make: impl FnOnce() -> T) -> Arc<T> {
        let mut clusters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (cluster.id, cluster.watch_revision);
        if let Some(shared) = clusters.get(&key).and_then(Weak::upgrade) {
            return shared;
        }
        clusters.retain(|_, shared| shared.strong_count() > 0);
        let made = Arc::new(make());
        clusters.insert(key, Arc::downgrade(&made));
        made
    }
}
