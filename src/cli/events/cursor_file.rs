//! A file that holds a cursor, a part on each line: whole at any moment, whatever happens to this
//! process. Nothing that is not a cursor is ever overwritten.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use crate::{
    cli::{Error, output},
    client::Cursor,
};

/// More than any replica accepts, with what separates the parts.
const CURSOR_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A file that holds a cursor.
pub(super) struct CursorFile {
    path: PathBuf,
    permissions: Option<Permissions>,
    saved: Cursor,
}

impl CursorFile {
    /// Opens the file, which need not exist yet. Its directory must: a missing one fails now, not
    /// after the first second of events.
    pub(super) fn new(path: PathBuf) -> Result<Self, Error> {
        // The file behind a link is replaced, not the link.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let permissions = match fs::metadata(&path) {
            Ok(found) if !found.is_file() => {
                return Err(refused(&path, "it is not a regular file".into()));
            }
            Ok(found) => Some(found.permissions()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = fs::metadata(directory(&path));
                directory.map_err(|source| failed(&path, "keep the cursor in", source))?;
                None
            }
            Err(source) => return Err(failed(&path, "read the cursor from", source)),
        };
        Ok(Self {
            path,
            permissions,
            saved: Cursor::default(),
        })
    }

    /// The cursor; `None` where there is none yet. The file is not written again before there is
    /// another one: a replica may still refuse this one.
    pub(super) fn read(&mut self) -> Result<Option<Cursor>, Error> {
        let reading = |source| failed(&self.path, "read the cursor from", source);
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(reading)?,
        };
        let mut bytes = Vec::new();
        let mut limited = file.take(CURSOR_BYTES_MAX + 1);
        limited.read_to_end(&mut bytes).map_err(reading)?;
        let cursor = bytes.trim_ascii();
        if cursor.is_empty() {
            let path = self.path.display();
            output::note(&format!(
                "{path} is empty: beginning as if it were not there"
            ));
            return Ok(None);
        }
        let of_a_cursor = |b: &u8| b.is_ascii_alphanumeric() || b"-_=,\n".contains(b);
        let is_whole = bytes.len() as u64 <= CURSOR_BYTES_MAX;
        match std::str::from_utf8(cursor) {
            Ok(text) if is_whole && cursor.iter().all(of_a_cursor) => {
                // On one line with commas between its parts where it comes from `-o cursor`.
                let parts = text.split(['\n', ',']).filter(|part| !part.is_empty());
                self.saved = Cursor::from_parts(parts.map(str::to_owned).collect());
                Ok(Some(self.saved.clone()))
            }
            _ => Err(refused(
                &self.path,
                "it holds something other than a cursor".into(),
            )),
        }
    }

    /// Saves the cursor, unless it is already saved.
    pub(super) fn save(&mut self, cursor: &Cursor) -> Result<(), Error> {
        if cursor.is_empty() || *cursor == self.saved {
            return Ok(());
        }
        let text = cursor.parts().join("\n");
        let replaced = replace(&self.path, &text, self.permissions.clone());
        replaced.map_err(|source| failed(&self.path, "save the cursor in", source))?;
        self.saved.clone_from(cursor);
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
    let mut file = tempfile::NamedTempFile::new_in(directory(path))?;
    writeln!(file, "{text}")?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory(path))?.sync_all()
}

fn directory(path: &Path) -> &Path {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{Cursor, CursorFile, Error};

    fn cursor(parts: &[&str]) -> Cursor {
        Cursor::from_parts(parts.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_directory_that_does_not_exist_is_an_error_at_once() {
        let error = CursorFile::new("/no/such/directory/cursor".into())
            .err()
            .unwrap();
        assert!(error.to_string().contains("keep the cursor in"), "{error}");
    }

    #[test]
    fn a_cursor_reads_back_as_saved() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        let mut file = CursorFile::new(path.clone()).unwrap();
        assert_eq!(file.read().unwrap(), None);
        file.save(&Cursor::default()).unwrap();
        assert!(!path.exists());
        file.save(&cursor(&["one"])).unwrap();
        file.save(&cursor(&["two", "d1", "d-_2"])).unwrap();
        let mut file = CursorFile::new(path.clone()).unwrap();
        let saved = cursor(&["two", "d1", "d-_2"]);
        assert_eq!(file.read().unwrap(), Some(saved));
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\nd1\nd-_2\n");
        fs::write(&path, "two,d1,d-_2\n").unwrap();
        let printed = CursorFile::new(path).unwrap().read().unwrap();
        assert_eq!(
            printed,
            Some(cursor(&["two", "d1", "d-_2"])),
            "as it is printed"
        );
    }

    #[test]
    fn a_file_that_holds_something_else_is_refused_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes");
        let long = "A".repeat(5 * 1024 * 1024);
        for text in ["my notes", "one;two", "caf\u{e9}", long.as_str()] {
            fs::write(&path, text).unwrap();
            let error = CursorFile::new(path.clone()).unwrap().read().unwrap_err();
            assert!(matches!(error, Error::CursorFile { .. }), "{error}");
            assert_eq!(error.exit_code(), 2);
            assert!(
                error.to_string().contains("notes cannot be resumed from"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert!(CursorFile::new("/dev/null".into()).is_err());
        assert!(CursorFile::new(directory.path().into()).is_err());
    }

    #[test]
    fn the_file_behind_a_link_is_replaced_and_the_link_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (
            directory.path().join("cursor"),
            directory.path().join("link"),
        );
        fs::write(&path, "one\n").unwrap();
        symlink(&path, &link).unwrap();
        let mut file = CursorFile::new(link.clone()).unwrap();
        file.save(&cursor(&["two"])).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
