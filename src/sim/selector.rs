//! Label and field selectors, as Kubernetes writes them.

use super::{kind::Served, object::Object};

/// Which objects of a resource a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    /// Only this namespace; empty for all.
    pub(super) namespace: String,
    labels: Vec<LabelRule>,
    fields: Vec<FieldRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelRule {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldRule {
    path: String,
    value: String,
    equal: bool,
}

/// Fields of Events that can be selected by, as the real server has them.
const EVENT_FIELDS: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
const POD_FIELDS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.phase",
    "status.podIP",
];

impl Selection {
    /// Reads both selectors; the error is a message for the client.
    pub(super) fn parse(
        served: &Served,
        namespace: &str,
        labels: &str,
        fields: &str,
    ) -> Result<Self, String> {
        let fields = parse_fields(fields)?;
        let known = match served.resource.plural.as_str() {
            "events" => EVENT_FIELDS,
            "pods" => POD_FIELDS,
            _ => &[],
        };
        for FieldRule { path, .. } in &fields {
            if !matches!(path.as_str(), "metadata.name" | "metadata.namespace")
                && !known.contains(&path.as_str())
            {
                return Err(format!("field label not supported: {path}"));
            }
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            labels: parse_labels(labels)?,
            fields,
        })
    }

    /// Whether a label or field selector narrows it.
    pub(super) fn is_selective(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    pub(super) fn matches(&self, object: &Object) -> bool {
        (self.namespace.is_empty() || *self.namespace == *object.identity.namespace)
            && self.labels.iter().all(|rule| rule.matches(object))
            && self.fields.iter().all(|rule| rule.matches(object))
    }
}

impl LabelRule {
    fn matches(&self, object: &Object) -> bool {
        let labels = object.labels();
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::Absent(key) => !labels.contains_key(key),
        }
    }
}

impl FieldRule {
    fn matches(&self, object: &Object) -> bool {
        // `source` stands for the component inside it.
        let path = match self.path.as_str() {
            "source" => "source.component",
            path => path,
        };
        (object.field(path) == self.value) == self.equal
    }
}

fn parse_fields(text: &str) -> Result<Vec<FieldRule>, String> {
    let terms = text
        .split(',')
        .map(str::trim)
        .filter(|term| !term.is_empty());
    terms
        .map(|term| {
            let (path, value, equal) = term
                .split_once("!=")
                .map(|(path, value)| (path, value, false))
                .or_else(|| {
                    let (path, value) = term.split_once("==").or_else(|| term.split_once('='))?;
                    Some((path, value, true))
                })
                .ok_or_else(|| {
                    format!("invalid field selector: {text:?}; can't understand {term:?}")
                })?;
            Ok(FieldRule {
                path: path.trim().to_owned(),
                value: value.trim().to_owned(),
                equal,
            })
        })
        .collect()
}

fn parse_labels(text: &str) -> Result<Vec<LabelRule>, String> {
    split_outside_parentheses(text)
        .into_iter()
        .map(str::trim)
        .filter(|term| !term.is_empty())
        .map(|term| {
            parse_label(term)
                .ok_or_else(|| format!("unable to parse requirement: {term:?} in {text:?}"))
        })
        .collect()
}

fn parse_label(term: &str) -> Option<LabelRule> {
    let key_ok = |key: &str| !key.is_empty() && !key.contains([' ', '(', ')', '=', '!']);
    let rule = if let Some((key, set)) = split_set(term, " notin") {
        LabelRule::NotIn(key, set?)
    } else if let Some((key, set)) = split_set(term, " in") {
        LabelRule::In(key, set?)
    } else if let Some((key, value)) = term.split_once("!=") {
        LabelRule::NotIn(key.trim().into(), vec![value.trim().into()])
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        LabelRule::In(key.trim().into(), vec![value.trim().into()])
    } else if let Some(key) = term.strip_prefix('!') {
        LabelRule::Absent(key.trim().into())
    } else {
        LabelRule::Exists(term.into())
    };
    let (LabelRule::In(key, _)
    | LabelRule::NotIn(key, _)
    | LabelRule::Exists(key)
    | LabelRule::Absent(key)) = &rule;
    key_ok(key).then_some(rule)
}

/// `key in (a,b)`: the key and the values, the values `None` where their parentheses are wrong.
fn split_set(term: &str, word: &str) -> Option<(String, Option<Vec<String>>)> {
    let (key, rest) = term.split_once(word)?;
    let rest = rest.trim_start();
    if !rest.starts_with('(') {
        return None;
    }
    let values = rest
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .map(|inner| inner.split(',').map(|v| v.trim().to_owned()).collect());
    Some((key.trim().to_owned(), values))
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{Selection, Served};
    use crate::sim::{
        manifest::Manifest,
        object::{Identity, Object, key_of},
    };

    fn selects(labels: &str, fields: &str) -> Result<bool, String> {
        let served = Served::new("v1/events".parse().unwrap());
        let identity = Identity {
            key: key_of("default", "a").into(),
            namespace: "default".into(),
            name: "a".into(),
            uid: "u".into(),
            created: "t".into(),
        };
        let manifest = Manifest::new("default", "a")
            .label("app", "web")
            .member("involvedObject", &serde_json::json!({"kind": "Pod"}))
            .member("type", &"Warning".into());
        let object = Object::new(&served, identity, 1, &manifest);
        Ok(Selection::parse(&served, "default", labels, fields)?.matches(&object))
    }

    #[test]
    fn label_selectors_mean_what_they_do_in_kubernetes() {
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,!tier", true),
            ("app!=web", false),
            ("app in (db, web),app", true),
            ("app notin (db,web)", false),
            ("tier notin (db)", true),
            ("tier", false),
        ] {
            assert_eq!(selects(text, ""), Ok(expected), "{text}");
        }
    }

    #[test]
    fn field_selectors_reach_the_fields_of_events() {
        for (text, expected) in [
            ("metadata.name=a", true),
            ("metadata.namespace!=default", false),
            ("involvedObject.kind=Pod,type=Warning", true),
            ("type!=Warning", false),
        ] {
            assert_eq!(selects("", text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        assert!(selects("", "spec.colour=red").is_err());
        assert!(selects("", "type").is_err());
        assert!(selects("app in (web", "").is_err());
        assert!(selects("a b=c", "").is_err());
    }
}
