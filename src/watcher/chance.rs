//! Random numbers, for what should not happen to all streams at once: [`Chance`].

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// Where random numbers come from.
#[derive(Clone, Debug, Default)]
pub struct Chance(Option<Arc<Mutex<SmallRng>>>);

impl Chance {
    /// The same numbers each time, for tests; without a seed they are the operating system's.
    pub fn seeded(seed: u64) -> Self {
        let numbers = SmallRng::seed_from_u64(seed);
        Self(Some(Arc::new(Mutex::new(numbers))))
    }

    /// A number of the range.
    pub(super) fn within(&self, range: RangeInclusive<u64>) -> u64 {
        match &self.0 {
            Some(numbers) => {
                let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
                numbers.random_range(range)
            }
            None => rand::rng().random_range(range),
        }
    }
}
