//! What many rings share: [`Rings`], and what one of them may hold: [`RingShare`].

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Above all but this part of the budget, a ring that holds more than its fair part gives way: the
/// rest is what rings with less can still grow into.
const HEADROOM: usize = 8;

/// The memory that all rings of a replica share. A cheap clone; clones share it.
///
/// While there is enough, each ring may hold up to its own limit. When it becomes scarce, a
/// ring that holds more than its fair part drops its oldest at each push until there is enough
/// again, and one that holds less may still grow up to its fair part. When none is left, the
/// pushing ring makes room itself. So rings together never hold more than the budget and one item
/// each, as the newest item of a ring always stays; and for as long as a batch is being pushed,
/// what was pushed since it was counted last.
#[derive(Clone, Debug)]
pub struct Rings {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes: usize,
    used: AtomicUsize,
    rings: AtomicUsize,
}

/// What one ring holds, and may hold. Dropping it gives that back.
#[derive(Debug)]
pub struct RingShare {
    rings: Rings,
    /// What the ring may hold while there is enough.
    bytes_max: usize,
    used: usize,
}

impl Rings {
    /// So many bytes, and no rings.
    pub fn new(bytes: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                bytes,
                used: AtomicUsize::new(0),
                rings: AtomicUsize::new(0),
            }),
        }
    }

    /// The share of one more ring, which holds nothing yet and never more than `bytes_max`.
    pub fn register(&self, bytes_max: usize) -> RingShare {
        self.shared.rings.fetch_add(1, Ordering::Relaxed);
        RingShare {
            rings: self.clone(),
            bytes_max,
            used: 0,
        }
    }

    /// How much there is in all, in bytes.
    pub fn limit(&self) -> usize {
        self.shared.bytes
    }

    /// What all rings hold, in bytes.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// How many rings there are.
    pub fn count(&self) -> usize {
        self.shared.rings.load(Ordering::Relaxed)
    }
}

impl RingShare {
    /// The ring holds so many bytes now.
    pub fn set_used(&mut self, bytes: usize) {
        let used = &self.rings.shared.used;
        if bytes >= self.used {
            used.fetch_add(bytes - self.used, Ordering::Relaxed);
        } else {
            used.fetch_sub(self.used - bytes, Ordering::Relaxed);
        }
        self.used = bytes;
    }

    /// What the ring holds, as it was counted last.
    pub fn used(&self) -> usize {
        self.used
    }

    /// What the ring may hold, given what it and all others hold now. To be asked after a push was
    /// reported by [`Self::set_used`]; the ring then drops its oldest items, all but the newest,
    /// until it holds no more, and reports that too.
    pub fn limit(&self) -> usize {
        let (budget, used) = (self.rings.limit(), self.rings.used());
        let enough = budget - budget / HEADROOM;
        if used <= enough {
            return self.bytes_max;
        }
        let fair = enough / self.rings.count().max(1);
        // Above its fair part it gives way, but not below it; below, it may grow up to it.
        let gives = self.used.saturating_sub(used - enough).max(fair);
        // Whatever its part: there is no more than there is.
        let fits = self.used.saturating_sub(used.saturating_sub(budget));
        self.bytes_max.min(gives).min(fits)
    }
}

impl Drop for RingShare {
    fn drop(&mut self) {
        self.set_used(0);
        self.rings.shared.rings.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::{
        collection::vec,
        prelude::{prop_assert, prop_assert_eq, proptest},
    };

    use super::{RingShare, Rings};

    /// A ring as the pipeline keeps one.
    struct Ring {
        items: VecDeque<usize>,
        bytes: usize,
        share: RingShare,
    }

    impl Ring {
        fn new(rings: &Rings, bytes_max: usize) -> Self {
            Self {
                items: VecDeque::new(),
                bytes: 0,
                share: rings.register(bytes_max),
            }
        }

        fn push(&mut self, bytes: usize) {
            self.items.push_back(bytes);
            self.bytes += bytes;
            self.share.set_used(self.bytes);
            let limit = self.share.limit();
            while self.bytes > limit && self.items.len() > 1 {
                self.bytes -= self.items.pop_front().unwrap();
            }
            self.share.set_used(self.bytes);
        }
    }

    #[test]
    fn while_there_is_enough_a_ring_holds_what_its_own_limit_says() {
        let rings = Rings::new(8_000);
        let mut ring = Ring::new(&rings, 4_000);
        (0..100).for_each(|_| ring.push(100));
        assert_eq!((ring.bytes, rings.used()), (4_000, 4_000));
        drop(ring);
        assert_eq!((rings.used(), rings.count()), (0, 0));
    }

    #[test]
    fn rings_that_are_all_busy_come_to_hold_the_same() {
        let rings = Rings::new(8_000);
        let mut busy: Vec<_> = (0..10).map(|_| Ring::new(&rings, 4_000)).collect();
        for ring in &mut busy {
            (0..100).for_each(|_| ring.push(10));
        }
        // The first ones have it all; the others get their part of it.
        for _ in 0..1_000 {
            busy.iter_mut().for_each(|ring| ring.push(10));
        }
        for ring in &busy {
            assert!((600..=900).contains(&ring.bytes), "{}", ring.bytes);
        }
        assert!(rings.used() <= rings.limit());
    }

    #[test]
    fn one_that_holds_little_is_not_kept_small_by_those_that_hold_much() {
        let rings = Rings::new(8_000);
        let mut large: Vec<_> = (0..4).map(|_| Ring::new(&rings, 4_000)).collect();
        for _ in 0..400 {
            large.iter_mut().for_each(|ring| ring.push(10));
        }
        let mut small = Ring::new(&rings, 4_000);
        for _ in 0..200 {
            small.push(10);
            large.iter_mut().for_each(|ring| ring.push(10));
        }
        assert!(small.bytes >= 1_300, "{}", small.bytes);
    }

    proptest! {
        #[test]
        fn rings_never_hold_more_than_the_budget_and_one_item_each(
            steps in vec((0..8_usize, 1..200_usize, 0..20_u8), 1..400),
        ) {
            let rings = Rings::new(1_000);
            let mut all: Vec<_> = (0..8).map(|_| Ring::new(&rings, 600)).collect();
            for (index, bytes, again) in steps {
                if again == 0 {
                    all[index] = Ring::new(&rings, 600);
                }
                all[index].push(bytes);
                prop_assert!(!all[index].items.is_empty());
                let sum: usize = all.iter().map(|ring| ring.bytes).sum();
                let newest = all.iter().filter_map(|ring| ring.items.back());
                prop_assert_eq!(sum, rings.used());
                prop_assert!(sum <= rings.limit() + newest.sum::<usize>(), "{}", sum);
            }
        }
    }
}
