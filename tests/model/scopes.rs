//! The small worlds that are explored: each for something that can go wrong.

use quorumwatch::domain::event::Change::{Added, Deleted, Modified};

use crate::scope::{Budget, Scope, Start, script};

/// An owner is replaced while it publishes, and the next one resumes at the checkpoint.
pub(crate) fn takeover() -> Scope {
    Scope {
        script: script(&[&[("a", Added)], &[("b", Added)]]),
        budget: Budget {
            moves: 2,
            checkpoints: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// A subscriber resumes at a replica that is behind, while eras begin.
pub(crate) fn lagging() -> Scope {
    Scope {
        replicas: 3,
        script: script(&[&[("a", Added)], &[("b", Added)]]),
        serving: vec![1, 2],
        owners: vec![0, 1],
        lagging: vec![2],
        budget: Budget {
            resets: 1,
            cuts: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// Deletions that share a version: an owner and a subscriber stop between two of them.
pub(crate) fn versions() -> Scope {
    Scope {
        script: script(&[
            &[("a", Added)],
            &[("b", Added)],
            &[("a", Deleted), ("b", Deleted)],
            &[("c", Added)],
        ]),
        already: 2,
        budget: Budget {
            moves: 1,
            checkpoints: 1,
            cuts: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// The watch is lost and exact lists answer: the net changes are published, by several runs.
pub(crate) fn repaired() -> Scope {
    Scope {
        script: script(&[&[("a", Added)], &[("b", Added)], &[("a", Deleted)]]),
        already: 1,
        budget: Budget {
            crashes: 1,
            resets: 1,
            cuts: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// The history is gone: a gap, a snapshot, and what follows it.
pub(crate) fn expired() -> Scope {
    Scope {
        script: script(&[&[("a", Added)], &[("b", Added)], &[("a", Deleted)]]),
        already: 1,
        serving: vec![0, 1],
        budget: Budget {
            compactions: 1,
            breaks: 1,
            cuts: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// The lists of a repair expire before all of its net changes are published.
pub(crate) fn irreparable() -> Scope {
    Scope {
        script: script(&[&[("a", Added)], &[("b", Added)]]),
        budget: Budget {
            compactions: 1,
            resets: 1,
            cuts: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// Proposals that take their time, overtake each other, and are of the past.
pub(crate) fn proposals() -> Scope {
    Scope {
        script: script(&[&[("a", Added)]]),
        delayed: true,
        owners: vec![1],
        starts: Vec::new(),
        budget: Budget {
            crashes: 1,
            moves: 2,
            checkpoints: 1,
            resets: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// Logs that keep one item: readers catch up from the history.
pub(crate) fn small_rings() -> Scope {
    Scope {
        script: script(&[&[("a", Added)], &[("b", Added)], &[("a", Modified)]]),
        ring_items: 1,
        budget: Budget {
            resets: 1,
            cuts: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// A copy begins with a snapshot, which is interrupted, and whose list is gone then.
pub(crate) fn snapshots() -> Scope {
    Scope {
        script: script(&[
            &[("a", Added)],
            &[("b", Added)],
            &[("a", Modified)],
            &[("b", Deleted)],
        ]),
        already: 2,
        starts: vec![Start::Snapshot],
        budget: Budget {
            crashes: 1,
            compactions: 1,
            cuts: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// Watches that are opened before the shard moves, and are behind when it has.
pub(crate) fn prepared() -> Scope {
    Scope {
        script: script(&[&[("a", Added)]]),
        budget: Budget {
            moves: 1,
            checkpoints: 1,
            resets: 1,
            preparations: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// A stream that nobody has watched before.
pub(crate) fn fresh() -> Scope {
    Scope {
        script: script(&[&[("a", Added)], &[("b", Added)], &[("a", Modified)]]),
        already: 1,
        fresh: true,
        delayed: true,
        serving: vec![0, 1],
        budget: Budget {
            moves: 1,
            unknowns: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// The watch is lost while a subscriber stands between two deletions of one version.
pub(crate) fn open_versions() -> Scope {
    Scope {
        script: script(&[
            &[("a", Added)],
            &[("b", Added)],
            &[("a", Deleted), ("b", Deleted)],
            &[("c", Added)],
        ]),
        already: 2,
        ring_items: 2,
        serving: vec![0, 1],
        budget: Budget {
            resets: 1,
            cuts: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}

/// Two subscribers at one replica, one of which comes later, or leaves.
pub(crate) fn two_subscribers() -> Scope {
    Scope {
        script: script(&[&[("a", Added)], &[("b", Added)]]),
        starts: vec![Start::Now, Start::Snapshot],
        budget: Budget {
            resets: 1,
            cuts: 1,
            ..Budget::default()
        },
        ..Scope::default()
    }
}
