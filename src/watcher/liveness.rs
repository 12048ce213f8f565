//! Notices that an API server which kept sending has fallen silent because packets are dropped:
//! [`Liveness`]. A silent watch may be healthy, so what decides is a request
//! that is not answered.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use crate::domain::arrivals::Arrivals;

/// What has arrived from one API server.
#[derive(Debug)]
pub(super) struct Liveness {
    started: Instant,
    arrivals: Mutex<Arrivals>,
    /// Something has arrived.
    pub(super) heard: Notify,
    /// When the last request was sent that the server left unanswered.
    pub(super) unanswered: watch::Sender<Option<Instant>>,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            arrivals: Mutex::default(),
            heard: Notify::new(),
            unanswered: watch::Sender::default(),
        }
    }
}

impl Liveness {
    /// Bytes of a watch have arrived.
    pub(super) fn heard(&self) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.heard(now_ms);
        drop(arrivals);
        self.heard.notify_waiters();
    }

    /// To wait with for a request that was not answered.
    pub(super) fn unanswered(&self) -> watch::Receiver<Option<Instant>> {
        self.unanswered.subscribe()
    }

    /// Waits until the server is suspiciously silent.
    pub(super) async fn silent(&self) {
        loop {
            // Before looking: what arrives in between is not missed.
            let heard = self.heard.notified();
            match self.suspect_at() {
                None => heard.await,
                Some(at) if at <= Instant::now() => return,
                Some(at) => sleep_until(at).await,
            }
        }
    }

    pub(super) fn suspect_at(&self) -> Option<Instant> {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let at_ms = arrivals.suspect_at_ms()?;
        Some(self.started + Duration::from_millis(at_ms))
    }
}

/// Waits for a request that was sent after this moment and not answered; never ends otherwise.
pub(super) async fn unanswered_since(
    unanswered: &mut watch::Receiver<Option<Instant>>,
    moment: Instant,
) {
    let later = unanswered.wait_for(|sent_at| sent_at.is_some_and(|sent_at| sent_at > moment));
    if later.await.is_err() {
        // The API server is not used any more; what ends its watches ends this too.
        std::future::pending::<()>().await;
    }
}
