//! Where the files are.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use crate::source::Source;

/// The checkout under test.
pub(crate) struct Repository {
    pub(crate) root: PathBuf,
}

impl Repository {
    pub(crate) fn open() -> Self {
        let root = env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
            .into();
        Self { root }
    }

    /// A file's text; `None` where it does not exist.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    /// Whether a file or directory exists.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Every Rust file below these directories.
    pub(crate) fn sources(&self, folders: &[&str]) -> Vec<Source> {
        self.files(folders, "rs")
            .iter()
            .map(|path| Source::read(&self.root, path))
            .collect()
    }

    /// Every Rust file that is ours.
    pub(crate) fn all_sources(&self) -> Vec<Source> {
        let mut sources = self.sources(&["src", "tests", "benches", "deploy/clients/rust"]);
        sources.push(Source::read(&self.root, &self.root.join("build.rs")));
        sources
    }

    /// Every file with this ending below these directories, in order.
    pub(crate) fn files(&self, folders: &[&str], ending: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in folders {
            collect(&self.root.join(folder), ending, &mut found);
        }
        found.sort();
        found
    }

    /// The crates of a section of Cargo.toml, as code spells them.
    pub(crate) fn dependencies(&self, section: &str) -> BTreeSet<String> {
        let manifest = self.read("Cargo.toml").expect("Cargo.toml exists");
        let header = format!("[{section}]");
        let lines = manifest.lines().skip_while(|line| *line != header).skip(1);
        lines
            .take_while(|line| !line.starts_with('['))
            .filter_map(|line| line.split_once('='))
            .map(|(name, _)| name.trim().replace('-', "_"))
            .filter(|name| !name.starts_with('#'))
            .collect()
    }

    /// What stands at the root without a leading dot, except what .gitignore lists.
    pub(crate) fn visible_root(&self) -> Vec<String> {
        let ignored = self.read(".gitignore").unwrap_or_default();
        let ignored: Vec<_> = ignored.lines().map(|line| line.trim_matches('/')).collect();
        let entries = fs::read_dir(&self.root).expect("the root is readable");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("the root is readable").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.') && !ignored.contains(&name.as_str()))
            .collect();
        names.sort();
        names
    }
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("source directories are readable").path();
        if path.is_dir() {
            collect(&path, ending, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == ending)
        {
            found.push(path);
        }
    }
}
