//! What reads the stream: the log of a replica that serves subscribers, as `pipeline::hub` feeds
//! it, and subscriptions, as `pipeline::subscription` serves them.

use quorumwatch::{
    domain::delivery::{
        place::{Place, Reader},
        ring::Read,
    },
    pipeline::subscription::refuse_ahead,
};

use crate::{
    feed::{End, Feed, Given},
    group::STREAM,
    scope::{Milestone, Plant, Scope, Start},
    server::Api,
    stream_log::Appended,
    subscriber::Reads,
    world::World,
};

impl World {
    /// A feed from the owner that a replica knows; none while that cannot serve it.
    fn open_feed(&self, replica: usize, reader: Reader, place: Place) -> Option<Feed> {
        let (owner, epoch) = self.owner(replica)?;
        let source = &self.replicas[owner];
        // An owner answers once it knows what the reader knows.
        if source.applied < self.replicas[replica].applied {
            return None;
        }
        Feed::open(owner, epoch, reader, place, source)
    }

    fn step_feed(&self, feed: &mut Feed, scope: &Scope) -> Given {
        let api = Api {
            server: &self.server,
            script: &scope.script,
        };
        feed.step(&self.replicas[feed.owner], api, scope)
    }

    /// The log of a replica follows the owner that it knows now. The feed from the one before may
    /// still have brought something until then.
    pub(crate) fn follow(&mut self, replica: usize) {
        let Some((owner, epoch)) = self.owner(replica) else {
            return;
        };
        if owner == replica {
            // Its publication writes the log.
            self.replicas[replica].feed = None;
            return;
        }
        let feed = self.replicas[replica].feed.as_ref();
        if feed.is_some_and(|feed| (feed.owner, feed.epoch) == (owner, epoch)) {
            return;
        }
        let Some(place) = self.replicas[replica].log.place().cloned() else {
            return;
        };
        if let Some(feed) = self.open_feed(replica, Reader::Log, place) {
            self.replicas[replica].feed = Some(feed);
        }
    }

    /// The log of a replica takes what its feed brings next.
    pub(crate) fn feed(&mut self, scope: &Scope, replica: usize) {
        let Some(mut feed) = self.replicas[replica].feed.take() else {
            return;
        };
        let Given { items, end } = self.step_feed(&mut feed, scope);
        let mut appended = Appended::Taken;
        if !items.is_empty() {
            appended = self.replicas[replica].log.append(feed.epoch, items, scope);
        }
        if end == Some(End::Spins) {
            self.report("a feed of a log makes no progress");
        }
        match appended {
            Appended::Taken if end.is_none() => self.replicas[replica].feed = Some(feed),
            Appended::Taken => {}
            Appended::Stale => scope.reached.note(Milestone::Fenced),
            Appended::Missing => self.report("items of a feed do not continue the log"),
        }
    }

    /// A subscriber connects; not to a replica that rejects its cursor.
    pub(crate) fn connect(&mut self, scope: &Scope, subscriber: usize, replica: usize) {
        let start = self.subscribers[subscriber].start;
        let state = self.state(replica).clone();
        let stream = &state.streams[&STREAM];
        let place = match &self.subscribers[subscriber].saved {
            Some(saved) => {
                let cursor = saved.presented(start);
                if refuse_ahead(&cursor, &state).is_err() {
                    scope.reached.note(Milestone::CursorRefused);
                    return;
                }
                let place = cursor.places[&STREAM].clone();
                self.note_resumption(scope, replica, &place);
                place
            }
            None => match (start, &stream.checkpoint) {
                (Start::Snapshot, _) => Place::SnapshotDue,
                (Start::Now, None) => Place::BeforeFirst,
                (Start::Now, Some(checkpoint)) => {
                    let newest = checkpoint.clone();
                    Place::At(match self.replicas[replica].log.head() {
                        Some(head) => head.max(newest),
                        None => newest,
                    })
                }
            },
        };
        if let Some(checkpoint) = &stream.checkpoint {
            self.replicas[replica].log.begin_after(checkpoint);
        }
        self.subscribers[subscriber].connect(replica, place, state.last_id);
    }

    fn note_resumption(&self, scope: &Scope, replica: usize, place: &Place) {
        if self.replicas[replica].applied < self.group.revision() {
            scope.reached.note(Milestone::ResumedBehind);
        }
        match place {
            Place::Repair { given: 1.., .. } => scope.reached.note(Milestone::NetChangesResumed),
            Place::At(position) if !position.is_closed() => {
                scope.reached.note(Milestone::VersionResumed);
            }
            _ => {}
        }
    }

    /// A subscription reads on: from the log of its replica, or from a feed of its own.
    pub(crate) fn read(&mut self, scope: &Scope, index: usize) {
        let Some(replica) = self.subscribers[index].at else {
            return;
        };
        if !self.begin(replica, index) {
            return;
        }
        if self.subscribers[index].reads == Reads::Nothing
            || matches!(self.subscribers[index].reads, Reads::Log(_))
        {
            self.read_log(scope, replica, index);
        }
        let reads = std::mem::replace(&mut self.subscribers[index].reads, Reads::Nothing);
        match reads {
            Reads::Due => {
                let place = self.subscribers[index].place.clone();
                match self.open_feed(replica, Reader::Subscriber, place) {
                    Some(feed) => self.read_feed(scope, replica, index, feed),
                    None => self.subscribers[index].reads = Reads::Due,
                }
            }
            Reads::Feed(feed) => self.read_feed(scope, replica, index, feed),
            reads => self.subscribers[index].reads = reads,
        }
    }

    /// Whether the stream has begun for a subscriber that began before it.
    fn begin(&mut self, replica: usize, index: usize) -> bool {
        if self.subscribers[index].place != Place::BeforeFirst {
            return true;
        }
        let state = self.state(replica).clone();
        let stream = &state.streams[&STREAM];
        let (Some(first), Some(checkpoint)) = (&stream.first, &stream.checkpoint) else {
            return false;
        };
        self.replicas[replica].log.begin_after(checkpoint);
        let subscriber = &mut self.subscribers[index];
        subscriber.place = Place::At(first.clone());
        subscriber.began = None;
        subscriber.save(state.last_id);
        true
    }

    fn read_log(&mut self, scope: &Scope, replica: usize, index: usize) {
        let newest = self.state(replica).last_id;
        let log = &self.replicas[replica].log;
        let subscriber = &mut self.subscribers[index];
        let next = match subscriber.reads {
            Reads::Log(next) => Some(next),
            _ if scope.plants(Plant::PositionsIgnored) => log.first(),
            _ => match &subscriber.place {
                Place::At(_) => log.locate(Reader::Subscriber, &subscriber.place),
                _ => None,
            },
        };
        match next.map(|next| log.read(next)) {
            Some(Read::Items { items, next, .. }) => {
                subscriber.reads = Reads::Log(next);
                subscriber.give(items, false, newest, scope);
            }
            // Not there, or dropped: it must catch up.
            Some(Read::FellBehind) | None => subscriber.reads = Reads::Due,
        }
    }

    /// Reads on from a feed, and goes over to the log where that has what comes next.
    fn read_feed(&mut self, scope: &Scope, replica: usize, index: usize, mut feed: Feed) {
        let newest = self.state(replica).last_id;
        // An owner that was replaced is not listened to any longer.
        let epoch = self.owner(replica).map(|(_, epoch)| epoch);
        if epoch != Some(feed.epoch) {
            self.subscribers[index].reads = Reads::Due;
            return;
        }
        let Given { items, end } = self.step_feed(&mut feed, scope);
        if end == Some(End::Spins) {
            self.report("a feed of a subscriber makes no progress");
        }
        let gave = !items.is_empty();
        let log = &self.replicas[replica].log;
        let subscriber = &mut self.subscribers[index];
        subscriber.reads = Reads::Feed(feed);
        subscriber.give(items, true, newest, scope);
        if end.is_some() {
            subscriber.reads = Reads::Due;
            return;
        }
        if gave
            && matches!(subscriber.reads, Reads::Feed(_))
            && matches!(subscriber.place, Place::At(_))
            && let Some(next) = log.locate(Reader::Subscriber, &subscriber.place)
        {
            subscriber.reads = Reads::Log(next);
        }
    }

    /// A subscriber is disconnected; what was sent before has arrived.
    pub(crate) fn cut(&mut self, scope: &Scope, index: usize) {
        self.left.cuts -= 1;
        let subscriber = &mut self.subscribers[index];
        if scope.plants(Plant::CursorAhead) {
            subscriber.frames.change(|frames| drop(frames.pop()));
        }
        subscriber.disconnect();
    }

    /// A subscriber gets its cursor, which may have moved without a frame.
    pub(crate) fn progress(&mut self, index: usize) {
        self.left.progresses -= 1;
        let Some(replica) = self.subscribers[index].at else {
            return;
        };
        let newest = self.state(replica).last_id;
        self.subscribers[index].save(newest);
    }
}
