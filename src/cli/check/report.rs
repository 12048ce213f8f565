//! What `check` prints.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    finding::{Finding, Row, Verdict, word},
    targets::Outcome,
};
use crate::{
    cli::{
        Error,
        output::{self, Format},
        table::{Table, or_dash},
    },
    config::{InForce, Loaded, Origin, Problem},
};

/// All findings.
pub(super) struct Report {
    /// What would be in force; nothing where the configuration is not the subject.
    keys: Vec<InForce>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    findings: Vec<Finding>,
    /// By subject.
    manifests: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Document<'a> {
    valid: bool,
    keys: Vec<KeyRow<'a>>,
    problems: Vec<ProblemRow<'a>>,
    warnings: Vec<ProblemRow<'a>>,
    findings: Vec<Row<'a>>,
    manifests: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct KeyRow<'a> {
    key: &'a str,
    value: &'a str,
    origin: String,
}

#[derive(Serialize)]
struct ProblemRow<'a> {
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    key: &'a str,
    message: &'a str,
}

impl Report {
    pub(super) fn new(loaded: &Loaded, outcomes: Vec<Outcome>, with_keys: bool) -> Self {
        let problems = loaded.serve.as_ref().err();
        let mut findings = Vec::new();
        let mut manifests = BTreeMap::new();
        for outcome in outcomes {
            findings.extend(outcome.findings);
            manifests.extend(outcome.manifest);
        }
        Self {
            keys: if with_keys {
                loaded.in_force.clone()
            } else {
                Vec::new()
            },
            problems: problems
                .map(|invalid| invalid.problems.clone())
                .unwrap_or_default(),
            warnings: loaded.warnings.clone(),
            findings,
            manifests,
        }
    }

    /// How many findings there are of this weight.
    pub(super) fn count(&self, verdict: Verdict) -> usize {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.verdict == verdict)
            .count()
    }

    pub(super) fn write(&self, out: &mut impl Write, format: Format) -> Result<(), Error> {
        match format {
            Format::Json => output::write_json(out, &self.document()),
            Format::Table => self.write_tables(out).map_err(Error::Output),
        }
    }

    fn document(&self) -> Document<'_> {
        Document {
            valid: self.problems.is_empty(),
            keys: self.keys.iter().map(key_row).collect(),
            problems: self.problems.iter().map(problem_row).collect(),
            warnings: self.warnings.iter().map(problem_row).collect(),
            findings: self.findings.iter().map(Finding::row).collect(),
            manifests: &self.manifests,
        }
    }

    /// Problems are not among them: they are the command's error.
    fn write_tables(&self, out: &mut impl Write) -> io::Result<()> {
        if !self.keys.is_empty() {
            let row =
                |row: &InForce| [row.key.clone(), row.origin.to_string(), or_dash(&row.value)];
            let rows: Vec<_> = self.keys.iter().map(row).collect();
            Table::new(["KEY", "FROM", "VALUE"]).write(out, &rows)?;
        }
        if !self.findings.is_empty() {
            if !self.keys.is_empty() {
                writeln!(out)?;
            }
            let row = |finding: &Finding| {
                let Finding {
                    subject,
                    check,
                    verdict,
                    detail,
                    ..
                } = finding;
                [
                    subject.clone(),
                    check.clone(),
                    word(*verdict).to_owned(),
                    detail.clone(),
                ]
            };
            let rows: Vec<_> = self.findings.iter().map(row).collect();
            Table::new(["SUBJECT", "CHECK", "RESULT", "FOUND"]).write(out, &rows)?;
        }
        self.write_advice(out)?;
        out.flush()
    }

    fn write_advice(&self, out: &mut impl Write) -> io::Result<()> {
        let to_change = || {
            self.findings
                .iter()
                .filter(|finding| !finding.advice.is_empty())
        };
        if to_change().next().is_some() {
            writeln!(out, "\nWhat to change:")?;
        }
        for Finding {
            subject,
            check,
            advice,
            ..
        } in to_change()
        {
            writeln!(out, "  {subject}, {check}: {advice}")?;
        }
        for (subject, manifest) in &self.manifests {
            writeln!(
                out,
                "\nWhat {subject} must allow at least, for kubectl apply:\n"
            )?;
            write!(out, "{manifest}")?;
        }
        Ok(())
    }
}

fn key_row(row: &InForce) -> KeyRow<'_> {
    KeyRow {
        key: &row.key,
        value: &row.value,
        origin: row.origin.to_string(),
    }
}

fn problem_row(problem: &Problem) -> ProblemRow<'_> {
    let (origin, line) = match &problem.origin {
        Origin::File(path, line) => (path.display().to_string(), Some(*line)),
        origin => (origin.to_string(), None),
    };
    ProblemRow {
        origin,
        line,
        key: &problem.key,
        message: &problem.message,
    }
}
