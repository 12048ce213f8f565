//! A subscriber's position vector, as text that is opaque, versioned, checksummed and small.
//!
//! A cursor is kept in parts: one *whole*, which carries everything, then *deltas*, each of which
//! carries the streams that moved. Read in order they give the newest cursor, so that most frames
//! need to carry no more than their own stream.
//!
//! A part is URL-safe base64 without padding of: version (1 byte), kind (1 byte), the first four
//! bytes of the group's id, the entries, and at the end CRC-32C of all that (4 bytes, big-endian).
//! An entry is `stream, era, rv, ordinal` as LEB128 varints where the subscriber stands at a
//! position. No era is 0: after that comes which other place it is, then its positions, then how
//! much of it was given. Before the entries a whole has its mode
//! (1 byte), the digest of its filter (8 bytes, big-endian), and as varints the newest id that its
//! subscription knew, and how many entries are of streams that are covered, and how many of streams
//! that were covered before. After the entries come `stream, mask` of the streams to which not all
//! of its filters applied.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use crc32c::crc32c;

use super::{
    delivery::place::Place,
    id::{Era, GroupId, StreamId},
    position::{Ordinal, Position, ResourceVersion},
};

/// What a subscription is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// To follow changes: nothing that is older than its beginning is sent.
    #[default]
    Changes,
    /// To keep a copy of what exists: every stream begins with a snapshot.
    Copy,
}

/// Where a subscriber stands, per stream, and what it had asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// What the subscription is for.
    pub mode: Mode,
    /// The digest of the filter and the view that it was taken under.
    pub filter: u64,
    /// Ids minted later belong to streams that are newer than the cursor.
    pub newest: u64,
    /// After what was sent or passed, of each stream that is covered.
    pub places: BTreeMap<StreamId, Place>,
    /// The same of streams that were covered before, and exist: where they continue, if the filter
    /// matches them again.
    pub left: BTreeMap<StreamId, Place>,
    /// Which of the filters applied to a stream, where not all of them did: a bit for each.
    pub masks: BTreeMap<StreamId, u32>,
}

/// Why a text is not a cursor of this group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCursor {
    /// Not base64, too short, or the checksum does not match.
    #[error("the cursor is damaged ({0}); present its parts exactly as they were received")]
    Damaged(&'static str),
    /// Written by a newer version.
    #[error("the cursor is of format {0}, this replica knows formats up to {VERSION}; upgrade it")]
    Future(u8),
    /// Of another group.
    #[error("the cursor belongs to another group; start without a cursor, or ask that group")]
    Foreign,
    /// Deltas without the whole that they change.
    #[error(
        "the cursor begins with a delta; present the last `cursor` received, then every \
         `cursor_delta` received after it"
    )]
    NoWhole,
    /// Ahead of what exists.
    #[error("the cursor is ahead of stream {0}")]
    Ahead(StreamId),
    /// Beyond the limit.
    #[error(
        "the cursor is longer than {CURSOR_BYTES_MAX} bytes; keep the last `cursor` received and \
         what follows it"
    )]
    TooLong,
}

/// The format that is written.
const VERSION: u8 = 2;
const KIND_WHOLE: u8 = b'w';
const KIND_DELTA: u8 = b'd';
const HEADER_BYTES: usize = 6;
const CHECKSUM_BYTES: usize = 4;

/// Longest cursor accepted, over all its parts: tens of thousands of streams with as many deltas,
/// and still below the default limit of a gRPC message (4 MiB).
pub const CURSOR_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Turns a group's cursors into text and back.
#[derive(Clone, Copy, Debug)]
pub struct CursorCodec {
    group: [u8; 4],
}

impl CursorCodec {
    /// The codec of a group.
    pub fn new(group: GroupId) -> Self {
        let [a, b, c, d, ..] = group.0;
        Self {
            group: [a, b, c, d],
        }
    }

    /// The whole cursor.
    pub fn whole(&self, cursor: &Cursor) -> String {
        let mut bytes = self.header(KIND_WHOLE);
        bytes.push(match cursor.mode {
            Mode::Changes => 0,
            Mode::Copy => 1,
        });
        bytes.extend(cursor.filter.to_be_bytes());
        write_varint(&mut bytes, cursor.newest);
        write_varint(&mut bytes, cursor.places.len() as u64);
        write_varint(&mut bytes, cursor.left.len() as u64);
        for (stream, place) in cursor.places.iter().chain(&cursor.left) {
            write_entry(&mut bytes, *stream, place);
        }
        for (stream, mask) in &cursor.masks {
            write_varint(&mut bytes, stream.0);
            write_varint(&mut bytes, u64::from(*mask));
        }
        sealed(bytes)
    }

    /// What one frame changes.
    pub fn delta<'a>(&self, entries: impl IntoIterator<Item = (StreamId, &'a Place)>) -> String {
        let mut bytes = self.header(KIND_DELTA);
        for (stream, place) in entries {
            write_entry(&mut bytes, stream, place);
        }
        sealed(bytes)
    }

    /// Reads a whole followed by deltas. A later whole replaces all that is before it.
    pub fn read(&self, parts: &[String]) -> Result<Cursor, InvalidCursor> {
        if parts.iter().map(String::len).sum::<usize>() > CURSOR_BYTES_MAX {
            return Err(InvalidCursor::TooLong);
        }
        let mut cursor = None;
        for part in parts {
            let bytes = URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| InvalidCursor::Damaged("not base64"))?;
            let (kind, mut rest) = self.open(&bytes)?;
            if kind == KIND_WHOLE {
                cursor = Some(read_whole(&mut rest)?);
            } else {
                let cursor = cursor.as_mut().ok_or(InvalidCursor::NoWhole)?;
                read_delta(rest, cursor)?;
            }
        }
        cursor.ok_or(InvalidCursor::Damaged("empty"))
    }

    fn header(&self, kind: u8) -> Vec<u8> {
        let mut bytes = vec![VERSION, kind];
        bytes.extend(self.group);
        bytes
    }

    /// The kind and the content of a part that is whole, of this group and of a known format.
    fn open<'a>(&self, bytes: &'a [u8]) -> Result<(u8, &'a [u8]), InvalidCursor> {
        let damaged = InvalidCursor::Damaged;
        if bytes.len() < HEADER_BYTES + CHECKSUM_BYTES {
            return Err(damaged("too short"));
        }
        let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if crc32c(body).to_be_bytes() != checksum {
            return Err(damaged("checksum mismatch"));
        }
        let (header, rest) = body.split_at(HEADER_BYTES);
        if header[0] != VERSION {
            return Err(InvalidCursor::Future(header[0]));
        }
        if header[2..] != self.group {
            return Err(InvalidCursor::Foreign);
        }
        match header[1] {
            kind @ (KIND_WHOLE | KIND_DELTA) => Ok((kind, rest)),
            _ => Err(damaged("unknown kind")),
        }
    }
}

fn sealed(mut bytes: Vec<u8>) -> String {
    bytes.extend(crc32c(&bytes).to_be_bytes());
    URL_SAFE_NO_PAD.encode(&bytes)
}

fn read_whole(rest: &mut &[u8]) -> Result<Cursor, InvalidCursor> {
    let torn = || InvalidCursor::Damaged("torn whole");
    let (mode, after) = rest.split_first().ok_or_else(torn)?;
    let mode = match mode {
        0 => Mode::Changes,
        1 => Mode::Copy,
        _ => return Err(InvalidCursor::Damaged("unknown mode")),
    };
    let (filter, after) = after.split_first_chunk().ok_or_else(torn)?;
    *rest = after;
    let newest = read_varint(rest).ok_or_else(torn)?;
    let covered = read_varint(rest).ok_or_else(torn)?;
    let left = read_varint(rest).ok_or_else(torn)?;
    let places = read_entries(rest, covered).ok_or_else(torn)?;
    let left = read_entries(rest, left).ok_or_else(torn)?;
    let mut masks = BTreeMap::new();
    while !rest.is_empty() {
        let stream = StreamId(read_varint(rest).ok_or_else(torn)?);
        let mask = read_varint(rest).and_then(|mask| u32::try_from(mask).ok());
        masks.insert(stream, mask.ok_or_else(torn)?);
    }
    Ok(Cursor {
        mode,
        filter: u64::from_be_bytes(*filter),
        newest,
        places,
        left,
        masks,
    })
}

fn read_entries(rest: &mut &[u8], count: u64) -> Option<BTreeMap<StreamId, Place>> {
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let (stream, place) = read_entry(rest)?;
        entries.insert(stream, place);
    }
    Some(entries)
}

fn read_delta(mut rest: &[u8], cursor: &mut Cursor) -> Result<(), InvalidCursor> {
    while !rest.is_empty() {
        let entry = read_entry(&mut rest);
        let (stream, place) = entry.ok_or(InvalidCursor::Damaged("torn entry"))?;
        cursor.left.remove(&stream);
        cursor.places.insert(stream, place);
    }
    Ok(())
}

fn write_entry(bytes: &mut Vec<u8>, stream: StreamId, place: &Place) {
    write_varint(bytes, stream.0);
    let mut mark = |kind: u64| {
        write_varint(bytes, NO_ERA);
        write_varint(bytes, kind);
    };
    match place {
        Place::At(position) => write_position(bytes, position),
        Place::BeforeFirst => mark(BEFORE_FIRST),
        Place::SnapshotDue => mark(SNAPSHOT_DUE),
        Place::Snapshot { list, given } => {
            mark(IN_SNAPSHOT);
            write_position(bytes, list);
            write_varint(bytes, u64::from(*given));
        }
        Place::Repair { from, to, given } => {
            mark(IN_REPAIR);
            write_position(bytes, from);
            write_position(bytes, to);
            write_varint(bytes, u64::from(*given));
        }
    }
}

/// Stands for an era where a place is not a position, and is followed by what it is.
const NO_ERA: u64 = 0;
const BEFORE_FIRST: u64 = 0;
const SNAPSHOT_DUE: u64 = 1;
const IN_SNAPSHOT: u64 = 2;
const IN_REPAIR: u64 = 3;

fn write_position(bytes: &mut Vec<u8>, position: &Position) {
    write_varint(bytes, position.era.0);
    write_rv(bytes, &position.rv);
    // Closed wraps to 0, the shortest: nearly every position of a whole cursor is closed.
    let ordinal = position.ordinal.get().wrapping_add(1);
    write_varint(bytes, u64::from(ordinal));
}

/// A version that fits is `number + 1`; any other is a zero, its length and its digits.
fn write_rv(bytes: &mut Vec<u8>, rv: &ResourceVersion) {
    if let Some(number) = rv.as_u64().filter(|number| *number < u64::MAX) {
        write_varint(bytes, number + 1);
    } else {
        let digits = rv.to_string();
        write_varint(bytes, 0);
        write_varint(bytes, digits.len() as u64);
        bytes.extend(digits.as_bytes());
    }
}

fn read_rv(rest: &mut &[u8]) -> Option<ResourceVersion> {
    if let Some(number) = read_varint(rest)?.checked_sub(1) {
        return Some(number.into());
    }
    let length = usize::try_from(read_varint(rest)?).ok()?;
    let (digits, after) = rest.split_at_checked(length)?;
    *rest = after;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn read_entry(rest: &mut &[u8]) -> Option<(StreamId, Place)> {
    let stream = StreamId(read_varint(rest)?);
    let era = read_varint(rest)?;
    if era != NO_ERA {
        let position = read_position_in(Era(era), rest)?;
        return Some((stream, Place::At(position)));
    }
    let place = match read_varint(rest)? {
        BEFORE_FIRST => Place::BeforeFirst,
        SNAPSHOT_DUE => Place::SnapshotDue,
        IN_SNAPSHOT => Place::Snapshot {
            list: read_position(rest)?,
            given: read_count(rest)?,
        },
        IN_REPAIR => Place::Repair {
            from: read_position(rest)?,
            to: read_position(rest)?,
            given: read_count(rest)?,
        },
        _ => return None,
    };
    Some((stream, place))
}

fn read_position(rest: &mut &[u8]) -> Option<Position> {
    let era = read_varint(rest).filter(|era| *era != NO_ERA)?;
    read_position_in(Era(era), rest)
}

fn read_position_in(era: Era, rest: &mut &[u8]) -> Option<Position> {
    let rv = read_rv(rest)?;
    let ordinal = read_count(rest)?.checked_sub(1);
    let ordinal = ordinal.map_or(Ordinal::CLOSED, Ordinal::new);
    Some(Position { era, rv, ordinal })
}

fn read_count(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(read_varint(rest)?).ok()
}

fn write_varint(bytes: &mut Vec<u8>, number: u64) {
    // Encoding into a Vec cannot run out of room.
    prost::encoding::encode_varint(number, bytes);
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(rest).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{
        Cursor, CursorCodec, Era, GroupId, InvalidCursor, Mode, Ordinal, Place, Position, StreamId,
    };

    const CODEC: CursorCodec = CursorCodec {
        group: [1, 2, 3, 4],
    };

    fn place(rv: u64) -> Place {
        Place::At(Position::closed(Era(3), rv.into()))
    }

    fn cursor(streams: u64) -> Cursor {
        Cursor {
            mode: Mode::Copy,
            filter: u64::MAX - 1,
            newest: streams + 7,
            places: (1..=streams)
                .map(|n| (StreamId(n), place(4_000_000 + n)))
                .collect(),
            left: [(StreamId(streams + 1), place(9))].into(),
            masks: [(StreamId(2), 5)].into(),
        }
    }

    fn read(parts: &[&str]) -> Result<Cursor, InvalidCursor> {
        let parts: Vec<_> = parts.iter().map(|part| (*part).to_owned()).collect();
        CODEC.read(&parts)
    }

    #[test]
    fn a_delta_replaces_what_the_whole_says() {
        let whole = CODEC.whole(&cursor(3));
        let moved = place(9);
        let delta = CODEC.delta([(StreamId(2), &moved), (StreamId(4), &moved)]);
        let cursor = read(&[&whole, &delta]).unwrap();
        assert_eq!(cursor.places[&StreamId(2)], moved);
        assert_eq!(cursor.places[&StreamId(3)], place(4_000_003));
        assert_eq!(cursor.places[&StreamId(4)], moved, "it is covered again");
        assert!(cursor.left.is_empty());
    }

    #[test]
    fn a_later_whole_replaces_everything() {
        let first = CODEC.whole(&cursor(5));
        let delta = CODEC.delta([(StreamId(2), &place(9))]);
        let second = CODEC.whole(&cursor(1));
        assert_eq!(read(&[&first, &delta, &second]), Ok(cursor(1)));
    }

    #[test]
    fn a_cursor_is_small() {
        assert!(CODEC.whole(&cursor(30)).len() < 30 * 12);
        assert!(CODEC.delta([(StreamId(2), &place(9))]).len() < 24);
    }

    #[test]
    fn what_is_not_a_cursor_of_this_group_is_refused_with_the_reason() {
        let whole = CODEC.whole(&cursor(3));
        let delta = CODEC.delta([(StreamId(2), &place(9))]);
        let foreign = CursorCodec::new(GroupId([9; 16])).whole(&cursor(3));
        assert_eq!(read(&[&delta]), Err(InvalidCursor::NoWhole));
        assert_eq!(read(&[&foreign]), Err(InvalidCursor::Foreign));
        for parts in [
            &[&whole[..whole.len() - 3]][..],
            &["not a cursor"],
            &[""],
            &[],
        ] {
            assert!(
                matches!(read(parts), Err(InvalidCursor::Damaged(_))),
                "{parts:?}"
            );
        }
        let long = "A".repeat(super::CURSOR_BYTES_MAX);
        assert_eq!(read(&[&long, "A"]), Err(InvalidCursor::TooLong));
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back_as_written(
            entries: Vec<(u64, u64, u128, u32, u8)>,
            left: Vec<(u64, u64, u128, u32, u8)>,
            filter: u64,
            newest: u64,
            masks: std::collections::BTreeMap<u64, u32>,
        ) {
            let entry = |(stream, era, rv, given, kind): (u64, u64, u128, u32, u8)| {
                let rv = rv.to_string().parse().unwrap();
                let position = Position::at(Era(era.max(1)), rv, Ordinal::new(given));
                let place = match kind % 5 {
                    0 => Place::BeforeFirst,
                    1 => Place::SnapshotDue,
                    2 => Place::Snapshot { list: position.to_closed(), given },
                    3 => Place::Repair { to: position.to_closed(), from: position, given },
                    _ => Place::At(position),
                };
                (StreamId(stream), place)
            };
            let places: std::collections::BTreeMap<_, _> =
                entries.into_iter().map(entry).collect();
            let left = left.into_iter().map(entry);
            let left = left.filter(|(id, _)| !places.contains_key(id)).collect();
            let masks = masks.into_iter().map(|(id, mask)| (StreamId(id), mask)).collect();
            let cursor = Cursor { mode: Mode::Changes, filter, newest, places, left, masks };
            prop_assert_eq!(CODEC.read(&[CODEC.whole(&cursor)]), Ok(cursor));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(parts in any::<Vec<String>>()) {
            let _ = CODEC.read(&parts);
        }
    }
}
