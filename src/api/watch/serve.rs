//! Sends the messages of a watch, until one side ends it.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Watch, Watched};
use crate::{
    api::{
        convert::timestamp,
        reads::Reads,
        status::{cut_off, not_formed, stopping, too_slow},
    },
    clock::unix_now,
    domain::lifecycle::Lifecycle,
};

/// A watch sends a heartbeat after this long without any other message.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// Messages that may wait for the transport. What does not fit waits in the log of changes, where
/// it costs nothing more.
const MESSAGES_MAX: usize = 4;

/// Under what conditions this replica serves watches. A cheap clone.
#[derive(Clone)]
pub struct Watches {
    /// Whether this replica is in contact with a majority of the group. Without it what is sent
    /// would be out of date, and nobody could see that.
    lifecycle: watch::Receiver<Lifecycle>,
    /// Ends every watch.
    stop: CancellationToken,
    slow_after: Duration,
}

/// Why a watch ends by itself.
#[derive(Debug)]
pub(in crate::api) enum Ended {
    /// The watcher has left.
    Left,
    /// For the watcher to see.
    Status(Status),
}

/// Where messages of one watch go.
pub(in crate::api) struct Outlet<R> {
    sender: mpsc::Sender<Result<R, Status>>,
    slow_after: Duration,
    last_sent: Instant,
}

impl Watches {
    /// A watcher that takes nothing for `slow_after` is disconnected.
    pub fn new(
        lifecycle: watch::Receiver<Lifecycle>,
        stop: CancellationToken,
        slow_after: Duration,
    ) -> Self {
        Self {
            lifecycle,
            stop,
            slow_after,
        }
    }

    /// Refuses where a watch would end at once.
    pub(in crate::api) fn check(&self, reads: &Reads) -> Result<(), Status> {
        if self.stop.is_cancelled() {
            Err(stopping())
        } else if reads.state.borrow().group.is_none() {
            Err(not_formed())
        } else if self.lifecycle.borrow().is_in_contact() {
            Ok(())
        } else {
            Err(cut_off())
        }
    }

    /// Serves a watch of what must not be out of date.
    pub(in crate::api) fn serve<W: Watched>(
        &self,
        watch: Watch<W>,
    ) -> ReceiverStream<Result<W::Response, Status>> {
        let (mut lifecycle, stopped) = (self.lifecycle.clone(), self.stopped());
        let ends = async move {
            tokio::select! {
                status = stopped => status,
                Ok(_) = lifecycle.wait_for(|now| !now.is_in_contact()) => cut_off(),
            }
        };
        self.serve_until(ends, |outlet| run(watch, outlet))
    }

    /// When this replica stops, and how a watch ends then.
    pub(in crate::api) fn stopped(&self) -> impl Future<Output = Status> + Send + use<> {
        let stop = self.stop.clone();
        async move {
            stop.cancelled().await;
            stopping()
        }
    }

    /// Serves what `work` sends, until it ends, or the watcher leaves, or `ends` completes.
    pub(in crate::api) fn serve_until<R, F>(
        &self,
        ends: impl Future<Output = Status> + Send + 'static,
        work: impl FnOnce(Outlet<R>) -> F,
    ) -> ReceiverStream<Result<R, Status>>
    where
        R: Send + 'static,
        F: Future<Output = Ended> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        let work = work(Outlet {
            sender: sender.clone(),
            slow_after: self.slow_after,
            last_sent: Instant::now(),
        });
        tokio::spawn(async move {
            let end = tokio::select! {
                end = work => end,
                () = sender.closed() => Ended::Left,
                status = ends => Ended::Status(status),
            };
            if let Ended::Status(status) = end {
                // Waits until the watcher reads, or its connection is gone.
                let _ = sender.send(Err(status)).await;
            }
        });
        ReceiverStream::new(receiver)
    }
}

impl<R> Outlet<R> {
    /// Sends a message once there is room.
    pub(in crate::api) async fn send(&mut self, message: R) -> Result<(), Ended> {
        let room = tokio::time::timeout(self.slow_after, self.sender.reserve()).await;
        match room {
            Ok(Ok(permit)) => permit.send(Ok(message)),
            Ok(Err(_)) => return Err(Ended::Left),
            Err(_) => {
                return Err(Ended::Status(too_slow(format!(
                    "the client read nothing for {} ms; resume with the last resume_token",
                    self.slow_after.as_millis()
                ))));
            }
        }
        self.last_sent = Instant::now();
        Ok(())
    }

    /// When a heartbeat is due.
    pub(in crate::api) fn heartbeat_at(&self) -> Instant {
        self.last_sent + HEARTBEAT_EVERY
    }
}

async fn run<W: Watched>(mut watch: Watch<W>, mut outlet: Outlet<W::Response>) -> Ended {
    let mut news = watch.news();
    loop {
        news.mark_unchanged();
        let message = match watch.next() {
            Some(message) => message,
            None => {
                tokio::select! {
                    changed = news.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return Ended::Status(stopping()),
                    },
                    () = tokio::time::sleep_until(outlet.heartbeat_at()) => {}
                }
                watch.heartbeat(timestamp(unix_now()))
            }
        };
        if let Err(ended) = outlet.send(message).await {
            return ended;
        }
    }
}
