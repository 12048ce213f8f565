//! An error prints its cause or has it as its source, not both, so that what prints a chain shows
//! each cause once.

use crate::{Findings, repository::Repository, source::Source};

const ATTRIBUTE: &str = "#[error(";

#[test]
fn an_error_prints_its_cause_or_has_it_as_its_source() {
    let mut findings = Findings::default();
    for source in Repository::open().sources(&["src"]) {
        for offset in repeating(&source) {
            let message = "prints its source: leave it out of the text, or rename the field";
            findings.add(source.at(offset), message);
        }
    }
    findings.expect_none();
}

/// The errors that print what they have as their source.
fn repeating(source: &Source) -> Vec<usize> {
    let heads = source.code.match_indices(ATTRIBUTE).map(|(at, _)| at);
    let repeats_source = |from: &usize| {
        let code = &source.code[*from..];
        let Some(end) = code.find(")]") else {
            return false;
        };
        let next = code[end..].find(ATTRIBUTE).unwrap_or(code.len() - end);
        let closed = code[end..].find("\n}").unwrap_or(code.len() - end);
        let fields = &code[end..end + next.min(closed)];
        let text = &source.text[*from..from + end];
        source_of(fields).is_some_and(|name| prints(text, &code[..end], &name))
    };
    heads.filter(repeats_source).collect()
}

/// The field that is the source: its name, or 0.
fn source_of(fields: &str) -> Option<String> {
    let marked = ["#[from]", "#[source]"].map(|mark| fields.split_once(mark));
    let Some((_, field)) = marked.into_iter().flatten().next() else {
        return fields.contains(" source: ").then(|| "source".to_owned());
    };
    let field = field.trim_start().trim_start_matches("pub ");
    let name = field.split_once(": ").map_or("", |(name, _)| name);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    Some(if is_name { name } else { "0" }.to_owned())
}

/// Whether an attribute prints a field: in its text, or in an argument.
fn prints(text: &str, code: &str, field: &str) -> bool {
    let in_text = [format!("{{{field}}}"), format!("{{{field}:")];
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let in_arguments = code.split(|c| !is_part(c)).any(|word| word == field);
    in_arguments || in_text.iter().any(|argument| text.contains(argument))
}

#[test]
fn what_prints_its_source_is_found_where_it_is_planted() {
    for error in [
        "#[error(\"a: {0}\")]\nA(#[from] io::Error),",
        "#[error(\"a: {0:?}\")]\nA(#[source] io::Error),",
        "#[error(\"a: {}\", show(.0))]\nA(#[from] io::Error),",
        "#[error(\"a: {source}\")]\nA {\n    source: io::Error,\n},",
        "#[error(\n\"a: {}\",\nshow(why)\n)]\nA {\n    #[source]\n    why: io::Error,\n},",
    ] {
        assert_eq!(planted(error), 1, "{error}");
    }
    for error in [
        "#[error(\"a\")]\nA(#[from] io::Error),",
        "#[error(transparent)]\nA(#[from] io::Error),",
        "#[error(\"a: {0}\")]\nA(io::Error),\n#[error(\"b\")]\nB(#[from] io::Error),",
        "#[error(\"a: {path}\")]\nA {\n    path: String,\n    source: io::Error,\n},",
    ] {
        assert_eq!(planted(error), 0, "{error}");
    }
}

fn planted(variants: &str) -> usize {
    let text = format!("enum Error {{\n{variants}\n}}\n");
    repeating(&Source::new("src/planted.rs".into(), text)).len()
}
