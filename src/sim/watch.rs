//! Serves watches: one line of JSON after the other, for as long as the client, the timeout and
//! the switches allow.

use std::{io, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    cluster::{OpenWatch, SimCluster},
    fault::Fault,
    kind::Served,
    object::Object,
    query::{Format, Query, RvMatch},
    selector::Selection,
    status::{Status, json_response},
    store::{Entry, Gone, Store},
};
use crate::domain::event::Change;

/// Most changes that are taken from the store at once: about a megabyte, so that the store is not
/// held for long and a slow client costs little.
const BATCH_CHANGES_MAX: usize = 1000;

/// Default duration of a watch, in seconds, as on the real server.
const TIMEOUT_SECONDS: std::ops::Range<u64> = 1800..3600;

/// How long before the timeout a last bookmark is sent, as on the real server.
const BOOKMARK_BEFORE_TIMEOUT: Duration = Duration::from_secs(2);

/// What is the same for the whole life of a watch.
struct Scope {
    cluster: SimCluster,
    table: usize,
    served: Served,
    selection: Selection,
    format: Format,
}

/// How a watch begins.
#[derive(Default)]
struct Beginning {
    lines: Vec<u8>,
    /// Every change up to here has been sent, or was not asked for.
    cursor: u64,
    over: bool,
}

struct Watch {
    scope: Scope,
    beginning: Bytes,
    cursor: u64,
    over: bool,
    /// Whether lines were held back.
    held: bool,
    /// What [`SimCluster::watch_ends`] was when the watch began.
    ends: u64,
    deadline: Instant,
    next_bookmark: Option<Instant>,
    changes: watch::Receiver<u64>,
    fault_changes: watch::Receiver<u64>,
    number: u64,
    _open: OpenWatch,
}

/// Answers with a watch, or with the error.
pub(super) fn open(
    cluster: &SimCluster,
    table: usize,
    served: Served,
    namespace: &str,
    query: &Query,
    format: Format,
) -> Result<Response, Status> {
    check_options(cluster, query)?;
    let selection = Selection::parse(&served, namespace, &query.labels, &query.fields)
        .map_err(|message| Status::bad_request(&message))?;
    // Taken before the store is read: whatever happens from here on is noticed.
    let changes = cluster.changes();
    let fault_changes = cluster.faults().changes();
    let ends = cluster.watch_ends(served.is_cached());
    let bookmarks = query.bookmarks && served.is_cached();
    let scope = Scope {
        cluster: cluster.clone(),
        table,
        served,
        selection,
        format,
    };
    let beginning = scope.begin(query)?;
    let timeout = query
        .timeout
        .unwrap_or_else(|| Duration::from_secs(rand::rng().random_range(TIMEOUT_SECONDS)));
    let now = Instant::now();
    let mut watch = Watch {
        beginning: beginning.lines.into(),
        cursor: beginning.cursor,
        over: beginning.over,
        held: false,
        ends,
        deadline: now + timeout,
        next_bookmark: None,
        changes,
        fault_changes,
        number: cluster.faults().number_watch(),
        _open: cluster.open_watch(),
        scope,
    };
    if bookmarks {
        watch.plan_bookmark(now);
    }
    let lines = futures::stream::unfold(watch, Watch::next);
    Ok(json_response(Body::from_stream(lines)))
}

fn check_options(cluster: &SimCluster, query: &Query) -> Result<(), Status> {
    match (query.send_initial_events, query.rv_match) {
        (Some(_), _) if cluster.faults().strike(Fault::NoWatchList).is_some() => {
            Err(Status::invalid(
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the \
                 WatchList feature gate is enabled",
            ))
        }
        (Some(_), RvMatch::NotOlderThan) | (None, RvMatch::Unset) => Ok(()),
        (Some(_), _) => Err(Status::invalid(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting \
             resourceVersionMatch to NotOlderThan",
        )),
        (None, _) => Err(Status::invalid(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless \
             sendInitialEvents is provided",
        )),
    }
}

impl Scope {
    fn begin(&self, query: &Query) -> Result<Beginning, Status> {
        let from = query.rv.filter(|rv| *rv > 0);
        let wants_state = query.send_initial_events.unwrap_or_else(|| from.is_none());
        self.cluster.read(|store| {
            let current = store.revision();
            if wants_state {
                let asked = from.unwrap_or(0);
                return Ok(if asked > current {
                    Beginning {
                        lines: Status::too_large(asked, current).line(),
                        over: true,
                        ..Beginning::default()
                    }
                } else {
                    let ends_with_bookmark = query.bookmarks && query.send_initial_events.is_some();
                    self.begin_with_state(store, ends_with_bookmark)
                });
            }
            let cursor = from.unwrap_or(current);
            if let Err(gone) = store.check_watchable(self.table, cursor) {
                if self.cluster.faults().strike(Fault::HttpGone410).is_some() {
                    return Err(expired(gone, cursor));
                }
                return Ok(Beginning {
                    lines: self.gone_line(gone, cursor),
                    over: true,
                    cursor,
                });
            }
            let mut lines = Vec::new();
            if let Some(Fault::ReplayEvents(count)) =
                self.cluster.faults().strike(Fault::ReplayEvents(0))
            {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                for entry in store.changes_before(self.table, cursor, count) {
                    self.write_entry(&mut lines, &entry);
                }
            }
            Ok(Beginning {
                lines,
                cursor,
                over: false,
            })
        })
    }

    /// The objects as they are, as additions in no order (watch trap T8).
    fn begin_with_state(&self, store: &Store, ends_with_bookmark: bool) -> Beginning {
        let cursor = store.revision();
        let page = store.page(self.table, cursor, "", &self.selection, usize::MAX);
        let mut items = page.items;
        items.shuffle(&mut SmallRng::seed_from_u64(cursor));
        let mut lines = Vec::new();
        for item in &items {
            self.write_line(&mut lines, Change::Added, item);
        }
        if ends_with_bookmark {
            self.write_bookmark(&mut lines, cursor, true);
        }
        Beginning {
            lines,
            cursor,
            over: false,
        }
    }

    /// The last line of a watch whose position is gone; `None` if the server sends nothing.
    fn gone_line(&self, gone: Gone, rv: u64) -> Vec<u8> {
        if self
            .cluster
            .faults()
            .strike(Fault::SilentClose410)
            .is_some()
        {
            Vec::new()
        } else {
            expired(gone, rv).line()
        }
    }

    /// Appends a change as this watch sees it, which with a selector may be another than it was.
    fn write_entry(&self, out: &mut Vec<u8>, entry: &Entry) {
        let before = entry.before.as_ref();
        let was = before.is_some_and(|object| self.selection.matches(object));
        let is = entry.change != Change::Deleted && self.selection.matches(&entry.object);
        match (was, is, before) {
            (false, true, _) => self.write_line(out, Change::Added, &entry.object),
            (true, true, _) => self.write_line(out, Change::Modified, &entry.object),
            (true, false, _) if entry.change == Change::Deleted => {
                self.write_line(out, Change::Deleted, &entry.object);
            }
            // It no longer matches: the watch sees what it was, at the revision of the change.
            (true, false, Some(before)) => {
                self.write_line(out, Change::Deleted, &Arc::new(before.at_rv(entry.rv)));
            }
            _ => {}
        }
    }

    fn write_line(&self, out: &mut Vec<u8>, change: Change, object: &Arc<Object>) {
        let head: &[u8] = match change {
            Change::Added | Change::Snapshot => br#"{"type":"ADDED","object":"#,
            Change::Modified => br#"{"type":"MODIFIED","object":"#,
            Change::Deleted => br#"{"type":"DELETED","object":"#,
        };
        out.extend_from_slice(head);
        match self.format {
            Format::Full => out.extend_from_slice(object.json()),
            Format::Partial => object.write_partial(out),
        }
        out.extend_from_slice(b"}\n");
    }

    fn write_bookmark(&self, out: &mut Vec<u8>, rv: u64, ends_initial_events: bool) {
        let (kind, api_version) = match self.format {
            Format::Full => (self.served.kind.clone(), self.served.api_version()),
            Format::Partial => ("PartialObjectMetadata".into(), "meta.k8s.io/v1".into()),
        };
        let annotations = if ends_initial_events {
            r#","annotations":{"k8s.io/initial-events-end":"true"}"#
        } else {
            ""
        };
        let line = format!(
            r#"{{"type":"BOOKMARK","object":{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{rv}"{annotations}}}}}}}"#
        );
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
}

fn expired(gone: Gone, rv: u64) -> Status {
    match gone {
        Gone::Compacted => {
            Status::expired("The resourceVersion for the provided watch is too old.")
        }
        Gone::BeforeWatchCache(start) => {
            Status::expired(&format!("too old resource version: {rv} ({start})"))
        }
    }
}

impl Watch {
    /// The next bytes of the body. An error breaks the connection off.
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        loop {
            let faults = self.scope.cluster.faults();
            let stopping = &self.scope.cluster.context().stopping;
            if faults.is_on(Fault::Stall) && !stopping.is_cancelled() {
                tokio::select! {
                    _ = self.fault_changes.changed() => {}
                    () = stopping.cancelled() => {}
                }
                continue;
            }
            if faults.is_on(Fault::HoldLines) && !self.must_end() {
                self.held = true;
                // It ends as soon as it is not held, without a bookmark: there is no wait for one.
                self.next_bookmark = None;
                self.wait().await;
                continue;
            }
            if (faults.is_on(Fault::Unreachable) || self.held) && !self.over {
                self.over = true;
                return Some((Err(io::ErrorKind::ConnectionReset.into()), self));
            }
            if !self.over && faults.strike(Fault::InternalErrorLine).is_some() {
                self.over = true;
                return Some((Ok(Status::internal_error().line().into()), self));
            }
            if !self.beginning.is_empty() {
                let beginning = std::mem::take(&mut self.beginning);
                return Some((Ok(beginning), self));
            }
            if self.over || self.must_end() {
                return None;
            }
            self.changes.mark_unchanged();
            let lines = self.read();
            if !lines.is_empty() {
                return Some((Ok(lines.into()), self));
            }
            if !self.over {
                self.wait().await;
            }
        }
    }

    fn must_end(&self) -> bool {
        let cluster = &self.scope.cluster;
        cluster.context().stopping.is_cancelled()
            || cluster.watch_ends(self.scope.served.is_cached()) != self.ends
            || Instant::now() >= self.deadline
    }

    /// What can be sent now: changes, else a bookmark that is due.
    fn read(&mut self) -> Vec<u8> {
        let faults = self.scope.cluster.faults();
        let is_held = faults.holds_events(self.number);
        let bookmarks_are_early = is_held && faults.is_on(Fault::EarlyBookmarks);
        let mut lines = if is_held {
            Vec::new()
        } else {
            self.read_changes()
        };
        let now = Instant::now();
        if lines.is_empty() && self.next_bookmark.is_some_and(|due| due <= now) {
            let reached = if bookmarks_are_early {
                self.scope.cluster.read(Store::revision)
            } else {
                self.cursor
            };
            self.scope.write_bookmark(&mut lines, reached, false);
            self.plan_bookmark(now);
        }
        lines
    }

    /// The next changes, or that they are gone.
    fn read_changes(&mut self) -> Vec<u8> {
        let mut lines = Vec::new();
        let scope = &self.scope;
        loop {
            let read = scope
                .cluster
                .read(|store| store.changes_after(scope.table, self.cursor, BATCH_CHANGES_MAX));
            let (entries, reached) = match read {
                Ok(read) => read,
                Err(gone) => {
                    self.over = true;
                    return scope.gone_line(gone, self.cursor);
                }
            };
            self.cursor = reached;
            for entry in &entries {
                let length = lines.len();
                scope.write_entry(&mut lines, entry);
                if lines.len() == length {
                    continue;
                }
                let faults = scope.cluster.faults();
                if faults.drops_event() {
                    lines.truncate(length);
                } else if faults.strike(Fault::RepeatEvents).is_some() {
                    lines.extend_from_within(length..);
                }
            }
            // A full batch of which nothing is for us: there may be more.
            if !lines.is_empty() || entries.len() < BATCH_CHANGES_MAX {
                return lines;
            }
        }
    }

    /// The real server's rule: regularly, and once more shortly before the timeout.
    fn plan_bookmark(&mut self, now: Instant) {
        let regular = now + self.scope.cluster.context().bookmark_interval;
        let last = self.deadline.checked_sub(BOOKMARK_BEFORE_TIMEOUT);
        self.next_bookmark = match last {
            Some(last) if now < last && last < regular => Some(last),
            _ => Some(regular),
        };
    }

    async fn wait(&mut self) {
        let until = self
            .next_bookmark
            .map_or(self.deadline, |due| due.min(self.deadline));
        tokio::select! {
            _ = self.changes.changed() => {}
            _ = self.fault_changes.changed() => {}
            () = sleep_until(until) => {}
            () = self.scope.cluster.context().stopping.cancelled() => {}
        }
    }
}
