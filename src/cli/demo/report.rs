//! The demo's result.

use serde::Serialize;

use super::printer::Printer;
use crate::{
    cli::{Error, terminal::Tone},
    sim::AuditReport,
};

/// The demo's result. Times are in milliseconds.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Whether no problem was found.
    pub(super) ok: bool,
    /// The problems, one sentence each.
    pub(super) problems: Vec<String>,
    pub(super) clusters: usize,
    pub(super) replicas: usize,
    /// How long there was load, rounded to tenths.
    pub(super) seconds: f64,
    /// The kill; absent with `--kill none`.
    pub(super) kill: Option<Kill>,
    /// Changes that the clusters committed; absent for clusters without a ledger.
    pub(super) produced: Option<u64>,
    pub(super) delivered: u64,
    pub(super) lost: Option<u64>,
    pub(super) duplicated: Option<u64>,
    pub(super) out_of_order: Option<u64>,
    pub(super) corrupted: Option<u64>,
    pub(super) gaps: u64,
}

/// A replica that was killed, and what happened then.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kill {
    pub(super) replica: String,
    pub(super) was_leader: bool,
    /// How many shards it owned.
    pub(super) shards: usize,
    /// From the kill until another replica led; absent where a follower was killed.
    pub(super) new_leader_ms: Option<f64>,
    /// From the kill until every shard of it was owned again.
    pub(super) takeover_ms: Option<f64>,
    /// From the kill until the subscriber had an event of the new owner of the first shard.
    pub(super) first_event_ms: Option<f64>,
    /// The same for the last shard.
    pub(super) last_first_event_ms: Option<f64>,
    /// From its new start until the first shard was moved to it.
    pub(super) rebalance_ms: Option<f64>,
    /// How many shards it owned at the end.
    pub(super) shards_after: usize,
}

impl Report {
    /// The ledger's judgement.
    pub(super) fn judged(&mut self, judged: &AuditReport) {
        self.produced = Some(judged.produced);
        self.delivered = judged.delivered;
        self.lost = Some(judged.lost);
        self.duplicated = Some(judged.duplicated);
        self.out_of_order = Some(judged.out_of_order);
        self.corrupted = Some(judged.corrupted);
        self.gaps = judged.gaps;
        if judged.produced == 0 {
            self.problems.push("nothing was produced".into());
        }
        if !judged.is_clean() {
            let what = "events were lost, duplicated, out of order or corrupted";
            self.problems.push(what.into());
            self.problems.extend(judged.first_problems.iter().cloned());
        }
    }

    /// Prints the report as text.
    pub(super) fn show(&self, printer: &Printer) -> Result<(), Error> {
        printer.print_plain(Tone::Plain, "")?;
        let load = if self.produced.is_some() {
            " of load"
        } else {
            ""
        };
        let seconds = format!("{:.1} s{load}, {} replicas", self.seconds, self.replicas);
        self.line(
            printer,
            "demo",
            &format!("{} clusters, {seconds}", self.clusters),
        )?;
        if let Some(kill) = &self.kill {
            kill.show(printer)?;
        }
        let numbers = [
            ("produced", self.produced),
            ("delivered", Some(self.delivered)),
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("out of order", self.out_of_order),
            ("corrupted", self.corrupted),
            ("gaps", Some(self.gaps)),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                self.line(printer, name, &number.to_string())?;
            }
        }
        for problem in &self.problems {
            printer.print_plain(Tone::Bad, &format!("  problem       {problem}"))?;
        }
        if self.ok && self.produced.is_some() {
            printer.print_plain(Tone::Good, "OK: no event was lost, none was duplicated.")
        } else if self.ok {
            printer.print_plain(
                Tone::Good,
                "OK. Your own clusters have no ledger to compare with.",
            )
        } else {
            printer.print_plain(Tone::Bad, "NOT OK.")
        }
    }

    fn line(&self, printer: &Printer, name: &str, text: &str) -> Result<(), Error> {
        printer.print_plain(Tone::Plain, &format!("  {name:<12}  {text}"))
    }
}

impl Kill {
    fn show(&self, printer: &Printer) -> Result<(), Error> {
        let line = |name: &str, text: &str| {
            printer.print_plain(Tone::Plain, &format!("  {name:<12}  {text}"))
        };
        let leader = if self.was_leader { ", the leader" } else { "" };
        let (replica, shards) = (&self.replica, self.shards);
        line(
            "killed",
            &format!("{replica}{leader}, owner of {shards} shards"),
        )?;
        if let Some(ms) = self.new_leader_ms {
            line("new leader", &format!("after {ms:.0} ms"))?;
        }
        if let Some(ms) = self.takeover_ms {
            line(
                "takeover",
                &format!("every shard owned again after {ms:.0} ms"),
            )?;
        }
        if let (Some(first), Some(last)) = (self.first_event_ms, self.last_first_event_ms) {
            let text = format!("from the new owners after {first:.0} to {last:.0} ms");
            line("first event", &text)?;
        }
        if let Some(ms) = self.rebalance_ms {
            let text = format!("first shard moved to it {ms:.0} ms after its restart");
            line(
                "rebalance",
                &format!("{text}, {} at the end", self.shards_after),
            )?;
        }
        Ok(())
    }
}
