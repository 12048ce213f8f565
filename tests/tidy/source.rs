//! Reads Rust source just well enough for the rules: where its comments, strings, paths, functions
//! and inline modules are. It is not a parser: what it cannot read it leaves out.

use std::{fs, ops::Range, path::Path};

/// One file.
pub(crate) struct Source {
    /// Relative to the repository, with `/`.
    pub(crate) path: String,
    /// As it is on disk.
    pub(crate) text: String,
    /// The text with comments blanked and the inside of literals filled with quotes, byte for byte
    /// in the same place.
    pub(crate) code: String,
}

/// A path in code, like `crate::domain::id` or `tokio::select`.
pub(crate) struct CodePath {
    pub(crate) offset: usize,
    pub(crate) segments: Vec<String>,
}

/// A function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    /// Where `fn` is.
    pub(crate) offset: usize,
    /// What is between its braces.
    pub(crate) body: Range<usize>,
}

impl Source {
    pub(crate) fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("source files are readable");
        let relative = path.strip_prefix(root).expect("files are below the root");
        let path = relative.to_string_lossy().replace('\\', "/");
        Self::new(path, text)
    }

    pub(crate) fn new(path: String, text: String) -> Self {
        let code = blank(&text);
        Self { path, text, code }
    }

    /// The line of an offset, counted from one.
    pub(crate) fn line(&self, offset: usize) -> usize {
        1 + self.code.as_bytes()[..offset]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
    }

    /// `path:line` of an offset.
    pub(crate) fn at(&self, offset: usize) -> String {
        format!("{}:{}", self.path, self.line(offset))
    }

    /// Whether a comment with this word stands on the line of `offset` or on the one above.
    pub(crate) fn is_marked(&self, offset: usize, marker: &str) -> bool {
        let line = self.line(offset);
        let near = self.text.lines().skip(line.saturating_sub(2)).take(2);
        near.filter_map(|line| line.split_once("//"))
            .any(|(_, comment)| comment.contains(marker))
    }

    /// Every identifier and keyword with its offset.
    pub(crate) fn words(&self) -> Vec<(usize, &str)> {
        let mut words = Vec::new();
        let mut start = None;
        for (offset, byte) in self.code.bytes().chain([b' ']).enumerate() {
            match (start, is_word(byte)) {
                (None, true) => start = Some(offset),
                (Some(from), false) => {
                    words.push((from, &self.code[from..offset]));
                    start = None;
                }
                _ => {}
            }
        }
        words
    }

    /// Functions that have a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let words = self.words();
        let pairs = words.windows(2).filter(|pair| {
            let between = &self.code[pair[0].0 + pair[0].1.len()..pair[1].0];
            pair[0].1 == "fn" && between.trim().is_empty()
        });
        pairs
            .filter_map(|pair| {
                let open = self.body_start(pair[1].0)?;
                Some(Function {
                    name: pair[1].1.to_owned(),
                    offset: pair[0].0,
                    body: open + 1..self.closing(open),
                })
            })
            .collect()
    }

    /// The insides of inline modules, with their names.
    pub(crate) fn inline_modules(&self) -> Vec<(String, Range<usize>)> {
        let words = self.words();
        let named = words.windows(2).filter(|pair| pair[0].1 == "mod");
        named
            .filter_map(|pair| {
                let after = pair[1].0 + pair[1].1.len();
                let open = after + self.code[after..].find(|c: char| !c.is_whitespace())?;
                let inside = || open + 1..self.closing(open);
                (self.code.as_bytes()[open] == b'{').then(|| (pair[1].1.to_owned(), inside()))
            })
            .collect()
    }

    /// The parts of the file that are test code.
    pub(crate) fn tests(&self) -> Vec<Range<usize>> {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let of_tests = self.path.starts_with("tests/") || self.path.contains("/tests/");
        if of_tests || name.ends_with("tests.rs") {
            return std::iter::once(0..self.code.len()).collect();
        }
        let modules = self.inline_modules().into_iter();
        modules
            .filter(|(name, _)| name.ends_with("tests"))
            .map(|(_, range)| range)
            .collect()
    }

    /// Every path: those that `use` declarations name, spelled out, and those in code.
    pub(crate) fn paths(&self) -> Vec<CodePath> {
        let mut paths = Vec::new();
        let mut uses: Vec<Range<usize>> = Vec::new();
        for (offset, word) in self.words() {
            let end = offset + word.len();
            if uses.last().is_some_and(|range| range.contains(&offset)) {
                continue;
            }
            let rest = &self.code[end..];
            if word == "use" && !rest.trim_start().starts_with('<') {
                let stop = rest.find(';').map_or(self.code.len(), |at| end + at);
                self.expand(end..stop, &[], &mut paths);
                uses.push(offset..stop);
            } else if rest.starts_with("::") && !self.code[..offset].ends_with("::") {
                let segments = self.path_at(offset).split("::").map(str::to_owned);
                paths.push(CodePath {
                    offset,
                    segments: segments.collect(),
                });
            }
        }
        paths
    }

    fn path_at(&self, offset: usize) -> &str {
        let rest = &self.code[offset..];
        let end = rest.find(|c: char| !(c == ':' || c == '_' || c.is_ascii_alphanumeric()));
        rest[..end.unwrap_or(rest.len())].trim_end_matches(':')
    }

    /// Spells out a use tree.
    fn expand(&self, range: Range<usize>, prefix: &[String], paths: &mut Vec<CodePath>) {
        for part in self.split_commas(range) {
            let text = &self.code[part.clone()];
            if text.trim().is_empty() {
                continue;
            }
            let (head, group) = text
                .find('{')
                .map_or((text, None), |at| (&text[..at], Some(part.start + at)));
            let head = head.split(" as ").next().unwrap_or_default();
            let mut segments = prefix.to_vec();
            let names = head.split("::").map(str::trim).filter(|s| !s.is_empty());
            segments.extend(names.map(str::to_owned));
            if let Some(open) = group {
                self.expand(open + 1..self.closing(open), &segments, paths);
            } else {
                let blank = text.len() - text.trim_start().len();
                let offset = part.start + blank;
                paths.push(CodePath { offset, segments });
            }
        }
    }

    /// The parts between the outermost commas.
    fn split_commas(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let (mut parts, mut depth, mut from) = (Vec::new(), 0usize, range.start);
        for offset in range.clone() {
            match self.code.as_bytes()[offset] {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                b',' if depth == 0 => {
                    parts.push(from..offset);
                    from = offset + 1;
                }
                _ => {}
            }
        }
        parts.push(from..range.end);
        parts
    }

    /// Where the body of the function named at `offset` opens; `None` for a mere signature.
    fn body_start(&self, offset: usize) -> Option<usize> {
        let mut depth = 0usize;
        for (at, byte) in self.code.bytes().enumerate().skip(offset) {
            match byte {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth = depth.saturating_sub(1),
                b'{' if depth == 0 => return Some(at),
                b';' if depth == 0 => return None,
                _ => {}
            }
        }
        None
    }

    /// The brace that closes the one at `open`.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0usize;
        for (at, byte) in self.code.bytes().enumerate().skip(open) {
            match byte {
                b'{' => depth += 1,
                b'}' if depth <= 1 => return at,
                b'}' => depth -= 1,
                _ => {}
            }
        }
        self.code.len()
    }
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// Blanks comments and fills literals; lengths and line ends stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, filler) = match literal_end(bytes, at) {
            Some(end) => (end, b'"'),
            None => match comment_end(bytes, at) {
                Some(end) => (end, b' '),
                None => {
                    at += 1;
                    continue;
                }
            },
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = filler;
            }
        }
        at = end;
    }
    // A byte of a multi-byte character can only be left outside of comments and literals, where
    // Rust allows it in identifiers.
    String::from_utf8_lossy(&code).into_owned()
}

fn comment_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes[at..].starts_with(b"//") {
        let line = bytes[at..].iter().position(|byte| *byte == b'\n');
        return Some(line.map_or(bytes.len(), |length| at + length));
    }
    if !bytes[at..].starts_with(b"/*") {
        return None;
    }
    let (mut depth, mut end) = (0usize, at);
    while end < bytes.len() {
        if bytes[end..].starts_with(b"/*") {
            depth += 1;
            end += 2;
        } else if bytes[end..].starts_with(b"*/") {
            depth -= 1;
            end += 2;
            if depth == 0 {
                return Some(end);
            }
        } else {
            end += 1;
        }
    }
    Some(bytes.len())
}

/// The end of the string, raw string or character literal that begins at `at`.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes[at] {
        b'"' => Some(quoted_end(bytes, at + 1, b'"')),
        b'\'' => {
            let next = *bytes.get(at + 1)?;
            if next == b'\\' {
                return Some(quoted_end(bytes, at + 1, b'\''));
            }
            // A lifetime has no closing quote right after its first character.
            let length = match next {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            (bytes.get(at + 1 + length) == Some(&b'\'')).then_some(at + 2 + length)
        }
        b'r' if at == 0 || !is_word(bytes[at - 1]) || matches!(bytes[at - 1], b'b' | b'c') => {
            let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
            if bytes.get(at + 1 + hashes) != Some(&b'"') {
                return None;
            }
            let mut close = vec![b'"'];
            close.resize(1 + hashes, b'#');
            let from = at + 2 + hashes;
            let length = bytes[from..].windows(close.len()).position(|w| w == close);
            Some(length.map_or(bytes.len(), |length| from + length + close.len()))
        }
        _ => None,
    }
}

fn quoted_end(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[test]
fn the_reader_distinguishes_code_from_comments_and_literals() {
    let text = r##"
use crate::{domain::{id::Epoch, state::State}, raft::Raft as Group,};
// crate::watcher
/* tokio::x /* kube::y */ sled::z */
fn long<'a>(x: &'a str) -> impl Sized + use<'a> {
    let c = ['\'', '"', 'é'];
    let s = "crate::api } \" {";
    let r = r#"tonic::"quoted" {"#;
    tokio::select!(x);
    Self::openraft::nothing()
}
mod tests { use super::super::peer; }
"##;
    let source = Source::new("src/x.rs".into(), text.into());
    let paths: Vec<_> = source
        .paths()
        .iter()
        .map(|p| p.segments.join("::"))
        .collect();
    assert_eq!(
        paths,
        [
            "crate::domain::id::Epoch",
            "crate::domain::state::State",
            "crate::raft::Raft",
            "tokio::select",
            "Self::openraft::nothing",
            "super::super::peer",
        ]
    );
    let functions = source.functions();
    assert_eq!(functions.len(), 1);
    assert_eq!(functions[0].name, "long");
    assert_eq!(source.line(functions[0].offset), 5);
    assert_eq!(source.line(functions[0].body.end), 11);
    assert_eq!(source.inline_modules()[0].0, "tests");
}
