//! Judges what a subscriber received against what was committed.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use crate::domain::{
    cluster::Resource,
    frame::{Change, GapReason},
    position::ResourceVersion,
};

/// One event as a subscriber received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The cluster's name.
    pub cluster: String,
    /// The resource.
    pub resource: Resource,
    /// What happened.
    pub change: Change,
    /// The object's own `metadata.resourceVersion` (not that of the event's position, which
    /// differs in a snapshot and in a repair).
    pub rv: ResourceVersion,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's UID.
    pub uid: String,
    /// CRC-32C of the object's JSON as received.
    pub object_crc: u32,
}

/// A gap as a subscriber was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenGap {
    /// The cluster's name.
    pub cluster: String,
    /// The resource.
    pub resource: Resource,
    /// The resource version of the last position before the hole; `None` where there was none.
    pub from: Option<ResourceVersion>,
    /// The resource version of the first position after it.
    pub to: ResourceVersion,
    /// Why.
    pub reason: GapReason,
    /// Whether the net changes follow instead of a snapshot.
    pub repaired: bool,
}

/// Collects what one subscriber received, in the order in which it did.
#[derive(Clone, Debug, Default)]
pub struct Audit {}

/// What came of it. `produced = delivered + lost + declared + coalesced`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Changes committed after the start.
    pub produced: u64,
    /// Of these, those that were delivered.
    pub delivered: u64,
    /// Of these, those that were not, and no gap said so.
    pub lost: u64,
    /// Of these, those that were not, inside a declared gap that a snapshot followed.
    pub declared: u64,
    /// Of these, those that were not, inside a repaired gap whose net changes were delivered.
    pub coalesced: u64,
    /// Events delivered again.
    pub duplicated: u64,
    /// Events delivered after a later one of the same stream.
    pub out_of_order: u64,
    /// Events that were never committed as they were delivered.
    pub corrupted: u64,
    /// Snapshot events.
    pub snapshot: u64,
    /// Gaps.
    pub gaps: u64,
    /// The first problems, in words.
    pub first_problems: Vec<String>,
}

impl AuditReport {
    /// Nothing lost without a word, nothing twice, nothing out of order, nothing changed.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.out_of_order == 0 && self.corrupted == 0
    }
}

impl Audit {
    /// Nothing received yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An event was received.
    pub fn deliver(&mut self, _event: &Delivered) {}

    /// A gap was received.
    pub fn gap(&mut self, _gap: &SeenGap) {}

    /// A snapshot was complete.
    pub fn synced(&mut self, _cluster: &str, _resource: &Resource, _rv: &ResourceVersion) {}

    /// Compares with the truth. Per cluster, changes after `from` count; where it names none,
    /// those from the first that was delivered, or after the first snapshot.
    pub fn report(
        &self,
        _ledgers: &[Ledger],
        _from: &BTreeMap<String, ResourceVersion>,
    ) -> AuditReport {
        AuditReport::default()
    }
}
