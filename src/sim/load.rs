//! Seeded load: realistic objects, written to the clusters of a fleet at a steady rate.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::domain::cluster::Resource;

/// What to write.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Changes per second, over the whole fleet.
    pub events_per_second: f64,
    /// What to write; each is taken equally often.
    pub resources: Vec<Resource>,
    /// About how long an object's JSON is.
    pub object_bytes: usize,
    /// Which share of the changes are updates.
    pub update_share: f64,
    /// Which share of the changes are deletions.
    pub delete_share: f64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            events_per_second: 100.0,
            resources: vec![Resource::events()],
            object_bytes: 1024,
            update_share: 0.3,
            delete_share: 0.05,
        }
    }
}

/// A load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    pub(super) cancel: CancellationToken,
    pub(super) task: JoinHandle<LoadReport>,
}

/// What a load wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Objects created.
    pub created: u64,
    /// Updates.
    pub updated: u64,
    /// Deletions, those by TTL not counted.
    pub deleted: u64,
    /// For how long.
    pub elapsed: Duration,
}

impl Load {
    /// Stops and tells what was written.
    pub async fn stop(self) -> LoadReport {
        self.cancel.cancel();
        self.task.await.unwrap_or_default()
    }
}
