//! The header of the data: which format, whose data, which group.

use std::io;

use super::{
    Identity, OpenError,
    disk::{Tree, WriteBatch},
    keyspace::{self, meta},
};
use crate::domain::id::{GroupId, ReplicaId};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 2;

/// The oldest format that this version reads. Records of format 1 lack the beginning of a stream.
const FORMAT_OLDEST: u32 = 2;

/// Replica ids stay below 2^63, so that they fit signed numbers in other people's tools.
const REPLICA_ID_MAX: u64 = i64::MAX as u64;

/// Reads the header; `None` where the data is new.
pub(super) fn read(tree: &dyn Tree, name: &str) -> Result<Option<Identity>, OpenError> {
    let Some(format) = number::<4>(tree, meta::FORMAT, "format")? else {
        if tree.keys(keyspace::everything()).next().is_some() {
            return Err(OpenError::Damaged("records without a header".into()));
        }
        return Ok(None);
    };
    let format = u32::from_be_bytes(format);
    if format > FORMAT {
        return Err(OpenError::NewerFormat {
            found: format,
            known: FORMAT,
        });
    }
    if format < FORMAT_OLDEST {
        return Err(OpenError::OlderFormat {
            found: format,
            known: FORMAT_OLDEST,
        });
    }
    let missing = |what: &str| OpenError::Damaged(format!("the header lacks {what}"));
    let id = number::<8>(tree, meta::REPLICA_ID, "replica id")?;
    let id = id
        .map(u64::from_be_bytes)
        .ok_or_else(|| missing("a replica id"))?;
    let stored = keyspace::read(tree, meta::NAME)?.ok_or_else(|| missing("a name"))?;
    let stored = String::from_utf8(stored).map_err(|_| missing("a readable name"))?;
    if stored != name {
        return Err(OpenError::AnotherName {
            found: stored,
            wanted: name.to_owned(),
        });
    }
    Ok(Some(Identity {
        replica_id: ReplicaId(id),
        name: stored,
    }))
}

/// The group that the data belongs to.
pub(super) fn read_group(tree: &dyn Tree) -> Result<Option<GroupId>, OpenError> {
    Ok(number::<16>(tree, meta::GROUP_ID, "group id")?.map(GroupId))
}

/// Writes the header of new data. Not flushed.
pub(super) fn write(tree: &dyn Tree, name: &str) -> io::Result<Identity> {
    let identity = Identity {
        replica_id: ReplicaId(rand::random_range(1..=REPLICA_ID_MAX)),
        name: name.to_owned(),
    };
    let mut batch = WriteBatch::default();
    let mut put = |key: &[u8], payload: &[u8]| batch.put(key, keyspace::seal(key, payload));
    put(meta::FORMAT, &FORMAT.to_be_bytes());
    put(meta::REPLICA_ID, &identity.replica_id.0.to_be_bytes());
    put(meta::NAME, name.as_bytes());
    tree.apply(batch)?;
    Ok(identity)
}

fn number<const N: usize>(
    tree: &dyn Tree,
    key: &[u8],
    what: &str,
) -> Result<Option<[u8; N]>, OpenError> {
    let Some(bytes) = keyspace::read(tree, key)? else {
        return Ok(None);
    };
    let length = bytes.len();
    <[u8; N]>::try_from(bytes)
        .map(Some)
        .map_err(|_| OpenError::Damaged(format!("a {what} of {length} bytes")))
}
