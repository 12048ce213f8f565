//! Serves lists, and single objects.

use std::sync::Arc;

use axum::response::Response;
use serde_json::json;

use super::{
    fault::{Fault, Faults},
    kind::Served,
    object::Object,
    query::{Continue, Format, Query, RvMatch},
    selector::Selection,
    status::{Status, json_response},
    store::{Page, Store},
};

/// What a list was asked for and from where it is read.
struct Read {
    rv: u64,
    start: String,
    /// The revision that the list reports for itself.
    shown_rv: u64,
}

/// One page, to be rendered when the store is no longer held.
pub(super) struct Found {
    page: Page,
    rv: u64,
    kind: String,
    api_version: String,
    built_in: bool,
}

/// Lets the switches that strike lists strike.
pub(super) fn meet_faults(faults: &Faults, mut query: Query) -> Result<Query, Status> {
    if !query.continues.is_empty() && faults.strike(Fault::ExpireContinue).is_some() {
        let start = Continue::parse(&query.continues)?.start;
        return Err(Status::continue_expired(
            &Continue::new(-1, start).to_token(),
        ));
    }
    if query.rv_match == RvMatch::Exact && faults.strike(Fault::InexactLists).is_some() {
        query.rv_match = RvMatch::Unset;
        query.rv = None;
    }
    Ok(query)
}

/// Finds what a list is about.
pub(super) fn find(
    store: &Store,
    table: usize,
    served: &Served,
    namespace: &str,
    query: &Query,
) -> Result<Found, Status> {
    let selection = Selection::parse(served, namespace, &query.labels, &query.fields)
        .map_err(|message| Status::bad_request(&message))?;
    let read = if query.continues.is_empty() {
        first_page(store, query)?
    } else {
        next_page(store, query)?
    };
    let limit = match query.limit {
        0 => usize::MAX,
        limit => limit,
    };
    Ok(Found {
        page: store.page(table, read.rv, &read.start, &selection, limit),
        rv: read.shown_rv,
        kind: served.kind.clone(),
        api_version: served.api_version(),
        built_in: served.built_in,
    })
}

fn first_page(store: &Store, query: &Query) -> Result<Read, Status> {
    let current = store.revision();
    let at = |rv| Read {
        rv,
        start: String::new(),
        shown_rv: rv,
    };
    let exact = match (query.rv_match, query.rv) {
        (RvMatch::Exact, Some(0)) => {
            return Err(Status::invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"Exact\" is forbidden for \
                 resourceVersion \"0\"",
            ));
        }
        (RvMatch::Exact | RvMatch::NotOlderThan, None) => {
            return Err(Status::invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless \
                 resourceVersion is provided",
            ));
        }
        (RvMatch::Exact, Some(_)) => true,
        // A limit with a resource version and no match means exactly it, for old clients.
        (RvMatch::Unset, Some(rv)) => rv > 0 && query.limit > 0,
        _ => false,
    };
    match query.rv {
        Some(rv) if rv > current => Err(Status::too_large(rv, current)),
        Some(rv) if exact => {
            store.check_listable(rv).map_err(|_| {
                Status::expired("The resourceVersion for the provided list is too old.")
            })?;
            Ok(at(rv))
        }
        _ => Ok(at(current)),
    }
}

fn next_page(store: &Store, query: &Query) -> Result<Read, Status> {
    if query.rv.is_some_and(|rv| rv > 0) {
        return Err(Status::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let current = store.revision();
    let Continue { rv, start, .. } = Continue::parse(&query.continues)?;
    let Ok(rv) = u64::try_from(rv) else {
        // The client chose to continue without consistency (watch trap T17).
        return Ok(Read {
            rv: current,
            start,
            shown_rv: current,
        });
    };
    if rv > current {
        return Err(Status::too_large(rv, current));
    }
    if store.check_listable(rv).is_err() {
        let inconsistent = Continue::new(-1, start);
        return Err(Status::continue_expired(&inconsistent.to_token()));
    }
    Ok(Read {
        rv,
        start,
        shown_rv: rv,
    })
}

impl Found {
    /// The list as JSON.
    pub(super) fn response(self, format: Format) -> Response {
        let mut metadata = json!({ "resourceVersion": self.rv.to_string() });
        if let Some(last) = &self.page.last {
            metadata["continue"] = Continue::after(self.rv, last).to_token().into();
            if let Some(remaining) = self.page.remaining {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        let bytes: usize = self
            .page
            .items
            .iter()
            .map(|item| item.json().len() + 1)
            .sum();
        let mut body = Vec::with_capacity(bytes + 256);
        let Self {
            kind, api_version, ..
        } = &self;
        let head = match format {
            Format::Partial => format!(
                r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{metadata},"items":["#
            ),
            Format::Full if self.built_in => format!(
                r#"{{"kind":"{kind}List","apiVersion":"{api_version}","metadata":{metadata},"items":["#
            ),
            // Custom resources are served without a Go type, with their fields in order.
            Format::Full => format!(r#"{{"apiVersion":"{api_version}","items":["#),
        };
        body.extend_from_slice(head.as_bytes());
        for (index, item) in self.page.items.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            match format {
                Format::Full => item.write_item(&mut body),
                Format::Partial => item.write_partial(&mut body),
            }
        }
        let tail = if format == Format::Full && !self.built_in {
            format!(r#"],"kind":"{kind}List","metadata":{metadata}}}"#)
        } else {
            "]}".to_owned()
        };
        body.extend_from_slice(tail.as_bytes());
        json_response(body)
    }
}

/// One object as JSON.
pub(super) fn object_response(object: &Arc<Object>, format: Format) -> Response {
    match format {
        Format::Full => json_response(object.json().clone()),
        Format::Partial => {
            let mut body = Vec::new();
            object.write_partial(&mut body);
            json_response(body)
        }
    }
}
