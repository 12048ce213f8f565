//! API servers that fall silent, because packets are dropped or because there is nothing to say.
//! Within the process and with a clock that is stopped, so that times are exact.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
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
        Answer, Asked, CredentialPolicy, Network, Server, ShardWatcher, Signals, StreamStart,
        WatchPolicy,
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::harness::{closed, cluster, selector};

/// The distance of two changes of a busy cluster.
const BETWEEN: Duration = Duration::from_millis(10);

/// What the API server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Watches bring changes.
    Busy,
    /// Watches bring nothing; requests are answered.
    Quiet,
    /// Nothing arrives.
    Dropped,
}

#[derive(Clone)]
struct Scripted {
    mood: watch::Sender<Mood>,
    version: Arc<AtomicU64>,
    probes: Arc<AtomicU64>,
    watches: Arc<AtomicU64>,
}

impl Scripted {
    fn new(mood: Mood) -> Self {
        Self {
            mood: watch::Sender::new(mood),
            version: Arc::new(AtomicU64::new(5)),
            probes: Arc::default(),
            watches: Arc::default(),
        }
    }

    fn start(&self) -> Watched {
        let policy = WatchPolicy {
            network: Network::InProcess(Arc::new(self.clone())),
            ..WatchPolicy::default()
        };
        let streams = vec![StreamStart {
            stream: StreamId(1),
            selector: selector("v1/events"),
            resume: closed(5),
            cluster_uid: None,
        }];
        let cluster = Arc::new(cluster(1, &streams));
        let credentials = Arc::new(CredentialPolicy::default());
        let (watcher, signals, health) = ShardWatcher::start(cluster, streams, credentials, policy);
        for (_, signals) in signals {
            tokio::spawn(drain(signals));
        }
        Watched { watcher, health }
    }

    /// A watch that brings changes while the cluster is busy.
    fn watch(&self) -> Answer {
        self.watches.fetch_add(1, Ordering::Relaxed);
        let this = self.clone();
        let changes = stream::unfold((), move |()| {
            let this = this.clone();
            async move {
                sleep(BETWEEN).await; // poll: on a clock that is stopped
                let mut mood = this.mood.subscribe();
                let _ = mood.wait_for(|mood| *mood == Mood::Busy).await;
                let version = this.version.fetch_add(1, Ordering::Relaxed) + 1;
                let line = format!(
                    r#"{{"type":"MODIFIED","object":{{"metadata":{{"name":"a","uid":"a","resourceVersion":"{version}"}}}}}}"#
                );
                Some((io::Result::Ok(Bytes::from(line + "\n")), ()))
            }
        });
        Answer {
            status: 200,
            body: changes.boxed(),
        }
    }

    fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

impl Server for Scripted {
    fn get(&self, asked: Asked) -> BoxFuture<'static, io::Result<Answer>> {
        let this = self.clone();
        async move {
            let is_probe = asked.uri == "/readyz";
            this.probes
                .fetch_add(u64::from(is_probe), Ordering::Relaxed);
            let mut mood = this.mood.subscribe();
            let _ = mood.wait_for(|mood| *mood != Mood::Dropped).await;
            // A network has a length.
            sleep(Duration::from_millis(1)).await; // poll: on a clock that is stopped
            if asked.uri.contains("watch=true") {
                return Ok(this.watch());
            }
            let version = this.version.load(Ordering::Relaxed);
            let parameter = |text: &&str| text.starts_with("resourceVersion=");
            let exactly = asked.uri.split(['?', '&']).find(parameter);
            let body = if asked.uri.contains("/kube-system") {
                r#"{"metadata":{"uid":"u"}}"#.to_owned()
            } else if let Some((_, exactly)) = exactly.and_then(|text| text.split_once('=')) {
                // The object as a watch has shown it.
                let metadata = format!(r#""name":"a","uid":"a","resourceVersion":"{exactly}""#);
                format!(r#"{{"metadata":{{"resourceVersion":"{exactly}"}},"items":[{{"metadata":{{{metadata}}}}}]}}"#)
            } else {
                format!(r#"{{"metadata":{{"resourceVersion":"{version}"}},"items":[]}}"#)
            };
            Ok(Answer {
                status: 200,
                body: stream::once(async { Ok(Bytes::from(body)) }).boxed(),
            })
        }
        .boxed()
    }
}

/// A cluster that is being watched.
struct Watched {
    watcher: ShardWatcher,
    health: watch::Receiver<Health>,
}

impl Watched {
    /// How long it takes until the health says so.
    async fn time_until(&mut self, condition: Condition) -> Duration {
        let begun = Instant::now();
        let reached = self.health.wait_for(|health| health.condition == condition);
        let reached = timeout(Duration::from_secs(60), reached).await.is_ok();
        assert!(reached, "{:?}", self.health.borrow());
        begun.elapsed()
    }
}

async fn drain(mut signals: Signals) {
    while signals.recv().await.is_some() {}
}

async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await; // poll: on a clock that is stopped
}

#[tokio::test(start_paused = true)]
async fn a_busy_api_server_that_falls_silent_and_does_not_answer_is_reported_soon() {
    let api = Scripted::new(Mood::Busy);
    let mut watched = api.start();
    for _ in 0..3 {
        watched.time_until(Condition::Connected).await;
        pass(10).await;
        let watches = Scripted::count(&api.watches);
        api.mood.send_replace(Mood::Dropped);
        let noticed = watched.time_until(Condition::Unreachable).await;
        assert!(noticed <= Duration::from_millis(1_450), "{noticed:?}");
        pass(5).await;
        api.mood.send_replace(Mood::Busy);
        let back = watched.time_until(Condition::Connected).await;
        assert!(back <= Duration::from_secs(4), "{back:?}");
        assert_eq!(Scripted::count(&api.watches), watches + 1);
        assert_eq!(watched.watcher.breaker().state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_nothing_to_say_is_asked_once_and_keeps_its_watches() {
    let api = Scripted::new(Mood::Busy);
    let mut watched = api.start();
    for silence in 1..4 {
        watched.time_until(Condition::Connected).await;
        pass(10).await;
        api.mood.send_replace(Mood::Quiet);
        pass(20).await;
        api.mood.send_replace(Mood::Busy);
        assert_eq!(Scripted::count(&api.probes), silence);
    }
    assert_eq!(Scripted::count(&api.watches), 1);
    assert!(!watched.health.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_quiet_server_is_never_asked() {
    let api = Scripted::new(Mood::Quiet);
    let mut watched = api.start();
    watched.time_until(Condition::Connected).await;
    for _ in 0..100 {
        pass(2).await;
        api.mood.send_replace(Mood::Busy);
        sleep(3 * BETWEEN).await; // poll: on a clock that is stopped
        api.mood.send_replace(Mood::Quiet);
    }
    assert_eq!(Scripted::count(&api.probes), 0);
    assert_eq!(Scripted::count(&api.watches), 1);
}
