//! Changes of ownership beside a stream of events, which never waits for them.

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cli::Endpoints,
    client::watch::{ShardWatch, Update},
    proto::v1::{ShardChange, ShardChangeType, WatchShardsRequest},
};

/// Changes that wait to be shown; further ones are dropped, because events matter more.
const QUEUE: usize = 256;

/// Changes of ownership, as they come.
pub(super) struct OwnerChanges {
    changes: mpsc::Receiver<ShardChange>,
    _task: AbortOnDropHandle<()>,
}

impl OwnerChanges {
    /// Follows them for as long as this value lives.
    pub(super) fn follow(endpoints: Endpoints) -> Self {
        let (sender, changes) = mpsc::channel(QUEUE);
        let task = tokio::spawn(follow(endpoints, sender));
        Self {
            changes,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Waits for the next change; never returns if their watch has failed.
    pub(super) async fn next(&mut self) -> ShardChange {
        match self.changes.recv().await {
            Some(change) => change,
            None => std::future::pending().await,
        }
    }
}

/// Runs until the watch is rejected: the stream of events gets the same error and reports it.
async fn follow(endpoints: Endpoints, changes: mpsc::Sender<ShardChange>) {
    let mut watch = ShardWatch::new(endpoints, WatchShardsRequest::default());
    while let Ok(update) = watch.next().await {
        if let Update::Change(change) = update
            && change.r#type() == ShardChangeType::Moved
        {
            // Full: what cannot be shown in time is better not shown.
            let _ = changes.try_send(change);
        }
    }
}
