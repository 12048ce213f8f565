//! Faults as named switches, changed while the cluster runs.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::watch;

/// Something that goes wrong with a cluster's API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// New requests get 503 Service Unavailable. Open watches continue.
    Refuse,
    /// New requests get 401 Unauthorized (watch trap T26). Open watches continue.
    Unauthorised,
    /// New requests get 403 Forbidden (watch trap T26). Open watches continue.
    Forbidden,
    /// New watches get 403 Forbidden, as where a role lacks the verb. Everything else is allowed.
    ForbidWatch,
    /// New requests get 429 Too Many Requests with `Retry-After: 1` (watch trap T14).
    TooManyRequests,
    /// Ends every open watch at once, cleanly (watch trap T14). Acts when set and does not stay.
    CloseWatches,
    /// A watch at a resource version that is gone is answered with 200 and a clean, silent close
    /// (watch trap T3), not with an error line.
    SilentClose410,
    /// A watch at a resource version that is gone is answered with HTTP status 410 (watch trap
    /// T2), not with an error line.
    HttpGone410,
    /// Connections are accepted, and nothing is sent: neither to requests nor on open watches
    /// (watch trap T13). When cleared, everything continues as after SIGCONT.
    Stall,
    /// Watches are opened and continue, and nothing comes of them, while everything else is
    /// answered: as where etcd starves a watch, or a proxy keeps back what it is sent. When
    /// cleared, the watches that were held so break off.
    HoldLines,
    /// Of this many events, watches drop one (watch trap T11). 0 drops none.
    DropEvent(u32),
    /// Watches send a 500 `InternalError` line and end (watch trap T12), before any other line.
    InternalErrorLine,
    /// Connections are closed at once, without an answer; open watches break off.
    Unreachable,
    /// A new watch begins with this many events from before the resource version asked for (watch
    /// trap T10).
    ReplayEvents(u32),
    /// Watches send each event twice, the second time before anything else (watch trap T10).
    RepeatEvents,
    /// `sendInitialEvents` is refused with 422 (watch trap T16).
    NoWatchList,
    /// Of so many new watches one is sent no changes while this is on, as by an API server whose
    /// cache stands still (watch traps T9, T10). What was held back is sent when it is cleared.
    DelayEvents(u32),
    /// Bookmarks of watches whose changes are held back claim that everything up to now was sent.
    EarlyBookmarks,
    /// Exact lists are answered with the newest state, as where the server does not know
    /// `resourceVersionMatch` (watch trap T28).
    InexactLists,
    /// Continue tokens of lists are answered as expired (watch trap T17).
    ExpireContinue,
}

impl Fault {
    fn is_same_kind(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

/// A cluster's switches.
#[derive(Debug)]
pub struct Faults {
    /// Whether any switch is on: spares the lock where nothing is wrong, which is nearly always.
    any: AtomicBool,
    switches: Mutex<Vec<Switch>>,
    /// How often `CloseWatches` was set.
    closes: AtomicU64,
    /// Events that `DropEvent` has examined.
    events: AtomicU64,
    /// Watches that were opened.
    watches: AtomicU64,
    /// Changes whenever a switch does.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Switch {
    fault: Fault,
    /// How often it still strikes; `None` until cleared.
    left: Option<u32>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            any: AtomicBool::new(false),
            switches: Mutex::default(),
            closes: AtomicU64::new(0),
            events: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            changes: watch::Sender::new(0),
        }
    }

    /// Switches a fault on until it is cleared; one of the same kind is replaced.
    pub fn set(&self, fault: Fault) {
        self.put(fault, None);
    }

    /// Switches a fault on for so many requests, watches or events, whichever it strikes.
    pub fn set_times(&self, fault: Fault, times: u32) {
        self.put(fault, Some(times));
    }

    /// Switches faults of this kind off, whatever their numbers.
    pub fn clear(&self, fault: Fault) {
        let mut switches = self.lock();
        switches.retain(|switch| !switch.fault.is_same_kind(fault));
        self.settle(&switches);
    }

    /// Switches every fault off.
    pub fn clear_all(&self) {
        let mut switches = self.lock();
        switches.clear();
        self.settle(&switches);
    }

    /// The faults that are on.
    pub fn active(&self) -> Vec<Fault> {
        self.lock().iter().map(|switch| switch.fault).collect()
    }

    /// Whether a fault of this kind is on, without using it up.
    pub(super) fn is_on(&self, kind: Fault) -> bool {
        self.any.load(Ordering::Acquire) && self.lock().iter().any(|s| s.fault.is_same_kind(kind))
    }

    /// Takes one strike of a fault of this kind, if it is on.
    pub(super) fn strike(&self, kind: Fault) -> Option<Fault> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut switches = self.lock();
        let index = switches.iter().position(|s| s.fault.is_same_kind(kind))?;
        let switch = &mut switches[index];
        let fault = switch.fault;
        if let Some(left) = &mut switch.left {
            *left -= 1;
            if *left == 0 {
                switches.remove(index);
                self.settle(&switches);
            }
        }
        Some(fault)
    }

    /// Takes one strike of a fault that answers new requests in the server's place.
    pub(super) fn strike_request(&self) -> Option<Fault> {
        [
            Fault::Unreachable,
            Fault::Refuse,
            Fault::Unauthorised,
            Fault::Forbidden,
            Fault::TooManyRequests,
        ]
        .into_iter()
        .find_map(|kind| self.strike(kind))
    }

    /// Whether the next event of a watch is to be dropped.
    pub(super) fn drops_event(&self) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let one_in = self.lock().iter().find_map(|switch| match switch.fault {
            Fault::DropEvent(one_in) if one_in > 0 => Some(u64::from(one_in)),
            _ => None,
        });
        let Some(one_in) = one_in else {
            return false;
        };
        let events = self.events.fetch_add(1, Ordering::AcqRel) + 1;
        events.is_multiple_of(one_in) && self.strike(Fault::DropEvent(0)).is_some()
    }

    /// The number of a new watch, for [`Self::holds_events`].
    pub(super) fn number_watch(&self) -> u64 {
        self.watches.fetch_add(1, Ordering::AcqRel)
    }

    /// How many watches have a number.
    pub(super) fn watches(&self) -> u64 {
        self.watches.load(Ordering::Acquire)
    }

    /// Whether the watch of this number is sent no changes.
    pub(super) fn holds_events(&self, watch: u64) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        self.lock().iter().any(|switch| match switch.fault {
            Fault::DelayEvents(one_in) => one_in > 0 && watch.is_multiple_of(u64::from(one_in)),
            _ => false,
        })
    }

    /// How often `CloseWatches` was set.
    pub(super) fn closes(&self) -> u64 {
        self.closes.load(Ordering::Acquire)
    }

    /// Wakes whenever a switch changes.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn put(&self, fault: Fault, left: Option<u32>) {
        let mut switches = self.lock();
        if fault == Fault::CloseWatches {
            self.closes.fetch_add(1, Ordering::AcqRel);
        } else {
            switches.retain(|switch| !switch.fault.is_same_kind(fault));
            if left != Some(0) {
                switches.push(Switch { fault, left });
            }
        }
        self.settle(&switches);
    }

    /// Notifies all waiters that the switches have changed.
    fn settle(&self, switches: &[Switch]) {
        self.any.store(!switches.is_empty(), Ordering::Release);
        self.changes.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Switch>> {
        // A list of switches is whole between any two statements, so a panic elsewhere is no harm.
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Faults};

    #[test]
    fn a_switch_stays_on_until_it_is_cleared() {
        let faults = Faults::new();
        faults.set(Fault::Refuse);
        assert_eq!(faults.strike_request(), Some(Fault::Refuse));
        assert_eq!(faults.active(), [Fault::Refuse]);
        faults.clear(Fault::Refuse);
        assert_eq!(faults.strike_request(), None);
    }

    #[test]
    fn a_counted_switch_goes_off_by_itself() {
        let faults = Faults::new();
        faults.set_times(Fault::TooManyRequests, 2);
        let strikes = [0; 3].map(|_| faults.strike_request().is_some());
        assert_eq!(strikes, [true, true, false]);
    }

    #[test]
    fn one_event_in_n_is_dropped() {
        let faults = Faults::new();
        faults.set(Fault::DropEvent(3));
        let drops = [0; 7].map(|_| faults.drops_event());
        assert_eq!(drops, [false, false, true, false, false, true, false]);
        faults.clear(Fault::DropEvent(0));
        assert!(!faults.drops_event());
    }

    #[test]
    fn one_watch_in_n_is_sent_no_changes() {
        let faults = Faults::new();
        let watches = [0; 4].map(|_| faults.number_watch());
        faults.set(Fault::DelayEvents(2));
        let held = watches.map(|watch| faults.holds_events(watch));
        assert_eq!(held, [true, false, true, false]);
        faults.clear(Fault::DelayEvents(0));
        assert!(!faults.holds_events(0));
    }

    #[test]
    fn closing_watches_acts_once_and_does_not_stay() {
        let faults = Faults::new();
        faults.set(Fault::CloseWatches);
        assert_eq!((faults.closes(), faults.active().len()), (1, 0));
    }
}
