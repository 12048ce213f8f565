//! What goes into a session and what comes out of it.

use crate::domain::{
    frame::{Change, GapReason},
    position::ResourceVersion,
};

/// When a session suspects, refreshes, closes and gives up. All times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// A watch that is silent for so long after it was opened has delivered everything up to the
    /// resource version of the list before it.
    pub idle_grace_ms: u64,
    /// No frame and no bookmark for so long: probe and open the watch anew (traps T1, T13).
    pub silence_ms: u64,
    /// A clean close without a frame within this time is suspicious (trap T3).
    pub quick_close_ms: u64,
    /// So many suspicious closes in a row mean that the history is gone.
    pub quick_closes_max: u32,
    /// So many internal errors at one resource version mean that it cannot be passed (trap T12).
    pub failures_max: u32,
    /// The time within which they count.
    pub failures_within_ms: u64,
    /// A watch that lived for so long was healthy: back-off begins anew after it.
    pub healthy_ms: u64,
    /// A list younger than this need not be repeated before a watch.
    pub probe_valid_ms: u64,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            idle_grace_ms: 3_000,
            silence_ms: 60_000,
            quick_close_ms: 2_000,
            quick_closes_max: 2,
            failures_max: 3,
            failures_within_ms: 30_000,
            healthy_ms: 10_000,
            probe_valid_ms: 2_000,
        }
    }
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The session begins.
    Start,
    /// The probe's answer: a consistent list was taken.
    Probed {
        /// Its resource version.
        at: ResourceVersion,
        /// The identity of the cluster that answered; empty where it may not be read.
        cluster_uid: String,
    },
    /// The watch is open: the head of its response has come.
    Opened,
    /// A frame has come.
    Frame {
        /// Its resource version.
        rv: ResourceVersion,
        /// What happened.
        change: Change,
    },
    /// A bookmark has come: everything up to here has been sent.
    Bookmark(ResourceVersion),
    /// The watch has ended without an error.
    Ended,
    /// What the session asked for failed.
    Failed(Failure),
    /// Exact lists at both ends of a repair answer.
    Repairable,
    /// All net changes have been published.
    Repaired,
    /// An exact list that a repair needs is gone for good.
    Irreparable,
    /// The new era has begun.
    Granted,
    /// The wait is over.
    Waited,
    /// Time has passed; see [`super::WatchSession::wake_at`].
    Tick,
}

/// How something failed, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 410, as a status or in the stream (trap T2).
    Gone,
    /// 500, as a status or in the stream (trap T12).
    Internal,
    /// Anything else: refused, busy, broken, unreadable.
    Other {
        /// How long the server asks us to wait.
        retry_after_ms: Option<u64>,
    },
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Take a consistent list of one object, for its resource version; answer `Probed`.
    Probe,
    /// Open a watch; answer `Opened`.
    Watch {
        /// The resource version to begin after.
        from: ResourceVersion,
    },
    /// Abandon the watch.
    Abandon,
    /// Publish the frame that was just handed in.
    Deliver,
    /// Forget the frame that was just handed in: it was delivered before.
    Skip,
    /// Tell that everything up to here has been delivered.
    Closed(ResourceVersion),
    /// Ask for a new era; answer `Granted`.
    EraNeeded {
        /// Why.
        reason: GapReason,
        /// Where it begins.
        to: ResourceVersion,
        /// Whether the net changes follow.
        repaired: bool,
        /// The identity of the cluster that answered.
        cluster_uid: String,
    },
    /// Find out whether exact lists at both ends answer; answer `Repairable` or `Irreparable`.
    CheckRepair {
        /// Everything up to here has been delivered.
        from: ResourceVersion,
        /// Where the repair is to lead.
        to: ResourceVersion,
    },
    /// Publish the net changes between two exact lists; answer `Repaired` or `Irreparable`.
    /// When asked again for the same ends, go on after what was published.
    Repair {
        /// Everything up to here has been delivered.
        from: ResourceVersion,
        /// Where the repair leads.
        to: ResourceVersion,
    },
    /// Back off; answer `Waited`.
    Wait {
        /// What the server asked for.
        retry_after_ms: Option<u64>,
        /// Begin with the shortest back-off again.
        fresh: bool,
    },
}
