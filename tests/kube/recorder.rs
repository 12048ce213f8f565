//! An independent watch of one kind of object in one cluster: a plain request to its API server,
//! read line by line, with nothing of quorumwatch in it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::AsyncBufReadExt as _;
use http::Request;
use quorumwatch::domain::event::Change;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    control_plane::Result,
    kind::Kind,
    rest::{Identity, Rest},
};

/// Between two attempts to reach an API server that was killed.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// For the head of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The object's JSON as the API server sent it, by version, `namespace/name` and change.
pub(crate) type Recorded = HashMap<(u64, String, Change), Box<RawValue>>;

/// Records until it is dropped.
pub(crate) struct Recorder {
    recorded: Arc<Mutex<Recorded>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Deserialize)]
struct Line {
    r#type: String,
    object: Box<RawValue>,
}

impl Recorder {
    /// Begins after what there is now.
    pub(crate) async fn start(rest: Rest, kind: Kind) -> Self {
        let recorded = Arc::<Mutex<Recorded>>::default();
        let begin = rest.list(kind, None).await.unwrap().rv;
        let task = tokio::spawn(record(rest, kind, begin, recorded.clone()));
        Self {
            recorded,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// What it has recorded.
    pub(crate) async fn recorded(&self) -> Recorded {
        self.recorded.lock().await.clone()
    }
}

/// Watches, again and again. Where the API server has forgotten what comes next, it goes on at the
/// present: the hole is no error of anybody, only unseen here.
async fn record(rest: Rest, kind: Kind, mut rv: u64, recorded: Arc<Mutex<Recorded>>) {
    loop {
        if let Ok(true) = watch(&rest, kind, &mut rv, &recorded).await
            && let Ok(list) = rest.list(kind, None).await
        {
            rv = list.rv;
        }
        // poll: the API server answers
        sleep(RETRY_AFTER).await;
    }
}

/// One watch to its end; whether it ended with an error of the API server.
async fn watch(rest: &Rest, kind: Kind, rv: &mut u64, recorded: &Mutex<Recorded>) -> Result<bool> {
    let path = format!("{}?watch=1&resourceVersion={rv}", kind.everywhere());
    let request = Request::get(path).body(Vec::new())?;
    let lines = timeout(ANSWER_WITHIN, rest.0.request_stream(request)).await??;
    futures::pin_mut!(lines);
    let mut text = String::new();
    while lines.read_line(&mut text).await? > 0 {
        let line: Line = serde_json::from_str(&text)?;
        let change = match line.r#type.as_str() {
            "ADDED" => Change::Added,
            "MODIFIED" => Change::Modified,
            "DELETED" => Change::Deleted,
            _ => return Ok(true),
        };
        let (key, version) = Identity::of(&line.object)?;
        *rv = version;
        let mut recorded = recorded.lock().await;
        recorded.insert((version, key, change), line.object);
        text.clear();
    }
    Ok(false)
}
