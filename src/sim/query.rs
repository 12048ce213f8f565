//! The options of a list or a watch.

use std::{collections::BTreeMap, time::Duration};

use axum::http::{HeaderMap, Uri, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::status::Status;

/// The options of a list or a watch, as the client gave them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) watch: bool,
    /// Most items on a page; 0 for all.
    pub(super) limit: usize,
    /// The continue token; empty for none.
    pub(super) continues: String,
    /// `None` where it was not given. One too long for us is beyond any revision of ours.
    pub(super) rv: Option<u64>,
    pub(super) rv_match: RvMatch,
    pub(super) labels: String,
    pub(super) fields: String,
    pub(super) timeout: Option<Duration>,
    pub(super) bookmarks: bool,
    pub(super) send_initial_events: Option<bool>,
}

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RvMatch {
    #[default]
    Unset,
    Exact,
    NotOlderThan,
}

/// How much of each object is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Full,
    /// Only the metadata.
    Partial,
}

/// What a continue token holds, as on the real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Continue {
    v: String,
    /// The list's revision; -1 where the rest is taken as it is now.
    pub(super) rv: i64,
    /// The key at which the next page begins.
    pub(super) start: String,
}

impl Continue {
    pub(super) fn new(rv: i64, start: String) -> Self {
        let v = "meta.k8s.io/v1".into();
        Self { v, rv, start }
    }

    /// After the last key of a page.
    pub(super) fn after(rv: u64, key: &str) -> Self {
        Self::new(i64::try_from(rv).unwrap_or(i64::MAX), format!("{key}\0"))
    }

    pub(super) fn to_token(&self) -> String {
        // Three plain fields always serialise.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(super) fn parse(token: &str) -> Result<Self, Status> {
        let refuse = || Status::bad_request("continue key is not valid");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refuse())?;
        serde_json::from_slice(&bytes).map_err(|_| refuse())
    }
}

impl Query {
    pub(super) fn parse(uri: &Uri) -> Result<Self, Status> {
        let pairs = axum::extract::Query::<BTreeMap<String, String>>::try_from_uri(uri)
            .map_err(|error| Status::bad_request(&error.body_text()))?
            .0;
        let text = |name: &str| pairs.get(name).map(String::as_str).unwrap_or_default();
        let flag = |name: &str| {
            let value = pairs.get(name)?;
            Some(!matches!(value.as_str(), "0" | "false" | "False" | "FALSE"))
        };
        let number = |name: &str| match text(name) {
            "" => Ok(None),
            value => value.parse::<u64>().map(Some).map_err(|_| {
                Status::bad_request(&format!("strconv: parsing {value:?}: invalid {name}"))
            }),
        };
        let rv = match text("resourceVersion") {
            "" => None,
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().unwrap_or(u64::MAX))
            }
            other => {
                return Err(Status::bad_request(&format!(
                    "invalid resource version {other:?}"
                )));
            }
        };
        let rv_match = match text("resourceVersionMatch") {
            "" => RvMatch::Unset,
            "Exact" => RvMatch::Exact,
            "NotOlderThan" => RvMatch::NotOlderThan,
            other => {
                return Err(Status::invalid(&format!(
                    "resourceVersionMatch: Unsupported value: {other:?}: supported values: \
                     \"Exact\", \"NotOlderThan\""
                )));
            }
        };
        Ok(Self {
            watch: flag("watch") == Some(true),
            limit: number("limit")?.map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX)),
            continues: text("continue").to_owned(),
            rv,
            rv_match,
            labels: text("labelSelector").to_owned(),
            fields: text("fieldSelector").to_owned(),
            timeout: number("timeoutSeconds")?
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            bookmarks: flag("allowWatchBookmarks") == Some(true),
            send_initial_events: flag("sendInitialEvents"),
        })
    }
}

impl Format {
    /// The first form that is accepted and known.
    pub(super) fn negotiate(headers: &HeaderMap) -> Self {
        let accepts = headers
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let first = accepts.split(',').find(|one| one.contains("json"));
        match first {
            Some(one) if one.contains("as=PartialObjectMetadata") => Self::Partial,
            _ => Self::Full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Continue, Duration, Format, HeaderMap, Query, RvMatch, header};

    fn query(text: &str) -> Result<Query, super::Status> {
        Query::parse(&format!("/api/v1/events?{text}").parse().unwrap())
    }

    #[test]
    fn options_are_read_as_kube_clients_write_them() {
        let read = query(
            "&watch=true&timeoutSeconds=290&allowWatchBookmarks=true&resourceVersion=12\
             &labelSelector=app%20in%20(a%2Cb)&sendInitialEvents=true\
             &resourceVersionMatch=NotOlderThan",
        );
        let read = read.unwrap();
        assert!(read.watch && read.bookmarks);
        assert_eq!((read.rv, read.rv_match), (Some(12), RvMatch::NotOlderThan));
        assert_eq!(read.labels, "app in (a,b)");
        assert_eq!(read.timeout, Some(Duration::from_secs(290)));
        assert_eq!(read.send_initial_events, Some(true));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "resourceVersion=abc",
            "limit=x",
            "resourceVersionMatch=Newest",
        ] {
            assert!(query(text).is_err(), "{text}");
        }
        assert!(Continue::parse("???").is_err());
        assert_eq!(
            query("resourceVersion=99999999999999999999").unwrap().rv,
            Some(u64::MAX)
        );
    }

    #[test]
    fn a_continue_token_reads_back_as_written() {
        let token = Continue::after(7, "default/a");
        assert_eq!(Continue::parse(&token.to_token()).unwrap(), token);
    }

    #[test]
    fn metadata_alone_is_sent_to_those_who_ask_for_it() {
        let mut headers = HeaderMap::new();
        assert_eq!(Format::negotiate(&headers), Format::Full);
        let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        headers.insert(header::ACCEPT, partial.parse().unwrap());
        assert_eq!(Format::negotiate(&headers), Format::Partial);
    }
}
