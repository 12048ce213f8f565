//! Changes of ownership that were applied lately, for those who watch shards.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast;

use crate::domain::{command::ShardChange, id::Revision};

/// Changes kept: hours of an ordinary group, and enough for a watcher that reconnects after every
/// shard of 4,000 clusters has moved once.
const CHANGES_MAX: usize = 4096;

/// Changes of ownership after a revision.
#[derive(Debug)]
pub enum ChangesSince {
    /// Those that are past, in order, and those to come. A receiver that lags behind is told so,
    /// and one that is closed must ask again: a snapshot has taken the place of the changes.
    Changes(Vec<ShardChange>, broadcast::Receiver<ShardChange>),
    /// Some are no longer kept: read the state instead.
    Forgotten,
}

/// The changes kept, and who is told of new ones.
pub(super) struct Changes {
    kept: Mutex<Kept>,
}

struct Kept {
    changes: VecDeque<ShardChange>,
    /// Every change after this revision is kept.
    complete_after: Revision,
    live: broadcast::Sender<ShardChange>,
}

impl Changes {
    pub(super) fn new(complete_after: Revision) -> Self {
        Self {
            kept: Mutex::new(Kept::new(complete_after)),
        }
    }

    /// Starts over at the revision of a snapshot.
    pub(super) fn reset(&self, complete_after: Revision) {
        *self.kept() = Kept::new(complete_after);
    }

    pub(super) fn push(&self, changes: Vec<ShardChange>) {
        let mut kept = self.kept();
        for change in changes {
            if kept.changes.len() == CHANGES_MAX
                && let Some(oldest) = kept.changes.pop_front()
            {
                kept.complete_after = oldest.revision;
            }
            // An error means that nobody listens.
            drop(kept.live.send(change.clone()));
            kept.changes.push_back(change);
        }
    }

    pub(super) fn since(&self, revision: Revision) -> ChangesSince {
        let kept = self.kept();
        if revision < kept.complete_after {
            return ChangesSince::Forgotten;
        }
        let first = kept
            .changes
            .partition_point(|change| change.revision <= revision);
        let past = kept.changes.range(first..).cloned().collect();
        ChangesSince::Changes(past, kept.live.subscribe())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Every change of `Kept` is whole before anything could panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn new(complete_after: Revision) -> Self {
        Self {
            changes: VecDeque::new(),
            complete_after,
            live: broadcast::Sender::new(CHANGES_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CHANGES_MAX, Changes, ChangesSince};
    use crate::domain::{
        assignment::MoveReason,
        command::ShardChange,
        id::{ClusterId, Epoch, Revision, ShardId, UnixMillis},
    };

    fn change(revision: u64) -> ShardChange {
        ShardChange {
            revision: Revision(revision),
            shard: ShardId {
                cluster: ClusterId(1),
                slice: 0,
            },
            cluster: "c".into(),
            epoch: Epoch(revision),
            old_owner: None,
            new_owner: None,
            reason: MoveReason::Placed,
            at: UnixMillis(0),
        }
    }

    fn past(changes: &Changes, since: u64) -> Option<Vec<u64>> {
        match changes.since(Revision(since)) {
            ChangesSince::Changes(past, _) => Some(past.iter().map(|c| c.revision.0).collect()),
            ChangesSince::Forgotten => None,
        }
    }

    #[test]
    fn a_watcher_gets_what_is_past_and_then_what_comes() {
        let changes = Changes::new(Revision(10));
        changes.push(vec![change(11), change(12)]);
        assert_eq!(past(&changes, 9), None);
        assert_eq!(past(&changes, 10), Some(vec![11, 12]));
        let ChangesSince::Changes(past, mut live) = changes.since(Revision(11)) else {
            panic!("forgotten");
        };
        assert_eq!(past, [change(12)]);
        changes.push(vec![change(13)]);
        assert_eq!(live.try_recv(), Ok(change(13)));
    }

    #[test]
    fn what_no_longer_fits_is_forgotten() {
        let changes = Changes::new(Revision(0));
        changes.push((1..=CHANGES_MAX as u64 + 2).map(change).collect());
        assert_eq!(past(&changes, 1), None);
        assert_eq!(past(&changes, 2).map(|kept| kept.len()), Some(CHANGES_MAX));
        changes.reset(Revision(9_000));
        assert_eq!(past(&changes, 8_999), None);
        assert_eq!(past(&changes, 9_000), Some(vec![]));
    }
}
