//! The truth: every change that a simulated cluster committed.

use std::sync::Arc;

use crate::domain::{cluster::Resource, frame::Change};

/// One committed change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Which history of the cluster it belongs to: 0 at first, plus one at each rewind or
    /// replacement.
    pub history: u32,
    /// The resource.
    pub resource: Arc<Resource>,
    /// What happened; never [`Change::Snapshot`].
    pub change: Change,
    /// The revision.
    pub rv: u64,
    /// Which of the changes of the resource that share the revision.
    pub ordinal: u32,
    /// The object's namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// The object's UID.
    pub uid: Arc<str>,
    /// CRC-32C of the object's JSON as a watch sends it.
    pub object_crc: u32,
    /// CRC-32C of the object's JSON as a list sends it: items of built-in resources have neither
    /// `kind` nor `apiVersion`.
    pub item_crc: u32,
    /// When it was committed, in microseconds since the Unix epoch.
    pub committed_us: u64,
}

/// Where a cluster's past was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewHistory {
    /// The history that begins here.
    pub history: u32,
    /// The revision of the history before it that it continues; `None` where the cluster was
    /// replaced by an empty one.
    pub continues: Option<u64>,
}

/// Everything a cluster committed, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The cluster's name.
    pub cluster: String,
    /// The changes, oldest first.
    pub commits: Vec<Commit>,
    /// Where the past was cut, oldest first.
    pub histories: Vec<NewHistory>,
    /// How many of the oldest changes are no longer kept.
    pub forgotten: u64,
}

/// Why a text is not a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A line is not what `GET /sim/ledger` writes.
    #[error("line {line} is not a ledger entry; fetch the ledger from a server of this version")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A resource that is none.
    #[error("line {line} names no resource")]
    Resource {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: crate::domain::cluster::NotAResource,
    },
    /// No first line.
    #[error("the ledger is empty; it must begin with a line that names its cluster")]
    Empty,
}

impl Ledger {
    /// The ledger as JSON lines, as `GET /sim/ledger?cluster=` sends it.
    pub fn to_json_lines(&self) -> String {
        String::new()
    }

    /// Reads what [`Self::to_json_lines`] wrote.
    pub fn from_json_lines(_text: &str) -> Result<Self, LedgerError> {
        Err(LedgerError::Empty)
    }
}
