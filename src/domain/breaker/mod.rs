//! The circuit breaker of one cluster as a state machine: [`Breaker::step`].
//!
//! Closed: requests go out. A request that fails in a way that may be the cluster's fault makes it
//! suspect: one probe decides, before anything is held back. Where the probe is answered, the
//! trouble is the request's own; where it is not, the breaker opens.
//! Open: no request goes out but one probe at a time, after pauses that grow with the outage.
//! Half-open: the probe was answered; requests go out, in turn. The first answer to one of them
//! closes the breaker.
//!
//! It holds back new requests only: open watches are not affected. Probes are sent by waiting
//! requests, so there are none without demand.

use super::rate_limit::RateLimit;

/// The limits of a breaker. All times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest pause between two probes is this part of the outage's length: what was down for
    /// 8 s is found again within 1 s.
    pub outage_part: u64,
    /// But no shorter than this,
    pub pause_min_ms: u64,
    /// and no longer than this: what was down for an hour is found again within 30 s.
    pub pause_max_ms: u64,
    /// Probes at once, saved up between outages: enough for an outage of some seconds.
    pub probe_burst: u32,
    /// Beyond it one probe in so long, however often the cluster comes and goes.
    pub probe_interval_ms: u32,
    /// Requests that resume at once after an outage.
    pub resume_burst: u32,
    /// Beyond it one in so long.
    pub resume_interval_ms: u32,
    /// Longest wait that a server may ask for: longer than its own longest (32 s), and short enough
    /// that a mistaken answer does not silence a cluster.
    pub retry_after_max_ms: u64,
    /// How long a probe waits for its answer where the server has fallen silent before: that it
    /// does not answer is the second sign. A lost SYN is sent again after 1 s.
    pub answer_silent_ms: u64,
    /// The same where nothing was acknowledged for two seconds: enough for a connection, TLS and an
    /// answer at a round trip of 130 ms. A server that is farther away answers the next probe, which
    /// waits longer and follows soon.
    pub answer_unacknowledged_ms: u64,
    /// How long any other probe waits at least.
    pub answer_min_ms: u64,
    /// And at most, once the outage is long.
    pub answer_max_ms: u64,
    /// An outage of such a length: a server that reports it is not ready is also asked for a list,
    /// because some serve everything while a check of theirs fails.
    pub unready_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            outage_part: 8,
            pause_min_ms: 100,
            pause_max_ms: 30_000,
            probe_burst: 24,
            probe_interval_ms: 1_000,
            resume_burst: 20,
            resume_interval_ms: 20,
            retry_after_max_ms: 60_000,
            answer_silent_ms: 1_100,
            answer_unacknowledged_ms: 400,
            answer_min_ms: 2_000,
            answer_max_ms: 10_000,
            unready_ms: 10_000,
        }
    }
}

/// The state of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests go out.
    Closed,
    /// They do not; one probe at a time does.
    Open,
    /// They do, in turn; none was answered yet.
    HalfOpen,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        })
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A request failed, and it may be the cluster's fault.
    Failed,
    /// Nothing comes any more from a server that kept sending.
    Silent,
    /// Nothing that it would have to acknowledge was acknowledged.
    Unacknowledged,
    /// A request was answered, or a watch has brought something.
    Answered,
    /// A request is about to be sent, and can wait.
    Ask {
        /// Whether it was held back by an outage.
        was_held: bool,
    },
    /// The probe was answered.
    ProbeAnswered,
    /// The probe was not answered, or not with what counts.
    ProbeFailed {
        /// How long the server asks us to wait.
        retry_after_ms: Option<u64>,
        /// Any number, drawn at random.
        draw: u64,
    },
    /// The task that was to probe is gone.
    ProbeAbandoned,
}

/// What the caller is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing: it was no question.
    None,
    /// Go on at this time; ask again then, if the state has changed.
    GoOn {
        /// The time.
        at_ms: u64,
    },
    /// Send the probe now, and report the result.
    Probe(Probe),
    /// Ask again at this time, where there is one, and whenever something has changed.
    Wait {
        /// The time.
        until_ms: Option<u64>,
    },
}

/// How to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How long to wait for an answer.
    pub answer_ms: u64,
    /// Whether a list counts if the server reports that it is not ready.
    pub accepts_list: bool,
}

/// The state, with what is known of the outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Circuit {
    Closed,
    Open { since_ms: u64, probe_at_ms: u64 },
    HalfOpen { since_ms: u64 },
}

/// A request has failed, and a probe decides whether the cluster is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspicion {
    since_ms: u64,
    probe_at_ms: u64,
    /// How long the probe waits for its answer at least.
    answer_min_ms: u64,
}

/// One cluster's breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    limits: Limits,
    circuit: Circuit,
    /// Never while open, where it is certain.
    suspicion: Option<Suspicion>,
    is_probing: bool,
    probes: RateLimit,
    resumes: RateLimit,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(limits: Limits) -> Self {
        Self {
            probes: RateLimit::new(limits.probe_burst, limits.probe_interval_ms),
            resumes: RateLimit::new(limits.resume_burst, limits.resume_interval_ms),
            limits,
            circuit: Circuit::Closed,
            suspicion: None,
            is_probing: false,
        }
    }

    /// The state of the breaker.
    pub fn state(&self) -> State {
        match self.circuit {
            Circuit::Closed => State::Closed,
            Circuit::Open { .. } => State::Open,
            Circuit::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Whether a request has failed, and it is not known yet whose fault that is.
    pub fn is_suspect(&self) -> bool {
        self.suspicion.is_some()
    }

    /// When the outage began that is not over yet: with the first request that failed.
    pub fn outage_since_ms(&self) -> Option<u64> {
        match self.circuit {
            Circuit::Closed => None,
            Circuit::Open { since_ms, .. } | Circuit::HalfOpen { since_ms } => Some(since_ms),
        }
    }

    /// Takes in what has happened; `now_ms` never goes back.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Output {
        match input {
            Input::Failed => self.suspect(now_ms, self.limits.answer_min_ms),
            Input::Silent => self.suspect(now_ms, self.limits.answer_silent_ms),
            Input::Unacknowledged => self.suspect(now_ms, self.limits.answer_unacknowledged_ms),
            Input::Answered => self.answered(),
            Input::Ask { was_held } => return self.ask(now_ms, was_held),
            Input::ProbeAnswered => self.probe_answered(),
            Input::ProbeFailed {
                retry_after_ms,
                draw,
            } => self.probe_failed(now_ms, retry_after_ms, draw),
            Input::ProbeAbandoned => self.probe_abandoned(now_ms),
        }
        Output::None
    }

    fn suspect(&mut self, now_ms: u64, answer_min_ms: u64) {
        if self.suspicion.is_none() && self.state() != State::Open {
            self.suspicion = Some(Suspicion {
                since_ms: now_ms,
                probe_at_ms: self.probes.take(now_ms),
                answer_min_ms,
            });
        }
    }

    /// Whatever failed before, the cluster answers now.
    fn answered(&mut self) {
        match self.circuit {
            // It was sent before the outage; only a probe ends one.
            Circuit::Open { .. } => return,
            Circuit::HalfOpen { .. } => self.circuit = Circuit::Closed,
            Circuit::Closed => {}
        }
        self.suspicion = None;
    }

    fn ask(&mut self, now_ms: u64, was_held: bool) -> Output {
        let (since_ms, probe_at_ms) = match (self.circuit, self.suspicion) {
            (
                Circuit::Open {
                    since_ms,
                    probe_at_ms,
                },
                _,
            ) => (since_ms, probe_at_ms),
            (_, Some(suspicion)) => (suspicion.since_ms, suspicion.probe_at_ms),
            (Circuit::Closed | Circuit::HalfOpen { .. }, None) => {
                let at_ms = if was_held {
                    self.resumes.take(now_ms)
                } else {
                    now_ms
                };
                return Output::GoOn { at_ms };
            }
        };
        if self.is_probing {
            return Output::Wait { until_ms: None };
        }
        if now_ms < probe_at_ms {
            let until_ms = Some(probe_at_ms);
            return Output::Wait { until_ms };
        }
        self.is_probing = true;
        let outage_ms = now_ms.saturating_sub(since_ms);
        let answer_min_ms = self
            .suspicion
            .map_or(self.limits.answer_min_ms, |suspicion| {
                suspicion.answer_min_ms
            });
        Output::Probe(Probe {
            answer_ms: self
                .part_of(outage_ms)
                .clamp(answer_min_ms, self.limits.answer_max_ms),
            accepts_list: outage_ms >= self.limits.unready_ms,
        })
    }

    fn probe_answered(&mut self) {
        self.is_probing = false;
        self.suspicion = None;
        if let Circuit::Open { since_ms, .. } = self.circuit {
            self.circuit = Circuit::HalfOpen { since_ms };
        }
    }

    fn probe_failed(&mut self, now_ms: u64, retry_after_ms: Option<u64>, draw: u64) {
        self.is_probing = false;
        let since_ms = match (self.circuit, self.suspicion.take()) {
            (Circuit::Open { since_ms, .. } | Circuit::HalfOpen { since_ms }, _) => since_ms,
            (Circuit::Closed, Some(suspicion)) => suspicion.since_ms,
            // A request was answered while the probe was under way.
            (Circuit::Closed, None) => return,
        };
        let longest_ms = self
            .part_of(now_ms.saturating_sub(since_ms))
            .clamp(self.limits.pause_min_ms, self.limits.pause_max_ms);
        // At least half of it, so that the cap and not chance decides about the rate.
        let pause_ms = longest_ms / 2 + draw % (longest_ms / 2 + 1);
        let asked_ms = retry_after_ms.unwrap_or(0);
        // Added, not the greater of both: everyone else was asked to wait for the same time.
        let pause_ms = pause_ms + asked_ms.min(self.limits.retry_after_max_ms);
        self.circuit = Circuit::Open {
            since_ms,
            probe_at_ms: self.probes.take(now_ms).max(now_ms + pause_ms),
        };
    }

    /// The next one who asks probes at once.
    fn probe_abandoned(&mut self, now_ms: u64) {
        self.is_probing = false;
        if let Circuit::Open { probe_at_ms, .. } = &mut self.circuit {
            *probe_at_ms = now_ms;
        }
    }

    fn part_of(&self, outage_ms: u64) -> u64 {
        outage_ms / self.limits.outage_part.max(1)
    }
}

#[cfg(test)]
mod tests;
