//! Where something was written, and what is wrong with it.

use std::{fmt, path::Path, sync::Arc};

/// Longest text that a message repeats.
const SHOWN_CHARS_MAX: usize = 120;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A line of the configuration file, from 1; 0 for the file as a whole.
    File(Arc<Path>, usize),
    /// An environment variable.
    Environment(String),
    /// A flag, without its dashes.
    Flag(&'static str),
    /// Derived from another value.
    Derived(&'static str),
    /// The key is not set.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, 0) => write!(f, "{}", path.display()),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
            Self::Derived(from) => f.write_str(from),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

impl<T> Placed<T> {
    pub(super) fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// Another value in the same place.
    pub(super) fn with<U>(&self, value: U) -> Placed<U> {
        Placed::new(value, self.origin.clone())
    }
}

/// Something that is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it was written.
    pub origin: Origin,
    /// The key, spelled as in the file; empty where it is about no key.
    pub key: String,
    /// One sentence. It never shows a credential.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            origin,
            key,
            message,
        } = self;
        match origin {
            Origin::File(..) if key.is_empty() => write!(f, "{origin}: {message}"),
            Origin::File(..) => write!(f, "{origin}: {key}: {message}"),
            Origin::Environment(_) | Origin::Flag(_) => write!(f, "{origin}: {message}"),
            Origin::Derived(_) | Origin::Default => write!(f, "{key}: {message}"),
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Never empty; in the order of the file, then of the environment, then of the flags.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is invalid:")?;
        for problem in &self.problems {
            write!(f, "\n  - {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(
        &mut self,
        origin: &Origin,
        key: impl Into<String>,
        message: impl Into<String>,
    ) {
        let problem = Problem {
            origin: origin.clone(),
            key: key.into(),
            message: message.into(),
        };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        // Stable: problems of one line stay in the order in which they were found.
        self.0.sort_by(|a, b| a.origin.cmp(&b.origin));
        self.0
    }
}

/// A text in quotes, for a message. What looks like a document is not repeated: it may be a
/// kubeconfig that stands in the wrong place.
pub(super) fn quoted(text: &str) -> String {
    let length = text.chars().count();
    if is_document(text) || length > SHOWN_CHARS_MAX {
        format!("(a string of {length} characters)")
    } else {
        format!("{text:?}")
    }
}

/// Whether a text has several lines or is an object of JSON or YAML.
pub(super) fn is_document(text: &str) -> bool {
    text.contains('\n') || text.trim_start().starts_with('{')
}
