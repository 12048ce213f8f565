//! Checks a data directory that another process may be using, without changing it.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
};

/// Whether a running replica has the data. The lock is asked for and given back at once.
pub fn is_in_use(data_dir: &Path) -> io::Result<bool> {
    let file = match File::open(data_dir.join("raft").join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
