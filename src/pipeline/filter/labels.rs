//! Label selectors in Kubernetes' words.

use super::{Digest, REQUIREMENTS_MAX, Values, clipped};
use crate::domain::label::{is_label_key, is_label_value};

/// A label selector in Kubernetes' words: `env=prod,tier!=test,region in (eu, us),!canary`.
/// Requirements are joined by "and"; there are labels that satisfy all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Box<[Requirement]>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Values),
    /// Like in Kubernetes, a label that is absent satisfies it.
    NotIn(Values),
    Exists,
    Absent,
}

/// Why a text is not a label selector, or one that nothing can satisfy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotALabelSelector {
    /// Not a requirement.
    #[error(
        "{0:?} is not a requirement on a label: write one of key, !key, key=value, key!=value, \
         key in (a,b), key notin (a,b)"
    )]
    Malformed(String),
    /// No label has such a key.
    #[error(
        "{0:?} cannot be the key of a label: it is at most 63 letters, digits, \"-\", \"_\" or \
         \".\", beginning and ending with a letter or digit; a DNS name and \"/\" may precede it"
    )]
    Key(String),
    /// No label has such a value.
    #[error(
        "{0:?} cannot be the value of a label: it is at most 63 letters, digits, \"-\", \"_\" or \
         \".\", beginning and ending with a letter or digit"
    )]
    Value(String),
    /// More than are tried for each event.
    #[error(
        "{0} requirements; the maximum is {max}: write \"key in (a,b)\" for several values of one \
         key",
        max = REQUIREMENTS_MAX
    )]
    TooMany(usize),
    /// No labels satisfy it.
    #[error(
        "what is required of {0:?} excludes itself, so nothing can match: for \"or\" write \
         \"{0} in (a,b)\", or use several filters"
    )]
    Contradiction(String),
}

impl LabelSelector {
    /// Reads a selector; an empty text requires nothing. Gives all that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<NotALabelSelector>> {
        let terms = split_outside_parentheses(text);
        let terms: Vec<_> = terms
            .into_iter()
            .map(str::trim)
            .filter(|term| !term.is_empty())
            .collect();
        if terms.len() > REQUIREMENTS_MAX {
            return Err(vec![NotALabelSelector::TooMany(terms.len())]);
        }
        let mut requirements = Vec::new();
        let mut errors = Vec::new();
        for term in terms {
            match requirement(term) {
                Ok(requirement) => requirements.push(requirement),
                Err(error) => errors.push(error),
            }
        }
        errors.extend(contradictions(&requirements));
        if errors.is_empty() {
            Ok(Self(requirements.into()))
        } else {
            Err(errors)
        }
    }

    /// Whether it requires nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels, looked up by their keys, satisfy every requirement.
    pub fn matches<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        let mut requirements = self.0.iter();
        requirements.all(|requirement| requirement.accepts(label(&requirement.key)))
    }

    pub(super) fn digest(&self, digest: &mut Digest) {
        let mut digests: Vec<u64> = self.0.iter().map(Requirement::digest).collect();
        digests.sort_unstable();
        digests.dedup();
        digest.numbers(&digests);
    }
}

impl Requirement {
    fn accepts(&self, value: Option<&str>) -> bool {
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
        }
    }

    fn digest(&self) -> u64 {
        // Never to be altered: cursors are compared by them.
        let (operator, values) = match &self.operator {
            Operator::In(values) => ("in", Some(values)),
            Operator::NotIn(values) => ("notin", Some(values)),
            Operator::Exists => ("exists", None),
            Operator::Absent => ("absent", None),
        };
        let mut digest = Digest::default();
        digest.text(&self.key);
        digest.text(operator);
        if let Some(values) = values {
            digest.texts(&values.sorted());
        }
        digest.finish()
    }
}

/// Keys, each once, of which more is required than any label can satisfy.
fn contradictions(requirements: &[Requirement]) -> Vec<NotALabelSelector> {
    let mut keys: Vec<_> = requirements.iter().map(|r| r.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.retain(|key| {
        let all = || requirements.iter().filter(|r| r.key == *key);
        let satisfies = |value: Option<&str>| all().all(|r| r.accepts(value));
        let among = all().find_map(|r| match &r.operator {
            Operator::In(values) => Some(values),
            _ => None,
        });
        match among {
            Some(values) => !values
                .sorted()
                .into_iter()
                .any(|value| satisfies(Some(value))),
            // Of all that is left, only these two exclude each other.
            None => {
                let has = |operator| all().any(|r| r.operator == operator);
                has(Operator::Exists) && has(Operator::Absent)
            }
        }
    });
    let contradiction = |key: &str| NotALabelSelector::Contradiction(key.to_owned());
    keys.into_iter().map(contradiction).collect()
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|symbol| {
        match symbol {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        symbol == ',' && depth == 0
    })
    .collect()
}

fn requirement(term: &str) -> Result<Requirement, NotALabelSelector> {
    let malformed = || NotALabelSelector::Malformed(clipped(term));
    let (key, operator) = if let Some((left, set)) = term.split_once('(') {
        let set = set.strip_suffix(')').ok_or_else(malformed)?;
        let values = values(set.split(','))?;
        let mut words = left.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => (key, Operator::In(values)),
            (Some(key), Some("notin"), None) => (key, Operator::NotIn(values)),
            _ => return Err(malformed()),
        }
    } else if let Some((key, value)) = term.split_once("!=") {
        (key, Operator::NotIn(values([value])?))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, Operator::In(values([value])?))
    } else if let Some(key) = term.strip_prefix('!') {
        (key, Operator::Absent)
    } else {
        (term, Operator::Exists)
    };
    let key = key.trim();
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(malformed());
    }
    if !is_label_key(key) {
        return Err(NotALabelSelector::Key(clipped(key)));
    }
    let key = key.to_owned();
    Ok(Requirement { key, operator })
}

fn values<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Values, NotALabelSelector> {
    let value = |text: &str| {
        let text = text.trim();
        if is_label_value(text) {
            Ok(text.to_owned())
        } else {
            Err(NotALabelSelector::Value(clipped(text)))
        }
    };
    texts.into_iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::{LabelSelector, NotALabelSelector as Not, REQUIREMENTS_MAX};

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let label = |key: &str| {
            let mut labels = labels.iter();
            labels.find(|(k, _)| *k == key).map(|(_, value)| *value)
        };
        LabelSelector::parse(selector).unwrap().matches(label)
    }

    #[test]
    fn selectors_mean_what_they_mean_in_kubernetes() {
        let labels = [("env", "prod"), ("region", "eu"), ("a.b/c", "")];
        for selector in [
            "",
            "env",
            "env=prod",
            "env == prod",
            "tier!=x",
            "region in (eu, us),!canary",
            "env notin (test)",
            "a.b/c=,a.b/c in ()",
            "env in (prod,test),env!=test",
            " , ",
        ] {
            assert!(matches(selector, &labels), "{selector}");
        }
        for selector in [
            "canary",
            "env!=prod",
            "env=prod,region=us",
            "!env",
            "region notin (eu)",
            "env=",
        ] {
            assert!(!matches(selector, &labels), "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["a b", "=x", "a in b", "a in (b", "a within (b)", "!", "(b)"] {
            let errors = LabelSelector::parse(text).unwrap_err();
            assert!(
                matches!(errors[..], [Not::Malformed(_)]),
                "{text}: {errors:?}"
            );
        }
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let errors = LabelSelector::parse("-a=b,a b,c in (d e),ok=yes,ok=no").unwrap_err();
        let wanted = [
            Not::Key("-a".into()),
            Not::Malformed("a b".into()),
            Not::Value("d e".into()),
            Not::Contradiction("ok".into()),
        ];
        assert_eq!(errors, wanted);
    }

    #[test]
    fn what_no_labels_satisfy_is_refused() {
        for text in [
            "a=b,a=c",
            "a,!a",
            "a=b,!a",
            "a in (b,c),a notin (b,c)",
            "a=b,a!=b",
        ] {
            let errors = LabelSelector::parse(text).unwrap_err();
            assert_eq!(errors, [Not::Contradiction("a".into())], "{text}");
        }
        for text in [
            "a,a!=b",
            "!a,a!=b",
            "a in (b,c),a in (c,d)",
            "a,a=b",
            "!a,!b",
        ] {
            assert!(LabelSelector::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn requirements_are_bounded() {
        let text = |count: usize| vec!["a"; count].join(",");
        assert!(LabelSelector::parse(&text(REQUIREMENTS_MAX)).is_ok());
        let errors = LabelSelector::parse(&text(REQUIREMENTS_MAX + 1)).unwrap_err();
        assert_eq!(errors, [Not::TooMany(REQUIREMENTS_MAX + 1)]);
    }
}
