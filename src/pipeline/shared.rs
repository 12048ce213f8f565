//! One list for many: snapshots and repairs that are asked for at the same time are made once.
//!
//! When an owner dies, all who followed it ask its successor within milliseconds; without this,
//! each would cost the API server a list of its own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{history::History, lock::lock};
use crate::domain::{delivery::feed::Look, history::HistoryItem};

/// How long the first requester waits for others: negligible compared with the read itself.
const GATHER: Duration = Duration::from_millis(25);

/// Messages that may be queued for one requester.
const MESSAGES_MAX: usize = 8;

/// A requester that takes nothing for this long is dropped, so that it does not hold up the others;
/// it asks again.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A history whose looks are shared.
#[derive(Clone)]
pub(super) struct SharedHistory {
    history: Arc<dyn History>,
    gathering: Arc<Mutex<Vec<Gathering>>>,
}

/// Those who asked for one look that has not begun.
struct Gathering {
    look: Look,
    requesters: Vec<Requester>,
}

/// Where one of those who share a look gets it.
type Requester = mpsc::Sender<HistoryItem>;

impl SharedHistory {
    pub(super) fn new(history: Arc<dyn History>) -> Self {
        Self {
            history,
            gathering: Arc::default(),
        }
    }

    /// Looks, together with those who ask for the same at nearly the same time.
    pub(super) fn look(&self, look: Look) -> mpsc::Receiver<HistoryItem> {
        let (requester, receiver) = mpsc::channel(MESSAGES_MAX);
        let mut gathering = lock(&self.gathering);
        if let Some(open) = gathering.iter_mut().find(|open| open.look == look) {
            open.requesters.push(requester);
            return receiver;
        }
        let first = gathering.is_empty();
        gathering.push(Gathering {
            look,
            requesters: vec![requester],
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
        for Gathering { look, requesters } in gathered {
            tracing::debug!(
                ?look,
                requesters = requesters.len(),
                "starting a history read"
            );
            tokio::spawn(distribute(self.history.look(look), requesters));
        }
    }
}

/// Sends every item to every requester, until the read or the last requester ends.
async fn distribute(mut items: mpsc::Receiver<HistoryItem>, mut requesters: Vec<Requester>) {
    loop {
        let item = tokio::select! {
            item = items.recv() => item,
            () = all_left(&requesters) => return,
        };
        let Some(item) = item else { return };
        let sends = requesters
            .iter()
            .map(|requester| requester.send_timeout(item.clone(), TAKE_TIMEOUT));
        let sent = futures::future::join_all(sends).await;
        let mut taken = sent.into_iter().map(|sent| sent.is_ok());
        requesters.retain(|_| taken.next().unwrap_or(false));
    }
}

async fn all_left(requesters: &[Requester]) {
    futures::future::join_all(requesters.iter().map(Requester::closed)).await;
}

#[cfg(test)]
mod tests {
    use super::{Arc, History, HistoryItem, Look, Mutex, SharedHistory, mpsc};

    /// Says of each list that it begins.
    #[derive(Default)]
    struct Asked(Mutex<Vec<Look>>);

    impl History for Asked {
        fn look(&self, look: Look) -> mpsc::Receiver<HistoryItem> {
            let (sender, receiver) = mpsc::channel(1);
            if let Look::List(Some(rv)) = &look {
                sender.try_send(HistoryItem::Listing(rv.clone())).unwrap();
            }
            self.0.lock().unwrap().push(look);
            receiver
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_together_for_the_same_share_it() {
        let asked = Arc::new(Asked::default());
        let shared = SharedHistory::new(asked.clone());
        let list = |rv: u64| Look::List(Some(rv.into()));
        for mut receiver in [7, 9, 7, 7].map(|rv| shared.look(list(rv))) {
            assert!(matches!(
                receiver.recv().await,
                Some(HistoryItem::Listing(_))
            ));
            assert_eq!(receiver.recv().await, None);
        }
        assert_eq!(*asked.0.lock().unwrap(), [list(7), list(9)]);
    }
}
