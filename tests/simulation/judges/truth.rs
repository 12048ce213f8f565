//! What subscribers received, compared with what the API servers committed.

use std::collections::BTreeMap;

use quorumwatch::{proto::v1::GapReason, sim::Ledger};

use super::{Agreement, Record};
use crate::{faults::Planned, hosts::ApiServer, report, stage::Stage};

/// Nothing was lost without a gap, changed, out of order, or delivered twice; each gap has a cause
/// among the faults; and each epoch was that of an owner.
pub(crate) fn judge(stage: &Stage, agreement: &Agreement, faults: &[Planned]) {
    let ledgers: Vec<Ledger> = stage.servers.iter().map(ApiServer::ledger).collect();
    for subscriber in &stage.subscribers {
        let (who, record) = (&subscriber.name, subscriber.record());
        let audit = record.audit.report(&ledgers, &BTreeMap::new());
        if !audit.is_clean() {
            report::violated(format!("{who}: {audit:#?}"));
        }
        for reason in unexplained(&record, faults) {
            report::violated(format!("{who}: nothing explains a gap for {reason:?}"));
        }
        for (cluster, epoch) in &record.epochs {
            if !agreement.was_owned(cluster, *epoch) {
                report::violated(format!("{who}: {cluster} had no owner in epoch {epoch}"));
            }
        }
    }
}

fn unexplained(record: &Record, faults: &[Planned]) -> Vec<GapReason> {
    let reasons = record.gaps.iter().map(|(reason, _)| *reason);
    reasons
        .filter(|reason| {
            let explains = |planned: &Planned| planned.fault.explains(*reason);
            *reason != GapReason::SnapshotRestarted && !faults.iter().any(explains)
        })
        .collect()
}
