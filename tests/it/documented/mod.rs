//! Runs the commands of our documents.
//!
//! A fenced block after `<!-- run: NAME -->` is run; blocks of one name are one session, in a directory
//! of its own. What is shown after a command must be what it prints, see [`block::is_as_shown`].

mod block;
mod shell;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use self::{
    block::{Step, is_as_shown, names, steps},
    shell::Shell,
};

/// A person would look again for so long.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Sessions, with the test that runs each.
const SESSIONS: &[(&str, &str, &str)] = &[
    ("README.md", "by-hand", "here"),
    ("src/docs/operations.md", "group", "here"),
    (
        "deploy/clients/README.md",
        "build-python",
        "tests/clients/run.sh",
    ),
    (
        "deploy/clients/README.md",
        "build-go",
        "tests/clients/run.sh",
    ),
    (
        "deploy/clients/README.md",
        "build-rust",
        "tests/clients/run.sh",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_can_be_followed() {
    follow("README.md", "by-hand").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_can_be_operated_as_documented() {
    follow("src/docs/operations.md", "group").await;
}

#[test]
fn every_session_is_run() {
    let mut documents = vec!["README.md".to_owned()];
    for folder in ["src/docs", "deploy", "deploy/clients", "deploy/kubernetes"] {
        let entries = fs::read_dir(root().join(folder)).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let markdown = names.filter(|name| name.ends_with(".md"));
        documents.extend(markdown.map(|name| format!("{folder}/{name}")));
    }
    let mut found = Vec::new();
    for document in documents {
        let text = read(&document);
        found.extend(
            names(&text)
                .iter()
                .map(|name| (document.clone(), (*name).to_owned())),
        );
    }
    found.sort();
    let known = SESSIONS.iter();
    let mut known: Vec<_> = known
        .map(|(document, name, _)| ((*document).to_owned(), (*name).to_owned()))
        .collect();
    known.sort();
    assert_eq!(
        found, known,
        "a session without a test, or the other way round"
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap()
}

async fn follow(document: &str, name: &str) {
    let steps = steps(&read(document), name);
    assert!(!steps.is_empty(), "{document} has no session {name}");
    let mut shell = match Shell::start().await {
        Ok(shell) => shell,
        Err(reason) => {
            eprintln!("SKIPPED: {document} {name}: {reason}");
            return;
        }
    };
    for step in &steps {
        if let Err(wrong) = do_step(&mut shell, step).await {
            show_logs(&shell);
            panic!("{document}:{}: {wrong}", step.line);
        }
    }
    shell.is_idle().await;
}

/// Does as a person would: looks again where what is shown is not there yet, and presses Ctrl-C
/// once it has been seen.
async fn do_step(shell: &mut Shell, step: &Step) -> Result<(), String> {
    let Step { command, shown, .. } = step;
    let asks = command.starts_with("quorumwatch ") && !command.ends_with('&');
    let start = Instant::now();
    loop {
        let is_enough = |output: &str| {
            never_ends(command)
                && !output.trim().is_empty()
                && (shown.is_empty() || is_as_shown(shown, output, true))
        };
        let ended = shell.run(command, is_enough).await?;
        let fails = ended.code.is_some_and(|code| code != 0);
        let says_so =
            |line: &String| line.starts_with("quorumwatch: ") || line.starts_with("WRONG");
        let may_fail = shown.iter().any(says_so);
        let is_shown = shown.is_empty() || is_as_shown(shown, &ended.output, ended.code.is_none());
        if is_shown && fails == (fails && may_fail) {
            return Ok(());
        }
        let has_changed = !fails
            && [" add ", " remove "]
                .iter()
                .any(|word| command.contains(word));
        if !asks || has_changed || start.elapsed() > LOOK_AGAIN {
            let (code, output) = (ended.code, ended.output);
            return Err(format!(
                "`{command}` ended with {code:?} and printed\n{output}\nshown is\n{}",
                shown.join("\n")
            ));
        }
        // poll: a person looks again
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Whether a command goes on until Ctrl-C.
fn never_ends(command: &str) -> bool {
    let words: Vec<_> = command.split_whitespace().collect();
    let has = |word: &str| words.contains(&word);
    words.first() == Some(&"quorumwatch") && !has("--limit") && (has("events") || has("--watch"))
}

/// What replicas wrote to files, the end of it.
fn show_logs(shell: &Shell) {
    for entry in fs::read_dir(shell.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "log") {
            let log = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let end = &lines[lines.len().saturating_sub(20)..];
            eprintln!("--- {} ---\n{}", path.display(), end.join("\n"));
        }
    }
}
