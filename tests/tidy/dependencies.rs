//! Who may depend on whom: the table that keeps the core pure and each big dependency in one place.

use std::collections::BTreeSet;

use crate::{Findings, repository::Repository, source::Source};

/// What the files below a folder, or one file, may name.
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
const TOKIO: &[&str] = &[
    "arc_swap",
    "async_trait",
    "futures",
    "tokio",
    "tokio_stream",
    "tokio_util",
];

/// Crates that code may need only to be tested.
const FOR_TESTS: &[&str] = &["tempfile"];

/// The table. Pure modules come first, then the owners of one big dependency each, then what
/// acts, what speaks and what assembles.
const RULES: &[Rule] = &[
    rule("domain", &[], &["bytes", "thiserror"]),
    rule(
        "domain/cursor",
        &[],
        &["base64", "bytes", "crc32c", "prost", "thiserror"],
    ),
    rule("clock", &["domain"], &[]),
    rule("docs", &[], &[]),
    rule("config", &["domain"], &["strsim", "toml"]),
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
            "tonic_prost",
        ],
    ),
    rule(
        "raft",
        &["domain", "config", "peer", "proto", "clock"],
        &[
            "crc32c",
            "openraft",
            "openraft_macros",
            "prost",
            "rand",
            "tonic",
            "uuid",
        ],
    ),
    rule(
        "raft/storage",
        &["domain", "config", "raft", "proto"],
        &["crc32c", "openraft", "prost", "rand", "sled"],
    ),
    rule(
        "watcher",
        &["domain", "config", "clock"],
        &[
            "backoff",
            "base64",
            "http",
            "http_body",
            "http_body_util",
            "hyper_util",
            "k8s_openapi",
            "kube",
            "memchr",
            "rand",
            "rustls",
            "serde",
            "serde_json",
            "tower",
        ],
    ),
    rule(
        "pipeline",
        &["domain", "config", "clock"],
        &["memchr", "serde", "serde_json"],
    ),
    rule(
        "agent",
        &[
            "domain", "config", "raft", "peer", "watcher", "pipeline", "proto", "clock",
        ],
        &["tonic"],
    ),
    rule("controller", &["domain", "raft", "clock"], &[]),
    rule(
        "peer",
        &["domain", "config", "pipeline", "proto"],
        &["http", "tonic"],
    ),
    // It asks `watcher` one thing: whether a kubeconfig carries credentials, to refuse it.
    rule(
        "api",
        &[
            "domain",
            "config",
            "raft",
            "controller",
            "pipeline",
            "peer",
            "proto",
            "watcher",
            "clock",
        ],
        &[
            "base64",
            "crc32c",
            "http",
            "prost",
            "prost_types",
            "tonic",
            "tonic_health",
            "tonic_prost",
            "tonic_reflection",
            "tonic_types",
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
    rule(
        "telemetry",
        &["config", "domain", "clock"],
        &["axum", "chrono", "tracing_subscriber"],
    ),
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
            "config",
            "raft",
            "watcher",
            "pipeline",
            "agent",
            "controller",
            "peer",
            "api",
            "telemetry",
            "sim",
            "proto",
            "clock",
        ],
        &[
            "http",
            "rustls",
            "tonic",
            "tonic_health",
            "tonic_reflection",
            "tonic_types",
        ],
    ),
    rule(
        "cli",
        &[
            "client",
            "config",
            "domain",
            "peer",
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
            "http",
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
    // It asks whoever would be asked at the start what would come of it.
    rule(
        "cli/check",
        &[
            "cli", "config", "domain", "peer", "proto", "raft", "server", "watcher",
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
    let module = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let within = |rule: &&Rule| {
        let rest = module.strip_prefix(rule.module);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    RULES
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
