//! Memory for what one receiver has not taken yet: [`Allowance`].

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::{Budget, Reservation};

/// Memory of a budget that many share and, for one message at a time, of its own: a task that takes
/// what it gets always gets more, however much others leave lying.
#[derive(Clone, Debug)]
pub struct Allowance {
    budget: Budget,
    own: Arc<Semaphore>,
    /// The largest message for which its own suffices.
    own_bytes_max: usize,
}

/// Memory for one message, until it is dropped.
#[derive(Debug)]
pub enum Hold {
    /// Its receiver's own.
    Own(OwnedSemaphorePermit),
    /// Some of what all share.
    Shared(Reservation),
}

impl Allowance {
    /// An allowance of this budget, with its own for messages of up to `own_bytes_max`.
    pub fn new(budget: &Budget, own_bytes_max: usize) -> Self {
        Self {
            budget: budget.clone(),
            own: Arc::new(Semaphore::new(1)),
            own_bytes_max,
        }
    }

    /// What all share.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Some of what all share, if there is enough.
    pub fn try_share(&self, bytes: usize) -> Option<Hold> {
        self.budget.try_reserve(bytes).map(Hold::Shared)
    }

    /// As much, if it is there at once.
    pub fn try_take(&self, bytes: usize) -> Option<Hold> {
        if bytes <= self.own_bytes_max
            && let Ok(own) = self.own.clone().try_acquire_owned()
        {
            return Some(Hold::Own(own));
        }
        self.try_share(bytes)
    }

    /// Waits until there is enough: what was taken before has been dropped, or others have dropped
    /// theirs.
    pub async fn take(&self, bytes: usize) -> Hold {
        if bytes > self.own_bytes_max {
            return Hold::Shared(self.budget.reserve(bytes).await);
        }
        tokio::select! {
            biased;
            // It is never closed.
            Ok(own) = self.own.clone().acquire_owned() => Hold::Own(own),
            shared = self.budget.reserve(bytes) => Hold::Shared(shared),
        }
    }
}
