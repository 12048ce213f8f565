//! What one cluster's outage does to its streams, and that of many to a replica. Within the process
//! and with a clock that is stopped, so that times are exact.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use quorumwatch::{
    domain::{
        breaker::State,
        cluster::{Condition, Health},
        id::StreamId,
    },
    watcher::{
        Answer, Asked, Breaker, CredentialPolicy, Network, Server, ShardWatcher, Started,
        StreamStart, WarmClient, Warming, WatchPolicy,
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::harness::{closed, cluster, selector};

/// Streams of a cluster.
const STREAMS: usize = 10;

/// How requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Serves,
    /// Connections are refused, and open ones break.
    Down,
    /// Everything is refused with this status, and with what it asks to wait; open watches go on.
    Refuses(u16, u32),
    /// Not ready, and serves everything.
    Unready,
}

/// One request.
#[derive(Clone, Debug)]
struct Seen {
    at: Instant,
    uri: String,
}

impl Seen {
    fn is_probe(&self) -> bool {
        self.uri == "/readyz"
    }

    fn is_watch(&self) -> bool {
        self.uri.contains("watch=true")
    }
}

/// All API servers.
#[derive(Clone)]
struct Scripted {
    mood: watch::Sender<Mood>,
    /// Requests for these paths are refused with this status, whatever the mood.
    refused: Arc<Mutex<BTreeMap<&'static str, u16>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Watches that are open.
    open: watch::Sender<usize>,
}

impl Scripted {
    fn new() -> Self {
        Self {
            mood: watch::Sender::new(Mood::Serves),
            refused: Arc::default(),
            seen: Arc::default(),
            open: watch::Sender::new(0),
        }
    }

    fn policy(&self) -> WatchPolicy {
        WatchPolicy {
            network: Network::InProcess(Arc::new(self.clone())),
            ..WatchPolicy::default()
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn count(&self, is_meant: impl Fn(&Seen) -> bool) -> usize {
        self.seen().iter().filter(|seen| is_meant(seen)).count()
    }

    async fn watches(&self, count: usize) {
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open == count).await.unwrap();
    }

    /// It is in another mood for so long.
    async fn be(&self, mood: Mood, duration: Duration) {
        self.mood.send_replace(mood);
        sleep(duration).await; // poll: the outage, on a clock that is stopped
        self.mood.send_replace(Mood::Serves);
    }

    fn answer(&self, asked: &Asked) -> io::Result<Answer> {
        let uri = asked.uri.clone();
        let at = Instant::now();
        self.seen.lock().unwrap().push(Seen { at, uri });
        let path = asked.uri.split('?').next().unwrap();
        let mood = *self.mood.borrow();
        let refused = self.refused.lock().unwrap().get(path).copied();
        match mood {
            Mood::Down => Err(io::ErrorKind::ConnectionRefused.into()),
            Mood::Refuses(status, seconds) => Ok(refusal(status, seconds)),
            Mood::Unready if path == "/readyz" => Ok(refusal(500, 0)),
            _ if refused.is_some() => Ok(refusal(refused.unwrap(), 0)),
            _ if path == "/readyz" => Ok(whole(200, "ok")),
            _ if path.ends_with("/kube-system") => Ok(whole(200, r#"{"metadata":{"uid":"u"}}"#)),
            _ if asked.uri.contains("watch=true") => Ok(self.watch()),
            _ => Ok(whole(
                200,
                r#"{"metadata":{"resourceVersion":"5"},"items":[]}"#,
            )),
        }
    }

    /// A watch that says nothing, until it breaks.
    fn watch(&self) -> Answer {
        let opened = Counted::new(&self.open);
        let mut mood = self.mood.subscribe();
        let broken = async move {
            let _opened = opened;
            let _ = mood.wait_for(|mood| *mood == Mood::Down).await;
            Err(io::ErrorKind::ConnectionReset.into())
        };
        Answer {
            status: 200,
            body: stream::once(broken).boxed(),
        }
    }
}

/// One open watch.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(open: &watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

fn refusal(status: u16, seconds: u32) -> Answer {
    let details = format!(r#"{{"retryAfterSeconds":{seconds}}}"#);
    whole(
        status,
        &format!(r#"{{"code":{status},"message":"scripted","details":{details}}}"#),
    )
}

fn whole(status: u16, body: &str) -> Answer {
    let body = Bytes::from(body.to_owned());
    Answer {
        status,
        body: stream::once(async { Ok(body) }).boxed(),
    }
}

impl Server for Scripted {
    fn get(&self, asked: Asked) -> BoxFuture<'static, io::Result<Answer>> {
        let this = self.clone();
        async move {
            // A network has a length.
            sleep(Duration::from_millis(1)).await; // poll: on a clock that is stopped
            this.answer(&asked)
        }
        .boxed()
    }
}

const RESOURCES: [&str; STREAMS] = [
    "v1/events",
    "v1/pods",
    "v1/configmaps",
    "v1/services",
    "v1/nodes",
    "v1/secrets",
    "v1/endpoints",
    "v1/namespaces",
    "apps/v1/deployments",
    "apps/v1/daemonsets",
];

fn start(number: u64, resources: &[&str], policy: WatchPolicy) -> Started {
    let streams: Vec<_> = resources
        .iter()
        .zip(0..)
        .map(|(resource, index)| StreamStart {
            stream: StreamId(number * 100 + index),
            selector: selector(resource),
            resume: closed(5),
            cluster_uid: None,
        })
        .collect();
    let cluster = cluster(number, &streams);
    let credentials = Arc::new(CredentialPolicy::default());
    ShardWatcher::start(Arc::new(cluster), streams, credentials, policy)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn is(breaker: &Breaker, state: State) {
    let mut status = breaker.watch();
    status
        .wait_for(|status| status.state == state)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_away_for_seconds_is_watched_again_within_a_second_and_asked_by_one_at_a_time() {
    let api = Scripted::new();
    let (watcher, _signals, health) = start(1, &RESOURCES, api.policy());
    // Again and again: no pause is carried over from one outage to the next.
    for _ in 0..10 {
        api.watches(STREAMS).await;
        sleep(seconds(7)).await;
        let before = api.seen().len();
        api.be(Mood::Down, seconds(4)).await;
        let back = Instant::now();
        assert_eq!(watcher.breaker().state(), State::Open);
        let told = health.borrow().clone();
        assert_eq!(told.condition, Condition::Unreachable);
        assert!(
            told.reason.ends_with("the circuit breaker is open"),
            "{}",
            told.reason
        );
        let during = api.seen().split_off(before);
        let probes = during.iter().filter(|seen| seen.is_probe()).count();
        assert!((10..=35).contains(&probes), "{probes} probes in 4 s");
        let others = during.len() - probes;
        // Nobody but those who had sent before the first probe was refused.
        assert!(others <= 4 * STREAMS, "{others} other requests");
        api.watches(STREAMS).await;
        let took = back.elapsed();
        assert!(took <= Duration::from_millis(1_200), "{took:?}");
        assert_eq!(watcher.breaker().state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_away_for_an_hour_is_found_within_half_a_minute_and_was_asked_rarely() {
    let api = Scripted::new();
    let (_watcher, _signals, _health) = start(1, &RESOURCES, api.policy());
    api.watches(STREAMS).await;
    let before = api.seen().len();
    api.be(Mood::Down, seconds(3_600)).await;
    let back = Instant::now();
    let asked = api.seen().len() - before;
    assert!(asked < 300, "{asked} requests in an hour");
    api.watches(STREAMS).await;
    let took = back.elapsed();
    assert!(took <= seconds(31), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_refused_leaves_the_others_and_the_breaker_alone() {
    for status in [403, 404, 405, 410, 429, 500, 503] {
        let api = Scripted::new();
        let path = "/api/v1/pods";
        api.refused.lock().unwrap().insert(path, status);
        let (watcher, _signals, _health) = start(1, &RESOURCES, api.policy());
        let mut changes = watcher.breaker().watch();
        api.watches(STREAMS - 1).await;
        sleep(seconds(300)).await;
        assert!(!changes.has_changed().unwrap(), "opened by {status}");
        changes.mark_unchanged();
        let pods = |seen: &Seen| seen.uri.starts_with(path);
        // Its own back-off, which ends at 15 s on average, after some short ones.
        let asked = api.count(pods);
        assert!((5..=60).contains(&asked), "{asked} requests at {status}");
        api.refused.lock().unwrap().clear();
        api.watches(STREAMS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_patience_is_left_alone_by_all_streams() {
    for status in [429, 503] {
        let api = Scripted::new();
        api.mood.send_replace(Mood::Refuses(status, 7));
        let (watcher, _signals, _health) = start(1, &RESOURCES, api.policy());
        is(watcher.breaker(), State::Open).await;
        let before = api.seen().len();
        sleep(seconds(70)).await;
        let asked = api.seen().split_off(before);
        assert!(asked.iter().all(Seen::is_probe), "{asked:?}");
        assert!((3..=10).contains(&asked.len()), "{} probes", asked.len());
        let apart = asked.windows(2).map(|pair| pair[1].at - pair[0].at);
        assert!(apart.into_iter().all(|pause| pause >= seconds(7)));
        api.mood.send_replace(Mood::Serves);
        api.watches(STREAMS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_back_and_refuses_the_credentials_is_not_said_to_be_out_of_reach() {
    let api = Scripted::new();
    let (_watcher, _signals, mut health) = start(1, &RESOURCES, api.policy());
    api.watches(STREAMS).await;
    api.be(Mood::Down, seconds(4)).await;
    assert_eq!(health.borrow().condition, Condition::Unreachable);
    api.mood.send_replace(Mood::Refuses(401, 0));
    let is_refused = |health: &Health| health.condition == Condition::Unauthenticated;
    let refused = timeout(seconds(30), health.wait_for(is_refused)).await;
    assert!(refused.unwrap().unwrap().reason.contains("401"));
    api.mood.send_replace(Mood::Serves);
    api.watches(STREAMS).await;
}

#[tokio::test(start_paused = true)]
async fn open_watches_go_on_while_new_requests_are_held_back() {
    let api = Scripted::new();
    let (watcher, _signals, mut health) = start(1, &RESOURCES[..3], api.policy());
    let is_connected = |health: &Health| health.condition == Condition::Connected;
    health.wait_for(is_connected).await.unwrap();
    let opened = api.count(Seen::is_watch);
    // A reader's list fails; only it waits.
    api.mood.send_replace(Mood::Refuses(503, 0));
    let history = watcher.history(StreamId(100)).unwrap();
    let _items = history.catch_up(5_u64.into());
    is(watcher.breaker(), State::Open).await;
    sleep(seconds(20)).await;
    assert_eq!(*api.open.borrow(), 3);
    assert_eq!(api.count(Seen::is_watch), opened);
    let reason = health.borrow().reason.clone();
    assert!(reason.contains("the circuit breaker is open"), "{reason}");
    api.mood.send_replace(Mood::Serves);
    api.watches(4).await;
    assert_eq!(watcher.breaker().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_for_ever_that_it_is_not_ready_is_watched_where_its_lists_answer() {
    let api = Scripted::new();
    let (_watcher, _signals, _health) = start(1, &RESOURCES, api.policy());
    api.watches(STREAMS).await;
    api.be(Mood::Down, seconds(4)).await;
    api.mood.send_replace(Mood::Unready);
    let back = Instant::now();
    api.watches(STREAMS).await;
    let took = back.elapsed();
    assert!((seconds(4)..seconds(12)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn those_who_use_a_cluster_at_the_same_time_share_its_breaker() {
    let api = Scripted::new();
    let policy = api.policy();
    api.mood.send_replace(Mood::Down);
    let (watcher, _signals, _health) = start(1, &RESOURCES, policy.clone());
    is(watcher.breaker(), State::Open).await;
    let same = policy.breakers.of(&cluster(1, &[]), &policy.chance);
    let other = policy.breakers.of(&cluster(2, &[]), &policy.chance);
    assert_eq!((same.state(), other.state()), (State::Open, State::Closed));
    assert_eq!(
        same.watch().borrow().reason,
        "the API server cannot be reached: connection refused"
    );
    drop(same);
    watcher.stop().await;
    let later = policy.breakers.of(&cluster(1, &[]), &policy.chance);
    assert_eq!(later.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn connections_kept_for_a_takeover_are_used_now_and_then_and_rarely_during_an_outage() {
    let api = Scripted::new();
    let policy = api.policy();
    let warming = Warming::new(Arc::default(), policy.clone());
    let known = Arc::new(cluster(1, &[]));
    let client = WarmClient::keep(&warming, known, 2);
    sleep(seconds(600)).await;
    // Four connections, each once in 22 to 38 s.
    let asked = api.count(Seen::is_probe);
    assert!((4 * 15..=4 * 28).contains(&asked), "{asked} requests");
    assert_eq!(api.seen().len(), asked);
    api.mood.send_replace(Mood::Down);
    sleep(seconds(3_600)).await;
    let during = api.seen().len() - asked;
    assert!((4 * 12..=4 * 40).contains(&during), "{during} requests");
    // A takeover is not held back by this outage.
    api.mood.send_replace(Mood::Serves);
    let back = Instant::now();
    let (watcher, _signals, _health) = start(1, &RESOURCES, policy);
    assert_eq!(watcher.breaker().state(), State::Closed);
    api.watches(STREAMS).await;
    assert!(back.elapsed() <= Duration::from_millis(20));
    drop(client);
    let before = api.count(Seen::is_probe);
    sleep(seconds(600)).await;
    assert_eq!(api.count(Seen::is_probe), before);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stderr, reason = "its figures are read by people")]
async fn a_thousand_clusters_that_come_back_at_once_are_asked_in_turn() {
    const CLUSTERS: usize = 1_000;
    let api = Scripted::new();
    let policy = api.policy();
    let started: Vec<_> = (0..CLUSTERS as u64)
        .map(|number| start(number, &RESOURCES[..2], policy.clone()))
        .collect();
    api.watches(2 * CLUSTERS).await;
    let before = api.seen().len();
    api.be(Mood::Down, seconds(60)).await;
    let back = Instant::now();
    let (down, during) = (back - seconds(60), api.seen().split_off(before));
    // Beyond the first seconds, in which each cluster is found to be down.
    let later = during.iter().filter(|seen| seen.at > down + seconds(5));
    let a_second = later.count() / 55;
    api.watches(2 * CLUSTERS).await;
    let took = back.elapsed();
    let mut each_second = BTreeMap::<u64, usize>::new();
    for seen in api.seen().iter().filter(|seen| seen.at >= back) {
        *each_second.entry((seen.at - back).as_secs()).or_default() += 1;
    }
    let most = each_second.values().max().copied().unwrap_or_default();
    eprintln!("down: {a_second} requests a second; back: {took:?}, at most {most} a second");
    assert!(a_second <= 210, "{a_second} probes a second");
    // Each turn is up to three requests.
    assert!(most <= 3 * 400, "{each_second:?}");
    assert!(took <= seconds(40), "{took:?}");
    drop(started);
    sleep_until(Instant::now() + seconds(1)).await;
}
