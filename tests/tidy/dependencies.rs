//! Who may depend on whom: the table that keeps the core pure and each big dependency in one place.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Findings, repository::Repository, source::Source};

/// What the files below a directory, or one file, may name.
struct Rule {
    /// A path below `src` without its ending. The longest that matches counts.
    module: &'static str,
    /// Modules of this crate, itself always included.
    modules: &'static [&'static str],
    /// Crates, besides `std`, [`PLAIN`] and what tests alone may use.
    crates: &'static [&'static str],
}

/// Crates that tie their user to nothing: every module but `domain` may name them.
const PLAIN: &[&str] = &["bytes", "thiserror", "tracing"];

/// Asynchronous work; for the modules that act.
const TOKIO: &[&str] = &["futures", "tokio", "tokio_stream", "tokio_util"];

/// Crates that code may need only to be tested.
const FOR_TESTS: &[&str] = &["tempfile"];

/// The table. Pure modules come first, then the owners of one big dependency each, then what
/// acts, what speaks and what assembles.
const RULES: &[Rule] = &[
    rule("domain", &[], &["bytes", "thiserror"]),
    rule(
        "domain/cursor",
        &[],
        &["base64", "crc32c", "prost", "thiserror"],
    ),
    rule("clock", &["domain"], &[]),
    rule("docs", &[], &[]),
    rule("panics", &[], &[]),
    rule("blocking", &["panics"], &[]),
    rule("config", &["domain"], &["strsim", "toml"]),
    rule("memory", &["config"], &[]),
    rule(
        "proto",
        &[],
        &[
            "prost",
            "prost_reflect",
            "prost_types",
            "serde",
            "serde_json",
            "tonic",
        ],
    ),
    rule("net", &[], &["http", "hyper_util", "tonic", "tower"]),
    rule("changes", &["domain"], &[]),
    // The adapter: it knows neither shards nor how a group comes together.
    rule(
        "raft",
        &[
            "domain",
            "blocking",
            "changes",
            "net",
            "panics",
            "proto",
            "telemetry",
        ],
        &["crc32c", "openraft", "prost", "tonic"],
    ),
    rule(
        "raft/storage",
        &["domain", "blocking", "panics", "raft", "proto"],
        &["crc32c", "openraft", "prost", "rand"],
    ),
    rule("raft/storage/files", &["panics"], &["sled"]),
    rule(
        "watcher",
        &[
            "domain", "blocking", "config", "memory", "clock", "net", "panics",
        ],
        &[
            "backoff",
            "base64",
            "http",
            "http_body",
            "http_body_util",
            "hyper",
            "hyper_rustls",
            "hyper_util",
            "kube",
            "memchr",
            "rand",
            "rustls",
            "rustls_platform_verifier",
            "serde",
            "serde_json",
            "tower",
        ],
    ),
    rule("pipeline", &["domain", "memory"], &["serde", "serde_json"]),
    rule(
        "agent",
        &[
            "domain", "raft", "group", "net", "watcher", "panics", "pipeline", "proto", "clock",
        ],
        &["tonic"],
    ),
    rule("controller", &["domain", "raft", "clock"], &[]),
    rule(
        "group",
        &[
            "domain",
            "blocking",
            "config",
            "net",
            "raft",
            "controller",
            "proto",
            "telemetry",
            "clock",
        ],
        &["rand", "tonic", "uuid"],
    ),
    rule(
        "relay",
        &["domain", "memory", "net", "pipeline", "proto"],
        &["tonic"],
    ),
    // It asks `watcher` one thing: whether a kubeconfig carries credentials, to refuse it.
    rule(
        "api",
        &[
            "domain", "config", "memory", "changes", "raft", "group", "pipeline", "net", "proto",
            "watcher", "clock",
        ],
        &[
            "base64",
            "crc32c",
            "http",
            "http_body",
            "prost",
            "prost_types",
            "tonic",
            "tonic_health",
            "tonic_prost",
            "tonic_types",
            "tower",
            "uuid",
        ],
    ),
    // It cuts objects down without reading more of them than it must.
    rule("api/view", &["domain", "proto"], &["serde", "serde_json"]),
    // A user of the public API and of nothing else: what it can do, a client elsewhere can.
    rule(
        "client",
        &["proto"],
        &[
            "http",
            "prost_types",
            "rand",
            "tonic",
            "tonic_types",
            "uuid",
        ],
    ),
    rule("telemetry", &["config", "domain"], &["tracing_subscriber"]),
    rule(
        "sim",
        &["domain", "clock"],
        &[
            "axum",
            "base64",
            "chrono",
            "crc32c",
            "http",
            "rand",
            "serde",
            "serde_json",
            "uuid",
        ],
    ),
    rule(
        "server",
        &[
            "domain",
            "blocking",
            "config",
            "memory",
            "raft",
            "watcher",
            "pipeline",
            "agent",
            "controller",
            "group",
            "net",
            "panics",
            "relay",
            "api",
            "proto",
            "clock",
        ],
        &["tonic", "tonic_health", "tonic_reflection", "tonic_types"],
    ),
    rule(
        "cli",
        &[
            "client",
            "config",
            "domain",
            "server",
            "sim",
            "telemetry",
            "proto",
            "clock",
        ],
        &[
            "chrono",
            "clap",
            "clap_complete",
            "crc32c",
            "prost_types",
            "rustix",
            "serde",
            "serde_json",
            "serde_saphyr",
            "tempfile",
            "toml",
            "tonic",
            "unicode_width",
        ],
    ),
    // It asks the same services that a start would ask.
    rule(
        "cli/check",
        &[
            "cli", "config", "domain", "net", "proto", "raft", "server", "watcher",
        ],
        &["clap", "rustix", "serde", "tonic"],
    ),
];

/// Modules that wait for nothing, and therefore know no runtime.
const SYNCHRONOUS: &[&str] = &["domain", "clock", "config", "proto"];

const fn rule(
    module: &'static str,
    modules: &'static [&'static str],
    crates: &'static [&'static str],
) -> Rule {
    Rule {
        module,
        modules,
        crates,
    }
}

impl Rule {
    fn top(&self) -> &str {
        self.module.split('/').next().unwrap_or(self.module)
    }

    fn allows_crate(&self, name: &str) -> bool {
        let plain = self.top() != "domain" && PLAIN.contains(&name);
        let runtime = !SYNCHRONOUS.contains(&self.top()) && TOKIO.contains(&name);
        plain || runtime || self.crates.contains(&name)
    }

    fn allows_module(&self, name: &str) -> bool {
        name == self.top() || self.modules.contains(&name)
    }
}

/// The rule for a file; none for the crate's two roots, which only list or start modules.
fn rule_for(path: &str) -> Option<&'static Rule> {
    rule_in(RULES, path)
}

fn rule_in<'a>(rules: &'a [Rule], path: &str) -> Option<&'a Rule> {
    let module = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let within = |rule: &&Rule| {
        let rest = module.strip_prefix(rule.module);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    rules
        .iter()
        .filter(within)
        .max_by_key(|rule| rule.module.len())
}

#[test]
fn modules_depend_only_on_what_the_table_allows() {
    let repository = Repository::open();
    let external = repository.dependencies("dependencies");
    let mut findings = Findings::default();
    for source in repository.sources(&["src"]) {
        match rule_for(&source.path) {
            Some(rule) => check(&source, rule, &external, &mut findings),
            None if matches!(source.path.as_str(), "src/lib.rs" | "src/main.rs") => {}
            None => findings.add(
                source.at(0),
                "belongs to no module of the table; move it into one, or add one to RULES in \
                 tests/tidy/dependencies.rs",
            ),
        }
    }
    findings.expect_none();
}

fn check(source: &Source, rule: &Rule, external: &BTreeSet<String>, findings: &mut Findings) {
    let tests = source.tests();
    for path in source.paths() {
        let first = path.segments[0].as_str();
        let place = source.at(path.offset);
        if first == "crate" {
            let module = path.segments.get(1).map_or("", String::as_str);
            if !rule.allows_module(module) {
                findings.add(
                    place,
                    format!(
                        "`{}` must not depend on `crate::{module}`; it may use {:?}. Hand it in \
                         from `server`, or move the code",
                        rule.module, rule.modules
                    ),
                );
            }
        } else if first == "super" {
            if climbs_out(source, path.offset, &path.segments) {
                findings.add(
                    place,
                    "`super` leaves the module; write `crate::…`, so that the dependency shows",
                );
            }
        } else if external.contains(first) {
            let in_test = tests.iter().any(|range| range.contains(&path.offset));
            let of_tests = in_test && FOR_TESTS.contains(&first);
            if !of_tests && !rule.allows_crate(first) {
                findings.add(
                    place,
                    format!(
                        "`{}` must not name the crate `{first}`; the module that owns it should \
                         offer what is needed",
                        rule.module
                    ),
                );
            }
        }
    }
}

/// Whether a chain of `super` reaches the crate's root.
fn climbs_out(source: &Source, offset: usize, segments: &[String]) -> bool {
    let climbs = segments.iter().take_while(|s| *s == "super").count();
    let file = source.path.trim_start_matches("src/");
    let file = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = file.split('/').count();
    let around = |(_, range): &(String, std::ops::Range<usize>)| range.contains(&offset);
    climbs >= depth
        && climbs >= depth + source.inline_modules().iter().filter(|m| around(m)).count()
}

#[test]
fn the_table_names_only_what_exists() {
    let repository = Repository::open();
    let external = repository.dependencies("dependencies");
    let mut findings = Findings::default();
    for rule in RULES {
        for name in rule.crates.iter().filter(|name| !external.contains(**name)) {
            findings.add(
                "tests/tidy/dependencies.rs",
                format!(
                    "`{}` may name `{name}`, which Cargo.toml does not",
                    rule.module
                ),
            );
        }
        for name in rule.modules {
            if !RULES.iter().any(|other| other.module == *name) {
                findings.add(
                    "tests/tidy/dependencies.rs",
                    format!("`{}` may use `{name}`, which is no module", rule.module),
                );
            }
        }
    }
    findings.expect_none();
}

/// Crates that no source names, and why they stand in Cargo.toml.
const NAMED_NOWHERE: &[(&str, &str)] = &[
    ("k8s_openapi", "chooses the version that kube is built for"),
    ("openraft_macros", "pinned with openraft"),
    ("openraft_rt", "pinned with openraft"),
    ("openraft_rt_tokio", "pinned with openraft"),
];

/// What some sources name, for each rule: modules of this crate, and crates.
fn named<'a>(
    rules: &'a [Rule],
    sources: &[Source],
) -> BTreeMap<&'a str, (BTreeSet<String>, BTreeSet<String>)> {
    let mut named: BTreeMap<_, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for source in sources {
        let Some(rule) = rule_in(rules, &source.path) else {
            continue;
        };
        let (modules, crates) = named.entry(rule.module).or_default();
        for path in source.paths() {
            match (path.segments[0].as_str(), path.segments.get(1)) {
                ("crate", Some(module)) => drop(modules.insert(module.clone())),
                (first, _) => drop(crates.insert(first.to_owned())),
            }
        }
    }
    named
}

/// What rules grant and nobody uses.
fn unused_grants(rules: &[Rule], sources: &[Source]) -> Vec<String> {
    let named = named(rules, sources);
    let mut unused = Vec::new();
    for rule in rules {
        let (modules, crates) = named.get(rule.module).cloned().unwrap_or_default();
        let idle = |names: &[&str], used: &BTreeSet<String>| {
            let idle = names.iter().filter(|name| !used.contains(**name));
            idle.map(|name| format!("`{}` may use `{name}`, and does not", rule.module))
                .collect::<Vec<_>>()
        };
        unused.extend(idle(rule.modules, &modules));
        unused.extend(idle(rule.crates, &crates));
    }
    unused
}

/// Crates that no source names.
fn unused_crates(crates: &BTreeSet<String>, sources: &[Source]) -> Vec<String> {
    let named: BTreeSet<String> = sources
        .iter()
        .flat_map(|source| source.paths().into_iter())
        .map(|path| path.segments[0].clone())
        .collect();
    let excused = |name: &&String| NAMED_NOWHERE.iter().any(|(excused, _)| excused == name);
    let unused = crates.iter().filter(|name| !named.contains(*name));
    unused.filter(|name| !excused(name)).cloned().collect()
}

#[test]
fn what_the_table_grants_is_used() {
    let mut findings = Findings::default();
    for unused in unused_grants(RULES, &Repository::open().sources(&["src"])) {
        findings.add("tests/tidy/dependencies.rs", unused);
    }
    findings.expect_none();
}

#[test]
fn crates_of_cargo_toml_are_used() {
    let repository = Repository::open();
    let mut findings = Findings::default();
    let tests = ["tests", "benches", "deploy/clients/rust"];
    for (section, folders) in [("dependencies", &["src"][..]), ("dev-dependencies", &tests)] {
        // Tests within a module use crates that are for tests, too.
        let sources = repository.sources(&[folders, &["src"]].concat());
        for name in unused_crates(&repository.dependencies(section), &sources) {
            findings.add(
                "Cargo.toml",
                format!("[{section}] no source names `{name}`: remove it"),
            );
        }
    }
    findings.expect_none();
}

#[cfg(test)]
mod tests {
    use super::{BTreeSet, Source, rule, unused_crates, unused_grants};

    fn source(path: &str, text: &str) -> Source {
        Source::new(path.to_owned(), text.to_owned())
    }

    #[test]
    fn a_grant_that_nobody_uses_is_found() {
        let rules = [
            rule("a", &["b", "c"], &["tonic"]),
            rule("a/x", &["b"], &["prost"]),
        ];
        let sources = [
            source("src/a/mod.rs", "use crate::b::B;\n// crate::c\n"),
            source("src/a/x.rs", "fn f() { prost::f(tonic::g) }\n"),
        ];
        let expected = [
            "`a` may use `c`, and does not",
            "`a` may use `tonic`, and does not",
            "`a/x` may use `b`, and does not",
        ];
        assert_eq!(unused_grants(&rules, &sources), expected);
    }

    #[test]
    fn a_crate_that_nobody_names_is_found() {
        let crates = BTreeSet::from(["sled", "tonic", "openraft_rt"].map(str::to_owned));
        let sources = [source("src/a.rs", "// sled::open\nuse tonic::Status;\n")];
        assert_eq!(unused_crates(&crates, &sources), ["sled"]);
    }
}
