//! What the controller needs of Raft, so that its tests can do without.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::{
    domain::{
        command::Command,
        id::Revision,
        preparation::{Answer, Request},
        state::State,
    },
    raft::{Leadership, ProposeError, Proposed, Raft},
};

/// The part of Raft that the controller uses; replaced in tests.
pub(super) trait Agreement: Send + Sync + 'static {
    /// See [`Raft::state`].
    fn state(&self) -> Arc<State>;
    /// See [`Raft::watch_topology`].
    fn watch_topology(&self) -> watch::Receiver<Arc<State>>;
    /// See [`Raft::leadership`].
    fn leadership(&self) -> watch::Receiver<Leadership>;
    /// See [`Raft::quorum_ack_age`].
    fn quorum_ack_age(&self) -> Option<Duration>;
    /// See [`Raft::propose`].
    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Proposed, ProposeError>>;
    /// Asks the receiver of a move to open the watches of its shard, once it has applied `revision`.
    fn prepare(&self, request: Request, revision: Revision) -> BoxFuture<'static, Answer>;
}

/// Asks the receiver of a move to open the watches of its shard, once it has applied a revision.
pub type Prepare = Arc<dyn Fn(Request, Revision) -> BoxFuture<'static, Answer> + Send + Sync>;

/// The group as this replica is part of it.
pub(super) struct Group {
    pub(super) raft: Raft,
    pub(super) prepare: Prepare,
}

impl Agreement for Group {
    fn state(&self) -> Arc<State> {
        self.raft.state()
    }

    fn watch_topology(&self) -> watch::Receiver<Arc<State>> {
        self.raft.watch_topology()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.raft.leadership()
    }

    fn quorum_ack_age(&self) -> Option<Duration> {
        self.raft.quorum_ack_age()
    }

    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Proposed, ProposeError>> {
        let raft = self.raft.clone();
        Box::pin(async move { raft.propose(command).await })
    }

    fn prepare(&self, request: Request, revision: Revision) -> BoxFuture<'static, Answer> {
        (self.prepare)(request, revision)
    }
}
