//! How much an API server is asked while it is in trouble.

use std::time::{Duration, Instant};

use quorumwatch::sim::Fault;

use super::{Expected, NONE, Pair, spring};
use crate::harness::Stage;

/// Restarts of an API server, and how often one comes.
const RESTARTS: u32 = 100;
const RESTART_EVERY: Duration = Duration::from_millis(50);

/// What a watch is opened with: the identity of the cluster, a list, and itself.
const REQUESTS_OF_A_WATCH: u64 = 3;
/// So often each stream is opened in the storm, at most: the pauses between grow.
const OPENED_MAX: u64 = 11;
const STREAMS: u64 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_restarts_lose_and_repeat_nothing_and_are_no_storm_of_requests() {
    let storm = async |stage: &Stage, live: &Pair| {
        let (begun, before) = (Instant::now(), stage.cluster.request_count());
        for n in 0..RESTARTS {
            stage.faults().set(Fault::CloseWatches);
            stage.write(&format!("storm-{n}"));
            tokio::time::sleep(RESTART_EVERY).await; // poll: the pace of the restarts
        }
        let (asked, took) = (stage.cluster.request_count() - before, begun.elapsed());
        live.see(stage, &format!("storm-{}", RESTARTS - 1)).await;
        let per_second = asked as f64 / took.as_secs_f64();
        let recovery = begun.elapsed() - took;
        eprintln!("{asked} requests, {per_second:.1} a second; then {recovery:.1?} to the end");
        let most = STREAMS * OPENED_MAX * REQUESTS_OF_A_WATCH;
        assert!(asked <= most, "{asked} requests in {took:?}");
    };
    spring("storm", storm, Expected::of_all(NONE)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_asks_for_patience_is_given_it() {
    let busy = async |stage: &Stage, _: &Pair| {
        stage.faults().set(Fault::TooManyRequests);
        stage.faults().set(Fault::CloseWatches);
        stage.write_unseen();
        let (begun, before) = (Instant::now(), stage.cluster.request_count());
        // A list, the identity and the last object for each stream, and again when it has waited
        // for a second.
        stage.is_asked(10).await;
        let elapsed = begun.elapsed();
        let asked = stage.cluster.request_count() - before;
        eprintln!("{asked} requests in {elapsed:.1?}");
        let rounds = 1 + elapsed.as_secs();
        let most = STREAMS * REQUESTS_OF_A_WATCH * rounds;
        assert!(asked <= most, "{asked} in {elapsed:?}");
        stage.faults().clear_all();
    };
    spring("busy", busy, Expected::of_all(NONE)).await;
}
