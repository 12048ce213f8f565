//! What must hold of the source itself. Every finding names a place and the way out.
//!
//! A rule that is wrong for one line is switched off there by a comment on it or above it:
//! `// tidy: <reason>`.

mod circles;
mod dependencies;
mod errors;
mod failures;
mod phrases;
mod readme;
mod repository;
mod shape;
mod source;
mod traps;
mod words;

use std::fmt::Display;

/// What a rule found.
#[derive(Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    pub(crate) fn add(&mut self, place: impl Display, message: impl Display) {
        let finding = format!("{place}: {message}");
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// Fails with all findings.
    pub(crate) fn expect_none(self) {
        assert!(
            self.0.is_empty(),
            "{} finding(s)\n{}\n",
            self.0.len(),
            self.0.join("\n")
        );
    }
}
