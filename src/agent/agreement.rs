//! What running shards needs of Raft, so that tests can do without: [`Agreement`].

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::{
    domain::{command::Command, id::Revision, state::State},
    raft::{ProposeError, Proposed, Raft},
};

/// The part of Raft that the agent uses; replaced in tests.
pub trait Agreement: Send + Sync + 'static {
    /// See [`Raft::state`].
    fn state(&self) -> Arc<State>;
    /// See [`Raft::watch_topology`].
    fn watch_topology(&self) -> watch::Receiver<Arc<State>>;
    /// See [`Raft::submit`].
    fn submit(&self, command: Command) -> BoxFuture<'static, Result<Proposed, ProposeError>>;
    /// See [`Raft::wait_applied`].
    fn wait_applied(&self, revision: Revision, timeout: Duration) -> BoxFuture<'static, bool>;
}

impl Agreement for Raft {
    fn state(&self) -> Arc<State> {
        self.state()
    }

    fn watch_topology(&self) -> watch::Receiver<Arc<State>> {
        self.watch_topology()
    }

    fn submit(&self, command: Command) -> BoxFuture<'static, Result<Proposed, ProposeError>> {
        let raft = self.clone();
        Box::pin(async move { Self::submit(&raft, command).await })
    }

    fn wait_applied(&self, revision: Revision, timeout: Duration) -> BoxFuture<'static, bool> {
        let raft = self.clone();
        Box::pin(async move { Self::wait_applied(&raft, revision, timeout).await })
    }
}
