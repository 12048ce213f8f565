//! The handle of one simulated cluster.

use std::sync::Arc;

use super::{Error, Faults, Ledger, Manifest};
use crate::domain::{cluster::Resource, position::ResourceVersion};

/// One simulated cluster. A cheap clone.
#[derive(Clone, Debug)]
pub struct SimCluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    faults: Faults,
}

impl SimCluster {
    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The UID of its kube-system namespace: its identity.
    pub fn uid(&self) -> String {
        String::new()
    }

    /// Its current revision.
    pub fn current_rv(&self) -> ResourceVersion {
        ResourceVersion::ZERO
    }

    /// How many watches are open.
    pub fn open_watches(&self) -> usize {
        0
    }

    /// Its switches.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Everything it has committed.
    pub fn ledger(&self) -> Ledger {
        Ledger::default()
    }

    /// Creates an object.
    pub fn create(
        &self,
        resource: &Resource,
        _manifest: &Manifest,
    ) -> Result<ResourceVersion, Error> {
        Err(Error::NotServed(resource.clone()))
    }

    /// Replaces an object's labels and body.
    pub fn update(
        &self,
        resource: &Resource,
        _manifest: &Manifest,
    ) -> Result<ResourceVersion, Error> {
        Err(Error::NotServed(resource.clone()))
    }

    /// Deletes an object.
    pub fn delete(
        &self,
        resource: &Resource,
        _namespace: &str,
        _name: &str,
    ) -> Result<ResourceVersion, Error> {
        Err(Error::NotServed(resource.clone()))
    }

    /// Deletes objects, named by namespace and name, at one revision that they share, as the end
    /// of a lease does (watch trap T7).
    pub fn delete_batch(
        &self,
        resource: &Resource,
        _objects: &[(&str, &str)],
    ) -> Result<ResourceVersion, Error> {
        Err(Error::NotServed(resource.clone()))
    }

    /// Forgets all history before the current revision, as etcd's compaction does (watch trap T2).
    pub fn compact(&self) {}

    /// Begins a new window of the watch cache, as a restart of the API server does (watch trap
    /// T29), and ends the open watches that it served. Events have no watch cache.
    pub fn reset_watch_cache(&self) {}

    /// Goes back to an older revision, as a restore of etcd from a backup does (watch trap T4).
    /// Open watches stay open, and silent until the revision they had reached is passed again.
    pub fn rewind(&self, to: &ResourceVersion) -> Result<(), Error> {
        Err(Error::OutsideHistory {
            asked: to.clone(),
            oldest: ResourceVersion::ZERO,
            newest: ResourceVersion::ZERO,
        })
    }

    /// Another, empty cluster answers from now on (watch trap T6). Returns its UID.
    pub fn replace(&self) -> String {
        String::new()
    }
}
