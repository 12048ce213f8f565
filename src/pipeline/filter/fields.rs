//! Field selectors in Kubernetes' words, over the fields that Kubernetes Events can be selected by.

use super::{Digest, KubernetesEvent, REQUIREMENTS_MAX, clipped};
use crate::domain::label::is_dns_label;

/// A field selector: `type=Warning,involvedObject.kind!=Pod`. Requirements are joined by "and";
/// there are objects that satisfy all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// What is required of the fields that every object has and none can change.
    metadata: Box<[Requirement]>,
    /// What is required of those of Kubernetes Events.
    kubernetes_event: Box<[Requirement]>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Requirement {
    field: Field,
    /// `=`, or else `!=`.
    equals: bool,
    /// In lower case where the field is a kind.
    value: String,
}

/// A field that objects can be selected by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Namespace,
    Name,
    Type,
    Reason,
    Source,
    ReportingComponent,
    ObjectKind,
    ObjectNamespace,
    ObjectName,
    ObjectUid,
}

/// Every field that is known, by its name.
const FIELDS: &[(&str, Field)] = &[
    ("metadata.namespace", Field::Namespace),
    ("metadata.name", Field::Name),
    ("type", Field::Type),
    ("reason", Field::Reason),
    ("source", Field::Source),
    ("reportingComponent", Field::ReportingComponent),
    ("involvedObject.kind", Field::ObjectKind),
    ("involvedObject.namespace", Field::ObjectNamespace),
    ("involvedObject.name", Field::ObjectName),
    ("involvedObject.uid", Field::ObjectUid),
];

/// Why a text is not a field selector, or one that nothing can satisfy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAFieldSelector {
    /// Not a requirement.
    #[error("{0:?} is not a requirement on a field: write one of field=value, field!=value")]
    Malformed(String),
    /// A field that nothing can be selected by.
    #[error("{0:?} is not a field that can be selected by; these are: {list}", list = known())]
    UnknownField(String),
    /// No object has this value there.
    #[error("no object has {value:?} as its {field}: {instead}")]
    Value {
        /// The field.
        field: &'static str,
        /// The value.
        value: String,
        /// What to write.
        instead: &'static str,
    },
    /// More than are tried for each event.
    #[error("{0} requirements; the maximum is {max}: use several filters", max = REQUIREMENTS_MAX)]
    TooMany(usize),
    /// No object satisfies it.
    #[error(
        "what is required of {0} excludes itself, so nothing can match: for \"or\" use several \
         filters"
    )]
    Contradiction(&'static str),
}

fn known() -> String {
    let names: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

impl FieldSelector {
    /// Reads a selector; an empty text requires nothing. Gives all that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<NotAFieldSelector>> {
        let mut terms = split(text);
        terms.retain(|term| !term.trim().is_empty());
        if terms.len() > REQUIREMENTS_MAX {
            return Err(vec![NotAFieldSelector::TooMany(terms.len())]);
        }
        let mut requirements = Vec::new();
        let mut errors = Vec::new();
        for term in terms {
            match requirement(term) {
                Ok(requirement) => requirements.push(requirement),
                Err(error) => errors.push(error),
            }
        }
        // In an order that does not depend on how it was written.
        requirements.sort();
        requirements.dedup();
        errors.extend(contradictions(&requirements));
        if !errors.is_empty() {
            return Err(errors);
        }
        let of_metadata = |r: &Requirement| r.field.is_metadata();
        let (metadata, kubernetes_event): (Vec<_>, Vec<_>) =
            requirements.into_iter().partition(of_metadata);
        Ok(Self {
            metadata: metadata.into(),
            kubernetes_event: kubernetes_event.into(),
        })
    }

    /// Whether it asks for anything that only a Kubernetes Event has.
    pub(super) fn asks_for_kubernetes_event(&self) -> bool {
        !self.kubernetes_event.is_empty()
    }

    /// Whether an object satisfies what is asked of its metadata.
    pub(super) fn matches_metadata(&self, namespace: &str, name: &str) -> bool {
        self.metadata.iter().all(|requirement| {
            requirement.accepts(match requirement.field {
                Field::Namespace => namespace,
                _ => name,
            })
        })
    }

    /// Whether a Kubernetes Event satisfies everything else.
    pub(super) fn matches_kubernetes_event(&self, event: &KubernetesEvent<'_>) -> bool {
        let mut requirements = self.kubernetes_event.iter();
        requirements.all(|requirement| match requirement.field.of(event) {
            Some(value) => requirement.accepts(value),
            None => true,
        })
    }

    /// Whether an object can satisfy it with this value of a field.
    pub(super) fn allows(&self, field: Field, value: &str) -> bool {
        let mut requirements = self.metadata.iter().chain(&self.kubernetes_event);
        requirements.all(|requirement| requirement.field != field || requirement.accepts(value))
    }

    pub(super) fn digest(&self, digest: &mut Digest) {
        let requirements = || self.metadata.iter().chain(&self.kubernetes_event);
        digest.number(requirements().count() as u64);
        for requirement in requirements() {
            // Never to be altered: cursors are compared by them.
            digest.text(requirement.field.name());
            digest.text(if requirement.equals { "=" } else { "!=" });
            digest.text(&requirement.value);
        }
    }
}

impl Field {
    /// Its name in a selector.
    pub(super) fn name(self) -> &'static str {
        let known = FIELDS.iter().find(|(_, field)| *field == self);
        known.map_or("", |(name, _)| name)
    }

    fn is_metadata(self) -> bool {
        matches!(self, Self::Namespace | Self::Name)
    }

    /// What a Kubernetes Event has there; `None` where every object has it.
    fn of<'e>(self, event: &'e KubernetesEvent<'_>) -> Option<&'e str> {
        Some(match self {
            Self::Namespace | Self::Name => return None,
            Self::Type => event.event_type(),
            Self::Reason => event.reason(),
            Self::Source => event.source(),
            Self::ReportingComponent => event.reporting_component(),
            Self::ObjectKind => event.kind(),
            Self::ObjectNamespace => event.namespace(),
            Self::ObjectName => event.name(),
            Self::ObjectUid => event.uid(),
        })
    }

    /// What to write instead of a value that no object has.
    fn instead_of(self, value: &str) -> Option<&'static str> {
        let no_namespace = !value.is_empty() && !is_dns_label(value);
        match self {
            Self::Namespace | Self::ObjectNamespace if no_namespace => Some(
                "a namespace is at most 63 lowercase letters, digits or \"-\", and empty for \
                 cluster-scoped objects",
            ),
            Self::Name if !is_object_name(value) => {
                Some("a name is 1 to 253 bytes, without \"/\" and \"%\"")
            }
            // Others than these two exist, though hardly; these in another spelling do not.
            Self::Type if is_misspelt_type(value) => Some("write \"Normal\" or \"Warning\""),
            _ => None,
        }
    }
}

fn is_misspelt_type(value: &str) -> bool {
    ["Normal", "Warning"]
        .iter()
        .any(|right| right.eq_ignore_ascii_case(value) && *right != value)
}

/// Whether an object of any resource can have this name: a segment of a path.
pub fn is_object_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= 253 && !name.contains(['/', '%'])
}

impl Requirement {
    fn accepts(&self, value: &str) -> bool {
        let same = match self.field {
            // As everywhere in a filter: pod/web-0 is Pod/web-0.
            Field::ObjectKind => self.value.eq_ignore_ascii_case(value),
            _ => self.value == value,
        };
        same == self.equals
    }
}

/// Fields of which more is required than any value can satisfy. `requirements` are sorted.
fn contradictions(requirements: &[Requirement]) -> Vec<NotAFieldSelector> {
    let fields = requirements.chunk_by(|a, b| a.field == b.field);
    let contradicting = fields.filter(|of_field| {
        let mut equal = of_field.iter().filter(|r| r.equals);
        equal.any(|wanted| !of_field.iter().all(|r| r.accepts(&wanted.value)))
    });
    contradicting
        .filter_map(|of_field| Some(of_field.first()?.field.name()))
        .map(NotAFieldSelector::Contradiction)
        .collect()
}

/// Splits at commas, but for those behind a backslash.
fn split(text: &str) -> Vec<&str> {
    let mut escaped = false;
    text.split(|symbol| {
        let separates = symbol == ',' && !escaped;
        escaped = symbol == '\\' && !escaped;
        separates
    })
    .collect()
}

fn requirement(term: &str) -> Result<Requirement, NotAFieldSelector> {
    let malformed = || NotAFieldSelector::Malformed(clipped(term));
    let (name, rest) = term.split_at(term.find(['=', '!']).ok_or_else(malformed)?);
    let operators = [("!=", false), ("==", true), ("=", true)];
    let mut found = operators
        .into_iter()
        .filter_map(|(operator, equals)| Some((rest.strip_prefix(operator)?, equals)));
    let (value, equals) = found.next().ok_or_else(malformed)?;
    let value = unescaped(value.trim()).ok_or_else(malformed)?;
    let name = name.trim();
    let known = FIELDS.iter().find(|(known, _)| *known == name);
    let (_, field) = known.ok_or_else(|| NotAFieldSelector::UnknownField(clipped(name)))?;
    if let Some(instead) = field.instead_of(&value) {
        return Err(NotAFieldSelector::Value {
            field: field.name(),
            value: clipped(&value),
            instead,
        });
    }
    Ok(Requirement {
        field: *field,
        equals,
        value: match field {
            Field::ObjectKind => value.to_ascii_lowercase(),
            _ => value,
        },
    })
}

/// Without the backslashes before `\`, `,` and `=`; `None` where a backslash precedes anything
/// else, or one of the others stands alone.
fn unescaped(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut symbols = value.chars();
    while let Some(symbol) = symbols.next() {
        match symbol {
            '\\' => plain.push(symbols.next().filter(|next| "\\,=".contains(*next))?),
            ',' | '=' => return None,
            symbol => plain.push(symbol),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::{FieldSelector, NotAFieldSelector as Not, REQUIREMENTS_MAX, is_object_name};

    #[test]
    fn what_cannot_be_selected_by_is_refused_with_all_that_can() {
        let errors = FieldSelector::parse("bogus=1").unwrap_err();
        assert_eq!(errors, [Not::UnknownField("bogus".into())]);
        let text = errors[0].to_string();
        assert!(
            text.contains("\"bogus\"") && text.contains("involvedObject.kind"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_requirement_is_refused() {
        for text in ["type", "type!Normal", "type<x", "type=a=b", r"type=a\b"] {
            let errors = FieldSelector::parse(text).unwrap_err();
            assert!(
                matches!(errors[..], [Not::Malformed(_)]),
                "{text}: {errors:?}"
            );
        }
    }

    #[test]
    fn values_that_no_object_has_are_refused() {
        for text in [
            "metadata.namespace=Prod",
            "metadata.namespace!=a.b",
            "metadata.name=",
            "metadata.name=a/b",
            "type=warning",
            "type!=NORMAL",
            "involvedObject.namespace=a_b",
        ] {
            let errors = FieldSelector::parse(text).unwrap_err();
            assert!(
                matches!(errors[..], [Not::Value { .. }]),
                "{text}: {errors:?}"
            );
        }
        for text in ["metadata.namespace=", "type=Odd", "involvedObject.name=a/b"] {
            assert!(FieldSelector::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let errors = FieldSelector::parse("x=1,type,reason=a,reason=b,type=warning").unwrap_err();
        assert!(
            matches!(
                errors[..],
                [
                    Not::UnknownField(_),
                    Not::Malformed(_),
                    Not::Value { .. },
                    Not::Contradiction("reason"),
                ]
            ),
            "{errors:?}"
        );
    }

    #[test]
    fn what_no_object_satisfies_is_refused() {
        for text in [
            "reason=a,reason=b",
            "reason=a,reason!=a",
            "involvedObject.kind=Pod,involvedObject.kind!=pod",
        ] {
            let errors = FieldSelector::parse(text).unwrap_err();
            assert!(matches!(errors[..], [Not::Contradiction(_)]), "{text}");
        }
        for text in [
            "reason=a,reason==a",
            "reason=a,reason!=b",
            "involvedObject.kind=Pod,involvedObject.kind=pod",
            "reason!=a,reason!=b",
        ] {
            assert!(FieldSelector::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn requirements_are_bounded() {
        let text = |count: usize| vec!["reason=a"; count].join(",");
        assert!(FieldSelector::parse(&text(REQUIREMENTS_MAX)).is_ok());
        let errors = FieldSelector::parse(&text(REQUIREMENTS_MAX + 1)).unwrap_err();
        assert_eq!(errors, [Not::TooMany(REQUIREMENTS_MAX + 1)]);
    }

    #[test]
    fn object_names_are_segments_of_a_path() {
        for name in ["web-0.17b", "system:node", "A b", &"a".repeat(253)] {
            assert!(is_object_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a%b", &"a".repeat(254)] {
            assert!(!is_object_name(name), "{name}");
        }
    }
}
