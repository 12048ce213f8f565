//! A model of an API server that misbehaves at random, and a subscriber that counts.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
};

use super::{Failure, Input, Output, SessionPolicy, WatchSession};
use crate::domain::{frame::Change, position::ResourceVersion, stream::ResumePoint};

const BROKEN: Input = Input::Failed(Failure::Other {
    retry_after_ms: None,
});

fn rv(number: u64) -> ResourceVersion {
    number.into()
}

/// What the model's API server does next.
#[derive(Clone, Debug)]
enum Act {
    /// Writes; `shared` deletions at one version.
    Write {
        shared: u8,
    },
    /// Sends the next frames of the watch.
    Send {
        frames: u8,
    },
    /// Sends a frame from before the place where the watch began.
    Replay {
        back: u8,
    },
    /// Sends a bookmark where everything has been sent.
    Bookmark,
    /// Ends the watch, or fails what is asked next.
    End,
    Fail(Failure),
    /// Time passes.
    Pass {
        ms: u16,
    },
    /// The watch cache begins anew.
    ResetCache,
    /// Compaction: exact lists before now are gone too.
    Compact,
    /// etcd is restored from a while ago.
    Rewind {
        back: u8,
    },
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4u8).prop_map(|shared| Act::Write { shared }),
        6 => (0..6u8).prop_map(|frames| Act::Send { frames }),
        1 => (0..9u8).prop_map(|back| Act::Replay { back }),
        2 => Just(Act::Bookmark),
        1 => Just(Act::End),
        1 => Just(Act::Fail(Failure::Internal)),
        1 => Just(Act::Fail(Failure::Other { retry_after_ms: None })),
        3 => any::<u16>().prop_map(|ms| Act::Pass { ms }),
        1 => Just(Act::ResetCache),
        1 => Just(Act::Compact),
        1 => (1..5u8).prop_map(|back| Act::Rewind { back }),
    ]
}

/// An API server with one resource type, and a subscriber's view of the session.
struct Model {
    session: WatchSession,
    now_ms: u64,
    /// Version and serial number of every frame that history has.
    log: Vec<(u64, Change, u64)>,
    revision: u64,
    serial: u64,
    cache_from: u64,
    compacted: u64,
    /// The next frame of the open watch.
    open: Option<usize>,
    begun: u64,
    /// What must be delivered next.
    expected: usize,
    pending: Vec<Output>,
}

impl Model {
    fn new() -> Self {
        let session = WatchSession::new(ResumePoint::Fresh, None, SessionPolicy::default());
        let mut model = Self {
            session,
            now_ms: 0,
            log: Vec::new(),
            revision: 1,
            serial: 0,
            cache_from: 0,
            compacted: 0,
            open: None,
            begun: 0,
            expected: 0,
            pending: Vec::new(),
        };
        model.input(Input::Start);
        model
    }

    fn input(&mut self, input: Input) {
        let outputs = self.session.step(self.now_ms, input);
        for output in outputs {
            match output {
                Output::Abandon => self.open = None,
                Output::Deliver | Output::Skip => {}
                Output::Closed(at) => self.check_closed(&at),
                other => self.pending.push(other),
            }
        }
        assert!(self.pending.len() <= 1, "{:?}", self.pending);
    }

    fn check_closed(&self, at: &ResourceVersion) {
        let missing = self.log[self.expected..].first();
        assert!(
            missing.is_none_or(|(version, ..)| rv(*version) > *at),
            "{at} is closed before {missing:?} was delivered"
        );
    }

    fn after(&self, version: u64) -> usize {
        self.log.partition_point(|(at, ..)| *at <= version)
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
            Output::Probe => self.input(Input::Probed {
                at: rv(self.revision),
                cluster_uid: "uid".into(),
            }),
            Output::Watch { from } => {
                let from = from.as_u64().unwrap();
                if from < self.cache_from {
                    return self.input(Input::Failed(Failure::Gone));
                }
                self.begun = from;
                self.open = Some(self.after(from));
                self.input(Input::Opened);
            }
            Output::CheckRepair { from, .. } => {
                let gone = from < rv(self.compacted);
                self.input(if gone {
                    Input::Irreparable
                } else {
                    Input::Repairable
                });
            }
            Output::Repair { from, to } => {
                if from < rv(self.compacted) || to > rv(self.revision) {
                    return self.input(Input::Irreparable);
                }
                self.expected = self.after(to.as_u64().unwrap());
                self.input(Input::Repaired);
            }
            Output::EraNeeded { to, repaired, .. } => {
                if !repaired {
                    self.expected = self.after(to.as_u64().unwrap());
                }
                self.input(Input::Granted);
            }
            Output::Wait { .. } => self.input(Input::Waited),
            other => unreachable!("{other:?} is not asked"),
        }
    }

    fn send(&mut self) -> bool {
        let Some((version, change, serial)) =
            self.open.and_then(|next| self.log.get(next).copied())
        else {
            return false;
        };
        self.open = self.open.map(|next| next + 1);
        self.show(version, change, serial);
        true
    }

    /// Hands in a frame and checks the verdict.
    fn show(&mut self, version: u64, change: Change, serial: u64) {
        let outputs = self.session.step(
            self.now_ms,
            Input::Frame {
                rv: rv(version),
                change,
            },
        );
        if outputs.first() == Some(&Output::Deliver) {
            let expected = self.log.get(self.expected).map(|(_, _, serial)| *serial);
            assert_eq!(Some(serial), expected, "delivered out of turn");
            self.expected += 1;
        } else {
            let known = self.log[..self.expected].iter().any(|(.., s)| *s == serial);
            assert!(known, "frame {serial} was skipped before it was delivered");
        }
        for output in outputs {
            match output {
                Output::Abandon => self.open = None,
                Output::Probe | Output::Wait { .. } => self.pending.push(output),
                _ => {}
            }
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Write { shared } => self.write(*shared),
            Act::Send { frames } => {
                for _ in 0..*frames {
                    self.send();
                }
            }
            Act::Replay { back } => {
                let at = self.after(self.begun).checked_sub(1 + usize::from(*back));
                if let (Some(_), Some(at)) = (self.open, at) {
                    let (version, change, serial) = self.log[at];
                    self.show(version, change, serial);
                }
            }
            Act::Bookmark => {
                if self.open == Some(self.log.len()) {
                    self.input(Input::Bookmark(rv(self.revision)));
                }
            }
            Act::End => {
                if self.open.take().is_some() {
                    self.input(Input::Ended);
                }
            }
            Act::Fail(failure) => {
                if self.open.take().is_some() {
                    self.input(Input::Failed(*failure));
                } else {
                    self.answer(Some(*failure));
                }
            }
            Act::Pass { ms } => {
                // A healthy server sends within the grace.
                while self.send() {}
                self.now_ms += u64::from(*ms);
                self.input(Input::Tick);
            }
            Act::ResetCache => {
                self.cache_from = self.revision;
                self.cut();
            }
            Act::Compact => {
                (self.cache_from, self.compacted) = (self.revision, self.revision);
                self.cut();
            }
            Act::Rewind { back } => self.rewind(u64::from(*back)),
        }
    }

    fn cut(&mut self) {
        if self.open.take().is_some() {
            self.input(BROKEN);
        }
    }

    fn write(&mut self, shared: u8) {
        self.revision += 1 + u64::from(shared % 2);
        let change = if shared == 0 {
            Change::Modified
        } else {
            Change::Deleted
        };
        for _ in 0..shared.max(1) {
            self.serial += 1;
            self.log.push((self.revision, change, self.serial));
        }
    }

    /// History goes back; nothing is written until the session has seen it, as with a real
    /// restore only the list tells.
    fn rewind(&mut self, back: u64) {
        let delivered = self.log[..self.expected].last().map_or(0, |(at, ..)| *at);
        let target = delivered.saturating_sub(back).max(1);
        if !matches!(self.pending.as_slice(), [] | [Output::Wait { .. }]) || target >= delivered {
            return;
        }
        self.cut();
        self.log.truncate(self.after(target));
        self.expected = self.expected.min(self.log.len());
        self.revision = target;
        (self.cache_from, self.compacted) = (target, target);
        for _ in 0..3 {
            self.answer(None);
        }
    }

    /// With a healthy server everything arrives.
    fn settle(&mut self) {
        for _ in 0..64 {
            self.answer(None);
            while self.send() {}
        }
        // A deletion may stay open until the idle refresh.
        for pass_ms in [60_000, 3_000] {
            self.now_ms += pass_ms;
            self.input(Input::Tick);
            self.answer(None);
            self.answer(None);
        }
    }
}

proptest! {
    #[test]
    fn every_frame_is_delivered_once_in_order_or_an_era_says_otherwise(
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
        prop_assert_eq!(model.expected, model.log.len());
        prop_assert!(model.session.delivered() >= rv(model.revision));
    }
}
