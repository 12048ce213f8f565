//! A feed of the stream, as `pipeline::feed` drives it: carries out what a [`FeedSession`] decides,
//! on the log of the owner and on the history of the API server.

use quorumwatch::domain::{
    delivery::{
        feed::{FeedError, FeedSession, Input, Look, Output},
        item::{Item, Part},
        place::{Place, Reader},
        replay::{Replay, Replayed},
        ring::Read,
    },
    event::Change,
    history::HistoryItem,
    id::{Epoch, Era},
    position::Position,
};

use crate::{
    digest::Digested,
    invariants::facts::number,
    replica::{Key, Replica},
    scope::{Milestone, Plant, Scope},
    server::{Api, event_of},
    stream_log::ALL,
};

/// Most inputs that a session takes until it gives something or waits.
const INPUTS_MAX: usize = 64;

/// A feed for one reader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Feed {
    /// The replica that it comes from.
    pub(crate) owner: usize,
    /// The epoch under which its reader knows the owner.
    pub(crate) epoch: Epoch,
    /// The run that serves it.
    source: Key,
    /// Whether its reader is a log.
    is_log: bool,
    session: Digested<FeedSession>,
    /// What the session wants to be located.
    locating: Option<Place>,
    /// The era that the session knows of.
    era: Option<Era>,
    follows: Follows,
}

/// What the session follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Follows {
    Nothing,
    Log(u64),
    Replay(Replaying),
    Look(Looking),
}

/// A second watch, with one reader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Replaying {
    replay: Digested<Replay>,
    /// Where the reader continues.
    next: u64,
    /// After which version a watch would begin now.
    from: u64,
    /// The number of the next change; none before the watch was opened.
    change: Option<usize>,
    /// How often the API server had restarted when it was opened.
    restarts: u8,
}

/// Lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Looking {
    look: Digested<Look>,
    /// The version of the list; of net changes, the later one.
    at: u64,
    /// How many items it gave.
    given: usize,
}

/// What a feed gives at once.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) items: Vec<Item>,
    pub(crate) end: Option<End>,
}

/// Why a feed ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its reader opens another one.
    Failed(FeedError),
    /// It takes inputs without end.
    Spins,
}

impl Feed {
    /// A feed from this owner; none while it does not publish under this epoch or a newer one.
    pub(crate) fn open(
        owner: usize,
        epoch: Epoch,
        reader: Reader,
        place: Place,
        source: &Replica,
    ) -> Option<Self> {
        let run = source.run.as_ref().filter(|_| source.up)?;
        if run.epoch < epoch || run.fenced {
            return None;
        }
        let mut session = FeedSession::new(run.epoch, reader, place.clone());
        // It begins with the question where its reader stands.
        session.step(Input::Start);
        Some(Self {
            owner,
            epoch,
            source: run.key(),
            is_log: reader == Reader::Log,
            session: Digested::new(session),
            locating: Some(place),
            era: None,
            follows: Follows::Nothing,
        })
    }

    /// Goes on until it gives something, ends, or waits.
    pub(crate) fn step(&mut self, source: &Replica, api: Api<'_>, scope: &Scope) -> Given {
        let run = source.run.as_ref().filter(|_| source.up);
        if run.is_none_or(|run| run.key() != self.source || run.fenced) {
            return Given {
                end: Some(End::Failed(FeedError::NotOwner)),
                ..Given::default()
            };
        }
        for _ in 0..INPUTS_MAX {
            let Some(input) = self.input(source, api, scope) else {
                return Given::default();
            };
            let given = self.take(input, api, scope);
            if !given.items.is_empty() || given.end.is_some() {
                return given;
            }
        }
        Given {
            end: Some(End::Spins),
            ..Given::default()
        }
    }

    fn reader(&self) -> Reader {
        if self.is_log {
            Reader::Log
        } else {
            Reader::Subscriber
        }
    }

    fn take(&mut self, input: Input, api: Api<'_>, scope: &Scope) -> Given {
        let looks = matches!(self.follows, Follows::Look(_));
        let mut given = Given::default();
        for output in self.session.change(|session| session.step(input)) {
            match output {
                Output::Give(items) => given.items.extend(items),
                Output::Fail(error) => given.end = Some(End::Failed(error)),
                Output::Locate(place) => self.locating = Some(place),
                Output::EndLook => self.follows = Follows::Nothing,
                Output::FollowLog(next) => self.follows = Follows::Log(next),
                Output::Replay(here) => {
                    scope.reached.note(Milestone::Replayed);
                    self.follows = Follows::Replay(Replaying::new(self.source.0, &here, scope));
                }
                Output::Look(look) => self.follows = Follows::Look(Looking::new(look, api)),
            }
        }
        let is_live = |item: &Item| matches!(item, Item::Event(event) if event.part == Part::Live);
        if looks && given.items.iter().any(is_live) {
            scope.reached.note(Milestone::VersionClosed);
        }
        given
    }

    /// What happens next; none where it waits.
    fn input(&mut self, source: &Replica, api: Api<'_>, scope: &Scope) -> Option<Input> {
        if let Some(place) = &self.locating {
            let located = source.locate(self.reader(), place)?;
            self.locating = None;
            self.era = Some(located.era.era);
            return Some(Input::Located(Box::new(located)));
        }
        // A feed that reads the log meets the new era there.
        let reads_log = matches!(self.follows, Follows::Log(_));
        let era = source.era();
        if !reads_log && self.era.is_some() && era != self.era {
            self.era = era;
            return Some(Input::EraBegan);
        }
        match &mut self.follows {
            Follows::Nothing => None,
            Follows::Log(next) => match source.log.read(*next) {
                Read::Items {
                    items, next: after, ..
                } => {
                    *next = after;
                    (!items.is_empty()).then_some(Input::Items(items))
                }
                Read::FellBehind => {
                    scope.reached.note(Milestone::FellBehind);
                    Some(Input::FellBehind)
                }
            },
            Follows::Replay(replaying) => replaying.input(api, scope),
            Follows::Look(looking) => {
                let item = looking.item(api, scope)?;
                looking.given += 1;
                Some(Input::History(item))
            }
        }
    }
}

impl Replaying {
    fn new(epoch: Epoch, here: &Position, scope: &Scope) -> Self {
        let mut replay = Replay::new(epoch, here);
        let from = number(&replay.begin());
        let skipped = u64::from(scope.plants(Plant::ReplayedTooLate));
        Self {
            replay: Digested::new(replay),
            next: 0,
            from: from + skipped,
            change: None,
            restarts: 0,
        }
    }

    /// What the reader gets; the watch is read on once it has had everything.
    fn input(&mut self, api: Api<'_>, scope: &Scope) -> Option<Input> {
        loop {
            let next = self.next;
            match self.replay.change(|replay| replay.read(next, ALL)) {
                Replayed::Items { items, next } => {
                    self.next = next;
                    if !items.is_empty() {
                        return Some(Input::Items(items));
                    }
                }
                Replayed::FellBehind => return Some(Input::FellBehind),
                Replayed::Ended(ended) => return Some(Input::ReplayEnded(ended)),
            }
            if !self.replay.is_wanted() {
                return None;
            }
            let item = self.watch(api, scope)?;
            self.replay.change(|replay| replay.take(Some(item)));
        }
    }

    /// What the watch sends next. It is opened first, and again after each restart of the API
    /// server, which may refuse that.
    fn watch(&mut self, api: Api<'_>, scope: &Scope) -> Option<HistoryItem> {
        if self.change.is_none() || self.restarts != api.server.restarts {
            self.restarts = api.server.restarts;
            if scope.plants(Plant::GapInvented) {
                return Some(HistoryItem::Expired);
            }
            if !api.can_watch(self.from) {
                let lost = api.lost(self.from);
                if matches!(lost, HistoryItem::WatchLost { .. }) {
                    scope.reached.note(Milestone::WatchLost);
                }
                return Some(lost);
            }
        }
        let change = self.change.unwrap_or_else(|| api.after(self.from));
        self.change = Some(change);
        let written = api.history().get(change)?;
        self.change = Some(change + 1);
        // Deletions may be followed by others of their version.
        self.from = match written.change {
            Change::Deleted => written.rv - 1,
            _ => written.rv,
        };
        Some(HistoryItem::Events(vec![event_of(written)]))
    }
}

impl Looking {
    fn new(look: Look, api: Api<'_>) -> Self {
        let at = match &look {
            Look::List(Some(rv)) => number(rv),
            Look::NetChanges { to, .. } => number(to),
            Look::List(None) | Look::Watch(_) => api.now(),
        };
        Self {
            look: Digested::new(look),
            at,
            given: 0,
        }
    }

    fn item(&self, api: Api<'_>, scope: &Scope) -> Option<HistoryItem> {
        match &*self.look {
            Look::List(_) => Some(self.of_list(api, scope)),
            Look::NetChanges { from, .. } => Some(self.of_net_changes(number(from), api)),
            // A session watches by replays.
            Look::Watch(_) => None,
        }
    }

    fn of_list(&self, api: Api<'_>, scope: &Scope) -> HistoryItem {
        if !api.can_list(self.at) {
            return match self.given {
                0 => HistoryItem::Expired,
                _ => HistoryItem::Failed("the list expired".into()),
            };
        }
        let mut objects = api.list(self.at);
        if scope.plants(Plant::SnapshotCutShort) {
            objects.pop();
        }
        match self.given.checked_sub(1) {
            None => HistoryItem::Listing(self.at.into()),
            Some(index) => match objects.get(index) {
                Some(object) => HistoryItem::Snapshot(vec![object.clone()]),
                None => HistoryItem::Synced(self.at.into()),
            },
        }
    }

    fn of_net_changes(&self, from: u64, api: Api<'_>) -> HistoryItem {
        if !api.can_list(from) || !api.can_list(self.at) {
            return HistoryItem::Expired;
        }
        let changes = api.net_changes(from, self.at);
        let next = changes.get(self.given).cloned();
        HistoryItem::Repaired {
            to: self.at.into(),
            last: next.is_none(),
            events: next.into_iter().collect(),
        }
    }
}
