//! Changes of ownership beside a stream of events, which never waits for them.

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cli::Endpoints,
    client::watch::{ShardWatch, Update},
    proto::v1::{ShardChange, ShardChangeType, WatchShardsRequest},
};

/// Changes that wait to be shown. Of more, the events are more important.
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

    /// Waits for the next change; without end, where the watch of them has failed.
    pub(super) async fn next(&mut self) -> ShardChange {
        match self.changes.recv().await {
            Some(change) => change,
            None => std::future::pending().await,
        }
    }
}

/// Until the watch is refused: the stream of events meets the same trouble, and reports it.
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
