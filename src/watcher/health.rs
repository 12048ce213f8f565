//! How the streams of one cluster fare, as one [`Health`]: [`Board`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::watch, time::Instant};

use super::api_error::ApiError;
use crate::{
    clock::unix_now,
    domain::{
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
    voice: Arc<Mutex<Voice>>,
    streams: Arc<Mutex<BTreeMap<StreamId, Report>>>,
    /// Whether the last probe could not see which cluster answers.
    is_stranger: Arc<AtomicBool>,
    health: Arc<watch::Sender<Health>>,
}

/// What is logged of a cluster, and how often.
#[derive(Debug)]
struct Voice {
    started: Instant,
    pace: Pace,
    /// Whether the last line was about a failure.
    is_alarmed: bool,
    /// Whether it was ever said that the cluster is being watched.
    is_introduced: bool,
}

impl Voice {
    fn say(&mut self, cluster: &str, condition: Condition, reason: &str) {
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

/// What is at stake where the namespace kube-system may not be read.
const STRANGER: &str = "the UID of the namespace kube-system may not be read, so another cluster \
                        behind the same address would not be noticed; grant get on this namespace";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Report {
    /// Nothing is known yet.
    Trying,
    Watching,
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
    pub(super) fn new(cluster: Arc<str>, source: Source) -> (Self, watch::Receiver<Health>) {
        let (health, receiver) = watch::channel(Health::unknown(unix_now()));
        let board = Self {
            cluster,
            source: Arc::new(source),
            voice: Arc::new(Mutex::new(Voice {
                started: Instant::now(),
                pace: Pace::default(),
                is_alarmed: false,
                is_introduced: false,
            })),
            streams: Arc::default(),
            is_stranger: Arc::default(),
            health: Arc::new(health),
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

    fn set(&self, stream: StreamId, report: Report) {
        let summary = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.insert(stream, report);
            summarise(streams.values())
        };
        let Some((condition, mut reason)) = summary else {
            return;
        };
        if condition == Condition::Connected && self.is_stranger.load(Ordering::Relaxed) {
            reason = STRANGER.to_owned();
        }
        self.voice
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .say(&self.cluster, condition, &reason);
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
    /// The stream is being watched.
    pub(super) fn watching(&self) {
        self.board.set(self.stream, Report::Watching);
    }

    /// A probe saw which cluster answers, or could not. What that means is said with the next
    /// report.
    pub(super) fn probed(&self, cluster_uid: &str) {
        let is_stranger = cluster_uid.is_empty();
        let was = self.board.is_stranger.swap(is_stranger, Ordering::Relaxed);
        if is_stranger && !was {
            let cluster = &self.board.cluster;
            tracing::warn!(%cluster, reason = STRANGER, "cluster is not identified");
        }
    }

    /// The stream cannot be watched.
    pub(super) fn failing(&self, error: &ApiError) {
        let what = describe(&self.selector);
        tracing::debug!(stream = %self.stream, resource = %what, %error, "request failed");
        let hint = error.hint(&self.selector, &self.board.source);
        let separator = if hint.is_empty() { "" } else { "; " };
        let reason = format!("{what}: {error}{separator}{hint}");
        let report = Report::Failing(error.condition(), reason);
        self.board.set(self.stream, report);
    }
}

/// What a stream watches, for people.
pub(super) fn describe(selector: &StreamSelector) -> String {
    if selector.namespace.is_empty() {
        selector.resource.to_string()
    } else {
        format!("{} in {}", selector.resource, selector.namespace)
    }
}

/// The cluster's condition and the reason; `None` while nothing is known.
fn summarise<'a>(reports: impl Iterator<Item = &'a Report> + Clone) -> Option<(Condition, String)> {
    let watching = reports.clone().any(|report| *report == Report::Watching);
    let trying = reports.clone().any(|report| *report == Report::Trying);
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
    use super::{Condition, Report, summarise};

    #[test]
    fn the_condition_follows_the_worst_stream_and_tells_part_from_all() {
        use Condition::{Connected, Degraded, PermissionDenied, Unauthenticated, Unreachable};
        let failing = |condition| Report::Failing(condition, "why".into());
        let unauthenticated = failing(Unauthenticated);
        let (denied, unreachable) = (failing(PermissionDenied), failing(Unreachable));
        let degraded = failing(Degraded);
        let (watching, trying) = (Report::Watching, Report::Trying);
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
