//! What the controller needs of Raft, so that its tests can do without.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::{
    domain::{command::Command, state::State},
    raft::{Leadership, ProposeError, Proposed, Raft},
};

/// Agrees on commands.
pub(super) trait Agreement: Send + Sync + 'static {
    /// See [`Raft::state`].
    fn state(&self) -> Arc<State>;
    /// See [`Raft::watch_state`].
    fn watch_state(&self) -> watch::Receiver<Arc<State>>;
    /// See [`Raft::leadership`].
    fn leadership(&self) -> watch::Receiver<Leadership>;
    /// See [`Raft::quorum_ack_age`].
    fn quorum_ack_age(&self) -> Option<Duration>;
    /// See [`Raft::propose`].
    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Proposed, ProposeError>>;
}

impl Agreement for Raft {
    fn state(&self) -> Arc<State> {
        self.state()
    }

    fn watch_state(&self) -> watch::Receiver<Arc<State>> {
        self.watch_state()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership()
    }

    fn quorum_ack_age(&self) -> Option<Duration> {
        self.quorum_ack_age()
    }

    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Proposed, ProposeError>> {
        let raft = self.clone();
        Box::pin(async move { Self::propose(&raft, command).await })
    }
}
