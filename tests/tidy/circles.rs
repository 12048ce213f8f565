//! No circles: of two modules that lie side by side, one may use the other, not each the other, in
//! one step or in several. A directory counts with all that is in it. What a file shares with the
//! `mod.rs` of its own directory is theirs: they are one module.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Findings, repository::Repository, source::Source};

/// A module of the crate, by its path: `["raft", "storage", "writer"]`.
type Module = Vec<String>;

/// Who uses whom among the modules of one directory, and where.
type Uses = BTreeMap<(String, String), String>;

/// The modules of some files.
struct Tree<'a> {
    files: BTreeMap<Module, &'a Source>,
    /// Modules that exist for tests alone.
    for_tests: BTreeSet<Module>,
    /// What the names that a module imports stand for: `use` in a `mod.rs` hands a name on.
    imported: BTreeMap<(Module, String), Module>,
}

impl<'a> Tree<'a> {
    fn new(sources: &'a [Source]) -> Self {
        let files: BTreeMap<_, _> = sources.iter().map(|s| (module_of(&s.path), s)).collect();
        let mut tree = Self {
            for_tests: for_tests(&files),
            files,
            imported: BTreeMap::new(),
        };
        let mut imported = BTreeMap::new();
        for (module, source) in &tree.files {
            for path in source.paths() {
                let name = path.segments.last().cloned().unwrap_or_default();
                if let Some(target) = tree.resolve(module, &path.segments)
                    && target != *module
                {
                    imported.entry((module.clone(), name)).or_insert(target);
                }
            }
        }
        tree.imported = imported;
        tree
    }

    fn is_for_tests(&self, module: &[String]) -> bool {
        (1..=module.len()).any(|length| self.for_tests.contains(&module[..length]))
    }

    /// The module that a path leads to, as seen from `module`; `None` for other crates and locals.
    fn resolve(&self, module: &Module, segments: &[String]) -> Option<Module> {
        let climbs = segments.iter().take_while(|s| *s == "super").count();
        let (base, rest) = match segments.first()?.as_str() {
            "crate" => (&[][..], &segments[1..]),
            "self" => (&module[..], &segments[1..]),
            "super" => (
                &module[..module.len().saturating_sub(climbs)],
                &segments[climbs..],
            ),
            first => {
                let mut child = module.clone();
                child.push(first.to_owned());
                self.files.contains_key(&child).then_some(())?;
                (&module[..], segments)
            }
        };
        let mut found = base.to_vec();
        for name in rest {
            found.push(name.clone());
            if self.files.contains_key(&found) {
                continue;
            }
            found.pop();
            // A name that the module has from elsewhere.
            let handed_on = self.imported.get(&(found.clone(), name.clone()));
            return Some(handed_on.cloned().unwrap_or(found));
        }
        Some(found)
    }

    /// For each directory, who uses whom in it.
    fn uses(&self) -> BTreeMap<Module, Uses> {
        let mut folders: BTreeMap<Module, Uses> = BTreeMap::new();
        for (module, source) in &self.files {
            if self.is_for_tests(module) {
                continue;
            }
            let tests = source.tests();
            for path in source.paths() {
                if tests.iter().any(|range| range.contains(&path.offset)) {
                    continue;
                }
                let Some(target) = self.resolve(module, &path.segments) else {
                    continue;
                };
                let pairs = module.iter().zip(&target);
                let common = pairs.take_while(|(one, other)| one == other).count();
                if let (Some(user), Some(used)) = (module.get(common), target.get(common)) {
                    let uses = folders.entry(module[..common].to_vec()).or_default();
                    uses.entry((user.clone(), used.clone()))
                        .or_insert_with(|| source.at(path.offset));
                }
            }
        }
        folders
    }
}

/// `src/raft/mod.rs` is `raft`, `src/raft/wire.rs` is `raft::wire`.
fn module_of(path: &str) -> Module {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// Modules that are declared for tests: `#[cfg(test)] mod fixtures;`.
fn for_tests(files: &BTreeMap<Module, &Source>) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    for (module, source) in files {
        for after in source.text.split("#[cfg(test)]").skip(1) {
            let declared = after.trim_start().trim_start_matches("pub(crate) ");
            let declared = declared.trim_start_matches("pub(super) ");
            if let Some(rest) = declared.strip_prefix("mod ")
                && let Some((name, _)) = rest.split_once(';')
            {
                let mut child = module.clone();
                child.push(name.trim().to_owned());
                found.insert(child);
            }
        }
    }
    found
}

/// Whether one module reaches another by what modules use.
fn reaches(uses: &Uses, from: &str, to: &str) -> bool {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        if module == to {
            return true;
        }
        if reached.insert(module) {
            let used = uses.keys().filter(|(user, _)| user == module);
            next.extend(used.map(|(_, used)| used.as_str()));
        }
    }
    false
}

/// Every use that is part of a circle: where, and what it says.
fn circles(sources: &[Source]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (folder, uses) in Tree::new(sources).uses() {
        for ((user, used), place) in &uses {
            if reaches(&uses, used, user) {
                let within = folder.join("/");
                let text = format!(
                    "in src/{within}, `{user}` uses `{used}`, which uses `{user}` (perhaps by \
                     others): move what both need into a third module, or hand it in"
                );
                found.push((place.clone(), text));
            }
        }
    }
    found
}

#[test]
fn modules_side_by_side_form_no_circles() {
    let sources = Repository::open().sources(&["src"]);
    let mut findings = Findings::default();
    for (place, text) in circles(&sources) {
        findings.add(place, text);
    }
    findings.expect_none();
}

#[cfg(test)]
mod tests {
    use super::{Source, circles};

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let source =
            |(path, text): &(&str, &str)| Source::new(format!("src/{path}"), (*text).to_owned());
        let sources: Vec<_> = files.iter().map(source).collect();
        circles(&sources)
            .into_iter()
            .map(|(place, _)| place)
            .collect()
    }

    #[test]
    fn two_files_that_use_each_other_are_found() {
        let places = found(&[
            ("a/mod.rs", "mod x;\nmod y;\n"),
            ("a/x.rs", "use super::y::Y;\n"),
            ("a/y.rs", "use crate::a::x::X;\n"),
        ]);
        assert_eq!(places, ["src/a/x.rs:1", "src/a/y.rs:1"]);
    }

    #[test]
    fn a_circle_by_a_name_that_is_handed_on_is_found() {
        let places = found(&[
            ("a/mod.rs", "mod x;\nmod y;\nuse y::Y;\n"),
            ("a/x.rs", "use super::Y;\n"),
            ("a/y.rs", "fn y() { super::x::x(); }\n"),
        ]);
        assert_eq!(places, ["src/a/x.rs:1", "src/a/y.rs:1"]);
    }

    #[test]
    fn a_circle_of_directories_in_several_steps_is_found() {
        let places = found(&[
            ("a/mod.rs", ""),
            ("a/one.rs", "use crate::b::B;\n"),
            ("b/mod.rs", "use crate::c::C;\n"),
            ("c/mod.rs", "use crate::a::two::A;\n"),
            ("a/two.rs", ""),
        ]);
        assert_eq!(places.len(), 3, "{places:?}");
    }

    #[test]
    fn a_file_and_its_directory_are_one_and_tests_do_not_count() {
        let places = found(&[
            (
                "a/mod.rs",
                "mod x;\n#[cfg(test)]\nmod fixtures;\nuse x::X;\npub struct A;\n",
            ),
            ("a/x.rs", "use super::A;\nmod tests { use crate::b::B; }\n"),
            ("a/fixtures.rs", "use crate::b::B;\n"),
            ("b.rs", "use crate::a::A;\n"),
        ]);
        assert!(places.is_empty(), "{places:?}");
    }
}
