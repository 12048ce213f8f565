//! One look into the past for many: catch-up watches, snapshots and repairs that are asked for at the same
//! time, at nearly the same place, are made once.
//!
//! When an owner dies, all who followed it ask its successor within milliseconds; without this,
//! each would cost the API server a watch or a list of its own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{lock::lock, owned::History};
use crate::domain::{history::HistoryItem, position::ResourceVersion};

/// How long the first asker waits for others: hardly felt beside the look itself.
const GATHER: Duration = Duration::from_millis(25);

/// Versions between two askers that are "nearly the same place": what the one further ahead gets in
/// vain.
const NEAR_VERSIONS: u64 = 1_000;

/// Messages that may wait for one asker.
const MESSAGES_MAX: usize = 8;

/// An asker that takes nothing for so long is left behind, so that it does not hold up the others;
/// it asks again.
const TAKE_WITHIN: Duration = Duration::from_secs(5);

/// A history whose looks are shared.
#[derive(Clone)]
pub(super) struct SharedHistory {
    history: Arc<dyn History>,
    gathering: Arc<Mutex<Vec<Gathering>>>,
}

/// Askers of one look that has not begun.
struct Gathering {
    look: Look,
    askers: Vec<mpsc::Sender<HistoryItem>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Look {
    CatchUp(ResourceVersion),
    Snapshot,
    Repair {
        from: ResourceVersion,
        to: ResourceVersion,
    },
}

impl Look {
    /// The look that serves both, if one does.
    fn joined(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Snapshot | Self::Repair { .. }, _) if self == other => Some(self.clone()),
            (Self::CatchUp(a), Self::CatchUp(b)) => {
                let distance = a.as_u64()?.abs_diff(b.as_u64()?);
                (distance <= NEAR_VERSIONS).then(|| Self::CatchUp(a.min(b).clone()))
            }
            _ => None,
        }
    }
}

impl SharedHistory {
    pub(super) fn new(history: Arc<dyn History>) -> Self {
        Self {
            history,
            gathering: Arc::default(),
        }
    }

    fn join(&self, look: Look) -> mpsc::Receiver<HistoryItem> {
        let (asker, receiver) = mpsc::channel(MESSAGES_MAX);
        let mut gathering = lock(&self.gathering);
        for open in gathering.iter_mut() {
            if let Some(joined) = open.look.joined(&look) {
                open.look = joined;
                open.askers.push(asker);
                return receiver;
            }
        }
        let first = gathering.is_empty();
        gathering.push(Gathering {
            look,
            askers: vec![asker],
        });
        drop(gathering);
        if first {
            tokio::spawn(self.clone().begin());
        }
        receiver
    }

    /// Begins everything that was asked for while it waited.
    async fn begin(self) {
        tokio::time::sleep(GATHER).await;
        let gathered = std::mem::take(&mut *lock(&self.gathering));
        for Gathering { look, askers } in gathered {
            tracing::debug!(?look, askers = askers.len(), "looking into the history");
            let items = match look {
                Look::CatchUp(from) => self.history.catch_up(from),
                Look::Snapshot => self.history.snapshot(),
                Look::Repair { from, to } => self.history.repair(from, to),
            };
            tokio::spawn(hand_out(items, askers));
        }
    }
}

impl History for SharedHistory {
    fn catch_up(&self, from: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
        self.join(Look::CatchUp(from))
    }

    fn snapshot(&self) -> mpsc::Receiver<HistoryItem> {
        self.join(Look::Snapshot)
    }

    fn repair(&self, from: ResourceVersion, to: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
        self.join(Look::Repair { from, to })
    }
}

/// Gives every item to every asker, until the look or the last asker ends.
async fn hand_out(
    mut items: mpsc::Receiver<HistoryItem>,
    mut askers: Vec<mpsc::Sender<HistoryItem>>,
) {
    loop {
        let item = tokio::select! {
            item = items.recv() => item,
            () = all_left(&askers) => return,
        };
        let Some(item) = item else { return };
        let sends = askers
            .iter()
            .map(|asker| asker.send_timeout(item.clone(), TAKE_WITHIN));
        let sent = futures::future::join_all(sends).await;
        let mut taken = sent.into_iter().map(|sent| sent.is_ok());
        askers.retain(|_| taken.next().unwrap_or(false));
    }
}

async fn all_left(askers: &[mpsc::Sender<HistoryItem>]) {
    futures::future::join_all(askers.iter().map(mpsc::Sender::closed)).await;
}

#[cfg(test)]
mod tests {
    use super::{Arc, History, HistoryItem, Mutex, ResourceVersion, SharedHistory, mpsc};

    #[derive(Default)]
    struct Asked(Mutex<Vec<ResourceVersion>>);

    impl History for Asked {
        fn catch_up(&self, from: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
            self.0.lock().unwrap().push(from.clone());
            let (sender, receiver) = mpsc::channel(1);
            tokio::spawn(async move { sender.send(HistoryItem::Closed(from)).await });
            receiver
        }

        fn snapshot(&self) -> mpsc::Receiver<HistoryItem> {
            mpsc::channel(1).1
        }

        fn repair(&self, _: ResourceVersion, _: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
            mpsc::channel(1).1
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_together_at_nearly_one_place_share_a_watch() {
        let asked = Arc::new(Asked::default());
        let shared = SharedHistory::new(asked.clone());
        let near = [1_500, 1_000, 1_999].map(|rv| shared.catch_up(rv.into()));
        let mut far = shared.catch_up(9_000.into());
        for mut receiver in near {
            assert_eq!(
                receiver.recv().await,
                Some(HistoryItem::Closed(1_000.into()))
            );
        }
        assert_eq!(far.recv().await, Some(HistoryItem::Closed(9_000.into())));
        assert_eq!(*asked.0.lock().unwrap(), [1_000.into(), 9_000.into()]);
        assert_eq!(far.recv().await, None);
    }
}
