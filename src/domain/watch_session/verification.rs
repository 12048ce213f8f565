//! How a session verifies by metadata lists that everything was delivered: a quiet stream's
//! position, which nothing else proves (trap T1), what the API server silently left out (trap
//! T11), and history that was rewound and overtaken (trap T4).
//!
//! One list, taken beside the watch, is compared with what was delivered up to its version: once
//! the watch has passed that version, or after a while of silence. Silence alone proves nothing:
//! it is the comparison that does. A difference is checked a second time, after the watch was
//! reopened or with another list, because an event in flight is not missing.

use super::{
    Goal, SessionState, WatchSession, Watching,
    ledger::{Comparison, Difference, Ledger, Listing},
    messages::{Finding, Output, Outputs, SessionPolicy},
    witness::{Question, Witnesses},
};
use crate::domain::{
    event::{Event, GapReason},
    position::ResourceVersion,
};

/// A verification under way.
#[derive(Clone, Debug)]
enum Audit {
    /// A list was asked for.
    Asked,
    /// It is being taken.
    Listing {
        /// At exactly this version, to be followed by one of the present.
        exactly: Option<ResourceVersion>,
        /// The highest version that was delivered before.
        top: ResourceVersion,
    },
    /// The watch has not passed it yet.
    Comparing { listing: Listing, since_ms: u64 },
}

/// What is known for the next verification.
#[derive(Clone, Debug)]
pub(super) struct Verification {
    pub(super) ledger: Ledger,
    witnesses: Witnesses,
    audit: Option<Audit>,
    /// When the position was last known to be the present one.
    proven_ms: u64,
    /// Whether the position was verified since the session began, or needs not be.
    is_settled: bool,
    /// When everything is verified next.
    audit_at_ms: u64,
    /// Whether, and when, a difference is to be checked again.
    again_at_ms: Option<u64>,
    /// Not before this time, whatever the reason.
    not_before_ms: u64,
    /// Whether the last list differed although the watch had passed it.
    is_doubted: bool,
    /// Whether the watch was opened again because the last list differed.
    is_reopened: bool,
    /// Where an exact list was asked for and is gone: that position cannot be verified.
    gone: Option<ResourceVersion>,
}

impl Verification {
    pub(super) fn new(from: ResourceVersion, policy: &SessionPolicy) -> Self {
        Self {
            ledger: Ledger::new(from),
            witnesses: Witnesses::default(),
            audit: None,
            proven_ms: 0,
            is_settled: false,
            // Sooner than the next ones: it needs a list of the past.
            audit_at_ms: policy.audit_ms / 2,
            again_at_ms: None,
            not_before_ms: 0,
            is_doubted: false,
            is_reopened: false,
            gone: None,
        }
    }

    /// An era begins at a list.
    pub(super) fn begin_era(&mut self, now_ms: u64, from: ResourceVersion, policy: &SessionPolicy) {
        *self = Self {
            proven_ms: now_ms,
            is_settled: true,
            audit_at_ms: now_ms.saturating_add(policy.audit_ms / 2),
            ..Self::new(from, policy)
        };
    }

    /// A repaired era begins at a list: what was delivered before is still part of it.
    pub(super) fn begin_repaired(
        &mut self,
        now_ms: u64,
        from: ResourceVersion,
        policy: &SessionPolicy,
    ) {
        let mut witnesses = std::mem::take(&mut self.witnesses);
        witnesses.pass();
        self.begin_era(now_ms, from, policy);
        self.witnesses = witnesses;
    }

    /// The watch is given up, and with it the list that was to be compared with it.
    pub(super) fn give_up(&mut self) {
        if self.audit.take().is_some() {
            self.ledger.fold();
        }
    }

    /// An event or a bookmark shows that the stream continues.
    pub(super) fn prove(&mut self, now_ms: u64) {
        self.proven_ms = now_ms;
    }

    /// The watch is behind what a list has shown: a list is due once nothing follows for a while.
    pub(super) fn doubt(&mut self) {
        self.is_settled = false;
    }

    /// History was checked, and is the one that was delivered.
    pub(super) fn history_holds(&mut self) {
        self.witnesses.checked();
    }

    /// A watch that begins where its list stands has nothing to verify.
    pub(super) fn watch_opens(&mut self, now_ms: u64, is_behind: bool, policy: &SessionPolicy) {
        if !is_behind {
            self.proven_ms = now_ms;
        } else if policy.settles_always {
            self.is_settled = false;
        }
    }

    /// Whether a list is being taken or waits to be compared.
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.audit, None | Some(Audit::Asked))
    }

    /// When the list that waits is compared, if nothing comes before.
    pub(super) fn compare_at(&self, heard_ms: u64, policy: &SessionPolicy) -> Option<u64> {
        match &self.audit {
            Some(Audit::Comparing { since_ms, .. }) => {
                let silent_since_ms = heard_ms.max(*since_ms);
                Some(silent_since_ms.saturating_add(policy.idle_grace_ms))
            }
            _ => None,
        }
    }

    /// The version at which it has to be listed what existed, before what exists can be compared
    /// with what was delivered; `None` where that is known, or cannot be known.
    ///
    /// That of a quiet stream has to be at or before its position, so that the position is verified.
    fn missing_base(&mut self, closed: ResourceVersion, is_quiet: bool) -> Option<ResourceVersion> {
        let is_gone =
            |at: &ResourceVersion| self.gone.as_ref() == Some(at) || *at == ResourceVersion::ZERO;
        let is_known = self.ledger.newest().is_some();
        if !is_known && !is_gone(self.ledger.from()) {
            return Some(self.ledger.from().clone());
        }
        let is_before = is_known && *self.ledger.from() <= closed;
        if is_before || !is_quiet || is_gone(&closed) {
            return None;
        }
        self.ledger.restart(closed.clone());
        Some(closed)
    }

    /// When the next list is due; `None` while one is under way.
    pub(super) fn due_at(
        &self,
        watching: &Watching,
        closed: &ResourceVersion,
        policy: &SessionPolicy,
    ) -> Option<u64> {
        if self.audit.is_some() {
            return None;
        }
        let mut due = u64::MAX;
        if policy.audit_ms > 0 {
            due = self.audit_at_ms;
        }
        if let Some(again) = self.again_at_ms {
            due = due.min(again);
        }
        if self.gone.as_ref() != Some(closed) {
            due = due.min(self.proven_ms.saturating_add(policy.quiet_ms));
            if watching.bound.is_some() && !self.is_settled {
                due = due.min(watching.heard_ms.saturating_add(policy.settle_ms));
            }
        }
        Some(due.max(self.not_before_ms))
    }
}

impl WatchSession {
    /// Events that the session asked to deliver are on their way, in this order.
    pub fn remember(&mut self, now_ms: u64, events: &[Event]) {
        self.verification.witnesses.remember(now_ms, events);
    }

    /// What to ask with a probe, and with a list of the present.
    pub fn questions(&self, now_ms: u64) -> Vec<Question> {
        let closed = self.progress.closed();
        self.verification.witnesses.questions(now_ms, &closed)
    }

    /// Whether a list is being asked for, taken or compared; what was begun for one may be dropped
    /// where none is.
    pub fn is_verifying(&self) -> bool {
        self.verification.audit.is_some()
    }

    pub(super) fn ask_to_list(&mut self) -> Outputs {
        self.verification.audit = Some(Audit::Asked);
        Output::AskToList.into()
    }

    pub(super) fn may_list(&mut self, now_ms: u64) -> Outputs {
        let (Some(Audit::Asked), SessionState::Watching(watching)) =
            (&self.verification.audit, &self.state)
        else {
            return Outputs::None;
        };
        let silent_ms = now_ms.saturating_sub(watching.heard_ms);
        let is_quiet = silent_ms >= self.policy.settle_ms.min(self.policy.quiet_ms);
        let (closed, top) = (self.progress.closed(), self.progress.top().clone());
        self.verification.again_at_ms = None;
        let exactly = self.verification.missing_base(closed, is_quiet);
        let verification = &mut self.verification;
        verification.ledger.begin();
        let above = verification.ledger.newest();
        verification.audit = Some(Audit::Listing {
            exactly: exactly.clone(),
            top,
        });
        Output::List { exactly, above }.into()
    }

    pub(super) fn listed(&mut self, now_ms: u64, listing: Listing, is_rewound: bool) -> Outputs {
        let is_below_bound = self.bound().is_some_and(|bound| listing.at() < bound);
        let verification = &mut self.verification;
        let Some(Audit::Listing { exactly, top }) = verification.audit.take() else {
            return Outputs::None;
        };
        if is_rewound {
            let finding = Finding::Rewound;
            return self.lose(GapReason::HistoryReset, listing.at().clone(), finding);
        }
        if verification.ledger.is_overrun() {
            return self.list_failed(now_ms, None);
        }
        if exactly.is_some() {
            verification.ledger.set_base(&listing);
            return self.list_present(top);
        }
        if *listing.at() < top || is_below_bound {
            // The probe decides.
            self.goal = Goal::Watch;
            return Outputs::from(Output::Abandon).then(self.probe());
        }
        if verification.ledger.newest().is_none() {
            verification.ledger.rebase(&listing);
            return self.verified(now_ms, &listing, Finding::Begun);
        }
        verification.audit = Some(Audit::Comparing {
            listing,
            since_ms: now_ms,
        });
        self.compare(now_ms, false)
    }

    pub(super) fn list_gone(&mut self, now_ms: u64) -> Outputs {
        match self.verification.audit.take() {
            Some(Audit::Listing {
                exactly: Some(exactly),
                top,
            }) => {
                // What was delivered before cannot be verified any more. What follows can.
                self.verification.gone = Some(exactly);
                self.list_present(top)
            }
            Some(Audit::Listing { exactly: None, .. }) => self.list_failed(now_ms, None),
            other => {
                self.verification.audit = other;
                Outputs::None
            }
        }
    }

    fn list_present(&mut self, top: ResourceVersion) -> Outputs {
        let exactly = None;
        self.verification.audit = Some(Audit::Listing { exactly, top });
        Output::List {
            exactly: None,
            above: self.verification.ledger.newest(),
        }
        .into()
    }

    pub(super) fn list_failed(&mut self, now_ms: u64, retry_after_ms: Option<u64>) -> Outputs {
        let wait_ms = self.policy.audit_retry_ms.max(retry_after_ms.unwrap_or(0));
        self.verification.audit = None;
        self.verification.ledger.fold();
        self.verification.not_before_ms = now_ms.saturating_add(wait_ms);
        Outputs::None
    }

    /// Compares the list that waits for it, where the watch has passed it or is silent.
    pub(super) fn compare(&mut self, now_ms: u64, is_silent: bool) -> Outputs {
        let Some(Audit::Comparing { listing, .. }) = &self.verification.audit else {
            return Outputs::None;
        };
        let has_passed = self.progress.closed() >= *listing.at();
        if !has_passed && !is_silent {
            return Outputs::None;
        }
        let listing = listing.clone();
        self.verification.audit = None;
        if self.verification.ledger.is_overrun() {
            return self.list_failed(now_ms, None);
        }
        match self.verification.ledger.compare(&listing) {
            Comparison::NoBase => self.list_failed(now_ms, None),
            Comparison::Agrees => self.agreed(now_ms, &listing),
            Comparison::Differs(difference) => {
                self.differs(now_ms, &listing, difference, has_passed)
            }
        }
    }

    fn agreed(&mut self, now_ms: u64, listing: &Listing) -> Outputs {
        let (at, closed) = (listing.at(), self.progress.closed());
        let ledger = &mut self.verification.ledger;
        let is_proven = *ledger.from() <= closed;
        ledger.rebase(listing);
        self.verification.is_doubted = false;
        self.verification.is_reopened = false;
        let outputs = self.verified(now_ms, listing, Finding::Agrees);
        if !is_proven {
            return outputs;
        }
        if let SessionState::Watching(watching) = &mut self.state {
            watching.bound = watching.bound.take().filter(|bound| bound > at);
        }
        self.verification.proven_ms = now_ms;
        outputs.then(self.close(at))
    }

    fn verified(&mut self, now_ms: u64, listing: &Listing, finding: Finding) -> Outputs {
        let audit_at_ms = now_ms.saturating_add(self.policy.audit_ms);
        self.verification.audit_at_ms = audit_at_ms;
        // Whatever it proves, another one straight away would prove no more.
        self.verification.not_before_ms = now_ms.saturating_add(self.policy.settle_ms);
        self.verification.is_settled = true;
        self.verification.witnesses.checked();
        if let Some(newest) = listing.newest() {
            self.verification.witnesses.show(newest);
        }
        let at = listing.at().clone();
        Output::Verified { at, finding }.into()
    }

    fn differs(
        &mut self,
        now_ms: u64,
        listing: &Listing,
        difference: Difference,
        has_passed: bool,
    ) -> Outputs {
        let closed = self.progress.closed();
        let missing = difference.missing;
        // What was delivered after it shows that it will not come any more.
        let was_passed = difference.lowest.is_some_and(|rv| rv <= closed) || has_passed;
        let at = listing.at().clone();
        let verification = &mut self.verification;
        let doubtful = Output::Verified {
            at: at.clone(),
            finding: Finding::Doubtful,
        };
        if was_passed && !verification.is_doubted {
            verification.is_doubted = true;
            verification.ledger.fold();
            return Outputs::from(doubtful).then(self.ask_to_list());
        }
        if !was_passed && !verification.is_reopened {
            verification.is_reopened = true;
            verification.ledger.fold();
            let again_at_ms = now_ms.saturating_add(self.policy.settle_ms);
            verification.again_at_ms = Some(again_at_ms);
            verification.not_before_ms = again_at_ms;
            self.goal = Goal::Watch;
            return Outputs::from(doubtful)
                .then(Output::Abandon)
                .then(self.probe());
        }
        let is_there = *verification.ledger.from() == closed;
        if !was_passed && difference.is_quiet && is_there {
            self.goal = Goal::Recover;
            let finding = Finding::Stuck { missing };
            return Outputs::from(Output::Verified { at, finding })
                .then(Output::Abandon)
                .then(self.probe());
        }
        let finding = Finding::Lost { missing };
        self.lose(GapReason::UpstreamInconsistent, at, finding)
    }

    fn lose(&mut self, reason: GapReason, at: ResourceVersion, finding: Finding) -> Outputs {
        self.goal = Goal::Renew(reason);
        Outputs::from(Output::Verified { at, finding })
            .then(Output::Abandon)
            .then(self.probe())
    }
}
