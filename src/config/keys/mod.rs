//! The table of all keys: what a file, the environment and the flags may set. Everything else here
//! is derived from it: what is read, what is unknown, the flags of the command line, and the
//! reference in `src/docs/configuration.md`.

mod limits;
mod memory;
mod nearest;
mod table;

pub(super) use limits::*;
pub(super) use memory::*;
pub use nearest::nearest;
pub use table::KEYS;
pub(super) use table::*;

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands in the file. `*` is a name that the operator chooses, `[]` each item of a
    /// list: `limits.ring_bytes`, `sources.*.context`, `clusters[].name`.
    pub path: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// The unit of a number, or the meaning of a string if the kind does not give it. May be empty.
    pub unit: &'static str,
    /// The default.
    pub absent: Absent,
    /// The flag, without its dashes. Keys of tables have none.
    pub flag: Option<&'static str>,
    /// The environment variable. Keys of tables have none.
    pub variable: Option<&'static str>,
    /// The description in help and reference.
    pub about: &'static str,
    /// Why this default, and why these limits.
    pub reason: &'static str,
    /// One line of TOML that sets it, or the beginning of a table.
    pub example: &'static str,
}

/// A key of the file alone, to be filled in.
const KEY: Key = Key {
    path: "",
    kind: Kind::Text,
    unit: "",
    absent: Absent::Nothing,
    flag: None,
    variable: None,
    about: "",
    reason: "",
    example: "",
};

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// The path of a file or a directory.
    Path,
    /// A text that is never shown.
    Secret,
    /// A whole number within limits, both included.
    Number(u64, u64),
    /// True or false.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of paths.
    Paths,
    /// A table from names to `host:port`.
    Addresses,
    /// A table from names to texts.
    Labels,
    /// A table of tables, by name.
    Named,
    /// A list of tables.
    Listed,
    /// A list of resources, each a text or a table.
    Resources,
}

impl Kind {
    /// What is expected, for messages, with its article.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Text | Self::Path | Self::Secret | Self::Choice(_) => "a string",
            Self::Number(..) => "an integer",
            Self::Switch => "true or false",
            Self::Texts | Self::Paths => "a list of strings, like [\"a\", \"b\"]",
            Self::Addresses | Self::Labels => "a table of strings by name, like { a = \"b\" }",
            Self::Named => "a table of tables",
            Self::Listed => "a list of tables",
            Self::Resources => "a list of resources, like [\"v1/events\"]",
        }
    }

    /// Whether a flag or a variable holds several values, separated by ','.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Texts | Self::Paths | Self::Addresses)
    }
}

/// The default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// This value, as written in a variable.
    Value(&'static str),
    /// Derived from something else, which this text names.
    Derived(&'static str),
    /// Nothing: an empty list or table, or a text that is not there.
    Nothing,
    /// It must be written.
    Required,
}

/// The keys that may stand directly in a table, by the table's own path; `""` is the whole file.
pub(super) fn children(table: &str) -> impl Iterator<Item = (&'static str, &'static Key)> {
    KEYS.iter().filter_map(move |key| {
        let name = if table.is_empty() {
            key.path
        } else {
            key.path.strip_prefix(table)?.strip_prefix('.')?
        };
        (!name.contains(['.', '[', '*'])).then_some((name, key))
    })
}

/// The tables of the file that only group keys, like `limits`.
pub(super) fn groups() -> impl Iterator<Item = &'static str> {
    let group = |key: &'static Key| {
        let (group, rest) = key.path.split_once('.')?;
        (!group.contains('[') && !rest.contains('*') && !rest.contains('.')).then_some(group)
    };
    let mut found: Vec<_> = KEYS.iter().filter_map(group).collect();
    found.dedup();
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{KEYS, children, groups};

    #[test]
    fn every_key_is_found_in_its_table() {
        assert_eq!(
            groups().collect::<Vec<_>>(),
            ["limits", "watch", "memory", "log"]
        );
        let tables = [
            "",
            "limits",
            "watch",
            "memory",
            "log",
            "sources.*",
            "clusters[]",
            "clusters[].resources[]",
        ];
        let found: usize = tables.iter().map(|table| children(table).count()).sum();
        assert_eq!(found, KEYS.len());
    }

    #[test]
    fn paths_flags_and_variables_are_there_once() {
        let paths: BTreeSet<_> = KEYS.iter().map(|key| key.path).collect();
        assert_eq!(paths.len(), KEYS.len());
        let flags: Vec<_> = KEYS.iter().filter_map(|key| key.flag).collect();
        assert_eq!(flags.iter().collect::<BTreeSet<_>>().len(), flags.len());
        for key in KEYS {
            assert_eq!(key.flag.is_some(), key.variable.is_some(), "{}", key.path);
            let of_table = ["sources", "clusters"]
                .iter()
                .any(|t| key.path.starts_with(t));
            assert_eq!(key.flag.is_none(), of_table, "{}", key.path);
            assert!(
                !key.about.is_empty() && !key.reason.is_empty(),
                "{}",
                key.path
            );
            if let (Some(flag), Some(variable)) = (key.flag, key.variable) {
                let spelled = flag.replace('-', "_").to_uppercase();
                let many = if key.flag == Some("kubeconfig-dir") {
                    "S"
                } else {
                    ""
                };
                assert_eq!(variable, format!("QUORUMWATCH_{spelled}{many}"));
            }
        }
    }
}
