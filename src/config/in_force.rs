//! What is in force: each key with its value and where that comes from, as text.

use super::{
    keys::{self, Absent, KEYS, Key, Kind},
    origin::{Origin, Placed, quoted},
    value::{Layer, Value},
};

/// What a secret shows.
const HIDDEN: &str = "(hidden)";

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The key, with the names that were chosen: `sources.prod.context`, `clusters[prod].source`.
    pub key: String,
    /// Its value, as TOML would have it; `(hidden)` for a secret, and empty where there is none.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

pub(super) fn in_force(layer: &Layer) -> Vec<InForce> {
    let mut rows = Vec::new();
    for (name, key) in KEYS.iter().map(|key| (key.path, key)) {
        match layer.get(key) {
            Some(placed) => rows.extend(shown(key, name, placed)),
            // The whole file's keys only; those of tables are shown with their tables.
            None if key.flag.is_some() => rows.push(InForce {
                key: name.to_owned(),
                value: if key.kind.is_list() { "[]" } else { "" }.to_owned(),
                origin: Origin::Default,
            }),
            None => {}
        }
    }
    rows
}

fn shown(key: &Key, name: &str, placed: &Placed<Value>) -> Vec<InForce> {
    match (&placed.value, key.kind) {
        (Value::Table(tables), Kind::Named) => {
            let rows = tables.iter().flat_map(|(own, table)| {
                table_rows(&format!("{}.*", key.path), &format!("{name}.{own}"), table)
            });
            rows.collect()
        }
        (Value::List(items), Kind::Listed) => {
            let rows = items.iter().enumerate().flat_map(|(at, item)| {
                let own = item.value.table().and_then(|table| table.get("name"));
                let own = own.and_then(|own| own.value.text()).map(str::to_owned);
                let own = own.unwrap_or_else(|| (at + 1).to_string());
                table_rows(&format!("{}[]", key.path), &format!("{name}[{own}]"), item)
            });
            rows.collect()
        }
        (value, kind) => vec![InForce {
            key: name.to_owned(),
            value: if kind == Kind::Secret {
                HIDDEN.to_owned()
            } else {
                plain(value)
            },
            origin: placed.origin.clone(),
        }],
    }
}

fn table_rows(pattern: &str, name: &str, table: &Placed<Value>) -> Vec<InForce> {
    let Some(written) = table.value.table() else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for (own, key) in keys::children(pattern) {
        let name = format!("{name}.{own}");
        match (written.get(own), key.absent) {
            (Some(placed), _) => rows.extend(shown(key, &name, placed)),
            (None, Absent::Value(value)) => rows.push(InForce {
                key: name,
                value: match key.kind {
                    Kind::Resources => format!("[{value:?}]"),
                    _ => value.to_owned(),
                },
                origin: Origin::Default,
            }),
            (None, _) => {}
        }
    }
    rows
}

/// A value in one line.
fn plain(value: &Value) -> String {
    match value {
        Value::Refused => "(refused)".to_owned(),
        Value::Text(text) => quoted(text),
        Value::Number(number) => number.to_string(),
        Value::Switch(switch) => switch.to_string(),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| plain(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => {
            let entry = |(name, placed): (&String, &Placed<Value>)| {
                format!("{name} = {}", plain(&placed.value))
            };
            let entries: Vec<_> = table.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}
