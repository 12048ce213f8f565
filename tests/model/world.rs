//! The state of a search: [`World`], and what is common to all that happens in it.

use quorumwatch::domain::{
    command::{BeginEra, Command, Outcome, Rejection},
    delivery::{item::Item, publication::Publication},
    event::Event,
    id::{Epoch, Revision, UnixMillis},
    position::Position,
    state::State,
    stream::{EraStart, ResumePoint, Stream},
};

use crate::{
    digest::Digested,
    group::{Group, STREAM, index_of},
    invariants::facts::number,
    replica::{Asking, Replica, Run},
    scope::{Budget, Milestone, Plant, Scope},
    server::{Api, Server},
    subscriber::Subscriber,
    watch::{Signal, Waits, Watch},
};

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) group: Group,
    /// Commands on their way into the log. Any may be committed next, or never.
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) left: Budget,
    /// Which changes any owner has published.
    pub(crate) published: Vec<bool>,
    /// Everything up to this version is part of a list with which an era began, or of net changes
    /// that were published completely.
    pub(crate) covered: u64,
    /// Something that the service would report as an error of its own.
    pub(crate) defect: Option<String>,
    /// How many copies of proposals there were.
    tickets: u32,
}

/// A command on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proposal {
    /// The replica that waits for what comes of it.
    pub(crate) from: Option<usize>,
    pub(crate) ticket: u32,
    pub(crate) command: Digested<Command>,
}

impl World {
    pub(crate) fn new(scope: &Scope) -> Self {
        let server = Server {
            written: scope.already,
            ..Server::default()
        };
        let api = Api {
            server: &server,
            script: &scope.script,
        };
        let group = Group::found(scope, api.now());
        let replica = Replica {
            up: true,
            applied: group.revision(),
            ..Replica::default()
        };
        let starts = scope.starts.iter();
        Self {
            covered: if scope.fresh { 0 } else { api.now() },
            group,
            proposals: Vec::new(),
            replicas: vec![replica; scope.replicas],
            subscribers: starts.map(|start| Subscriber::new(*start)).collect(),
            left: scope.budget,
            published: vec![false; scope.script.len()],
            defect: None,
            tickets: 0,
            server,
        }
    }

    /// The state as a replica knows it.
    pub(crate) fn state(&self, replica: usize) -> &State {
        self.group.state(self.replicas[replica].applied)
    }

    /// Something that must not happen.
    pub(crate) fn report(&mut self, defect: impl Into<String>) {
        self.defect.get_or_insert_with(|| defect.into());
    }

    /// Forgets states that no replica is in any more.
    pub(crate) fn forget(&mut self) {
        let newest = self.group.revision();
        let up = self.replicas.iter().filter(|replica| replica.up);
        let oldest = up.map(|replica| replica.applied).min();
        self.group.forget_before(oldest.unwrap_or(newest));
    }

    /// Commits a command, and lets those apply it that do so at once.
    pub(crate) fn commit(&mut self, scope: &Scope, command: &Command) -> Option<Outcome> {
        let outcome = match self.group.commit(command, scope) {
            Ok(outcome) => outcome,
            Err(wrong) => {
                self.report(wrong);
                return None;
            }
        };
        if let (Command::BeginEra(_), Outcome::Era(_)) = (command, &outcome)
            && let Some(start) = &self.group.stream().era
            && !start.repaired
        {
            self.covered = self.covered.max(number(&start.to));
        }
        let revision = self.group.revision();
        for (index, replica) in self.replicas.iter_mut().enumerate() {
            if replica.up && !scope.lagging.contains(&index) {
                replica.applied = revision;
            }
        }
        Some(outcome)
    }

    /// Proposes a command, which is on its way then; the number of this copy.
    pub(crate) fn propose(&mut self, from: Option<usize>, command: Command) -> u32 {
        self.tickets += 1;
        let ticket = self.tickets;
        self.proposals.push(Proposal {
            from,
            ticket,
            command: Digested::new(command),
        });
        ticket
    }

    /// Commits what was proposed; the proposer gets the outcome, if it still waits for it.
    pub(crate) fn commit_proposal(&mut self, scope: &Scope, index: usize) {
        let proposal = self.proposals.remove(index);
        let Some(outcome) = self.commit(scope, &proposal.command) else {
            return;
        };
        let revision = self.group.revision();
        let waiting = proposal.from.and_then(|from| self.replicas.get_mut(from));
        let run = waiting.and_then(|replica| replica.run.as_mut());
        if let Some(asking) = run.and_then(|run| run.asking.as_mut())
            && asking.ticket == proposal.ticket
        {
            asking.answer = Some((revision, Digested::new(outcome)));
        }
    }

    /// What follows without delay: proposals are committed where they take no time, and replicas
    /// take outcomes in once they have applied them.
    pub(crate) fn settle(&mut self, scope: &Scope) {
        loop {
            let mut settled = true;
            if !scope.delayed && !self.proposals.is_empty() {
                self.commit_proposal(scope, 0);
                settled = false;
            }
            for replica in 0..self.replicas.len() {
                if let Some((begin, outcome)) = self.take_answer(replica) {
                    self.answered(scope, replica, &begin, &outcome);
                    settled = false;
                }
            }
            if settled || self.defect.is_some() {
                return;
            }
        }
    }

    fn take_answer(&mut self, replica: usize) -> Option<(BeginEra, Outcome)> {
        let replica = &mut self.replicas[replica];
        let run = replica.run.as_mut()?;
        let (revision, outcome) = run.asking.as_ref()?.answer.as_ref()?;
        if replica.applied < *revision {
            return None;
        }
        let outcome = (**outcome).clone();
        let asking = run.asking.take()?;
        Some(((*asking.begin).clone(), outcome))
    }

    /// As `agent::stream` takes the outcome of a proposed era in.
    fn answered(&mut self, scope: &Scope, replica: usize, begin: &BeginEra, outcome: &Outcome) {
        let begun = begun(self.state(replica), begin);
        match (outcome, begun) {
            (Outcome::Era(_) | Outcome::Rejected(Rejection::StaleEra(_)), Some(start)) => {
                if matches!(outcome, Outcome::Rejected(_)) {
                    scope.reached.note(Milestone::EraRepeated);
                }
                self.granted(scope, replica, start);
            }
            // The watches were opened too early: others begin at the checkpoint.
            (Outcome::Rejected(Rejection::StaleCheckpoint), _) => {
                let key = self.replicas[replica].run.as_ref().map(Run::key);
                if let Some((epoch, revision, _)) = key {
                    self.start(scope, replica, epoch, revision);
                }
            }
            (Outcome::Rejected(Rejection::StaleEra(_)), None) => {
                self.report("the stream is in an unknown era");
            }
            _ => {
                if let Some(run) = &mut self.replicas[replica].run {
                    run.over = true;
                }
            }
        }
    }

    /// The run continues in an era that it has proposed.
    pub(crate) fn granted(&mut self, scope: &Scope, replica: usize, start: EraStart) {
        self.publish(scope, replica, |publication| publication.begin_era(start));
        self.drive(scope, replica, |watch, api| watch.granted(api));
    }

    /// Begins a run, with watches that were opened before where they still fit.
    pub(crate) fn start(
        &mut self,
        scope: &Scope,
        replica: usize,
        epoch: Epoch,
        revision: Revision,
    ) {
        let agreed = self.state(replica).streams[&STREAM].clone();
        let server = self.server;
        let api = Api {
            server: &server,
            script: &scope.script,
        };
        let owner = &mut self.replicas[replica];
        let prepared = owner.prepared.take();
        let fits = prepared.filter(|prepared| prepared.stream.era == agreed.era);
        let (stream, watch) = match fits {
            Some(prepared) => {
                scope.reached.note(Milestone::Prepared);
                ((*prepared.stream).clone(), prepared.watch)
            }
            None => {
                let point = resume_point(&agreed, scope);
                (agreed, Watch::open(point, api))
            }
        };
        owner.begin_run(epoch, revision, watch);
        if let Some(start) = stream.era.clone() {
            let point = resume_point(&stream, scope);
            self.publish(scope, replica, |publication| {
                publication.resume(start, &point)
            });
        }
        self.ask(replica);
    }

    /// Lets the session of a run go on, and publishes what it gives.
    pub(crate) fn drive(
        &mut self,
        scope: &Scope,
        replica: usize,
        go_on: impl FnOnce(&mut Watch, Api<'_>) -> Vec<Signal>,
    ) {
        let server = self.server;
        let api = Api {
            server: &server,
            script: &scope.script,
        };
        let Some(run) = &mut self.replicas[replica].run else {
            return;
        };
        for signal in go_on(&mut run.watch, api) {
            match signal {
                Signal::Event(event) => self.publish_event(scope, replica, event),
                Signal::Closed(rv) => {
                    self.publish(scope, replica, |publication| publication.close(&rv));
                }
            }
        }
        self.ask(replica);
    }

    /// Publishes something; whether the log has taken it.
    pub(crate) fn publish(
        &mut self,
        scope: &Scope,
        replica: usize,
        give: impl FnOnce(&mut Publication) -> Vec<Item>,
    ) -> bool {
        match self.replicas[replica].publish(scope, give) {
            Ok(is_taken) => is_taken,
            Err(defect) => {
                self.report(defect);
                false
            }
        }
    }

    fn publish_event(&mut self, scope: &Scope, replica: usize, event: Event) {
        let of = scope
            .script
            .iter()
            .position(|written| written.rv == number(&event.rv) && written.object == event.name());
        let mut late = 0;
        let is_taken = self.publish(scope, replica, |publication| {
            let numbered = publication.events(vec![event]);
            late = numbered.late;
            numbered.items
        });
        if late > 0 {
            self.report("an event arrived after its version was closed");
        }
        if let Some(of) = of.filter(|_| is_taken) {
            self.published[of] = true;
        }
    }

    /// Proposes the era that the session of a run asks for.
    fn ask(&mut self, replica: usize) {
        let Some(run) = &self.replicas[replica].run else {
            return;
        };
        let Waits::Era {
            reason,
            to,
            repaired,
        } = run.watch.waits
        else {
            return;
        };
        if run.asking.is_some() || run.over {
            return;
        }
        let begin = BeginEra {
            stream: STREAM,
            epoch: run.epoch,
            run: run.revision,
            expected_era: run.era(),
            from: run.publication.checkpoint(),
            reason,
            to: to.into(),
            repaired,
            cluster_uid: String::new(),
            at: UnixMillis(u64::from(self.tickets) + 1),
        };
        let ticket = self.propose(Some(replica), Command::BeginEra(begin.clone()));
        if let Some(run) = &mut self.replicas[replica].run {
            run.asking = Some(Asking {
                begin: Digested::new(begin),
                ticket,
                answer: None,
            });
        }
    }

    /// The replica that owns the shard, as another one knows it, and the epoch.
    pub(crate) fn owner(&self, replica: usize) -> Option<(usize, Epoch)> {
        let assignment = self.state(replica).assignment_of(STREAM)?;
        let owner = index_of(assignment.owner()?);
        Some((owner, assignment.epoch()))
    }

    /// Whether a subscriber is connected to a replica.
    pub(crate) fn serves(&self, replica: usize) -> bool {
        let mut subscribers = self.subscribers.iter();
        subscribers.any(|subscriber| subscriber.at == Some(replica))
    }
}

/// How the era began that a proposal asked for, if a state knows it: as `agent::stream` finds out.
pub(crate) fn begun(state: &State, begin: &BeginEra) -> Option<EraStart> {
    let start = state.streams.get(&STREAM)?.era.as_ref()?;
    let is_own = Some(start.era) > begin.expected_era
        && start.reason == begin.reason
        && start.to == begin.to
        && start.at == begin.at;
    is_own.then(|| start.clone())
}

/// Where a run begins, or one version later where the driver does that wrong.
fn resume_point(stream: &Stream, scope: &Scope) -> ResumePoint {
    match stream.resume_point() {
        ResumePoint::At(position) if scope.plants(Plant::ResumedTooLate) => {
            let later = number(&position.rv) + 1;
            ResumePoint::At(Position::closed(position.era, later.into()))
        }
        point => {
            if matches!(point, ResumePoint::Repair { .. }) {
                scope.reached.note(Milestone::RepairResumed);
            }
            point
        }
    }
}
