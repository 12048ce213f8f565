//! What is on a simulated disk: what is durable, and what was written after it.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    ops::{Bound, Range},
};

use crate::raft::storage::disk::{PAGE_BYTES, Record, WriteBatch};

type Cells = BTreeMap<Vec<u8>, Vec<u8>>;

/// A key and its new value, if it has one.
type Change = (Vec<u8>, Option<Vec<u8>>);

/// The tree.
#[derive(Debug, Default)]
pub(super) struct TreeLayers {
    durable: Cells,
    /// The batches that make `visible` of `durable`, oldest first.
    pending: VecDeque<Vec<Change>>,
    /// What readers see.
    visible: Cells,
}

impl TreeLayers {
    pub(super) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.visible.get(key).cloned()
    }

    /// The first record of a range.
    pub(super) fn first(&self, from: &Bound<Vec<u8>>, to: &[u8]) -> Option<Record> {
        let from = from.as_ref().map(Vec::as_slice);
        if let Bound::Included(from) | Bound::Excluded(from) = from
            && from >= to
        {
            return None;
        }
        let mut records = self.visible.range::<[u8], _>((from, Bound::Excluded(to)));
        let (key, value) = records.next()?;
        Some((key.clone(), value.clone()))
    }

    pub(super) fn apply(&mut self, batch: WriteBatch) {
        let changes: Vec<Change> = batch.into_changes().collect();
        if !changes.is_empty() {
            change(&mut self.visible, &changes);
            self.pending.push_back(changes);
        }
    }

    /// How many batches are not durable.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether something that is not durable needs room.
    pub(super) fn needs_room(&self) -> bool {
        let mut changes = self.pending.iter().flatten();
        changes.any(|(_, value)| value.is_some())
    }

    /// How many changes a pending batch has.
    pub(super) fn changes(&self, batch: usize) -> usize {
        self.pending.get(batch).map_or(0, Vec::len)
    }

    /// Makes the oldest batches durable.
    pub(super) fn make_durable(&mut self, batches: usize) {
        let batches = batches.min(self.pending.len());
        for changes in self.pending.drain(..batches) {
            change(&mut self.durable, &changes);
        }
    }

    /// Forgets all pending batches but the oldest, and some changes of the next one.
    pub(super) fn keep(&mut self, batches: usize, changes_of_next: usize) {
        let is_torn = changes_of_next > 0;
        self.pending.truncate(batches + usize::from(is_torn));
        if let Some(next) = self.pending.get_mut(batches) {
            next.truncate(changes_of_next);
        }
        self.visible = self.durable.clone();
        for changes in &self.pending {
            change(&mut self.visible, changes);
        }
    }
}

fn change(cells: &mut Cells, changes: &[Change]) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(cells.insert(key.clone(), value.clone())),
            None => drop(cells.remove(key)),
        }
    }
}

/// The page.
#[derive(Debug)]
pub(super) struct PageLayers {
    durable: Vec<u8>,
    /// Writes that are not durable, oldest first: where, and what.
    pending: VecDeque<(usize, Vec<u8>)>,
    /// What readers see.
    visible: Vec<u8>,
}

impl Default for PageLayers {
    fn default() -> Self {
        Self {
            durable: vec![0; PAGE_BYTES],
            pending: VecDeque::new(),
            visible: vec![0; PAGE_BYTES],
        }
    }
}

impl PageLayers {
    pub(super) fn read(&self, bytes: &mut [u8], offset: usize) -> io::Result<()> {
        let range = within(offset, bytes.len())?;
        bytes.copy_from_slice(&self.visible[range]);
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        let range = within(offset, bytes.len())?;
        self.visible[range].copy_from_slice(bytes);
        self.pending.push_back((offset, bytes.to_vec()));
        Ok(())
    }

    /// How many writes are not durable.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Makes the oldest writes durable.
    pub(super) fn make_durable(&mut self, writes: usize) {
        let writes = writes.min(self.pending.len());
        for (offset, bytes) in self.pending.drain(..writes) {
            self.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// Of each pending write, keeps what `survives`: a disk writes sectors in any order.
    pub(super) fn keep(&mut self, mut survives: impl FnMut() -> bool) {
        self.pending.retain(|_| survives());
        self.make_durable(self.pending.len());
        self.visible.clone_from(&self.durable);
    }
}

fn within(offset: usize, length: usize) -> io::Result<Range<usize>> {
    let end = offset.saturating_add(length);
    if end > PAGE_BYTES {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok(offset..end)
}
