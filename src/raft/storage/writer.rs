//! The one task that writes: it takes what has queued up, applies it, flushes once, and then
//! notifies every waiter. That is the group commit: a flush costs the same for one entry as
//! for a hundred.
//!
//! It has a thread of its own where its disk blocks, and runs beside the others where the disk is
//! simulated. Completions are reported strictly in the order of the operations. Any error ends the
//! task and, through [`Shared::failed`], the process: after a failed sync nobody knows what is on
//! the disk.
//!
//! [`Shared::failed`]: super::Shared::failed

use std::{collections::VecDeque, io, sync::Arc};

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    disk::{KeyRange, Record, Tree, WriteBatch},
    high_water::{HighWater, Mark},
    keyspace::{self, meta},
};
use crate::{
    panics::{catch, contain},
    proto::store::v1 as store,
    raft::types::{LogId, TypeConfig, Vote},
};

/// Operations that may wait. Raft itself keeps far fewer under way; beyond it, appending waits.
pub(super) const QUEUE_MAX: usize = 1024;

/// Operations that share a flush: bounds how long the first of them waits for the last.
const BATCH_MAX: usize = 256;

/// Keys of purged entries and old snapshots that are removed between two batches. Removing costs
/// sled about 15 us a key, so this delays an append by about 2 ms at most.
const SWEEP_KEYS: usize = 128;

/// One thing to write.
pub(super) enum Op {
    /// Entries, as keys and values.
    Append {
        records: Vec<Record>,
        last: LogId,
        /// The number reported by [`Shared::durable`].
        sequence: u64,
        done: IOFlushed<TypeConfig>,
    },
    /// A vote, durable before it is answered.
    Vote { vote: Vote, done: Done },
    /// How far entries are known to be committed. Nobody waits for it.
    Committed { committed: Option<LogId> },
    /// Remove every entry from `from` on.
    Truncate {
        from: u64,
        last: Option<LogId>,
        done: Done,
    },
    /// Remove every entry up to `upto`.
    Purge {
        upto: LogId,
        last: Option<LogId>,
        done: Done,
    },
    /// Records of other kinds.
    Put { records: Vec<Record>, done: Done },
    /// A snapshot whose chunks are all put takes the place of the others.
    Publish {
        record: store::SnapshotRecord,
        done: Done,
    },
    /// Stop.
    Close,
}

/// Who waits for an operation.
pub(super) type Done = oneshot::Sender<io::Result<()>>;

/// A waiter that is notified once the batch is durable.
enum Waiter {
    Append(IOFlushed<TypeConfig>),
    Other(Done),
}

impl Waiter {
    fn complete(self, result: io::Result<()>) {
        match self {
            Self::Append(done) => done.io_completed(result),
            // The waiter may have been dropped with the core that asked.
            Self::Other(done) => drop(done.send(result)),
        }
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    tree: Arc<dyn Tree>,
    high_water: HighWater,
    /// The high-water mark once the current batch is durable.
    mark: Mark,
    /// Ranges of keys that are no longer needed.
    garbage: VecDeque<KeyRange>,
}

/// What one batch has gathered so far.
#[derive(Default)]
struct Batch {
    pending: WriteBatch,
    waiters: Vec<Waiter>,
    must_flush: bool,
    must_sync_fence: bool,
    durable: Option<u64>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        tree: Arc<dyn Tree>,
        high_water: HighWater,
        garbage: VecDeque<KeyRange>,
    ) -> Self {
        let mark = high_water.mark();
        Self {
            shared,
            tree,
            high_water,
            mark,
            garbage,
        }
    }

    /// Runs until it is stopped, or all its handles are gone, or it fails.
    pub(super) async fn run(mut self, mut ops: mpsc::Receiver<Op>) {
        let shared = Arc::clone(&self.shared);
        // sled panics on damage and on some I/O errors; that is a failure like any other.
        let end = contain(self.serve(&mut ops)).await;
        let failure = match end {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(panic) => {
                let text = format!("the store panicked: {}", panic.message);
                Some(io::Error::other(text))
            }
        };
        if let Some(failure) = failure {
            // Logged by the code that ends the process because of it.
            shared.fail(Arc::new(failure));
        }
        let tree = shared.take_tree();
        if let Err(panic) = catch(|| drop((self, tree))) {
            tracing::warn!(
                message = panic.message,
                "the store panicked as it was closed"
            );
        }
        shared.unlock();
    }

    async fn serve(&mut self, ops: &mut mpsc::Receiver<Op>) -> io::Result<()> {
        loop {
            let first = if self.garbage.is_empty() {
                ops.recv().await
            } else {
                match ops.try_recv() {
                    Ok(op) => Some(op),
                    Err(mpsc::error::TryRecvError::Disconnected) => None,
                    Err(mpsc::error::TryRecvError::Empty) => {
                        self.sweep()?;
                        continue;
                    }
                }
            };
            let Some(first) = first else {
                return self.tree.flush().await;
            };
            let mut batch = Batch::default();
            let filled = self.fill(first, ops, &mut batch).await;
            let stop = match filled {
                Ok(stop) => stop,
                Err(error) => return Err(batch.fail(error)),
            };
            self.commit(batch).await?;
            if stop {
                return self.tree.flush().await;
            }
            self.sweep()?;
        }
    }

    /// Takes what has queued up; true where the writer shall stop after it.
    async fn fill(
        &mut self,
        first: Op,
        ops: &mut mpsc::Receiver<Op>,
        batch: &mut Batch,
    ) -> io::Result<bool> {
        let mut stop = self.take(first, batch).await?;
        while !stop
            && batch.waiters.len() < BATCH_MAX
            && let Ok(op) = ops.try_recv()
        {
            stop = self.take(op, batch).await?;
        }
        Ok(stop)
    }

    /// Adds an operation to the batch; true where it is the last one.
    async fn take(&mut self, op: Op, batch: &mut Batch) -> io::Result<bool> {
        match op {
            Op::Append {
                records,
                last,
                sequence,
                done,
            } => {
                batch.put(records);
                batch.durable = Some(sequence);
                self.mark.last = Some(last);
                batch.wait(Waiter::Append(done));
            }
            Op::Vote { vote, done } => {
                batch.put_record(meta::VOTE, &store::Vote::from(vote));
                self.mark.vote = Some(vote);
                batch.must_sync_fence = true;
                batch.wait(Waiter::Other(done));
            }
            Op::Committed { committed } => match committed {
                Some(id) => batch.put_record(meta::COMMITTED, &store::LogId::from(id)),
                None => batch.pending.remove(meta::COMMITTED),
            },
            Op::Truncate { from, last, done } => {
                self.truncate(from, last, batch).await?;
                batch.wait(Waiter::Other(done));
            }
            Op::Purge { upto, last, done } => {
                batch.put_record(meta::PURGED, &store::LogId::from(upto));
                self.mark.purged = Some(upto);
                self.mark.last = last;
                self.garbage.push_back((
                    keyspace::log_key(0, 0),
                    keyspace::log_key(upto.index + 1, 0),
                ));
                batch.wait(Waiter::Other(done));
            }
            Op::Put { records, done } => {
                batch.put(records);
                batch.wait(Waiter::Other(done));
            }
            Op::Publish { record, done } => {
                let number = record.snapshot_number;
                batch.put_record(meta::SNAPSHOT, &record);
                self.garbage.push_back((
                    keyspace::snapshot_key(0, 0),
                    keyspace::snapshot_key(number, 0),
                ));
                batch.wait(Waiter::Other(done));
            }
            Op::Close => return Ok(true),
        }
        Ok(false)
    }

    /// The entries to remove may still be in the batch, so that goes first. The high-water mark is
    /// lowered before anything is removed: it must never be ahead of the data. All chunks go in the
    /// batch that follows, which is written whole or not at all: removed one by one, a crash in
    /// between would leave an entry of several chunks half, and data that is refused.
    async fn truncate(
        &mut self,
        from: u64,
        last: Option<LogId>,
        batch: &mut Batch,
    ) -> io::Result<()> {
        self.tree.apply(std::mem::take(&mut batch.pending))?;
        self.mark.last = last;
        let written = self.high_water.mark();
        self.high_water.write(Mark {
            // Never raised here: what was applied just now is not durable yet.
            last: last.min(written.last),
            ..written
        })?;
        self.high_water.sync().await?;
        let removed = (keyspace::log_key(from, 0), keyspace::log_end());
        for key in self.tree.keys(removed) {
            batch.pending.remove(key?);
        }
        Ok(())
    }

    async fn commit(&mut self, mut batch: Batch) -> io::Result<()> {
        if let Err(error) = self.write(&mut batch).await {
            return Err(batch.fail(error));
        }
        if let Some(sequence) = batch.durable {
            self.shared.durable(sequence);
        }
        for waiter in batch.waiters {
            waiter.complete(Ok(()));
        }
        Ok(())
    }

    async fn write(&mut self, batch: &mut Batch) -> io::Result<()> {
        self.tree.apply(std::mem::take(&mut batch.pending))?;
        if batch.must_flush {
            self.make_durable(batch.must_sync_fence).await?;
        }
        Ok(())
    }

    async fn make_durable(&mut self, must_sync_fence: bool) -> io::Result<()> {
        self.tree.flush().await?;
        // What the last batch wrote to the high-water mark is synced now, with one batch of delay.
        self.high_water.sync().await?;
        self.high_water.write(self.mark)?;
        if must_sync_fence {
            self.high_water.sync().await?;
        }
        Ok(())
    }

    /// Removes a few keys that nobody needs. Not flushed: what a crash brings back is garbage
    /// again, and found at the next open.
    fn sweep(&mut self) -> io::Result<()> {
        let Some(range) = self.garbage.front().cloned() else {
            return Ok(());
        };
        let mut batch = WriteBatch::default();
        let mut count = 0;
        for key in self.tree.keys(range).take(SWEEP_KEYS) {
            batch.remove(key?);
            count += 1;
        }
        self.tree.apply(batch)?;
        if count < SWEEP_KEYS {
            self.garbage.pop_front();
        }
        Ok(())
    }
}

impl Batch {
    fn put(&mut self, records: Vec<Record>) {
        for (key, value) in records {
            self.pending.put(key, value);
        }
    }

    fn put_record(&mut self, key: &[u8], record: &impl prost::Message) {
        let value = keyspace::seal(key, &record.encode_to_vec());
        self.pending.put(key, value);
    }

    /// Completes all waiters with the error.
    fn fail(self, error: io::Error) -> io::Error {
        for waiter in self.waiters {
            waiter.complete(Err(io::Error::new(error.kind(), error.to_string())));
        }
        error
    }

    fn wait(&mut self, waiter: Waiter) {
        self.must_flush = true;
        self.waiters.push(waiter);
    }
}
