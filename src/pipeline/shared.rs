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
    askers: Vec<Asker>,
}

/// One of those who share a look.
struct Asker {
    /// What it asked for; the look that it shares may begin earlier.
    look: Look,
    items: mpsc::Sender<HistoryItem>,
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

    fn ask(&self, look: Look) -> mpsc::Receiver<HistoryItem> {
        let (items, receiver) = mpsc::channel(MESSAGES_MAX);
        self.join(Asker { look, items });
        receiver
    }

    fn join(&self, asker: Asker) {
        let mut gathering = lock(&self.gathering);
        for open in gathering.iter_mut() {
            if let Some(joined) = open.look.joined(&asker.look) {
                open.look = joined;
                open.askers.push(asker);
                return;
            }
        }
        let first = gathering.is_empty();
        gathering.push(Gathering {
            look: asker.look.clone(),
            askers: vec![asker],
        });
        drop(gathering);
        if first {
            tokio::spawn(self.clone().begin());
        }
    }

    /// Begins everything that was asked for while it waited.
    async fn begin(self) {
        tokio::time::sleep(GATHER).await;
        let gathered = std::mem::take(&mut *lock(&self.gathering));
        for Gathering { look, askers } in gathered {
            tracing::debug!(?look, askers = askers.len(), "looking into the history");
            let items = match look.clone() {
                Look::CatchUp(from) => self.history.catch_up(from),
                Look::Snapshot => self.history.snapshot(),
                Look::Repair { from, to } => self.history.repair(from, to),
            };
            tokio::spawn(self.clone().hand_out(look, items, askers));
        }
    }

    /// Gives every item to every asker, until the look or the last asker ends.
    async fn hand_out(
        self,
        look: Look,
        mut items: mpsc::Receiver<HistoryItem>,
        mut askers: Vec<Asker>,
    ) {
        loop {
            let item = tokio::select! {
                item = items.recv() => item,
                () = all_left(&askers) => return,
            };
            let Some(item) = item else { return };
            if matches!(item, HistoryItem::Expired | HistoryItem::Repaired { .. }) {
                // What is gone is what follows the earliest of them. The others ask again: what
                // they need may still be there.
                let others = askers.extract_if(.., |asker| asker.look != look);
                others.for_each(|asker| self.join(asker));
            }
            let sends = askers
                .iter()
                .map(|asker| asker.items.send_timeout(item.clone(), TAKE_WITHIN));
            let sent = futures::future::join_all(sends).await;
            let mut taken = sent.into_iter().map(|sent| sent.is_ok());
            askers.retain(|_| taken.next().unwrap_or(false));
        }
    }
}

impl History for SharedHistory {
    fn catch_up(&self, from: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
        self.ask(Look::CatchUp(from))
    }

    fn snapshot(&self) -> mpsc::Receiver<HistoryItem> {
        self.ask(Look::Snapshot)
    }

    fn repair(&self, from: ResourceVersion, to: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
        self.ask(Look::Repair { from, to })
    }
}

async fn all_left(askers: &[Asker]) {
    futures::future::join_all(askers.iter().map(|asker| asker.items.closed())).await;
}

#[cfg(test)]
mod tests {
    use super::{Arc, History, HistoryItem, Mutex, ResourceVersion, SharedHistory, mpsc};

    /// A history that begins at 1,000.
    #[derive(Default)]
    struct Asked(Mutex<Vec<ResourceVersion>>);

    impl History for Asked {
        fn catch_up(&self, from: ResourceVersion) -> mpsc::Receiver<HistoryItem> {
            self.0.lock().unwrap().push(from.clone());
            let (sender, receiver) = mpsc::channel(1);
            let item = if from < 1_000.into() {
                HistoryItem::Expired
            } else {
                HistoryItem::Closed(from)
            };
            tokio::spawn(async move { sender.send(item).await });
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

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_for_the_earliest_is_not_gone_for_the_others() {
        let asked = Arc::new(Asked::default());
        let shared = SharedHistory::new(asked.clone());
        let [mut gone, mut there, mut also] =
            [600, 1_200, 1_400].map(|rv| shared.catch_up(rv.into()));
        assert_eq!(gone.recv().await, Some(HistoryItem::Expired));
        for receiver in [&mut there, &mut also] {
            let closed = Some(HistoryItem::Closed(1_200.into()));
            assert_eq!(receiver.recv().await, closed);
        }
        assert_eq!(*asked.0.lock().unwrap(), [600.into(), 1_200.into()]);
    }
}
