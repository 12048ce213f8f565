//! Who may still be served: [`Admission`] counts connections, calls and subscriptions, in all and
//! per client, and the memory that they take.
//!
//! A client is the address that it connects from: nothing else distinguishes them.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tonic::Status;

use super::status;
use crate::{
    config::Limits,
    memory::{Budget, Budgets, Reservation},
};

/// Calls of one client that may be under way, streams apart: far more than anybody makes at once.
const CLIENT_CALLS_MAX: usize = 256;

/// Which part of the memory one client may have: the others have the rest.
const CLIENT_PART: usize = 4;

/// What a call takes while it is under way, its request apart.
const CALL_BYTES: usize = 4 * 1024;

/// What every subscriber has to itself, in its outbox and in the transport, so that it gets on
/// whatever others leave unread.
pub(super) const OWN_BYTES: usize = 32 * 1024;

/// What a stream of responses takes, its filters, its cursor and further responses apart.
const STREAM_BYTES: usize = 24 * 1024 + OWN_BYTES;

/// Who may still be served. A cheap clone; clones share the counts.
#[derive(Clone, Debug)]
pub struct Admission {
    limits: Limits,
    memory: Budget,
    counts: Arc<Mutex<Counts>>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    Connections,
    Streams,
    Calls,
}

#[derive(Debug, Default)]
struct Count {
    all: usize,
    by_client: BTreeMap<IpAddr, usize>,
}

#[derive(Debug, Default)]
struct Counts {
    of: BTreeMap<Counted, Count>,
    /// What each client's calls and streams take.
    bytes: BTreeMap<IpAddr, usize>,
}

/// One of those that are counted, until it is dropped.
#[derive(Debug)]
struct Place {
    admission: Admission,
    counted: Counted,
    client: IpAddr,
}

/// A connection that was admitted, until it is dropped.
#[derive(Debug)]
pub struct Connection(#[expect(dead_code, reason = "dropped with it")] Place);

/// A call or a stream that was admitted, until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Where it is counted.
    place: Place,
    held: Mutex<Reservation>,
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    /// The configuration key that sets it.
    key: &'static str,
    limit: usize,
}

impl Admission {
    /// Nobody is served yet.
    pub fn new(limits: &Limits, budgets: &Budgets) -> Self {
        Self {
            limits: *limits,
            memory: budgets.subscriptions.clone(),
            counts: Arc::default(),
        }
    }

    /// A connection, unless there are too many. It is closed then: nobody asked for anything that
    /// could be answered.
    pub fn connection(&self, client: IpAddr) -> Option<Connection> {
        match self.place(Counted::Connections, client) {
            Ok(place) => Some(Connection(place)),
            Err(reached) => {
                tracing::warn!(%client, limit = reached.key, "connection closed: too many connections");
                None
            }
        }
    }

    /// A call, or a stream of responses, unless there are too many or there is no memory for it.
    pub(super) fn call(&self, client: IpAddr, is_stream: bool) -> Result<Admitted, Reached> {
        let (counted, bytes) = if is_stream {
            (Counted::Streams, STREAM_BYTES)
        } else {
            (Counted::Calls, CALL_BYTES)
        };
        let place = self.place(counted, client)?;
        let held = self.memory.try_reserve(0).ok_or_else(|| self.no_memory())?;
        let admitted = Admitted {
            place,
            held: Mutex::new(held),
        };
        admitted.grow(bytes)?;
        Ok(admitted)
    }

    fn no_memory(&self) -> Reached {
        Reached {
            key: self.memory.key(),
            limit: self.memory.limit(),
        }
    }

    fn place(&self, counted: Counted, client: IpAddr) -> Result<Place, Reached> {
        // An IPv4 address is the same in either notation.
        let client = client.to_canonical();
        let (all, each) = self.limits_of(counted);
        let mut counts = lock(&self.counts);
        let count = counts.of.entry(counted).or_default();
        let own = count.by_client.get(&client).copied().unwrap_or_default();
        let reached = [(count.all, all), (own, each)];
        let reached = reached.into_iter().find(|(has, limit)| *has >= limit.limit);
        if let Some((_, reached)) = reached {
            return Err(reached);
        }
        count.all += 1;
        count.by_client.insert(client, own + 1);
        drop(counts);
        Ok(Place {
            admission: self.clone(),
            counted,
            client,
        })
    }

    /// In all, and of one client.
    fn limits_of(&self, counted: Counted) -> (Reached, Reached) {
        let reached = |key, limit| Reached { key, limit };
        let Limits {
            connections,
            client_connections,
            subscriptions,
            client_subscriptions,
            ..
        } = self.limits;
        match counted {
            Counted::Connections => (
                reached("limits.connections", connections),
                reached("limits.client_connections", client_connections),
            ),
            Counted::Streams => (
                reached("limits.subscriptions", subscriptions),
                reached("limits.client_subscriptions", client_subscriptions),
            ),
            // Memory bounds them in all.
            Counted::Calls => (
                reached(self.memory.key(), usize::MAX),
                reached(self.memory.key(), CLIENT_CALLS_MAX),
            ),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.admission.counts);
        let count = counts.of.entry(self.counted).or_default();
        count.all -= 1;
        take(&mut count.by_client, self.client, 1);
    }
}

impl Admitted {
    /// Takes more bytes; fails if none are left, or if its client has reached its share.
    pub(super) fn grow(&self, bytes: usize) -> Result<(), Reached> {
        let Place {
            admission, client, ..
        } = &self.place;
        let budget = &admission.memory;
        let mut held = lock(&self.held);
        let before = held.bytes();
        let mut counts = lock(&admission.counts);
        let own = counts.bytes.entry(*client).or_default();
        let fits = *own + bytes <= budget.limit() / CLIENT_PART;
        if !fits || !held.try_resize(before + bytes) {
            return Err(admission.no_memory());
        }
        *own += held.bytes() - before;
        Ok(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let held = lock(&self.held).bytes();
        let mut counts = lock(&self.place.admission.counts);
        take(&mut counts.bytes, self.place.client, held);
    }
}

/// Counts so many less, and forgets a client of whom nothing is left.
fn take(by_client: &mut BTreeMap<IpAddr, usize>, client: IpAddr, count: usize) {
    if let Some(own) = by_client.get_mut(&client) {
        *own = own.saturating_sub(count);
        if *own == 0 {
            by_client.remove(&client);
        }
    }
}

impl Reached {
    /// The error that the client gets.
    pub(super) fn status(&self) -> Status {
        status::replica_full(self.key, self.limit)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is whole before anything could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Admission, Reached};
    use crate::{
        config::{Limits, Memory},
        memory::Budgets,
    };

    fn admission(limits: &Limits) -> Admission {
        let memory = Memory {
            subscriptions: 640 * 1024,
            ..Memory::default()
        };
        Admission::new(limits, &Budgets::new(&memory))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn key(reached: &Reached) -> &'static str {
        reached.key
    }

    #[test]
    fn one_client_has_its_limit_and_all_have_theirs() {
        let limits = Limits {
            subscriptions: 3,
            client_subscriptions: 2,
            ..Limits::default()
        };
        let admission = admission(&limits);
        let own = address("10.0.0.1");
        let stream = |client| admission.call(client, true);
        let first = stream(own).unwrap();
        let _second = stream(address("::ffff:10.0.0.1")).unwrap();
        let refused = stream(own).unwrap_err();
        assert_eq!(key(&refused), "limits.client_subscriptions");
        let other = stream(address("10.0.0.2")).unwrap();
        let refused = stream(address("10.0.0.3")).unwrap_err();
        assert_eq!(key(&refused), "limits.subscriptions");
        drop((first, other));
        assert!(stream(own).is_ok());
    }

    #[test]
    fn memory_that_is_used_up_refuses_and_is_given_back() {
        let admission = admission(&Limits::default());
        let own = address("::1");
        let large = admission.call(own, true).unwrap();
        large.grow(80 * 1024).unwrap();
        // A quarter is for one client.
        let refused = large.grow(80 * 1024).unwrap_err();
        assert_eq!(key(&refused), "memory.subscriptions");
        assert_eq!(
            key(&admission.call(own, true).unwrap_err()),
            "memory.subscriptions"
        );
        let others: Vec<_> = (1..=9)
            .map(|n| {
                admission
                    .call(address(&format!("10.0.0.{n}")), true)
                    .unwrap()
            })
            .collect();
        let refused = admission.call(address("10.0.0.10"), true).unwrap_err();
        assert_eq!(key(&refused), "memory.subscriptions");
        drop(large);
        assert!(admission.call(own, true).is_ok());
        drop((admission.call(own, true), others));
        assert_eq!(admission.memory.used(), 0);
        assert!(super::lock(&admission.counts).bytes.is_empty());
    }
}
