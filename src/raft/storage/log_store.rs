//! openraft's view of the log and the vote.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};

use super::{
    Queue, Shared,
    keyspace::{self, EntryReader},
    writer::Op,
};
use crate::raft::{
    codec,
    types::{Entry, LogId, TypeConfig, Vote},
};

/// Entries read at once for a follower stop here, so that a message stays well below the 4 MiB
/// that gRPC takes: the last entry may be another 1 MiB.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Writes the log.
#[derive(Clone)]
pub struct LogStore {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Queue,
}

/// Reads the log.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    /// Entries of `start..end`, in order, until `bytes_max` is passed.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let log = self.shared.log();
        let first = log
            .purged
            .map_or(start, |purged| start.max(purged.index + 1));
        let end = end.min(log.last.map_or(0, |last| last.index + 1));
        if first >= end {
            return Ok(Vec::new());
        }
        let recent_from = log.recent.keys().next().copied().unwrap_or(u64::MAX);
        let mut entries = Vec::new();
        let mut bytes = 0;
        if first < recent_from {
            bytes = self.read_stored(first, end.min(recent_from), bytes_max, &mut entries)?;
        }
        for (_, recent) in log.recent.range(first..end) {
            if bytes > bytes_max {
                break;
            }
            bytes += recent.bytes;
            entries.push(recent.entry.clone());
        }
        check_no_hole(&entries)?;
        Ok(entries)
    }

    fn read_stored(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
        entries: &mut Vec<Entry>,
    ) -> io::Result<usize> {
        self.shared.with_tree(|tree| {
            let mut bytes = 0;
            let mut reader = EntryReader::default();
            for item in tree.range((keyspace::log_key(start, 0), keyspace::log_key(end, 0))) {
                let (key, value) = item?;
                if let Some((_, entry)) = reader.push(&key, &value)? {
                    bytes += entry.len();
                    entries.push(codec::decode_entry(&entry)?);
                    if bytes > bytes_max {
                        break;
                    }
                }
            }
            Ok(bytes)
        })
    }
}

fn check_no_hole(entries: &[Entry]) -> io::Result<()> {
    for pair in entries.windows(2) {
        if pair[0].log_id.index + 1 != pair[1].log_id.index {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("log entries after {} are missing", pair[0].log_id.index),
            ));
        }
    }
    Ok(())
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.log().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let log = self.shared.log();
        Ok(LogState {
            last_purged_log_id: log.purged,
            last_log_id: log.last,
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader {
            shared: Arc::clone(&self.shared),
        }
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.queue.run(|done| Op::Vote { vote, done }).await?;
        // Only now: what is read must be what a restart would read.
        self.shared.log_mut().vote = Some(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.shared.log_mut().committed = committed;
        self.queue.send(Op::Committed { committed }).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.log().committed)
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let op = {
            let mut log = self.shared.log_mut();
            let sequence = log.next_sequence + 1;
            log.next_sequence = sequence;
            for entry in entries {
                let bytes = codec::encode_entry(&entry);
                records.extend(keyspace::entry_chunks(entry.log_id.index, &bytes)?);
                log.insert(entry, bytes.len(), sequence);
            }
            log.last.map(|last| (sequence, last))
        };
        let Some((sequence, last)) = op else {
            done.io_completed(Ok(()));
            return Ok(());
        };
        let op = Op::Append {
            records,
            last,
            sequence,
            done,
        };
        self.queue.send(op).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        let last = {
            let mut log = self.shared.log_mut();
            let end = log.last.map_or(0, |last| last.index + 1);
            if from >= end {
                return Ok(());
            }
            let last = last.max(log.purged);
            log.truncate(from, last);
            last
        };
        self.queue
            .run(|done| Op::Truncate { from, last, done })
            .await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let last = {
            let mut log = self.shared.log_mut();
            if log.purged >= Some(upto) {
                return Ok(());
            }
            log.purge(upto);
            log.last
        };
        self.queue.run(|done| Op::Purge { upto, last, done }).await
    }
}
