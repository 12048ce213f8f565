//! The circuit breakers of the clusters that a replica watches, and its budget of retries:
//! [`Breakers`]. What is held back and when is probed decides [`crate::domain::breaker`].

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Chance, api_error::ApiError, by_cluster::ByCluster};
use crate::{
    clock::unix_now,
    domain::{
        breaker::{self, Input, Limits, Output, Probe, State},
        cluster::Cluster,
        id::UnixMillis,
        rate_limit::RateLimit,
    },
};

/// Retries of a replica at once, over all clusters: more than the streams of most replicas.
const RETRY_BURST: u32 = 200;
/// Beyond it one in so long. A retry is up to four requests, and a TLS handshake where the
/// connection is gone: this many keep a core half busy.
const RETRY_INTERVAL_MS: u32 = 5;

/// What a probe is sent to.
pub(super) trait Probed {
    /// Asks whether the server is ready. `accepts_list`: a list that it serves counts as well.
    fn is_ready(&self, accepts_list: bool) -> impl Future<Output = Result<(), ApiError>> + Send;
    /// Why there was no answer for so long.
    fn no_answer(&self, after: Duration) -> ApiError;
}

/// The breakers of a replica. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Breakers(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    limits: Limits,
    retries: Retries,
    clusters: ByCluster<Shared>,
}

impl Default for Breakers {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Breakers {
    /// No breaker yet; each is to have these limits.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Registry {
            limits,
            retries: Retries::default(),
            clusters: ByCluster::default(),
        }))
    }

    /// The breaker of a cluster; the same one for all who use it at the same time.
    pub fn of(&self, cluster: &Cluster, chance: &Chance) -> Breaker {
        let shared = self.0.clusters.of(cluster, || Shared {
            cluster: cluster.spec.name.as_str().into(),
            started: Instant::now(),
            chance: chance.clone(),
            retries: self.0.retries.clone(),
            inner: Mutex::new(Inner {
                machine: breaker::Breaker::new(self.0.limits.clone()),
                cause: None,
            }),
            status: watch::Sender::new(BreakerStatus {
                state: State::Closed,
                since: unix_now(),
                reason: String::new(),
            }),
            changes: watch::Sender::new(()),
        });
        Breaker(shared)
    }
}

/// What a replica may spend on retries, over all clusters.
#[derive(Clone, Debug)]
struct Retries {
    started: Instant,
    limit: Arc<Mutex<RateLimit>>,
}

impl Default for Retries {
    fn default() -> Self {
        let limit = RateLimit::new(RETRY_BURST, RETRY_INTERVAL_MS);
        Self {
            started: Instant::now(),
            limit: Arc::new(Mutex::new(limit)),
        }
    }
}

impl Retries {
    /// Waits for a turn.
    async fn turn(&self) {
        let due_ms = lock(&self.limit).take(millis_since(self.started));
        sleep_until(self.started + Duration::from_millis(due_ms)).await;
    }
}

/// One cluster's circuit breaker. Cheap to clone.
#[derive(Clone)]
pub struct Breaker(Arc<Shared>);

struct Shared {
    cluster: Arc<str>,
    started: Instant,
    chance: Chance,
    retries: Retries,
    inner: Mutex<Inner>,
    status: watch::Sender<BreakerStatus>,
    /// Wakes those who wait.
    changes: watch::Sender<()>,
}

struct Inner {
    machine: breaker::Breaker,
    /// Why the last probe failed.
    cause: Option<ApiError>,
}

/// What a breaker shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerStatus {
    /// Whether requests go out.
    pub state: State,
    /// When the current state began, by the wall clock.
    pub since: UnixMillis,
    /// Why not, in one sentence; empty while they do. Never a credential.
    pub reason: String,
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("cluster", &self.0.cluster)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// How a wait for a cluster ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The cluster answers: what failed before is the request's own trouble.
    Answers,
    /// The cluster was not reached, and is back.
    Back,
}

impl Breaker {
    /// Whether requests go out.
    pub fn state(&self) -> State {
        self.lock().machine.state()
    }

    /// What it shows, and each change of it.
    pub fn watch(&self) -> watch::Receiver<BreakerStatus> {
        self.0.status.subscribe()
    }

    /// Whether a request may be sent.
    pub(super) fn admit(&self) -> Result<(), ApiError> {
        let inner = self.lock();
        match (inner.machine.state(), &inner.cause) {
            (State::Open, Some(cause)) => Err(ApiError::HeldBack(Box::new(cause.clone()))),
            _ => Ok(()),
        }
    }

    /// Takes in what came of a request.
    pub(super) fn learn<T>(&self, answer: &Result<T, ApiError>) {
        match answer {
            Err(error) if error.may_be_the_clusters() => self.failed(),
            Err(ApiError::HeldBack(_)) => {}
            _ => {
                self.step(Input::Answered);
            }
        }
    }

    /// A request or a watch connection failed off, perhaps because the cluster is gone.
    pub(super) fn failed(&self) {
        self.step(Input::Failed);
    }

    /// A watch has ended because nothing was acknowledged.
    pub(super) fn unacknowledged(&self) {
        self.step(Input::Unacknowledged);
    }

    /// A watch that was silent continues.
    pub(super) fn heard(&self) {
        self.step(Input::Answered);
    }

    /// Asks whether a server that has fallen silent is there; whether it does not answer.
    pub(super) async fn is_silent(&self, server: &impl Probed) -> bool {
        self.step(Input::Silent);
        loop {
            let mut changes = self.0.changes.subscribe();
            if self.state() == State::Open {
                let inner = self.lock();
                return inner.cause.as_ref().is_some_and(ApiError::is_no_answer);
            }
            match self.step(Input::Ask { was_held: false }) {
                Output::GoOn { .. } | Output::None => return false,
                Output::Probe(probe) => {
                    self.probe(server, probe).await;
                }
                Output::Wait { until_ms } => self.sleep_until(until_ms, &mut changes).await,
            }
        }
    }

    /// Waits until the cluster answers, where it may not; `held_back` is called with the reason
    /// while nothing is sent. A waiting task probes when it is due.
    pub(super) async fn settle(
        &self,
        server: &impl Probed,
        held_back: impl Fn(&ApiError),
    ) -> Settled {
        let mut was_held = false;
        let mut turn_ms = None;
        loop {
            let mut changes = self.0.changes.subscribe();
            let asked = Input::Ask {
                was_held: was_held && turn_ms.is_none(),
            };
            match self.step(asked) {
                Output::GoOn { .. } if !was_held => return Settled::Answers,
                Output::GoOn { .. } if turn_ms.is_some() => return Settled::Back,
                Output::GoOn { at_ms } => {
                    sleep_until(self.0.started + Duration::from_millis(at_ms)).await;
                    self.0.retries.turn().await;
                    turn_ms = Some(at_ms);
                }
                Output::Probe(probe) => {
                    was_held |= self.probe(server, probe).await;
                    turn_ms = None;
                    self.admit().unwrap_or_else(|error| held_back(&error));
                }
                Output::Wait { until_ms } => {
                    if let Err(error) = self.admit() {
                        was_held = true;
                        held_back(&error);
                    }
                    turn_ms = None;
                    self.sleep_until(until_ms, &mut changes).await;
                }
                // The answer to what is no question.
                Output::None => return Settled::Answers,
            }
        }
    }

    /// Waits for so long, less where an outage ends meanwhile, and for a turn.
    pub(super) async fn pause(&self, longest: Duration) {
        if self.state() == State::Open {
            let mut status = self.watch();
            let ended = status.wait_for(|status| status.state != State::Open);
            // Which of the two came first does not matter.
            let _ = timeout(longest, ended).await;
        } else {
            sleep(longest).await;
        }
        self.0.retries.turn().await;
    }

    async fn sleep_until(&self, until_ms: Option<u64>, changes: &mut watch::Receiver<()>) {
        let due = async {
            match until_ms {
                Some(ms) => sleep_until(self.0.started + Duration::from_millis(ms)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            _ = changes.changed() => {}
        }
    }

    /// Sends the probe; returns whether the breaker is or was open.
    async fn probe(&self, server: &impl Probed, probe: Probe) -> bool {
        let prober = Prober {
            breaker: self,
            is_done: false,
        };
        let was_open = self.state() == State::Open;
        if was_open {
            self.0.retries.turn().await;
        }
        let limit = Duration::from_millis(probe.answer_ms);
        let answer = timeout(limit, server.is_ready(probe.accepts_list)).await;
        prober.done(answer.unwrap_or_else(|_| Err(server.no_answer(limit))));
        was_open || self.state() == State::Open
    }

    fn step(&self, input: Input) -> Output {
        self.step_with(input, None)
    }

    fn step_with(&self, input: Input, cause: Option<ApiError>) -> Output {
        let now_ms = millis_since(self.0.started);
        let mut inner = self.lock();
        if cause.is_some() {
            inner.cause = cause;
        }
        let before = (inner.machine.state(), inner.machine.is_suspect());
        let outage_since_ms = inner.machine.outage_since_ms();
        let output = inner.machine.step(now_ms, input);
        let after = (inner.machine.state(), inner.machine.is_suspect());
        if before.0 != after.0 {
            let since_ms = outage_since_ms.or_else(|| inner.machine.outage_since_ms());
            let outage_ms = now_ms.saturating_sub(since_ms.unwrap_or(now_ms));
            self.log(
                after.0,
                inner.cause.as_ref(),
                Duration::from_millis(outage_ms),
            );
        } else if let (State::Open, Some(cause)) = (after.0, &inner.cause) {
            self.renew_reason(cause.to_string());
        }
        let is_about_probe = matches!(
            input,
            Input::ProbeAnswered | Input::ProbeFailed { .. } | Input::ProbeAbandoned
        );
        if before != after || is_about_probe {
            self.0.changes.send_replace(());
        }
        output
    }

    /// Logs a change of the state. Under the lock, so that changes are logged in order.
    fn log(&self, state: State, cause: Option<&ApiError>, outage: Duration) {
        let cluster = &self.0.cluster;
        let reason = match state {
            State::Closed => String::new(),
            State::Open | State::HalfOpen => cause.map(ToString::to_string).unwrap_or_default(),
        };
        match state {
            State::Open => {
                tracing::info!(%cluster, reason, ?outage, "circuit breaker opened");
            }
            State::HalfOpen => tracing::info!(%cluster, ?outage, "circuit breaker half-open"),
            State::Closed => tracing::info!(%cluster, ?outage, "circuit breaker closed"),
        }
        self.0.status.send_replace(BreakerStatus {
            state,
            since: unix_now(),
            reason,
        });
    }

    /// The same outage may show another face.
    fn renew_reason(&self, reason: String) {
        self.0.status.send_if_modified(|status| {
            let is_other = status.reason != reason;
            status.reason = reason;
            is_other
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0.inner)
    }
}

/// The right to probe, until it is used or dropped.
struct Prober<'a> {
    breaker: &'a Breaker,
    is_done: bool,
}

impl Prober<'_> {
    fn done(mut self, answer: Result<(), ApiError>) {
        self.is_done = true;
        match answer {
            Ok(()) => {
                self.breaker.step(Input::ProbeAnswered);
            }
            Err(error) => {
                let failed = Input::ProbeFailed {
                    retry_after_ms: error.retry_after_ms(),
                    draw: self.breaker.0.chance.within(0..=u64::MAX),
                };
                self.breaker.step_with(failed, Some(error));
            }
        }
    }
}

impl Drop for Prober<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.breaker.step(Input::ProbeAbandoned);
        }
    }
}

fn millis_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept in them is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
