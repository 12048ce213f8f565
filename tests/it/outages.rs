//! API servers that go away and come back: what is reported, and how soon streams flow again.

use std::{
    env,
    time::{Duration, Instant},
};

use quorumwatch::{client::Begin, proto::v1::ClusterCondition, sim::Fault};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::harness::{CONFIGMAPS, EVENTS, PATIENCE, Record, Recorder, Stage, holds};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_opens_the_circuit_breaker_which_health_and_log_tell() {
    let stage = Stage::open("outage").await;
    let recorder = stage.subscribe(0, Begin::Now).await;
    stage.faults().set(Fault::Unreachable);
    told(&stage, ClusterCondition::Unreachable, |reason| {
        reason.contains("cannot be reached") && reason.contains("the circuit breaker is open")
    })
    .await;
    // Nothing but probes is sent any more, whatever was on its way when it opened.
    let before = stage.cluster.request_count();
    stage.is_asked(6).await;
    // Apart from other replicas, which are tried for a moment.
    holds("only probes are sent", PATIENCE, async || {
        let asked = stage.cluster.requests();
        let mut recent = asked.iter().rev().take(3);
        recent.all(|request| request.target.ends_with("/readyz"))
    })
    .await;
    assert!(stage.cluster.request_count() - before < 40);
    stage.faults().clear_all();
    stage.write("back");
    stage.sees(&recorder, "back").await;
    told(&stage, ClusterCondition::Connected, str::is_empty).await;
    let log = stage.group.replicas[stage.owner().await].log();
    for change in ["opened", "half-open", "closed"] {
        let line = format!("circuit breaker {change}");
        let is_told = |text: &str| text.contains(&line) && text.contains("outage");
        assert!(log.lines().any(is_told), "{line} is not in the log");
    }
    drop(recorder);
    stage.close().await;
}

/// Waits until the cluster has this condition.
async fn told(stage: &Stage, condition: ClusterCondition, says: impl Fn(&str) -> bool) {
    let client = stage.group.client();
    let what = format!("{condition:?} is reported");
    holds(&what, PATIENCE, async || {
        let cluster = client.cluster("outage").await.unwrap();
        let health = cluster.health.unwrap();
        health.condition() == condition && says(&health.reason)
    })
    .await;
}

/// How often the API server goes away in the measurement, where the environment says nothing.
const OUTAGES: usize = 30;

/// How soon streams flow after outages of 0.5 to 6 s, each in other trouble.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: OUTAGES=30 cargo test --test it -- --ignored --nocapture how_soon"]
async fn how_soon_streams_flow_after_an_outage() {
    let count = env::var("OUTAGES").map_or(OUTAGES, |text| text.parse().unwrap());
    let stage = Stage::open("measured").await;
    let recorder = stage.subscribe(0, Begin::Now).await;
    let mut rng = SmallRng::seed_from_u64(1);
    let mut took = [const { Vec::new() }; 2];
    let (begun, before) = (Instant::now(), stage.cluster.request_count());
    for number in 0..count {
        trouble(&stage, &mut rng).await;
        stage.faults().set(Fault::Unreachable);
        let outage = Duration::from_millis(rng.random_range(500..6_000));
        tokio::time::sleep(outage).await; // poll: the outage itself
        stage.faults().clear_all();
        let name = format!("after-{number}");
        stage.write(&name);
        let (events, configmaps) = tokio::join!(
            comes(&recorder, EVENTS, &name),
            comes(&recorder, CONFIGMAPS, &name)
        );
        eprintln!("{number}: {outage:.1?} away, {events:.2?} and {configmaps:.2?} to flow");
        took[0].push(events);
        took[1].push(configmaps);
    }
    let asked = stage.cluster.request_count() - before;
    let rate = asked as f64 / begun.elapsed().as_secs_f64();
    for (resource, took) in [EVENTS, CONFIGMAPS].iter().zip(&mut took) {
        took.sort();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        let (p50, p99, max) = (at(50), at(99), took[took.len() - 1]);
        eprintln!("{resource}: n {count}, p50 {p50:.2?}, p99 {p99:.2?}, max {max:.2?}");
    }
    eprintln!("{asked} requests, {rate:.1} a second");
    drop(recorder);
    stage.close().await;
}

/// What is wrong with the API server before it goes away.
async fn trouble(stage: &Stage, rng: &mut SmallRng) {
    let fault = match rng.random_range(0..5) {
        0 => None,
        1 => Some(Fault::Refuse),
        2 => Some(Fault::TooManyRequests),
        3 => Some(Fault::Unauthorised),
        _ => Some(Fault::CloseWatches),
    };
    for _ in 0..rng.random_range(0..10) {
        if let Some(fault) = fault {
            stage.faults().set(fault);
        }
        stage.faults().set(Fault::CloseWatches);
        let pause = Duration::from_millis(rng.random_range(10..400));
        tokio::time::sleep(pause).await; // poll: the pace of the trouble
    }
    stage.faults().clear_all();
    let calm = Duration::from_millis(rng.random_range(0..3_000));
    tokio::time::sleep(calm).await; // poll: the time between two troubles
}

async fn comes(recorder: &Recorder, resource: &str, name: &str) -> Duration {
    let what = format!("{name} comes in {resource}");
    let has = |record: &Record| {
        let named = |words: &&str| words.split(' ').nth(1) == Some(name);
        record.kept().of(resource).iter().any(named)
    };
    recorder.sees(&what, PATIENCE * 6, has).await
}
