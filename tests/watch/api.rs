//! A scripted API server: lists are answered from a small world, each watch is handed to the test.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What lists show.
#[derive(Clone, Default)]
pub(crate) struct World {
    /// The UID of kube-system.
    pub(crate) uid: String,
    /// Whether answers name the flow schema that their request was counted under.
    pub(crate) names_flow_schemas: bool,
    /// How often the UID was asked for.
    pub(crate) identified: u32,
    /// The newest version.
    pub(crate) version: u64,
    /// Exact lists before this version answer 410.
    pub(crate) compacted: u64,
    /// Exact lists are answered with the newest state, as by a server that does not know them.
    pub(crate) ignores_exact: bool,
    /// Continue tokens answer 410.
    pub(crate) tokens_expire: bool,
    /// Everything answers with this status.
    pub(crate) refuses: Option<u16>,
    /// Exact lists answer 504, as of a server that takes too long.
    pub(crate) is_slow: bool,
    /// Exact lists that were asked for.
    pub(crate) exact_lists: u32,
    /// The objects, by the version at which they came to be so.
    states: BTreeMap<u64, Vec<String>>,
}

impl World {
    /// From `version` on the world is like this, until another state begins.
    pub(crate) fn put(&mut self, version: u64, objects: &[&str]) {
        let objects = objects.iter().map(|object| (*object).to_owned()).collect();
        self.states.insert(version, objects);
        self.version = self.version.max(version);
    }

    /// Names the flow schema of the cluster of now.
    fn name_flow_schema(&self, mut response: Response) -> Response {
        if self.names_flow_schemas {
            let flow_schema = format!("flow-schema-of-{}", self.uid).parse().unwrap();
            let headers = response.headers_mut();
            headers.insert("x-kubernetes-pf-flowschema-uid", flow_schema);
        }
        response
    }

    fn page(&self, version: u64, from: usize, limit: usize, name: &str) -> Response {
        let state = self.states.range(..=version).next_back();
        let objects = state.map_or(&[][..], |(_, objects)| objects);
        let named = format!(r#""name":"{name}""#);
        let objects: Vec<_> = objects
            .iter()
            .filter(|object| name.is_empty() || object.contains(&named))
            .cloned()
            .collect();
        let end = objects.len().min(from + limit);
        let next = if end < objects.len() {
            format!("{version}:{end}")
        } else {
            String::new()
        };
        let items = objects[from.min(end)..end].join(",");
        format!(
            r#"{{"kind":"List","metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{items}]}}"#
        )
        .into_response()
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Response {
        let number = |name: &str| query.get(name).and_then(|text| text.parse().ok());
        let limit = number("limit").unwrap_or(usize::MAX);
        let fields = query.get("fieldSelector").map_or("", String::as_str);
        let name = fields.strip_prefix("metadata.name=").unwrap_or("");
        if let Some(token) = query.get("continue") {
            let (version, from) = token.split_once(':').unwrap();
            let version = version.parse().unwrap();
            if self.tokens_expire || version < self.compacted {
                return status(410);
            }
            return self.page(version, from.parse().unwrap(), limit, name);
        }
        let Some(version) = number("resourceVersion") else {
            return self.page(self.version, 0, limit, name);
        };
        assert_eq!(query["resourceVersionMatch"], "Exact");
        match u64::try_from(version).unwrap() {
            _ if self.ignores_exact => self.page(self.version, 0, limit, name),
            _ if self.is_slow => status(504),
            version if version < self.compacted => status(410),
            version if version > self.version => too_large(),
            version => self.page(version, 0, limit, name),
        }
    }
}

/// An answer without a body that means anything.
pub(crate) fn status(code: u16) -> Response {
    let body = format!(r#"{{"kind":"Status","code":{code},"message":"scripted"}}"#);
    (StatusCode::from_u16(code).unwrap(), body).into_response()
}

/// How a server says that it has not reached a version.
fn too_large() -> Response {
    let body = r#"{"kind":"Status","code":504,"reason":"Timeout","message":"scripted",
        "details":{"causes":[{"reason":"ResourceVersionTooLarge","message":"scripted"}]}}"#;
    (StatusCode::GATEWAY_TIMEOUT, body).into_response()
}

/// The server. Dropping it stops it.
pub(crate) struct Api {
    pub(crate) address: String,
    world: Arc<Mutex<World>>,
    watches: mpsc::Receiver<Asked>,
    pages: watch::Receiver<usize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Shared {
    world: Arc<Mutex<World>>,
    watches: mpsc::Sender<Asked>,
    /// How many pages of lists were served.
    pages: watch::Sender<usize>,
}

/// A watch that was asked for.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: HeaderMap,
    reply: oneshot::Sender<Response>,
}

/// A watch that is open; dropping it closes it cleanly.
pub(crate) struct Open(mpsc::Sender<Result<Bytes, std::io::Error>>);

impl Api {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener)
    }

    pub(crate) fn serve(listener: TcpListener) -> Self {
        let address = format!("http://{}", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World {
            uid: "uid-1".into(),
            version: 1,
            ..World::default()
        }));
        let (sender, watches) = mpsc::channel(16);
        let shared = Shared {
            world: world.clone(),
            watches: sender,
            pages: watch::Sender::new(0),
        };
        let pages = shared.pages.subscribe();
        let app = Router::new().fallback(answer).with_state(shared);
        let serving = tokio::spawn(async move {
            axum::serve(listener, app).await.unwrap();
        });
        Self {
            address,
            world,
            watches,
            pages,
            serving,
        }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().unwrap());
    }

    /// Waits until what was asked makes the world so.
    pub(crate) async fn until(&self, condition: impl Fn(&World) -> bool) {
        let reached = async {
            while !condition(&self.world.lock().unwrap()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, reached).await.expect("it comes to that");
    }

    /// Waits until so many pages of lists were served.
    pub(crate) async fn served(&mut self, pages: usize) {
        let served = self.pages.wait_for(|served| *served >= pages);
        let served = timeout(PATIENCE, served).await;
        served.expect("the pages are asked for").unwrap();
    }

    /// Waits until no page of a list was asked for within a while.
    pub(crate) async fn no_page_for(&mut self, duration: Duration) {
        let quiet = async { while timeout(duration, self.pages.changed()).await.is_ok() {} };
        timeout(PATIENCE, quiet).await.expect("it stops");
    }

    pub(crate) fn pages_served(&self) -> usize {
        *self.pages.borrow()
    }

    /// The next watch.
    pub(crate) async fn watch(&mut self) -> Asked {
        timeout(PATIENCE, self.watches.recv())
            .await
            .expect("a watch is asked for")
            .unwrap()
    }

    /// The next watch, which must begin after `from`; it is opened.
    pub(crate) async fn open(&mut self, from: u64) -> Open {
        let asked = self.watch().await;
        assert_eq!(asked.from(), from, "the watch begins elsewhere");
        asked.open()
    }

    /// Whether no further watch is asked for within a while.
    pub(crate) async fn is_quiet(&mut self, duration: Duration) -> bool {
        timeout(duration, self.watches.recv()).await.is_err()
    }
}

impl Asked {
    pub(crate) fn from(&self) -> u64 {
        self.query["resourceVersion"].parse().unwrap()
    }

    pub(crate) fn open(self) -> Open {
        let (sender, receiver) = mpsc::channel(1);
        let body = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|item| (item, receiver))
        });
        let body = Body::from_stream(body.boxed());
        self.reply.send(body.into_response()).unwrap();
        Open(sender)
    }

    pub(crate) fn refuse(self, response: Response) {
        self.reply.send(response).unwrap();
    }

    pub(crate) fn refuse_for(self, code: u16, seconds: u64) {
        let mut response = status(code);
        let seconds = seconds.to_string().parse().unwrap();
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
        self.refuse(response);
    }
}

impl Open {
    pub(crate) async fn bytes(&self, bytes: &str) {
        let bytes = Bytes::from(bytes.to_owned());
        self.0.send(Ok(bytes)).await.expect("the watch is read");
    }

    /// A line, unless the watch was abandoned.
    pub(crate) async fn try_line(&self, line: &str) -> bool {
        let bytes = Bytes::from(format!("{line}\n"));
        self.0.send(Ok(bytes)).await.is_ok()
    }

    pub(crate) async fn line(&self, line: &str) {
        self.bytes(&format!("{line}\n")).await;
    }

    pub(crate) async fn event(&self, kind: &str, object: &str) {
        self.line(&format!(r#"{{"type":"{kind}","object":{object}}}"#))
            .await;
    }

    pub(crate) async fn error(self, code: u16) {
        self.event("ERROR", &format!(r#"{{"kind":"Status","code":{code}}}"#))
            .await;
    }

    /// Breaks the connection.
    pub(crate) async fn break_off(self) {
        let broken = std::io::Error::other("scripted");
        self.0.send(Err(broken)).await.expect("the watch is read");
    }

    /// Waits until the other side has given the watch up.
    pub(crate) async fn abandoned(self) {
        timeout(PATIENCE, self.0.closed())
            .await
            .expect("the watch is abandoned");
    }
}

async fn answer(
    State(shared): State<Shared>,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, Infallible> {
    let world = {
        let mut world = shared.world.lock().unwrap();
        world.exact_lists += u32::from(query.contains_key("resourceVersionMatch"));
        world.clone()
    };
    if let Some(code) = world.refuses {
        return Ok(status(code));
    }
    if uri.path() == "/readyz" {
        return Ok("ok".into_response());
    }
    if uri.path() == "/api/v1/namespaces/kube-system" {
        shared.world.lock().unwrap().identified += 1;
        let uid = &world.uid;
        let namespace = format!(r#"{{"metadata":{{"name":"kube-system","uid":"{uid}"}}}}"#);
        return Ok(world.name_flow_schema(namespace.into_response()));
    }
    if !query.contains_key("watch") {
        let page = world.list(&query);
        shared.pages.send_modify(|pages| *pages += 1);
        return Ok(page);
    }
    let (reply, response) = oneshot::channel();
    let asked = Asked {
        path: uri.path().to_owned(),
        query,
        headers,
        reply,
    };
    if shared.watches.send(asked).await.is_err() {
        return Ok(status(503));
    }
    let response = response.await.unwrap_or_else(|_| status(503));
    Ok(shared.world.lock().unwrap().name_flow_schema(response))
}
