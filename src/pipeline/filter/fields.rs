//! Field selectors in Kubernetes' words, over the fields that Events can be selected by.

use super::EventFields;

/// A field selector: `type=Warning,involvedObject.kind!=Pod`. Requirements are joined by "and".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    field: Field,
    /// `=`, or else `!=`.
    equals: bool,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
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

/// Why a text is not a field selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAFieldSelector {
    /// Not a requirement.
    #[error("field selector: {0:?} is none of field=value, field==value, field!=value")]
    Malformed(String),
    /// A field that nothing can be selected by.
    #[error("field selector: {0:?} is not a field that can be selected by; these are: {list}", list = known())]
    UnknownField(String),
}

fn known() -> String {
    let names: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

impl FieldSelector {
    /// Whether it asks for anything that only a Kubernetes Event has.
    pub(super) fn reads_events(&self) -> bool {
        self.0
            .iter()
            .any(|requirement| !requirement.field.is_metadata())
    }

    /// Whether an object satisfies what is asked of its metadata.
    pub(super) fn matches_metadata(&self, namespace: &str, name: &str) -> bool {
        self.0.iter().all(|requirement| match requirement.field {
            Field::Namespace => requirement.accepts(namespace),
            Field::Name => requirement.accepts(name),
            _ => true,
        })
    }

    /// Whether an Event satisfies everything else.
    pub(super) fn matches_event(&self, event: &EventFields<'_>) -> bool {
        self.0.iter().all(|requirement| {
            let object = &event.object;
            let value = match requirement.field {
                Field::Namespace | Field::Name => return true,
                Field::Type => &event.kind,
                Field::Reason => &event.reason,
                // As the API server has it.
                Field::Source if event.source.component.is_empty() => &event.reporting,
                Field::Source => &event.source.component,
                Field::ReportingComponent => &event.reporting,
                Field::ObjectKind => &object.kind,
                Field::ObjectNamespace => &object.namespace,
                Field::ObjectName => &object.name,
                Field::ObjectUid => &object.uid,
            };
            requirement.accepts(value)
        })
    }
}

impl Field {
    fn is_metadata(self) -> bool {
        matches!(self, Self::Namespace | Self::Name)
    }
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

impl std::str::FromStr for FieldSelector {
    type Err = NotAFieldSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let terms = split(text)
            .into_iter()
            .filter(|term| !term.trim().is_empty());
        terms.map(requirement).collect::<Result<_, _>>().map(Self)
    }
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
    let malformed = || NotAFieldSelector::Malformed(term.chars().take(128).collect());
    let (name, rest) = term.split_at(term.find(['=', '!']).ok_or_else(malformed)?);
    let operators = [("!=", false), ("==", true), ("=", true)];
    let mut found = operators
        .into_iter()
        .filter_map(|(operator, equals)| Some((rest.strip_prefix(operator)?, equals)));
    let (value, equals) = found.next().ok_or_else(malformed)?;
    let name = name.trim();
    let field = FIELDS.iter().find(|(known, _)| *known == name);
    let (_, field) =
        field.ok_or_else(|| NotAFieldSelector::UnknownField(name.chars().take(128).collect()))?;
    Ok(Requirement {
        field: *field,
        equals,
        value: unescaped(value.trim()).ok_or_else(malformed)?,
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
    use super::{FieldSelector, NotAFieldSelector};

    #[test]
    fn what_cannot_be_selected_by_is_refused_with_all_that_can() {
        let error = "bogus=1".parse::<FieldSelector>().unwrap_err();
        assert!(matches!(error, NotAFieldSelector::UnknownField(_)));
        let text = error.to_string();
        assert!(
            text.contains("\"bogus\"") && text.contains("involvedObject.kind"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_requirement_is_refused() {
        for text in [
            "type",
            "type!Normal",
            "type<x",
            "type=a=b",
            r"type=a\b",
            "=x,type",
        ] {
            assert!(text.parse::<FieldSelector>().is_err(), "{text}");
        }
    }
}
