//! What one search explores: [`Scope`], and what its driver does wrong on purpose: [`Plant`].

use std::sync::atomic::{AtomicU32, Ordering};

use quorumwatch::domain::event::Change;

use crate::invariants::facts::Written;

/// The resource version at which everything begins.
pub(crate) const FIRST: u64 = 1;

/// A small world, which is explored completely.
#[derive(Debug)]
pub(crate) struct Scope {
    /// How many replicas there are. The first one owns the shard at the beginning.
    pub(crate) replicas: usize,
    /// What the API server will write, one version after the other.
    pub(crate) script: Vec<Written>,
    /// How many changes of it were written before.
    pub(crate) already: usize,
    /// Whether nobody has watched the stream yet.
    pub(crate) fresh: bool,
    /// Where each subscriber begins.
    pub(crate) starts: Vec<Start>,
    /// Replicas that serve subscribers.
    pub(crate) serving: Vec<usize>,
    /// Replicas that the shard may move to.
    pub(crate) owners: Vec<usize>,
    /// Replicas that apply the log late, and not as soon as something is committed.
    pub(crate) lagging: Vec<usize>,
    /// Whether proposals take their time, and other ones overtake them.
    pub(crate) delayed: bool,
    /// How many items a log keeps.
    pub(crate) ring_items: usize,
    /// How often things happen.
    pub(crate) budget: Budget,
    /// What the driver does wrong.
    pub(crate) plant: Option<Plant>,
    /// What has happened anywhere in the search.
    pub(crate) reached: Reached,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            replicas: 2,
            script: Vec::new(),
            already: 0,
            fresh: false,
            starts: vec![Start::Now],
            serving: vec![1],
            owners: vec![0, 1],
            lagging: Vec::new(),
            delayed: false,
            ring_items: 8,
            budget: Budget::default(),
            plant: None,
            reached: Reached::default(),
        }
    }
}

impl Scope {
    /// Whether the driver does this wrong.
    pub(crate) fn plants(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }
}

/// Where a subscriber begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Start {
    /// With what happens from now on.
    Now,
    /// With what exists.
    Snapshot,
}

/// How often each of these still happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// A replica crashes.
    pub(crate) crashes: u8,
    /// The shard gets another owner.
    pub(crate) moves: u8,
    /// An owner proposes a checkpoint.
    pub(crate) checkpoints: u8,
    /// The API server forgets its history.
    pub(crate) compactions: u8,
    /// The API server can watch from the present on only.
    pub(crate) resets: u8,
    /// A connection to the API server breaks.
    pub(crate) breaks: u8,
    /// An open watch gets a bookmark.
    pub(crate) bookmarks: u8,
    /// A subscriber is disconnected.
    pub(crate) cuts: u8,
    /// The outcome of a proposal does not arrive.
    pub(crate) unknowns: u8,
    /// A replica opens watches before the shard moves to it.
    pub(crate) preparations: u8,
    /// A subscriber gets a progress, with its cursor.
    pub(crate) progresses: u8,
}

/// A fault of the driver: each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A log does not compare epochs.
    FenceDropped,
    /// A log does not mark what it has passed over.
    HoleUnmarked,
    /// A replica publishes a shard of another one.
    OwnerIgnored,
    /// An owner resumes one version after the checkpoint.
    ResumedTooLate,
    /// An owner does not publish the first of the net changes.
    NetChangeSkipped,
    /// A checkpoint is what exists, not what was published.
    CheckpointAhead,
    /// A checkpoint takes a version for closed that is not.
    CheckpointInsideVersion,
    /// The state does not compare the run of who begins an era with the present one.
    RunIgnored,
    /// The state does not compare the era that who begins another one knows with the present one.
    EraIgnored,
    /// Another owner gets the same epoch.
    EpochReused,
    /// A subscriber gets no gap that is repaired.
    RepairedGapSwallowed,
    /// A subscriber gets no gap that a snapshot follows.
    GapSwallowed,
    /// The history is reported as gone although it is there.
    GapInvented,
    /// A subscriber takes what it has already.
    PositionsIgnored,
    /// A subscriber saves a cursor before it has received what the cursor says.
    CursorAhead,
    /// A subscriber does not save the cursor that comes with an event.
    CursorBehind,
    /// A replay begins one version too late.
    ReplayedTooLate,
    /// The end of a snapshot is left out.
    SnapshotCutShort,
}

/// What a search must have come across, so that it is known to test what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Milestone {
    /// A subscriber received a gap that a snapshot follows.
    Gap,
    /// A subscriber received a gap that net changes follow.
    RepairedGap,
    /// A subscriber received a complete snapshot.
    Synced,
    /// A snapshot restarted.
    SnapshotRestarted,
    /// A log refused the items of an owner of an older epoch.
    Fenced,
    /// Two replicas published the shard at the same time, under two epochs.
    TwoOwners,
    /// A cursor was resumed at a replica that did not know the newest state.
    ResumedBehind,
    /// A cursor was rejected by a replica that did not know its era.
    CursorRefused,
    /// An owner stopped inside the net changes of a repair.
    RepairInterrupted,
    /// The next one published them again.
    RepairResumed,
    /// A subscriber was disconnected inside net changes, and received the rest.
    NetChangesResumed,
    /// An era was proposed a second time, and had begun by the first.
    EraRepeated,
    /// A proposal of an owner that was replaced was rejected.
    StaleEpoch,
    /// A proposal of a run that was replaced was rejected.
    StaleRun,
    /// A run had published less than was agreed on.
    RunBehind,
    /// A reader was served by a replay.
    Replayed,
    /// A reader's rest of a version came from lists.
    VersionClosed,
    /// A log marked a hole.
    Hole,
    /// A replay could not go on, and the reader got net changes.
    WatchLost,
    /// A reader fell behind a log.
    FellBehind,
    /// A checkpoint of an owner that was replaced was left out.
    CheckpointLeftOut,
    /// A move was left out, because the shard had moved meanwhile.
    MoveLeftOut,
    /// Watches that were opened before a move were used after it.
    Prepared,
    /// A subscriber was disconnected inside a version, and received the rest of it.
    VersionResumed,
    /// A leader gave the shard of a silent replica away.
    Takeover,
    /// So did another leader, that was elected meanwhile.
    TakeoverByNewLeader,
    /// A leader granted less than a whole lease: it had not heard from a quorum for a while.
    ShortLease,
}

/// Milestones that were reached. The threads of a search share them; no state depends on them.
#[derive(Debug, Default)]
pub(crate) struct Reached(AtomicU32);

impl Reached {
    pub(crate) fn note(&self, milestone: Milestone) {
        self.0.fetch_or(1 << milestone as u32, Ordering::Relaxed);
    }

    pub(crate) fn has(&self, milestone: Milestone) -> bool {
        self.0.load(Ordering::Relaxed) & (1 << milestone as u32) != 0
    }
}

/// The changes of versions that are written one after the other.
pub(crate) fn script(versions: &[&[(&str, Change)]]) -> Vec<Written> {
    let mut script = Vec::new();
    for (rv, version) in (FIRST + 1..).zip(versions) {
        for (ordinal, (object, change)) in (0..).zip(*version) {
            script.push(Written {
                rv,
                ordinal,
                object: (*object).to_owned(),
                change: *change,
            });
        }
    }
    script
}
