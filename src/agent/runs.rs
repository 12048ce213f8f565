//! The shards that run on this replica: those that the state assigns to it.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

use super::{
    options::RunOptions,
    prepare::Requests,
    prepared::Prepared,
    reconcile::{RunKey, reconcile},
    shard::ShardRun,
};
use crate::domain::{id::ShardId, state::State};

/// The shards that run here, and those that are prepared to.
pub struct Runs {
    options: RunOptions,
    running: BTreeMap<ShardId, ShardRun>,
    requests: Requests,
    prepared: Prepared,
}

impl Runs {
    /// Nothing runs yet.
    pub fn new(options: RunOptions, requests: Requests) -> Self {
        Self {
            options,
            running: BTreeMap::new(),
            requests,
            prepared: Prepared::default(),
        }
    }

    /// What the group has agreed on, as this replica knows it.
    pub fn state(&self) -> Arc<State> {
        self.options.group.state()
    }

    /// Does what each state asks for, until one that is `last`.
    pub async fn follow_state(&mut self, last: impl Fn(&State) -> bool) {
        let mut states = self.options.group.watch_topology();
        loop {
            let is_last = {
                // Let go before waiting, which may last for hours.
                let state = Arc::clone(&states.borrow_and_update());
                self.reconcile(&state);
                last(&state)
            };
            if is_last || self.changed(&mut states).await.is_err() {
                return;
            }
        }
    }

    /// Waits for another state, and prepares shards meanwhile.
    async fn changed(
        &mut self,
        states: &mut watch::Receiver<Arc<State>>,
    ) -> Result<(), watch::error::RecvError> {
        loop {
            tokio::select! {
                changed = states.changed() => return changed,
                request = self.requests.next() => self.prepared.begin(&self.options, request),
                () = self.prepared.run() => {}
            }
        }
    }

    /// Ends all of them, and waits until they have ended.
    pub async fn end(self) {
        let runs = self.running.into_values();
        futures::future::join_all(runs.map(ShardRun::end)).await;
    }

    fn reconcile(&mut self, state: &State) {
        let running: BTreeMap<ShardId, RunKey> = self
            .running
            .iter()
            .map(|(shard, run)| (*shard, run.key()))
            .collect();
        let steps = reconcile(state, self.options.replica, &running);
        for shard in steps.stop {
            if let Some(run) = self.running.remove(&shard) {
                // What it published stays valid: the next owner resumes at the checkpoint.
                run.abandon();
            }
        }
        for (shard, key) in steps.change {
            if let Some(run) = self.running.get(&shard) {
                run.change(key);
            }
        }
        for (shard, key) in steps.start {
            let standby = self.prepared.take(shard);
            let run = ShardRun::start(&self.options, shard, key, standby);
            self.running.insert(shard, run);
        }
        self.prepared.follow(state, self.options.replica);
    }
}
