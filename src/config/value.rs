//! Values as they were written, of the right kind, each with its origin.

use std::collections::BTreeMap;

use super::{
    keys::{Absent, KEYS, Key, Kind},
    origin::{Origin, Placed, Problems, quoted},
};

/// What was written.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Switch(bool),
    List(Vec<Placed<Self>>),
    Table(Table),
    /// In a table: an invalid value, already reported.
    Refused,
}

/// A table of the file, by name.
pub(super) type Table = BTreeMap<String, Placed<Value>>;

/// Everything that was written in one place, or in all of them: values by the path of their key.
#[derive(Clone, Default)]
pub(super) struct Layer(BTreeMap<&'static str, Placed<Value>>);

impl Layer {
    /// The default.
    pub(super) fn defaults() -> Self {
        let mut layer = Self::default();
        let mut none = Problems::default();
        for key in KEYS.iter().filter(|key| key.flag.is_some()) {
            if let Absent::Value(text) = key.absent {
                let written = vec![text.to_owned()];
                layer.read(key, written, &Origin::Default, &mut none);
            }
        }
        debug_assert!(none.is_empty(), "{none:?}");
        layer
    }

    /// Sets a key from a flag or a variable.
    pub(super) fn read(
        &mut self,
        key: &'static Key,
        written: Vec<String>,
        origin: &Origin,
        problems: &mut Problems,
    ) {
        let value = match key.kind {
            Kind::Addresses => addresses(written, origin, problems),
            Kind::Texts | Kind::Paths => {
                let texts = written.into_iter().map(Value::Text);
                let placed = texts.map(|value| Placed::new(value, origin.clone()));
                Value::List(placed.collect())
            }
            // Of a flag that is given twice, the last counts, as for most programs.
            _ => match scalar(
                key.kind,
                &written.into_iter().next_back().unwrap_or_default(),
            ) {
                Ok(value) => value,
                Err(message) => return problems.add(origin, key.path, message),
            },
        };
        self.insert(key, Placed::new(value, origin.clone()));
    }

    pub(super) fn insert(&mut self, key: &'static Key, value: Placed<Value>) {
        self.0.insert(key.path, value);
    }

    /// Values of `stronger` replace those here, including whole lists and tables.
    pub(super) fn overlay(&mut self, stronger: Self) {
        self.0.extend(stronger.0);
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Placed<Value>> {
        self.0.get(key.path)
    }

    pub(super) fn text(&self, key: &Key) -> Option<Placed<&str>> {
        let placed = self.get(key)?;
        Some(placed.with(placed.value.text()?))
    }

    /// The number of a key that has a default.
    pub(super) fn number(&self, key: &Key) -> u64 {
        match self.get(key).map(|placed| &placed.value) {
            Some(Value::Number(number)) => *number,
            // Only if it was invalid, and already reported.
            _ => 0,
        }
    }

    pub(super) fn switch(&self, key: &Key) -> bool {
        matches!(self.get(key), Some(placed) if placed.value == Value::Switch(true))
    }

    pub(super) fn texts(&self, key: &Key) -> Vec<Placed<&str>> {
        self.get(key)
            .map(|placed| placed.value.texts())
            .unwrap_or_default()
    }

    pub(super) fn table(&self, key: &Key) -> Option<Placed<&Table>> {
        let placed = self.get(key)?;
        Some(placed.with(placed.value.table()?))
    }

    pub(super) fn list(&self, key: &Key) -> &[Placed<Value>] {
        self.get(key)
            .map(|placed| placed.value.list())
            .unwrap_or_default()
    }
}

impl Value {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn table(&self) -> Option<&Table> {
        match self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> &[Placed<Self>] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }

    pub(super) fn texts(&self) -> Vec<Placed<&str>> {
        let text = |item: &'_ Placed<Self>| item.origin.clone();
        let items = self.list().iter();
        items
            .filter_map(|item| Some(Placed::new(item.value.text()?, text(item))))
            .collect()
    }
}

/// The text of a table's entry.
pub(super) fn text_in<'a>(table: &'a Table, name: &str) -> Option<Placed<&'a str>> {
    let placed = table.get(name)?;
    Some(placed.with(placed.value.text()?))
}

/// Reads one value of a flag or a variable.
fn scalar(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Number(least, most) => number(text, text.parse().ok(), least, most),
        Kind::Switch => match text {
            "true" | "1" => Ok(Value::Switch(true)),
            "false" | "0" => Ok(Value::Switch(false)),
            _ => Err(format!("{} is neither true nor false", quoted(text))),
        },
        _ if text.is_empty() => Err("is empty; give a value, or leave it out".to_owned()),
        Kind::Choice(words) => choice(text, words),
        _ => Ok(Value::Text(text.to_owned())),
    }
}

/// A number within limits.
pub(super) fn number(
    text: &str,
    read: Option<u64>,
    least: u64,
    most: u64,
) -> Result<Value, String> {
    match read {
        Some(number) if (least..=most).contains(&number) => Ok(Value::Number(number)),
        _ => Err(format!(
            "{} is not an integer from {least} to {most}",
            // Digits need no quotes.
            quoted(text).trim_matches('"')
        )),
    }
}

/// One of some words.
pub(super) fn choice(text: &str, words: &[&str]) -> Result<Value, String> {
    if words.contains(&text) {
        Ok(Value::Text(text.to_owned()))
    } else {
        Err(format!(
            "{} is not one of {}",
            quoted(text),
            words.join(", ")
        ))
    }
}

/// `name=host:port` each.
fn addresses(written: Vec<String>, origin: &Origin, problems: &mut Problems) -> Value {
    let mut table = Table::new();
    for item in written {
        let Some((name, address)) = item.split_once('=') else {
            let item = quoted(&item);
            problems.add(
                origin,
                "peers",
                format!("{item} is not of the form name=host:port"),
            );
            continue;
        };
        let (name, address) = (name.trim().to_owned(), address.trim().to_owned());
        let placed = Placed::new(Value::Text(address), origin.clone());
        if table.insert(name.clone(), placed).is_some() {
            let name = quoted(&name);
            problems.add(
                origin,
                "peers",
                format!("{name} is named twice; name each replica once"),
            );
        }
    }
    Value::Table(table)
}
