//! Goes along with a subscriber through one stream, and judges each step.

use std::{collections::BTreeMap, ops::Range};

use super::{
    AuditReport, Seen,
    truth::{Fact, Truth},
};
use crate::{domain::event::Change, sim::ledger::Commit};

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing yet; lost if it stays so.
    Open,
    /// It was before the start.
    Before,
    Delivered,
    Declared,
    Coalesced,
}

/// An event or a snapshot's item, as received.
#[derive(Clone, Copy, Debug)]
struct Item {
    change: Change,
    rv: u64,
    id: u64,
    crc: u32,
}

/// A repaired gap whose net changes are being received.
#[derive(Debug)]
struct Repair<'a> {
    from: u64,
    to: u64,
    /// What must come, per object: its last change, or `None` for its deletion; and whether it
    /// came.
    expected: BTreeMap<u64, (Option<&'a Commit>, bool)>,
}

/// A gap that a snapshot follows.
#[derive(Clone, Copy, Debug)]
struct OpenGap {
    /// The first change of the history that it covers; what is missing before it is lost.
    start: usize,
    to: u64,
    new_history: bool,
}

pub(super) struct Walk<'a, 'b> {
    truth: &'b Truth<'a>,
    report: &'b mut AuditReport,
    from: Option<u64>,
    fates: Vec<Vec<Fate>>,
    has_begun: bool,
    /// The history that the subscriber is in.
    history: usize,
    /// The change of it that is expected next.
    next: usize,
    gap: Option<OpenGap>,
    repair: Option<Repair<'a>>,
    snapshot: Vec<Item>,
    /// The last snapshot and its revision, while nothing has come after it.
    seat: Option<(Vec<Item>, u64)>,
}

impl<'a, 'b> Walk<'a, 'b> {
    pub(super) fn new(
        truth: &'b Truth<'a>,
        from: Option<u64>,
        report: &'b mut AuditReport,
    ) -> Self {
        let histories = truth.histories.iter();
        Self {
            fates: histories.map(|h| vec![Fate::Open; h.facts.len()]).collect(),
            truth,
            report,
            from,
            has_begun: false,
            history: 0,
            next: 0,
            gap: None,
            repair: None,
            snapshot: Vec::new(),
            seat: None,
        }
    }

    /// Judges everything that was received, and adds it up.
    pub(super) fn judge(mut self, seen: &[Seen]) {
        for seen in seen {
            match *seen {
                Seen::Event {
                    change,
                    rv,
                    id,
                    crc,
                } => {
                    let item = Item {
                        change,
                        rv,
                        id,
                        crc,
                    };
                    if change == Change::Snapshot {
                        self.end_repair();
                        self.report.snapshot += 1;
                        self.snapshot.push(item);
                    } else {
                        self.event(item);
                    }
                }
                Seen::Gap {
                    from,
                    to,
                    new_history,
                    reaches_back,
                    repaired,
                } => {
                    let start = if reaches_back { 0 } else { from };
                    self.gap(start, to, new_history, repaired);
                }
                Seen::Synced { rv } => self.synced(rv),
                Seen::Restarted => self.snapshot.clear(),
            }
        }
        self.end_repair();
        if let Some(from) = self.from.filter(|_| !self.has_begun) {
            self.begin_after(0, from);
        }
        self.add_up();
    }

    /// Everything up to a revision of a history is before the start.
    fn begin_after(&mut self, history: usize, rv: u64) {
        self.has_begun = true;
        self.history = history;
        self.next = self.truth.histories[history].end_of(rv);
        for fates in &mut self.fates[..history] {
            fates.fill(Fate::Before);
        }
        self.fates[history][..self.next].fill(Fate::Before);
    }

    /// Sets the fate of what is still open in a range of the history.
    fn settle(&mut self, history: usize, range: Range<usize>, fate: Fate) {
        for open in &mut self.fates[history][range] {
            if *open == Fate::Open {
                *open = fate;
            }
        }
    }

    fn gap(&mut self, from: u64, to: u64, new_history: bool, repaired: bool) {
        self.end_repair();
        self.snapshot.clear();
        self.report.gaps += 1;
        if !self.has_begun {
            self.begin_after(0, self.from.unwrap_or(from));
        }
        let facts = &self.truth.histories[self.history];
        let (start, end) = (facts.end_of(from), facts.end_of(to));
        if repaired {
            self.repair = Some(self.expect_repair(from, to));
            return;
        }
        // The rest of a past that was cut off is gone altogether.
        let end = if new_history { facts.facts.len() } else { end };
        if start < end {
            self.settle(self.history, start..end, Fate::Declared);
        }
        self.next = self.next.max(end);
        self.gap = Some(OpenGap {
            start,
            to,
            new_history,
        });
    }

    fn expect_repair(&self, from: u64, to: u64) -> Repair<'a> {
        let before = self.truth.objects_at(self.history, from);
        let after = self.truth.objects_at(self.history, to);
        let gone = before.keys().filter(|id| !after.contains_key(id));
        let mut expected: BTreeMap<_, _> = gone.map(|id| (*id, (None, false))).collect();
        for (id, commit) in &after {
            if before.get(id).is_none_or(|old| old.rv != commit.rv) {
                expected.insert(*id, (Some(*commit), false));
            }
        }
        Repair { from, to, expected }
    }

    /// An event of a repair: a net change. Its own revision may be any up to the repair's end.
    fn repair_event(&mut self, item: Item) {
        let Some(repair) = &mut self.repair else {
            return;
        };
        let place = repair.expected.get_mut(&item.id);
        let Some((commit, came)) = place else {
            self.corrupt(item, "is no net change of the repaired gap");
            return;
        };
        let was_there = std::mem::replace(came, true);
        let fits = match commit {
            None => item.change == Change::Deleted,
            Some(commit) => {
                item.change != Change::Deleted && item.rv == commit.rv && has_crc(commit, item.crc)
            }
        };
        if was_there {
            self.report.duplicated += 1;
            self.complain(item, "came twice in a repaired gap");
        } else if !fits {
            self.corrupt(item, "is not the net change of the repaired gap");
        }
    }

    /// The net changes are complete: what they cover is settled.
    fn end_repair(&mut self) {
        let Some(repair) = self.repair.take() else {
            return;
        };
        let facts = &self.truth.histories[self.history];
        let range = facts.end_of(repair.from)..facts.end_of(repair.to);
        let mut last = BTreeMap::new();
        for index in range.clone() {
            last.insert(facts.facts[index].id, index);
        }
        for index in range.clone() {
            let id = facts.facts[index].id;
            let fate = &mut self.fates[self.history][index];
            let came = repair.expected.get(&id).map(|(_, came)| *came);
            let is_last = last.get(&id) == Some(&index);
            *fate = match (*fate, is_last, came) {
                (Fate::Open, true, Some(true)) => Fate::Delivered,
                (Fate::Open, true, Some(false)) => Fate::Open,
                (Fate::Open, ..) => Fate::Coalesced,
                (settled, ..) => settled,
            };
        }
        self.next = self.next.max(range.end);
    }

    fn synced(&mut self, rv: u64) {
        self.end_repair();
        let items = std::mem::take(&mut self.snapshot);
        let gap = self.gap.take();
        if !self.has_begun {
            self.begin_after(self.history_of(0, &items, rv), rv);
        } else if let Some(gap) = gap {
            let before = self.history;
            if gap.new_history {
                self.skip_to(self.history_of(before + 1, &items, rv));
            } else {
                // The cluster may have been restored, and have reported only that its history is
                // gone.
                self.skip_to(self.history_of(before, &items, rv));
            }
            if self.history > before {
                self.settle(before, gap.start..self.fates[before].len(), Fate::Declared);
            }
            let start = if self.history == before { gap.start } else { 0 };
            let end = self.truth.histories[self.history].end_of(rv);
            if start < end {
                self.settle(self.history, start..end, Fate::Declared);
            }
            self.next = end;
        }
        self.compare_snapshot(&items, rv);
        self.seat = Some((items, rv));
    }

    /// Goes to a later history; what lies between was declared.
    fn skip_to(&mut self, history: usize) {
        for between in self.history + 1..history {
            let end = self.fates[between].len();
            self.settle(between, 0..end, Fate::Declared);
        }
        if history > self.history {
            self.history = history;
            self.next = 0;
        }
    }

    /// The history, from `first` on, that a snapshot fits best; the earliest of equals, until what
    /// comes after it shows otherwise.
    fn history_of(&self, first: usize, items: &[Item], rv: u64) -> usize {
        let last = self.truth.histories.len() - 1;
        (first.min(last)..=last)
            .rev()
            .max_by_key(|history| self.fit(*history, items, rv))
            .unwrap_or(last)
    }

    /// How many objects a snapshot and a revision of a history have in common, less what the
    /// snapshot lacks.
    fn fit(&self, history: usize, items: &[Item], rv: u64) -> isize {
        let objects = self.truth.objects_at(history, rv);
        let fits = |item: &&Item| objects.get(&item.id).is_some_and(|c| c.rv == item.rv);
        let common = items.iter().filter(fits).count();
        2 * common.cast_signed() - objects.len().cast_signed()
    }

    fn compare_snapshot(&mut self, items: &[Item], rv: u64) {
        let mut objects = self.truth.objects_at(self.history, rv);
        let mut seen = std::collections::BTreeSet::new();
        for item in items {
            let object = objects.remove(&item.id);
            if !seen.insert(item.id) {
                self.report.duplicated += 1;
                self.complain(*item, "came twice in a snapshot");
            } else if let Some(commit) = object {
                if commit.rv != item.rv || !has_crc(commit, item.crc) {
                    self.corrupt(*item, "is not what the snapshot's revision had");
                }
            } else if self.truth.is_whole {
                self.corrupt(*item, "was not there at the snapshot's revision");
            }
        }
        for commit in objects.values() {
            self.report.missing_in_snapshot += 1;
            let words = self.words(commit, &format!("is missing in the snapshot at {rv}"));
            self.report.problem(|| words);
        }
    }

    fn event(&mut self, item: Item) {
        if let Some(repair) = &self.repair {
            if item.rv <= repair.to {
                return self.repair_event(item);
            }
            self.end_repair();
        }
        let Some((history, index)) = self.find(item) else {
            if !self.truth.has_forgotten(item.rv) {
                self.corrupt(item, "was never committed");
            }
            return;
        };
        if !self.has_begun {
            match self.from {
                Some(from) => self.begin_after(0, from),
                None => self.begin_after(history, item.rv.saturating_sub(1)),
            }
        }
        if history > self.history {
            match self.gap.take() {
                Some(gap) if gap.new_history => {
                    self.skip_to(history);
                    let end = self.truth.histories[history].end_of(gap.to);
                    self.settle(history, 0..end, Fate::Declared);
                    self.next = end;
                }
                _ => self.skip_without_gap(history),
            }
        }
        self.seat = None;
        self.take(history, index, item);
    }

    /// Goes to a later history that no gap announces: what is skipped stays open, and is lost. Only
    /// the last snapshot may have been of that history already.
    fn skip_without_gap(&mut self, history: usize) {
        if let Some((items, rv)) = self.seat.take()
            && self.fit(history, &items, rv) == self.fit(self.history, &items, rv)
        {
            let rest = self.next..self.fates[self.history].len();
            self.settle(self.history, rest, Fate::Declared);
            self.skip_to(history);
            self.next = self.truth.histories[history].end_of(rv);
            self.settle(history, 0..self.next, Fate::Declared);
            return;
        }
        self.report
            .problem(|| "the cluster's history changed without a gap".to_owned());
        self.history = history;
        self.next = 0;
    }

    /// The change that an event reports: in this history, else in a later, else in an earlier one.
    fn find(&self, item: Item) -> Option<(usize, usize)> {
        let count = self.truth.histories.len();
        let order = (self.history..count).chain((0..self.history).rev());
        order
            .into_iter()
            .find_map(|h| Some((h, self.truth.histories[h].find(item.rv, item.id)?)))
    }

    fn take(&mut self, history: usize, index: usize, item: Item) {
        let Fact { commit, .. } = self.truth.histories[history].facts[index];
        if commit.change != item.change || !has_crc(commit, item.crc) {
            self.corrupt(item, "is not as it was committed");
        }
        match self.fates[history][index] {
            Fate::Open if history == self.history && index >= self.next => {
                self.next = index + 1;
                self.fates[history][index] = Fate::Delivered;
            }
            Fate::Open => {
                self.report.out_of_order += 1;
                self.complain(item, "came after a later one");
                self.fates[history][index] = Fate::Delivered;
            }
            // A declared gap may be wider than what is missing, up to the snapshot that ends it.
            Fate::Declared if history == self.history && index >= self.next => {
                self.next = index + 1;
                self.fates[history][index] = Fate::Delivered;
            }
            Fate::Before | Fate::Delivered | Fate::Declared | Fate::Coalesced => {
                self.report.duplicated += 1;
                self.complain(item, "is a duplicate, or from before the start or in a gap");
            }
        }
    }

    fn add_up(&mut self) {
        if !self.has_begun {
            return;
        }
        let histories = self.truth.histories.iter().zip(&self.fates);
        for (fact, fate) in histories.flat_map(|(history, fates)| history.facts.iter().zip(fates)) {
            let count = match fate {
                Fate::Before => continue,
                Fate::Open => &mut self.report.lost,
                Fate::Delivered => &mut self.report.delivered,
                Fate::Declared => &mut self.report.declared,
                Fate::Coalesced => &mut self.report.coalesced,
            };
            *count += 1;
            self.report.produced += 1;
            if *fate == Fate::Open && self.report.first_problems.len() < super::PROBLEMS_MAX {
                let words = self.words(fact.commit, "was never delivered");
                self.report.problem(|| words);
            }
        }
    }

    fn corrupt(&mut self, item: Item, what: &str) {
        self.report.corrupted += 1;
        self.complain(item, what);
    }

    fn complain(&mut self, item: Item, what: &str) {
        let Truth {
            cluster, resource, ..
        } = self.truth;
        let Item { change, rv, .. } = item;
        self.report
            .problem(|| format!("{cluster} {resource}: {change:?} at {rv} {what}"));
    }

    fn words(&self, commit: &Commit, what: &str) -> String {
        let Truth {
            cluster, resource, ..
        } = self.truth;
        let Commit {
            change,
            rv,
            ordinal,
            namespace,
            name,
            ..
        } = commit;
        format!("{cluster} {resource}: {change:?} {namespace}/{name} at {rv}.{ordinal} {what}")
    }
}

/// Lists send items of built-in resources in another form than watches.
fn has_crc(commit: &Commit, crc: u32) -> bool {
    crc == commit.object_crc || crc == commit.item_crc
}
