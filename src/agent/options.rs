//! What the shards that run here work with: [`RunOptions`].

use std::sync::Arc;

use super::agreement::Agreement;
use crate::{
    domain::id::ReplicaId,
    group::lease::LeaseClock,
    pipeline::owned::Owned,
    watcher::{CredentialPolicy, WatchPolicy},
};

/// What runs work with.
#[derive(Clone)]
pub struct RunOptions {
    /// This replica.
    pub replica: ReplicaId,
    /// Its part in the group.
    pub group: Arc<dyn Agreement>,
    /// Its lease: without it nothing is published.
    pub lease: LeaseClock,
    /// Where what it publishes is found by those who serve it.
    pub owned: Owned,
    /// Which credentials may be used for clusters.
    pub credentials: Arc<CredentialPolicy>,
    /// Limits and times of watches.
    pub watch: WatchPolicy,
}
