//! A disk that is simulated: [`InMemory`]. It loses what a real one may lose, when it is asked to.
//!
//! A loss of power leaves the batches of the tree up to some point, at least up to the last flush,
//! and any of the writes to the page that were not synced. A process that is killed loses batches
//! too, because sled keeps them in memory until they are flushed, but no write to the page. What is
//! lost follows from the seed of the disk.

mod layers;
#[cfg(test)]
mod tests;

use std::{
    fmt, io, iter,
    ops::{Bound, RangeInclusive},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::{
    OpenError,
    disk::{Disk, KeyRange, Keys, Page, Records, Tree, Volume, WriteBatch},
};
use layers::{PageLayers, TreeLayers};

/// How a process ends without closing its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It is killed. The machine runs on.
    Process,
    /// The machine loses power.
    Power,
}

/// A disk in memory, with the data of one replica: it ignores the data directory. Cheap to clone;
/// clones are the same disk.
#[derive(Clone)]
pub struct InMemory(Arc<Mutex<State>>);

struct State {
    tree: TreeLayers,
    page: PageLayers,
    random: SmallRng,
    latency: RangeInclusive<Duration>,
    tears_batches: bool,
    is_full: bool,
    /// Counts the processes that have opened the data or crashed. What an earlier one still holds
    /// does nothing any more.
    process: u64,
    is_open: bool,
    operations: u64,
    crashes: u64,
    /// The operation that crashes instead of being done.
    crash_at: Option<(u64, Crash)>,
}

impl InMemory {
    /// An empty disk that is never full and takes no time.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            tree: TreeLayers::default(),
            page: PageLayers::default(),
            random: SmallRng::seed_from_u64(seed),
            latency: Duration::ZERO..=Duration::ZERO,
            tears_batches: false,
            is_full: false,
            process: 0,
            is_open: false,
            operations: 0,
            crashes: 0,
            crash_at: None,
        })))
    }

    /// Lets each flush and sync take a time of this range, on tokio's clock. The replica must do
    /// its blocking work in its turn ([`InTurn`](crate::blocking::InTurn)): the thread of a writer
    /// has no clock.
    #[must_use]
    pub fn with_latency(self, latency: RangeInclusive<Duration>) -> Self {
        self.set_latency(latency);
        self
    }

    /// The same from now on. What is under way takes as long as it would have.
    pub fn set_latency(&self, latency: RangeInclusive<Duration>) {
        self.state().latency = latency;
    }

    /// Lets a crash leave a part of the first batch that it loses. sled does not: it recognises
    /// such a batch by its checksum, and drops it. For tests of what else would notice it.
    #[must_use]
    pub fn with_torn_batches(self) -> Self {
        self.state().tears_batches = true;
        self
    }

    /// Ends the process that has the data open, if there is one. What it still holds fails from now
    /// on.
    pub fn crash(&self, crash: Crash) {
        self.state().crash(crash);
    }

    /// Crashes in place of an operation: 1 is the next one that changes the disk, or makes changes
    /// durable. A crash before that takes its place.
    pub fn crash_in(&self, operations: u64, crash: Crash) {
        let mut state = self.state();
        state.crash_at = Some((state.operations + operations, crash));
    }

    /// How many operations there were so far, as [`Self::crash_in`] counts them.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many crashes there were so far.
    pub fn crashes(&self) -> u64 {
        self.state().crashes
    }

    /// Whether there is no room for more. What exists can still be replaced in the page.
    pub fn set_full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk, as this process sees it.
    fn of(&self, process: u64) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        state.check_runs(process)?;
        Ok(state)
    }

    /// The disk, for an operation of this process.
    fn begin(&self, process: u64) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.of(process)?;
        state.operations += 1;
        if let Some((at, crash)) = state.crash_at
            && state.operations >= at
        {
            state.crash(crash);
        }
        state.check_runs(process)?;
        Ok(state)
    }
}

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InMemory").finish_non_exhaustive()
    }
}

impl State {
    fn check_runs(&self, process: u64) -> io::Result<()> {
        if self.is_open && self.process == process {
            return Ok(());
        }
        let gone = "the process that had the simulated disk open has crashed";
        Err(io::Error::new(io::ErrorKind::NotConnected, gone))
    }

    /// A process finds all that the one before it has left, and none of that is lost later.
    fn open(&mut self) -> Result<u64, OpenError> {
        if self.is_open {
            return Err(OpenError::InUse(None));
        }
        self.tree.make_durable(self.tree.pending());
        self.page.make_durable(self.page.pending());
        self.process += 1;
        self.is_open = true;
        Ok(self.process)
    }

    fn crash(&mut self, crash: Crash) {
        self.crash_at = None;
        self.crashes += 1;
        if self.is_open {
            self.end_process();
        }
        if crash == Crash::Power {
            self.lose_batches();
            self.tree.make_durable(self.tree.pending());
            let random = &mut self.random;
            self.page.keep(|| random.random());
        }
    }

    fn end_process(&mut self) {
        self.is_open = false;
        self.lose_batches();
    }

    fn lose_batches(&mut self) {
        let kept = self.random.random_range(0..=self.tree.pending());
        let of_next = match self.tree.changes(kept) {
            changes if self.tears_batches && changes > 0 => self.random.random_range(0..changes),
            _ => 0,
        };
        self.tree.keep(kept, of_next);
    }

    fn take_time(&mut self) -> Duration {
        self.random.random_range(self.latency.clone())
    }
}

impl Disk for InMemory {
    fn open(&self, _: &Path) -> Result<Volume, OpenError> {
        let opened = Opened {
            process: self.state().open()?,
            disk: self.clone(),
        };
        Ok(Volume {
            tree: Arc::new(opened.clone()),
            page: Box::new(opened.clone()),
            lock: Box::new(Unlock(opened)),
        })
    }
}

/// The disk, as it was opened by one process.
#[derive(Clone)]
struct Opened {
    disk: InMemory,
    process: u64,
}

impl Tree for Opened {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.disk.of(self.process)?.tree.get(key))
    }

    fn range(&self, (from, to): KeyRange) -> Records<'_> {
        let mut from = Bound::Included(from);
        Box::new(iter::from_fn(move || {
            let record = match self.disk.of(self.process) {
                Ok(state) => state.tree.first(&from, &to)?,
                Err(error) => return Some(Err(error)),
            };
            from = Bound::Excluded(record.0.clone());
            Some(Ok(record))
        }))
    }

    fn keys(&self, range: KeyRange) -> Keys<'_> {
        let records = self.range(range);
        Box::new(records.map(|record| record.map(|(key, _)| key)))
    }

    fn apply(&self, batch: WriteBatch) -> io::Result<()> {
        self.disk.begin(self.process)?.tree.apply(batch);
        Ok(())
    }

    fn flush(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let (batches, time) = self.begin_flush()?;
            pass(time).await;
            let mut state = self.disk.begin(self.process)?;
            state.tree.make_durable(batches);
            Ok(())
        })
    }
}

impl Page for Opened {
    fn read_at(&self, bytes: &mut [u8], offset: usize) -> io::Result<()> {
        self.disk.of(self.process)?.page.read(bytes, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        self.disk.begin(self.process)?.page.write(bytes, offset)
    }

    fn sync(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let (writes, time) = self.begin_sync()?;
            pass(time).await;
            let mut state = self.disk.begin(self.process)?;
            state.page.make_durable(writes);
            Ok(())
        })
    }
}

impl Opened {
    /// What the flush will make durable, and how long it takes.
    fn begin_flush(&self) -> io::Result<(usize, Duration)> {
        let mut state = self.disk.begin(self.process)?;
        if state.is_full && state.tree.needs_room() {
            let full = "no space left on device";
            return Err(io::Error::new(io::ErrorKind::StorageFull, full));
        }
        Ok((state.tree.pending(), state.take_time()))
    }

    /// What the sync will make durable, and how long it takes.
    fn begin_sync(&self) -> io::Result<(usize, Duration)> {
        let mut state = self.disk.begin(self.process)?;
        Ok((state.page.pending(), state.take_time()))
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Lets the next process open the data, when it is dropped.
struct Unlock(Opened);

impl Drop for Unlock {
    fn drop(&mut self) {
        let Opened { disk, process } = &self.0;
        if let Ok(mut state) = disk.of(*process) {
            state.end_process();
        }
    }
}
