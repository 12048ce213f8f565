//! Label selectors in Kubernetes' words.

use std::collections::BTreeMap;

/// A label selector in Kubernetes' words: `env=prod,tier!=test,region in (eu, us),!canary`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    /// Like in Kubernetes, a label that is absent satisfies it.
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// Why a text is not a label selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "label selector: {0:?} is none of key, !key, key=value, key!=value, key in (a,b), \
     key notin (a,b)"
)]
pub struct NotASelector(pub String);

impl LabelSelector {
    /// Whether labels satisfy every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => !labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

impl std::str::FromStr for LabelSelector {
    type Err = NotASelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = split_outside_parentheses(text);
        let parts = parts
            .iter()
            .map(|part| part.trim())
            .filter(|part| !part.is_empty());
        parts.map(requirement).collect::<Result<_, _>>().map(Self)
    }
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

fn requirement(text: &str) -> Result<Requirement, NotASelector> {
    let refuse = || NotASelector(text.chars().take(128).collect());
    let key = |key: &str| {
        let key = key.trim();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        if key.is_empty() || !key.bytes().all(plain) {
            Err(refuse())
        } else {
            Ok(key.to_owned())
        }
    };
    if let Some((left, set)) = text.split_once('(') {
        let set = set.strip_suffix(')').ok_or_else(refuse)?;
        let values = set
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let mut words = left.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(name), Some("in"), None) => Ok(Requirement::In(key(name)?, values)),
            (Some(name), Some("notin"), None) => Ok(Requirement::NotIn(key(name)?, values)),
            _ => Err(refuse()),
        };
    }
    if let Some((name, value)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(
            key(name)?,
            vec![value.trim().to_owned()],
        ));
    }
    if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(key(name)?, vec![value.trim().to_owned()]));
    }
    match text.strip_prefix('!') {
        Some(name) => key(name).map(Requirement::Absent),
        None => key(text).map(Requirement::Exists),
    }
}

#[cfg(test)]
mod tests {
    use super::LabelSelector;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        selector.parse::<LabelSelector>().unwrap().matches(&labels)
    }

    #[test]
    fn selectors_mean_what_they_mean_in_kubernetes() {
        let labels = [("env", "prod"), ("region", "eu")];
        for selector in [
            "",
            "env",
            "env=prod",
            "env==prod",
            "tier!=x",
            "region in (eu, us),!canary",
            "env notin (test)",
        ] {
            assert!(matches(selector, &labels), "{selector}");
        }
        for selector in [
            "canary",
            "env!=prod",
            "env=prod,region=us",
            "!env",
            "region notin (eu)",
        ] {
            assert!(!matches(selector, &labels), "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["a b", "=x", "a in b", "a in (b", "a within (b)", "!"] {
            assert!(text.parse::<LabelSelector>().is_err(), "{text}");
        }
    }
}
