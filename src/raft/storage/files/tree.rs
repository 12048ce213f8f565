//! The tree: sled's, in its own file.

use std::{fs::File, future::ready, io, path::Path};

use futures::future::BoxFuture;

use crate::raft::storage::disk::{KeyRange, Keys, Record, Records, Tree, WriteBatch};

/// sled's tree, and the file that it is in.
pub(in crate::raft::storage) struct SledTree {
    db: sled::Db,
    pub(in crate::raft::storage) tree: sled::Tree,
    /// sled's own `flush` asks the kernel to write but never syncs the device.
    data_file: File,
}

impl SledTree {
    /// The tree of an open database whose log is in this directory.
    pub(super) fn open(db: sled::Db, log_dir: &Path) -> io::Result<Self> {
        let tree = db.open_tree(b"raft").map_err(sled_error)?;
        let data_file = File::open(log_dir.join("db"))?;
        // A process that was killed may have left a vote or entries that only the kernel has. What
        // is read from now on is relied on without being written again: a loss of power must not
        // take it back.
        data_file.sync_data()?;
        Ok(Self {
            db,
            tree,
            data_file,
        })
    }

    fn flush_and_sync(&self) -> io::Result<()> {
        self.db.flush().map_err(sled_error)?;
        self.data_file.sync_data()
    }
}

impl Tree for SledTree {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let value = self.tree.get(key).map_err(sled_error)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn range(&self, (from, to): KeyRange) -> Records<'_> {
        let record =
            |(key, value): (sled::IVec, sled::IVec)| -> Record { (key.to_vec(), value.to_vec()) };
        let items = self.tree.range(from..to);
        Box::new(items.map(move |item| item.map(record).map_err(sled_error)))
    }

    fn keys(&self, (from, to): KeyRange) -> Keys<'_> {
        let keys = self.tree.range(from..to).keys();
        Box::new(keys.map(|key| key.map(|key| key.to_vec()).map_err(sled_error)))
    }

    fn apply(&self, batch: WriteBatch) -> io::Result<()> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        self.tree.apply_batch(changes).map_err(sled_error)
    }

    fn flush(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(ready(self.flush_and_sync()))
    }
}

pub(super) fn sled_error(error: sled::Error) -> io::Error {
    match error {
        // sled puts the text of the first error, with its structure, into another one.
        sled::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
            io::Error::new(io::ErrorKind::StorageFull, "no space left on device")
        }
        sled::Error::Io(error) => match error.kind() {
            io::ErrorKind::Other => error,
            kind => io::Error::from(kind),
        },
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}
