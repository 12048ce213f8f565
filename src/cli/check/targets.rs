//! Runs many checks concurrently, each with its own timeout.

use std::{collections::BTreeSet, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use tokio::time::timeout;

use super::finding::{Finding, Verdict};
use crate::cli::output;

/// Timeout of one check: it may take several requests, each with its own timeout.
const TARGET_TIMEOUT: Duration = Duration::from_secs(40);
/// How many checks run at once.
const TARGETS_AT_ONCE: usize = 32;

/// One thing to check.
pub(super) struct Target {
    subject: String,
    work: BoxFuture<'static, Outcome>,
}

/// Its findings.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) findings: Vec<Finding>,
    /// A manifest that grants what is missing, with the name of the cluster.
    pub(super) manifest: Option<(String, String)>,
    /// The group that a peer belongs to.
    pub(super) group: Option<String>,
}

impl From<Vec<Finding>> for Outcome {
    fn from(findings: Vec<Finding>) -> Self {
        Self {
            findings,
            ..Self::default()
        }
    }
}

impl Target {
    pub(super) fn new<O: Into<Outcome> + Send + 'static>(
        subject: &str,
        work: impl Future<Output = O> + Send + 'static,
    ) -> Self {
        Self {
            subject: subject.to_owned(),
            work: async move { work.await.into() }.boxed(),
        }
    }

    async fn look(self) -> Outcome {
        let looked = timeout(TARGET_TIMEOUT, self.work).await;
        let outcome = looked.unwrap_or_else(|_| {
            let seconds = TARGET_TIMEOUT.as_secs();
            let detail = format!("no result within {seconds} s");
            let finding = Finding::new(&self.subject, "reach", Verdict::Failed, detail);
            let advice = "check whether it is overloaded, or a firewall drops packets";
            vec![finding.advise(advice)].into()
        });
        let failed = outcome.findings.iter();
        let failed = failed.filter(|f| f.verdict == Verdict::Failed).count();
        output::note(&match failed {
            0 => format!("{}: done", self.subject),
            failed => format!("{}: done, {failed} FAILED", self.subject),
        });
        outcome
    }
}

/// Runs all checks; results are in the order of the targets.
pub(super) async fn reach(targets: Vec<Target>) -> Vec<Outcome> {
    if !targets.is_empty() {
        let names: Vec<_> = targets.iter().map(|target| &*target.subject).collect();
        let seconds = TARGET_TIMEOUT.as_secs();
        let names = names.join(", ");
        output::note(&format!("reaching {names}; each may take {seconds} s"));
    }
    let looks = stream::iter(targets).map(Target::look);
    let mut outcomes: Vec<Outcome> = looks.buffered(TARGETS_AT_ONCE).collect().await;
    one_group(&mut outcomes);
    outcomes
}

/// All peers must be of one group.
fn one_group(outcomes: &mut [Outcome]) {
    let groups: BTreeSet<_> = outcomes.iter().filter_map(|o| o.group.clone()).collect();
    if groups.len() < 2 {
        return;
    }
    let all = groups.into_iter().collect::<Vec<_>>().join(", ");
    for outcome in outcomes {
        if let (Some(_), Some(finding)) = (&outcome.group, outcome.findings.last_mut()) {
            finding.verdict = Verdict::Failed;
            finding
                .detail
                .push_str(&format!("; the peers belong to different groups: {all}"));
            "name replicas of one group only".clone_into(&mut finding.advice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Finding, Outcome, Verdict, one_group};

    fn peer(group: Option<&str>) -> Outcome {
        Outcome {
            findings: vec![Finding::new("peer", "h:1", Verdict::Ok, "answers")],
            group: group.map(str::to_owned),
            ..Outcome::default()
        }
    }

    #[test]
    fn peers_of_several_groups_are_distinguished_and_one_without_a_group_belongs_to_any() {
        let verdicts = |groups: [Option<&str>; 3]| {
            let mut outcomes = groups.map(peer);
            one_group(&mut outcomes);
            outcomes.map(|outcome| outcome.findings[0].verdict)
        };
        let (ok, failed) = (Verdict::Ok, Verdict::Failed);
        assert_eq!(verdicts([Some("x"), None, Some("x")]), [ok, ok, ok]);
        assert_eq!(verdicts([Some("x"), None, Some("y")]), [failed, ok, failed]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_never_ends_is_given_up() {
        let hangs = super::Target::new("peer b", std::future::pending::<Vec<Finding>>());
        let outcomes = super::reach(vec![hangs]).await;
        assert_eq!(outcomes[0].findings[0].verdict, Verdict::Failed);
        assert!(outcomes[0].findings[0].detail.contains("no result"));
    }
}
