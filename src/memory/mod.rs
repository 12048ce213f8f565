//! How much memory a replica may hold, part by part: [`Budgets`].
//!
//! What is counted is what clients and clusters decide about: rings, what waits between a watch and
//! its owner, pages of lists, what was read from an API server's past here or at another replica,
//! subscriptions and what waits for subscribers. Each holder of such bytes has a [`Reservation`]
//! for them, or a [`RingShare`]; without one it waits, requests less, or rejects, as documented
//! there. What the process needs besides (consensus, its store, the runtime) is left to it by the
//! configuration.

mod allowance;
mod budget;
mod rings;

pub use allowance::{Allowance, Hold};
pub use budget::{Budget, Reservation, held};
pub use rings::{RingShare, Rings};

use crate::config;

/// Of the memory for pages, what pages of metadata have to themselves: a quarter. A task that
/// compares two lists takes a page of metadata first and one of objects then; in one budget, many
/// who hold the first and wait for the second could wait for each other.
const METADATA_PAGES: usize = 4;

/// Of the memory for objects of the past, what those have to themselves that another replica has
/// read: a half. A replica holds what it read until the replicas that asked take it, and those hold
/// it until their subscribers do. In one budget, two replicas that read for each other could wait
/// for each other.
const RELAYED: usize = 2;

/// The memory that a replica may hold, by what it is for. A cheap clone; clones share it.
#[derive(Clone, Debug)]
pub struct Budgets {
    /// The newest part of each stream, where it is owned and where it is served.
    pub rings: Rings,
    /// Events of live watches on their way to the stream's owner.
    pub queues: Budget,
    /// Pages of lists while they are read and taken apart.
    pub pages: Budget,
    /// The same of lists that hold metadata alone.
    pub metadata_pages: Budget,
    /// Objects that were read from an API server's past, until the last who asked has them.
    pub snapshots: Budget,
    /// What came of a feed for a subscriber from another replica, until the subscriber has it.
    pub relayed: Budget,
    /// Subscriptions with their filters.
    pub subscriptions: Budget,
    /// Responses that wait for subscribers.
    pub responses: Budget,
}

impl Budgets {
    /// Budgets of which nothing is used.
    pub fn new(memory: &config::Memory) -> Self {
        let metadata_pages = memory.pages / METADATA_PAGES;
        let relayed = memory.snapshots / RELAYED;
        Self {
            rings: Rings::new(memory.rings),
            queues: Budget::new("memory.queues", memory.queues),
            pages: Budget::new("memory.pages", memory.pages - metadata_pages),
            metadata_pages: Budget::new("memory.pages", metadata_pages),
            snapshots: Budget::new("memory.snapshots", memory.snapshots - relayed),
            relayed: Budget::new("memory.snapshots", relayed),
            subscriptions: Budget::new("memory.subscriptions", memory.subscriptions),
            responses: Budget::new("memory.responses", memory.responses),
        }
    }
}

impl Default for Budgets {
    /// The default configuration.
    fn default() -> Self {
        Self::new(&config::Memory::default())
    }
}

#[cfg(test)]
mod tests {
    use super::Budgets;

    #[test]
    fn what_another_replica_has_read_does_not_wait_for_what_was_read_here() {
        let budgets = Budgets::default();
        let all = |budget: &super::Budget| budget.try_reserve(budget.limit());
        let read_here = all(&budgets.snapshots);
        assert!(read_here.is_some() && all(&budgets.relayed).is_some());
        let both = budgets.snapshots.limit() + budgets.relayed.limit();
        assert!(both <= crate::config::Memory::default().snapshots);
    }
}
