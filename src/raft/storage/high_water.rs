//! The high-water mark: a page beside the tree (the file `fence`) that records how far vote and log
//! had come.
//!
//! A damaged sled log can open without an error and with its tail missing. A replica that forgot
//! its vote or an entry that it acknowledged breaks Raft's safety, so at each open the data is
//! compared with the high-water mark and refused when it is behind.
//!
//! The page holds two slots, written in turn, so that a torn write leaves the other. A vote is
//! synced to it before it is given. The end of the log is written to it before it is
//! acknowledged but synced only with the next batch: a machine that loses power can so leave the
//! file one batch behind, which weakens the check by that batch and spares each commit a second
//! sync. It is never ahead: truncations of the log are written to it first.

use std::io;

use prost::Message as _;

use super::disk::Page;
use crate::{
    proto::store::v1::HighWaterRecord,
    raft::types::{LogId, Vote},
};

/// A slot is one disk sector, so that it is written whole or not at all.
const SLOT_BYTES: usize = 512;
const SLOT_OFFSETS: [usize; 2] = [0, 2048];
/// Checksum and length before the record.
const HEADER_BYTES: usize = 6;

/// How far the data has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Mark {
    /// The last durable vote.
    pub(super) vote: Option<Vote>,
    /// The last entry, or the last purged one if the log is empty.
    pub(super) last: Option<LogId>,
    /// The last purged entry.
    pub(super) purged: Option<LogId>,
}

impl Mark {
    /// Whether data at this mark has lost something that `high_water` records, and what.
    pub(super) fn lost_since(&self, high_water: &Self) -> Option<String> {
        if self.vote < high_water.vote {
            let term = |vote: Option<Vote>| vote.map_or(0, |vote| vote.leader_id.term);
            return Some(format!(
                "its last vote was in term {}, the data knows one of term {}",
                term(high_water.vote),
                term(self.vote)
            ));
        }
        let show = |id: Option<LogId>| {
            id.map_or_else(
                || "nothing".to_owned(),
                |id| format!("entry {} of term {}", id.index, id.leader_id.term),
            )
        };
        let lost = |what: &str, known: Option<LogId>, remembered: Option<LogId>| {
            let (known, remembered) = (show(known), show(remembered));
            Some(format!(
                "its log {what} with {remembered}, the data has {known}"
            ))
        };
        if self.last < high_water.last {
            return lost("ended", self.last, high_water.last);
        }
        if self.purged < high_water.purged {
            return lost("was cut", self.purged, high_water.purged);
        }
        None
    }
}

/// The open page.
pub(super) struct HighWater {
    page: Box<dyn Page>,
    sequence: u64,
    written: Mark,
    is_synced: bool,
}

impl HighWater {
    /// Reads what was last written.
    pub(super) fn open(page: Box<dyn Page>) -> io::Result<Self> {
        let mut newest = HighWaterRecord::default();
        for offset in SLOT_OFFSETS {
            if let Some(record) = read_slot(&*page, offset)?
                && record.sequence > newest.sequence
            {
                newest = record;
            }
        }
        Ok(Self {
            page,
            sequence: newest.sequence,
            written: mark_of(newest)?,
            is_synced: true,
        })
    }

    /// Whether anything was ever written here.
    pub(super) fn is_new(&self) -> bool {
        self.sequence == 0
    }

    /// What was last written.
    pub(super) fn mark(&self) -> Mark {
        self.written
    }

    /// Writes a mark, unsynced. Survives the death of the process.
    pub(super) fn write(&mut self, mark: Mark) -> io::Result<()> {
        if mark == self.written && self.sequence > 0 {
            return Ok(());
        }
        let record = HighWaterRecord {
            sequence: self.sequence + 1,
            vote: mark.vote.map(Into::into),
            last_log_id: mark.last.map(Into::into),
            purged: mark.purged.map(Into::into),
        };
        let slot = usize::from(record.sequence % 2 == 1);
        self.page
            .write_at(&encode_slot(&record)?, SLOT_OFFSETS[slot])?;
        self.sequence = record.sequence;
        self.written = mark;
        self.is_synced = false;
        Ok(())
    }

    /// Makes what was written survive a loss of power.
    pub(super) async fn sync(&mut self) -> io::Result<()> {
        if !self.is_synced {
            self.page.sync().await?;
            self.is_synced = true;
        }
        Ok(())
    }
}

fn mark_of(record: HighWaterRecord) -> io::Result<Mark> {
    Ok(Mark {
        vote: record.vote.map(Vote::try_from).transpose()?,
        last: record.last_log_id.map(LogId::try_from).transpose()?,
        purged: record.purged.map(LogId::try_from).transpose()?,
    })
}

fn encode_slot(record: &HighWaterRecord) -> io::Result<Vec<u8>> {
    let bytes = record.encode_to_vec();
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    if bytes.len() + HEADER_BYTES > SLOT_BYTES {
        return Err(io::Error::other("the high-water record outgrew its slot"));
    }
    let mut body = length.to_be_bytes().to_vec();
    body.extend(bytes);
    let mut slot = crc32c::crc32c(&body).to_be_bytes().to_vec();
    slot.extend(body);
    Ok(slot)
}

/// `None` for a slot that was never written, or not whole.
fn read_slot(page: &dyn Page, offset: usize) -> io::Result<Option<HighWaterRecord>> {
    let mut slot = [0; SLOT_BYTES];
    page.read_at(&mut slot, offset)?;
    let (checksum, rest) = slot.split_at(4);
    let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    let Some(body) = rest.get(..2 + length) else {
        return Ok(None);
    };
    if length == 0 || crc32c::crc32c(body).to_be_bytes() != checksum {
        return Ok(None);
    }
    Ok(HighWaterRecord::decode(&body[2..]).ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use openraft::vote::RaftLeaderId as _;

    use super::{HighWater, Mark, Page as _, SLOT_OFFSETS};
    use crate::raft::{
        storage::files::FilePage,
        types::{LeaderId, LogId, Vote},
    };

    fn open(path: &Path) -> HighWater {
        HighWater::open(Box::new(FilePage::open(path).unwrap())).unwrap()
    }

    fn mark(index: u64) -> Mark {
        Mark {
            vote: Some(Vote::new(2, 7)),
            last: Some(LogId::new(LeaderId::new(2, 7), index)),
            purged: None,
        }
    }

    #[tokio::test]
    async fn a_torn_slot_leaves_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("high_water");
        let mut high_water = open(&path);
        assert!(high_water.is_new());
        high_water.write(mark(1)).unwrap();
        high_water.write(mark(2)).unwrap();
        high_water.sync().await.unwrap();
        assert_eq!(open(&path).mark(), mark(2));

        let mut page = FilePage::open(&path).unwrap();
        page.write_at(&[0xff; 9], SLOT_OFFSETS[0]).unwrap();
        assert_eq!(open(&path).mark(), mark(1));
    }

    #[test]
    fn data_behind_its_fence_is_reported() {
        assert_eq!(mark(5).lost_since(&mark(5)), None);
        assert_eq!(mark(6).lost_since(&mark(5)), None);
        assert!(mark(4).lost_since(&mark(5)).is_some());
        let voteless = Mark {
            vote: None,
            ..mark(5)
        };
        assert!(voteless.lost_since(&mark(5)).is_some());
    }
}
