//! Serves one reader one stream from any place, at the owner's: carries out what a [`FeedSession`]
//! decides.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior},
};

use super::{
    log::{ReadFrom, Wake},
    owned::OwnedStream,
    replays,
};
use crate::domain::{
    delivery::{
        feed::{FeedError, FeedSession, Input, Output},
        item::Item,
        place::{Place, Reader},
        replay::Replayed,
        ring::{Read, ReadMax},
    },
    history::HistoryItem,
    id::Era,
};

/// Most that is taken out of a log at once. So many items make a message of a feed cheap, and so
/// many bytes leave that to items of the usual size: only large objects travel in fewer. What was
/// taken and waits for its reader is counted nowhere else, so this bounds it for each of them.
pub const BATCH_MAX: ReadMax = ReadMax {
    items: 256,
    bytes: 512 * 1024,
};

/// Messages that may wait for the reader. A feed that is not read waits here, and falls back on the
/// log and then on the history when it continues.
///
/// A log is written as fast as its feed comes. A subscriber may be slow, and what waits for it is
/// not in any log any more.
pub fn messages_max(reader: Reader) -> usize {
    match reader {
        Reader::Log => 4,
        Reader::Subscriber => 1,
    }
}

/// Keepalive interval of a feed without items, whatever it waits for.
pub const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// What a reader receives.
pub type FeedMessage = Result<Vec<Item>, FeedError>;

/// Serves `stream` from `place` on until the reader drops the receiver or the stream ends.
pub fn open(stream: Arc<OwnedStream>, place: Place, reader: Reader) -> mpsc::Receiver<FeedMessage> {
    let (sender, receiver) = mpsc::channel(messages_max(reader));
    let wake = Arc::<Wake>::default();
    stream.log().add_feed(&wake);
    let mut alive = tokio::time::interval(ALIVE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut feed = Feed {
        session: FeedSession::new(stream.epoch, reader, place),
        reader,
        sender,
        wake,
        alive,
        history: None,
        locating: None,
        following: None,
        era: None,
        stream,
    };
    tokio::spawn(async move {
        let sender = feed.sender.clone();
        let stop = tokio::select! {
            stop = feed.run() => stop,
            () = sender.closed() => Stop::Left,
        };
        if let Stop::Failed(error) = stop {
            // The reader may have left meanwhile; then nobody needs to know.
            let _ = sender.send(Err(error)).await;
        }
    });
    receiver
}

/// Why a feed stops.
enum Stop {
    /// The reader left.
    Left,
    /// The reader gets the reason.
    Failed(FeedError),
}

/// What the session follows.
enum Following {
    Log(ReadFrom),
    Replay(replays::Following),
}

struct Feed {
    stream: Arc<OwnedStream>,
    session: FeedSession,
    reader: Reader,
    sender: mpsc::Sender<FeedMessage>,
    wake: Arc<Wake>,
    alive: Interval,
    /// Where the session looks into the past.
    history: Option<mpsc::Receiver<HistoryItem>>,
    /// What the session wants to be located.
    locating: Option<Place>,
    following: Option<Following>,
    /// The era that the session knows of.
    era: Option<Era>,
}

impl Feed {
    async fn run(&mut self) -> Stop {
        let mut input = Input::Start;
        loop {
            for output in self.session.step(input) {
                if let Err(stop) = self.carry_out(output).await {
                    return stop;
                }
            }
            input = match self.next_input().await {
                Ok(input) => input,
                Err(stop) => return stop,
            };
        }
    }

    async fn carry_out(&mut self, output: Output) -> Result<(), Stop> {
        match output {
            Output::Locate(place) => self.locating = Some(place),
            Output::EndLook => self.end_look(),
            Output::FollowLog(next) => {
                self.end_look();
                self.following = Some(Following::Log(next.into()));
            }
            Output::Replay(here) => {
                self.end_look();
                let replay = self.stream.replays().follow(&here);
                self.following = Some(Following::Replay(replay));
            }
            Output::Look(look) => {
                self.end_look();
                self.history = Some(self.stream.history().look(look));
            }
            Output::Give(items) => {
                let sent = self.sender.send(Ok(items)).await;
                sent.map_err(|_| Stop::Left)?;
                self.alive.reset();
            }
            Output::Fail(error) => return Err(Stop::Failed(error)),
        }
        Ok(())
    }

    async fn next_input(&mut self) -> Result<Input, Stop> {
        loop {
            if self.stream.has_ended() {
                return Err(Stop::Failed(FeedError::NotOwner));
            }
            if let Some(input) = self.input_at_hand() {
                return Ok(input);
            }
            tokio::select! {
                item = next_of(&mut self.history) => {
                    return Ok(item.map_or(Input::HistoryEnded, Input::History));
                }
                () = self.wake.wait() => drop(self.wake.next()),
                _ = self.alive.tick() => self.say_alive(),
            }
        }
    }

    /// What can be sent without waiting.
    fn input_at_hand(&mut self) -> Option<Input> {
        // The session waits for this, so nothing else counts until the log can answer it. Before
        // the stream's first era it cannot.
        if let Some(place) = &self.locating {
            let located = self.stream.locate(self.reader, place)?;
            if let Some(way) = self.session.way_from(&located) {
                tracing::debug!(stream = %self.stream.id, reader = ?self.reader, %way, "feed located");
            }
            self.locating = None;
            self.era = Some(located.era.era);
            return Some(Input::Located(Box::new(located)));
        }
        // A reader of the log meets the new era there, as a gap. One that reads the history would
        // not notice it.
        let reads_log = matches!(self.following, Some(Following::Log(_)));
        if !reads_log && self.era.is_some() && self.stream.era() != self.era {
            self.era = self.stream.era();
            return Some(Input::EraBegan);
        }
        let input = match self.following.as_mut()? {
            Following::Log(from) => match self.stream.log().read(from, BATCH_MAX, &self.wake) {
                Read::Items { items, .. } => Input::Items(items),
                Read::FellBehind => Input::FellBehind,
            },
            // Read once for all readers at nearly the same place.
            Following::Replay(replay) => match replay.read(BATCH_MAX, &self.wake) {
                Replayed::Items { items, .. } => Input::Items(items),
                Replayed::FellBehind => Input::FellBehind,
                Replayed::Ended(ended) => Input::ReplayEnded(ended),
            },
        };
        match input {
            // Nothing new yet: `wake` is signalled when there is.
            Input::Items(items) if items.is_empty() => None,
            input => Some(input),
        }
    }

    /// Neither the log nor the history is read any more.
    fn end_look(&mut self) {
        self.history = None;
        self.following = None;
    }

    /// A reader that is behind hears with what follows that the feed lives.
    fn say_alive(&self) {
        let lag = self.stream.lag();
        let _ = self.sender.try_send(Ok(vec![Item::Alive { lag }]));
    }
}

/// The next item of a historical read; never returns without one.
async fn next_of(history: &mut Option<mpsc::Receiver<HistoryItem>>) -> Option<HistoryItem> {
    match history {
        Some(items) => {
            let item = items.recv().await;
            if item.is_none() {
                *history = None;
            }
            item
        }
        None => std::future::pending().await,
    }
}
