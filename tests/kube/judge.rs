//! Goes along with what a subscriber received of one stream, and holds every step against what was
//! committed.

use std::{collections::BTreeSet, fmt};

use quorumwatch::domain::{frame::Change, position::Position};

use crate::{
    recorder::Frames,
    subscriber::{Received, Seen, SeenGap},
    truth::{Fact, Objects, Truth},
};

/// Most problems that are put in words.
const PROBLEMS_MAX: usize = 12;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Changes that were delivered one by one.
    pub(crate) events: usize,
    /// Of these, those whose object was held against an independent watch, byte for byte.
    pub(crate) compared: usize,
    /// Net changes of repaired gaps.
    pub(crate) repaired: usize,
    /// Changes inside repaired gaps that no event of their own tells of.
    pub(crate) coalesced: usize,
    /// Changes inside gaps that a snapshot followed.
    pub(crate) declared: usize,
    /// Objects of snapshots.
    pub(crate) snapshot: usize,
    pub(crate) gaps: usize,
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    /// Anything else that must not be.
    pub(crate) wrong: usize,
    problems: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.compared += other.compared;
        self.repaired += other.repaired;
        self.coalesced += other.coalesced;
        self.declared += other.declared;
        self.snapshot += other.snapshot;
        self.gaps += other.gaps;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.wrong += other.wrong;
        self.problems.extend(other.problems);
    }

    /// Panics where anything is lost, duplicated or wrong.
    pub(crate) fn expect_clean(&self) {
        let clean = (self.lost, self.duplicated, self.wrong) == (0, 0, 0);
        assert!(clean, "{self}\n{}", self.problems.join("\n"));
    }

    pub(crate) fn wrong(&mut self, problem: String) {
        self.wrong += 1;
        self.complain(problem);
    }

    fn complain(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events ({} compared byte for byte), {} net changes for {} coalesced, \
             {} in snapshots, {} declared missing, {} gaps, {} lost, {} duplicated, {} wrong",
            self.events,
            self.compared,
            self.repaired,
            self.coalesced,
            self.snapshot,
            self.declared,
            self.gaps,
            self.lost,
            self.duplicated,
            self.wrong
        )
    }
}

/// Where the subscriber is.
enum Phase {
    /// A snapshot is due or under way: what it has told.
    Snapshot(Objects),
    Live,
    /// The net changes of a repair that leads to this version.
    Repair {
        gap: SeenGap,
        to: u64,
    },
}

/// The judge of one stream.
pub(crate) struct Judge<'a> {
    name: String,
    truth: &'a Truth,
    frames: &'a Frames,
    phase: Phase,
    /// What the subscriber believes there is.
    objects: Objects,
    /// The fact that must come next.
    next: usize,
    last: Option<Position>,
    ids: BTreeSet<String>,
    report: Report,
}

/// Judges a stream that began with a snapshot; the truth must end where the record does.
pub(crate) fn judge(name: String, seen: &[Seen], truth: &Truth, frames: &Frames) -> Report {
    let mut judge = Judge {
        name,
        truth,
        frames,
        phase: Phase::Snapshot(Objects::new()),
        objects: Objects::new(),
        next: 0,
        last: None,
        ids: BTreeSet::new(),
        report: Report::default(),
    };
    for seen in seen {
        match seen {
            Seen::Event(event) => judge.event(event),
            Seen::Gap(gap) => judge.gap(gap),
            Seen::Synced(position) => judge.synced(position),
        }
    }
    judge.end()
}

impl Judge<'_> {
    fn event(&mut self, event: &Received) {
        if event.change == Change::Snapshot {
            self.report.snapshot += 1;
            if let Phase::Snapshot(objects) = &mut self.phase {
                if objects.insert(event.key.clone(), event.rv).is_some() {
                    self.report.duplicated += 1;
                    self.complain(&format!("twice in a snapshot: {event:?}"));
                }
            } else {
                self.wrong(&format!("not in a snapshot: {event:?}"));
            }
            return;
        }
        self.advance(&event.position);
        if !self.ids.insert(event.id.clone()) {
            self.wrong(&format!("an id was given twice: {event:?}"));
        }
        match &self.phase {
            Phase::Repair { to, gap } => {
                let end = gap.to.as_ref().map(|to| to.era);
                if Some(event.position.era) == end && event.position.rv == (*to).into() {
                    self.net_change(event);
                } else {
                    self.end_repair();
                    self.live(event);
                }
            }
            Phase::Live => self.live(event),
            Phase::Snapshot(_) => self.wrong(&format!("before a snapshot was complete: {event:?}")),
        }
    }

    /// An event of its own for one change: the one that comes next.
    fn live(&mut self, event: &Received) {
        if event.position.rv != event.rv.into() {
            self.wrong(&format!("at a place that is not its version: {event:?}"));
        }
        let is = |fact: &Fact| {
            fact.rv == event.rv && fact.key == event.key && fact.change == event.change
        };
        let facts = self.truth.facts();
        let Some(found) = facts.iter().position(is) else {
            return self.wrong(&format!("was never committed: {event:?}"));
        };
        if found < self.next {
            self.report.duplicated += 1;
            return self.complain(&format!("came again: {event:?}"));
        }
        if found > self.next {
            self.report.lost += found - self.next;
            self.complain(&format!("{:?} to {event:?} is lost", facts[self.next]));
        }
        self.next = found + 1;
        self.report.events += 1;
        self.believe(event);
        let place = (event.rv, event.key.clone(), event.change);
        if let Some(object) = self.frames.get(&place) {
            self.report.compared += 1;
            if object.get().as_bytes() != event.object {
                self.wrong(&format!("differs from {object}: {event:?}"));
            }
        }
    }

    fn believe(&mut self, event: &Received) {
        if event.change == Change::Deleted {
            self.objects.remove(&event.key);
        } else {
            self.objects.insert(event.key.clone(), event.rv);
        }
    }

    fn net_change(&mut self, event: &Received) {
        self.report.repaired += 1;
        let known = self.objects.get(&event.key);
        let is_news = match event.change {
            Change::Deleted => known.is_some(),
            _ => known != Some(&event.rv),
        };
        if !is_news {
            self.report.duplicated += 1;
            self.complain(&format!("a net change that is none: {event:?}"));
        }
        self.believe(event);
    }

    fn gap(&mut self, gap: &SeenGap) {
        if matches!(self.phase, Phase::Repair { .. }) {
            self.end_repair();
        }
        self.report.gaps += 1;
        let Some(to) = &gap.to else {
            // Only a snapshot that begins again has no place.
            self.phase = Phase::Snapshot(Objects::new());
            return;
        };
        self.advance(to);
        if gap.from.as_ref().is_none_or(|from| from >= to) {
            self.wrong(&format!("a gap that spans nothing: {gap:?}"));
        }
        if gap.repaired {
            // It ends just before the net changes, which all stand at one version.
            let to = to.rv.as_u64().unwrap() + 1;
            self.phase = Phase::Repair {
                gap: gap.clone(),
                to,
            };
        } else {
            self.phase = Phase::Snapshot(Objects::new());
        }
    }

    /// After the net changes the subscriber knows what there was at their end.
    fn end_repair(&mut self) {
        let Phase::Repair { to, .. } = &self.phase else {
            return;
        };
        let to = *to;
        self.phase = Phase::Live;
        let end = self.truth.end_of(to).max(self.next);
        self.report.coalesced += end - self.next;
        self.next = end;
        self.compare(to, "after a repair");
    }

    fn synced(&mut self, position: &Position) {
        let Phase::Snapshot(objects) = &mut self.phase else {
            return self.wrong(&format!("no snapshot ends at {position}"));
        };
        self.objects = std::mem::take(objects);
        self.phase = Phase::Live;
        self.advance(position);
        let rv = position.rv.as_u64().unwrap();
        let end = self.truth.end_of(rv);
        if self.last.is_some() && self.report.gaps > 0 {
            self.report.declared += end.saturating_sub(self.next);
        }
        self.next = end;
        self.compare(rv, "in a snapshot");
    }

    fn compare(&mut self, rv: u64, when: &str) {
        let truth = self.truth.objects_at(rv);
        if truth == self.objects {
            return;
        }
        let differs = |(key, rv): &(&String, &u64)| self.objects.get(*key) != Some(*rv);
        let missing: Vec<_> = truth.iter().filter(differs).take(4).collect();
        let differs = |(key, rv): &(&String, &u64)| truth.get(*key) != Some(*rv);
        let surplus: Vec<_> = self.objects.iter().filter(differs).take(4).collect();
        let problem = format!("{when} at {rv}: missing {missing:?}, surplus {surplus:?}");
        self.wrong(&problem);
    }

    /// Positions grow.
    fn advance(&mut self, position: &Position) {
        if self.last.as_ref().is_some_and(|last| last >= position) {
            let problem = format!("{position} comes after {:?}", self.last);
            self.wrong(&problem);
        }
        self.last = Some(position.clone());
    }

    fn end(mut self) -> Report {
        self.end_repair();
        let facts = self.truth.facts();
        if self.next < facts.len() {
            self.report.lost += facts.len() - self.next;
            self.complain(&format!(
                "{:?} and what follows never came",
                facts[self.next]
            ));
        }
        if let Some(last) = facts.last() {
            self.compare(last.rv, "at the end");
        }
        self.report
    }

    fn wrong(&mut self, problem: &str) {
        self.report.wrong(format!("{}: {problem}", self.name));
    }

    fn complain(&mut self, problem: &str) {
        self.report.complain(format!("{}: {problem}", self.name));
    }
}
