//! The one tree: its keys, and the seal around each value.
//!
//! | key                                   | value                                              |
//! |---------------------------------------|----------------------------------------------------|
//! | `L`, index (8), chunk (2)             | chunks in all (2), a piece of a log entry          |
//! | `S`, snapshot number (8), chunk (4)   | a piece of a snapshot                              |
//! | `M`, name                             | one record, see [`meta`]                           |
//!
//! Numbers are big-endian, so that keys sort as numbers do. Every value begins with CRC-32C of its
//! key and the rest, so that a value which the disk returns for another key is noticed too.

use std::io;

use super::disk::{KeyRange, Record, Tree};

/// Bytes of an entry or a snapshot in one value. sled moves values of about 16 KB and more to
/// files that it never syncs; twice this and the overhead stay far below.
pub(super) const CHUNK_BYTES: usize = 4096;

const LOG: u8 = b'L';
const SNAPSHOT: u8 = b'S';
const CHECKSUM_BYTES: usize = 4;

/// Keys of single records.
pub(super) mod meta {
    /// Format version of everything here, 4 bytes.
    pub(in super::super) const FORMAT: &[u8] = b"Mformat";
    /// This replica's id, 8 bytes.
    pub(in super::super) const REPLICA_ID: &[u8] = b"Mreplica_id";
    /// This replica's name.
    pub(in super::super) const NAME: &[u8] = b"Mname";
    /// The group's id, 16 bytes.
    pub(in super::super) const GROUP_ID: &[u8] = b"Mgroup_id";
    /// `Vote`.
    pub(in super::super) const VOTE: &[u8] = b"Mvote";
    /// `LogId`: entries up to here are known to be committed. May lag behind.
    pub(in super::super) const COMMITTED: &[u8] = b"Mcommitted";
    /// `LogId`: entries up to here do not exist any more, even where their keys still do.
    pub(in super::super) const PURGED: &[u8] = b"Mpurged";
    /// `SnapshotRecord`: the current snapshot.
    pub(in super::super) const SNAPSHOT: &[u8] = b"Msnapshot";
}

/// All keys.
pub(super) fn everything() -> KeyRange {
    (Vec::new(), vec![u8::MAX])
}

/// Values of one log entry, with their keys.
pub(super) fn entry_chunks(index: u64, entry: &[u8]) -> io::Result<Vec<Record>> {
    let count = entry.len().div_ceil(CHUNK_BYTES).max(1);
    let Ok(count) = u16::try_from(count) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("log entry {index} takes {} bytes", entry.len()),
        ));
    };
    (0..count)
        .map(|chunk| {
            let from = usize::from(chunk) * CHUNK_BYTES;
            let to = entry.len().min(from + CHUNK_BYTES);
            let mut payload = count.to_be_bytes().to_vec();
            payload.extend(&entry[from..to]);
            let key = log_key(index, chunk);
            let value = seal(&key, &payload);
            Ok((key, value))
        })
        .collect()
}

/// Puts an entry together from its values, which must come in order.
#[derive(Default)]
pub(super) struct EntryReader {
    bytes: Vec<u8>,
    next_chunk: u16,
}

impl EntryReader {
    /// Takes the next value; returns the entry once it is whole.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<Option<(u64, Vec<u8>)>> {
        let (index, chunk) = read_log_key(key)?;
        let payload = unseal(key, value)?;
        let (count, piece) = payload
            .split_first_chunk::<2>()
            .ok_or_else(|| damaged(key, "too short"))?;
        let count = u16::from_be_bytes(*count);
        if chunk != self.next_chunk || chunk >= count {
            return Err(damaged(key, "a chunk of the entry is missing"));
        }
        self.bytes.extend(piece);
        self.next_chunk += 1;
        if self.next_chunk < count {
            return Ok(None);
        }
        self.next_chunk = 0;
        Ok(Some((index, std::mem::take(&mut self.bytes))))
    }

    /// Whether the last entry came whole.
    pub(super) fn is_whole(&self) -> bool {
        self.next_chunk == 0
    }
}

/// The key of one chunk of an entry.
pub(super) fn log_key(index: u64, chunk: u16) -> Vec<u8> {
    let mut key = vec![LOG];
    key.extend(index.to_be_bytes());
    key.extend(chunk.to_be_bytes());
    key
}

/// Just after every key of the log.
pub(super) fn log_end() -> Vec<u8> {
    vec![LOG + 1]
}

fn read_log_key(key: &[u8]) -> io::Result<(u64, u16)> {
    let read = || {
        let rest = key.strip_prefix(&[LOG])?;
        let (index, chunk) = rest.split_first_chunk::<8>()?;
        Some((
            u64::from_be_bytes(*index),
            u16::from_be_bytes(chunk.try_into().ok()?),
        ))
    };
    read().ok_or_else(|| damaged(key, "not the key of a log entry"))
}

/// The key of one chunk of a snapshot.
pub(super) fn snapshot_key(number: u64, chunk: u32) -> Vec<u8> {
    let mut key = vec![SNAPSHOT];
    key.extend(number.to_be_bytes());
    key.extend(chunk.to_be_bytes());
    key
}

/// Just after every key of the snapshots.
pub(super) fn snapshot_end() -> Vec<u8> {
    vec![SNAPSHOT + 1]
}

/// The value to store for a payload.
pub(super) fn seal(key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut value = checksum(key, payload).to_be_bytes().to_vec();
    value.extend(payload);
    value
}

/// The payload of a stored value.
pub(super) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> io::Result<&'a [u8]> {
    let (stored, payload) = value
        .split_first_chunk::<CHECKSUM_BYTES>()
        .ok_or_else(|| damaged(key, "too short"))?;
    if u32::from_be_bytes(*stored) != checksum(key, payload) {
        return Err(damaged(key, "checksum mismatch"));
    }
    Ok(payload)
}

/// Reads one sealed record.
pub(super) fn read(tree: &dyn Tree, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    tree.get(key)?
        .map(|value| Ok(unseal(key, &value)?.to_vec()))
        .transpose()
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), payload)
}

fn damaged(key: &[u8], what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "the record under key {} is damaged: {what}",
            key.escape_ascii()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::{CHUNK_BYTES, EntryReader, entry_chunks, seal, unseal};

    #[test]
    fn an_entry_of_any_size_reads_back() {
        for size in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 70_000] {
            let entry: Vec<u8> = (0..=250).cycle().take(size).collect();
            let mut reader = EntryReader::default();
            let mut whole = None;
            for (key, value) in entry_chunks(7, &entry).unwrap() {
                assert!(whole.is_none() && value.len() < 8_000);
                whole = reader.push(&key, &value).unwrap();
            }
            assert_eq!(whole, Some((7, entry)));
            assert!(reader.is_whole());
        }
    }

    #[test]
    fn a_missing_chunk_is_noticed() {
        let chunks = entry_chunks(7, &[1; 10_000]).unwrap();
        let mut reader = EntryReader::default();
        reader.push(&chunks[0].0, &chunks[0].1).unwrap();
        assert!(reader.push(&chunks[2].0, &chunks[2].1).is_err());
    }

    #[test]
    fn a_value_of_another_key_or_with_a_flipped_bit_is_noticed() {
        let mut value = seal(b"Ma", b"payload");
        assert_eq!(unseal(b"Ma", &value).unwrap(), b"payload");
        assert!(unseal(b"Mb", &value).is_err());
        value[6] ^= 1;
        assert!(unseal(b"Ma", &value).is_err());
    }
}
