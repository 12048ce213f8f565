//! A subscriber's position vector, as text that is opaque, versioned, checksummed and small.
//!
//! A cursor is one or more *segments* joined by `,`. A *whole* segment carries every stream; a
//! *delta* carries one that changed. Appending deltas to the whole gives the newest cursor, so a
//! frame needs to carry only its delta.
//!
//! A segment is URL-safe base64 without padding of: version (1 byte), kind (1 byte), the first
//! four bytes of the group's id, then per stream `stream, era, rv, ordinal` as LEB128 varints, and
//! at the end CRC-32C of all that (4 bytes, big-endian).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use crc32c::crc32c;

use super::{
    id::{Era, GroupId, StreamId},
    position::{Ordinal, Position, ResourceVersion},
};

/// Where a subscriber stands, per stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The last position sent or passed.
    pub positions: BTreeMap<StreamId, Position>,
}

/// Why a text is not a cursor of this group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCursor {
    /// Not base64, too short, or the checksum does not match.
    #[error("the cursor is damaged ({0}); present one exactly as it was received")]
    Damaged(&'static str),
    /// Written by a newer version.
    #[error("the cursor is of format {0}, this replica knows formats up to {VERSION}; upgrade it")]
    Future(u8),
    /// Of another group.
    #[error("the cursor belongs to another group; start without a cursor, or ask that group")]
    Foreign,
    /// Deltas without the whole that they change.
    #[error(
        "the cursor begins with a frame's delta; present the cursor of the last Progress, \
         followed by those of the frames after it, joined by ','"
    )]
    NoWhole,
    /// Ahead of what exists.
    #[error("the cursor is ahead of stream {0}: it comes from a state that this group never had")]
    Ahead(StreamId),
    /// Beyond the limit.
    #[error(
        "the cursor is longer than {CURSOR_BYTES_MAX} bytes; keep the last Progress and what follows"
    )]
    TooLong,
}

/// The format that is written.
const VERSION: u8 = 1;
const KIND_WHOLE: u8 = b'w';
const KIND_DELTA: u8 = b'd';
const HEADER_BYTES: usize = 6;
const CHECKSUM_BYTES: usize = 4;

/// Longest cursor accepted: thousands of streams with many deltas, and still below the default
/// limit of a gRPC message (4 MiB).
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
        self.segment(
            KIND_WHOLE,
            cursor
                .positions
                .iter()
                .map(|(id, position)| (*id, position)),
        )
    }

    /// What one frame changes.
    pub fn delta(&self, stream: StreamId, position: &Position) -> String {
        self.segment(KIND_DELTA, [(stream, position)].into_iter())
    }

    /// Reads a whole followed by deltas.
    pub fn read(&self, text: &str) -> Result<Cursor, InvalidCursor> {
        if text.len() > CURSOR_BYTES_MAX {
            return Err(InvalidCursor::TooLong);
        }
        let mut cursor = Cursor::default();
        for (index, segment) in text.split(',').enumerate() {
            let bytes = URL_SAFE_NO_PAD
                .decode(segment)
                .map_err(|_| InvalidCursor::Damaged("not base64"))?;
            let kind = self.read_segment(&bytes, &mut cursor)?;
            if index == 0 && kind != KIND_WHOLE {
                return Err(InvalidCursor::NoWhole);
            }
        }
        Ok(cursor)
    }

    fn segment<'a>(
        &self,
        kind: u8,
        entries: impl Iterator<Item = (StreamId, &'a Position)>,
    ) -> String {
        let mut bytes = vec![VERSION, kind];
        bytes.extend(self.group);
        for (stream, position) in entries {
            write_varint(&mut bytes, stream.0);
            write_varint(&mut bytes, position.era.0);
            write_rv(&mut bytes, &position.rv);
            // Closed wraps to 0, the shortest: nearly every position of a whole cursor is closed.
            write_varint(
                &mut bytes,
                u64::from(position.ordinal.get().wrapping_add(1)),
            );
        }
        bytes.extend(crc32c(&bytes).to_be_bytes());
        URL_SAFE_NO_PAD.encode(&bytes)
    }

    fn read_segment(&self, bytes: &[u8], cursor: &mut Cursor) -> Result<u8, InvalidCursor> {
        let damaged = InvalidCursor::Damaged;
        if bytes.len() < HEADER_BYTES + CHECKSUM_BYTES {
            return Err(damaged("too short"));
        }
        let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if crc32c(body).to_be_bytes() != checksum {
            return Err(damaged("checksum mismatch"));
        }
        let (header, mut rest) = body.split_at(HEADER_BYTES);
        if header[0] != VERSION {
            return Err(InvalidCursor::Future(header[0]));
        }
        if header[2..] != self.group {
            return Err(InvalidCursor::Foreign);
        }
        while !rest.is_empty() {
            let (stream, position) = read_entry(&mut rest).ok_or_else(|| damaged("torn entry"))?;
            cursor.positions.insert(stream, position);
        }
        match header[1] {
            kind @ (KIND_WHOLE | KIND_DELTA) => Ok(kind),
            _ => Err(damaged("unknown kind")),
        }
    }
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

fn read_entry(rest: &mut &[u8]) -> Option<(StreamId, Position)> {
    let stream = StreamId(read_varint(rest)?);
    let era = Era(read_varint(rest)?);
    let rv = read_rv(rest)?;
    let ordinal = u32::try_from(read_varint(rest)?).ok()?.checked_sub(1);
    let ordinal = ordinal.map_or(Ordinal::CLOSED, Ordinal::new);
    Some((stream, Position { era, rv, ordinal }))
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

    use super::{Cursor, CursorCodec, Era, GroupId, InvalidCursor, Ordinal, Position, StreamId};

    const CODEC: CursorCodec = CursorCodec {
        group: [1, 2, 3, 4],
    };

    fn position(rv: u64) -> Position {
        Position::closed(Era(3), rv.into())
    }

    fn cursor(streams: u64) -> Cursor {
        Cursor {
            positions: (1..=streams)
                .map(|n| (StreamId(n), position(4_000_000 + n)))
                .collect(),
        }
    }

    #[test]
    fn a_delta_replaces_what_the_whole_says() {
        let delta = CODEC.delta(StreamId(2), &position(9));
        let read = CODEC
            .read(&format!("{},{delta}", CODEC.whole(&cursor(3))))
            .unwrap();
        assert_eq!(read.positions[&StreamId(2)], position(9));
        assert_eq!(read.positions[&StreamId(3)], position(4_000_003));
    }

    #[test]
    fn a_cursor_is_small() {
        assert!(CODEC.whole(&cursor(30)).len() < 30 * 12);
        assert!(CODEC.delta(StreamId(2), &position(9)).len() < 24);
    }

    #[test]
    fn what_is_not_a_cursor_of_this_group_is_refused_with_the_reason() {
        let whole = CODEC.whole(&cursor(3));
        let delta = CODEC.delta(StreamId(2), &position(9));
        let foreign = CursorCodec::new(GroupId([9; 16])).whole(&cursor(3));
        assert_eq!(CODEC.read(&delta), Err(InvalidCursor::NoWhole));
        assert_eq!(CODEC.read(&foreign), Err(InvalidCursor::Foreign));
        assert!(matches!(
            CODEC.read(&whole[..whole.len() - 3]),
            Err(InvalidCursor::Damaged(_))
        ));
        assert!(matches!(
            CODEC.read("not a cursor"),
            Err(InvalidCursor::Damaged(_))
        ));
        assert!(matches!(CODEC.read(""), Err(InvalidCursor::Damaged(_))));
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back_as_written(entries: Vec<(u64, u64, u128, u32)>) {
            let mut cursor = Cursor::default();
            for (stream, era, rv, ordinal) in entries {
                let rv = rv.to_string().parse().unwrap();
                let position = Position::at(Era(era), rv, Ordinal::new(ordinal));
                cursor.positions.insert(StreamId(stream), position);
            }
            prop_assert_eq!(CODEC.read(&CODEC.whole(&cursor)), Ok(cursor));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in any::<String>()) {
            let _ = CODEC.read(&text);
        }
    }
}
