//! Where a session's results go: [`Outlet`]. Sending waits while the receiver is behind, so that
//! back-pressure reaches the socket.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    HistoryItem, Signal,
    holding::{cost_bytes, hold_for},
    queue::{BATCH_BYTES_MAX, Queue},
};
use crate::{
    domain::{
        frame::{Frame, GapReason},
        position::ResourceVersion,
    },
    memory::{Allowance, Budget},
};

pub(super) use super::queue::Stopped;

/// Most frames of one message: enough that a message costs nothing beside its frames.
const BATCH_FRAMES_MAX: usize = 256;
/// How often `Heard` is sent.
const HEARD_PAUSE: Duration = Duration::from_secs(1);

/// Frames that are on their way.
#[derive(Debug, Default)]
pub(super) struct Batch {
    frames: Vec<Frame>,
    bytes: usize,
}

impl Batch {
    /// Adds a frame; returns all of them once there are enough.
    pub(super) fn push(&mut self, frame: Frame) -> Option<Vec<Frame>> {
        self.bytes += frame.cost_bytes();
        self.frames.push(frame);
        let full = self.frames.len() >= BATCH_FRAMES_MAX || self.bytes >= BATCH_BYTES_MAX;
        full.then(|| self.take())
    }

    /// Takes what there is.
    pub(super) fn take(&mut self) -> Vec<Frame> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }
}

/// Where a session's results go.
#[derive(Debug)]
pub(super) enum Outlet {
    /// To the stream's owner.
    Live {
        signals: Queue,
        heard: Option<Instant>,
    },
    /// To a reader that asked for a catch-up. There are no eras: it ends where one would begin.
    CatchUp {
        items: mpsc::Sender<HistoryItem>,
        /// For what was sent, until the last who asked has it.
        allowance: Allowance,
    },
}

impl Outlet {
    pub(super) fn live(signals: Queue) -> Self {
        Self::Live {
            signals,
            heard: None,
        }
    }

    /// Whether it serves a catch-up.
    pub(super) fn is_catch_up(&self) -> bool {
        matches!(self, Self::CatchUp { .. })
    }

    pub(super) fn catch_up(items: mpsc::Sender<HistoryItem>, budget: &Budget) -> Self {
        // Its own suffices for anything, so that nothing that is in progress, and holds a page
        // meanwhile, waits for what others do not take.
        let allowance = Allowance::new(budget, usize::MAX);
        Self::CatchUp { items, allowance }
    }

    pub(super) async fn frames(&mut self, frames: Vec<Frame>) -> Result<(), Stopped> {
        if frames.is_empty() {
            return Ok(());
        }
        match self {
            Self::Live { signals, .. } => {
                let bytes = cost_bytes(&frames);
                signals.send(Signal::Frames(frames), bytes).await
            }
            Self::CatchUp { items, allowance } => {
                let bytes = cost_bytes(&frames);
                let hold = match allowance.try_take(bytes) {
                    Some(hold) => hold,
                    None => {
                        send(items, HistoryItem::Scarce).await?;
                        allowance.take(bytes).await
                    }
                };
                send(items, HistoryItem::Frames(hold_for(frames, hold))).await
            }
        }
    }

    pub(super) async fn closed(&mut self, rv: ResourceVersion) -> Result<(), Stopped> {
        match self {
            Self::Live { signals, .. } => signals.send(Signal::Closed(rv), 0).await,
            Self::CatchUp { items, .. } => send(items, HistoryItem::Closed(rv)).await,
        }
    }

    pub(super) async fn repaired(
        &mut self,
        to: &ResourceVersion,
        frames: Vec<Frame>,
        last: bool,
    ) -> Result<(), Stopped> {
        match self {
            Self::Live { .. } if frames.is_empty() => Ok(()),
            Self::Live { signals, .. } => {
                let bytes = cost_bytes(&frames);
                signals.send(Signal::Repaired(frames), bytes).await
            }
            Self::CatchUp { items, allowance } => {
                let to = to.clone();
                let frames = allowed(allowance, frames).await;
                send(items, HistoryItem::Repaired { to, frames, last }).await
            }
        }
    }

    /// Asks for an era and waits until it is granted.
    pub(super) async fn era(
        &mut self,
        reason: GapReason,
        to: ResourceVersion,
        repaired: bool,
        cluster_uid: String,
    ) -> Result<(), Stopped> {
        match self {
            Self::Live { signals, .. } => {
                let (granted, grant) = oneshot::channel();
                let signal = Signal::EraNeeded {
                    reason,
                    to,
                    repaired,
                    cluster_uid,
                    granted,
                };
                signals.send(signal, 0).await?;
                grant.await.map_err(|_| Stopped)
            }
            Self::CatchUp { items, .. } => {
                tracing::debug!(?reason, %to, repaired, "no history to catch up with");
                let item = if repaired {
                    HistoryItem::WatchLost { to }
                } else {
                    HistoryItem::Expired
                };
                send(items, item).await?;
                Err(Stopped)
            }
        }
    }

    /// Reports that the API server sent something. A receiver that is behind gets it with what
    /// follows.
    pub(super) fn heard(&mut self) {
        let Self::Live { signals, heard } = self else {
            return;
        };
        if heard.is_none_or(|at| at.elapsed() >= HEARD_PAUSE) && signals.try_send(Signal::Heard) {
            *heard = Some(Instant::now());
        }
    }
}

/// The same frames, with memory that is held until the last of them is dropped.
async fn allowed(allowance: &Allowance, frames: Vec<Frame>) -> Vec<Frame> {
    if frames.is_empty() {
        return frames;
    }
    let hold = allowance.take(cost_bytes(&frames)).await;
    hold_for(frames, hold)
}

async fn send<T>(sender: &mpsc::Sender<T>, message: T) -> Result<(), Stopped> {
    sender.send(message).await.map_err(|_| Stopped)
}
