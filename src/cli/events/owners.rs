//! Changes of ownership beside a stream of events, which never waits for them.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use crate::{
    cli::{
        Endpoints, Error,
        shard_watch::{ShardWatch, Told},
    },
    proto::v1::{ShardChange, watch_shards_response::Update},
};

/// Changes that wait to be shown. Of more, the events are more important.
const QUEUE: usize = 256;
/// The pause after every replica was asked in vain.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

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

    /// Waits for the next change; for ever, where nobody tells of any.
    pub(super) async fn next(&mut self) -> ShardChange {
        match self.changes.recv().await {
            Some(change) => change,
            None => std::future::pending().await,
        }
    }
}

async fn follow(endpoints: Endpoints, changes: mpsc::Sender<ShardChange>) {
    loop {
        match tell(&endpoints, &changes).await {
            Error::NoAnswer { .. } => {}
            Error::Refused { status, .. } if status.code() == Code::Unavailable => {}
            // The stream of events meets the same trouble, and tells it.
            _ => return,
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Tells changes until the watch fails for good.
async fn tell(endpoints: &Endpoints, changes: &mpsc::Sender<ShardChange>) -> Error {
    let mut watch = match ShardWatch::open(endpoints.clone()).await {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    loop {
        match watch.next().await {
            Ok(Told::Update(update)) => {
                if let Some(Update::Change(change)) = update.update {
                    // Full: what cannot be shown in time is better not shown.
                    let _ = changes.try_send(change);
                }
            }
            Ok(Told::Interrupted(_)) => {}
            Err(error) => return error,
        }
    }
}
