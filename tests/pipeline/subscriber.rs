//! A subscriber of the world, and what it has seen.

use std::{collections::BTreeMap, time::Duration};

use quorumwatch::{
    domain::{
        cursor::Cursor,
        frame::{Change, Frame, GapReason},
        id::StreamId,
        position::Position,
    },
    pipeline::{output::Body, subscription::Subscription},
};

use crate::model::World;

/// What a subscriber has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Event {
        change: Change,
        rv: u64,
        name: String,
    },
    Gap {
        repaired: bool,
        reason: GapReason,
    },
    Synced,
    Restarted,
}

impl Seen {
    pub(crate) fn event(frame: &Frame) -> Self {
        let rv = frame.rv.as_u64().unwrap();
        Self::Event {
            change: frame.change,
            rv,
            name: frame.name.to_string(),
        }
    }
}

pub(crate) struct Subscriber {
    pub(crate) subscription: Subscription,
    pub(crate) stream: StreamId,
    pub(crate) seen: Vec<Seen>,
    /// The cursor after each of `seen`, the one before the first of them included.
    pub(crate) cursors: Vec<Cursor>,
}

impl Subscriber {
    /// Reads until it stands after the last write, closed.
    pub(crate) async fn catch_up_with(&mut self, world: &World, patience: Duration) {
        let last = world.last_rv();
        let caught_up = |this: &Self| {
            let position = this
                .subscription
                .cursor()
                .positions
                .get(&this.stream)
                .cloned();
            position.is_some_and(|position: Position| position.resume_rv() >= last.into())
        };
        let read = async {
            while !caught_up(self) {
                self.read().await;
            }
        };
        let done = tokio::time::timeout(patience, read).await;
        assert!(
            done.is_ok(),
            "still at {:?} and not {last}",
            self.subscription.cursor()
        );
    }

    pub(crate) async fn wait_for(&mut self, patience: Duration, done: impl Fn(&[Seen]) -> bool) {
        let read = async {
            while !done(&self.seen) {
                self.read().await;
            }
        };
        assert!(
            tokio::time::timeout(patience, read).await.is_ok(),
            "{:?}",
            self.seen
        );
    }

    async fn read(&mut self) {
        for output in self.subscription.next().await {
            let mut cursor = self.cursors.last().unwrap().clone();
            output.step.apply(&mut cursor);
            let seen = match output.body {
                Body::Event(_, published) => Seen::event(&published.frame),
                Body::Synced(..) => Seen::Synced,
                Body::SnapshotRestarted(_) => Seen::Restarted,
                Body::Gap(_, gap) => Seen::Gap {
                    repaired: gap.repaired,
                    reason: gap.reason,
                },
                Body::Stream(change) if change.snapshot_follows => Seen::Restarted,
                Body::Progress(_) | Body::Stream(_) => {
                    self.cursors.pop();
                    self.cursors.push(cursor);
                    continue;
                }
                Body::Unmatched(..) | Body::FilterChanged(..) => {
                    panic!("nothing was filtered: {:?}", output.body)
                }
            };
            self.seen.push(seen);
            self.cursors.push(cursor);
        }
    }

    /// As if the last frames had never arrived.
    pub(crate) fn forget_last(&mut self, frames: usize) {
        for _ in 0..frames {
            self.seen.pop();
            self.cursors.pop();
        }
    }

    pub(crate) fn leave(self) -> (Cursor, Vec<Seen>) {
        (self.cursors.last().unwrap().clone(), self.seen)
    }

    /// What exists, as told.
    pub(crate) fn objects(&self) -> BTreeMap<String, u64> {
        let mut objects = BTreeMap::new();
        for seen in &self.seen {
            match seen {
                Seen::Event {
                    change: Change::Deleted,
                    name,
                    ..
                } => {
                    objects.remove(name);
                }
                Seen::Event { rv, name, .. } => {
                    objects.insert(name.clone(), *rv);
                }
                Seen::Gap {
                    repaired: false, ..
                }
                | Seen::Restarted => objects.clear(),
                Seen::Gap { .. } | Seen::Synced => {}
            }
        }
        objects
    }

    /// The objects of the snapshot.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, u64> {
        let snapshot = self.seen.iter().filter_map(|seen| match seen {
            Seen::Event {
                change: Change::Snapshot,
                rv,
                name,
            } => Some((name.clone(), *rv)),
            _ => None,
        });
        snapshot.collect()
    }

    /// How many frames came twice.
    pub(crate) fn repeated(&self) -> usize {
        let events: Vec<_> = self
            .seen
            .iter()
            .filter(|seen| matches!(seen, Seen::Event { .. }))
            .collect();
        let twice = events
            .iter()
            .enumerate()
            .filter(|(at, seen)| events[..*at].contains(seen));
        twice.count()
    }
}
