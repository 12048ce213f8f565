//! How much memory a replica may take, and how that is divided.

use super::{
    Memory,
    keys::{self, Key, Kind},
    origin::Origin,
    rules::Rules,
    value::Value,
};

const MIB: u64 = 1024 * 1024;

/// What the process takes besides what it counts: code, consensus and its store's cache (64 MiB at
/// most), the state of a group of ordinary size, connections.
const BASE_BYTES: u64 = 96 * MIB;

/// Of the rest, what may be in use: a heap is fragmented, and a page is parsed while it is read.
const IN_USE: (u64, u64) = (3, 4);

/// The parts and their weights. Rings are what makes short outages cheap, and so get the most.
const PARTS: [(&Key, u64); 6] = [
    (&keys::MEMORY_RINGS, 40),
    (&keys::MEMORY_SNAPSHOTS, 20),
    (&keys::MEMORY_PAGES, 13),
    (&keys::MEMORY_QUEUES, 9),
    (&keys::MEMORY_RESPONSES, 10),
    (&keys::MEMORY_SUBSCRIPTIONS, 8),
];

/// The bytes of each of [`PARTS`], given those that were set; none where they do not fit.
fn divide(total: u64, set: [Option<u64>; PARTS.len()]) -> Option<[u64; PARTS.len()]> {
    let (numerator, denominator) = IN_USE;
    let in_use = total.checked_sub(BASE_BYTES)? / denominator * numerator;
    let mut bytes = set;
    loop {
        let free = in_use.checked_sub(bytes.iter().flatten().sum())?;
        let open = || (0..PARTS.len()).filter(|at| bytes[*at].is_none());
        let weights: u64 = open().map(|at| PARTS[at].1).sum();
        let part = |at: usize| free / 100 * PARTS[at].1 * 100 / weights;
        // What is too small for its purpose gets the least it needs, and the others share the rest.
        let small = open().find(|at| part(*at) < least(PARTS[*at].0));
        match small {
            Some(at) => bytes[at] = Some(least(PARTS[at].0)),
            None => {
                return Some(std::array::from_fn(|at| {
                    bytes[at].unwrap_or_else(|| part(at))
                }));
            }
        }
    }
}

fn least(key: &Key) -> u64 {
    match key.kind {
        Kind::Number(least, _) => least,
        _ => 0,
    }
}

impl Memory {
    fn of(total: u64, parts: [u64; PARTS.len()]) -> Self {
        let [rings, snapshots, pages, queues, responses, subscriptions] =
            parts.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Self {
            total: usize::try_from(total).unwrap_or(usize::MAX),
            rings,
            queues,
            pages,
            snapshots,
            subscriptions,
            responses,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        let total = keys::MEMORY_TOTAL_DEFAULT;
        let parts = divide(total, [None; PARTS.len()]);
        Self::of(total, parts.unwrap_or_default())
    }
}

impl Rules<'_> {
    /// Divides the memory; what is not set follows from the total.
    pub(super) fn memory(&mut self) -> Memory {
        let total = self.number(&keys::MEMORY_TOTAL);
        let set = PARTS.map(|(key, _)| self.given(key));
        let Some(parts) = divide(total, set) else {
            // An invalid number is already reported.
            if total >= least(&keys::MEMORY_TOTAL) {
                self.too_little(total);
            }
            return Memory::default();
        };
        for ((key, _), bytes) in PARTS.iter().zip(parts) {
            if self.given(key).is_none() {
                self.derive(key, Value::Number(bytes), keys::MEMORY_TOTAL.path);
            }
        }
        Memory::of(total, parts)
    }

    fn too_little(&mut self, total: u64) {
        let set = PARTS.iter().filter(|(key, _)| self.given(key).is_some());
        let names: Vec<_> = set.map(|(key, _)| key.path).collect();
        let message = format!(
            "{total} bytes are not enough for {}: {} bytes are reserved for the process itself, \
             and three quarters of the rest can be divided. Raise memory.total, or leave the \
             others out",
            names.join(", "),
            BASE_BYTES
        );
        let origin = self.origin(&keys::MEMORY_TOTAL);
        self.add(&origin.unwrap_or(Origin::Default), "memory.total", message);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        array::uniform6,
        option,
        prelude::{prop_assert, prop_assert_eq, proptest},
    };

    use super::{BASE_BYTES, MIB, Memory, PARTS, divide, keys, least};

    #[test]
    fn the_default_leaves_room_for_what_is_not_counted() {
        let memory = Memory::default();
        let Memory {
            total,
            rings,
            queues,
            pages,
            snapshots,
            subscriptions,
            responses,
        } = memory;
        let parts = rings + queues + pages + snapshots + subscriptions + responses;
        let base = usize::try_from(BASE_BYTES).unwrap();
        assert!(parts <= (total - base) / 4 * 3, "{memory:?}");
        assert!(parts > (total - base) / 2, "{memory:?}");
    }

    #[test]
    fn the_least_total_has_room_for_the_least_of_each_part() {
        let parts = divide(least(&keys::MEMORY_TOTAL), [None; 6]).unwrap();
        for ((key, _), bytes) in PARTS.iter().zip(parts) {
            assert!(bytes >= least(key), "{}: {bytes}", key.path);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_set_the_parts_fit_and_none_is_too_small(
            total in 160..4_096_u64,
            set in uniform6(option::weighted(0.3, 1..600_u64)),
        ) {
            let set = set.map(|mib| mib.map(|mib| mib * MIB));
            if let Some(parts) = divide(total * MIB, set) {
                prop_assert!(parts.iter().sum::<u64>() <= (total * MIB - BASE_BYTES) / 4 * 3);
                for (at, bytes) in parts.into_iter().enumerate() {
                    prop_assert_eq!(set[at].unwrap_or(bytes), bytes);
                    prop_assert!(set[at].is_some() || bytes >= least(PARTS[at].0));
                }
            }
        }
    }
}
