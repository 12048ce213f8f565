//! Goes along with what a subscriber received of one stream, and holds every step against what was
//! committed.

use std::collections::{BTreeMap, BTreeSet};

use quorumwatch::domain::{event::Change, position::Position};

use crate::{
    content::{Origin, compare},
    record::{Received, Seen, SeenGap},
    recorder::Recorded,
    report::Report,
    truth::{Fact, Objects, Truth},
};

/// Where the subscriber is.
enum Phase {
    /// A snapshot is due or under way: what it has brought.
    Snapshot(Objects),
    Live,
    Repair(Repair),
}

/// The net changes of a repaired gap.
struct Repair {
    /// Where all of them stand, and the gap ends.
    end: Position,
    /// Those that have not come yet, with the version of their object.
    due: BTreeMap<(String, Change), u64>,
}

/// The judge of one stream.
pub(crate) struct Judge<'a> {
    name: String,
    truth: &'a Truth,
    recorded: &'a Recorded,
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
pub(crate) fn judge(name: String, seen: &[Seen], truth: &Truth, recorded: &Recorded) -> Report {
    let mut judge = Judge {
        name,
        truth,
        recorded,
        phase: Phase::Snapshot(Objects::new()),
        objects: Objects::new(),
        next: 0,
        last: None,
        ids: BTreeSet::new(),
        report: Report::default(),
    };
    for seen in seen {
        match seen {
            Seen::Added {
                position,
                snapshot_follows,
            } => judge.added(position.as_ref(), *snapshot_follows),
            Seen::Event(event) => judge.event(event),
            Seen::Gap(gap) => judge.gap(gap),
            Seen::Synced(position) => judge.synced(position),
            Seen::Passed(position) => judge.passed(position),
        }
    }
    judge.end()
}

impl Judge<'_> {
    /// A connection begins: where the one before ended.
    fn added(&mut self, position: Option<&Position>, snapshot_follows: bool) {
        if snapshot_follows {
            match &self.phase {
                Phase::Snapshot(_) => self.phase = Phase::Snapshot(Objects::new()),
                _ => self.wrong("a snapshot follows without a gap"),
            }
        }
        match position {
            Some(position) => self.passed(position),
            None if snapshot_follows => {}
            None => self.wrong("added without a position"),
        }
    }

    fn event(&mut self, event: &Received) {
        if event.change == Change::Snapshot {
            return self.snapshot(event);
        }
        self.advance(&event.position);
        if !self.ids.insert(event.id.clone()) {
            self.wrong(&format!("an id was given twice: {event:?}"));
        }
        match &self.phase {
            Phase::Repair(Repair { end, .. })
                if (event.position.era, &event.position.rv) == (end.era, &end.rv) =>
            {
                self.net_change(event);
            }
            Phase::Repair(_) => {
                self.end_repair();
                self.live(event);
            }
            Phase::Live => self.live(event),
            Phase::Snapshot(_) => self.wrong(&format!("before a snapshot was complete: {event:?}")),
        }
    }

    fn snapshot(&mut self, event: &Received) {
        self.report.snapshot += 1;
        self.compare_object(event, Origin::List);
        let Phase::Snapshot(objects) = &mut self.phase else {
            return self.wrong(&format!("not in a snapshot: {event:?}"));
        };
        if objects.insert(event.key.clone(), event.rv).is_some() {
            self.duplicated(&format!("twice in a snapshot: {event:?}"));
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
        let Some(found) = self.truth.facts().iter().position(is) else {
            return self.wrong(&format!("was never committed: {event:?}"));
        };
        if found < self.next {
            return self.duplicated(&format!("came again: {event:?}"));
        }
        self.expect_complete(found, &format!("{event:?}"));
        self.next = found + 1;
        self.report.events += 1;
        self.believe(event);
        self.compare_object(event, Origin::Watch);
    }

    /// Everything before this fact has come.
    fn expect_complete(&mut self, end: usize, by: &str) {
        let Some(lost) = end.checked_sub(self.next).filter(|lost| *lost > 0) else {
            return;
        };
        let first = &self.truth.facts()[self.next];
        let problem = format!("{}: {first:?} to {by} is lost", self.name);
        self.report.lost(lost, problem);
        self.next = end;
    }

    fn believe(&mut self, event: &Received) {
        if event.change == Change::Deleted {
            self.objects.remove(&event.key);
        } else {
            self.objects.insert(event.key.clone(), event.rv);
        }
    }

    /// It must be one of those that are due, once.
    fn net_change(&mut self, event: &Received) {
        self.report.repaired += 1;
        self.believe(event);
        self.compare_object(event, Origin::List);
        let Phase::Repair(Repair { due, .. }) = &mut self.phase else {
            return;
        };
        match due.remove(&(event.key.clone(), event.change)) {
            Some(rv) if rv == event.rv => {}
            Some(rv) => self.wrong(&format!("the net change is of version {rv}: {event:?}")),
            None => self.duplicated(&format!("not a net change: {event:?}")),
        }
    }

    fn gap(&mut self, gap: &SeenGap) {
        self.end_repair();
        self.report.gaps += 1;
        let Some(to) = &gap.to else {
            // Only a snapshot that begins again has no place.
            self.phase = Phase::Snapshot(Objects::new());
            return;
        };
        match &gap.from {
            Some(from) if from < to => self.passed(from),
            None if matches!(self.phase, Phase::Snapshot(_)) => {}
            _ => self.wrong(&format!("a gap that spans nothing: {gap:?}")),
        }
        self.advance(to);
        self.phase = if gap.repaired {
            Phase::Repair(self.begin_repair(gap, to))
        } else {
            Phase::Snapshot(Objects::new())
        };
    }

    /// What must come: the difference between what the subscriber has and what there was.
    fn begin_repair(&mut self, gap: &SeenGap, to: &Position) -> Repair {
        // The gap ends just before the net changes, which all stand at one version.
        let rv = to.rv.as_u64().unwrap() + 1;
        let end = Position::closed(to.era, rv.into());
        if gap.from.as_ref().is_some_and(|from| from.rv > end.rv)
            || self.truth.end_of(rv) < self.next
        {
            self.wrong(&format!("a repair that goes back: {gap:?}"));
        }
        let there = self.truth.objects_at(rv);
        let mut due = BTreeMap::new();
        for (key, known) in &self.objects {
            let now = there.get(key);
            let is_same_object = now.is_some() && !self.truth.was_created(key, *known, rv);
            match now {
                Some(now) if is_same_object && now != known => {
                    due.insert((key.clone(), Change::Modified), *now);
                }
                Some(_) if is_same_object => {}
                _ => {
                    due.insert((key.clone(), Change::Deleted), *known);
                }
            }
        }
        for (key, now) in &there {
            let known = self.objects.get(key);
            if known.is_none_or(|known| self.truth.was_created(key, *known, rv)) {
                due.insert((key.clone(), Change::Added), *now);
            }
        }
        Repair { end, due }
    }

    /// After the net changes the subscriber knows what there was at their end.
    fn end_repair(&mut self) {
        let (end, due) = match std::mem::replace(&mut self.phase, Phase::Live) {
            Phase::Repair(Repair { end, due }) => (end, due),
            other => {
                self.phase = other;
                return;
            }
        };
        if let Some(first) = due.first_key_value() {
            let problem = format!("{}: net changes never came: {first:?}", self.name);
            self.report.lost(due.len(), problem);
        }
        let rv = end.rv.as_u64().unwrap();
        let next = self.truth.end_of(rv).max(self.next);
        self.report.coalesced += next - self.next;
        self.next = next;
        self.compare(rv, "after a repair");
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
        if self.report.gaps > 0 {
            self.report.declared += end.saturating_sub(self.next);
        }
        self.next = end;
        self.compare(rv, "in a snapshot");
    }

    /// The subscription says that it stands here, so that everything before has come.
    fn passed(&mut self, position: &Position) {
        if self.last.as_ref().is_some_and(|last| position < last) {
            let problem = format!("{position} is passed after {:?}", self.last);
            self.wrong(&problem);
        }
        self.last = Some(position.clone());
        match &self.phase {
            Phase::Snapshot(_) => self.wrong(&format!("{position} is passed in a snapshot")),
            Phase::Repair(Repair { end, .. }) if position < end => return,
            Phase::Repair(_) => self.end_repair(),
            Phase::Live => {}
        }
        let before = position.resume_rv().as_u64().unwrap();
        let end = self.truth.end_of(before);
        self.expect_complete(end, &format!("{position}"));
    }

    fn compare_object(&mut self, event: &Received, from: Origin) {
        match compare(event, from, self.recorded) {
            Ok(compared) => self.report.compared += usize::from(compared),
            Err(why) => self.wrong(&format!("{why}: {event:?}")),
        }
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
        self.expect_complete(facts.len(), "the end");
        if let Some(last) = facts.last() {
            self.compare(last.rv, "at the end");
        }
        self.report
    }

    fn wrong(&mut self, problem: &str) {
        self.report.wrong(format!("{}: {problem}", self.name));
    }

    fn duplicated(&mut self, problem: &str) {
        self.report.duplicated(format!("{}: {problem}", self.name));
    }
}
