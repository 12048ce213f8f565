//! The page: a file of its own, beside sled.

use std::{fs::File, future::ready, io, os::unix::fs::FileExt as _, path::Path};

use futures::future::BoxFuture;

use super::open_or_create;
use crate::raft::storage::disk::{PAGE_BYTES, Page};

/// An open file of one page.
pub(in crate::raft::storage) struct FilePage(File);

impl FilePage {
    /// Opens the file, or creates it where it does not exist.
    pub(in crate::raft::storage) fn open(path: &Path) -> io::Result<Self> {
        let file = open_or_create(path)?;
        if file.metadata()?.len() < PAGE_BYTES as u64 {
            file.set_len(PAGE_BYTES as u64)?;
        }
        // A process that was killed may have left a mark that only the kernel has.
        file.sync_all()?;
        Ok(Self(file))
    }
}

impl Page for FilePage {
    fn read_at(&self, bytes: &mut [u8], offset: usize) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset as u64)
    }

    fn write_at(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        self.0.write_all_at(bytes, offset as u64)
    }

    fn sync(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(ready(self.0.sync_data()))
    }
}
