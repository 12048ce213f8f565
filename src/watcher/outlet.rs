//! Where a session's results go: [`Outlet`]. Sending waits while the receiver is behind, so that
//! back-pressure reaches the socket.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{HistoryItem, Signal};
use crate::domain::{
    frame::{Frame, GapReason},
    position::ResourceVersion,
};

/// Most frames of one message: enough that a message costs nothing beside its frames.
const BATCH_FRAMES_MAX: usize = 256;
/// Most bytes of one message, a single larger frame apart. With the length of the channel this
/// bounds what a stream whose receiver is behind keeps in memory.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// How often `Heard` is told.
const HEARD_PAUSE: Duration = Duration::from_secs(1);

/// The receiver is gone, or has ended the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped;

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
        signals: mpsc::Sender<Signal>,
        heard: Option<Instant>,
    },
    /// To whoever asked for a catch-up. There are no eras: what is repaired goes on, what is not
    /// has expired.
    CatchUp(mpsc::Sender<HistoryItem>),
}

impl Outlet {
    pub(super) fn live(signals: mpsc::Sender<Signal>) -> Self {
        Self::Live {
            signals,
            heard: None,
        }
    }

    pub(super) async fn frames(&mut self, frames: Vec<Frame>) -> Result<(), Stopped> {
        if frames.is_empty() {
            return Ok(());
        }
        match self {
            Self::Live { signals, .. } => send(signals, Signal::Frames(frames)).await,
            Self::CatchUp(items) => send(items, HistoryItem::Frames(frames)).await,
        }
    }

    pub(super) async fn closed(&mut self, rv: ResourceVersion) -> Result<(), Stopped> {
        match self {
            Self::Live { signals, .. } => send(signals, Signal::Closed(rv)).await,
            Self::CatchUp(items) => send(items, HistoryItem::Closed(rv)).await,
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
            Self::Live { signals, .. } => send(signals, Signal::Repaired(frames)).await,
            Self::CatchUp(items) => {
                let to = to.clone();
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
                send(signals, signal).await?;
                grant.await.map_err(|_| Stopped)
            }
            Self::CatchUp(_) if repaired => Ok(()),
            Self::CatchUp(items) => {
                send(items, HistoryItem::Expired).await?;
                Err(Stopped)
            }
        }
    }

    /// Tells that the API server was heard. A receiver that is behind hears it with what follows.
    pub(super) fn heard(&mut self) {
        let Self::Live { signals, heard } = self else {
            return;
        };
        if heard.is_none_or(|at| at.elapsed() >= HEARD_PAUSE)
            && signals.try_send(Signal::Heard).is_ok()
        {
            *heard = Some(Instant::now());
        }
    }
}

async fn send<T>(sender: &mpsc::Sender<T>, message: T) -> Result<(), Stopped> {
    sender.send(message).await.map_err(|_| Stopped)
}
