//! Words that say nothing or mean something else here, and calls that have no place.

use std::ops::Range;

use crate::{Findings, repository::Repository, source::Source};

/// Parts of type names that say nothing about the type.
const EMPTY_WORDS: &[&str] = &[
    "Data", "Helper", "Helpers", "Info", "Manager", "Util", "Utils",
];

/// Names that may appear only where a path begins with one of the given.
struct Confined {
    name: &'static str,
    only_in: &'static [&'static str],
    instead: &'static str,
}

const CONFINED: &[Confined] = &[
    Confined {
        name: "unbounded_channel",
        only_in: &[],
        instead: "every queue has a limit with a name and a defined outcome: `mpsc::channel(LIMIT)`",
    },
    Confined {
        name: "UnboundedSender",
        only_in: &[],
        instead: "every queue has a limit with a name and a defined outcome: `mpsc::channel(LIMIT)`",
    },
    Confined {
        name: "flush_async",
        only_in: &[],
        instead: "it can deadlock (sled #1308); the writer flushes",
    },
    Confined {
        name: "sled",
        only_in: &["src/raft/storage/files/"],
        instead: "ask the store",
    },
    Confined {
        name: "spawn_blocking",
        only_in: &[
            "src/blocking.rs",
            "src/cli/",
            "src/raft/storage/truncation_tests.rs",
            "benches/",
        ],
        instead: "use `blocking::blocking`, so that a simulated replica does it in its turn",
    },
    Confined {
        name: "SystemTime",
        only_in: &["src/clock.rs", "src/sim/", "tests/", "benches/"],
        instead: "use `clock::unix_now`",
    },
];

/// Where "node" is the right word: openraft's own names.
const NODE_IS_RIGHT: &[&str] = &["src/raft/"];

/// A comment with this on a line of code, or above it, switches these rules off there.
const EXCEPTION: &str = "tidy:";
/// The same for the one place where a test waits between two checks of a condition.
const POLL: &str = "poll:";

#[test]
fn type_names_say_what_the_type_is() {
    let mut findings = Findings::default();
    for source in Repository::open().all_sources() {
        for pair in source.words().windows(2) {
            let declares = matches!(pair[0].1, "struct" | "enum" | "trait" | "type" | "union");
            let (offset, name) = pair[1];
            let empty = camel_words(name)
                .into_iter()
                .find(|w| EMPTY_WORDS.contains(w));
            if let Some(word) = empty
                && declares
                && !source.is_marked(offset, EXCEPTION)
            {
                findings.add(
                    source.at(offset),
                    format!("`{name}`: \"{word}\" says nothing; name what it is or does"),
                );
            }
        }
    }
    findings.expect_none();
}

#[test]
fn our_processes_are_called_replicas() {
    let mut findings = Findings::default();
    for source in Repository::open().sources(&["src"]) {
        if NODE_IS_RIGHT
            .iter()
            .any(|path| source.path.starts_with(path))
        {
            continue;
        }
        for (offset, name) in source.words() {
            let snake = name.split('_').any(|word| matches!(word, "node" | "nodes"));
            let camel = camel_words(name)
                .iter()
                .any(|w| matches!(*w, "Node" | "Nodes"));
            if (snake || camel) && !source.is_marked(offset, EXCEPTION) {
                findings.add(
                    source.at(offset),
                    format!(
                        "`{name}`: our processes are replicas; for a Kubernetes Node say so with \
                         `// tidy: a Kubernetes Node`"
                    ),
                );
            }
        }
    }
    findings.expect_none();
}

#[test]
fn names_with_one_place_stay_there() {
    let mut findings = Findings::default();
    for source in Repository::open().all_sources() {
        for (offset, word) in source.words() {
            for rule in CONFINED.iter().filter(|rule| rule.name == word) {
                let right = rule
                    .only_in
                    .iter()
                    .any(|path| source.path.starts_with(path));
                if !right && !source.is_marked(offset, EXCEPTION) {
                    findings.add(
                        source.at(offset),
                        format!("`{word}` is not for here: {}", rule.instead),
                    );
                }
            }
        }
    }
    findings.expect_none();
}

#[test]
fn nothing_sleeps_where_a_condition_can_be_waited_for() {
    let mut findings = Findings::default();
    let sources = Repository::open().all_sources();
    for source in &sources {
        if runs_in_virtual_time(source, &sources) {
            continue;
        }
        let tests = source.tests();
        let paused = paused_ranges(source);
        for (offset, word) in source.words() {
            let called = source.code[offset + word.len()..].starts_with('(');
            let blocks = source.code[..offset].ends_with("thread::");
            let in_test = tests.iter().any(|range| range.contains(&offset));
            let virtual_time = paused.iter().any(|range| range.contains(&offset));
            if word == "sleep"
                && called
                && (blocks || in_test && !virtual_time)
                && !source.is_marked(offset, POLL)
            {
                findings.add(
                    source.at(offset),
                    "sleeps; wait for the condition itself, pause time (`start_paused = true`), \
                     or mark the one poll of a bounded wait with `// poll: <what for>`",
                );
            }
        }
    }
    findings.expect_none();
}

/// Whether a file belongs to a test program all of whose tests pause time: what they share may
/// sleep as well.
fn runs_in_virtual_time(source: &Source, sources: &[Source]) -> bool {
    let program = |path: &str| {
        let folder = path.strip_prefix("tests/")?.split_once('/')?.0;
        Some(folder.to_owned())
    };
    let Some(own) = program(&source.path) else {
        return false;
    };
    let siblings = sources
        .iter()
        .filter(|other| program(&other.path).as_ref() == Some(&own));
    let (mut tests, mut paused) = (0, 0);
    for sibling in siblings {
        tests += sibling.code.matches("tokio::test").count();
        // A test that makes its own runtimes.
        tests += sibling.code.matches("Builder::new_current_thread").count();
        paused += sibling.code.matches("start_paused").count();
    }
    tests > 0 && tests == paused
}

/// The bodies of tests whose time is virtual.
fn paused_ranges(source: &Source) -> Vec<Range<usize>> {
    let paused = |offset: usize| {
        let before = &source.code[..offset];
        let from = before.rfind(['}', ';']).unwrap_or(0);
        before[from..].contains("start_paused")
    };
    let functions = source.functions().into_iter();
    functions
        .filter(|function| paused(function.offset))
        .map(|function| function.body)
        .collect()
}

/// `LeaseTable` as `Lease`, `Table`.
fn camel_words(name: &str) -> Vec<&str> {
    let mut starts: Vec<_> = name
        .char_indices()
        .filter(|(_, c)| c.is_ascii_uppercase())
        .map(|(at, _)| at)
        .collect();
    starts.push(name.len());
    starts
        .windows(2)
        .map(|pair| &name[pair[0]..pair[1]])
        .collect()
}

#[test]
fn names_are_taken_apart_at_capitals() {
    assert_eq!(camel_words("LeaseTable"), ["Lease", "Table"]);
    assert_eq!(camel_words("lease_table"), Vec::<&str>::new());
}
