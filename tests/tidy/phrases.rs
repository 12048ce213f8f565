//! Phrases that the product's text does without: in comments, string literals, documents and
//! protocol definitions. Names in code are not prose.

use crate::{Findings, repository::Repository, source::Source};

/// A phrase, and what the field says.
struct Phrase {
    /// Words in lowercase; `*` at the end of the last stands for any ending.
    words: &'static str,
    instead: &'static str,
}

const fn phrase(words: &'static str, instead: &'static str) -> Phrase {
    Phrase { words, instead }
}

const REPORTS: &str = "\"reports\", \"logs\", \"shows\", \"notifies\", \"distinguishes\"";
const WHO: &str = "name the reader, the caller, the user, the replica";
const AGAIN: &str = "\"again\", \"reset\", \"restart\", \"reopen\"";
const NEVER: &str = "\"permanently\", \"never returns\", \"unlimited\"";
const DIRECTORY: &str = "\"directory\"";
const CONDITION: &str = "\"condition\", \"status\", \"succeeds\"";
const NOT_ONE: &str = "\"invalid\", \"is not a ...\", \"if there is none\"";
const COMMIT: &str = "\"commits\", \"flushes\", \"submits\"";
const CHECK: &str = "\"check\", \"compare\", \"process\"";
const PURPOSE: &str = "say what the text is: a description, a readable sentence";

const PHRASES: &[Phrase] = &[
    phrase("told", REPORTS),
    phrase("tell", REPORTS),
    phrase("tells", REPORTS),
    phrase("telling", REPORTS),
    phrase("says hello", REPORTS),
    phrase("whoever", WHO),
    phrase("somebody", WHO),
    phrase("asker*", "\"requester\", \"caller\""),
    phrase("anew", AGAIN),
    phrase("for ever", NEVER),
    phrase("in vain", "\"without effect\", \"fails\""),
    phrase("folder*", DIRECTORY),
    phrase("fare", CONDITION),
    phrase("fares", CONDITION),
    phrase("takes office", "\"became leader\""),
    phrase("leaves office", "\"lost leadership\""),
    phrase("that is none", NOT_ONE),
    phrase("what is none", NOT_ONE),
    phrase("is no folder", NOT_ONE),
    phrase("hands in", COMMIT),
    phrase("handed in", COMMIT),
    phrase("of before", "\"from before\", \"earlier\", \"prepared\""),
    phrase("of no more use", "\"obsolete\""),
    phrase("looked at", CHECK),
    phrase("looks at", CHECK),
    phrase("bear the loss", "\"fault tolerance\", \"tolerates\""),
    phrase("bears", "\"fault tolerance\", \"tolerates\""),
    phrase(
        "nobody listens",
        "\"nothing listens\", \"connection refused\"",
    ),
    phrase("no way leads", "\"unreachable\""),
    phrase("for people", PURPOSE),
    phrase("has it that", "state it"),
];

/// What holds prose. `tests/tidy` has the phrases themselves.
const DIRECTORIES: &[&str] = &["src", "tests", "benches", "deploy", "proto"];
const THIS_FILE: &str = "tests/tidy/phrases.rs";
/// Code that is generated, and built in place.
const FOREIGN: &[&str] = &["/.venv/", "_pb2", ".pb.go"];
/// A comment with this on a line, or above it, switches the rule off there.
const EXCEPTION: &str = "tidy:";

#[test]
fn prose_uses_the_words_of_the_field() {
    let repository = Repository::open();
    let mut findings = Findings::default();
    for source in repository.all_sources() {
        if source.path != THIS_FILE {
            check(&source, &prose_of_rust(&source), &mut findings);
        }
    }
    for ending in ["md", "proto", "go", "py", "sh", "yaml"] {
        for file in repository.files(DIRECTORIES, ending) {
            let source = Source::read(&repository.root, &file);
            if !FOREIGN.iter().any(|part| source.path.contains(part)) {
                check(&source, &prose_of(ending, &source.text), &mut findings);
            }
        }
    }
    let readme = Source::read(&repository.root, &repository.root.join("README.md"));
    check(&readme, &prose_of("md", &readme.text), &mut findings);
    findings.expect_none();
}

/// Adds a finding for each phrase in `prose`, which is as long as the text of `source`.
fn check(source: &Source, prose: &str, findings: &mut Findings) {
    for (offset, phrase) in found(prose) {
        let line = 1 + prose[..offset].matches('\n').count();
        let near = source.text.lines().skip(line.saturating_sub(2)).take(2);
        let is_excepted = near
            .filter_map(|line| line.split_once("//"))
            .any(|(_, comment)| comment.contains(EXCEPTION));
        if !is_excepted {
            findings.add(
                format!("{}:{line}", source.path),
                format!("\"{}\": better {}", phrase.words, phrase.instead),
            );
        }
    }
}

/// The phrases in a text, with their offsets. Words of one phrase may stand on two lines of a
/// comment or of a literal.
fn found(prose: &str) -> Vec<(usize, &'static Phrase)> {
    let words = words(prose);
    let mut found = Vec::new();
    for (index, (offset, first)) in words.iter().enumerate() {
        let first = first.to_lowercase();
        for phrase in PHRASES {
            let mut parts = phrase.words.split(' ');
            let begins = parts.next().is_some_and(|part| is_meant(part, &first));
            let rest = &words[index..];
            let continues = parts.zip(rest.windows(2)).all(|(part, pair)| {
                let end = pair[0].0 + pair[0].1.len();
                is_meant(part, &pair[1].1.to_lowercase()) && is_joint(&prose[end..pair[1].0])
            });
            if begins && continues && rest.len() >= phrase.words.split(' ').count() {
                found.push((*offset, phrase));
            }
        }
    }
    found
}

fn is_meant(part: &str, word: &str) -> bool {
    match part.strip_suffix('*') {
        Some(beginning) => word.starts_with(beginning),
        None => word == part,
    }
}

/// Whether two words with this between them belong together.
fn is_joint(between: &str) -> bool {
    let is_layout = |c: char| c.is_whitespace() || matches!(c, '/' | '!' | '\\' | '#');
    between.chars().all(is_layout)
}

/// Words with their offsets. What is part of an identifier, or the argument of a format string, is
/// not a word.
fn words(prose: &str) -> Vec<(usize, &str)> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '\'';
    let mut words = Vec::new();
    let mut rest = 0;
    while let Some(start) = prose[rest..].find(part).map(|at| rest + at) {
        let length = prose[start..].find(|c| !part(c));
        let end = length.map_or(prose.len(), |length| start + length);
        let word = &prose[start..end];
        let is_argument = prose[..start].ends_with('{');
        if !is_argument && word.chars().all(|c| c.is_alphabetic() || c == '\'') {
            words.push((start, word));
        }
        rest = end;
    }
    words
}

/// Comments and the inside of literals, everything else blank.
fn prose_of_rust(source: &Source) -> String {
    let code: Vec<_> = source.code.bytes().collect();
    let kept = |at: usize, c: char| {
        c == '\n'
            || code
                .get(at)
                .is_none_or(|b| *b != source.text.as_bytes()[at])
    };
    source
        .text
        .char_indices()
        .map(|(at, c)| {
            if kept(at, c) {
                c.to_string()
            } else {
                " ".repeat(c.len_utf8())
            }
        })
        .collect()
}

/// The prose of a file that is not Rust: of Markdown all but code, of a protocol definition all of
/// it, of others the comments.
fn prose_of(ending: &str, text: &str) -> String {
    let lines = text.split_inclusive('\n');
    match ending {
        "md" => prose_of_markdown(text),
        "proto" => text.to_owned(),
        "go" => lines.map(|line| comment_of(line, "//")).collect(),
        _ => lines.map(|line| comment_of(line, "#")).collect(),
    }
}

/// A line from its comment on, what precedes it blank.
fn comment_of(line: &str, marker: &str) -> String {
    let at = line.find(marker).unwrap_or(line.len());
    let (code, comment) = line.split_at(at);
    blank(code) + comment
}

fn prose_of_markdown(text: &str) -> String {
    let mut is_fenced = false;
    let mut prose = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        if is_fenced || is_fence {
            prose.push_str(&blank(line));
            continue;
        }
        for (index, part) in line.split('`').enumerate() {
            if index > 0 {
                prose.push(' ');
            }
            let is_code = index % 2 == 1;
            prose.push_str(&if is_code {
                blank(part)
            } else {
                part.to_owned()
            });
        }
    }
    prose
}

fn blank(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '\n' {
                c.to_string()
            } else {
                " ".repeat(c.len_utf8())
            }
        })
        .collect()
}

/// The findings of the rule in one planted Rust file.
fn planted(text: &str) -> Vec<&'static str> {
    let source = Source::new("src/planted.rs".into(), text.into());
    let found = found(&prose_of_rust(&source));
    found.into_iter().map(|(_, phrase)| phrase.words).collect()
}

#[test]
fn each_phrase_is_found_where_it_is_planted() {
    for phrase in PHRASES {
        let words = phrase.words.trim_end_matches('*');
        let in_two_lines = words.replace(' ', "\n/// ");
        let continued = words.replace(' ', " \\\n        ");
        for text in [
            format!("//! A module, {words} so.\n"),
            format!("fn f() {{\n    // Then {words}: so.\n}}\n"),
            format!("/// It is\n/// {in_two_lines}\n/// here.\nfn f() {{}}\n"),
            format!("fn f() {{\n    tracing::info!(\"{continued}\");\n}}\n"),
            format!("#[error(\"it was {words}\")]\nstruct E;\n"),
        ] {
            assert!(planted(&text).contains(&phrase.words), "{text}");
        }
        let markdown = format!("# Title\n\nA line, {words}.\n");
        let in_markdown = found(&prose_of("md", &markdown));
        assert!(!in_markdown.is_empty(), "{markdown}");
        let proto = format!("// What is {words}.\nmessage M {{}}\n");
        assert!(!found(&prose_of("proto", &proto)).is_empty(), "{proto}");
    }
}

#[test]
fn names_and_other_words_are_no_findings() {
    for text in [
        "fn is_told(told: bool, whoever: u8) { tell(told); }\n",
        "use crate::folder::Folder;\n",
        "// `tell_apart` and untold, welfare and farewell, before of.\n",
        "// In the office. Takes part.\nlet x = \"for everyone\";\n",
        "println!(\"{told:?} {folder}\");\n",
        "// It looks. At last, hands. In two.\n",
    ] {
        assert_eq!(planted(text), Vec::<&str>::new(), "{text}");
    }
    let markdown = "`src/x.rs::it_is_told` and `told`\n\n```text\ntold\n```\n";
    assert!(found(&prose_of("md", markdown)).is_empty());
}

#[test]
fn an_exception_is_marked() {
    let text = "// tidy: quoted from elsewhere\nlet x = \"whoever\";\nlet y = \"anew\";\n";
    let source = Source::new("src/planted.rs".into(), text.into());
    let mut findings = Findings::default();
    check(&source, &prose_of_rust(&source), &mut findings);
    assert_eq!(findings.0.len(), 1, "{:?}", findings.0);
}
