//! One list for many: snapshots and repairs that are asked for at the same time are made once.
//!
//! When an owner dies, all who followed it ask its successor within milliseconds; without this,
//! each would cost the API server a list of its own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{history::History, lock::lock};
use crate::domain::{delivery::feed::Look, history::HistoryItem};

/// How long the first requester waits for others: negligible compared with the read itself.
const GATHER: Duration = Duration::from_millis(25);

/// Messages that may be queued for one requester.
const MESSAGES_MAX: usize = 8;

/// For how long a requester may hold up the others, over the whole read. Then it is dropped, and asks
/// again, for itself.
const HELD_UP_MAX: Duration = Duration::from_secs(5);

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

/// One of those who share a look.
struct Requester {
    items: mpsc::Sender<HistoryItem>,
    /// For how much longer it may hold up the others.
    patience: Duration,
}

impl Requester {
    fn new() -> (Self, mpsc::Receiver<HistoryItem>) {
        let (items, receiver) = mpsc::channel(MESSAGES_MAX);
        let requester = Self {
            items,
            patience: HELD_UP_MAX,
        };
        (requester, receiver)
    }

    /// Whether it has taken the item, and after how long. One that shares with nobody may take its
    /// time.
    async fn give(&self, item: HistoryItem, is_alone: bool) -> (bool, Duration) {
        let begun = Instant::now();
        let given = async {
            if is_alone {
                self.items.send(item).await.is_ok()
            } else {
                self.items.send_timeout(item, self.patience).await.is_ok()
            }
        };
        (given.await, begun.elapsed())
    }
}

impl SharedHistory {
    pub(super) fn new(history: Arc<dyn History>) -> Self {
        Self {
            history,
            gathering: Arc::default(),
        }
    }

    /// Looks, together with those who ask for the same at nearly the same time.
    pub(super) fn look(&self, look: Look) -> mpsc::Receiver<HistoryItem> {
        let (requester, receiver) = Requester::new();
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
        give_to_all(&item, &mut requesters).await;
    }
}

/// Gives the item to every requester. Those that left, or have held up the others for too long, are
/// dropped.
async fn give_to_all(item: &HistoryItem, requesters: &mut Vec<Requester>) {
    let is_alone = requesters.len() == 1;
    let given = requesters
        .iter()
        .map(|requester| requester.give(item.clone(), is_alone));
    let given = futures::future::join_all(given).await;
    let taken = given.iter().filter(|(is_taken, _)| *is_taken);
    let fastest = taken.map(|(_, took)| *took).min().unwrap_or_default();
    let mut given = given.into_iter();
    requesters.retain_mut(|requester| {
        let (is_taken, took) = given.next().unwrap_or_default();
        requester.patience = requester
            .patience
            .saturating_sub(took.saturating_sub(fastest));
        is_taken
    });
}

async fn all_left(requesters: &[Requester]) {
    let closed = requesters.iter().map(|requester| requester.items.closed());
    futures::future::join_all(closed).await;
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, Instant, sleep};

    use super::{Arc, HELD_UP_MAX, History, HistoryItem, Look, Mutex, SharedHistory, mpsc};

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

    /// Has lists of so many objects.
    struct Long(u64);

    impl History for Long {
        fn look(&self, _: Look) -> mpsc::Receiver<HistoryItem> {
            let (sender, receiver) = mpsc::channel(1);
            let length = self.0;
            tokio::spawn(async move {
                for rv in 1..=length {
                    let _ = sender.send(HistoryItem::Listing(rv.into())).await;
                }
            });
            receiver
        }
    }

    /// Takes one item in each `pause`; how many there were.
    async fn read(mut items: mpsc::Receiver<HistoryItem>, pause: Duration) -> u64 {
        let mut count = 0;
        while items.recv().await.is_some() {
            count += 1;
            // poll: a reader that takes its time, on a clock that is paused
            sleep(pause).await;
        }
        count
    }

    const SLOW: Duration = Duration::from_millis(4_900);

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_little_holds_up_the_others_for_some_seconds_in_all() {
        let shared = SharedHistory::new(Arc::new(Long(200)));
        let [fast, slow] = [(); 2].map(|()| shared.look(Look::List(None)));
        let begun = Instant::now();
        let slow = tokio::spawn(read(slow, SLOW));
        assert_eq!(read(fast, Duration::ZERO).await, 200);
        assert!(begun.elapsed() < 2 * HELD_UP_MAX, "{:?}", begun.elapsed());
        assert!(slow.await.unwrap() < 200);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_shares_with_nobody_takes_its_time() {
        let shared = SharedHistory::new(Arc::new(Long(30)));
        let alone = shared.look(Look::List(None));
        assert_eq!(read(alone, 2 * HELD_UP_MAX).await, 30);
    }
}
