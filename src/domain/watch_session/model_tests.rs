//! A model of an API server that misbehaves at random, and a subscriber that keeps a table.
//!
//! Nothing is assumed of its manners: events are held back for any time, watches break at any
//! moment, events are left out, and history is rewound and overtaken under an open watch.

use std::collections::BTreeSet;

use proptest::{
    collection::vec,
    prelude::{any, prop_assert, prop_assert_eq, proptest},
};

use super::{
    Failure, Input, Listing, OPENED, Output, Outputs, SessionPolicy, WatchSession,
    model_acts::{Act, OTHER, any_act},
    model_history::{Entry, History, Table, apply},
};
use crate::domain::{
    event::{Change, Event, GapReason, ObjectKey},
    id::UnixMillis,
    position::ResourceVersion,
    stream::ResumePoint,
};

const BROKEN: Input<'static> = Input::Failed(OTHER);

fn rv(number: u64) -> ResourceVersion {
    number.into()
}

/// A list on its way.
enum List {
    Asked,
    ToTake {
        exactly: Option<ResourceVersion>,
        above: Option<ResourceVersion>,
    },
    Taken(Input<'static>),
}

/// An API server with one resource type, and a subscriber's view of the session.
struct Model {
    session: WatchSession,
    now_ms: u64,
    history: History,
    cache_from: u64,
    compacted: u64,
    /// The next event of the open watch.
    open: Option<usize>,
    begun: u64,
    is_held: bool,
    closes_silently: bool,
    /// Whether the API server has said in its way that it cannot resume from here.
    is_refused: bool,
    /// What must be delivered next.
    expected: usize,
    /// What the subscriber has.
    table: Table,
    /// Events that the watch has left out and that were not delivered since.
    dropped: BTreeSet<u64>,
    /// Events of which the position says that they were delivered, although they were not: of
    /// objects that were created and deleted while the watch was silent.
    excused: BTreeSet<u64>,
    /// Whether history is another one than the subscriber's, and no era has said so yet.
    is_rewound: bool,
    /// Whether something is wrong that cannot be noticed any more.
    is_unnoticed: bool,
    /// Whether something was delivered after an event was left out, and no era has begun since.
    is_incomplete: bool,
    pending: Vec<Output>,
    list: Option<List>,
}

impl Model {
    fn new() -> Self {
        let session = WatchSession::new(ResumePoint::Fresh, None, SessionPolicy::default());
        let mut model = Self {
            session,
            now_ms: 0,
            history: History::new(),
            cache_from: 0,
            compacted: 0,
            open: None,
            begun: 0,
            is_held: false,
            closes_silently: false,
            is_refused: false,
            expected: 0,
            table: Table::new(),
            dropped: BTreeSet::new(),
            excused: BTreeSet::new(),
            is_rewound: false,
            is_unnoticed: false,
            is_incomplete: false,
            pending: Vec::new(),
            list: None,
        };
        model.input(Input::Start);
        model
    }

    fn input(&mut self, input: Input<'_>) {
        let outputs = self.session.step(self.now_ms, input);
        self.perform(outputs);
    }

    fn perform(&mut self, outputs: Outputs) {
        for output in outputs {
            match output {
                Output::Abandon => self.open = None,
                Output::Deliver | Output::Skip | Output::Verified { .. } => {}
                Output::Closed(at) => self.check_closed(&at),
                Output::AskToList => self.list = Some(List::Asked),
                Output::List { exactly, above } => {
                    self.list = Some(List::ToTake { exactly, above });
                }
                other => self.pending.push(other),
            }
        }
        assert!(self.pending.len() <= 1, "{:?}", self.pending);
        if !self.session.is_verifying() {
            self.list = None;
        }
    }

    /// What is closed and was not delivered must be invisible: created and deleted in between.
    fn check_closed(&mut self, at: &ResourceVersion) {
        let end = self
            .history
            .log
            .partition_point(|entry| rv(entry.version) <= *at);
        if end > self.expected {
            if !self.is_rewound && !self.is_incomplete() {
                let state = self.history.state_at(at.as_u64().unwrap());
                assert_eq!(self.table, state, "{at} is closed too early");
            }
            let undelivered = self.history.log[self.expected..end].iter();
            self.excused.extend(undelivered.map(|entry| entry.serial));
            self.expected = end;
        }
    }

    /// Whether something was left out that no era has made up for.
    fn is_incomplete(&self) -> bool {
        self.is_incomplete || self.is_unnoticed || !self.dropped.is_empty()
    }

    /// Whether a question of the session is answered with no.
    fn contradicts(&self) -> bool {
        let questions = self.session.questions(self.now_ms);
        questions.iter().any(|question| {
            let at = question.at.as_u64().unwrap();
            let witness = &question.witness;
            let found = self
                .history
                .state_at(at)
                .get(&witness.key.name().parse().unwrap())
                .copied();
            let known = (
                witness.key.uid().parse().unwrap(),
                witness.rv.as_u64().unwrap(),
            );
            (self.compacted..=self.history.revision).contains(&at) && found != Some(known)
        })
    }

    /// Answers what the session asks for, as a server without faults.
    fn answer(&mut self, fault: Option<Failure>) {
        let Some(asked) = self.pending.pop() else {
            return;
        };
        if let Some(failure) = fault
            && !matches!(asked, Output::Wait { .. } | Output::EraNeeded { .. })
        {
            return self.input(Input::Failed(failure));
        }
        match asked {
            Output::Probe => {
                let is_rewound = self.contradicts();
                self.input(Input::Probed {
                    at: rv(self.history.revision),
                    cluster_uid: "uid".into(),
                    is_rewound,
                });
            }
            Output::Watch { from } => {
                self.watch(from.as_u64().unwrap());
            }
            Output::CheckHistory { from, top, to } => self.compare(&from, &top, &to),
            Output::CheckRepair { from, .. } => {
                let gone = from < rv(self.compacted);
                self.is_refused |= gone;
                self.input(if gone {
                    Input::Irreparable
                } else {
                    Input::Repairable
                });
            }
            Output::Repair { from, to } => self.repair(&from, &to),
            Output::EraNeeded {
                reason,
                to,
                repaired,
                ..
            } => {
                self.check_reason(reason, &to);
                if !repaired {
                    let to = to.as_u64().unwrap();
                    // The snapshot that follows.
                    self.begin(self.history.state_at(to), to);
                    self.is_rewound = to > self.history.revision;
                }
                self.input(Input::Granted);
            }
            Output::Wait { .. } => self.input(Input::Waited),
            other => unreachable!("{other:?} is not asked"),
        }
    }

    fn watch(&mut self, from: u64) {
        if from < self.cache_from {
            self.is_refused = true;
            if from < self.compacted && self.closes_silently {
                self.input(OPENED);
                return self.input(Input::Ended);
            }
            return self.input(Input::Failed(Failure::Gone));
        }
        self.begun = from;
        self.open = Some(self.history.after(from));
        self.input(OPENED);
    }

    fn compare(&mut self, from: &ResourceVersion, top: &ResourceVersion, to: &ResourceVersion) {
        let known = rv(self.compacted)..=rv(self.history.revision);
        if ![from, top, to].iter().all(|at| known.contains(at)) {
            self.is_refused = true;
            return self.input(Input::Irreparable);
        }
        let state_at = |at: &ResourceVersion| self.history.state_at(at.as_u64().unwrap());
        self.input(if state_at(top) == state_at(to) {
            Input::Unchanged
        } else {
            Input::Repairable
        });
    }

    /// Watches that only close are no reason for an era, as long as nothing was missed.
    fn check_reason(&mut self, reason: GapReason, to: &ResourceVersion) {
        let is_of_loss = matches!(
            reason,
            GapReason::WatchCacheReset | GapReason::HistoryExpired
        );
        let is_refused = std::mem::take(&mut self.is_refused);
        if is_of_loss && !is_refused && !self.is_rewound && !self.is_incomplete() {
            let state = self.history.state_at(to.as_u64().unwrap());
            assert_ne!(self.table, state, "an era at {to} for nothing");
        }
    }

    /// The subscriber has this table, and what follows this version comes next.
    fn begin(&mut self, table: Table, version: u64) {
        self.table = table;
        self.expected = self.history.after(version);
        self.dropped.clear();
        self.is_incomplete = false;
        self.is_unnoticed = false;
    }

    /// The net changes are those between two exact lists. They lead to the second one only where
    /// the subscriber has the first, apart from the deletions that came of an open version.
    fn repair(&mut self, from: &ResourceVersion, to: &ResourceVersion) {
        if *from < rv(self.compacted) || *to > rv(self.history.revision) {
            self.is_refused = true;
            return self.input(Input::Irreparable);
        }
        let (from, to) = (from.as_u64().unwrap(), to.as_u64().unwrap());
        if !self.is_rewound && !self.is_incomplete() {
            let mut before = self.history.state_at(from);
            let open = &self.history.log
                [self.history.after(from)..self.expected.max(self.history.after(from))];
            for entry in open {
                assert_eq!(
                    entry.change,
                    Change::Deleted,
                    "repaired from {from}, too early"
                );
                apply(&mut before, entry);
            }
            assert_eq!(self.table, before, "repaired from {from}, too late");
            self.begin(self.history.state_at(to), to);
        } else {
            // Net changes do not mend what was wrong before, and the reckoning begins again after
            // them: it is not noticed any more, as the guarantees say.
            self.begin(self.history.state_at(to), to);
            self.is_rewound = false;
        }
        self.input(Input::Repaired);
    }

    /// Takes the list that was asked for, or hands it in.
    fn go_on_with_list(&mut self) {
        match self.list.take() {
            Some(List::Asked) => self.input(Input::MayList),
            Some(List::ToTake { exactly, above }) => {
                let at = exactly
                    .as_ref()
                    .map_or(self.history.revision, |at| at.as_u64().unwrap());
                let taken = if at < self.compacted || at > self.history.revision {
                    Input::ListGone
                } else {
                    let mut listing = Listing::new(above);
                    for (name, (uid, version)) in self.history.state_at(at) {
                        let (name, uid) = (name.to_string(), uid.to_string());
                        listing.add("", &name, &uid, &rv(version));
                    }
                    Input::Listed {
                        listing: listing.taken_at(rv(at)),
                        is_rewound: exactly.is_none() && self.contradicts(),
                    }
                };
                self.list = Some(List::Taken(taken));
            }
            Some(List::Taken(taken)) => {
                // The list at the beginning is gone: what was wrong before is not noticed.
                let is_wrong = self.is_rewound || self.is_incomplete();
                self.is_unnoticed |= is_wrong && taken == Input::ListGone;
                self.input(taken);
            }
            None => {}
        }
    }

    fn send(&mut self) -> bool {
        let next = self
            .open
            .and_then(|next| self.history.log.get(next).copied());
        let Some(entry) = next.filter(|_| !self.is_held) else {
            return false;
        };
        self.open = self.open.map(|next| next + 1);
        self.show(&entry);
        true
    }

    /// Steps an event and checks the verdict.
    fn show(&mut self, entry: &Entry) {
        let uid = entry.uid.to_string();
        let version = rv(entry.version);
        let outputs = self.session.step(
            self.now_ms,
            Input::Event {
                rv: &version,
                change: entry.change,
                uid: &uid,
            },
        );
        if outputs.first() == Some(&Output::Deliver) {
            self.deliver(entry);
        } else {
            let is_known = self.history.log[..self.expected]
                .iter()
                .any(|known| known.serial == entry.serial);
            let is_told = outputs.contains(&Output::Abandon);
            let is_lost = self.excused.contains(&entry.serial);
            assert!(
                is_told
                    || entry.version <= self.begun
                    || self.is_rewound
                    || self.is_incomplete()
                    || (is_known && !is_lost),
                "{entry:?} was skipped before it was delivered"
            );
        }
        self.perform(outputs);
    }

    fn deliver(&mut self, entry: &Entry) {
        let at = self
            .history
            .log
            .iter()
            .position(|known| known.serial == entry.serial);
        let at = at.expect("what is sent is in the log");
        if !self.is_rewound {
            // What was left out of a version may come when it is resumed inside.
            let is_late = self.dropped.contains(&entry.serial);
            assert!(
                at >= self.expected || is_late,
                "{entry:?} is delivered twice"
            );
            let left_out = self.history.log[self.expected.min(at)..at]
                .iter()
                .find(|entry| !self.dropped.contains(&entry.serial));
            assert!(left_out.is_none(), "{left_out:?} is left out");
        }
        self.is_incomplete |= at > self.expected;
        self.expected = self.expected.max(at + 1);
        self.dropped.remove(&entry.serial);
        apply(&mut self.table, entry);
        self.session.remember(
            self.now_ms,
            &[Event {
                change: entry.change,
                rv: rv(entry.version),
                key: ObjectKey::new("", &entry.name.to_string(), &entry.uid.to_string()),
                object: bytes::Bytes::new(),
                metadata_only: false,
                seen: UnixMillis(0),
            }],
        );
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Write { name, delete } => self.history.write(*name, *delete),
            Act::DeleteAll => self.history.delete_all(),
            Act::WriteElsewhere => self.history.revision += 1,
            Act::Send { events } => {
                for _ in 0..*events {
                    self.send();
                }
            }
            Act::Hold { on } => self.is_held = *on,
            Act::Drop => {
                if let Some(next) = self.open.filter(|next| *next < self.history.log.len()) {
                    // Where it was delivered before, another one may be taken for it now.
                    self.is_incomplete |= next < self.expected;
                    self.dropped.insert(self.history.log[next].serial);
                    self.open = Some(next + 1);
                }
            }
            Act::Replay { back } => {
                let at = self
                    .history
                    .after(self.begun)
                    .checked_sub(1 + usize::from(*back));
                if let (Some(_), Some(at)) = (self.open, at) {
                    let entry = self.history.log[at];
                    self.show(&entry);
                }
            }
            Act::Bookmark => {
                if self.open == Some(self.history.log.len()) && !self.is_held {
                    self.input(Input::Bookmark(rv(self.history.revision)));
                }
            }
            Act::End => {
                if self.open.take().is_some() {
                    self.input(Input::Ended);
                }
            }
            Act::Cut => self.cut(),
            Act::Fail(failure) => {
                self.is_refused |= *failure != OTHER;
                if self.open.take().is_some() {
                    self.input(Input::Failed(*failure));
                } else {
                    self.answer(Some(*failure));
                }
            }
            Act::List => self.go_on_with_list(),
            Act::Pass { ms } => {
                self.now_ms += u64::from(*ms);
                self.input(Input::Tick);
            }
            Act::CloseSilently { on } => self.closes_silently = *on,
            Act::ResetCache => {
                self.cache_from = self.history.revision;
                self.cut();
            }
            Act::Compact => {
                (self.cache_from, self.compacted) = (self.history.revision, self.history.revision);
                self.cut();
            }
            Act::Rewind { back, writes } => self.rewind(u64::from(*back), *writes),
        }
    }

    fn cut(&mut self) {
        if self.open.take().is_some() {
            self.input(BROKEN);
        }
    }

    /// History goes back while whatever is open stays so. An open watch is silent until the
    /// version that it had reached is passed.
    ///
    /// Not between the list that an era is to begin at and the first thing that is delivered or
    /// listed in it: of what was there before, the session knows nothing.
    fn rewind(&mut self, back: u64, writes: u8) {
        let ledger = &self.session.verification.ledger;
        let questions = self.session.questions(self.now_ms);
        let mut witnesses = questions.iter().map(|question| &question.witness);
        let is_known =
            ledger.newest().is_some() || witnesses.any(|known| known.rv > *ledger.from());
        let is_beginning = matches!(
            self.pending.as_slice(),
            [Output::EraNeeded { .. } | Output::CheckRepair { .. } | Output::CheckHistory { .. }]
        );
        if is_beginning || !is_known {
            return;
        }
        let target = self.history.revision.saturating_sub(back).max(1);
        let sent = self.open.map(|next| {
            let sent = self.history.log[..next]
                .last()
                .map_or(0, |entry| entry.version);
            (next, sent.max(self.begun))
        });
        // What was not delivered of what is cut off never was, for the subscriber.
        let kept = self.history.after(target);
        self.is_rewound |= self.expected > kept
            || self.session.delivered() > rv(target)
            || self.session.verification.is_under_way();
        self.history.rewind(target);
        self.expected = self.expected.min(kept);
        self.cache_from = self.cache_from.min(target);
        self.compacted = self.compacted.min(target);
        for write in 0..writes {
            self.history.write(write % 4, write % 3 == 0);
        }
        self.open = sent.map(|(next, reached)| {
            if next <= kept {
                next
            } else {
                self.history.after(reached)
            }
        });
        // The watch was there already, and will not send what is written there now.
        let passed = &self.history.log[kept..self.open.unwrap_or(kept).max(kept)];
        self.dropped.extend(passed.iter().map(|entry| entry.serial));
    }

    /// A healthy server from now on, for long enough that everything is verified twice.
    fn settle(&mut self) {
        self.is_held = false;
        for _ in 0..200 {
            for _ in 0..4 {
                self.answer(None);
                while self.send() {}
                self.go_on_with_list();
            }
            self.now_ms += 10_000;
            self.input(Input::Tick);
        }
        for _ in 0..4 {
            self.answer(None);
        }
    }
}

proptest! {
    #[test]
    fn every_event_is_delivered_once_in_order_or_an_era_says_otherwise(
        acts in vec((any_act(), any::<bool>()), 0..200),
    ) {
        let mut model = Model::new();
        for (act, answers) in &acts {
            model.act(act);
            if *answers {
                model.answer(None);
            }
        }
        model.settle();
        prop_assert!(model.open.is_some(), "no watch is open");
        if !model.is_unnoticed {
            prop_assert_eq!(&model.table, &model.history.state_at(model.history.revision));
        }
        prop_assert_eq!(model.expected, model.history.log.len());
        prop_assert!(model.session.delivered() >= rv(model.history.revision));
    }
}
