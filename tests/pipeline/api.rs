//! The API servers of the world's clusters, within the process: they answer lists and watches as
//! real ones do, and misbehave as [`Manners`] say.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use quorumwatch::watcher::{Answer, Asked, Server};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    etcd::{Etcd, Object, Selection},
    watch::Watch,
};

/// What an API server does wrong, each so many times of a thousand opportunities.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// An answer, or an event, takes seconds.
    pub(crate) slow: u32,
    /// A request breaks, or is refused with 429, 500 or 503.
    pub(crate) refuse: u32,
    /// A watch is cut, also inside a line.
    pub(crate) cut: u32,
    /// A watch ends without an error.
    pub(crate) close: u32,
    /// A watch sends again what it has sent last.
    pub(crate) replay: u32,
    /// A watch sends nothing for a while, and then breaks or goes on.
    pub(crate) stall: u32,
    /// A watch sends 410 for no good reason.
    pub(crate) gone: u32,
    /// A watch sends 500.
    pub(crate) internal: u32,
    /// A watch sends an event after the one that follows it.
    pub(crate) late: u32,
    /// A watch leaves an event out.
    pub(crate) drop: u32,
    /// A quiet watch sends a bookmark; not a fault.
    pub(crate) bookmark: u32,
    /// What serves the cluster panics, always.
    pub(crate) panics: Option<Panics>,
}

/// Where the code that serves a cluster panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Panics {
    /// As a request is sent.
    Call,
    /// While its answer is awaited.
    Answer,
    /// While a watch is read.
    Watch,
}

/// One cluster's API server.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) etcd: Etcd,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    manners: Manners,
    rng: SmallRng,
    /// The identity of the cluster.
    uid: String,
    /// Held by each open watch.
    watches: Arc<()>,
    /// How many requests came.
    requests: u64,
    /// How often each fault came.
    faults: BTreeMap<&'static str, u64>,
    /// Events that a watch has left out or held back: serial number and version of the object.
    excused: Vec<(Selection, String, u64)>,
    /// Pages of lists that are answered before the others wait.
    pages: Option<u32>,
    /// Whether lists for snapshots wait.
    holds_snapshots: bool,
}

impl Api {
    pub(crate) fn new(uid: &str, seed: u64) -> Self {
        Self {
            etcd: Etcd::default(),
            shared: Arc::new(Mutex::new(Shared {
                manners: Manners::default(),
                rng: SmallRng::seed_from_u64(seed),
                uid: uid.to_owned(),
                watches: Arc::default(),
                requests: 0,
                faults: BTreeMap::new(),
                excused: Vec::new(),
                pages: None,
                holds_snapshots: false,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    pub(crate) fn set_manners(&self, manners: Manners) {
        self.lock().manners = manners;
    }

    /// So many pages of lists are answered from now on, then none until set otherwise.
    pub(crate) fn allow_pages(&self, pages: Option<u32>) {
        self.lock().pages = pages;
    }

    /// Lists for snapshots are not answered until this is set back. They show what exists then.
    pub(crate) fn hold_snapshots(&self, holds: bool) {
        self.lock().holds_snapshots = holds;
    }

    pub(crate) fn manners(&self) -> Manners {
        self.lock().manners
    }

    pub(crate) fn open_watches(&self) -> usize {
        Arc::strong_count(&self.lock().watches) - 1
    }

    /// For a watch, as long as it is open.
    pub(crate) fn begin_watch(&self) -> Arc<()> {
        self.lock().watches.clone()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.lock().requests
    }

    pub(crate) fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.lock().faults.clone()
    }

    pub(crate) fn count(&self, fault: &'static str) {
        *self.lock().faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn excuse(&self, selection: &Selection, uid: &str, rv: u64) {
        let excused = (selection.clone(), uid.to_owned(), rv);
        self.lock().excused.push(excused);
    }

    /// Whether a watch of this selection has left out this event, or held it back.
    pub(crate) fn is_excused(&self, selection: &Selection, uid: &str, rv: u64) -> bool {
        let shared = self.lock();
        let mut excused = shared.excused.iter();
        excused.any(|(of, which, at)| of == selection && which == uid && *at == rv)
    }

    /// A generator for one request, so that requests under way do not disturb each other.
    fn rng(&self) -> SmallRng {
        let seed = self.lock().rng.random();
        SmallRng::seed_from_u64(seed)
    }

    async fn answer(self, asked: Asked) -> io::Result<Answer> {
        self.lock().requests += 1;
        let mut rng = self.rng();
        let manners = self.manners();
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..20))).await;
        self.panic_at(Panics::Answer);
        let query = Query::new(&asked.uri);
        if dice(&mut rng, manners.refuse) {
            self.count("refuse");
            return match rng.random_range(0..4) {
                0 => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
                1 => Ok(status(500, "InternalError")),
                2 => Ok(status(503, "ServiceUnavailable")),
                _ => Ok(status(429, "TooManyRequests")),
            };
        }
        if query.path.ends_with("/kube-system") {
            let uid = self.lock().uid.clone();
            return Ok(whole(format!(
                r#"{{"metadata":{{"name":"kube-system","uid":"{uid}"}}}}"#
            )));
        }
        if query.get("watch").is_some() {
            return Ok(self.watch(&query, rng));
        }
        self.wait_for_page(&query).await;
        self.wait_for_snapshots(&query, asked.metadata).await;
        let list = self.list(&query, asked.metadata);
        if dice(&mut rng, manners.slow) {
            // What it shows is of when it was asked.
            self.count("slow list");
            let long = Duration::from_millis(rng.random_range(200..14_000));
            tokio::time::sleep(long).await;
        }
        Ok(list)
    }

    /// Panics, if it is to happen here.
    pub(crate) fn panic_at(&self, place: Panics) {
        if self.manners().panics == Some(place) {
            self.count("panic");
            panic!("{place:?} is planted");
        }
    }

    async fn wait_for_page(&self, query: &Query) {
        if query.get("limit") == Some("1") {
            return;
        }
        loop {
            match &mut self.lock().pages {
                None => return,
                Some(0) => {}
                Some(left) => {
                    *left -= 1;
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A snapshot is a list of whole objects as they are; a repair asks for exact ones.
    async fn wait_for_snapshots(&self, query: &Query, metadata: bool) {
        let is_exact = query.get("resourceVersionMatch").is_some();
        let is_for_a_snapshot = query.get("limit").is_some() && !metadata && !is_exact;
        while is_for_a_snapshot && self.lock().holds_snapshots {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn watch(self, query: &Query, mut rng: SmallRng) -> Answer {
        let from = query.number("resourceVersion").unwrap();
        if from < self.etcd.watchable() {
            if from >= self.etcd.compacted() && dice(&mut rng, 200) {
                // As some servers do, and the client is to find out (trap T3).
                self.count("quick close");
                return whole(String::new());
            }
            self.count("410");
            return status(410, "Expired");
        }
        let seconds = query.number("timeoutSeconds").unwrap();
        let selection = query.selection();
        let watch = Watch::new(self, selection, from, Duration::from_secs(seconds), rng);
        let body = stream::unfold(watch, |mut watch| async move {
            let chunk = watch.next().await?;
            Some((chunk, watch))
        });
        Answer {
            status: 200,
            body: body.boxed(),
        }
    }

    fn list(&self, query: &Query, metadata: bool) -> Answer {
        let limit = query.number("limit").unwrap_or(u64::MAX);
        let exactly = query.get("resourceVersionMatch") == Some("Exact");
        let now = self.etcd.revision();
        let (rv, after) = match query.get("continue") {
            Some(token) => {
                let (rv, after) = token.split_once('+').unwrap();
                (rv.parse().unwrap(), after.parse().unwrap())
            }
            None if exactly => (query.number("resourceVersion").unwrap(), 0),
            None => (now, 0),
        };
        if rv < self.etcd.compacted() {
            self.count("410 list");
            return status(410, "Expired");
        }
        if rv > now {
            let message = "Too large resource version";
            return status(504, message);
        }
        let mut objects = self.etcd.list(&query.selection(), rv);
        if let Some(name) = query.get("fieldSelector") {
            let name = name.strip_prefix("metadata.name=").unwrap();
            objects.retain(|object| object.name == name);
        }
        page(&objects, rv, after, limit, metadata)
    }
}

fn page(objects: &[Arc<Object>], rv: u64, after: usize, limit: u64, metadata: bool) -> Answer {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let items = objects.iter().skip(after).take(limit);
    let items: Vec<_> = items.map(|object| object.json(!metadata)).collect();
    let end = after + items.len();
    let next = if end < objects.len() {
        format!(r#","continue":"{rv}+{end}""#)
    } else {
        String::new()
    };
    whole(format!(
        r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"{rv}"{next}}},"items":[{}]}}"#,
        items.join(",")
    ))
}

/// Whether it happens this time.
pub(crate) fn dice(rng: &mut SmallRng, permille: u32) -> bool {
    permille > 0 && rng.random_ratio(permille.min(1_000), 1_000)
}

fn whole(body: String) -> Answer {
    let chunk = (!body.is_empty()).then(|| Ok(Bytes::from(body)));
    Answer {
        status: 200,
        body: stream::iter(chunk).boxed(),
    }
}

/// A `metav1.Status`.
pub(crate) fn status_json(code: u16, message: &str) -> String {
    format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"{message}","code":{code}}}"#
    )
}

fn status(code: u16, message: &str) -> Answer {
    Answer {
        status: code,
        ..whole(status_json(code, message))
    }
}

/// A path and query, taken apart.
struct Query {
    path: String,
    values: BTreeMap<String, String>,
}

impl Query {
    fn new(uri: &str) -> Self {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let values = query.split('&').filter_map(|pair| pair.split_once('='));
        let values = values.map(|(name, value)| (name.to_owned(), decode(value)));
        Self {
            path: path.to_owned(),
            values: values.collect(),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    fn selection(&self) -> Selection {
        let mut parts = self.path.rsplit('/');
        let resource = parts.next().unwrap().to_owned();
        let mut parts = self.path.split('/');
        let namespace = parts.find(|part| *part == "namespaces");
        let namespace = namespace.and_then(|_| parts.next()).unwrap_or_default();
        let label = self.get("labelSelector").unwrap_or_default();
        Selection {
            resource,
            namespace: namespace.to_owned(),
            tier: label.strip_prefix("tier=").unwrap_or_default().to_owned(),
        }
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first == b'%' {
            let (digits, more) = rest.split_at(2);
            rest = more;
            let digits = std::str::from_utf8(digits).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The API servers of all clusters, by the clusters' names.
#[derive(Clone, Default)]
pub(crate) struct Apis(pub(crate) Arc<Mutex<BTreeMap<String, Api>>>);

impl Server for Apis {
    fn get(&self, asked: Asked) -> BoxFuture<'static, io::Result<Answer>> {
        let api = self.0.lock().unwrap().get(&asked.cluster).cloned();
        if let Some(api) = &api {
            api.panic_at(Panics::Call);
        }
        async move {
            match api {
                Some(api) => api.answer(asked).await,
                None => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            }
        }
        .boxed()
    }
}
