//! What our documents instruct must be possible, and their links must lead somewhere.
//! `tests/it/documented` runs what is marked for it.

use crate::{Findings, repository::Repository};

/// Commands that cargo knows by itself.
const CARGO_COMMANDS: &[&str] = &[
    "bench", "build", "check", "clean", "clippy", "doc", "fetch", "fmt", "install", "run", "test",
    "tree", "update",
];

/// A path that begins with one of these is one of ours.
const OUR_FOLDERS: &[&str] = &[
    ".cargo/", ".ci/", "benches/", "deploy/", "proto/", "src/", "tests/",
];

/// What looks like a path of ours, and is an object as kubectl names it.
const NOT_PATHS: &[&str] = &["deploy/web"];

/// A document, and where it is.
struct Document {
    path: String,
    text: String,
}

impl Document {
    /// The README and every page.
    fn all(repository: &Repository) -> Vec<Self> {
        let pages = repository.files(&["src/docs", "deploy", "tests"], "md");
        let pages = pages.iter().map(|page| {
            let path = page.strip_prefix(&repository.root).expect("it is ours");
            path.to_string_lossy().into_owned()
        });
        // What is built in place brings documents of its own.
        let ours = pages.filter(|path| !path.contains("/."));
        std::iter::once("README.md".to_owned())
            .chain(ours)
            .filter_map(|path| {
                let text = repository.read(&path)?;
                Some(Self { path, text })
            })
            .collect()
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }

    /// Where a link leads, seen from the root; nothing for one that goes up beyond it.
    fn resolve(&self, link: &str) -> Option<String> {
        let mut parts: Vec<_> = self.path.split('/').collect();
        parts.pop();
        for part in link.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()?),
                part => parts.push(part),
            }
        }
        Some(parts.join("/"))
    }
}

#[test]
fn commands_of_documents_exist() {
    let repository = Repository::open();
    let aliases = repository.read(".cargo/config.toml").unwrap_or_default();
    let cli: String = repository
        .sources(&["src/cli"])
        .iter()
        .map(|source| source.code.as_str())
        .collect();
    let mut findings = Findings::default();
    for document in Document::all(&repository) {
        for (line, command) in commands(&document.text) {
            let words: Vec<_> = command.split_whitespace().collect();
            for (at, (word, next)) in words.iter().zip(words.iter().skip(1)).enumerate() {
                if *word == "cargo" && !next.starts_with(['-', '+']) {
                    let alias = aliases.lines().any(|l| l.starts_with(&format!("{next} =")));
                    if !alias && !CARGO_COMMANDS.contains(next) {
                        findings.add(
                            document.at(line),
                            format!("`cargo {next}` does not exist; add it to .cargo/config.toml"),
                        );
                    }
                }
                // A namespace may have our name.
                let is_namespace = at > 0 && words[at - 1] == "-n";
                let ours =
                    !is_namespace && *word == "quorumwatch" || word.ends_with("/quorumwatch");
                if ours && is_name(next) && !cli.contains(&camel(next)) {
                    findings.add(
                        document.at(line),
                        format!("`quorumwatch {next}` is no command of src/cli"),
                    );
                }
            }
        }
    }
    findings.expect_none();
}

#[test]
fn paths_of_documents_exist() {
    let repository = Repository::open();
    let mut findings = Findings::default();
    for document in Document::all(&repository) {
        for (index, line) in document.text.lines().enumerate() {
            let apart = |c: char| c.is_whitespace() || "()[]`'\"<>,;|".contains(c);
            for word in line.split(apart) {
                let word = word
                    .trim_start_matches("./")
                    .trim_end_matches(['.', ':', '/']);
                let word = word.split('#').next().unwrap_or_default();
                let word = word.split("::").next().unwrap_or_default();
                let path = OUR_FOLDERS.iter().any(|folder| word.starts_with(folder));
                let pattern = word.contains(['*', '{', '$', '…']);
                if path && !pattern && !NOT_PATHS.contains(&word) && !repository.has(word) {
                    findings.add(document.at(index + 1), format!("`{word}` does not exist"));
                }
            }
        }
    }
    findings.expect_none();
}

#[test]
fn links_of_documents_lead_somewhere() {
    let repository = Repository::open();
    let mut findings = Findings::default();
    for document in Document::all(&repository) {
        for (line, link) in links(&document.text) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = match file {
                "" => Some(document.path.clone()),
                file => document.resolve(file),
            };
            let Some(path) = path.filter(|path| repository.has(path)) else {
                findings.add(document.at(line), format!("`{link}` leads nowhere"));
                continue;
            };
            let text = repository.read(&path).unwrap_or_default();
            if !heading.is_empty() && !anchors(&text).any(|anchor| anchor == heading) {
                findings.add(
                    document.at(line),
                    format!("{path} has no heading `{heading}`"),
                );
            }
        }
    }
    findings.expect_none();
}

/// The targets of links, with their lines; what is fenced is no link.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut is_fenced = false;
    for (index, line) in text.lines().enumerate() {
        is_fenced ^= line.trim_start().starts_with("```");
        let targets = line.split("](").skip(1);
        let targets = targets.filter_map(|rest| rest.split_once(')'));
        if !is_fenced {
            links.extend(targets.map(|(target, _)| (index + 1, target)));
        }
    }
    links
}

/// What headings are called in links.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|heading| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// The lines of fenced blocks for a shell, with their numbers.
fn commands(readme: &str) -> Vec<(usize, &str)> {
    let mut commands = Vec::new();
    let mut fence: Option<bool> = None;
    for (index, line) in readme.lines().enumerate() {
        let trimmed = line.trim_start();
        match (trimmed.strip_prefix("```"), fence) {
            (Some(language), None) => {
                let shell = matches!(language.trim(), "sh" | "bash" | "console" | "shell");
                fence = Some(shell);
            }
            (Some(_), Some(_)) => fence = None,
            (None, Some(true)) if !trimmed.starts_with('#') => commands.push((index + 1, trimmed)),
            _ => {}
        }
    }
    commands
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// `dry-run` as `DryRun`.
fn camel(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_uppercase() + rest
        })
        .collect()
}

#[test]
fn links_are_distinguished_from_text() {
    let text = "[a](b.md#c) and ](d)\n```text\n[x](y)\n```\n## What a Gap, means\n";
    assert_eq!(links(text), [(1, "b.md#c"), (1, "d")]);
    assert_eq!(anchors(text).collect::<Vec<_>>(), ["what-a-gap-means"]);
    let document = Document {
        path: "src/docs/x.md".into(),
        text: String::new(),
    };
    assert_eq!(document.resolve("../../deploy/y").unwrap(), "deploy/y");
    assert_eq!(document.resolve("../../../y"), None);
}

#[test]
fn only_shell_blocks_hold_commands() {
    let readme = "a\n```bash\n# why\ncargo lint\n```\n```text\nno\n```\n";
    assert_eq!(commands(readme), [(4, "cargo lint")]);
    assert_eq!(camel("dry-run"), "DryRun");
}
