//! What README.md tells people to do must be possible.

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

#[test]
fn commands_of_the_readme_exist() {
    let repository = Repository::open();
    // The README comes last.
    let Some(readme) = repository.read("README.md") else {
        return;
    };
    let aliases = repository.read(".cargo/config.toml").unwrap_or_default();
    let cli: String = repository
        .sources(&["src/cli"])
        .iter()
        .map(|source| source.code.as_str())
        .collect();
    let mut findings = Findings::default();
    for (line, command) in commands(&readme) {
        let words: Vec<_> = command.split_whitespace().collect();
        let place = format!("README.md:{line}");
        for (word, next) in words.iter().zip(words.iter().skip(1)) {
            if *word == "cargo" && !next.starts_with(['-', '+']) {
                let alias = aliases.lines().any(|l| l.starts_with(&format!("{next} =")));
                if !alias && !CARGO_COMMANDS.contains(next) {
                    findings.add(
                        place.clone(),
                        format!("`cargo {next}` does not exist; add it to .cargo/config.toml"),
                    );
                }
            }
            let ours = *word == "quorumwatch" || word.ends_with("/quorumwatch");
            if ours && is_name(next) && !cli.contains(&camel(next)) {
                findings.add(
                    place.clone(),
                    format!("`quorumwatch {next}` is no command of src/cli"),
                );
            }
        }
    }
    findings.expect_none();
}

#[test]
fn paths_of_the_readme_exist() {
    let repository = Repository::open();
    let Some(readme) = repository.read("README.md") else {
        return;
    };
    let mut findings = Findings::default();
    for (index, line) in readme.lines().enumerate() {
        let apart = |c: char| c.is_whitespace() || "()[]`'\"<>,;|".contains(c);
        for word in line.split(apart) {
            let word = word
                .trim_start_matches("./")
                .trim_end_matches(['.', ':', '/']);
            let word = word.split('#').next().unwrap_or_default();
            let path = OUR_FOLDERS.iter().any(|folder| word.starts_with(folder));
            let pattern = word.contains(['*', '{', '$', '…']);
            if path && !pattern && !repository.has(word) {
                findings.add(
                    format!("README.md:{}", index + 1),
                    format!("`{word}` does not exist"),
                );
            }
        }
    }
    findings.expect_none();
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
fn only_shell_blocks_hold_commands() {
    let readme = "a\n```bash\n# why\ncargo lint\n```\n```text\nno\n```\n";
    assert_eq!(commands(readme), [(4, "cargo lint")]);
    assert_eq!(camel("dry-run"), "DryRun");
}
