//! Shards that are prepared to move here, and not assigned yet: [`Prepared`].

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

use super::{
    options::RunOptions,
    prepare::{PrepareError, Request, Wanted},
    standby::Standby,
};
use crate::domain::{
    id::{Epoch, ReplicaId, ShardId},
    preparation::{KEPT_FOR, PREPARE_TIMEOUT},
    state::State,
};

/// How long the watches of a shard are kept open for a move that is not committed. The leader counts
/// on them for less.
const KEEP: Duration = KEPT_FOR.saturating_add(PREPARE_TIMEOUT);

/// Standbys, by shard.
#[derive(Default)]
pub(super) struct Prepared {
    standbys: BTreeMap<ShardId, Kept>,
    opening: FuturesUnordered<BoxFuture<'static, Opened>>,
}

struct Kept {
    standby: Standby,
    /// The epoch of the owner that the shard is to be taken from.
    epoch: Epoch,
    until: Instant,
}

/// The opening of a standby has ended.
struct Opened {
    request: Request,
    result: Result<(), String>,
}

impl Prepared {
    /// Begins to open the watches of a shard, or waits for those that are being opened. The answer
    /// is given when they are open, or cannot be.
    pub(super) fn begin(&mut self, options: &RunOptions, request: Request) {
        let Wanted {
            shard,
            epoch,
            must_connect,
            timeout,
        } = request.wanted;
        let state = options.group.state();
        let assignment = state.assignments.get(&shard);
        let is_current = assignment.is_some_and(|assignment| {
            assignment.epoch() == epoch && assignment.owner() != Some(options.replica)
        });
        if !is_current {
            let _ = request.answer.send(Err(PrepareError::Stale));
            return;
        }
        let (fitting, unfitting) = match self.take(shard) {
            Some(standby) if standby.fits(&state) => (Some(standby), None),
            other => (None, other),
        };
        drop(state);
        if let Some(unfitting) = unfitting {
            close(unfitting);
        }
        let Some(standby) = fitting.or_else(|| Standby::open(options, shard)) else {
            let _ = request.answer.send(Err(PrepareError::Stale));
            return;
        };
        let opening = standby.opening(must_connect).wait();
        let until = Instant::now() + KEEP;
        let kept = Kept {
            standby,
            epoch,
            until,
        };
        self.standbys.insert(shard, kept);
        self.opening.push(Box::pin(async move {
            let result = tokio::time::timeout(timeout, opening).await;
            let late = || Err(format!("the watches did not open within {timeout:?}"));
            let result = result.unwrap_or_else(|_| late());
            Opened { request, result }
        }));
    }

    /// Goes on with what is being opened, and closes what was not needed; never ends by itself.
    pub(super) async fn run(&mut self) {
        loop {
            let until = self.standbys.values().map(|kept| kept.until).min();
            tokio::select! {
                Some(opened) = self.opening.next() => self.opened(opened),
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    self.close_where(|kept| kept.until <= Instant::now());
                }
                else => std::future::pending().await,
            }
        }
    }

    fn opened(&mut self, Opened { request, result }: Opened) {
        let shard = request.wanted.shard;
        if let Err(reason) = &result {
            tracing::info!(%shard, reason, "cannot watch a shard that is to move here");
            if let Some(standby) = self.take(shard) {
                close(standby);
            }
        }
        let _ = request.answer.send(result.map_err(PrepareError::Unfit));
    }

    /// The watches of a shard, for a run that begins now.
    pub(super) fn take(&mut self, shard: ShardId) -> Option<Standby> {
        Some(self.standbys.remove(&shard)?.standby)
    }

    /// Closes the watches of shards that went elsewhere.
    pub(super) fn follow(&mut self, state: &State, replica: ReplicaId) {
        self.close_where(|kept| {
            let assignment = state.assignments.get(&kept.standby.shard());
            assignment.is_none_or(|assignment| {
                assignment.epoch() > kept.epoch && assignment.owner() != Some(replica)
            })
        });
    }

    fn close_where(&mut self, is_over: impl Fn(&Kept) -> bool) {
        let shards: Vec<ShardId> = self.standbys.keys().copied().collect();
        for shard in shards {
            if self.standbys.get(&shard).is_some_and(&is_over)
                && let Some(standby) = self.take(shard)
            {
                close(standby);
            }
        }
    }
}

/// Closes watches without waiting for it.
fn close(standby: Standby) {
    tokio::spawn(standby.close());
}
