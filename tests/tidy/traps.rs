//! Every trap of list and watch has a line that says what is done about it and which test shows it,
//! and every test that a page names exists.

use crate::{
    Findings,
    failures::{code_spans, exists, rows},
    repository::Repository,
};

const TABLE: &str = "src/docs/traps.md";
const TRAPS: usize = 29;
const COLUMNS: usize = 5;

#[test]
fn every_trap_has_a_line_and_a_test() {
    let repository = Repository::open();
    let table = repository.read(TABLE).expect("the table exists");
    let mut findings = Findings::default();
    let mut expected = (1..=TRAPS).map(|number| format!("T{number}"));
    for (line, cells) in rows(&table) {
        let place = format!("{TABLE}:{line}");
        if cells.len() != COLUMNS || cells.iter().any(|cell| cell.is_empty()) {
            findings.add(place, format!("a line has {COLUMNS} filled cells"));
            continue;
        }
        let next = expected.next();
        if next.as_deref() != Some(cells[0]) {
            findings.add(
                &place,
                format!("{} stands where {next:?} belongs", cells[0]),
            );
        }
        let mut tests = code_spans(cells[COLUMNS - 1]).peekable();
        if tests.peek().is_none() {
            findings.add(&place, "names no test, like `tests/it/main.rs::name`");
        }
        let mut of_service = tests.filter(|test| test.starts_with("tests/it/"));
        if cells[3].contains("service") != of_service.next().is_some() {
            findings.add(&place, "a test of the service is one of tests/it");
        }
    }
    for missing in expected {
        findings.add(TABLE, format!("{missing} is missing"));
    }
    findings.expect_none();
}

const SWITCHES: &str = "src/sim/fault.rs";

#[test]
fn every_switch_of_the_simulated_api_server_is_used_against_the_service() {
    let repository = Repository::open();
    let switches = repository.read(SWITCHES).expect("the switches exist");
    let body = switches.split("pub enum Fault {").nth(1);
    let body = body
        .and_then(|rest| rest.split("\n}").next())
        .expect("it is an enum");
    let lines = body.lines().map(str::trim);
    let names = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    let names: Vec<_> = names
        .map(|line| line.split(['(', ',']).next().unwrap_or(line))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    let tests: String = repository
        .sources(&["tests/it"])
        .iter()
        .map(|source| source.code.as_str())
        .collect();
    let mut findings = Findings::default();
    for name in names {
        let switch = format!("Fault::{name}");
        let mut uses = tests.split(&switch).skip(1);
        if !uses.any(|rest| !rest.starts_with(char::is_alphanumeric)) {
            findings.add(
                SWITCHES,
                format!("no test of tests/it sets `Fault::{name}`"),
            );
        }
    }
    findings.expect_none();
}

#[test]
fn tests_that_pages_name_exist() {
    let repository = Repository::open();
    let mut findings = Findings::default();
    for page in repository.files(&["src/docs"], "md") {
        let path = page.strip_prefix(&repository.root).expect("it is ours");
        let path = path.to_string_lossy();
        let text = repository.read(&path).expect("it is there");
        for (line, cells) in rows(&text) {
            for test in cells.iter().flat_map(|cell| code_spans(cell)) {
                let names_a_test = (test.starts_with("src/") || test.starts_with("tests/"))
                    && test.contains(".rs::");
                if names_a_test && !exists(&repository, test) {
                    findings.add(
                        format!("{path}:{line}"),
                        format!("there is no test `{test}`"),
                    );
                }
            }
        }
    }
    findings.expect_none();
}
