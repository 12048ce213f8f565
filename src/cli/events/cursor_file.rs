//! A file that holds a cursor: whole at any moment, whatever happens to this process. Nothing that
//! is not a cursor is ever overwritten.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use crate::cli::{Error, output};

/// The longest cursor that a replica takes.
const CURSOR_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// A file that holds a cursor.
pub(super) struct CursorFile {
    path: PathBuf,
    permissions: Option<Permissions>,
    saved: Option<String>,
}

impl CursorFile {
    /// The file, which need not exist yet. Its folder must: that is told now, not after the first
    /// second of events.
    pub(super) fn new(path: PathBuf) -> Result<Self, Error> {
        // The file behind a link is replaced, not the link.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let permissions = match fs::metadata(&path) {
            Ok(found) if !found.is_file() => {
                return Err(refused(&path, "it is not a regular file".into()));
            }
            Ok(found) => Some(found.permissions()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = fs::metadata(folder(&path));
                folder.map_err(|source| failed(&path, "keep the cursor in", source))?;
                None
            }
            Err(source) => return Err(failed(&path, "read the cursor from", source)),
        };
        Ok(Self {
            path,
            permissions,
            saved: None,
        })
    }

    /// The cursor; `None` where there is none yet.
    pub(super) fn read(&self) -> Result<Option<String>, Error> {
        let reading = |source| failed(&self.path, "read the cursor from", source);
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(reading)?,
        };
        let mut bytes = Vec::new();
        let mut limited = file.take(CURSOR_BYTES_MAX + 2);
        limited.read_to_end(&mut bytes).map_err(reading)?;
        let cursor = bytes.trim_ascii();
        if cursor.is_empty() {
            let path = self.path.display();
            output::note(&format!(
                "{path} is empty: beginning as if it were not there"
            ));
            return Ok(None);
        }
        let of_a_cursor = |b: &u8| b.is_ascii_alphanumeric() || b"-_,".contains(b);
        match std::str::from_utf8(cursor) {
            Ok(text) if cursor.iter().all(of_a_cursor) => Ok(Some(text.to_owned())),
            _ => Err(refused(
                &self.path,
                "it holds something other than a cursor".into(),
            )),
        }
    }

    /// Keeps the cursor, unless it is the one that is kept already.
    pub(super) fn save(&mut self, cursor: Option<&str>) -> Result<(), Error> {
        let Some(cursor) = cursor.filter(|cursor| self.saved.as_deref() != Some(cursor)) else {
            return Ok(());
        };
        let replaced = replace(&self.path, cursor, self.permissions.clone());
        replaced.map_err(|source| failed(&self.path, "save the cursor in", source))?;
        self.saved = Some(cursor.to_owned());
        Ok(())
    }

    /// The error where a replica refuses what the file holds.
    pub(super) fn refused(&self, why: &str) -> Error {
        refused(&self.path, why.to_owned())
    }
}

fn refused(path: &Path, why: String) -> Error {
    let path = path.display().to_string();
    Error::CursorFile { path, why }
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> Error {
    let path = path.display().to_string();
    Error::File {
        action,
        path,
        source,
    }
}

/// Writes beside the file, then renames: a reader sees the old text or the new one, also after a
/// power cut.
fn replace(path: &Path, text: &str, permissions: Option<Permissions>) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder(path))?;
    writeln!(file, "{text}")?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{CursorFile, Error};

    #[test]
    fn a_folder_that_is_not_there_is_told_at_once() {
        let error = CursorFile::new("/no/such/folder/cursor".into())
            .err()
            .unwrap();
        assert!(error.to_string().contains("keep the cursor in"), "{error}");
    }

    #[test]
    fn a_cursor_reads_back_as_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let mut file = CursorFile::new(path.clone()).unwrap();
        assert_eq!(file.read().unwrap(), None);
        file.save(None).unwrap();
        assert!(!path.exists());
        file.save(Some("one")).unwrap();
        file.save(Some("two")).unwrap();
        let file = CursorFile::new(path).unwrap();
        assert_eq!(file.read().unwrap().as_deref(), Some("two"));
    }

    #[test]
    fn a_file_that_holds_something_else_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        let long = "A".repeat(3 * 1024 * 1024);
        for text in ["my notes", "one\ntwo", "caf\u{e9}"] {
            fs::write(&path, text).unwrap();
            let error = CursorFile::new(path.clone()).unwrap().read().unwrap_err();
            assert!(matches!(error, Error::CursorFile { .. }), "{text}: {error}");
            assert_eq!(error.exit_code(), 2);
            assert!(
                error.to_string().contains("notes cannot be resumed from"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        // What is too long is for the replica to refuse; it is not read without end.
        fs::write(&path, long).unwrap();
        let read = CursorFile::new(path).unwrap().read().unwrap().unwrap();
        assert!(read.len() < 2 * 1024 * 1024 + 10);
        assert!(CursorFile::new("/dev/null".into()).is_err());
        assert!(CursorFile::new(folder.path().into()).is_err());
    }

    #[test]
    fn the_file_behind_a_link_is_replaced_and_the_link_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("cursor"), folder.path().join("link"));
        fs::write(&path, "one\n").unwrap();
        symlink(&path, &link).unwrap();
        CursorFile::new(link.clone())
            .unwrap()
            .save(Some("two"))
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
