//! What a session wants, and what it is doing.

use crate::domain::{event::GapReason, position::ResourceVersion};

/// What the session wants to reach; it survives failures on the way.
#[derive(Clone, Debug)]
pub(super) enum Goal {
    /// Watch after what was delivered.
    Watch,
    /// Find out whether what follows what was delivered is gone (trap T3).
    Doubt,
    /// Repair from what was delivered to a new list (trap T29).
    Recover,
    /// Publish the net changes up to `to`; the era for that has begun.
    Publish { to: ResourceVersion },
    /// Begin an era at a new list.
    Renew(GapReason),
}

#[derive(Clone, Debug)]
pub(super) enum SessionState {
    /// Nothing is under way.
    Resting,
    Probing,
    Opening,
    Watching(Watching),
    /// Exact lists are being tried or compared, for an era at `to`.
    Checking {
        to: ResourceVersion,
    },
    /// The owner has been asked for an era.
    Asking(EraRequest),
    Publishing,
    Waiting,
}

/// An open watch.
#[derive(Clone, Debug)]
pub(super) struct Watching {
    pub(super) opened_ms: u64,
    /// The last event or bookmark, or the opening.
    pub(super) heard_ms: u64,
    /// Whether an event or bookmark has come.
    pub(super) heard: bool,
    /// Whether an event was new.
    pub(super) advanced: bool,
    /// The version of the list before the watch, while it is not known that everything up to it was
    /// delivered.
    pub(super) bound: Option<ResourceVersion>,
}

/// The era that the owner has been asked for.
#[derive(Clone, Debug)]
pub(super) struct EraRequest {
    pub(super) to: ResourceVersion,
    pub(super) repaired: bool,
    pub(super) cluster_uid: String,
}

/// The list that was taken last.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) at: ResourceVersion,
    pub(super) taken_ms: u64,
    pub(super) cluster_uid: String,
    pub(super) is_rewound: bool,
}

impl Probe {
    pub(super) fn new(
        taken_ms: u64,
        at: ResourceVersion,
        cluster_uid: String,
        is_rewound: bool,
    ) -> Self {
        Self {
            at,
            taken_ms,
            cluster_uid,
            is_rewound,
        }
    }
}
