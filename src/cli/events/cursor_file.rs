//! A file that holds a cursor: whole at any moment, whatever happens to this process.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::Error;

pub(super) struct CursorFile {
    path: PathBuf,
    saved: Option<String>,
}

impl CursorFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, saved: None }
    }

    /// The cursor; `None` where there is no file yet.
    pub(super) fn read(&self) -> Result<Option<String>, Error> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|cursor| !cursor.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Told now, not after the first second of events.
                match fs::metadata(folder(&self.path)) {
                    Ok(_) => Ok(None),
                    Err(source) => Err(self.failed("keep the cursor in", source)),
                }
            }
            Err(source) => Err(self.failed("read the cursor from", source)),
        }
    }

    /// Keeps the cursor, unless it is the one that is kept already.
    pub(super) fn save(&mut self, cursor: Option<&str>) -> Result<(), Error> {
        let Some(cursor) = cursor.filter(|cursor| self.saved.as_deref() != Some(cursor)) else {
            return Ok(());
        };
        replace(&self.path, cursor).map_err(|source| self.failed("save the cursor in", source))?;
        self.saved = Some(cursor.to_owned());
        Ok(())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> Error {
        Error::File {
            action,
            path: self.path.display().to_string(),
            source,
        }
    }
}

/// Writes beside the file, then renames: a reader sees the old text or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder(path))?;
    writeln!(file, "{text}")?;
    file.persist(path)?;
    Ok(())
}

fn folder(path: &Path) -> &Path {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::CursorFile;

    #[test]
    fn a_folder_that_is_not_there_is_told_at_once() {
        assert!(
            CursorFile::new("/no/such/folder/cursor".into())
                .read()
                .is_err()
        );
    }

    #[test]
    fn a_cursor_reads_back_as_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let mut file = CursorFile::new(path.clone());
        assert_eq!(file.read().unwrap(), None);
        file.save(None).unwrap();
        assert!(!path.exists());
        file.save(Some("one")).unwrap();
        file.save(Some("two")).unwrap();
        assert_eq!(
            CursorFile::new(path).read().unwrap().as_deref(),
            Some("two")
        );
    }
}
