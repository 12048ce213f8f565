//! Why the data cannot be used, and what its owner can do about it.

use std::{io, path::Path};

/// Why the data cannot be used. The text does not name the directory: the caller does, and
/// adds the [`OpenError::remedy`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or read.
    #[error("it cannot be used ({0})")]
    Directory(io::Error),
    /// Another process has it.
    #[error("it is in use by another process{}", show_process(*.0))]
    InUse(Option<u32>),
    /// A newer version wrote it.
    #[error("its data is of format {found}, which is newer than format {known} of this version")]
    NewerFormat {
        /// The format number in the data directory.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// A version that is too old wrote it.
    #[error(
        "its data is of format {found}, which is not readable by this version (format {known})"
    )]
    OlderFormat {
        /// The format number in the data directory.
        found: u32,
        /// The oldest format known.
        known: u32,
    },
    /// It belongs to another replica.
    #[error("it belongs to replica {found:?}, this is {wanted:?}")]
    AnotherName {
        /// Whose data it is.
        found: String,
        /// The configured name.
        wanted: String,
    },
    /// It has forgotten something that it had promised to keep.
    #[error("entries or votes that this replica acknowledged are missing from its data ({0})")]
    Behind(String),
    /// It cannot be read.
    #[error("its data is damaged ({0})")]
    Damaged(String),
    /// The configured times contradict each other.
    #[error("the Raft times are not valid: {0}")]
    Timing(String),
    /// The disk does not do what it should.
    #[error("its data cannot be read or written ({0})")]
    Io(io::Error),
}

fn show_process(process: Option<u32>) -> String {
    process.map_or_else(String::new, |id| format!(", process {id}"))
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
        match error.kind() {
            InvalidData | InvalidInput | NotFound | Other | UnexpectedEof => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

impl OpenError {
    /// What to do about it, as sentences, given the data directory and the replica's name. Empty
    /// where there is nothing to advise.
    pub fn remedy(&self, data_dir: &Path, name: &str) -> String {
        let dir = data_dir.display();
        match self {
            Self::Directory(error) | Self::Io(error) => remedy_of(error, data_dir),
            Self::InUse(_) => "Stop that process, or give this one another --data-dir.".into(),
            Self::NewerFormat { .. } => {
                "Nothing was changed. Start the newer version of quorumwatch again.".into()
            }
            Self::OlderFormat { .. } => {
                "Nothing was changed. Upgrade through a version that reads \
                                         both formats."
                    .into()
            }
            Self::AnotherName { found, wanted } => {
                format!("Start with --name {found}, or with the --data-dir of {wanted}.")
            }
            Self::Behind(_) | Self::Damaged(_) => format!(
                "This replica does not start with it: it could contradict a vote or an entry that \
                 it has acknowledged. Reset it: `quorumwatch members remove {name} --endpoints \
                 OTHER-REPLICA`, then `rm -r {dir}/raft`, then start it; it joins again and \
                 receives everything from the others. A group of one has no other copy: skip the \
                 first step, and create its clusters again."
            ),
            Self::Timing(_) => String::new(),
        }
    }
}

/// What to do about an error of the file system.
pub(in crate::raft) fn remedy_of(error: &io::Error, data_dir: &Path) -> String {
    use io::ErrorKind::{
        NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let dir = data_dir.display();
    match error.kind() {
        StorageFull | QuotaExceeded => format!(
            "The disk is full: make room on the volume of {dir}, then start this replica again. \
             Its data is whole: do not remove it."
        ),
        ReadOnlyFilesystem => "The file system is read-only: mount it writable, or choose another \
                               directory with --data-dir."
            .into(),
        PermissionDenied => format!(
            "This process{} may not write there: `chown -R` the directory to that user, or choose \
             another with --data-dir.",
            own_user().map_or_else(String::new, |id| format!(" (user id {id})"))
        ),
        NotADirectory => "A part of the path is a file: choose a directory with --data-dir.".into(),
        _ => "Check the disk and its file system, then restart this replica.".into(),
    }
}

/// The user id of this process, as the kernel shows it.
fn own_user() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").ok().map(|own| own.uid())
}

#[cfg(test)]
mod tests {
    use super::{OpenError, Path, io};

    #[test]
    fn a_full_disk_is_no_damage_and_its_data_is_not_to_be_removed() {
        let full = OpenError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(full, OpenError::Io(_)), "{full}");
        let remedy = full.remedy(Path::new("/d"), "a");
        assert!(
            remedy.contains("make room") && !remedy.contains("rm -r"),
            "{remedy}"
        );
        let torn = OpenError::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert!(matches!(torn, OpenError::Damaged(_)), "{torn}");
        assert!(torn.remedy(Path::new("/d"), "a").contains("rm -r /d/raft"));
    }
}
