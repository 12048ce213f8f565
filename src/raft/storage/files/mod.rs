//! The disk that ships: sled, with a file for the high-water mark beside it. The only module that
//! names sled.
//!
//! sled 0.34 needs care, and gets it here: its directory is cleaned of what a killed open leaves
//! behind, it is opened on a thread of its own in case it panics, and its file is synced through a
//! handle of ours, because sled never syncs it.

mod page;
mod tree;

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use super::{
    OpenError,
    disk::{Disk, Volume},
};
use crate::panics::catch;
pub(super) use page::FilePage;
pub(super) use tree::SledTree;
use tree::sled_error;

/// sled's page cache; its default is 1 GiB, our data a few MB.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// sled lets go of its files a moment after its last handle is dropped, which matters to a replica
/// that is started again within one process.
const SLED_LOCK_TRIES: u32 = 100;
const SLED_LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The file system of this machine: the data is in files below the data directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files;

impl Disk for Files {
    fn open(&self, data_dir: &Path) -> Result<Volume, OpenError> {
        let (tree, page, lock) = open(data_dir)?;
        Ok(Volume {
            tree,
            page: Box::new(page),
            lock: Box::new(lock),
        })
    }
}

/// Locks, cleans, opens and syncs the files of a data directory.
pub(super) fn open(data_dir: &Path) -> Result<(Arc<SledTree>, FilePage, File), OpenError> {
    let dir = make_directories(data_dir)?;
    let lock = lock(&dir)?;
    let log_dir = dir.join("log");
    remove_unfinished_snapshots(&log_dir)?;
    let tree = SledTree::open(open_sled(&log_dir)?, &log_dir)?;
    let page = FilePage::open(&dir.join("fence"))?;
    sync_directories(&dir)?;
    Ok((Arc::new(tree), page, lock))
}

/// Makes `<data_dir>/raft` and `<data_dir>/raft/log`, readable by nobody else.
fn make_directories(data_dir: &Path) -> Result<PathBuf, OpenError> {
    let dir = data_dir.join("raft");
    let make = || {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir.join("log"))?;
        // A volume's own directory may belong to another user; its content is ours.
        drop(fs::set_permissions(data_dir, Permissions::from_mode(0o700)));
        fs::set_permissions(&dir, Permissions::from_mode(0o700))
    };
    make().map_err(OpenError::Directory)?;
    Ok(dir)
}

/// Our own lock, taken before anything in the directory is touched: sled's comes too late for
/// [`remove_unfinished_snapshots`].
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = open_or_create(&path).map_err(OpenError::Directory)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(OpenError::InUse(holder(&file))),
        Err(fs::TryLockError::Error(error)) => return Err(OpenError::Directory(error)),
    }
    // Who has it, for the message to the next one. A lock without a number is as good.
    let text = std::process::id().to_string();
    drop(
        file.set_len(0)
            .and_then(|()| file.write_all_at(text.as_bytes(), 0)),
    );
    Ok(file)
}

/// A file that nobody else can read.
fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// The id of the process that holds the lock, if it recorded one.
fn holder(file: &File) -> Option<u32> {
    let mut bytes = [0; 16];
    let length = file.read_at(&mut bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..length]).ok()?.parse().ok()
}

/// sled takes a `snap.*.generating` that a killed open left behind for its newest snapshot, and
/// then never opens again (sled #1527). The log is what counts; these files are only a short cut.
fn remove_unfinished_snapshots(log_dir: &Path) -> Result<(), OpenError> {
    for item in fs::read_dir(log_dir)? {
        let item = item?;
        let name = item.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::info!(file = %name, "removing an unfinished snapshot of the store");
            fs::remove_file(item.path())?;
        }
    }
    Ok(())
}

fn open_sled(log_dir: &Path) -> Result<sled::Db, OpenError> {
    let config = sled::Config::new()
        .path(log_dir)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    for _ in 0..SLED_LOCK_TRIES {
        let config = config.clone();
        // sled panics on some kinds of damage, and may leave its thread's state in disorder.
        let opened = thread::Builder::new()
            .name("open-store".into())
            .spawn(move || catch(|| config.open()))?
            .join();
        let Ok(opened) = opened else {
            return Err(OpenError::Damaged("opening it did not end".into()));
        };
        match opened {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(error))) if error.to_string().contains("acquire lock") => {
                thread::park_timeout(SLED_LOCK_PAUSE);
            }
            Ok(Err(error)) => return Err(sled_error(error).into()),
            Err(panic) => return Err(OpenError::Damaged(panic.message)),
        }
    }
    Err(OpenError::InUse(None))
}

/// A new file is found again after a loss of power only if its directory is synced too.
fn sync_directories(dir: &Path) -> io::Result<()> {
    let log_dir = dir.join("log");
    File::open(log_dir.join("conf"))?.sync_all()?;
    for directory in [log_dir.as_path(), dir, dir.parent().unwrap_or(dir)] {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
