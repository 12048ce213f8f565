//! What goes into a session and what comes out of it.

use super::ledger::Listing;
use crate::domain::{
    event::{Change, GapReason},
    position::ResourceVersion,
};

/// When a session suspects, refreshes, verifies and gives up. All times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// How long a watch must be silent after a list was taken, until the two are compared. What
    /// it delivers before is compared as soon as it has passed the list.
    pub idle_grace_ms: u64,
    /// No event, bookmark or verification for so long: the position is verified by a list (trap
    /// T1).
    pub quiet_ms: u64,
    /// The first watch of a session that begins behind the present and is silent for so long: the
    /// position is verified by lists, so that it need not wait for `quiet_ms`.
    pub settle_ms: u64,
    /// Whether that holds for every watch of the session.
    pub settles_always: bool,
    /// How often everything that was delivered is verified by a list, whether the stream is quiet
    /// or not (trap T11); 0 for never.
    pub audit_ms: u64,
    /// How long to wait after a list that could not be taken.
    pub audit_retry_ms: u64,
    /// No event and no bookmark for this long: probe and reopen the watch (traps T1, T13).
    pub silence_ms: u64,
    /// A clean close without an event within this time is suspicious (trap T3).
    pub quick_close_ms: u64,
    /// After so many suspicious closes in a row it is found out whether the history is gone.
    pub quick_closes_max: u32,
    /// So many internal errors at one resource version mean that it cannot be passed (trap T12).
    pub failures_max: u32,
    /// The time within which they count.
    pub failures_within_ms: u64,
    /// A watch that lived for this long was healthy: back-off restarts after it. So short that an
    /// API server that restarts every few seconds is watched again at once each time.
    pub healthy_ms: u64,
    /// A list younger than this need not be repeated before a watch.
    pub probe_valid_ms: u64,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            idle_grace_ms: 3_000,
            quiet_ms: 120_000,
            settle_ms: 5_000,
            settles_always: false,
            audit_ms: 300_000,
            audit_retry_ms: 30_000,
            silence_ms: 60_000,
            quick_close_ms: 2_000,
            quick_closes_max: 2,
            failures_max: 3,
            failures_within_ms: 30_000,
            healthy_ms: 2_000,
            probe_valid_ms: 2_000,
        }
    }
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// The session begins.
    Start,
    /// The probe's answer: a consistent list was taken.
    Probed {
        /// Its resource version.
        at: ResourceVersion,
        /// The identity of the cluster that answered; empty where it may not be read.
        cluster_uid: String,
        /// Whether one of the session's questions is answered with no: history is another one.
        is_rewound: bool,
    },
    /// The watch is open: the head of its response has come.
    Opened {
        /// The identity of the cluster that answered; empty where it may not be read.
        cluster_uid: String,
    },
    /// An event has come.
    Event {
        /// Its resource version.
        rv: &'a ResourceVersion,
        /// What happened.
        change: Change,
        /// The object's UID.
        uid: &'a str,
    },
    /// A bookmark has come: everything up to here has been sent.
    Bookmark(ResourceVersion),
    /// The watch has ended without an error.
    Ended,
    /// What the session asked for failed.
    Failed(Failure),
    /// History is there, and nothing has changed after what was delivered.
    Unchanged,
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
    /// A list may be taken now.
    MayList,
    /// The list was taken.
    Listed {
        /// The content of the list, as far as it matters here.
        listing: Listing,
        /// Whether one of the session's questions is answered with no: history is another one.
        is_rewound: bool,
    },
    /// The exact list that was asked for is gone, or the server does not know such lists.
    ListGone,
    /// The list could not be taken this time.
    ListFailed {
        /// How long the server asks us to wait.
        retry_after_ms: Option<u64>,
    },
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
    /// Take a consistent list of one object, for its resource version, and ask the session's
    /// questions; answer `Probed`.
    Probe,
    /// Open a watch, and find out which cluster answers; answer `Opened`.
    Watch {
        /// The resource version to begin after.
        from: ResourceVersion,
    },
    /// Abandon the watch.
    Abandon,
    /// Publish the event of this input.
    Deliver,
    /// Drop the event of this input: it was delivered before.
    Skip,
    /// Report that everything up to here has been delivered.
    Closed(ResourceVersion),
    /// Ask for a new era; answer `Granted`.
    EraNeeded {
        /// The cause, for the `Gap`.
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
    /// Find out whether an exact list at `from` answers, and whether exact lists at `top` and `to`
    /// show the same; answer `Unchanged`, `Repairable` where they differ, or `Irreparable`.
    CheckHistory {
        /// Everything up to here has been delivered.
        from: ResourceVersion,
        /// The highest version that was delivered; above `from` where more of it may follow.
        top: ResourceVersion,
        /// The version of the current list.
        to: ResourceVersion,
    },
    /// Publish the net changes between two exact lists; answer `Repaired` or `Irreparable`.
    /// When asked again for the same ends, continue after what was published.
    Repair {
        /// Everything up to here has been delivered.
        from: ResourceVersion,
        /// Where the repair leads.
        to: ResourceVersion,
    },
    /// Answer `MayList` once another list of this cluster may be taken, while the watch continues.
    AskToList,
    /// Take a whole list of metadata while the watch continues, and where it is one of the present
    /// ask the session's questions; answer `Listed`, `ListGone` or `ListFailed`.
    List {
        /// At exactly this version; the current one if not set.
        exactly: Option<ResourceVersion>,
        /// What the listing is to be made with.
        above: Option<ResourceVersion>,
    },
    /// Count and log the result of a verification; nothing else is to be done.
    Verified {
        /// The version of the list.
        at: ResourceVersion,
        /// The result of the verification.
        finding: Finding,
    },
    /// Back off; answer `Waited`.
    Wait {
        /// What the server asked for.
        retry_after_ms: Option<u64>,
        /// Begin with the shortest back-off again.
        fresh: bool,
    },
}

/// What a verification found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Everything up to the list was delivered.
    Agrees,
    /// There was nothing to compare with; the next list is compared with this one.
    Begun,
    /// The list and what was delivered differ. It is checked again before anything follows.
    Doubtful,
    /// A quiet stream does not deliver what the list shows: the net changes follow.
    Stuck {
        /// How many changes at least.
        missing: u64,
    },
    /// Changes were left out before what was delivered after them: a new era follows.
    Lost {
        /// How many at least.
        missing: u64,
    },
    /// History is not the one that was delivered (trap T4): a new era follows.
    Rewound,
}

/// What a step asks for, in order. Nearly every step asks for one thing or none, which costs no
/// allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Nothing.
    None,
    /// One thing.
    One([Output; 1]),
    /// Several.
    Many(Vec<Output>),
}

impl Outputs {
    /// These, then those.
    #[must_use]
    pub(super) fn then(self, after: impl Into<Self>) -> Self {
        match (self, after.into()) {
            (Self::None, outputs) | (outputs, Self::None) => outputs,
            (before, after) => Self::Many(before.into_iter().chain(after).collect()),
        }
    }
}

impl From<Output> for Outputs {
    fn from(output: Output) -> Self {
        Self::One([output])
    }
}

impl std::ops::Deref for Outputs {
    type Target = [Output];

    fn deref(&self) -> &[Output] {
        match self {
            Self::None => &[],
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

impl IntoIterator for Outputs {
    type Item = Output;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Output>, std::vec::IntoIter<Output>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Self::None => (None, Vec::new()),
            Self::One([one]) => (Some(one), Vec::new()),
            Self::Many(many) => (None, many),
        };
        one.into_iter().chain(many)
    }
}

#[cfg(test)]
impl<const N: usize> PartialEq<[Output; N]> for Outputs {
    fn eq(&self, other: &[Output; N]) -> bool {
        **self == *other
    }
}
