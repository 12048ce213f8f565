//! The current snapshot, in chunks: written beside the old one, then put in its place at once.
//! What is damaged is an error, never "no snapshot".

use std::{io, sync::Arc};

use bytes::Bytes;
use prost::Message as _;

use super::{
    Queue, Shared,
    disk::Tree,
    keyspace::{self, CHUNK_BYTES, meta},
    writer::Op,
};
use crate::{
    blocking::{Blocking, blocking},
    proto::store::v1::SnapshotRecord,
    raft::types::SnapshotMeta,
};

/// Chunks written at once: about 256 KiB, so that a snapshot of any size delays an entry of the
/// log by a few milliseconds only.
const CHUNKS_PER_WRITE: usize = 64;

/// Reads and replaces the current snapshot.
#[derive(Clone)]
pub(in crate::raft) struct Snapshots {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Queue,
    pub(super) blocking: Arc<dyn Blocking>,
}

impl Snapshots {
    /// Makes `bytes` the current snapshot, unless a newer one is.
    pub(in crate::raft) async fn save(&self, meta: &SnapshotMeta, bytes: &[u8]) -> io::Result<()> {
        let _alone = self.shared.snapshot.lock().await;
        let current = self.shared.with_tree(read_record)?;
        if let Some(current) = &current
            && meta_of(current)?.last_log_id > meta.last_log_id
        {
            return Ok(());
        }
        let number = current.map_or(1, |current| current.snapshot_number + 1);
        let record = SnapshotRecord {
            meta: Some(meta.into()),
            snapshot_number: number,
            chunks: u32::try_from(bytes.len().div_ceil(CHUNK_BYTES))
                .map_err(|_| io::Error::other("the snapshot is too large"))?,
            length: bytes.len() as u64,
            checksum: crc32c::crc32c(bytes),
        };
        let mut chunk = 0;
        for part in bytes.chunks(CHUNK_BYTES * CHUNKS_PER_WRITE) {
            let mut records = Vec::with_capacity(CHUNKS_PER_WRITE);
            for piece in part.chunks(CHUNK_BYTES) {
                let key = keyspace::snapshot_key(number, chunk);
                let value = keyspace::seal(&key, piece);
                records.push((key, value));
                chunk += 1;
            }
            self.queue.run(|done| Op::Put { records, done }).await?;
        }
        self.queue.run(|done| Op::Publish { record, done }).await
    }

    /// The current snapshot.
    pub(in crate::raft) async fn load(&self) -> io::Result<Option<(SnapshotMeta, Bytes)>> {
        let _alone = self.shared.snapshot.lock().await;
        let shared = Arc::clone(&self.shared);
        blocking(&*self.blocking, move || shared.with_tree(read_snapshot)).await
    }
}

/// The record of the current snapshot.
pub(super) fn read_record(tree: &dyn Tree) -> io::Result<Option<SnapshotRecord>> {
    keyspace::read(tree, meta::SNAPSHOT)?
        .map(|bytes| SnapshotRecord::decode(&*bytes).map_err(io::Error::other))
        .transpose()
}

fn meta_of(record: &SnapshotRecord) -> io::Result<SnapshotMeta> {
    let meta = record.meta.clone().ok_or_else(|| damaged("no meta-data"))?;
    Ok(meta.try_into()?)
}

fn read_snapshot(tree: &dyn Tree) -> io::Result<Option<(SnapshotMeta, Bytes)>> {
    let Some(record) = read_record(tree)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    for chunk in 0..record.chunks {
        let key = keyspace::snapshot_key(record.snapshot_number, chunk);
        let piece = keyspace::read(tree, &key)?.ok_or_else(|| damaged("a chunk is missing"))?;
        bytes.extend(piece);
    }
    if bytes.len() as u64 != record.length || crc32c::crc32c(&bytes) != record.checksum {
        return Err(damaged("its chunks do not make up what was written"));
    }
    Ok(Some((meta_of(&record)?, bytes.into())))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the current snapshot is damaged: {what}"),
    )
}
