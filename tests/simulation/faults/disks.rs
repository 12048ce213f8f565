//! Disks that are full, and what starts a replica again that has ended because of it.

use std::{collections::BTreeSet, time::Duration};

use quorumwatch::domain::id::ShardId;

use crate::{report, stage::Stage};

/// How long it takes until a process that has ended is started again, whether there is room or not.
const RESTARTED_AFTER: Duration = Duration::from_millis(400);

/// What a replica says that ends because its disk is full, whether it was running or starting.
const SAYS: [&str; 3] = [
    "no space left on device",
    "The disk is full: make room on the volume of",
    "do not remove it",
];

/// How long a process may take to end after its disk has refused something.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// A replica whose disk is full, or was a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Full {
    /// How often a process has ended because of it.
    ended: usize,
    /// When the next one starts, while none runs.
    starts: Option<Duration>,
    /// What the last one owned.
    owned: BTreeSet<ShardId>,
    /// Since when there is room.
    room_since: Option<Duration>,
}

impl Stage {
    pub(super) fn fill_disk(&mut self, replica: usize) {
        self.full.insert(replica, Full::default());
        self.replicas[replica].set_full(true);
    }

    pub(super) fn make_room(&mut self, replica: usize) {
        self.replicas[replica].set_full(false);
        let now = self.sim.elapsed();
        let full = self.full.entry(replica).or_default();
        full.room_since = Some(now);
        if full.ended == 0 {
            report::reached("disk full: nothing was to be written");
        }
        if full.starts.take().is_some() {
            self.start(replica);
        }
    }

    /// Whether a process has ended because its disk is full, and has said so, and what to do.
    pub(crate) fn is_of_full_disk(&self, replica: usize, ended: &Result<(), String>) -> bool {
        let says = |why: &String| SAYS.iter().all(|part| why.contains(part));
        self.full.contains_key(&replica) && ended.as_ref().is_err_and(says)
    }

    /// Takes down what has ended because its disk is full, and starts it again after a while.
    pub(crate) fn look_after_full_disks(&mut self) {
        let now = self.sim.elapsed();
        let full: Vec<usize> = self.full.keys().copied().collect();
        for replica in full {
            let ended = self.replicas[replica].ended();
            if ended.is_some_and(|ended| self.is_of_full_disk(replica, &ended)) {
                self.has_ended_full(replica);
            }
            let starts = self.full.get(&replica).and_then(|full| full.starts);
            if starts.is_some_and(|at| at <= now) {
                self.note_takeover(replica);
                self.start(replica);
                if let Some(full) = self.full.get_mut(&replica) {
                    full.starts = None;
                }
            }
        }
        let is_over = |full: &Full| full.room_since.is_some_and(|at| at + ENDS_WITHIN < now);
        self.full.retain(|_, full| !is_over(full));
    }

    fn has_ended_full(&mut self, replica: usize) {
        let owned = self.owned_by(replica);
        self.kill(replica);
        let name = &self.replicas[replica].name;
        report::note(name, "has ended, because its disk is full");
        let now = self.sim.elapsed();
        let full = self.full.entry(replica).or_default();
        full.ended += 1;
        full.owned = owned;
        // Where there is room again, nothing keeps it down.
        let pause = match full.room_since {
            Some(_) => Duration::ZERO,
            None => RESTARTED_AFTER,
        };
        full.starts = Some(now + pause);
        report::reached(match full.ended {
            1 => "disk full: a replica has ended",
            _ => "disk full: a replica has ended again",
        });
    }

    /// The shards that a replica owns, as it knows.
    fn owned_by(&self, replica: usize) -> BTreeSet<ShardId> {
        let Some(raft) = self.replicas[replica].raft() else {
            return BTreeSet::new();
        };
        let (state, id) = (raft.state(), raft.replica_id());
        let owned = state.assignments.values();
        let owned = owned.filter(|assignment| assignment.owner() == Some(id));
        owned.map(|assignment| assignment.shard()).collect()
    }

    /// Counts it where all that a replica owned as it ended belongs to others.
    fn note_takeover(&self, replica: usize) {
        let Some(full) = self.full.get(&replica) else {
            return;
        };
        let others = (0..self.replicas.len()).filter(|other| *other != replica);
        let by_others = others.flat_map(|other| self.owned_by(other));
        let by_others: BTreeSet<ShardId> = by_others.collect();
        if !full.owned.is_empty() && full.owned.is_subset(&by_others) {
            report::reached("disk full: others have taken over");
        }
    }
}
