//! The result of one check.

use serde::Serialize;

pub(super) use crate::watcher::access::Verdict;

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The subject: `peer b`, `cluster prod-eu`.
    pub(super) subject: String,
    /// Which aspect of it.
    pub(super) check: String,
    pub(super) verdict: Verdict,
    /// The result, in words.
    pub(super) detail: String,
    /// What to change; empty if nothing.
    pub(super) advice: String,
}

/// The same for programs.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    subject: &'a str,
    check: &'a str,
    result: &'static str,
    detail: &'a str,
    advice: &'a str,
}

impl Finding {
    pub(super) fn new(
        subject: &str,
        check: &str,
        verdict: Verdict,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            subject: subject.to_owned(),
            check: check.to_owned(),
            verdict,
            detail: detail.into(),
            advice: String::new(),
        }
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    pub(super) fn row(&self) -> Row<'_> {
        Row {
            subject: &self.subject,
            check: &self.check,
            result: word(self.verdict),
            detail: &self.detail,
            advice: &self.advice,
        }
    }
}

/// How a verdict is printed. Failures are in capitals, to stand out in a long table.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed => "FAILED",
    }
}
