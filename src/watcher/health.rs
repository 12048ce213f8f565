//! The condition of the streams of one cluster, as one [`Health`]: [`Board`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::watch, time::Instant};

use super::{
    api_error::ApiError,
    breaker::{Breaker, BreakerStatus},
};
use crate::{
    clock::unix_now,
    domain::{
        breaker::State,
        cluster::{Condition, Health, Source, StreamSelector},
        id::StreamId,
        pace::Pace,
    },
};

/// What the streams of one cluster report.
#[derive(Clone, Debug)]
pub(super) struct Board {
    cluster: Arc<str>,
    /// Where its credentials come from.
    source: Arc<Source>,
    log: Arc<Mutex<StateLog>>,
    streams: Arc<Mutex<BTreeMap<StreamId, Report>>>,
    breaker: watch::Receiver<BreakerStatus>,
    /// Whether the last probe could not see which cluster answers.
    is_stranger: Arc<AtomicBool>,
    health: Arc<watch::Sender<Health>>,
    watches: Arc<watch::Sender<Watches>>,
}

/// How far the watches of a cluster have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watches {
    /// One of them is not open.
    #[default]
    Opening,
    /// Each is open, or waits for its owner to begin an era.
    Open,
    /// Each that is open has brought something.
    Flowing,
}

/// Logs changes of a cluster's condition, rate-limited.
#[derive(Debug)]
struct StateLog {
    started: Instant,
    pace: Pace,
    /// Whether the last line was about a failure.
    is_alarmed: bool,
    /// Whether "cluster is being watched" was ever logged.
    is_introduced: bool,
}

impl StateLog {
    fn log(&mut self, cluster: &str, condition: Condition, reason: &str) {
        if condition == Condition::Connected {
            if self.is_alarmed || !self.is_introduced {
                tracing::info!(%cluster, "cluster is being watched");
            }
            (self.is_alarmed, self.is_introduced) = (false, true);
        } else if self.pace.is_due(reason, self.started.elapsed()) {
            tracing::warn!(%cluster, %condition, reason, "cluster is not being watched");
            self.is_alarmed = true;
        }
    }
}

/// The reason shown if the namespace kube-system cannot be read.
const STRANGER: &str = "the UID of the namespace kube-system cannot be read, so another cluster \
                        behind the same address would not be noticed; grant get on this namespace";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Report {
    /// Nothing is known yet.
    Trying,
    /// The owner must begin an era first.
    AwaitingEra,
    /// The watch is open, and has brought nothing yet.
    Open,
    Flowing,
    Failing(Condition, String),
}

/// One stream's place on the board.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    board: Board,
    stream: StreamId,
    /// What the stream watches.
    selector: Arc<StreamSelector>,
}

impl Board {
    /// A board on which nothing is known yet.
    pub(super) fn new(
        cluster: Arc<str>,
        source: Source,
        breaker: &Breaker,
    ) -> (Self, watch::Receiver<Health>) {
        let (health, receiver) = watch::channel(Health::unknown(unix_now()));
        let board = Self {
            cluster,
            source: Arc::new(source),
            log: Arc::new(Mutex::new(StateLog {
                started: Instant::now(),
                pace: Pace::default(),
                is_alarmed: false,
                is_introduced: false,
            })),
            streams: Arc::default(),
            breaker: breaker.watch(),
            is_stranger: Arc::default(),
            health: Arc::new(health),
            watches: Arc::default(),
        };
        (board, receiver)
    }

    /// Gives a stream its place.
    pub(super) fn reporter(&self, stream: StreamId, selector: &StreamSelector) -> Reporter {
        self.set(stream, Report::Trying);
        Reporter {
            board: self.clone(),
            stream,
            selector: Arc::new(selector.clone()),
        }
    }

    pub(super) fn watches(&self) -> watch::Receiver<Watches> {
        self.watches.subscribe()
    }

    /// Applies each change of the circuit breaker.
    pub(super) async fn follow_breaker(self) {
        let mut breaker = self.breaker.clone();
        while breaker.changed().await.is_ok() {
            self.summarise();
        }
    }

    fn set(&self, stream: StreamId, report: Report) {
        self.streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(stream, report);
        self.summarise();
    }

    /// Why a stream is not watched.
    fn failing(&self, stream: StreamId) -> Option<Condition> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        match streams.get(&stream)? {
            Report::Failing(condition, _) => Some(*condition),
            _ => None,
        }
    }

    fn summarise(&self) {
        let (summary, watches) = {
            let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            (summarise(streams.values()), watches_of(streams.values()))
        };
        self.watches
            .send_if_modified(|before| std::mem::replace(before, watches) != watches);
        let Some((condition, mut reason)) = summary else {
            return;
        };
        if condition == Condition::Connected && self.is_stranger.load(Ordering::Relaxed) {
            reason = STRANGER.to_owned();
        }
        self.log.lock().unwrap_or_else(PoisonError::into_inner).log(
            &self.cluster,
            condition,
            &reason,
        );
        // Its changes have log lines of their own.
        add_breaker(&mut reason, &self.breaker.borrow());
        self.health.send_if_modified(|health| {
            if health.condition == condition && health.reason == reason {
                return false;
            }
            if health.condition != condition {
                health.since = unix_now();
            }
            health.condition = condition;
            health.reason = reason;
            true
        });
    }
}

impl Reporter {
    /// The stream's watch is open.
    pub(super) fn open(&self) {
        self.board.set(self.stream, Report::Open);
    }

    /// The stream's watch, which is open, has brought something.
    pub(super) fn flowing(&self) {
        self.board.set(self.stream, Report::Flowing);
    }

    /// The stream waits for its owner to begin an era.
    pub(super) fn awaiting_era(&self) {
        self.board.set(self.stream, Report::AwaitingEra);
    }

    /// A probe saw which cluster answers, or could not. What that means is reported with the next
    /// report.
    pub(super) fn probed(&self, cluster_uid: &str) {
        let is_stranger = cluster_uid.is_empty();
        let was = self.board.is_stranger.swap(is_stranger, Ordering::Relaxed);
        if is_stranger && !was {
            let cluster = &self.board.cluster;
            tracing::warn!(%cluster, reason = STRANGER, "cannot read the cluster's identity (kube-system UID)");
        }
    }

    /// The stream is not watched while the circuit breaker is open, for this reason. Its own error
    /// says more, unless the cluster fails in another way by now: one that was unreachable is back
    /// and rejects the credentials.
    pub(super) fn held_back(&self, error: &ApiError) {
        if self.board.failing(self.stream) != Some(error.condition()) {
            self.board.set(self.stream, self.report(error));
        }
    }

    /// The stream cannot be watched.
    pub(super) fn failing(&self, error: &ApiError) {
        let what = describe(&self.selector);
        tracing::debug!(stream = %self.stream, resource = %what, %error, "request failed");
        self.board.set(self.stream, self.report(error));
    }

    fn report(&self, error: &ApiError) -> Report {
        let what = describe(&self.selector);
        let hint = error.hint(&self.selector, &self.board.source);
        let separator = if hint.is_empty() { "" } else { "; " };
        let reason = format!("{what}: {error}{separator}{hint}");
        Report::Failing(error.condition(), reason)
    }
}

/// Adds that the breaker is open, and why if that is not mentioned yet.
fn add_breaker(reason: &mut String, breaker: &BreakerStatus) {
    if breaker.state != State::Open {
        return;
    }
    let says_why = reason.contains(&breaker.reason);
    if !reason.is_empty() {
        reason.push_str("; ");
    }
    reason.push_str("the circuit breaker is open");
    if !says_why {
        reason.push_str(": ");
        reason.push_str(&breaker.reason);
    }
}

/// What a stream watches, as text.
pub(super) fn describe(selector: &StreamSelector) -> String {
    if selector.namespace.is_empty() {
        selector.resource.to_string()
    } else {
        format!("{} in {}", selector.resource, selector.namespace)
    }
}

fn watches_of<'a>(reports: impl Iterator<Item = &'a Report>) -> Watches {
    let watches = reports.map(|report| match report {
        Report::Trying | Report::Failing(..) => Watches::Opening,
        Report::Open => Watches::Open,
        Report::AwaitingEra | Report::Flowing => Watches::Flowing,
    });
    watches.min().unwrap_or(Watches::Flowing)
}

/// The cluster's condition and the reason; `None` while nothing is known.
fn summarise<'a>(reports: impl Iterator<Item = &'a Report> + Clone) -> Option<(Condition, String)> {
    let watching = reports
        .clone()
        .any(|report| matches!(report, Report::Open | Report::Flowing));
    let trying = reports
        .clone()
        .any(|report| matches!(report, Report::Trying | Report::AwaitingEra));
    let failing = reports.filter_map(|report| match report {
        Report::Failing(condition, reason) => Some((*condition, reason)),
        _ => None,
    });
    let Some((worst, reason)) = failing
        .clone()
        .min_by_key(|(condition, _)| to_be_mended(*condition))
    else {
        return (watching && !trying).then(|| (Condition::Connected, String::new()));
    };
    let refused = |condition| {
        matches!(
            condition,
            Condition::Unauthenticated | Condition::PermissionDenied
        )
    };
    let condition = match worst {
        _ if watching => Condition::Degraded,
        Condition::Unreachable => worst,
        _ if failing.clone().all(|(condition, _)| refused(condition)) => worst,
        _ => Condition::Degraded,
    };
    Some((condition, reason.clone()))
}

/// What is to be mended first: where nothing answers, what was answered before does not matter, and
/// what credentials are permitted cannot be known before they are accepted.
fn to_be_mended(condition: Condition) -> u8 {
    match condition {
        Condition::Unreachable => 0,
        Condition::Unauthenticated => 1,
        Condition::PermissionDenied => 2,
        Condition::Unknown | Condition::Connected | Condition::Degraded | Condition::Duplicate => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BreakerStatus, Condition, Report, State, Watches, add_breaker, summarise, watches_of,
    };
    use crate::domain::id::UnixMillis;

    #[test]
    fn an_open_breaker_is_reported_with_its_reason_unless_that_was_said() {
        let breaker = |state| BreakerStatus {
            state,
            since: UnixMillis(0),
            reason: "refused".into(),
        };
        let cases = [
            (State::Open, "", "the circuit breaker is open: refused"),
            (
                State::Open,
                "v1/pods: timeout",
                "v1/pods: timeout; the circuit breaker is open: refused",
            ),
            (
                State::Open,
                "v1/pods: refused",
                "v1/pods: refused; the circuit breaker is open",
            ),
            (State::HalfOpen, "v1/pods: refused", "v1/pods: refused"),
            (State::Closed, "", ""),
        ];
        for (state, before, after) in cases {
            let mut reason = before.to_owned();
            add_breaker(&mut reason, &breaker(state));
            assert_eq!(reason, after);
        }
    }

    #[test]
    fn the_condition_follows_the_worst_stream_and_distinguishes_part_from_all() {
        use Condition::{Connected, Degraded, PermissionDenied, Unauthenticated, Unreachable};
        let failing = |condition| Report::Failing(condition, "why".into());
        let unauthenticated = failing(Unauthenticated);
        let (denied, unreachable) = (failing(PermissionDenied), failing(Unreachable));
        let degraded = failing(Degraded);
        let (watching, trying) = (Report::Open, Report::Trying);
        let cases = [
            (vec![&trying], None),
            (vec![&watching, &trying], None),
            (vec![&watching], Some(Connected)),
            (vec![&denied, &trying], Some(PermissionDenied)),
            (vec![&denied, &denied], Some(PermissionDenied)),
            (vec![&denied, &unauthenticated], Some(Unauthenticated)),
            (vec![&denied, &watching], Some(Degraded)),
            (vec![&denied, &degraded], Some(Degraded)),
            (vec![&denied, &unreachable], Some(Unreachable)),
            (vec![&degraded, &watching], Some(Degraded)),
            (vec![&unreachable], Some(Unreachable)),
        ];
        for (reports, expected) in cases {
            let condition = summarise(reports.iter().copied()).map(|(condition, _)| condition);
            assert_eq!(condition, expected, "{reports:?}");
        }
    }

    #[test]
    fn the_watches_of_a_cluster_are_as_far_as_the_last_of_them() {
        use Report::{AwaitingEra, Flowing, Open, Trying};
        let failing = || Report::Failing(Condition::Degraded, "why".into());
        for (reports, expected) in [
            (vec![Flowing, Trying, Open], Watches::Opening),
            (vec![Flowing, failing()], Watches::Opening),
            (vec![Flowing, Open, AwaitingEra], Watches::Open),
            (vec![Flowing, AwaitingEra], Watches::Flowing),
            (vec![], Watches::Flowing),
        ] {
            assert_eq!(watches_of(reports.iter()), expected, "{reports:?}");
        }
    }

    #[test]
    fn the_reason_is_of_what_is_to_be_mended_first() {
        let failing = |condition, why: &str| Report::Failing(condition, why.into());
        let reports = [
            failing(Condition::Degraded, "first"),
            failing(Condition::PermissionDenied, "second"),
            failing(Condition::PermissionDenied, "third"),
        ];
        let reason = summarise(reports.iter()).map(|(_, reason)| reason);
        assert_eq!(reason.as_deref(), Some("second"));
    }
}
