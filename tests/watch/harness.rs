//! A watcher of one stream, and what its tests say often.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use quorumwatch::{
    config::{ConfiguredSource, Secret},
    domain::{
        cluster::{
            Cluster, ClusterSpec, Condition, Health, ResourceSelector, Source, StreamSelector,
        },
        event::{Change, Event, GapReason},
        history::HistoryItem,
        id::{ClusterId, Epoch, Era, Revision, StreamId, UnixMillis},
        position::Position,
        stream::ResumePoint,
        watch_session::SessionPolicy,
    },
    watcher::{CredentialPolicy, ShardWatcher, Signal, Signals, StreamStart, WatchPolicy},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::api::PATIENCE;

pub(crate) const STREAM: StreamId = StreamId(7);

/// Times short enough for tests, and long enough for a loaded machine.
pub(crate) fn policy() -> WatchPolicy {
    WatchPolicy {
        session: SessionPolicy {
            idle_grace_ms: 300,
            settle_ms: 300,
            ..SessionPolicy::default()
        },
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(100),
        page_items: 2,
        ..WatchPolicy::default()
    }
}

pub(crate) fn object(name: &str, uid: &str, rv: u64) -> String {
    // Unusual white space shows that bytes are kept.
    format!(
        r#"{{ "metadata": {{"name":"{name}","namespace":"n","uid":"{uid}","resourceVersion":"{rv}"}} , "n":1.0 }}"#
    )
}

pub(crate) fn closed(rv: u64) -> ResumePoint {
    ResumePoint::At(Position::closed(Era(1), rv.into()))
}

/// A watcher of one stream.
pub(crate) struct Watched {
    pub(crate) watcher: ShardWatcher,
    pub(crate) signals: Signals,
    pub(crate) health: watch::Receiver<Health>,
}

pub(crate) fn start(address: &str, resume: ResumePoint) -> Watched {
    start_with(address, resume, policy())
}

pub(crate) fn start_with(address: &str, resume: ResumePoint, policy: WatchPolicy) -> Watched {
    start_stream(address, selector("v1/configmaps"), resume, policy)
}

pub(crate) fn start_stream(
    address: &str,
    selector: StreamSelector,
    resume: ResumePoint,
    policy: WatchPolicy,
) -> Watched {
    let is_known = resume != ResumePoint::Fresh;
    let stream = StreamStart {
        stream: STREAM,
        selector,
        resume,
        cluster_uid: is_known.then(|| "uid-1".into()),
    };
    let (watcher, mut streams, health) = start_all(address, vec![stream], policy);
    let (_, signals) = streams.pop().unwrap();
    Watched {
        watcher,
        signals,
        health,
    }
}

pub(crate) fn selector(resource: &str) -> StreamSelector {
    StreamSelector::all(resource.parse().unwrap())
}

fn watched(selector: &StreamSelector) -> ResourceSelector {
    ResourceSelector::all(selector.resource.clone())
}

pub(crate) fn start_all(
    address: &str,
    streams: Vec<StreamStart>,
    policy: WatchPolicy,
) -> quorumwatch::watcher::Started {
    let yaml = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{server: '{address}'}}}}]\n\
         users: [{{name: u, user: {{token: secret-token}}}}]\n"
    );
    let configured = ConfiguredSource {
        kubeconfig: Secret::new(yaml),
        context: String::new(),
    };
    let credentials = CredentialPolicy {
        configured: BTreeMap::from([("here".into(), configured)]),
        ..CredentialPolicy::default()
    };
    let cluster = cluster(1, &streams);
    ShardWatcher::start(Arc::new(cluster), streams, Arc::new(credentials), policy)
}

/// A cluster with these streams, named by its number.
pub(crate) fn cluster(number: u64, streams: &[StreamStart]) -> Cluster {
    Cluster {
        id: ClusterId(number),
        spec: Arc::new(ClusterSpec {
            name: format!("scripted-{number}"),
            labels: BTreeMap::new(),
            source: Source::Configured {
                name: "here".into(),
            },
            resources: streams.iter().map(|s| watched(&s.selector)).collect(),
            paused: false,
            description: String::new(),
            duplicate_of: String::new(),
        }),
        uid: None,
        created: UnixMillis(0),
        updated: UnixMillis(0),
        revision: Revision(1),
        watch_revision: Revision(1),
        health_epoch: Epoch(0),
        health: Health::unknown(UnixMillis(0)),
    }
}

impl Watched {
    /// The next signal that says something.
    pub(crate) async fn next(&mut self) -> Signal {
        loop {
            let signal = timeout(PATIENCE, self.signals.recv())
                .await
                .expect("a signal comes")
                .expect("the stream goes on");
            if !matches!(signal, Signal::Heard) {
                return signal;
            }
        }
    }

    /// The next events, `count` of them, however they are batched.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            match self.next().await {
                Signal::Events(more) => events.extend(more),
                other => panic!("{other:?} instead of events"),
            }
        }
        assert_eq!(events.len(), count);
        events
    }

    pub(crate) async fn closed(&mut self, rv: u64) {
        match self.next().await {
            Signal::Closed(at) => assert_eq!(at, rv.into()),
            other => panic!("{other:?} instead of Closed({rv})"),
        }
    }

    /// The next signal must ask for this era; returns what grants it.
    pub(crate) async fn era(
        &mut self,
        why: GapReason,
        at: u64,
        with_repair: bool,
    ) -> oneshot::Sender<()> {
        match self.next().await {
            Signal::EraNeeded {
                reason,
                to,
                repaired,
                granted,
                ..
            } => {
                assert_eq!((reason, to, repaired), (why, at.into(), with_repair));
                granted
            }
            other => panic!("{other:?} instead of an era"),
        }
    }

    pub(crate) async fn grant(&mut self, why: GapReason, at: u64, with_repair: bool) {
        let granted = self.era(why, at, with_repair).await;
        granted.send(()).expect("the session waits");
    }

    /// The net changes up to `Closed(to)`.
    pub(crate) async fn repaired(&mut self, to: u64) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Signal::Repaired(more) => events.extend(more),
                Signal::Closed(at) => {
                    assert_eq!(at, to.into());
                    return events;
                }
                other => panic!("{other:?} instead of net changes"),
            }
        }
    }

    /// Waits until the cluster is in this condition; returns the reason.
    pub(crate) async fn condition(&mut self, condition: Condition) -> String {
        let reached = self.health.wait_for(|health| health.condition == condition);
        let health = timeout(PATIENCE, reached).await;
        health.expect("the condition comes").unwrap().reason.clone()
    }
}

/// Change, name and object of each event.
pub(crate) fn seen(events: &[Event]) -> Vec<(Change, &str, &str)> {
    events
        .iter()
        .map(|event| {
            let object = std::str::from_utf8(&event.object).unwrap();
            (event.change, event.name(), object)
        })
        .collect()
}

pub(crate) async fn item(items: &mut mpsc::Receiver<HistoryItem>) -> Option<HistoryItem> {
    timeout(PATIENCE, items.recv())
        .await
        .expect("an item comes")
}
