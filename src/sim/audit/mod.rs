//! Judges what a subscriber received against what was committed.

#[cfg(test)]
mod tests;
mod truth;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use self::{truth::Truth, walk::Walk};
use super::ledger::Ledger;
use crate::domain::{
    cluster::Resource,
    event::{Change, GapReason},
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

/// A gap as a subscriber received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenGap {
    /// The cluster's name.
    pub cluster: String,
    /// The resource.
    pub resource: Resource,
    /// The resource version of the last position before the hole; `None` where there was none.
    pub from: Option<ResourceVersion>,
    /// The resource version of the position after which the stream continues: the net changes of a
    /// repaired gap follow it, and are all at the next version.
    pub to: ResourceVersion,
    /// The reason in the gap.
    pub reason: GapReason,
    /// Whether the net changes follow instead of a snapshot.
    pub repaired: bool,
}

/// Collects what one subscriber received, in the order in which it did.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Per cluster and resource.
    streams: BTreeMap<(String, Resource), Vec<Seen>>,
}

/// One thing received, reduced to what is needed to judge it: a long test receives millions.
#[derive(Clone, Copy, Debug)]
enum Seen {
    Event {
        change: Change,
        rv: u64,
        id: u64,
        crc: u32,
    },
    Gap {
        from: u64,
        to: u64,
        /// Whether the cluster's past is another from here on.
        new_history: bool,
        /// Whether what is missing may be from before `from`: the cluster had reported that it was
        /// complete.
        reaches_back: bool,
        repaired: bool,
    },
    Synced {
        rv: u64,
    },
    /// What came of the snapshot under way is void.
    Restarted,
}

/// What came of it. `produced = delivered + lost + declared + coalesced`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Changes committed after the start.
    pub produced: u64,
    /// Of these, those that were delivered.
    pub delivered: u64,
    /// Of these, those that were not, without a gap for it.
    pub lost: u64,
    /// Of these, those that were not, inside a declared gap that a snapshot follows.
    pub declared: u64,
    /// Of these, those that were not, inside a repaired gap, where later ones show the outcome.
    pub coalesced: u64,
    /// Events delivered again.
    pub duplicated: u64,
    /// Events delivered after a later one of the same stream.
    pub out_of_order: u64,
    /// Events that were never committed as they were delivered.
    pub corrupted: u64,
    /// Snapshot events.
    pub snapshot: u64,
    /// Objects that a snapshot should have had.
    pub missing_in_snapshot: u64,
    /// Gaps.
    pub gaps: u64,
    /// The first problems, in words.
    pub first_problems: Vec<String>,
}

/// Most problems that are described in words: more add nothing new.
const PROBLEMS_MAX: usize = 20;

impl AuditReport {
    /// Nothing lost without a word, nothing twice, nothing out of order, nothing changed.
    pub fn is_clean(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.out_of_order == 0
            && self.corrupted == 0
            && self.missing_in_snapshot == 0
    }

    fn problem(&mut self, words: impl FnOnce() -> String) {
        if self.first_problems.len() < PROBLEMS_MAX {
            self.first_problems.push(words());
        }
    }
}

impl Audit {
    /// Nothing received yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An event was received.
    pub fn deliver(&mut self, event: &Delivered) {
        self.stream(&event.cluster, &event.resource)
            .push(Seen::Event {
                change: event.change,
                rv: number(&event.rv),
                id: id_of(&event.uid, &event.namespace, &event.name),
                crc: event.object_crc,
            });
    }

    /// A gap was received.
    pub fn gap(&mut self, gap: &SeenGap) {
        let new_history = matches!(
            gap.reason,
            GapReason::HistoryReset | GapReason::ClusterReplaced
        );
        let to = number(&gap.to).saturating_add(u64::from(gap.repaired));
        self.stream(&gap.cluster, &gap.resource).push(Seen::Gap {
            from: gap.from.as_ref().map_or(0, number),
            to,
            new_history,
            reaches_back: gap.reason == GapReason::UpstreamInconsistent,
            repaired: gap.repaired,
        });
    }

    /// A snapshot was complete.
    pub fn synced(&mut self, cluster: &str, resource: &Resource, rv: &ResourceVersion) {
        let rv = number(rv);
        self.stream(cluster, resource).push(Seen::Synced { rv });
    }

    /// The snapshot under way begins again.
    pub fn restarted(&mut self, cluster: &str, resource: &Resource) {
        self.stream(cluster, resource).push(Seen::Restarted);
    }

    /// Compares with the truth.
    ///
    /// A stream that began with a snapshot is judged from there on. Of any other, changes after
    /// `from` count where it names the cluster, else those from the first that was delivered. A
    /// stream of which nothing at all was received is judged only where `from` names its cluster.
    pub fn report(
        &self,
        ledgers: &[Ledger],
        from: &BTreeMap<String, ResourceVersion>,
    ) -> AuditReport {
        let mut report = AuditReport::default();
        let mut known = BTreeSet::new();
        for ledger in ledgers {
            let from = from.get(&ledger.cluster).map(number);
            for truth in Truth::of(ledger) {
                let stream = (ledger.cluster.clone(), Resource::clone(truth.resource));
                let seen = self.streams.get(&stream).map_or(&[][..], Vec::as_slice);
                if !seen.is_empty() || from.is_some() {
                    Walk::new(&truth, from, &mut report).judge(seen);
                }
                known.insert(stream);
            }
        }
        for (stream @ (cluster, resource), seen) in &self.streams {
            let events = |seen: &&Seen| matches!(seen, Seen::Event { .. });
            let unknown = seen.iter().filter(events).count();
            if !known.contains(stream) && unknown > 0 {
                report.corrupted += unknown as u64;
                report.problem(|| {
                    format!("{cluster} {resource}: {unknown} events of a stream without a ledger")
                });
            }
        }
        report
    }

    fn stream(&mut self, cluster: &str, resource: &Resource) -> &mut Vec<Seen> {
        self.streams
            .entry((cluster.to_owned(), resource.clone()))
            .or_default()
    }
}

/// Revisions of simulated clusters fit; what does not was never committed by one.
fn number(rv: &ResourceVersion) -> u64 {
    rv.as_u64().unwrap_or(u64::MAX)
}

/// Stands for an object's whole identity, so that a wrong name is noticed as well as a wrong UID.
fn id_of(uid: &str, namespace: &str, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (uid, namespace, name).hash(&mut hasher);
    hasher.finish()
}
