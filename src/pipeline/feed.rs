//! Serves one asker one stream from any position: the owner's side of "how a position resumes".
//!
//! Out of the ring where it reaches back far enough; else out of the API server's history, until
//! the two meet. Where neither has it, the asker is told with a `Gap`.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    item::{Gap, Item, Published},
    owned::{OwnedStream, Place, gap_end},
    ring::Read,
    sequencer::Sequencer,
};
use crate::domain::{
    frame::{Frame, GapReason},
    history::HistoryItem,
    position::{Ordinal, Position, ResourceVersion},
    stream::EraStart,
};

/// Most items in one message of a feed: large enough to make a message cheap, small enough that a
/// message of average events stays below 1 MiB.
pub const BATCH_ITEMS_MAX: usize = 256;

/// Messages that may wait for the asker. A feed whose asker does not read waits here, and falls
/// back on the ring and then on the history when it goes on.
pub const FEED_MESSAGES_MAX: usize = 4;

/// How often a feed without items says that it lives.
pub const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// From where a feed begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedFrom {
    /// With what follows this position.
    After(Position),
    /// With a snapshot, then with what follows it.
    Snapshot,
}

/// Why a feed ended. Its asker opens another one where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The replica does not publish the stream, or no longer.
    #[error("the replica does not publish this stream")]
    NotOwner,
    /// The API server's history could not be read this time.
    #[error("reading the history failed: {0}")]
    History(String),
    /// The position is of an era that the owner does not know.
    #[error("position {0} is ahead of the stream")]
    Ahead(Position),
    /// The owner could not be reached.
    #[error("the owner cannot be reached: {0}")]
    Unreachable(String),
}

/// What an asker receives.
pub type FeedMessage = Result<Vec<Item>, FeedError>;

/// Serves `stream` from `from` on until the asker drops the receiver or the stream ends.
///
/// With `snapshot_on_gap`, a `Gap` that is not repaired is followed by a snapshot; without, the
/// feed goes on with what there is.
pub fn open(
    stream: Arc<OwnedStream>,
    from: FeedFrom,
    snapshot_on_gap: bool,
) -> mpsc::Receiver<FeedMessage> {
    let (sender, receiver) = mpsc::channel(FEED_MESSAGES_MAX);
    tokio::spawn(async move {
        let mut feed = Feed {
            stream,
            snapshot_on_gap,
            position: None,
            sender: sender.clone(),
        };
        let stop = tokio::select! {
            stop = feed.run(from) => stop,
            () = sender.closed() => Stop::Left,
        };
        if let Stop::Failed(error) = stop {
            // The asker may have left meanwhile; then nobody needs to know.
            let _ = sender.send(Err(error)).await;
        }
    });
    receiver
}

/// Why a feed stops.
enum Stop {
    /// The asker left.
    Left,
    /// The asker is told.
    Failed(FeedError),
}

type Step = Result<(), Stop>;

/// Where items of the ring lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Onward {
    /// To the next ones.
    Ring,
    /// To a snapshot.
    Snapshot,
    /// To net changes for this asker alone.
    Repair,
}

/// How net changes are given.
enum Repair {
    /// With the positions that the ring had given them; what the asker has had is left out.
    Again,
    /// As a replay, without the first few.
    Replay { skip: u32 },
}

struct Feed {
    stream: Arc<OwnedStream>,
    snapshot_on_gap: bool,
    /// The last position given; `None` until the feed has one.
    position: Option<Position>,
    sender: mpsc::Sender<FeedMessage>,
}

impl Feed {
    async fn run(&mut self, from: FeedFrom) -> Stop {
        match self.serve(from).await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    async fn serve(&mut self, from: FeedFrom) -> Result<std::convert::Infallible, Stop> {
        self.wait_for_era().await?;
        match from {
            FeedFrom::After(position) => self.position = Some(position),
            FeedFrom::Snapshot => self.snapshot().await?,
        }
        loop {
            let Some(position) = self.position.clone() else {
                return Err(Stop::Failed(FeedError::History(
                    "the snapshot has no end".into(),
                )));
            };
            match self.stream.locate(&position) {
                Some(Place::Ring(next)) => self.follow_ring(next).await?,
                Some(Place::Behind(era)) => self.catch_up(&position, &era).await?,
                Some(Place::Ahead) => return Err(Stop::Failed(FeedError::Ahead(position))),
                None => return Err(Stop::Failed(FeedError::NotOwner)),
            }
        }
    }

    async fn wait_for_era(&mut self) -> Step {
        let mut changes = self.stream.changes();
        loop {
            if !changes.see() {
                return Err(Stop::Failed(FeedError::NotOwner));
            }
            if self.stream.era().is_some() {
                return Ok(());
            }
            tokio::select! {
                () = changes.next() => {}
                () = tokio::time::sleep(ALIVE_EVERY) => self.say_alive().await?,
            }
        }
    }

    /// Gives what the ring has and gets, until the reader falls off or needs a snapshot.
    async fn follow_ring(&mut self, mut next: u64) -> Step {
        let mut changes = self.stream.changes();
        loop {
            if !changes.see() {
                return Err(Stop::Failed(FeedError::NotOwner));
            }
            let Read::Items { items, next: after } = self.stream.read(next, BATCH_ITEMS_MAX) else {
                return Ok(());
            };
            next = after;
            if items.is_empty() {
                tokio::select! {
                    () = changes.next() => {}
                    () = tokio::time::sleep(ALIVE_EVERY) => self.say_alive().await?,
                }
            } else {
                match self.give_ring_items(items).await? {
                    Onward::Ring => {}
                    Onward::Snapshot => return self.snapshot().await,
                    Onward::Repair => return self.repair_from_here().await,
                }
            }
        }
    }

    /// Gives items up to a gap that leads the asker away from the ring.
    async fn give_ring_items(&mut self, items: Vec<Item>) -> Result<Onward, Stop> {
        let mut fresh = Vec::with_capacity(items.len());
        let mut onward = Onward::Ring;
        for item in items {
            if item
                .position()
                .is_some_and(|at| self.position.as_ref() >= Some(at))
            {
                continue;
            }
            if let Item::Gap(gap) = &item
                && self.snapshot_on_gap
            {
                onward = match gap.repaired {
                    false => Onward::Snapshot,
                    true if gap.from != self.position => Onward::Repair,
                    true => Onward::Ring,
                };
            }
            if onward == Onward::Repair {
                break;
            }
            self.position = item.position().cloned().or_else(|| self.position.take());
            fresh.push(item);
            if onward == Onward::Snapshot {
                break;
            }
        }
        self.give(fresh).await?;
        Ok(onward)
    }

    /// The ring enters a repaired era from another place than the asker's.
    async fn repair_from_here(&mut self) -> Step {
        match (self.position.clone(), self.stream.era()) {
            (Some(position), Some(era)) => self.catch_up(&position, &era).await,
            _ => Err(Stop::Failed(FeedError::NotOwner)),
        }
    }

    async fn catch_up(&mut self, position: &Position, era: &EraStart) -> Step {
        if position.era == era.era {
            let inside_repair = era.repaired && *position < era.start();
            return match &era.from {
                Some(from) if inside_repair => self.redo_repair(from.rv.clone(), era).await,
                _ => self.watch_history(position, era).await,
            };
        }
        let from_era = era
            .from
            .as_ref()
            .filter(|from| era.repaired && from.era == position.era);
        let Some(from) = from_era else {
            return self.gap(era.reason).await;
        };
        // Whoever stands elsewhere than the owner did when it lost its watch needs other net changes
        // than those of the ring: between here and there something was given, or was not. A hub
        // takes those of the ring all the same, and its subscribers see where they begin.
        let replay = self.snapshot_on_gap && position != from;
        let gap = Gap {
            from: Some(if replay { position } else { from }.clone()),
            to: gap_end(era),
            reason: era.reason,
            repaired: true,
            replay,
        };
        self.give(vec![Item::Gap(gap)]).await?;
        if replay {
            self.replay_repair(position, era).await
        } else {
            self.redo_repair(from.rv.clone(), era).await
        }
    }

    /// Gives the net changes with which an era began once more, as the ring had them.
    async fn redo_repair(&mut self, from: ResourceVersion, era: &EraStart) -> Step {
        let mut ordinal = Ordinal::FIRST;
        if self
            .give_net_changes(from, era, &mut ordinal, Repair::Again)
            .await?
        {
            return self.give_at(era.start()).await;
        }
        self.gap(GapReason::HistoryExpired).await
    }

    /// Gives the net changes between `position` and the list at `era.to`, for this asker alone.
    ///
    /// The rest of an open version comes first: its net changes are in the order of its frames (one
    /// transaction, in key order), and the asker has had the first of them.
    async fn replay_repair(&mut self, position: &Position, era: &EraStart) -> Step {
        let mut ordinal = Ordinal::FIRST;
        if !position.is_closed() {
            let rest = EraStart {
                to: position.rv.clone(),
                ..era.clone()
            };
            let given = position.ordinal.get().saturating_add(1);
            let how = Repair::Replay { skip: given };
            if !self
                .give_net_changes(position.rv.previous(), &rest, &mut ordinal, how)
                .await?
            {
                return self.gap(GapReason::HistoryExpired).await;
            }
        }
        let how = Repair::Replay { skip: 0 };
        if self
            .give_net_changes(position.rv.clone(), era, &mut ordinal, how)
            .await?
        {
            return self.give_at(era.start()).await;
        }
        self.gap(GapReason::HistoryExpired).await
    }

    /// Gives the net changes up to `era.to`; false where the lists are gone.
    async fn give_net_changes(
        &mut self,
        from: ResourceVersion,
        era: &EraStart,
        ordinal: &mut Ordinal,
        mut how: Repair,
    ) -> Result<bool, Stop> {
        let mut items = self.stream.history().repair(from, era.to.clone());
        while let Some(item) = items.recv().await {
            match item {
                HistoryItem::Repaired { frames, last, .. } => {
                    self.give_repair(frames, era, ordinal, &mut how).await?;
                    if last {
                        return Ok(true);
                    }
                }
                HistoryItem::Expired => return Ok(false),
                HistoryItem::Failed(reason) => return Err(history_failed(reason)),
                _ => {}
            }
        }
        Err(history_failed("the repair ended early".into()))
    }

    async fn give_repair(
        &mut self,
        frames: Vec<Frame>,
        era: &EraStart,
        ordinal: &mut Ordinal,
        how: &mut Repair,
    ) -> Step {
        let mut items = Vec::with_capacity(frames.len());
        for frame in frames {
            let position = Position::at(era.era, era.to.clone(), *ordinal);
            *ordinal = ordinal.next();
            match how {
                Repair::Again if self.position.as_ref() >= Some(&position) => {}
                Repair::Again => items.push(self.frame_item(position, frame, false)),
                Repair::Replay { skip } if *skip > 0 => *skip -= 1,
                Repair::Replay { .. } => items.push(self.frame_item(position, frame, true)),
            }
        }
        self.give(items).await
    }

    /// A second, bounded watch from `position`, until the ring takes over.
    async fn watch_history(&mut self, position: &Position, era: &EraStart) -> Step {
        tracing::debug!(stream = %self.stream.id, %position, "catch-up watch opened");
        let mut items = self.stream.history().catch_up(position.resume_rv());
        let mut sequencer = Sequencer::after(position.to_closed());
        while let Some(item) = items.recv().await {
            match item {
                HistoryItem::Frames(frames) => self.give_frames(frames, &mut sequencer).await?,
                HistoryItem::Closed(rv) => {
                    if let Some(at) = sequencer.close(&rv) {
                        self.give_at(at).await?;
                    }
                }
                HistoryItem::Repaired { to, .. } => {
                    // The watch cannot go on, although the lists can. From where the asker stands
                    // by now the repair may be another one than that which was just begun.
                    drop(items);
                    let start = EraStart { to, ..era.clone() };
                    return self.repair_for_asker(&start).await;
                }
                HistoryItem::Expired => return self.gap(GapReason::HistoryExpired).await,
                HistoryItem::Failed(reason) => return Err(history_failed(reason)),
                HistoryItem::Snapshot(_) | HistoryItem::Synced(_) => {}
            }
            if self.meets_ring(era) {
                return Ok(());
            }
        }
        Err(history_failed("the catch-up watch ended early".into()))
    }

    /// Whether the feed has reached what the ring holds, or the stream has left the era.
    fn meets_ring(&self, era: &EraStart) -> bool {
        let Some(position) = &self.position else {
            return false;
        };
        match self.stream.locate(position) {
            Some(Place::Ring(_)) => true,
            Some(Place::Behind(now)) => now.era != era.era,
            Some(Place::Ahead) | None => true,
        }
    }

    /// The net changes from where the asker stands. A hub gets none: its subscribers stand in many
    /// places, and each asks for its own when it meets a repaired gap that begins elsewhere.
    async fn repair_for_asker(&mut self, start: &EraStart) -> Step {
        let (Some(position), Some(floor)) = (self.position.clone(), self.stream.ring_floor())
        else {
            return Err(Stop::Failed(FeedError::NotOwner));
        };
        if !self.snapshot_on_gap {
            let reason = GapReason::WatchCacheReset;
            let (to, repaired, replay) = (floor.clone(), true, false);
            self.position = Some(floor);
            let gap = Gap {
                from: None,
                to,
                reason,
                repaired,
                replay,
            };
            return self.give(vec![Item::Gap(gap)]).await;
        }
        let gap = Gap {
            from: Some(position.clone()),
            to: Position::closed(start.era, start.to.previous()),
            reason: GapReason::WatchCacheReset,
            repaired: true,
            replay: true,
        };
        self.give(vec![Item::Gap(gap)]).await?;
        self.replay_repair(&position, start).await
    }

    async fn give_frames(&mut self, frames: Vec<Frame>, sequencer: &mut Sequencer) -> Step {
        let mut items = Vec::with_capacity(frames.len());
        for frame in frames {
            let Some(position) = sequencer.next(&frame.rv) else {
                continue;
            };
            if self.position.as_ref() < Some(&position) {
                self.position = Some(position.clone());
                items.push(self.frame_item(position, frame, false));
            }
        }
        self.give(items).await
    }

    async fn give_at(&mut self, position: Position) -> Step {
        if self.position.as_ref() < Some(&position) {
            self.position = Some(position.clone());
            self.give(vec![Item::At(position)]).await?;
        }
        Ok(())
    }

    /// Tells that what follows the asker's position is gone, then goes on as it asked for.
    async fn gap(&mut self, reason: GapReason) -> Step {
        let (Some(floor), Some(era)) = (self.stream.ring_floor(), self.stream.era()) else {
            return Err(Stop::Failed(FeedError::NotOwner));
        };
        let from = self.position.clone();
        let to = after_gap(from.as_ref(), floor, &era);
        let gap = Gap {
            from,
            to: to.clone(),
            reason,
            repaired: false,
            replay: false,
        };
        self.position = Some(to);
        self.give(vec![Item::Gap(gap)]).await?;
        if self.snapshot_on_gap {
            self.snapshot().await
        } else {
            Ok(())
        }
    }

    /// A consistent list; afterwards the feed stands at its version.
    async fn snapshot(&mut self) -> Step {
        let Some(era) = self.stream.era() else {
            return Err(Stop::Failed(FeedError::NotOwner));
        };
        let mut items = self.stream.history().snapshot();
        while let Some(item) = items.recv().await {
            match item {
                HistoryItem::Snapshot(frames) => {
                    let snapshot = frames.into_iter().map(|frame| {
                        let position = Position::at(era.era, frame.rv.clone(), Ordinal::FIRST);
                        self.frame_item(position, frame, true)
                    });
                    self.give(snapshot.collect()).await?;
                }
                HistoryItem::Synced(rv) => {
                    let position = Position::closed(era.era, rv);
                    self.position = Some(position.clone());
                    return self.give(vec![Item::Synced(position)]).await;
                }
                HistoryItem::Failed(reason) => return Err(history_failed(reason)),
                _ => {}
            }
        }
        Err(history_failed("the snapshot ended early".into()))
    }

    fn frame_item(&self, position: Position, frame: Frame, replay: bool) -> Item {
        let epoch = self.stream.epoch;
        Item::Frame(Arc::new(Published::new(position, epoch, replay, frame)))
    }

    async fn say_alive(&self) -> Step {
        self.give(vec![Item::Alive {
            silent: self.stream.silent(),
        }])
        .await
    }

    async fn give(&self, items: Vec<Item>) -> Step {
        if items.is_empty() {
            return Ok(());
        }
        self.sender.send(Ok(items)).await.map_err(|_| Stop::Left)
    }
}

/// Where a stream goes on after a gap that begins at `from`. An asker that stands inside the ring,
/// in front of eras that it cannot be led through, is taken to the present one: a gap that ended
/// where it stands would be dropped as one that it has had.
fn after_gap(from: Option<&Position>, floor: Position, era: &EraStart) -> Position {
    let ends = [floor.clone(), gap_end(era), era.start()];
    let mut after = ends.into_iter().filter(|end| from < Some(end));
    after.next().unwrap_or(floor)
}

fn history_failed(reason: String) -> Stop {
    Stop::Failed(FeedError::History(reason))
}
