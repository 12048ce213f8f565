//! The watch of an owner: drives a [`WatchSession`] on the API server.

use quorumwatch::domain::{
    event::{Event, GapReason},
    position::ResourceVersion,
    stream::ResumePoint,
    watch_session::{Failure, Input, Output, SessionPolicy, WatchSession},
};

use crate::{
    digest::Digested,
    invariants::facts::{Written, number},
    server::{Api, event_of},
};

/// No time passes: what a session does because of time is tested elsewhere.
const NOW_MS: u64 = 0;

const BROKEN: Input<'static> = Input::Failed(Failure::Other {
    retry_after_ms: None,
});

/// A session, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Watch {
    session: Digested<WatchSession>,
    pub(crate) waits: Waits,
    /// How far the last repair was published: it continues there when it is asked for again.
    repair: Option<Repair>,
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Waits {
    /// The change with this number.
    Change(usize),
    /// A new attempt.
    Retry,
    /// An era.
    Era {
        reason: GapReason,
        to: u64,
        repaired: bool,
    },
    /// That the net changes are published.
    Repair(Repair),
}

/// Net changes that are being published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Repair {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// How many of them were published.
    pub(crate) given: usize,
}

/// What the session has for the owner.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// An event.
    Event(Event),
    /// Everything up to here was delivered.
    Closed(ResourceVersion),
}

impl Watch {
    /// Begins at a checkpoint, and opens the watch where that is possible.
    pub(crate) fn open(point: ResumePoint, api: Api<'_>) -> Self {
        let session = WatchSession::new(point, None, SessionPolicy::default());
        let mut watch = Self {
            session: Digested::new(session),
            waits: Waits::Retry,
            repair: None,
        };
        watch.input(Input::Start, None, api);
        watch
    }

    /// The next change of the open watch.
    pub(crate) fn change(&mut self, written: &Written, api: Api<'_>) -> Vec<Signal> {
        if let Waits::Change(next) = &mut self.waits {
            *next += 1;
        }
        let rv = written.rv.into();
        let input = Input::Event {
            rv: &rv,
            change: written.change,
            uid: &written.object,
        };
        self.input(input, Some(event_of(written)), api)
    }

    /// Everything up to now was sent.
    pub(crate) fn bookmark(&mut self, api: Api<'_>) -> Vec<Signal> {
        self.input(Input::Bookmark(api.now().into()), None, api)
    }

    /// The connection breaks.
    pub(crate) fn break_off(&mut self, api: Api<'_>) {
        self.input(BROKEN, None, api);
    }

    /// The wait is over.
    pub(crate) fn retry(&mut self, api: Api<'_>) -> Vec<Signal> {
        self.input(Input::Waited, None, api)
    }

    /// The era has begun.
    pub(crate) fn granted(&mut self, api: Api<'_>) -> Vec<Signal> {
        self.input(Input::Granted, None, api)
    }

    /// All net changes were published.
    pub(crate) fn repaired(&mut self, api: Api<'_>) -> Vec<Signal> {
        self.input(Input::Repaired, None, api)
    }

    /// One of the lists of a repair is gone.
    pub(crate) fn irreparable(&mut self, api: Api<'_>) -> Vec<Signal> {
        self.input(Input::Irreparable, None, api)
    }

    /// Another net change was published.
    pub(crate) fn count_net_change(&mut self) {
        if let Waits::Repair(repair) = &mut self.waits {
            repair.given += 1;
            self.repair = Some(*repair);
        }
    }

    /// Does what the session asks for until it waits.
    fn input(&mut self, input: Input<'_>, mut event: Option<Event>, api: Api<'_>) -> Vec<Signal> {
        let mut signals = Vec::new();
        let mut outputs = self.session.change(|session| session.step(NOW_MS, input));
        loop {
            let mut answer = None;
            for output in outputs {
                match output {
                    Output::Deliver => signals.extend(event.take().map(Signal::Event)),
                    Output::Closed(rv) => signals.push(Signal::Closed(rv)),
                    request => answer = self.carry_out(request, api).or(answer),
                }
            }
            let Some(input) = answer else {
                return signals;
            };
            outputs = self.session.change(|session| session.step(NOW_MS, input));
        }
    }

    fn carry_out(&mut self, request: Output, api: Api<'_>) -> Option<Input<'static>> {
        match request {
            Output::Probe => Some(Input::Probed {
                at: api.now().into(),
                cluster_uid: String::new(),
                is_rewound: false,
            }),
            Output::Watch { from } => {
                let from = number(&from);
                if !api.can_watch(from) {
                    return Some(Input::Failed(Failure::Gone));
                }
                self.waits = Waits::Change(api.after(from));
                Some(Input::Opened {
                    cluster_uid: String::new(),
                })
            }
            Output::CheckRepair { from, to } => {
                let answers = api.can_list(number(&from)) && api.can_list(number(&to));
                Some(if answers {
                    Input::Repairable
                } else {
                    Input::Irreparable
                })
            }
            Output::Repair { from, to } => {
                let (from, to) = (number(&from), number(&to));
                let earlier = self.repair.filter(|it| (it.from, it.to) == (from, to));
                self.waits = Waits::Repair(earlier.unwrap_or(Repair { from, to, given: 0 }));
                None
            }
            Output::EraNeeded {
                reason,
                to,
                repaired,
                ..
            } => {
                let to = number(&to);
                self.waits = Waits::Era {
                    reason,
                    to,
                    repaired,
                };
                None
            }
            Output::Wait { .. } => {
                self.waits = Waits::Retry;
                None
            }
            // Nothing that a session does only after some time, or because it doubts the server.
            _ => None,
        }
    }
}
