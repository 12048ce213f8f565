//! A subscriber that keeps everything it receives.

use std::time::Duration;

use quorumwatch::client::{Begin, Cursor, Endpoints, Options, Subscription, Update};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::record::{Record, Stream};

/// Subscribes to everything until it leaves.
pub(crate) struct Subscriber {
    record: watch::Receiver<Record>,
    stop: CancellationToken,
    task: JoinHandle<Cursor>,
}

impl Subscriber {
    /// Begins with what exists.
    pub(crate) fn start(endpoints: Endpoints) -> Self {
        Self::run(endpoints, Begin::Snapshot, Record::default())
    }

    /// Comes back with the cursor that it left with, and adds to its record.
    pub(crate) fn come_back(endpoints: Endpoints, cursor: Cursor, record: Record) -> Self {
        Self::run(endpoints, Begin::After(cursor), record)
    }

    fn run(endpoints: Endpoints, begin: Begin, record: Record) -> Self {
        let (sender, receiver) = watch::channel(record);
        let stop = CancellationToken::new();
        let options = Options {
            begin,
            client_name: "tests/kube".into(),
            ..Options::default()
        };
        let subscription = Subscription::new(endpoints, options);
        let task = tokio::spawn(receive(subscription, sender, stop.clone()));
        Self {
            record: receiver,
            stop,
            task,
        }
    }

    /// What has come so far.
    pub(crate) fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// Waits until each of these streams has given so many more events.
    pub(crate) async fn wait_events(&mut self, streams: &[Stream], more: usize, within: Duration) {
        let before = self.record();
        self.wait("events arrive in every stream", within, |record| {
            streams
                .iter()
                .all(|stream| record.events(stream) >= before.events(stream) + more)
        })
        .await;
    }

    /// Waits for a condition of the record.
    pub(crate) async fn wait(
        &mut self,
        what: &str,
        within: Duration,
        is_met: impl FnMut(&Record) -> bool,
    ) {
        if !self.sees(within, is_met).await {
            let record = self.record.borrow();
            panic!("not within {within:?}: {what}: {}", record.summary());
        }
    }

    /// Whether a condition of the record is met in time.
    pub(crate) async fn sees(
        &mut self,
        within: Duration,
        mut is_met: impl FnMut(&Record) -> bool,
    ) -> bool {
        let met = self.record.wait_for(|record| {
            assert_eq!(record.ended, None, "the subscription has ended");
            is_met(record)
        });
        timeout(within, met)
            .await
            .map(|met| drop(met.unwrap()))
            .is_ok()
    }

    /// Leaves, with the record and the cursor to come back with.
    ///
    /// Before the first Progress there is no cursor.
    pub(crate) async fn leave(self) -> (Record, Cursor) {
        self.stop.cancel();
        let cursor = self.task.await.unwrap();
        (self.record.borrow().clone(), cursor)
    }
}

async fn receive(
    mut subscription: Subscription,
    record: watch::Sender<Record>,
    stop: CancellationToken,
) -> Cursor {
    loop {
        let update = tokio::select! {
            () = stop.cancelled() => break,
            update = subscription.next() => update,
        };
        let mut ended = None;
        match update {
            Ok(Some(Update::Frame(response))) => record.send_modify(|record| {
                ended = record.keep(&response).err();
            }),
            Ok(Some(Update::Connected(endpoint))) => {
                record.send_modify(|record| record.connected(endpoint));
            }
            Ok(Some(Update::Interrupted { .. })) => record.send_modify(|record| {
                record.interruptions += usize::from(record.served_by.take().is_some());
            }),
            Ok(None) => ended = Some("the server ended it".into()),
            Err(error) => ended = Some(error.to_string()),
        }
        if ended.is_some() {
            record.send_modify(|record| record.ended = ended);
            break;
        }
    }
    subscription.cursor().clone()
}
