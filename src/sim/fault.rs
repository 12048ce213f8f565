//! Faults as named switches, changed while the cluster runs.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::watch;

/// Something that goes wrong with a cluster's API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// New requests get 503 Service Unavailable. Open watches go on.
    Refuse,
    /// New requests get 401 Unauthorized (watch trap T26). Open watches go on.
    Unauthorised,
    /// New requests get 403 Forbidden (watch trap T26). Open watches go on.
    Forbidden,
    /// New requests get 429 Too Many Requests with `Retry-After: 1` (watch trap T14).
    TooManyRequests,
    /// Ends every open watch at once, cleanly (watch trap T14). Acts when set and does not stay.
    CloseWatches,
    /// A watch at a resource version that is gone is answered with 200 and a clean, silent close
    /// (watch trap T3), not with an error frame.
    SilentClose410,
    /// A watch at a resource version that is gone is answered with HTTP status 410 (watch trap
    /// T2), not with an error frame.
    HttpGone410,
    /// Connections are accepted, and nothing is said: not to requests, not on open watches (watch
    /// trap T13). When cleared, everything goes on as after SIGCONT.
    Stall,
    /// Of this many frames, watches drop one (watch trap T11). 0 drops none.
    DropFrame(u32),
    /// Watches send a 500 `InternalError` frame and end (watch trap T12), before any other frame.
    InternalErrorFrame,
    /// Connections are closed at once, without an answer; open watches break off.
    Unreachable,
    /// A new watch begins with this many frames from before the resource version asked for (watch
    /// trap T10).
    ReplayFrames(u32),
    /// `sendInitialEvents` is refused with 422 (watch trap T16).
    NoWatchList,
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
            changes: watch::Sender::new(0),
        }
    }

    /// Switches a fault on until it is cleared; one of the same kind is replaced.
    pub fn set(&self, fault: Fault) {
        self.put(fault, None);
    }

    /// Switches a fault on for so many requests, watches or frames, whichever it strikes.
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

    /// Tells everybody who waits that the switches have changed.
    fn settle(&self, switches: &[Switch]) {
        self.any.store(!switches.is_empty(), Ordering::Release);
        self.changes.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Switch>> {
        // A list of switches is whole between any two statements, so a panic elsewhere is no harm.
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
