//! Entries of the log to [`State::apply`], and the state to those who watch it.
//!
//! The state lives in memory. It is rebuilt from the current snapshot and the log at each start.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    alias::SnapshotOf,
    storage::{EntryResponder, RaftStateMachine},
};
use prost::Message as _;
use tokio::sync::watch;

use super::{
    storage::Store,
    types::{LogId, Reply, Request, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::{
    blocking::blocking,
    changes::{Batch as ChangeBatch, Changes},
    domain::{id::Revision, state::State},
    proto::store::v1 as store,
};

/// What the state machine publishes.
pub struct Published {
    /// The state, published once for each batch of entries.
    pub(super) state: watch::Sender<Arc<State>>,
    /// The same state at the same time. Its receivers are notified only where more than checkpoints
    /// and health changed.
    pub(super) topology: watch::Sender<Arc<State>>,
    /// The last log index applied, published after the state and the changes that it led to.
    pub(super) applied: watch::Sender<Revision>,
}

impl Published {
    /// Nothing applied yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: watch::Sender::new(Arc::default()),
            topology: watch::Sender::new(Arc::default()),
            applied: watch::Sender::new(Revision(0)),
        })
    }
}

/// What a batch of entries changed, for those who watch.
#[derive(Default)]
struct Batch {
    changes: ChangeBatch,
    changes_topology: bool,
}

/// Applies what is committed.
pub struct StateMachine {
    state: Arc<State>,
    applied: Option<LogId>,
    membership: StoredMembership,
    store: Arc<Store>,
    published: Arc<Published>,
    changes: Arc<Changes>,
}

impl StateMachine {
    /// The state as of the current snapshot; openraft applies the rest of the log to it.
    pub async fn load(
        store: Arc<Store>,
        published: Arc<Published>,
        changes: Arc<Changes>,
    ) -> io::Result<Self> {
        let mut machine = Self {
            state: Arc::default(),
            applied: None,
            membership: StoredMembership::default(),
            store,
            published,
            changes,
        };
        if let Some((meta, bytes)) = machine.store.snapshots().load().await? {
            machine.replace(&meta, &bytes)?;
        }
        Ok(machine)
    }

    fn replace(&mut self, meta: &SnapshotMeta, bytes: &[u8]) -> io::Result<()> {
        let record = store::State::decode(bytes).map_err(io::Error::other)?;
        self.state = Arc::new(State::try_from(record)?);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish_state(true);
        self.changes.reset(Revision(self.applied_index()));
        self.publish_applied();
        Ok(())
    }

    fn applied_index(&self) -> u64 {
        self.applied.map_or(0, |id| id.index)
    }

    fn publish_state(&self, changes_topology: bool) {
        let publish = |sender: &watch::Sender<Arc<State>>, notify: bool| {
            let mut state = Arc::clone(&self.state);
            sender.send_if_modified(|current| {
                std::mem::swap(current, &mut state);
                notify && !Arc::ptr_eq(current, &state)
            });
            // What was published before is dropped here, where no reader waits for it.
        };
        publish(&self.published.state, true);
        publish(&self.published.topology, changes_topology);
    }

    /// Comes last: a reader that sees it finds all changes up to it, and a state that has them.
    fn publish_applied(&self) {
        self.published
            .applied
            .send_replace(Revision(self.applied_index()));
    }

    /// The state is copied here at most once for each batch, but for what is the same in both: the
    /// copy that was published stays as it is.
    fn apply_entry(
        &mut self,
        id: LogId,
        payload: &super::types::Payload,
        batch: &mut Batch,
    ) -> Reply {
        self.applied = Some(id);
        match payload {
            EntryPayload::Blank => Reply(None),
            EntryPayload::Normal(Request(command)) => {
                batch.changes.before(&self.state, command);
                let state = Arc::make_mut(&mut self.state);
                let applied = state.apply(Revision(id.index), command);
                batch.changes_topology |= applied.changes_topology;
                batch.changes.add(applied.changes);
                Reply(Some(applied.outcome))
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(id), membership.clone());
                Reply(None)
            }
        }
    }

    /// Keeps the group's id with the data, so that it is known before the log is read.
    async fn keep_group(&self) -> io::Result<()> {
        match self.state.group {
            Some(group) if self.store.group() != Some(group) => self.store.set_group(group).await,
            _ => Ok(()),
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    // tidy: openraft's name
    type SnapshotData = Bytes;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        let mut replies = Vec::new();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let reply = self.apply_entry(entry.log_id, &entry.payload, &mut batch);
            if let Some(responder) = responder {
                replies.push((responder, reply));
            }
        }
        self.keep_group().await?;
        self.publish_state(batch.changes_topology);
        self.changes.push(batch.changes);
        self.publish_applied();
        // A proposer finds the effect in the state that it reads next.
        for (responder, reply) in replies {
            responder.send(reply);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            state: Arc::clone(&self.state),
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            store: Arc::clone(&self.store),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> io::Result<()> {
        self.store.snapshots().save(meta, &snapshot).await?;
        self.replace(meta, &snapshot)?;
        self.keep_group().await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, Bytes>>> {
        let current = self.store.snapshots().load().await?;
        Ok(current.map(|(meta, snapshot)| SnapshotOf::<TypeConfig, Bytes> { meta, snapshot }))
    }
}

/// Writes a snapshot of one state, while later entries are being applied.
pub struct SnapshotBuilder {
    state: Arc<State>,
    meta: SnapshotMeta,
    store: Arc<Store>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    // tidy: openraft's name
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, Bytes>> {
        let state = Arc::clone(&self.state);
        let encode = move || Bytes::from(store::State::from(&*state).encode_to_vec());
        let snapshot = blocking(self.store.blocking(), encode).await;
        self.store.snapshots().save(&self.meta, &snapshot).await?;
        Ok(SnapshotOf::<TypeConfig, Bytes> {
            meta: self.meta.clone(),
            snapshot,
        })
    }
}
