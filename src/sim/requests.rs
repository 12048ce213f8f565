//! What a cluster was asked: for tests that count requests, or look for one that must not be made.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::extract::Request;

/// Most requests that are remembered; older ones are only counted.
const SEEN_MAX: usize = 1024;

/// A request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    /// When, since the fleet began.
    pub at: Duration,
    /// The path and the query, as the client wrote them.
    pub target: String,
    /// The version of HTTP: "HTTP/1.1".
    pub protocol: String,
    /// The client's end of the connection: requests with the same one came over one connection.
    pub client: Option<SocketAddr>,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    count: AtomicU64,
    seen: Mutex<VecDeque<SeenRequest>>,
}

impl Requests {
    pub(super) fn note(&self, request: &Request, client: Option<SocketAddr>, at: Duration) {
        self.count.fetch_add(1, Ordering::AcqRel);
        let target = request.uri().path_and_query();
        let noted = SeenRequest {
            at,
            target: target.map_or_else(String::new, ToString::to_string),
            protocol: format!("{:?}", request.version()),
            client,
        };
        // A list of requests is whole between any two statements.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() == SEEN_MAX {
            seen.pop_front();
        }
        seen.push_back(noted);
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn seen(&self) -> Vec<SeenRequest> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().cloned().collect()
    }
}
