//! Raw bytes of watches and lists to [`Event`]s. Only metadata is read; the object's bytes are
//! kept as they came. Nothing here panics, whatever the bytes.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::metadata::{RawMetadata, RawObject, read_head, text};
use crate::domain::{
    event::{Change, Event, ObjectKey},
    id::UnixMillis,
    position::ResourceVersion,
};

/// Longest line of a watch. An object is at most about 1.5 MiB in etcd; JSON with escapes and
/// managed fields converted between versions can be a few times that.
pub(super) const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest part of a server's message that is kept.
const MESSAGE_CHARS_MAX: usize = 200;

/// Why bytes are not what an API server sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// No end within the limit.
    #[error("a watch line is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// Invalid JSON, or a field is missing.
    #[error("the API server sent JSON that is not a {0}")]
    Json(&'static str),
    /// Trap T21.
    #[error(
        "resource version {0:?} is not a decimal number: this API does not follow KEP-5504 and \
         cannot be watched"
    )]
    Version(String),
}

/// Cuts a body into lines, without a copy of those that came whole.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    /// What was read last, less the lines that were taken from it.
    chunk: Bytes,
    /// The beginning of a line whose end was not read yet.
    torn: BytesMut,
}

impl LineSplitter {
    /// Takes in what was read.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.chunk = if self.chunk.is_empty() {
            chunk
        } else {
            [&self.chunk[..], &chunk].concat().into()
        };
    }

    /// The next whole line, without its end.
    pub(super) fn next_line(&mut self) -> Result<Option<Bytes>, Malformed> {
        let end = memchr::memchr(b'\n', &self.chunk);
        let line = match end {
            Some(end) => {
                let line = self.chunk.split_to(end);
                self.chunk.advance(1);
                line
            }
            None => std::mem::take(&mut self.chunk),
        };
        if self.torn.len() + line.len() > LINE_BYTES_MAX {
            return Err(Malformed::LineTooLong);
        }
        if end.is_some() && self.torn.is_empty() {
            return Ok(Some(line));
        }
        self.torn.extend_from_slice(&line);
        Ok(end.map(|_| self.torn.split().freeze()))
    }

    /// Whether a line has begun and not ended.
    pub(super) fn is_torn(&self) -> bool {
        let mut rest = self.torn.iter().chain(&self.chunk);
        !rest.all(u8::is_ascii_whitespace)
    }
}

/// Lines of a watch that are read whole before only their metadata is.
const LINES_READ_WHOLE: u32 = 16;
/// Where two events meet that stand in one line.
const SEAM: &str = r#"}{"type":""#;

/// Reads the lines of one watch.
///
/// That an object ends where its line does is seen by reading all of it, which costs more than all
/// else where objects are large. An API server writes all lines of a watch alike, so that the first
/// ones show it.
#[derive(Debug)]
pub(super) struct LineReader {
    /// Lines that are still to be read whole.
    to_prove: u32,
    seam: Finder<'static>,
}

impl LineReader {
    pub(super) fn new() -> Self {
        Self {
            to_prove: LINES_READ_WHOLE,
            seam: Finder::new(SEAM),
        }
    }

    /// Reads the next line.
    pub(super) fn read(&mut self, line: &[u8], seen: UnixMillis) -> Result<Line, Malformed> {
        if self.to_prove == 0
            && let Some(event) = self.read_head(line, seen)
        {
            return event.map(Line::Event);
        }
        self.to_prove = self.to_prove.saturating_sub(1);
        read_line(line, seen)
    }

    /// Reads no further than an object's identity and version; `None` where the line has to be read
    /// whole.
    fn read_head(&self, line: &[u8], seen: UnixMillis) -> Option<Result<Event, Malformed>> {
        let line = std::str::from_utf8(line).ok()?;
        let (change, object) = as_written(line)?;
        if self.seam.find(object.as_bytes()).is_some() {
            return None;
        }
        let metadata = read_head(object)?;
        Some(event(&metadata, object, change, seen))
    }
}

/// One line of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Event(Event),
    Bookmark(ResourceVersion),
    Error(Status),
}

/// A `metav1.Status`, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: u16,
    /// The server's message.
    pub(super) message: String,
    pub(super) retry_after_ms: Option<u64>,
    /// Whether it means that the requested resource version was not reached yet.
    pub(super) is_too_large: bool,
}

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(rename = "type")]
    kind: Box<str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawStatus {
    code: Option<u16>,
    reason: Option<String>,
    message: Option<String>,
    details: Option<RawDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawDetails {
    retry_after_seconds: Option<u32>,
    causes: Option<Vec<RawCause>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCause {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct RawPage<T> {
    metadata: RawPageMetadata,
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPageMetadata {
    resource_version: Option<Box<str>>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// How the API server begins each line of a change.
const CHANGES: [(&str, Change); 3] = [
    (r#"{"type":"ADDED","object":"#, Change::Added),
    (r#"{"type":"MODIFIED","object":"#, Change::Modified),
    (r#"{"type":"DELETED","object":"#, Change::Deleted),
];

/// Reads one line of a watch.
pub(super) fn read_line(line: &[u8], seen: UnixMillis) -> Result<Line, Malformed> {
    let line = std::str::from_utf8(line).map_err(|_| Malformed::Json("watch event"))?;
    if let Some((change, object)) = as_written(line)
        && let Ok(metadata) = read_metadata(object)
    {
        return event(&metadata, object, change, seen).map(Line::Event);
    }
    let raw: RawLine<'_> =
        serde_json::from_str(line).map_err(|_| Malformed::Json("watch event"))?;
    let change = match &*raw.kind {
        "ADDED" => Change::Added,
        "MODIFIED" => Change::Modified,
        "DELETED" => Change::Deleted,
        "BOOKMARK" => {
            let metadata = read_metadata(raw.object.get())?;
            return read_version(text(&metadata.resource_version)).map(Line::Bookmark);
        }
        "ERROR" => return Ok(Line::Error(read_status(raw.object.get().as_bytes()))),
        _ => return Err(Malformed::Json("watch event of a known type")),
    };
    read_object(raw.object, change, seen).map(Line::Event)
}

/// The change, and what is between its head and the last brace. Where that is one JSON value, it is
/// the object, and the line needs not be read a second time to find where the object ends.
fn as_written(line: &str) -> Option<(Change, &str)> {
    let heads = CHANGES.iter();
    let mut found = heads.filter_map(|(head, change)| Some((*change, line.strip_prefix(head)?)));
    let (change, rest) = found.next()?;
    let space = [' ', '\t', '\r'];
    let object = rest.trim_end_matches(space).strip_suffix('}')?;
    Some((change, object.trim_matches(space)))
}

/// Parses a `metav1.Status`; anything that does not parse gets code 0.
pub(super) fn read_status(bytes: &[u8]) -> Status {
    let raw: RawStatus = serde_json::from_slice(bytes).unwrap_or_default();
    let text = raw.message.or(raw.reason).unwrap_or_default();
    let details = raw.details.unwrap_or_default();
    let mut causes = details.causes.iter().flatten();
    // Older servers, without the cause, have it in the message only.
    let is_too_large = causes.any(|cause| cause.reason.as_deref() == Some(TOO_LARGE))
        || text.starts_with(TOO_LARGE_TEXT);
    Status {
        code: raw.code.unwrap_or_default(),
        message: text.chars().take(MESSAGE_CHARS_MAX).collect(),
        retry_after_ms: details
            .retry_after_seconds
            .map(|seconds| u64::from(seconds) * 1_000),
        is_too_large,
    }
}

/// The cause that distinguishes a 504 for a version that was not reached from one of a server that
/// took too long.
const TOO_LARGE: &str = "ResourceVersionTooLarge";
/// The same, in words.
const TOO_LARGE_TEXT: &str = "Too large resource version";

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// The list's resource version; every page of one list has the same.
    pub(super) rv: ResourceVersion,
    /// What to continue with; `None` after the last page.
    pub(super) next: Option<String>,
    /// The items, in order.
    pub(super) items: Vec<Event>,
}

/// Reads one page of a list; each item becomes an event with this change.
pub(super) fn read_page(bytes: &[u8], change: Change, seen: UnixMillis) -> Result<Page, Malformed> {
    let raw: RawPage<&RawValue> =
        serde_json::from_slice(bytes).map_err(|_| Malformed::Json("list"))?;
    let items = raw.items.unwrap_or_default();
    let items: Result<Vec<_>, _> = items
        .into_iter()
        .map(|item| read_object(item, change, seen))
        .collect();
    Ok(Page {
        rv: read_version(raw.metadata.resource_version.as_deref().unwrap_or_default())?,
        next: raw.metadata.next.filter(|token| !token.is_empty()),
        items: items?,
    })
}

/// Reads one page of a list for the identities and versions of its objects alone.
pub(super) fn read_identities(bytes: &[u8]) -> Result<Identities, Malformed> {
    let raw: RawPage<RawObject<'_>> =
        serde_json::from_slice(bytes).map_err(|_| Malformed::Json("list"))?;
    let items = raw.items.unwrap_or_default().into_iter().map(|item| {
        let metadata = item.metadata;
        Ok(ObjectIdentity {
            rv: read_version(text(&metadata.resource_version))?,
            namespace: text(&metadata.namespace).into(),
            name: text(&metadata.name).into(),
            uid: text(&metadata.uid).into(),
        })
    });
    Ok(Identities {
        items: items.collect::<Result<_, _>>()?,
        rv: read_version(raw.metadata.resource_version.as_deref().unwrap_or_default())?,
        next: raw.metadata.next.filter(|token| !token.is_empty()),
    })
}

/// One page of a list, without its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identities {
    /// The list's resource version.
    pub(super) rv: ResourceVersion,
    /// What to continue with; `None` after the last page.
    pub(super) next: Option<String>,
    pub(super) items: Vec<ObjectIdentity>,
}

/// Which object, and which state of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectIdentity {
    pub(super) rv: ResourceVersion,
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    pub(super) uid: Box<str>,
}

/// Reads the resource version of a list without looking at its items.
pub(super) fn read_list_version(bytes: &[u8]) -> Result<ResourceVersion, Malformed> {
    let raw: RawObject<'_> = serde_json::from_slice(bytes).map_err(|_| Malformed::Json("list"))?;
    read_version(text(&raw.metadata.resource_version))
}

/// Reads an object's UID.
pub(super) fn read_uid(bytes: &[u8]) -> Result<String, Malformed> {
    let raw: RawObject<'_> =
        serde_json::from_slice(bytes).map_err(|_| Malformed::Json("object"))?;
    raw.metadata
        .uid
        .map(|uid| uid.0.into_owned())
        .ok_or(Malformed::Json("object with a UID"))
}

fn read_object(object: &RawValue, change: Change, seen: UnixMillis) -> Result<Event, Malformed> {
    let object = object.get();
    event(&read_metadata(object)?, object, change, seen)
}

fn event(
    metadata: &RawMetadata<'_>,
    object: &str,
    change: Change,
    seen: UnixMillis,
) -> Result<Event, Malformed> {
    Ok(Event {
        change,
        rv: read_version(text(&metadata.resource_version))?,
        key: ObjectKey::new(
            text(&metadata.namespace),
            text(&metadata.name),
            text(&metadata.uid),
        ),
        // A copy of its own: a slice would keep the whole read buffer alive.
        object: Bytes::copy_from_slice(object.as_bytes()),
        metadata_only: false,
        seen,
    })
}

fn read_metadata(object: &str) -> Result<RawMetadata<'_>, Malformed> {
    serde_json::from_str::<RawObject<'_>>(object)
        .map(|raw| raw.metadata)
        .map_err(|_| Malformed::Json("object with metadata"))
}

fn read_version(text: &str) -> Result<ResourceVersion, Malformed> {
    text.parse()
        .ok()
        .filter(|rv| *rv != ResourceVersion::ZERO)
        .ok_or_else(|| Malformed::Version(text.chars().take(MESSAGE_CHARS_MAX).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::vec,
        prelude::{any, prop_assert, prop_assert_eq, proptest},
    };

    use super::{
        Bytes, Change, LINE_BYTES_MAX, LINES_READ_WHOLE, Line, LineReader, LineSplitter, Malformed,
        UnixMillis, read_line, read_page, read_status,
    };

    const SEEN: UnixMillis = UnixMillis(7);

    fn line(text: &str) -> Result<Line, Malformed> {
        read_line(text.as_bytes(), SEEN)
    }

    #[test]
    fn an_object_is_kept_byte_for_byte() {
        let object = "{ \"metadata\":{\"name\":\"a\\u0062\",\"resourceVersion\":\"12\" }, \
                      \"x\" : [1.0, 1e2, \"\\u00e9\"] }";
        for text in [
            format!("{{\"type\":\"ADDED\",\"object\":{object}}}"),
            format!("{{\"type\":\"ADDED\",\"object\": {object}\t}} "),
            format!("{{\"type\":\"ADDED\",\"object\":{object},\"more\":{{}}}}"),
            format!("{{\"object\":{object} , \"type\":\"ADDED\"}}"),
        ] {
            let Ok(Line::Event(event)) = line(&text) else {
                panic!("{text} is an event")
            };
            assert_eq!(event.object, object);
            assert_eq!((event.name(), event.namespace()), ("ab", ""));
            assert_eq!(event.rv, 12.into());
            assert_eq!(event.change, Change::Added);
        }
    }

    /// A reader that has seen how the API server writes.
    fn proven() -> LineReader {
        let mut reader = LineReader::new();
        for _ in 0..LINES_READ_WHOLE {
            let first = r#"{"type":"ADDED","object":{"metadata":{"resourceVersion":"1"}}}"#;
            reader.read(first.as_bytes(), SEEN).unwrap();
        }
        reader
    }

    #[test]
    fn later_lines_are_read_up_to_the_metadata_and_say_the_same() {
        let mut reader = proven();
        for object in [
            // As typed objects are written, and as custom resources are.
            r#"{"kind":"Event","metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"5","managedFields":[{"uid":"x"}]},"reason":"\u0041"}"#,
            r#"{"metadata":{"annotations":{"name":"x"},"name":"\u0061","namespace":"n","resourceVersion":"5","uid":"u"},"spec":{"metadata":{"name":"y"}}}"#,
            r#"{"spec":{"metadata":{"name":"y"}},"metadata":{"uid":"u","name":"a","namespace":"n","resourceVersion":"5"}}"#,
            r#"{"metadata":{"name":"a","uid":"u","resourceVersion":"5"},"x":[1]}"#,
            r#"{"metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"5"},"note":"}{\"type\":\"x"}"#,
            r#"{"metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"0x5"}}"#,
            r#"{"metadata":{"name":"a","namespace":"n","uid":7,"resourceVersion":"5"}}"#,
            r#"{"metadata":[]}"#,
        ] {
            let text = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
            assert_eq!(reader.read(text.as_bytes(), SEEN), line(&text), "{text}");
        }
    }

    #[test]
    fn two_events_in_one_line_are_never_taken_for_one() {
        let object = r#"{"metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"5"}}"#;
        let event = format!(r#"{{"type":"ADDED","object":{object}}}"#);
        assert!(proven().read(event.as_bytes(), SEEN).is_ok());
        assert!(proven().read(event.repeat(2).as_bytes(), SEEN).is_err());
    }

    #[test]
    fn what_follows_the_object_is_noticed_in_the_first_lines_of_a_watch() {
        let object = r#"{"metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"5"}}"#;
        let text = format!(r#"{{"type":"ADDED","object":{object},"more":{{}}}}"#);
        let Ok(Line::Event(event)) = LineReader::new().read(text.as_bytes(), SEEN) else {
            panic!("an event")
        };
        assert_eq!(event.object, object);
    }

    #[test]
    fn bookmarks_and_errors_are_distinguished() {
        let bookmark =
            r#"{"type":"BOOKMARK","object":{"kind":"Event","metadata":{"resourceVersion":"99"}}}"#;
        assert_eq!(line(bookmark), Ok(Line::Bookmark(99.into())));
        let error = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","details":{"retryAfterSeconds":2}}}"#;
        let Ok(Line::Error(status)) = line(error) else {
            panic!("an error")
        };
        assert_eq!((status.code, status.retry_after_ms), (410, Some(2_000)));
        assert_eq!(read_status(b"<html>").code, 0);
    }

    #[test]
    fn a_version_that_was_not_reached_is_distinguished_from_a_server_that_took_too_long() {
        let too_large = br#"{"code":504,"reason":"Timeout","message":"x","details":{"causes":[{"reason":"ResourceVersionTooLarge","message":"y"}]}}"#;
        assert!(read_status(too_large).is_too_large);
        let in_words = br#"{"code":504,"reason":"Timeout","message":"Too large resource version: 9, current: 5"}"#;
        assert!(read_status(in_words).is_too_large);
        let timeout = br#"{"code":504,"reason":"Timeout","message":"request did not complete within the allotted timeout","details":{}}"#;
        assert!(!read_status(timeout).is_too_large);
    }

    #[test]
    fn t21_versions_that_are_not_decimal_are_refused_with_the_reason() {
        let text = r#"{"type":"ADDED","object":{"metadata":{"resourceVersion":"0x1"}}}"#;
        assert_eq!(line(text), Err(Malformed::Version("0x1".into())));
        assert!(line(r#"{"type":"ADDED","object":{"metadata":{}}}"#).is_err());
    }

    #[test]
    fn a_page_gives_its_items_in_order() {
        let text = r#"{"kind":"L","metadata":{"resourceVersion":"5","continue":"t"},"items":[
            {"metadata":{"name":"a","resourceVersion":"1"}}, {"metadata":{"name":"b","resourceVersion":"2"}} ]}"#;
        let page = read_page(text.as_bytes(), Change::Snapshot, SEEN).unwrap();
        assert_eq!(page.next.as_deref(), Some("t"));
        let names: Vec<_> = page.items.iter().map(|item| item.name()).collect();
        assert_eq!(names, ["a", "b"]);
        let empty = br#"{"metadata":{"resourceVersion":"5","continue":""},"items":null}"#;
        let page = read_page(empty, Change::Snapshot, SEEN).unwrap();
        assert_eq!((page.next, page.items.len()), (None, 0));
    }

    #[test]
    fn a_line_without_end_is_an_error_not_a_leak() {
        let mut splitter = LineSplitter::default();
        splitter.push(vec![b'x'; LINE_BYTES_MAX].into());
        assert_eq!(splitter.next_line(), Ok(None));
        splitter.push(b"yz"[..].into());
        assert_eq!(splitter.next_line(), Err(Malformed::LineTooLong));
    }

    proptest! {
        #[test]
        fn lines_come_out_whole_however_they_are_read(
            lines in vec("[a-z]{0,20}", 0..10),
            cuts in vec(1..7_usize, 1..10),
        ) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut splitter = LineSplitter::default();
            let (mut rest, mut found) = (text.as_bytes(), Vec::<String>::new());
            for cut in cuts.iter().cycle() {
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                splitter.push(Bytes::copy_from_slice(head));
                while let Some(line) = splitter.next_line().unwrap() {
                    found.push(String::from_utf8(line.to_vec()).unwrap());
                }
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, lines);
            prop_assert!(!splitter.is_torn());
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes: Vec<u8>, text in any::<String>()) {
            let _ = (read_line(&bytes, SEEN), read_page(&bytes, Change::Added, SEEN));
            let _ = (line(&text), read_status(&bytes));
            let nested = format!("{{\"type\":\"ADDED\",\"object\":{text}}}");
            let _ = (line(&nested), proven().read(nested.as_bytes(), SEEN));
        }
    }
}
