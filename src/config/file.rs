//! The configuration file: TOML, compared with the table of keys line by line.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use super::{
    keys::{self, Key, Kind, nearest},
    origin::{Origin, Placed, Problems},
    value::{Layer, Table, Value, choice, number},
};

/// toml's error for a duplicate key: the one error after which the rest can be trusted.
const TWICE: &str = "duplicate key";
/// Longest file that is read: a hundred large kubeconfigs.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads the file. Whatever is wrong with it is a problem; `false` where so much is that what it
/// lacks means nothing.
pub(super) fn read(path: &Path, layer: &mut Layer, problems: &mut Problems) -> bool {
    let path: Arc<Path> = path.into();
    let whole = Origin::File(Arc::clone(&path), 0);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| {
        // A device may never end.
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    });
    match read {
        Ok(length) if length as u64 > FILE_BYTES_MAX => {
            let message =
                format!("the file is longer than {FILE_BYTES_MAX} bytes; is it the right one?");
            problems.add(&whole, "", message);
            return false;
        }
        Ok(_) => {}
        Err(error) => {
            problems.add(&whole, "", unreadable(&error));
            return false;
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(&text, path, layer, problems),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let line = line_of(error.as_bytes(), good);
            let message = "the file is not UTF-8 from here on; save it as UTF-8";
            problems.add(&Origin::File(path, line), "", message);
            false
        }
    }
}

fn unreadable(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "correct --config, or leave it out",
        io::ErrorKind::IsADirectory => "name a file, not a directory, with --config",
        io::ErrorKind::PermissionDenied => "give this user read permission",
        _ => "name a readable file with --config",
    };
    format!("the configuration file cannot be read: {error}; {advice}")
}

/// Reads TOML.
pub(super) fn parse(
    text: &str,
    path: Arc<Path>,
    layer: &mut Layer,
    problems: &mut Problems,
) -> bool {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        text,
        path,
        problems,
    };
    let broken = errors.iter().find(|error| error.message() != TWICE);
    if let Some(error) = broken {
        // Its consequences would be reported as well; the first error is the cause. The text itself
        // is not repeated: it may hold credentials.
        let at = error.span().map_or(0, |span| span.start);
        let message = format!(
            "this is not TOML: {}; correct it and try again",
            error.message()
        );
        let origin = reader.origin(at);
        reader.problems.add(&origin, "", message);
        return false;
    }
    for error in &errors {
        reader.stands_twice(error.span().unwrap_or_default());
    }
    reader.root(document.get_ref(), layer);
    true
}

/// Compares the file with the table of keys.
struct Reader<'a> {
    text: &'a str,
    path: Arc<Path>,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn origin(&self, offset: usize) -> Origin {
        Origin::File(
            Arc::clone(&self.path),
            line_of(self.text.as_bytes(), offset),
        )
    }

    fn add(&mut self, offset: usize, key: &str, message: impl Into<String>) {
        let origin = self.origin(offset);
        self.problems.add(&origin, key, message);
    }

    /// The document is valid except for duplicate keys, so this is the text of a key.
    fn stands_twice(&mut self, key: std::ops::Range<usize>) {
        let name = self.text.get(key.clone()).unwrap_or_default();
        let name = name.trim_matches(['"', '\'']).to_owned();
        let message = "duplicate key; keep one of them";
        self.add(key.start, &name, message);
    }

    fn root(&mut self, root: &DeTable<'_>, layer: &mut Layer) {
        for (name, value) in root {
            if let Some((_, key)) = keys::children("").find(|(known, _)| *known == name.get_ref()) {
                if let Some(value) = self.value(key, name.get_ref(), value) {
                    layer.insert(key, value);
                }
            } else if let Some(group) = keys::groups().find(|group| *group == name.get_ref()) {
                self.group(group, value, layer);
            } else {
                let known = keys::children("")
                    .map(|(name, _)| name)
                    .chain(keys::groups());
                self.unknown("", name, &known.collect::<Vec<_>>());
            }
        }
    }

    fn group(&mut self, group: &str, value: &Spanned<DeValue<'_>>, layer: &mut Layer) {
        let DeValue::Table(table) = value.get_ref() else {
            return self.wrong_kind(group, "a table", value);
        };
        for (name, value) in table {
            let path = format!("{group}.{}", name.get_ref());
            if let Some((_, key)) =
                keys::children(group).find(|(known, _)| *known == name.get_ref())
            {
                if let Some(value) = self.value(key, &path, value) {
                    layer.insert(key, value);
                }
            } else {
                let known = keys::children(group).map(|(name, _)| name);
                self.unknown(group, name, &known.collect::<Vec<_>>());
            }
        }
    }

    /// A value of the right kind; anything else is reported. `shown` is the key as messages name
    /// it.
    fn value(
        &mut self,
        key: &Key,
        shown: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Placed<Value>> {
        let offset = value.span().start;
        let read = match (key.kind, value.get_ref()) {
            (Kind::Text | Kind::Path | Kind::Secret, DeValue::String(text)) => {
                Ok(Value::Text(text.to_string()))
            }
            (Kind::Choice(words), DeValue::String(text)) => choice(text, words),
            (Kind::Number(least, most), DeValue::Integer(written)) => {
                number(&written.to_string(), whole(written), least, most)
            }
            (Kind::Switch, DeValue::Boolean(switch)) => Ok(Value::Switch(*switch)),
            (Kind::Texts | Kind::Paths, DeValue::Array(items)) => {
                let texts = items.iter().filter_map(|item| self.text(shown, item));
                Ok(Value::List(texts.collect()))
            }
            (Kind::Addresses | Kind::Labels, DeValue::Table(table)) => {
                Ok(Value::Table(self.texts_by_name(shown, table)))
            }
            (Kind::Named, DeValue::Table(table)) => Ok(self.tables_by_name(key, shown, table)),
            (Kind::Listed | Kind::Resources, DeValue::Array(items)) => {
                let tables = items.iter().enumerate();
                let item = |(at, item)| self.item(key, shown, at, item);
                Ok(Value::List(tables.filter_map(item).collect()))
            }
            _ => {
                self.wrong_kind(shown, key.kind.expected(), value);
                return None;
            }
        };
        match read {
            Ok(value) => Some(Placed::new(value, self.origin(offset))),
            Err(message) => {
                self.add(offset, shown, message);
                None
            }
        }
    }

    fn text(&mut self, shown: &str, item: &Spanned<DeValue<'_>>) -> Option<Placed<Value>> {
        if let DeValue::String(text) = item.get_ref() {
            let origin = self.origin(item.span().start);
            return Some(Placed::new(Value::Text(text.to_string()), origin));
        }
        self.wrong_kind(shown, "a string", item);
        None
    }

    fn texts_by_name(&mut self, shown: &str, table: &DeTable<'_>) -> Table {
        let mut texts = Table::new();
        for (name, value) in table {
            let shown = format!("{shown}.{}", name.get_ref());
            if let Some(text) = self.text(&shown, value) {
                texts.insert(name.get_ref().to_string(), text);
            }
        }
        texts
    }

    fn tables_by_name(&mut self, key: &Key, shown: &str, table: &DeTable<'_>) -> Value {
        let mut tables = Table::new();
        for (name, value) in table {
            let shown = format!("{shown}.{}", name.get_ref());
            let pattern = format!("{}.*", key.path);
            if let Some(table) = self.table(&pattern, &shown, value) {
                tables.insert(name.get_ref().to_string(), table);
            }
        }
        Value::Table(tables)
    }

    fn item(
        &mut self,
        key: &Key,
        shown: &str,
        at: usize,
        item: &Spanned<DeValue<'_>>,
    ) -> Option<Placed<Value>> {
        if key.kind == Kind::Resources && !matches!(item.get_ref(), DeValue::Table(_)) {
            return self.text(shown, item);
        }
        let name = ["name", "resource"]
            .iter()
            .find_map(|name| item.get_ref().as_table()?.get(*name)?.get_ref().as_str());
        let short = name.filter(|name| name.len() < 64 && !name.contains('\n'));
        let name = short.map_or_else(|| (at + 1).to_string(), str::to_owned);
        self.table(
            &format!("{}[]", key.path),
            &format!("{shown}[{name}]"),
            item,
        )
    }

    /// A table whose keys are those of `pattern`.
    fn table(
        &mut self,
        pattern: &str,
        shown: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Placed<Value>> {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_kind(shown, "a table", value);
            return None;
        };
        let mut read = Table::new();
        for (name, value) in table {
            let known = keys::children(pattern).find(|(known, _)| *known == name.get_ref());
            if let Some((known, key)) = known {
                let path = format!("{shown}.{known}");
                let refused = Placed::new(Value::Refused, self.origin(value.span().start));
                let value = self.value(key, &path, value).unwrap_or(refused);
                read.insert(known.to_owned(), value);
            } else {
                let known = keys::children(pattern).map(|(name, _)| name);
                self.unknown(shown, name, &known.collect::<Vec<_>>());
            }
        }
        Some(Placed::new(
            Value::Table(read),
            self.origin(value.span().start),
        ))
    }

    fn wrong_kind(&mut self, shown: &str, expected: &str, value: &Spanned<DeValue<'_>>) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date-time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = format!("must be {expected}; this is {found}");
        self.add(value.span().start, shown, message);
    }

    fn unknown(
        &mut self,
        table: &str,
        name: &Spanned<toml::de::DeString<'_>>,
        known: &[&'static str],
    ) {
        let written = name.get_ref();
        let join = |name: &str| {
            if table.is_empty() {
                name.to_owned()
            } else {
                format!("{table}.{name}")
            }
        };
        // A key in the wrong table is known under its last name.
        let elsewhere = || {
            let last = |key: &'static Key| key.path.rsplit_once('.').map_or(key.path, |(_, n)| n);
            let top = keys::KEYS.iter().filter(|key| key.flag.is_some());
            let found = top.clone().find(|key| last(key) == written.as_ref());
            found.map(|key| key.path.to_owned())
        };
        let meant = nearest(written, known.iter().copied())
            .map(join)
            .or_else(elsewhere);
        let message = match meant {
            Some(meant) => format!("unknown key; did you mean {meant}?"),
            None => format!("unknown key; the known keys are {}", known.join(", ")),
        };
        let start = name.span().start;
        self.add(start, &join(written), message);
    }
}

fn whole(written: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(written.as_str(), written.radix()).ok()
}

/// The line of an offset, from 1.
fn line_of(text: &[u8], offset: usize) -> usize {
    text.iter().take(offset).filter(|b| **b == b'\n').count() + 1
}
