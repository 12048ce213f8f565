//! A number of bytes that many share: [`Budget`], and what each of them holds of it:
//! [`Reservation`].

use std::{fmt, sync::Arc};

use bytes::Bytes;
use tokio::sync::Semaphore;

/// What is counted at a time: fine enough for any object, and a budget of terabytes still fits into
/// the numbers of a semaphore.
const UNIT_BYTES: usize = 1024;

/// Bytes that many share. A cheap clone; clones share them.
/// Waiters are served in order of arrival, so that many small requests never starve a large one.
#[derive(Clone)]
pub struct Budget {
    /// A permit is a unit.
    free: Arc<Semaphore>,
    units: u32,
    key: &'static str,
}

/// Bytes of a budget; dropping it gives them back.
#[must_use = "what is not held is free for others"]
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    units: u32,
}

impl Budget {
    /// A budget that the configuration sets by `key`.
    pub fn new(key: &'static str, bytes: usize) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
            key,
        }
    }

    /// The configuration key that sets it.
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// How much there is in all, in bytes.
    pub fn limit(&self) -> usize {
        self.units as usize * UNIT_BYTES
    }

    /// How much of it is held, in bytes.
    pub fn used(&self) -> usize {
        self.limit() - self.free.available_permits() * UNIT_BYTES
    }

    /// Takes so many bytes, if they are free and nobody waits for them. More than there is in all
    /// counts as all there is: what cannot be made smaller passes alone.
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let units = self.units(bytes);
        // What is free goes to those who wait before it can be taken here.
        self.free.try_acquire_many(units).ok()?.forget();
        Some(self.reservation(units))
    }

    /// Takes so many bytes as soon as they are free and those who asked before have theirs. More
    /// than there is in all counts as all there is.
    pub async fn reserve(&self, bytes: usize) -> Reservation {
        let units = self.units(bytes);
        let Ok(permit) = self.free.acquire_many(units).await else {
            // It is never closed.
            return std::future::pending().await;
        };
        permit.forget();
        self.reservation(units)
    }

    fn reservation(&self, units: u32) -> Reservation {
        let budget = self.clone();
        Reservation { budget, units }
    }

    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES))
            .unwrap_or(u32::MAX)
            .min(self.units)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {}", self.key, self.used(), self.limit())
    }
}

impl Reservation {
    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        self.units as usize * UNIT_BYTES
    }

    /// Holds so many bytes from now on, if that is less than before, or as much more is free and
    /// nobody waits for it; false, and what is held stays as it is, where it is not.
    ///
    /// It never waits: a task that waits for more while holding some may wait for another one that
    /// does the same.
    pub fn try_resize(&mut self, bytes: usize) -> bool {
        let units = self.budget.units(bytes);
        if units < self.units {
            self.budget.free.add_permits((self.units - units) as usize);
        } else {
            let more = self.budget.free.try_acquire_many(units - self.units);
            let Ok(more) = more else {
                return false;
            };
            more.forget();
        }
        self.units = units;
        true
    }

    /// Holds what `other` holds as well, where both are of one budget; gives it back where not.
    pub fn absorb(&mut self, mut other: Self) -> Option<Self> {
        if !Arc::ptr_eq(&self.budget.free, &other.budget.free) {
            return Some(other);
        }
        self.units += std::mem::take(&mut other.units);
        None
    }

    /// Takes so many bytes out of this, or all it has left, for a part that is held by itself.
    pub fn split(&mut self, bytes: usize) -> Self {
        let units = self.budget.units(bytes).min(self.units);
        self.units -= units;
        self.budget.reservation(units)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.free.add_permits(self.units as usize);
    }
}

/// The same bytes, for which `hold` is held until the last clone and the last slice of them is
/// dropped, wherever they travel.
pub fn held<T: Send + Sync + 'static>(bytes: Bytes, hold: Arc<T>) -> Bytes {
    struct Held<T> {
        bytes: Bytes,
        _hold: Arc<T>,
    }

    impl<T> AsRef<[u8]> for Held<T> {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    Bytes::from_owner(Held { bytes, _hold: hold })
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Poll};

    use bytes::Bytes;
    use proptest::{
        collection::vec,
        prelude::{prop_assert, prop_assert_eq, proptest},
    };

    use super::{Budget, Reservation, UNIT_BYTES, held};

    const KIB: usize = UNIT_BYTES;

    fn budget(kib: usize) -> Budget {
        Budget::new("memory.test", kib * KIB)
    }

    #[test]
    fn what_is_dropped_is_free_again_and_more_than_there_is_is_not_given() {
        let budget = budget(10);
        let six = budget.try_reserve(6 * KIB).unwrap();
        assert!(budget.try_reserve(5 * KIB).is_none());
        let four = budget.try_reserve(4 * KIB).unwrap();
        assert_eq!((budget.used(), budget.limit()), (10 * KIB, 10 * KIB));
        drop(six);
        assert_eq!(budget.used(), 4 * KIB);
        drop(four);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_larger_than_the_budget_passes_alone() {
        let budget = budget(10);
        let small = budget.try_reserve(1).unwrap();
        assert!(budget.try_reserve(11 * KIB).is_none());
        drop(small);
        let large = budget.try_reserve(usize::MAX).unwrap();
        assert_eq!(large.bytes(), 10 * KIB);
        assert!(budget.try_reserve(1).is_none());
    }

    #[tokio::test]
    async fn a_large_request_is_not_overtaken_by_small_ones() {
        let budget = budget(10);
        let first = budget.try_reserve(6 * KIB).unwrap();
        let large = budget.reserve(8 * KIB);
        tokio::pin!(large);
        assert!(futures::poll!(large.as_mut()).is_pending());
        // Four are free, but they are the large one's.
        assert!(budget.try_reserve(KIB).is_none());
        let small = budget.reserve(KIB);
        tokio::pin!(small);
        assert!(futures::poll!(small.as_mut()).is_pending());
        drop(first);
        let Poll::Ready(large) = futures::poll!(large.as_mut()) else {
            panic!("it was first")
        };
        assert_eq!(large.bytes(), 8 * KIB);
        assert_eq!(small.await.bytes(), KIB);
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let budget = budget(10);
        let first = budget.try_reserve(6 * KIB).unwrap();
        let mut large = Box::pin(budget.reserve(8 * KIB));
        assert!(futures::poll!(large.as_mut()).is_pending());
        drop(large);
        let rest = budget.try_reserve(4 * KIB).unwrap();
        drop((first, rest));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn bytes_are_held_until_the_last_slice_of_them_is_dropped() {
        let budget = budget(10);
        let hold = Arc::new(budget.try_reserve(3).unwrap());
        let all = held(Bytes::from_static(b"abc"), hold);
        let end = all.slice(2..);
        drop(all);
        assert_eq!((&*end, budget.used()), (&b"c"[..], KIB));
        drop(end);
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        #[test]
        fn what_is_held_is_what_was_given_and_never_more_than_there_is(
            steps in vec((0..5_u8, 0..6_usize, 0..12_usize), 1..80),
        ) {
            let budget = budget(10);
            let mut held: Vec<Reservation> = Vec::new();
            for (step, index, kib) in steps {
                let chosen = index.min(held.len().saturating_sub(1));
                match (step, held.get_mut(chosen)) {
                    (0, _) | (_, None) => held.extend(budget.try_reserve(kib * KIB)),
                    (1, Some(_)) => drop(held.remove(chosen)),
                    (2, Some(one)) => {
                        let part = one.split(kib * KIB);
                        held.push(part);
                    }
                    (_, Some(one)) => {
                        let before = one.bytes();
                        if !one.try_resize(kib * KIB) {
                            prop_assert!(kib * KIB > before);
                            prop_assert_eq!(one.bytes(), before);
                        }
                    }
                }
                let sum: usize = held.iter().map(Reservation::bytes).sum();
                prop_assert_eq!(sum, budget.used());
                prop_assert!(sum <= budget.limit());
            }
            drop(held);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
