//! Where a session's results go: [`Outlet`]. Sending waits while the receiver is behind, so that
//! back-pressure reaches the socket.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    HistoryItem, Signal,
    holding::{cost_bytes, hold_for},
    queue::{BATCH_BYTES_MAX, Queue},
};
use crate::{
    domain::{
        event::{Event, GapReason},
        position::ResourceVersion,
    },
    memory::{Allowance, Budget},
};

pub(super) use super::queue::Stopped;

/// Most events of one message: enough that a message costs nothing beside its events.
const BATCH_EVENTS_MAX: usize = 256;
/// How long net changes may wait for memory, which their reader gives back as it takes what came
/// before. They hold memory for two pages meanwhile, which others wait for.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often `Heard` is sent.
const HEARD_PAUSE: Duration = Duration::from_secs(1);

/// Events that are on their way.
#[derive(Debug, Default)]
pub(super) struct Batch {
    events: Vec<Event>,
    bytes: usize,
}

impl Batch {
    /// Adds an event; returns all of them once there are enough.
    pub(super) fn push(&mut self, event: Event) -> Option<Vec<Event>> {
        self.bytes += event.cost_bytes();
        self.events.push(event);
        let full = self.events.len() >= BATCH_EVENTS_MAX || self.bytes >= BATCH_BYTES_MAX;
        full.then(|| self.take())
    }

    /// Takes what there is.
    pub(super) fn take(&mut self) -> Vec<Event> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
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

    pub(super) async fn events(&mut self, events: Vec<Event>) -> Result<(), Stopped> {
        if events.is_empty() {
            return Ok(());
        }
        match self {
            Self::Live { signals, .. } => {
                let bytes = cost_bytes(&events);
                signals.send(Signal::Events(events), bytes).await
            }
            Self::CatchUp { items, allowance } => {
                let bytes = cost_bytes(&events);
                let hold = match allowance.try_take(bytes) {
                    Some(hold) => hold,
                    None => {
                        send(items, HistoryItem::Scarce).await?;
                        allowance.take(bytes).await
                    }
                };
                send(items, HistoryItem::Events(hold_for(events, hold))).await
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
        events: Vec<Event>,
        last: bool,
    ) -> Result<(), Stopped> {
        match self {
            Self::Live { .. } if events.is_empty() => Ok(()),
            Self::Live { signals, .. } => {
                let bytes = cost_bytes(&events);
                signals.send(Signal::Repaired(events), bytes).await
            }
            Self::CatchUp { items, allowance } => {
                let to = to.clone();
                let allowed = timeout(TAKE_TIMEOUT, allowed(allowance, events));
                let Ok(events) = allowed.await else {
                    send(items, HistoryItem::Failed(read_too_slowly(allowance))).await?;
                    return Err(Stopped);
                };
                send(items, HistoryItem::Repaired { to, events, last }).await
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

/// The same events, with memory that is held until the last of them is dropped.
async fn allowed(allowance: &Allowance, events: Vec<Event>) -> Vec<Event> {
    if events.is_empty() {
        return events;
    }
    let hold = allowance.take(cost_bytes(&events)).await;
    hold_for(events, hold)
}

fn read_too_slowly(allowance: &Allowance) -> String {
    let (key, limit) = (allowance.budget().key(), allowance.budget().limit());
    format!(
        "the net changes did not fit into the {limit} bytes of {key} and were read too slowly: read \
         faster, narrow the filter, or raise {key}"
    )
}

async fn send<T>(sender: &mpsc::Sender<T>, message: T) -> Result<(), Stopped> {
    sender.send(message).await.map_err(|_| Stopped)
}
