//! Every line of the table of failure messages must be provoked by a test that exists.

use crate::{Findings, repository::Repository};

const TABLE: &str = "src/docs/failures.md";

#[test]
fn every_failure_is_provoked_by_a_test() {
    let repository = Repository::open();
    let table = repository.read(TABLE).expect("the table exists");
    let mut findings = Findings::default();
    for (line, cells) in rows(&table) {
        let place = format!("{TABLE}:{line}");
        let columns = columns_at(&table, line);
        if cells.len() != columns || cells.iter().any(|cell| cell.is_empty()) {
            findings.add(place, format!("a line here has {columns} filled cells"));
            continue;
        }
        let tests: Vec<_> = code_spans(cells[columns - 1]).collect();
        if tests.is_empty() {
            findings.add(&place, "names no test, like `tests/it/main.rs::name`");
        }
        for test in tests {
            if !exists(&repository, test) {
                findings.add(&place, format!("there is no test `{test}`"));
            }
        }
    }
    findings.expect_none();
}

/// Whether `path::name` is a function under `#[test]`, or another test attribute.
pub(crate) fn exists(repository: &Repository, test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else {
        return false;
    };
    let Some(source) = repository.read(path) else {
        return false;
    };
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    let mut heads = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.trim_start_matches("async ").starts_with(&head));
    heads.any(|(at, _)| {
        let above = lines[..at].iter().rev();
        above
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .any(|line| line.contains("test"))
    })
}

/// The lines of all tables but for their heads, with their numbers. A `|` within a cell is `\|`.
pub(crate) fn rows(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut rows = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let head = lines.peek().is_some_and(|(_, next)| is_rule(next));
        if line.starts_with('|') && !head && !is_rule(line) {
            rows.push((index + 1, cells(line)));
        }
    }
    rows
}

/// How many columns the table around this line has.
fn columns_at(text: &str, line: usize) -> usize {
    let rule = text.lines().take(line).filter(|line| is_rule(line)).last();
    rule.map_or(0, |rule| cells(rule).len())
}

fn is_rule(line: &str) -> bool {
    line.starts_with("|--") || line.starts_with("| --")
}

fn cells(line: &str) -> Vec<&str> {
    let inner = line.trim().trim_start_matches('|');
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    let mut cells = Vec::new();
    let mut start = 0;
    for (at, _) in inner.match_indices('|') {
        if !inner[..at].ends_with('\\') {
            cells.push(inner[start..at].trim());
            start = at + 1;
        }
    }
    cells.push(inner[start..].trim());
    cells
}

/// What stands between backticks.
pub(crate) fn code_spans(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn rows_are_distinguished_from_heads() {
    let text = "| a | b |\n|---|---|\n| `x` | 1 \\| 2 |\ntext\n";
    assert_eq!(rows(text), [(3, vec!["`x`", "1 \\| 2"])]);
    assert_eq!(columns_at(text, 3), 2);
}
