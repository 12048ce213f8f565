//! Examples, and a cluster that comes and goes with many who wait for it.

use proptest::prelude::*;

use super::{Breaker, Input, Limits, Output, Probe, State};

fn breaker() -> Breaker {
    Breaker::new(Limits::default())
}

fn ask(breaker: &mut Breaker, now_ms: u64) -> Output {
    breaker.step(now_ms, Input::Ask { was_held: false })
}

fn down(draw: u64) -> Input {
    Input::ProbeFailed {
        retry_after_ms: None,
        draw,
    }
}

/// A breaker that opened at 0.
fn open() -> Breaker {
    let mut breaker = breaker();
    breaker.step(0, Input::Failed);
    assert!(matches!(ask(&mut breaker, 0), Output::Probe(_)));
    breaker.step(0, down(0));
    assert_eq!(breaker.state(), State::Open);
    breaker
}

/// Asks until it is time to probe; returns when.
fn next_probe(breaker: &mut Breaker, mut now_ms: u64) -> u64 {
    loop {
        match ask(breaker, now_ms) {
            Output::Probe(_) => return now_ms,
            Output::Wait {
                until_ms: Some(until_ms),
            } => now_ms = until_ms,
            other => panic!("{other:?} while it is open"),
        }
    }
}

#[test]
fn a_failure_holds_nothing_back_where_the_probe_is_answered() {
    let mut breaker = breaker();
    assert_eq!(ask(&mut breaker, 5), Output::GoOn { at_ms: 5 });
    breaker.step(5, Input::Failed);
    assert_eq!(breaker.state(), State::Closed);
    let first = Probe {
        answer_ms: 2_000,
        accepts_list: false,
    };
    assert_eq!(ask(&mut breaker, 6), Output::Probe(first));
    assert_eq!(ask(&mut breaker, 6), Output::Wait { until_ms: None });
    breaker.step(7, Input::ProbeAnswered);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(ask(&mut breaker, 7), Output::GoOn { at_ms: 7 });
}

#[test]
fn a_server_that_has_fallen_silent_is_given_less_time_to_answer() {
    let mut breaker = breaker();
    breaker.step(5, Input::Silent);
    let short = Probe {
        answer_ms: 1_100,
        accepts_list: false,
    };
    assert_eq!(ask(&mut breaker, 5), Output::Probe(short));
    // It has sent something after all.
    breaker.step(6, Input::ProbeAbandoned);
    breaker.step(6, Input::Answered);
    assert_eq!(ask(&mut breaker, 6), Output::GoOn { at_ms: 6 });
    // Once it is certain that it is away, no time is to be gained.
    breaker.step(7, Input::Silent);
    assert!(matches!(ask(&mut breaker, 7), Output::Probe(_)));
    breaker.step(1_107, down(0));
    let Output::Wait {
        until_ms: Some(at_ms),
    } = ask(&mut breaker, 1_107)
    else {
        panic!("it is not open");
    };
    let longer = Probe {
        answer_ms: 2_000,
        ..short
    };
    assert_eq!(ask(&mut breaker, at_ms), Output::Probe(longer));
}

#[test]
fn a_server_that_acknowledged_nothing_is_given_even_less() {
    let mut breaker = breaker();
    breaker.step(5, Input::Unacknowledged);
    // Its watch has ended with that.
    breaker.step(5, Input::Failed);
    let shortest = Probe {
        answer_ms: 400,
        accepts_list: false,
    };
    assert_eq!(ask(&mut breaker, 5), Output::Probe(shortest));
    breaker.step(405, down(0));
    let at_ms = next_probe(&mut breaker, 405);
    // Had it only been slow, it would be found soon.
    assert!(at_ms <= 505, "{at_ms}");
}

#[test]
fn an_answer_to_another_request_clears_the_cluster_even_of_a_probe_that_fails() {
    let mut breaker = breaker();
    breaker.step(0, Input::Failed);
    assert!(matches!(ask(&mut breaker, 0), Output::Probe(_)));
    breaker.step(1, Input::Answered);
    breaker.step(2, down(0));
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(ask(&mut breaker, 2), Output::GoOn { at_ms: 2 });
}

#[test]
fn the_first_answer_after_the_probes_closes_it() {
    let mut breaker = open();
    assert_eq!(breaker.outage_since_ms(), Some(0));
    let at = next_probe(&mut breaker, 0);
    // One that was sent before the outage does not count now.
    breaker.step(at, Input::Answered);
    assert_eq!(breaker.state(), State::Open);
    breaker.step(at, Input::ProbeAnswered);
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(ask(&mut breaker, at), Output::GoOn { at_ms: at });
    breaker.step(at, Input::Answered);
    assert_eq!(
        (breaker.state(), breaker.outage_since_ms()),
        (State::Closed, None)
    );
}

#[test]
fn an_outage_that_goes_on_after_an_answered_probe_is_the_same_outage() {
    let mut breaker = open();
    breaker.step(40_000, Input::ProbeAnswered);
    breaker.step(40_001, Input::Failed);
    assert!(matches!(ask(&mut breaker, 40_001), Output::Probe(_)));
    breaker.step(40_002, down(0));
    assert_eq!(breaker.outage_since_ms(), Some(0));
    assert!(next_probe(&mut breaker, 40_002) >= 42_500);
}

#[test]
fn pauses_follow_the_outage_within_bounds() {
    for (outage_ms, longest_ms) in [
        (0, 100),
        (1_000, 125),
        (8_000, 1_000),
        (60_000, 7_500),
        (3_600_000, 30_000),
    ] {
        for draw in [0, 7, longest_ms / 2, u64::MAX] {
            let mut breaker = open();
            let now_ms = next_probe(&mut breaker, outage_ms);
            breaker.step(now_ms, down(draw));
            let pause_ms = next_probe(&mut breaker, now_ms) - now_ms;
            let longest_ms = longest_ms.max(now_ms / 8).min(30_000);
            let allowed = longest_ms / 2..=longest_ms;
            assert!(
                allowed.contains(&pause_ms),
                "{pause_ms} ms after {outage_ms} ms"
            );
        }
    }
}

#[test]
fn what_the_server_asks_for_is_added_within_reason() {
    for (asked_ms, shortest_ms, longest_ms) in [(2_000, 2_000, 2_100), (u64::MAX, 60_000, 60_100)] {
        let mut breaker = breaker();
        breaker.step(0, Input::Failed);
        assert!(matches!(ask(&mut breaker, 0), Output::Probe(_)));
        let failed = Input::ProbeFailed {
            retry_after_ms: Some(asked_ms),
            draw: u64::MAX,
        };
        breaker.step(0, failed);
        let at = next_probe(&mut breaker, 0);
        assert!((shortest_ms..=longest_ms).contains(&at), "{at}");
    }
}

#[test]
fn a_probe_waits_longer_and_accepts_a_list_where_the_outage_is_long() {
    let mut breaker = open();
    let Output::Probe(probe) = ask(&mut breaker, 3_600_000) else {
        panic!("a probe is due");
    };
    assert_eq!((probe.answer_ms, probe.accepts_list), (10_000, true));
}

#[test]
fn somebody_else_probes_at_once_where_the_prober_is_gone() {
    let mut breaker = open();
    let at = next_probe(&mut breaker, 0);
    assert_eq!(ask(&mut breaker, at), Output::Wait { until_ms: None });
    breaker.step(at, Input::ProbeAbandoned);
    assert!(matches!(ask(&mut breaker, at), Output::Probe(_)));
}

#[test]
fn those_who_were_held_back_go_on_in_turn() {
    let mut breaker = open();
    breaker.step(9, Input::ProbeAnswered);
    let turns: Vec<_> = (0..30)
        .map(|_| breaker.step(10, Input::Ask { was_held: true }))
        .collect();
    let limits = Limits::default();
    let at_once = turns
        .iter()
        .filter(|turn| **turn == Output::GoOn { at_ms: 10 });
    assert_eq!(at_once.count(), limits.resume_burst as usize);
    let last = 10 + 10 * u64::from(limits.resume_interval_ms);
    assert_eq!(turns.last(), Some(&Output::GoOn { at_ms: last }));
}

/// A client that sends a request, waits while it fails, and stops after one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stream {
    Sending,
    Asking { at_ms: u64, was_held: bool },
    Probing { until_ms: u64 },
    Content,
}

/// A cluster that is down in some spans of time, and those who watch it.
struct Outages {
    breaker: Breaker,
    spans: Vec<(u64, u64)>,
    streams: Vec<Stream>,
    draws: Vec<u64>,
    /// When probes were sent.
    probes: Vec<u64>,
    requests: Vec<u64>,
}

impl Outages {
    fn is_down(&self, now_ms: u64) -> bool {
        let mut spans = self.spans.iter();
        spans.any(|(from, to)| (*from..*to).contains(&now_ms))
    }

    /// A millisecond passes.
    fn tick(&mut self, now_ms: u64) {
        for index in 0..self.streams.len() {
            self.streams[index] = self.act(now_ms, self.streams[index]);
        }
        let probing = self.streams.iter();
        let probing = probing.filter(|stream| matches!(stream, Stream::Probing { .. }));
        assert!(probing.count() <= 1, "two probes at {now_ms}");
    }

    fn act(&mut self, now_ms: u64, stream: Stream) -> Stream {
        match stream {
            // An outage ends whatever was answered before it.
            Stream::Content if self.is_down(now_ms) => Stream::Sending,
            Stream::Content => Stream::Content,
            Stream::Sending if self.breaker.state() == State::Open => Stream::Asking {
                at_ms: now_ms,
                was_held: true,
            },
            Stream::Sending => {
                self.requests.push(now_ms);
                if self.is_down(now_ms) {
                    self.breaker.step(now_ms, Input::Failed);
                    return Stream::Asking {
                        at_ms: now_ms,
                        was_held: false,
                    };
                }
                self.breaker.step(now_ms, Input::Answered);
                Stream::Content
            }
            Stream::Asking { at_ms, was_held } => self.ask(now_ms, at_ms, was_held),
            Stream::Probing { until_ms } if now_ms < until_ms => stream,
            Stream::Probing { .. } => {
                let draw = self.draws[self.probes.len() % self.draws.len()];
                let outcome = if self.is_down(now_ms) {
                    down(draw)
                } else {
                    Input::ProbeAnswered
                };
                self.breaker.step(now_ms, outcome);
                Stream::Asking {
                    at_ms: now_ms,
                    was_held: true,
                }
            }
        }
    }

    fn ask(&mut self, now_ms: u64, at_ms: u64, was_held: bool) -> Stream {
        // Woken by nothing but the time, which is the hardest case.
        if now_ms < at_ms {
            return Stream::Asking { at_ms, was_held };
        }
        match self.breaker.step(now_ms, Input::Ask { was_held }) {
            Output::GoOn { at_ms } if at_ms <= now_ms => Stream::Sending,
            Output::GoOn { at_ms } => Stream::Asking {
                at_ms,
                was_held: false,
            },
            Output::Probe(_) => {
                self.probes.push(now_ms);
                Stream::Probing {
                    until_ms: now_ms + 3,
                }
            }
            Output::Wait { until_ms } => Stream::Asking {
                at_ms: until_ms.unwrap_or(now_ms + 1),
                was_held: true,
            },
            Output::None => panic!("a question is answered"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_comes_and_goes_is_found_again_in_time_and_asked_within_limits(
        outages in prop::collection::vec((1_u64..4_000, 1_u64..8_000), 1..8),
        streams in 1_usize..40,
        draws in prop::collection::vec(any::<u64>(), 1..8),
    ) {
        let mut at = 0;
        let spans: Vec<_> = outages
            .iter()
            .map(|(up, down)| {
                let from = at + up;
                at = from + down;
                (from, at)
            })
            .collect();
        let (last_from, end) = *spans.last().unwrap();
        let mut world = Outages {
            breaker: breaker(),
            spans: spans.clone(),
            streams: vec![Stream::Sending; streams],
            draws,
            probes: Vec::new(),
            requests: Vec::new(),
        };
        // The pause of the last outage, a turn of the probes' rate, and a turn for each stream.
        let outage_ms = if spans.len() == 1 { end - last_from } else { end };
        let limits = Limits::default();
        let found_ms = (outage_ms / 8).max(u64::from(limits.probe_interval_ms)) + 50;
        let turns_ms = streams as u64 * u64::from(limits.resume_interval_ms);
        for now_ms in 0..=end + found_ms + turns_ms {
            world.tick(now_ms);
        }
        prop_assert!(world.streams.iter().all(|stream| *stream == Stream::Content));
        prop_assert_eq!(world.breaker.state(), State::Closed);
        let span_ms = end + found_ms + turns_ms;
        let most = u64::from(limits.probe_burst) + span_ms / u64::from(limits.probe_interval_ms);
        prop_assert!(world.probes.len() as u64 <= most + spans.len() as u64);
        // In each outage a stream fails once before the breaker opens, and once answers it again.
        prop_assert!(world.requests.len() <= 2 * streams * (spans.len() + 1));
    }
}
