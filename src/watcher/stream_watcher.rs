//! Drives one [`WatchSession`]: carries out its outputs and reports the results.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::future::OptionFuture;
use kube::client::Body;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep},
};

use super::{
    WatchPolicy,
    alarm::Alarm,
    api_error::{ApiError, status_failure},
    backoff::Backoff,
    breaker::Settled,
    client::{ApiServer, read_chunk},
    events::{Line, LineReader, LineSplitter},
    health::Reporter,
    liveness::unanswered_since,
    outlet::{Batch, Outlet, Stopped},
    readiness::Readiness,
    repair::{self, Publication, RepairError},
    requests,
    verify::{Auditor, Done, ListTask, Verifying, is_rewound},
};
use crate::{
    clock::unix_now,
    domain::{
        cluster::StreamSelector,
        event::{Event, GapReason},
        position::ResourceVersion,
        stream::ResumePoint,
        watch_session::{Failure, Input, Output, Outputs, SessionPolicy, WatchSession},
    },
};

/// How long the API server is asked to keep a watch. Short enough that a forgotten watch ends
/// soon, and different for each, so that they do not all end at once.
const WATCH_SECONDS: std::ops::RangeInclusive<u64> = 240..=300;

/// The longest pause before a watch that ended is opened again: nobody has refused it. An API server
/// that cuts it again and again is asked less than twice a second for each stream.
const REOPEN_MAX: Duration = Duration::from_secs(4);

/// How long listening must be undisturbed for silence to count.
const LISTEN: Duration = Duration::from_millis(100);

/// What a stream watcher works with.
pub(super) struct Setting {
    pub(super) api: ApiServer,
    pub(super) selector: StreamSelector,
    /// Catch-ups do not report: the live stream does.
    pub(super) reporter: Option<Reporter>,
    pub(super) identity: Arc<ClusterIdentity>,
    pub(super) auditor: Auditor,
}

impl Setting {
    /// The same, for what is asked beside the live stream.
    pub(super) fn without_reporter(&self) -> Self {
        Self {
            api: self.api.clone(),
            selector: self.selector.clone(),
            reporter: None,
            identity: self.identity.clone(),
            auditor: self.auditor.clone(),
        }
    }
}

/// The identity of the cluster that a stream's current era belongs to, where known.
#[derive(Debug, Default)]
pub(super) struct ClusterIdentity(Mutex<Option<String>>);

impl ClusterIdentity {
    pub(super) fn new(uid: Option<String>) -> Self {
        Self(Mutex::new(uid.filter(|uid| !uid.is_empty())))
    }

    pub(super) fn get(&self) -> Option<String> {
        let uid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uid.clone()
    }

    fn set(&self, uid: String) {
        if !uid.is_empty() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(uid);
        }
    }
}

/// Drives one session.
pub(super) struct StreamWatcher {
    setting: Setting,
    session: WatchSession,
    outlet: Outlet,
    backoff: Backoff,
    started: Instant,
    watch: Option<OpenWatch>,
    /// When the API server left a request unanswered.
    unanswered: watch::Receiver<Option<Instant>>,
    /// Whether the last watch ended or broke off, and nothing has failed since.
    was_cut: bool,
    batch: Batch,
    /// What the session asked for and is waiting for.
    asked: Option<Output>,
    publication: Option<Publication>,
    verifying: Option<Verifying>,
    /// Leave to take a list, while the session decides whether it takes one.
    leave: Option<OwnedSemaphorePermit>,
}

/// What came first.
enum Happened {
    Read(Option<Result<Option<Bytes>, ApiError>>),
    /// The API server is silent on all connections, and leaves a request unanswered.
    Silent,
    Verified(Option<Done>),
}

struct OpenWatch {
    body: Body,
    lines: LineSplitter,
    reader: LineReader,
    /// When bytes came last.
    read_at: Instant,
    /// Whether any came.
    is_flowing: bool,
    alarm: Alarm,
}

impl OpenWatch {
    /// The next bytes; `None` when none came until the deadline, and this replica was listening.
    ///
    /// A deadline that passes while the receiver is behind or the process is stopped proves
    /// nothing: bytes may lie unread. So silence is what is still silent after a short while of
    /// undisturbed listening.
    async fn read_until(&mut self, deadline: Instant) -> Option<Result<Option<Bytes>, ApiError>> {
        loop {
            let until = deadline.max(Instant::now() + LISTEN);
            tokio::select! {
                biased;
                chunk = read_chunk(&mut self.body) => {
                    self.read_at = Instant::now();
                    return Some(chunk);
                }
                () = self.alarm.reached(until) => {}
            }
            // Woken much later, it was not listening.
            if until.elapsed() < LISTEN {
                return None;
            }
        }
    }
}

impl StreamWatcher {
    pub(super) fn new(setting: Setting, resume: ResumePoint, outlet: Outlet) -> Self {
        let policy = setting.api.policy();
        let session_policy = own_policy(policy, outlet.is_catch_up());
        Self {
            session: WatchSession::new(resume, setting.identity.get(), session_policy),
            backoff: Backoff::new(policy),
            unanswered: setting.api.liveness().unanswered(),
            setting,
            outlet,
            started: Instant::now(),
            watch: None,
            was_cut: false,
            batch: Batch::default(),
            asked: None,
            publication: None,
            verifying: None,
            leave: None,
        }
    }

    /// Runs until the receiver is gone or refuses an era.
    pub(super) async fn run(mut self) {
        let Err(Stopped) = self.drive().await;
    }

    async fn drive(&mut self) -> Result<std::convert::Infallible, Stopped> {
        self.apply(Input::Start).await?;
        loop {
            if let Some(asked) = self.asked.take() {
                let input = self.carry_out(asked).await?;
                self.apply(input).await?;
            } else {
                self.read().await?;
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Hands an input to the session and does what can be done at once.
    async fn apply(&mut self, input: Input<'_>) -> Result<(), Stopped> {
        let outputs = self.session.step(self.now_ms(), input);
        self.perform(outputs, None).await
    }

    /// The same for an event, which was read at this time.
    async fn apply_event(&mut self, now_ms: u64, event: Event) -> Result<(), Stopped> {
        let input = Input::Event {
            rv: &event.rv,
            change: event.change,
            uid: event.uid(),
        };
        let outputs = self.session.step(now_ms, input);
        self.perform(outputs, Some(event)).await
    }

    /// Does what can be done at once; `event` is the one of the input.
    async fn perform(&mut self, outputs: Outputs, mut event: Option<Event>) -> Result<(), Stopped> {
        for output in outputs {
            match output {
                Output::Deliver => {
                    if let Some(full) = event.take().and_then(|event| self.batch.push(event)) {
                        self.send(full).await?;
                    }
                }
                Output::Skip => event = None,
                Output::Abandon => self.watch = None,
                Output::Closed(rv) => {
                    self.flush().await?;
                    self.outlet.closed(rv).await?;
                }
                Output::AskToList => self.verifying = Some(Verifying::ask(&self.setting.auditor)),
                Output::List { exactly, above } => self.list(exactly, above),
                Output::Verified { at, finding } => {
                    let Setting { api, selector, .. } = &self.setting;
                    let auditor = &self.setting.auditor;
                    auditor.found(api.cluster(), selector, &at, finding);
                }
                request => {
                    self.flush().await?;
                    self.asked = Some(request);
                }
            }
        }
        if self.verifying.is_some() && !self.session.is_verifying() {
            self.verifying = None;
        }
        Ok(())
    }

    /// Takes a list beside the watch.
    fn list(&mut self, exactly: Option<ResourceVersion>, above: Option<ResourceVersion>) {
        let questions = match exactly {
            None => self.session.questions(self.now_ms()),
            Some(_) => Vec::new(),
        };
        let task = ListTask {
            api: self.setting.api.clone(),
            auditor: self.setting.auditor.clone(),
            selector: self.setting.selector.clone(),
            exactly,
            above,
            questions,
        };
        if let (Some(verifying), Some(leave)) = (&mut self.verifying, self.leave.take()) {
            verifying.list(leave, task);
        }
    }

    async fn verified(&mut self, done: Option<Done>) -> Result<(), Stopped> {
        let input = match done {
            Some(Done::Leave(leave)) => {
                self.leave = Some(leave);
                Input::MayList
            }
            Some(Done::List(leave, taken)) => {
                self.leave = Some(leave);
                taken.into()
            }
            None => Input::ListFailed {
                retry_after_ms: None,
            },
        };
        let applied = self.apply(input).await;
        self.leave = None;
        applied
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        let events = self.batch.take();
        self.send(events).await
    }

    async fn send(&mut self, events: Vec<Event>) -> Result<(), Stopped> {
        self.session.remember(self.now_ms(), &events);
        self.outlet.events(events).await
    }

    async fn carry_out(&mut self, asked: Output) -> Result<Input<'static>, Stopped> {
        let Setting { api, selector, .. } = &self.setting;
        let input = match asked {
            Output::Probe => {
                let questions = self.session.questions(self.now_ms());
                let history = is_rewound(api, selector, &questions);
                let (probed, is_rewound) = tokio::join!(api.probe(selector), history);
                probed.map(|(at, cluster_uid)| {
                    if let Some(reporter) = &self.setting.reporter {
                        reporter.probed(&cluster_uid);
                    }
                    Input::Probed {
                        at,
                        cluster_uid,
                        is_rewound,
                    }
                })
            }
            Output::Watch { from } => self.open(&from).await,
            Output::CheckRepair { from, to } => {
                let checked = repair::check(api, selector, [&from, &to]).await;
                repair_input(checked, Input::Repairable)
            }
            Output::CheckHistory { from, top, to } => {
                match repair::compare(api, selector, &from, [&top, &to]).await {
                    Ok(true) => Ok(Input::Unchanged),
                    differs => repair_input(differs.map(drop), Input::Repairable),
                }
            }
            Output::Repair { from, to } => {
                let publication = Publication::resume(self.publication.take(), from, to);
                let publication = self.publication.insert(publication);
                let published = publication
                    .run(api, selector, None, &mut self.outlet)
                    .await?;
                repair_input(published, Input::Repaired)
            }
            Output::EraNeeded {
                reason,
                to,
                repaired,
                cluster_uid,
            } => {
                return self.ask_for_era(reason, to, repaired, cluster_uid).await;
            }
            Output::Wait {
                retry_after_ms,
                fresh,
            } => {
                self.wait(fresh, retry_after_ms).await;
                return Ok(Input::Waited);
            }
            // Done at once in `apply`.
            Output::Deliver
            | Output::Skip
            | Output::Abandon
            | Output::Closed(_)
            | Output::AskToList
            | Output::List { .. }
            | Output::Verified { .. } => return Ok(Input::Tick),
        };
        Ok(match input {
            Ok(input) => {
                self.outlet.heard();
                input
            }
            Err(error) => self.fail(&error),
        })
    }

    /// Waits for the cluster where it is in trouble, and for as long as this stream's own trouble
    /// is worth otherwise.
    async fn wait(&mut self, fresh: bool, retry_after_ms: Option<u64>) {
        let Setting {
            api,
            selector,
            reporter,
            ..
        } = &self.setting;
        let held_back = |error: &ApiError| {
            if let Some(reporter) = reporter {
                reporter.held_back(error);
            }
        };
        let server = Readiness { api, selector };
        match api.breaker().settle(&server, held_back).await {
            // Whatever failed before, the cluster is another one now.
            Settled::Back => self.backoff.reset(),
            Settled::Answers => {
                let delay = if std::mem::take(&mut self.was_cut) {
                    self.backoff.next_within(REOPEN_MAX, fresh)
                } else {
                    self.backoff.next(fresh, retry_after_ms)
                };
                api.breaker().pause(delay).await;
            }
        }
    }

    async fn ask_for_era(
        &mut self,
        reason: GapReason,
        to: ResourceVersion,
        repaired: bool,
        cluster_uid: String,
    ) -> Result<Input<'static>, Stopped> {
        if let Some(reporter) = &self.setting.reporter {
            reporter.awaiting_era();
        }
        let uid = cluster_uid.clone();
        self.outlet.era(reason, to, repaired, uid).await?;
        self.setting.identity.set(cluster_uid);
        Ok(Input::Granted)
    }

    fn fail(&mut self, error: &ApiError) -> Input<'static> {
        self.was_cut = false;
        let failure = error.failure();
        // What is gone is repaired or reported by a new era; no action is needed.
        if failure != Failure::Gone
            && let Some(reporter) = &self.setting.reporter
        {
            match error {
                ApiError::HeldBack(_) => reporter.held_back(error),
                _ => reporter.failing(error),
            }
        }
        Input::Failed(failure)
    }

    async fn open(&mut self, from: &ResourceVersion) -> Result<Input<'static>, ApiError> {
        // Version 0 would mean "any state", which may be an old one (trap T9).
        if *from == ResourceVersion::ZERO {
            return Ok(Input::Failed(Failure::Gone));
        }
        let Setting { api, selector, .. } = &self.setting;
        let seconds = api.policy().chance.within(WATCH_SECONDS);
        let request = requests::watch(selector, from, seconds);
        let (body, cluster_uid) = api.watch(request, self.session.cluster_uid()).await?;
        self.watch = Some(OpenWatch {
            body,
            lines: LineSplitter::default(),
            reader: LineReader::new(),
            read_at: Instant::now(),
            is_flowing: false,
            alarm: Alarm::new(FAR),
        });
        if let Some(reporter) = &self.setting.reporter {
            reporter.open();
        }
        Ok(Input::Opened { cluster_uid })
    }

    /// Waits for the watch, or until the session wants to be woken.
    async fn read(&mut self) -> Result<(), Stopped> {
        let Some(watch) = &mut self.watch else {
            // The session always waits for something; if it did not, this would not spin.
            sleep(FAR).await;
            return Ok(());
        };
        let torn = watch.lines.is_torn();
        let deadline = if torn {
            watch.read_at + self.setting.api.policy().response_timeout
        } else {
            let wake = self.session.wake_at().map_or(FAR, Duration::from_millis);
            self.started + wake
        };
        let read_at = watch.read_at;
        let verified = self.verifying.as_mut().map(Verifying::done);
        let verified: OptionFuture<_> = verified.into();
        let happened = tokio::select! {
            // A watch that always has something is read as if it were alone, but for this.
            biased;
            Some(done) = verified => Happened::Verified(done),
            read = watch.read_until(deadline) => Happened::Read(read),
            () = unanswered_since(&mut self.unanswered, read_at) => Happened::Silent,
        };
        let read = match happened {
            Happened::Read(read) => read,
            Happened::Silent => return self.end(BROKEN).await,
            Happened::Verified(done) => return self.verified(done).await,
        };
        match read {
            None if torn => self.end(BROKEN).await,
            None => self.apply(Input::Tick).await,
            Some(Ok(Some(chunk))) => {
                watch.lines.push(chunk);
                if !std::mem::replace(&mut watch.is_flowing, true)
                    && let Some(reporter) = &self.setting.reporter
                {
                    reporter.flowing();
                }
                self.setting.api.liveness().heard();
                self.outlet.heard();
                self.read_lines().await?;
                self.flush().await
            }
            Some(Ok(None)) if torn => self.end(BROKEN).await,
            Some(Ok(None)) => self.end(Input::Ended).await,
            Some(Err(error)) => {
                tracing::debug!(%error, "watch connection failed");
                if error.is_unacknowledged() {
                    self.setting.api.breaker().unacknowledged();
                }
                self.end(BROKEN).await
            }
        }
    }

    async fn end(&mut self, input: Input<'_>) -> Result<(), Stopped> {
        self.watch = None;
        self.was_cut = true;
        if input == BROKEN {
            self.setting.api.breaker().failed();
        }
        self.apply(input).await
    }

    /// Processes whole lines, as long as the session keeps the watch.
    async fn read_lines(&mut self) -> Result<(), Stopped> {
        let (seen, now_ms) = (unix_now(), self.now_ms());
        while let Some(watch) = &mut self.watch {
            let line = match watch.lines.next_line() {
                Ok(None) => return Ok(()),
                Ok(Some(line)) if line.trim_ascii().is_empty() => continue,
                Ok(Some(line)) => watch.reader.read(&line, seen),
                Err(error) => Err(error),
            };
            let input = match line {
                Ok(Line::Event(event)) => {
                    self.apply_event(now_ms, event).await?;
                    continue;
                }
                Ok(Line::Bookmark(rv)) => Input::Bookmark(rv),
                Ok(Line::Error(status)) => {
                    tracing::debug!(code = status.code, message = %status.message, "watch error");
                    Input::Failed(status_failure(&status))
                }
                Err(error) => self.fail(&error.into()),
            };
            self.apply(input).await?;
        }
        Ok(())
    }
}

/// Streams that fall silent together do not probe and list together. A catch-up has no need of
/// regular verifications, but of its position, wherever it begins.
fn own_policy(policy: &WatchPolicy, is_catch_up: bool) -> SessionPolicy {
    let (policy, chance) = (&policy.session, &policy.chance);
    let spread = |ms: u64, by: u64| ms + chance.within(0..=ms / by);
    SessionPolicy {
        silence_ms: spread(policy.silence_ms, 10),
        quiet_ms: spread(policy.quiet_ms, 10),
        settle_ms: spread(policy.settle_ms, 1),
        audit_ms: if is_catch_up {
            0
        } else {
            spread(policy.audit_ms, 5)
        },
        settles_always: is_catch_up || policy.settles_always,
        ..policy.clone()
    }
}

fn repair_input(
    done: Result<(), RepairError>,
    input: Input<'static>,
) -> Result<Input<'static>, ApiError> {
    match done {
        Ok(()) => Ok(input),
        Err(RepairError::Irreparable) => Ok(Input::Irreparable),
        Err(RepairError::Failed(error)) => Err(error),
    }
}

/// Long enough never to come in a session's life between two events.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

const BROKEN: Input<'static> = Input::Failed(Failure::Other {
    retry_after_ms: None,
});
