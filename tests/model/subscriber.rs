//! One subscriber and its subscription, as `pipeline::subscription_stream` serves it.

use quorumwatch::domain::{
    cursor::{Cursor, CursorCodec, Mode},
    delivery::{
        item::Item,
        place::{Admission, Place, Reader},
    },
};

use crate::{
    digest::Digested,
    feed::Feed,
    group::{GROUP, STREAM},
    invariants::facts::{Frame, Received},
    scope::{Milestone, Plant, Scope, Start},
};

/// One subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subscriber {
    pub(crate) start: Start,
    /// The replica that serves it.
    pub(crate) at: Option<usize>,
    /// Where it stands, as that replica knows it.
    pub(crate) place: Place,
    pub(crate) reads: Reads,
    /// Where it began; none before its first connection.
    pub(crate) began: Option<Place>,
    /// What it has received.
    pub(crate) frames: Digested<Vec<Frame>>,
    /// Its cursor.
    pub(crate) saved: Option<Saved>,
}

/// What a subscription reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reads {
    /// Not chosen yet.
    Nothing,
    /// The log of the replica that serves it.
    Log(u64),
    /// A feed of its own, which is to be opened.
    Due,
    /// A feed of its own.
    Feed(Feed),
}

/// A cursor: one stream's place, and the newest id that the subscription knew.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Saved {
    pub(crate) place: Place,
    pub(crate) newest: u64,
}

impl Saved {
    /// As it is presented, and read again.
    pub(crate) fn presented(&self, start: Start) -> Cursor {
        let cursor = Cursor {
            mode: match start {
                Start::Now => Mode::Changes,
                Start::Snapshot => Mode::Copy,
            },
            filter: 0,
            newest: self.newest,
            places: [(STREAM, self.place.clone())].into(),
            left: [].into(),
            masks: [].into(),
        };
        let codec = CursorCodec::new(GROUP);
        let text = codec.whole(&cursor);
        codec.read(&[text]).expect("a cursor reads back")
    }
}

impl Subscriber {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            start,
            at: None,
            place: Place::BeforeFirst,
            reads: Reads::Nothing,
            began: None,
            frames: Digested::new(Vec::new()),
            saved: None,
        }
    }

    /// For the invariants; none before its first connection.
    pub(crate) fn received(&self) -> Option<Received<'_>> {
        Some(Received {
            began: self.began.as_ref()?,
            frames: &self.frames,
            cursor: &self.saved.as_ref()?.place,
        })
    }

    /// It is connected to a replica, and stands here.
    pub(crate) fn connect(&mut self, replica: usize, place: Place, newest: u64) {
        self.at = Some(replica);
        self.reads = Reads::Nothing;
        self.place = place;
        self.save(newest);
    }

    pub(crate) fn disconnect(&mut self) {
        self.at = None;
        self.reads = Reads::Nothing;
        // What the replica knew is gone with the connection.
        self.place = Place::BeforeFirst;
    }

    /// It receives a cursor, of a subscription that knows ids up to this one, and saves it.
    pub(crate) fn save(&mut self, newest: u64) {
        self.saved = Some(Saved {
            place: self.place.clone(),
            newest,
        });
        if self.began.is_none() {
            self.began = Some(self.place.clone());
        }
    }

    /// Items for it, from a feed of its own or from a log. It needs another feed where something is
    /// missing, or where a snapshot is due that the log does not have.
    pub(crate) fn give(&mut self, items: Vec<Item>, is_fed: bool, newest: u64, scope: &Scope) {
        for item in items {
            let is_missing = self.take(&item, newest, scope) == Admission::Missing;
            if is_missing || self.place.needs_snapshot() && !is_fed {
                self.reads = Reads::Due;
                return;
            }
        }
    }

    fn take(&mut self, item: &Item, newest: u64, scope: &Scope) -> Admission {
        if scope.plants(Plant::PositionsIgnored)
            && let Item::Event(published) = item
        {
            self.place = Place::At(published.position.clone());
            self.receive(frame_of(item), newest, scope);
            return Admission::Next;
        }
        let before = self.place.clone();
        let admission = self.place.admit(Reader::Subscriber, item);
        if admission != Admission::Next {
            return admission;
        }
        let frame = match (frame_of(item), before) {
            // The item has the place at which the owner lost its watch, or none.
            (
                Some(Frame::Gap {
                    to,
                    reason,
                    repaired,
                    ..
                }),
                before,
            ) => Some(Frame::Gap {
                from: before.position(),
                to,
                reason,
                repaired,
            }),
            (None, Place::Snapshot { given: 1.., .. }) if matches!(item, Item::Snapshot(_)) => {
                Some(Frame::SnapshotRestarted)
            }
            (frame, _) => frame,
        };
        self.receive(frame, newest, scope);
        Admission::Next
    }

    /// A frame arrives, and with it the cursor after it.
    fn receive(&mut self, frame: Option<Frame>, newest: u64, scope: &Scope) {
        let Some(frame) = frame else {
            return;
        };
        note(&frame, scope);
        let is_swallowed = match &frame {
            Frame::Gap { repaired: true, .. } => scope.plants(Plant::RepairedGapSwallowed),
            Frame::Gap { .. } => scope.plants(Plant::GapSwallowed),
            _ => false,
        };
        if !is_swallowed {
            self.frames.change(|frames| frames.push(frame));
        }
        if !scope.plants(Plant::CursorBehind) {
            self.save(newest);
        }
    }
}

/// What a subscriber gets of an item; none where that is nothing.
fn frame_of(item: &Item) -> Option<Frame> {
    match item {
        Item::Event(published) => Some(Frame::Event {
            part: published.part,
            position: published.position.clone(),
            object: published.event.name().to_owned(),
            change: published.event.change,
        }),
        Item::Gap(gap) => Some(Frame::Gap {
            from: gap.from.clone(),
            to: gap.to.clone(),
            reason: gap.reason,
            repaired: gap.repaired,
        }),
        Item::Synced(position) => Some(Frame::Synced(position.clone())),
        Item::At(_) | Item::Hole(_) | Item::Snapshot(_) | Item::Alive { .. } => None,
    }
}

fn note(frame: &Frame, scope: &Scope) {
    let milestone = match frame {
        Frame::Gap { repaired: true, .. } => Milestone::RepairedGap,
        Frame::Gap { .. } => Milestone::Gap,
        Frame::Synced(_) => Milestone::Synced,
        Frame::SnapshotRestarted => Milestone::SnapshotRestarted,
        Frame::Event { .. } => return,
    };
    scope.reached.note(milestone);
}
