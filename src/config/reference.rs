//! The reference of all keys, in Markdown: `src/docs/configuration.md`, which a test compares with
//! what is made here.

use std::fmt::Write as _;

use super::keys::{Absent, KEYS, Key, Kind};

const INTRODUCTION: &str = "\
# Configuration

Generated from the table in `src/config/keys/table.rs`; a test fails when it is out of date, and shows how to regenerate it.

`quorumwatch serve` and `quorumwatch check` read three places, in increasing precedence:

1. a TOML file, named by `--config` or `QUORUMWATCH_CONFIG`,
2. the environment,
3. flags.

A value from a later place replaces one from an earlier place, for every key, lists and `peers` included: nothing is merged. Tables (`[sources]`, `[[clusters]]`) can only be in the file.

- A variable that is empty counts as not set. Lists are joined by `,` in a variable; their flags are repeated, except `--peers`, which also takes `,`. A switch is `true` or `false` in a variable; its flag alone means `true`, and `--flag=false` means `false`.
- A key that does not exist is an error, and so is a value of the wrong kind. All problems are reported at once, with file and line, variable or flag, and the exit code is 2. An unknown variable that begins with `QUORUMWATCH_` causes a warning only: other programs share the environment.
- `quorumwatch check` shows the effective values and where each comes from; `quorumwatch check --connect` also connects to every peer and every cluster, and checks the permissions there.
- Changes take effect at the next start.

";

/// The whole reference.
pub(super) fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("| key | flag | variable | default |\n|---|---|---|---|\n");
    for key in KEYS.iter().filter(|key| key.flag.is_some()) {
        let (flag, variable) = (
            key.flag.unwrap_or_default(),
            key.variable.unwrap_or_default(),
        );
        let (path, absent) = (key.path, absent(key));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{path}` | `--{flag}` | `{variable}` | {absent} |");
    }
    for key in KEYS {
        describe(&mut text, key);
    }
    text
}

fn describe(text: &mut String, key: &Key) {
    let Key { path, about, .. } = key;
    let _ = write!(text, "\n## `{path}`\n\n{about}\n\n");
    let _ = writeln!(text, "- holds: {}", holds(key));
    let _ = writeln!(text, "- default: {}", absent(key));
    let _ = writeln!(text, "- why: {}", key.reason);
    if let (Some(flag), Some(variable)) = (key.flag, key.variable) {
        let _ = writeln!(text, "- flag: `--{flag}`, variable: `{variable}`");
    }
    let _ = writeln!(text, "- example: `{}`", key.example);
}

/// Kind, unit and limits.
fn holds(key: &Key) -> String {
    let unit = if key.unit.is_empty() {
        String::new()
    } else {
        format!(" ({})", key.unit)
    };
    match key.kind {
        Kind::Text | Kind::Path | Kind::Secret => format!("a string{unit}"),
        Kind::Number(least, most) => {
            let unit = key.unit;
            format!("a whole number of {unit}, from {least} to {most}")
        }
        Kind::Switch => "true or false".to_owned(),
        Kind::Choice(words) => format!("one of {}", words.join(", ")),
        Kind::Texts | Kind::Paths => format!("a list of strings{unit}"),
        Kind::Addresses | Kind::Labels => format!("a table of strings by name{unit}"),
        Kind::Named => "a table of tables, by name".to_owned(),
        Kind::Listed => "a list of tables".to_owned(),
        Kind::Resources => format!("a list of resources{unit}"),
    }
}

fn absent(key: &Key) -> String {
    match key.absent {
        Absent::Value(value) => format!("`{value}`"),
        Absent::Derived(from) => from.to_owned(),
        Absent::Nothing => "none".to_owned(),
        Absent::Required => "it must be written".to_owned(),
    }
}
