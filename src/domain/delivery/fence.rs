//! Which owner of a stream is accepted: [`Fence`].

use crate::domain::id::Epoch;

/// The newest epoch of a stream's owner that is known here.
///
/// Two replicas may believe for a moment that they own a stream. Both publish the same history, but
/// the older one may hold an era that has ended, so it is rejected once the newer one is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence(Epoch);

impl Default for Fence {
    fn default() -> Self {
        Self(Epoch(0))
    }
}

impl Fence {
    /// Whether an owner of this epoch may be heard; once it was, no older one may.
    pub fn admit(&mut self, epoch: Epoch) -> bool {
        let admitted = epoch >= self.0;
        if admitted {
            self.0 = epoch;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::{Epoch, Fence};

    #[test]
    fn an_older_owner_is_not_heard_once_a_newer_one_was() {
        let mut fence = Fence::default();
        assert!(fence.admit(Epoch(3)));
        assert!(fence.admit(Epoch(3)));
        assert!(fence.admit(Epoch(5)));
        assert!(!fence.admit(Epoch(4)));
        assert!(fence.admit(Epoch(5)));
    }
}
