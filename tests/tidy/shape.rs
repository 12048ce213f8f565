//! Sizes, and what stands where.

use crate::{Findings, repository::Repository, source::Source};

/// As clippy counts: lines of code in the body, without comments and blank lines.
const FUNCTION_LINES_MAX: usize = 70;

/// Comments and tests included.
const FILE_LINES_MAX: usize = 600;

/// All that a visitor sees first.
const VISIBLE_ROOT: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "build.rs",
    "deploy",
    "proto",
    "src",
    "tests",
];

#[test]
fn functions_are_short() {
    let mut findings = Findings::default();
    for source in Repository::open().all_sources() {
        for function in source.functions() {
            let body = &source.code[function.body.clone()];
            let lines = body.lines().filter(|line| !line.trim().is_empty()).count();
            if lines > FUNCTION_LINES_MAX {
                findings.add(
                    source.at(function.offset),
                    format!(
                        "function `{}` has {lines} lines, the maximum is {FUNCTION_LINES_MAX}; \
                         give a part of it a name",
                        function.name
                    ),
                );
            }
        }
    }
    findings.expect_none();
}

#[test]
fn files_are_short() {
    let mut findings = Findings::default();
    for source in Repository::open().all_sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            findings.add(
                source.at(0),
                format!("{lines} lines, the maximum is {FILE_LINES_MAX}; split it by subject"),
            );
        }
    }
    findings.expect_none();
}

#[test]
fn the_root_shows_only_what_a_visitor_needs() {
    let mut findings = Findings::default();
    for name in Repository::open().visible_root() {
        if !VISIBLE_ROOT.contains(&name.as_str()) {
            findings.add(
                name,
                "does not belong at the root; move it into a directory, or use its hidden spelling",
            );
        }
    }
    findings.expect_none();
}

#[test]
fn every_proto_file_is_compiled() {
    let repository = Repository::open();
    let build = repository.read("build.rs").expect("build.rs exists");
    let protos = repository.files(&["proto"], "proto");
    let texts: Vec<_> = protos
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect();
    let mut findings = Findings::default();
    for path in &protos {
        let name = path.strip_prefix(repository.root.join("proto"));
        let name = name.expect("it was found there").to_string_lossy();
        let quoted = format!("\"{name}\"");
        let imported = texts.iter().any(|text| text.contains(&quoted));
        if !build.contains(&quoted) && !imported {
            findings.add(
                format!("proto/{name}:1"),
                "nobody compiles it; add it to PROTO_FILES in build.rs",
            );
        }
    }
    findings.expect_none();
}

#[test]
fn every_public_service_is_served() {
    let repository = Repository::open();
    let sources = repository.sources(&["src/api", "src/server"]);
    let top = repository.read("src/server.rs").unwrap_or_default();
    let code: String = sources.iter().map(|source| source.code.as_str()).collect();
    let code = code + &Source::new("src/server.rs".into(), top).code;
    if !code.contains("add_service") {
        return;
    }
    let mut findings = Findings::default();
    for path in repository.files(&["proto/quorumwatch/v1"], "proto") {
        let text = std::fs::read_to_string(&path).expect("proto files are readable");
        for name in text
            .lines()
            .filter_map(|line| line.strip_prefix("service "))
        {
            let name = name.trim_end_matches(['{', ' ']);
            if !code.contains(&format!("{name}Server")) {
                findings.add(
                    path.display().to_string(),
                    format!("`{name}` is not served; add `{name}Server` to the client listener"),
                );
            }
        }
    }
    findings.expect_none();
}
