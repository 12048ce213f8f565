//! Leases: what makes Events end together.

use std::{collections::HashMap, collections::VecDeque, sync::Arc, time::Duration};

/// For at most this long are writes put on the lease of an earlier one, as the real server does
/// (or for a twentieth of the TTL, where that is shorter).
const REUSE_MAX: Duration = Duration::from_secs(60);

/// Most objects on one lease, as on the real server.
const OBJECTS_MAX: usize = 1000;

/// The leases of one resource's objects.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    ttl: Duration,
    /// Oldest first.
    leases: VecDeque<Lease>,
    last_id: u64,
    /// The lease that each object is on: that of its last write.
    lease_of: HashMap<Arc<str>, u64>,
}

#[derive(Clone, Debug)]
struct Lease {
    id: u64,
    granted: Duration,
    /// Objects put on it; they may have been put on another since.
    keys: Vec<Arc<str>>,
}

impl Leases {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            leases: VecDeque::new(),
            last_id: 0,
            lease_of: HashMap::new(),
        }
    }

    /// The same rules, and no object.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.ttl)
    }

    /// An object was written: its TTL restarts.
    pub(super) fn attach(&mut self, key: &Arc<str>, now: Duration) {
        let reuse = self.reuse();
        let fits = |lease: &Lease| now <= lease.granted + reuse && lease.keys.len() < OBJECTS_MAX;
        if !self.leases.back().is_some_and(fits) {
            self.last_id += 1;
            self.leases.push_back(Lease {
                id: self.last_id,
                granted: now,
                keys: Vec::new(),
            });
        }
        if let Some(lease) = self.leases.back_mut()
            && self.lease_of.insert(Arc::clone(key), lease.id) != Some(lease.id)
        {
            lease.keys.push(Arc::clone(key));
        }
    }

    /// An object was deleted.
    pub(super) fn detach(&mut self, key: &str) {
        self.lease_of.remove(key);
    }

    /// Ends the oldest lease if it is due. Returns the objects that end with it, unordered.
    pub(super) fn expire_one(&mut self, now: Duration) -> Option<Vec<Arc<str>>> {
        let lives = self.ttl + self.reuse();
        let is_due = |lease: &Lease| lease.granted + lives <= now;
        if !self.leases.front().is_some_and(is_due) {
            return None;
        }
        let lease = self.leases.pop_front()?;
        let mut keys = lease.keys;
        keys.retain(|key| self.lease_of.get(key) == Some(&lease.id));
        Some(keys)
    }

    fn reuse(&self) -> Duration {
        (self.ttl / 20).min(REUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Duration, Leases};

    fn key(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn writes_within_a_short_time_end_together_and_a_later_write_prolongs() {
        let seconds = Duration::from_secs;
        let mut leases = Leases::new(seconds(100));
        for (name, at) in [("a", 0), ("b", 4), ("c", 5), ("d", 6), ("b", 50)] {
            leases.attach(&key(name), seconds(at));
        }
        leases.detach("c");
        assert_eq!(leases.expire_one(seconds(104)), None);
        assert_eq!(leases.expire_one(seconds(105)), Some(vec![key("a")]));
        assert_eq!(leases.expire_one(seconds(111)), Some(vec![key("d")]));
        assert_eq!(leases.expire_one(seconds(155)), Some(vec![key("b")]));
        assert_eq!(leases.expire_one(seconds(999)), None);
    }
}
