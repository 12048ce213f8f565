//! Requests to prepare a shard that is about to move here: [`Preparer`] hands them to the agent.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::domain::id::{Epoch, ShardId};

/// Requests that wait for the agent, which answers none of them itself.
const REQUESTS_MAX: usize = 256;

/// Asks the agent of this replica to open the watches of shards that it is about to own. A cheap
/// clone.
#[derive(Clone)]
pub struct Preparer(mpsc::Sender<Request>);

/// The receiving end, for the agent.
pub struct Requests(mpsc::Receiver<Request>);

/// A shard that is about to move here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The shard.
    pub shard: ShardId,
    /// The epoch of its present owner.
    pub epoch: Epoch,
    /// Whether every watch must be open, and not only as many as the owner has.
    pub must_connect: bool,
    /// How long opening them may take.
    pub timeout: Duration,
}

pub(super) struct Request {
    pub(super) wanted: Wanted,
    pub(super) answer: oneshot::Sender<Result<(), PrepareError>>,
}

/// Why a shard is not prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// It cannot be watched from here.
    #[error("{0}")]
    Unfit(String),
    /// It has changed hands meanwhile.
    #[error("the shard is not at that epoch")]
    Stale,
    /// The agent is not running.
    #[error("this replica is not accepting shards now")]
    Stopped,
}

/// Creates the connected ends for the gRPC service and the agent.
pub fn preparer() -> (Preparer, Requests) {
    let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
    (Preparer(sender), Requests(receiver))
}

impl Preparer {
    /// Opens the watches of a shard at its checkpoint, and waits until they are open. They are
    /// closed again where the shard is not assigned to this replica soon.
    pub async fn prepare(&self, wanted: Wanted) -> Result<(), PrepareError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { wanted, answer };
        let sent = self.0.send(request).await;
        sent.map_err(|_| PrepareError::Stopped)?;
        answered.await.unwrap_or(Err(PrepareError::Stopped))
    }
}

impl Requests {
    /// The next request; never one after the last sender is gone.
    pub(super) async fn next(&mut self) -> Request {
        match self.0.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}
