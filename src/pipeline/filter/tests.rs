//! Filters as a whole, against a plain reading of what they ask.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest},
    sample::select,
};
use serde_json::{Value, json};

use super::{
    FieldSelector, Filter, Filters, KubernetesEventFilter, LabelSelector, Values, Verdict,
};
use crate::domain::{
    cluster::{Cluster, ClusterSpec, Health, Resource, Source, StreamSelector},
    event::{Change, Event, ObjectKey},
    id::{ClusterId, Epoch, Revision, UnixMillis},
};

fn values(texts: &[&str]) -> Values {
    texts.iter().map(ToString::to_string).collect()
}

fn labels(selector: &str) -> LabelSelector {
    LabelSelector::parse(selector).unwrap()
}

fn fields(selector: &str) -> FieldSelector {
    FieldSelector::parse(selector).unwrap()
}

fn cluster(name: &str, labels: &[(&str, &str)]) -> Cluster {
    let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    Cluster {
        id: ClusterId(1),
        spec: Arc::new(ClusterSpec {
            name: name.into(),
            labels: labels.collect(),
            source: Source::InCluster,
            resources: vec![],
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

fn stream(resource: &str, namespace: &str) -> StreamSelector {
    StreamSelector {
        namespace: namespace.into(),
        ..StreamSelector::all(resource.parse().unwrap())
    }
}

fn event(object: &str) -> Event {
    Event {
        change: Change::Added,
        rv: "1".parse().unwrap(),
        key: ObjectKey::new("x", "e.1", "u"),
        object: Bytes::copy_from_slice(object.as_bytes()),
        metadata_only: false,
        seen: UnixMillis(0),
    }
}

fn judge(filters: Vec<Filter>, event: &Event) -> Verdict {
    let filters = Filters::new(filters);
    let stream = filters.for_stream(&cluster("c", &[]), &stream("v1/events", ""));
    stream.unwrap().judge(event)
}

#[test]
fn fields_of_kubernetes_events_are_read_from_either_api_group() {
    let kubernetes_event = KubernetesEventFilter {
        kind: "pod".into(),
        reasons: values(&["Killing"]),
        sources: values(&["kubelet"]),
        ..KubernetesEventFilter::default()
    };
    let filter = Filter {
        kubernetes_event: Some(kubernetes_event),
        ..Filter::default()
    };
    let judge = |object: &str| judge(vec![filter.clone()], &event(object));
    for object in [
        r#"{"reason":"Killing","involvedObject":{"kind":"Pod"},"source":{"component":"kubelet"}}"#,
        r#"{"reason":"Killing","regarding":{"kind":"Pod"},"reportingController":"kubelet"}"#,
        r#"{"reason":"Killing","regarding":{"kind":"Pod"},"deprecatedSource":{"component":"kubelet"}}"#,
    ] {
        assert_eq!(judge(object), Verdict::Wanted, "{object}");
    }
    for object in [
        r#"{"reason":"Killing","involvedObject":{"kind":"Node"},"source":{"component":"kubelet"}}"#,
        r#"{"reason":"Started","involvedObject":{"kind":"Pod"},"source":{"component":"kubelet"}}"#,
        r#"{"reason":"Killing","involvedObject":{"kind":"Pod"},"source":{"component":"x"}}"#,
    ] {
        assert_eq!(judge(object), Verdict::Unmatched, "{object}");
    }
}

#[test]
fn a_field_selector_says_what_it_says_in_kubernetes() {
    let object = r#"{"type":"Warning","reason":"BackOff","source":{"component":"kubelet"},
        "involvedObject":{"kind":"Pod","namespace":"x","name":"a,b"}}"#;
    let judge = |selector: &str| {
        let filter = Filter {
            fields: fields(selector),
            ..Filter::default()
        };
        judge(vec![filter], &event(object))
    };
    for selector in [
        "",
        "type=Warning,reason==BackOff",
        "type!=Normal,involvedObject.kind=pod,involvedObject.namespace=x",
        "metadata.namespace=x,metadata.name!=e.2",
        r"involvedObject.name=a\,b",
        "source=kubelet,reportingComponent=",
        " type = Warning ",
    ] {
        assert_eq!(judge(selector), Verdict::Wanted, "{selector}");
    }
    for selector in [
        "type=Normal",
        "type!=Warning",
        "involvedObject.kind!=Pod",
        "involvedObject.uid=1",
        "source!=kubelet",
    ] {
        assert_eq!(judge(selector), Verdict::Unmatched, "{selector}");
    }
    for selector in ["metadata.namespace!=x", "metadata.name=e.2,type=Warning"] {
        assert_eq!(judge(selector), Verdict::Unwanted, "{selector}");
    }
}

#[test]
fn an_object_is_judged_by_its_labels_as_they_are_now() {
    let filter = Filter {
        object_labels: labels("app=web,!canary"),
        ..Filter::default()
    };
    let judge = |object: &str| judge(vec![filter.clone()], &event(object));
    for object in [
        r#"{"kind":"Pod","metadata":{"name":"a","labels":{"app":"web","x":"y"}}}"#,
        r#"{"metadata":{"labels":{"\u0061pp":"\u0077eb"}}}"#,
        // A filter is never the cause of a loss.
        "torn {",
        r#"{"metadata":{"labels":{"app":1}}}"#,
    ] {
        assert_eq!(judge(object), Verdict::Wanted, "{object}");
    }
    for object in [
        r#"{"metadata":{"labels":{"app":"web","canary":""}}}"#,
        r#"{"metadata":{"labels":{"app":"db"}},"type":{"not":"of an Event"}}"#,
        r#"{"metadata":{"labels":null}}"#,
        r#"{"metadata":{}}"#,
    ] {
        assert_eq!(judge(object), Verdict::Unmatched, "{object}");
    }
}

#[test]
fn what_an_object_has_lost_is_not_held_against_it() {
    let kubernetes_event = KubernetesEventFilter {
        types: values(&["Warning"]),
        ..KubernetesEventFilter::default()
    };
    let filter = |selector: &str| Filter {
        kubernetes_event: Some(kubernetes_event.clone()),
        object_labels: labels(selector),
        ..Filter::default()
    };
    let reduced = Event {
        metadata_only: true,
        ..event(r#"{"metadata":{"labels":{"a":"b"}}}"#)
    };
    assert_eq!(judge(vec![filter("")], &reduced), Verdict::Wanted);
    assert_eq!(judge(vec![filter("a=b")], &reduced), Verdict::Wanted);
    assert_eq!(judge(vec![filter("a=c")], &reduced), Verdict::Unmatched);
}

#[test]
fn a_stream_is_asked_for_only_what_it_can_have() {
    let production = cluster("prod", &[("env", "prod")]);
    let can_match = |filter: Filter, selector: &StreamSelector| {
        let filters = Filters::new(vec![filter]);
        filters.for_stream(&production, selector).is_some()
    };
    let pods = stream("v1/pods", "");
    let events = stream("v1/events", "");
    let of_a = stream("v1/pods", "a");
    let events_v1 = stream("events.k8s.io/v1/events", "");
    let asked = |change: fn(&mut Filter)| {
        let mut filter = Filter::default();
        change(&mut filter);
        filter
    };
    let in_a = asked(|f| f.namespaces = values(&["a", "b"]));
    let in_b = asked(|f| f.namespaces = values(&["b"]));
    let not_in_a = asked(|f| f.fields = fields("metadata.namespace!=a"));
    let of_events = asked(|f| f.kubernetes_event = Some(KubernetesEventFilter::default()));
    let warnings = asked(|f| f.fields = fields("type=Warning"));
    for (filter, selector) in [
        (Filter::default(), &pods),
        (asked(|f| f.clusters = values(&["prod", "x"])), &pods),
        (asked(|f| f.cluster_labels = labels("env=prod")), &pods),
        (
            asked(|f| f.resources = [Resource::events()].into()),
            &events,
        ),
        (in_a, &of_a),
        (in_b.clone(), &pods),
        (not_in_a.clone(), &pods),
        (of_events.clone(), &events),
        (of_events.clone(), &events_v1),
        (warnings.clone(), &events),
    ] {
        assert!(
            can_match(filter.clone(), selector),
            "{filter:?} {selector:?}"
        );
    }
    for (filter, selector) in [
        (asked(|f| f.clusters = values(&["x"])), &pods),
        (asked(|f| f.cluster_labels = labels("env!=prod")), &pods),
        (asked(|f| f.resources = [Resource::events()].into()), &pods),
        (
            asked(|f| f.resources = [Resource::events()].into()),
            &events_v1,
        ),
        (in_b, &of_a),
        (not_in_a, &of_a),
        (of_events, &pods),
        (warnings, &pods),
    ] {
        assert!(
            !can_match(filter.clone(), selector),
            "{filter:?} {selector:?}"
        );
    }
}

#[test]
fn a_stream_filter_is_equal_where_it_asks_the_same() {
    let filters = || {
        Filters::new(vec![
            Filter {
                clusters: values(&["a"]),
                names: values(&["x"]),
                ..Filter::default()
            },
            Filter {
                cluster_labels: labels("env=prod"),
                names: values(&["y"]),
                ..Filter::default()
            },
        ])
    };
    let pods = stream("v1/pods", "");
    let of = |name: &str, env: &str| filters().for_stream(&cluster(name, &[("env", env)]), &pods);
    assert_eq!(of("a", "test"), of("a", "dev"));
    assert_ne!(of("a", "test"), of("a", "prod"));
    assert_ne!(of("a", "test"), of("b", "prod"));
    assert_eq!(of("b", "test"), None);
}

#[test]
fn digests_never_change() {
    assert_eq!(Filters::default().digest(), NOTHING);
    assert_eq!(Filters::new(vec![Filter::default()]).digest(), NOTHING);
    let filters = Filters::new(vec![
        Filter {
            clusters: values(&["prod"]),
            cluster_labels: labels("env=prod,tier!=test"),
            resources: [Resource::events()].into(),
            namespaces: values(&["a", "b"]),
            names: values(&["x"]),
            object_labels: labels("a,!b,c in (d,e)"),
            changes: [Change::Added, Change::Snapshot].into(),
            kubernetes_event: Some(KubernetesEventFilter {
                types: values(&["Warning"]),
                kind: "Pod".into(),
                ..KubernetesEventFilter::default()
            }),
            fields: fields("reason=BackOff,metadata.name!=y"),
        },
        Filter {
            names: values(&["z"]),
            ..Filter::default()
        },
    ]);
    // Cursors out there carry them: another digest makes their holders read everything again.
    assert_eq!(filters.digest(), SOMETHING);
}

const NOTHING: u64 = 0xa8c7_f832_281a_39c5;
const SOMETHING: u64 = 0xfb32_8b7f_2713_3836;

/// What a filter asks, as it was written.
#[derive(Clone, Debug, Default)]
struct Asked {
    namespaces: Vec<String>,
    names: Vec<String>,
    changes: Vec<Change>,
    /// `key=value` or, where false, `key!=value`.
    labels: Option<(String, bool, String)>,
    kubernetes_event: Option<(Vec<String>, Vec<String>, String)>,
    /// A field, `=` or `!=`, a value.
    field: Option<(&'static str, bool, String)>,
}

impl Asked {
    fn filter(&self) -> Filter {
        let selector = |selector: &Option<(String, bool, String)>| {
            selector
                .as_ref()
                .map_or_else(String::new, |(key, equals, value)| {
                    format!("{key}{}{value}", if *equals { "=" } else { "!=" })
                })
        };
        let field = self.field.clone();
        let field = field.map(|(name, equals, value)| (name.to_owned(), equals, value));
        Filter {
            namespaces: self.namespaces.clone().into(),
            names: self.names.clone().into(),
            changes: self.changes.iter().copied().collect(),
            object_labels: labels(&selector(&self.labels)),
            kubernetes_event: self.kubernetes_event.clone().map(|(types, reasons, kind)| {
                KubernetesEventFilter {
                    types: types.into(),
                    reasons: reasons.into(),
                    kind,
                    ..KubernetesEventFilter::default()
                }
            }),
            fields: fields(&selector(&field)),
            ..Filter::default()
        }
    }

    /// Judged the slow way, from the object as a tree.
    fn judge(&self, event: &Event) -> Verdict {
        let one_of = |values: &[String], value: &str| {
            values.is_empty() || values.iter().any(|wanted| wanted == value)
        };
        let field_is = |name: &str, value: &str| match &self.field {
            Some((field, equals, wanted)) if *field == name => (wanted == value) == *equals,
            _ => true,
        };
        let identity = one_of(&self.namespaces, event.namespace())
            && one_of(&self.names, event.name())
            && (self.changes.is_empty() || self.changes.contains(&event.change))
            && field_is("metadata.name", event.name());
        if !identity {
            return Verdict::Unwanted;
        }
        let Ok(object) = serde_json::from_slice::<Value>(&event.object) else {
            return Verdict::Wanted;
        };
        let labels = self.labels.as_ref().is_none_or(|(key, equals, wanted)| {
            (object["metadata"]["labels"][key] == **wanted) == *equals
        });
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let fields = event.metadata_only
            || self
                .kubernetes_event
                .as_ref()
                .is_none_or(|(types, reasons, kind)| {
                    one_of(types, &text(&object["type"]))
                        && one_of(reasons, &text(&object["reason"]))
                        && (kind.is_empty()
                            || kind.to_lowercase()
                                == text(&object["involvedObject"]["kind"]).to_lowercase())
                })
                && field_is("reason", &text(&object["reason"]));
        if labels && fields {
            Verdict::Wanted
        } else {
            Verdict::Unmatched
        }
    }
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec("[ab]", 0..3)
}

fn any_change() -> impl Strategy<Value = Change> {
    let all = [
        Change::Added,
        Change::Modified,
        Change::Deleted,
        Change::Snapshot,
    ];
    select(all.to_vec())
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let requirement = ("[ab]", any::<bool>(), "[ab]");
    let field = (
        select(&["metadata.name", "reason"][..]),
        any::<bool>(),
        "[ab]",
    );
    let kubernetes_event = (texts(), texts(), "[abAB]?");
    (
        texts(),
        texts(),
        vec(any_change(), 0..3),
        option::of(requirement),
        option::of(kubernetes_event),
        option::of(field),
    )
        .prop_map(
            |(namespaces, names, changes, labels, kubernetes_event, field)| Asked {
                namespaces,
                names,
                changes,
                labels,
                kubernetes_event,
                field,
            },
        )
}

fn any_object() -> impl Strategy<Value = String> {
    let labels = btree_map("[ab]", "[ab]", 0..3);
    let kubernetes_event = (labels, "[ab]", "[ab]", "[ab]").prop_map(
        |(labels, kind, reason, about): (BTreeMap<_, _>, _, _, _)| {
            json!({
                "metadata": {"name": "a", "labels": labels},
                "type": kind, "reason": reason, "involvedObject": {"kind": about},
            })
            .to_string()
        },
    );
    prop_oneof![9 => kubernetes_event, 1 => Just("torn {".to_owned())]
}

fn any_event() -> impl Strategy<Value = Event> {
    (any_change(), "[ab]", "[ab]", any_object(), any::<bool>()).prop_map(
        |(change, namespace, name, object, metadata_only)| Event {
            change,
            key: ObjectKey::new(&namespace, &name, "u"),
            metadata_only,
            ..event(&object)
        },
    )
}

proptest! {
    #[test]
    fn an_event_is_judged_by_the_filter_that_wants_it_most(
        asked in vec(any_asked(), 0..4),
        event in any_event(),
    ) {
        let verdicts: Vec<_> = asked.iter().map(|asked| asked.judge(&event)).collect();
        let expected = if asked.is_empty() || verdicts.contains(&Verdict::Wanted) {
            Verdict::Wanted
        } else if verdicts.contains(&Verdict::Unmatched) {
            Verdict::Unmatched
        } else {
            Verdict::Unwanted
        };
        prop_assert_eq!(judge(asked.iter().map(Asked::filter).collect(), &event), expected);
    }

    #[test]
    fn a_digest_does_not_depend_on_the_order(
        asked in vec(any_asked(), 0..4).prop_map(|asked| asked.iter().map(Asked::filter).collect::<Vec<_>>()),
        shuffled in vec(any_asked(), 0..4).prop_flat_map(|asked| (Just(asked.clone()), Just(asked).prop_shuffle())),
    ) {
        let digest = |asked: &[Asked], reversed: bool| {
            let filters = asked.iter().map(|asked| {
                let mut asked = asked.clone();
                if reversed {
                    asked.namespaces.reverse();
                    asked.names.reverse();
                    asked.changes.reverse();
                }
                asked.filter()
            });
            Filters::new(filters.collect()).digest()
        };
        prop_assert_eq!(digest(&shuffled.0, false), digest(&shuffled.1, true));
        // And no two that ask for different things have the same.
        let other = Filters::new(shuffled.0.iter().map(Asked::filter).collect());
        let own = Filters::new(asked);
        let same = |a: &Filters, b: &Filters| {
            a.filters.iter().all(|filter| b.filters.contains(filter))
        };
        let equal = own.filters.is_empty() == other.filters.is_empty()
            && same(&own, &other) && same(&other, &own);
        prop_assert_eq!(own.digest() == other.digest(), equal);
    }
}
