//! What subscribers received, compared with what the API servers committed.

use std::collections::BTreeMap;

use quorumwatch::sim::Ledger;

use super::{Agreement, gaps};
use crate::{hosts::ApiServer, report, stage::Stage};

/// Nothing was lost without a gap, changed, out of order, or delivered twice; each gap has a cause
/// among the faults; and each epoch was that of an owner.
pub(crate) fn judge(stage: &Stage, agreement: &Agreement) {
    let ledgers: Vec<Ledger> = stage.servers.iter().map(ApiServer::ledger).collect();
    for subscriber in &stage.subscribers {
        let (who, record) = (&subscriber.name, subscriber.record());
        // Of one that wants only some objects the ledger does not say what it is to be sent: its copy
        // is what is compared.
        if subscriber.wish.scope.is_whole() {
            let audit = record.audit.report(&ledgers, &BTreeMap::new());
            if !audit.is_clean() {
                report::violated(format!("{who}: {audit:#?}"));
            }
        }
        for words in gaps::unexplained(&record, &stage.causes) {
            report::violated(format!("{who}: {words}"));
        }
        for (cluster, epoch) in &record.epochs {
            if !agreement.was_owned(cluster, *epoch) {
                report::violated(format!("{who}: {cluster} had no owner in epoch {epoch}"));
            }
        }
    }
    for words in gaps::unexplained_eras(agreement, &stage.causes) {
        report::violated(format!("nothing explains {words}"));
    }
}
