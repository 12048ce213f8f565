//! What the data is kept on: [`Disk`]. What ships is [`Files`](super::Files); a disk that is
//! simulated in one process does the same.
//!
//! A disk gives the store one tree of keys and one small page. What is in them, and when it must be
//! durable, is decided by the code above, which is the same over every disk.

use std::{collections::BTreeMap, fmt, io, path::Path, sync::Arc};

use futures::future::BoxFuture;

use super::OpenError;

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;

/// A key and its value.
pub type Record = (Vec<u8>, Vec<u8>);

/// Keys from the first up to the second, which is not one of them.
pub type KeyRange = (Vec<u8>, Vec<u8>);

/// Records in the order of their keys.
pub type Records<'a> = Box<dyn Iterator<Item = io::Result<Record>> + 'a>;

/// Keys in order.
pub type Keys<'a> = Box<dyn Iterator<Item = io::Result<Vec<u8>>> + 'a>;

/// Keeps the data of a replica.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens the data of this directory, or creates it where it does not exist. Blocks.
    ///
    /// What is found is durable, also where the process that wrote it was killed before it was.
    fn open(&self, data_dir: &Path) -> Result<Volume, OpenError>;
}

/// Data that is open.
pub struct Volume {
    /// The votes, the log and the snapshots.
    pub tree: Arc<dyn Tree>,
    /// The high-water mark.
    pub page: Box<dyn Page>,
    /// To be dropped last.
    pub lock: Lock,
}

/// While it is held, nobody else can open the data.
pub type Lock = Box<dyn Send + Sync>;

/// Values by key, changed in batches. Readers see a batch as soon as it is applied; a crash leaves
/// the batches up to some point, at least up to the last flush, each of them whole.
pub trait Tree: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// The records of a range.
    fn range(&self, range: KeyRange) -> Records<'_>;

    /// The keys of a range, without the values.
    fn keys(&self, range: KeyRange) -> Keys<'_>;

    /// Makes the changes of a batch.
    fn apply(&self, batch: WriteBatch) -> io::Result<()>;

    /// Makes what was applied durable: it survives a loss of power. May block.
    fn flush(&self) -> BoxFuture<'_, io::Result<()>>;
}

/// A few bytes that are written in place. At first they are zero.
pub trait Page: Send + Sync {
    /// Fills `bytes` with what is at this offset.
    fn read_at(&self, bytes: &mut [u8], offset: usize) -> io::Result<()>;

    /// Writes at this offset. What is written survives the end of the process; a loss of power may
    /// undo it, or leave a part of it.
    fn write_at(&mut self, bytes: &[u8], offset: usize) -> io::Result<()>;

    /// Makes what was written survive a loss of power. May block.
    fn sync(&mut self) -> BoxFuture<'_, io::Result<()>>;
}

/// Changes of a tree that are made together, or not at all. Of two changes of one key the later
/// counts.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl WriteBatch {
    /// Gives a key this value.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.insert(key.into(), Some(value.into()));
    }

    /// Removes a key, if it exists.
    pub fn remove(&mut self, key: impl Into<Vec<u8>>) {
        self.0.insert(key.into(), None);
    }

    /// Each key with its new value; `None` where it is removed.
    pub fn into_changes(self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        self.0.into_iter()
    }
}
