//! Writes the ledger of one cluster.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    domain::{cluster::Resource, event::Change},
    sim::{
        ledger::{Commit, Ledger, NewHistory},
        object::Object,
    },
};

/// Most changes that are kept per cluster, about 100 bytes each beside names that objects share;
/// beyond it the oldest are forgotten, and counted. An hour and a half of 167 changes per second.
const COMMITS_MAX: usize = 1_000_000;

/// The ledger while it grows.
#[derive(Debug)]
pub(super) struct Record {
    cluster: String,
    commits: VecDeque<Commit>,
    histories: Vec<NewHistory>,
    history: u32,
    forgotten: u64,
}

impl Record {
    pub(super) fn new(cluster: String) -> Self {
        Self {
            cluster,
            commits: VecDeque::new(),
            histories: Vec::new(),
            history: 0,
            forgotten: 0,
        }
    }

    pub(super) fn push(
        &mut self,
        resource: &Arc<Resource>,
        change: Change,
        ordinal: u32,
        object: &Object,
        committed_us: u64,
    ) {
        if self.commits.len() == COMMITS_MAX {
            self.commits.pop_front();
            self.forgotten += 1;
        }
        self.commits.push_back(Commit {
            history: self.history,
            resource: Arc::clone(resource),
            change,
            rv: object.rv,
            ordinal,
            namespace: Arc::clone(&object.identity.namespace),
            name: Arc::clone(&object.identity.name),
            uid: Arc::clone(&object.identity.uid),
            object_crc: object.object_crc(),
            item_crc: object.item_crc(),
            committed_us,
        });
    }

    /// Begins another history.
    pub(super) fn begin(&mut self, continues: Option<u64>) {
        self.history += 1;
        self.histories.push(NewHistory {
            history: self.history,
            continues,
        });
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger {
            cluster: self.cluster.clone(),
            commits: self.commits.iter().cloned().collect(),
            histories: self.histories.clone(),
            forgotten: self.forgotten,
        }
    }
}
