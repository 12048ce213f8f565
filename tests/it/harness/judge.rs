//! Judges what subscribers of a [`Stage`] received, and what its API server was asked.

use std::collections::{BTreeMap, BTreeSet};

use quorumwatch::{
    client::Begin,
    domain::event::Change,
    proto::v1::GapReason,
    sim::{AuditReport, Commit, Ledger, SeenRequest},
};

use super::{
    recorder::{Record, Recorder},
    stage::{CONFIGMAPS, EVENTS, Stage, both},
};

/// The gaps of each stream that a subscriber must receive: why, and whether repaired.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gaps<'a> {
    pub(crate) events: &'a [(GapReason, bool)],
    pub(crate) configmaps: &'a [(GapReason, bool)],
    /// Whether the same may come several times in a row: what is wrong stays for a while.
    pub(crate) repeated: bool,
}

impl Stage {
    /// Judges what a subscriber received: the gaps are these and no others, and outside of them
    /// nothing is lost, changed, out of order or received twice.
    pub(crate) fn judge(&self, who: &str, recorder: &Recorder, begin: &Begin, gaps: Gaps<'_>) {
        let record = recorder.record();
        let mut ledger = self.cluster.ledger();
        let watched = both();
        ledger
            .commits
            .retain(|commit| watched.contains(&commit.resource));
        let from = match begin {
            Begin::Snapshot => BTreeMap::new(),
            Begin::Now | Begin::After(_) => [(self.name.clone(), self.from.clone())].into(),
        };
        let report: AuditReport = record.audit.report(&[ledger.clone()], &from);
        let script = &record.kept().script;
        assert!(report.is_clean(), "{who}: {report:#?}\n{script:#?}");
        assert_eq!(record.not_after, 0, "{who}: {script:#?}");
        for resource in [EVENTS, CONFIGMAPS] {
            let received: Vec<_> = record
                .gaps
                .iter()
                .filter(|gap| gap.resource == resource)
                .collect();
            let mut reasons: Vec<_> = received
                .iter()
                .map(|gap| (gap.reason(), gap.repaired))
                .collect();
            if gaps.repeated {
                reasons.dedup();
            }
            let expected = if resource == EVENTS {
                gaps.events
            } else {
                gaps.configmaps
            };
            assert_eq!(reasons, expected, "{who}, {resource}: {script:#?}");
            // A log has only what changed, until a snapshot gives it the rest.
            let has_all = *begin == Begin::Snapshot || received.iter().any(|gap| !gap.repaired);
            let (copy, exists) = (copied(&record, resource), existing(&ledger, resource));
            let is_watched = record
                .streams
                .values()
                .any(|stream| stream.resource == resource);
            if has_all && is_watched {
                assert_eq!(copy, exists, "{who}, {resource}: {script:#?}");
            } else {
                assert!(
                    copy.is_subset(&exists),
                    "{who}, {resource}: {copy:?} {exists:?}"
                );
            }
        }
    }

    /// The same where it does not matter which gaps there are.
    pub(crate) fn judge_but_gaps(&self, who: &str, recorder: &Recorder, begin: &Begin) {
        let received = recorder.record().gaps.clone();
        let of = |resource: &str| -> Vec<_> {
            let gaps = received.iter().filter(|gap| gap.resource == resource);
            gaps.map(|gap| (gap.reason(), gap.repaired)).collect()
        };
        let (events, configmaps) = (of(EVENTS), of(CONFIGMAPS));
        let gaps = Gaps {
            events: &events,
            configmaps: &configmaps,
            repeated: false,
        };
        self.judge(who, recorder, begin, gaps);
    }

    /// Whether a subscriber has every object as it is now; a log those at least that it saw change.
    pub(crate) fn has_all_objects(&self, record: &Record, begin: &Begin) -> bool {
        let ledger = self.cluster.ledger();
        [EVENTS, CONFIGMAPS].iter().all(|resource| {
            let (copy, exists) = (copied(record, resource), existing(&ledger, resource));
            let unchanged =
                |(_, name, _, _): &&Existing| ["kept", "changed"].contains(&name.as_str());
            match begin {
                Begin::Snapshot => copy == exists,
                _ => exists.difference(&copy).all(|it| unchanged(&it)) && copy.is_subset(&exists),
            }
        })
    }
}

/// What we never ask for, because API servers differ there or answer with an old state: initial
/// events in a watch, parts of a resource, any version, and HTTP/2.
pub(super) fn expect_plain_requests(requests: &[SeenRequest]) {
    for request in requests {
        let SeenRequest {
            target, protocol, ..
        } = request;
        assert!(!target.contains("sendInitialEvents"), "{target}");
        assert!(!target.contains("shardSelector"), "{target}");
        assert_eq!(protocol, "HTTP/1.1", "{target}");
        // The UID of a namespace never changes: an old state has it, too.
        let is_identity = target.contains("/namespaces/kube-system?");
        let any_version = target.split(['?', '&']).any(|it| it == "resourceVersion=0");
        assert!(is_identity || !any_version, "{target}");
        let has_version = target.contains("resourceVersion=");
        assert!(has_version || !target.contains("watch=true"), "{target}");
    }
    assert!(requests.len() > 4, "{requests:?}");
}

/// An object: its namespace, name, UID and version.
type Existing = (String, String, String, String);

/// What a client has of a resource.
fn copied(record: &Record, resource: &str) -> BTreeSet<Existing> {
    let table = &record.kept().table;
    let objects = table.iter();
    let of = |stream: &str| table.streams()[stream].description().resource == resource;
    objects
        .filter(|(stream, ..)| of(stream))
        .map(|(_, key, object)| {
            let (namespace, name) = (key.namespace.clone(), key.name.clone());
            (
                namespace,
                name,
                object.uid.clone(),
                object.resource_version.clone(),
            )
        })
        .collect()
}

/// What exists of it, by the ledger.
fn existing(ledger: &Ledger, resource: &str) -> BTreeSet<Existing> {
    let mut past: Vec<&Commit> = Vec::new();
    for history in 0..=ledger.histories.len() {
        if let Some(cut) = history.checked_sub(1).map(|cut| ledger.histories[cut]) {
            past.retain(|commit| cut.continues.is_some_and(|rv| commit.rv <= rv));
        }
        let of_it = |commit: &&Commit| usize::try_from(commit.history).unwrap() == history;
        past.extend(ledger.commits.iter().filter(of_it));
    }
    let mut objects = BTreeMap::new();
    for commit in past {
        if commit.resource.to_string() != resource {
            continue;
        }
        let key = (commit.namespace.to_string(), commit.name.to_string());
        match commit.change {
            Change::Deleted => drop(objects.remove(&key)),
            _ => drop(objects.insert(key, (commit.uid.to_string(), commit.rv.to_string()))),
        }
    }
    let flat = |((namespace, name), (uid, rv))| (namespace, name, uid, rv);
    objects.into_iter().map(flat).collect()
}
