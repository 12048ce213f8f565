//! Drives one [`WatchSession`]: does what it asks for and tells it what came of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use kube::client::Body;
use rand::Rng as _;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    api_error::{ApiError, status_failure},
    backoff::Backoff,
    client::{ApiServer, read_chunk},
    frames::{Line, LineSplitter, read_line},
    health::Reporter,
    outlet::{Batch, Outlet, Stopped},
    repair::{self, Publication, RepairError},
    requests,
};
use crate::{
    clock::unix_now,
    domain::{
        cluster::StreamSelector,
        frame::Frame,
        position::ResourceVersion,
        stream::ResumePoint,
        watch_session::{Failure, Input, Output, WatchSession},
    },
};

/// How long the API server is asked to keep a watch. Short enough that a forgotten watch ends
/// soon, and different for each, so that they do not all end at once.
const WATCH_SECONDS: std::ops::RangeInclusive<u32> = 240..=300;

/// How long listening must be undisturbed for silence to count.
const LISTEN: Duration = Duration::from_millis(100);

/// What a stream watcher works with.
pub(super) struct Setting {
    pub(super) api: ApiServer,
    pub(super) selector: StreamSelector,
    /// Catch-ups do not report: the live stream does.
    pub(super) reporter: Option<Reporter>,
    pub(super) identity: Arc<Identity>,
}

impl Setting {
    /// The same, for what is asked beside the live stream.
    pub(super) fn without_reporter(&self) -> Self {
        Self {
            api: self.api.clone(),
            selector: self.selector.clone(),
            reporter: None,
            identity: self.identity.clone(),
        }
    }
}

/// The identity of the cluster that a stream's current era belongs to, where known.
#[derive(Debug, Default)]
pub(super) struct Identity(Mutex<Option<String>>);

impl Identity {
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
    batch: Batch,
    /// What the session asked for and is waiting for.
    asked: Option<Output>,
    publication: Option<Publication>,
}

struct OpenWatch {
    body: Body,
    lines: LineSplitter,
    /// When bytes came last.
    read_at: Instant,
}

impl OpenWatch {
    /// The next bytes; `None` when none came until the deadline, and this replica was listening.
    ///
    /// A deadline that passes while the receiver is behind or the process stands still says
    /// nothing: bytes may lie unread. So silence is what is still silent after a short while of
    /// undisturbed listening.
    async fn read_until(&mut self, deadline: Instant) -> Option<Result<Option<Bytes>, ApiError>> {
        let mut until = deadline;
        loop {
            let begun = Instant::now();
            tokio::select! {
                chunk = read_chunk(&mut self.body) => {
                    self.read_at = Instant::now();
                    return Some(chunk);
                }
                () = sleep_until(until) => {}
            }
            let listened = until.saturating_duration_since(begun) >= LISTEN;
            if listened && until.elapsed() < LISTEN {
                return None;
            }
            until = Instant::now() + LISTEN;
        }
    }
}

impl StreamWatcher {
    pub(super) fn new(setting: Setting, resume: ResumePoint, outlet: Outlet) -> Self {
        let policy = setting.api.policy();
        let mut session_policy = policy.session.clone();
        // Streams that fall silent together do not probe together.
        let tenth = session_policy.silence_ms / 10;
        session_policy.silence_ms += rand::rng().random_range(0..=tenth);
        Self {
            session: WatchSession::new(resume, setting.identity.get(), session_policy),
            backoff: Backoff::new(policy.backoff_min, policy.backoff_max),
            setting,
            outlet,
            started: Instant::now(),
            watch: None,
            batch: Batch::default(),
            asked: None,
            publication: None,
        }
    }

    /// Runs until the receiver is gone or refuses an era.
    pub(super) async fn run(mut self) {
        let Err(Stopped) = self.drive().await;
    }

    async fn drive(&mut self) -> Result<std::convert::Infallible, Stopped> {
        self.apply(Input::Start, None).await?;
        loop {
            if let Some(asked) = self.asked.take() {
                let input = self.carry_out(asked).await?;
                self.apply(input, None).await?;
            } else {
                self.read().await?;
            }
        }
    }

    /// Hands an input to the session and does what can be done at once; `frame` is the one that
    /// the input tells of.
    async fn apply(&mut self, input: Input, mut frame: Option<Frame>) -> Result<(), Stopped> {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        for output in self.session.step(now_ms, input) {
            match output {
                Output::Deliver => {
                    if let Some(full) = frame.take().and_then(|frame| self.batch.push(frame)) {
                        self.outlet.frames(full).await?;
                    }
                }
                Output::Skip => frame = None,
                Output::Abandon => self.watch = None,
                Output::Closed(rv) => {
                    self.flush().await?;
                    self.outlet.closed(rv).await?;
                }
                request => {
                    self.flush().await?;
                    self.asked = Some(request);
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        let frames = self.batch.take();
        self.outlet.frames(frames).await
    }

    async fn carry_out(&mut self, asked: Output) -> Result<Input, Stopped> {
        let Setting { api, selector, .. } = &self.setting;
        let input = match asked {
            Output::Probe => api.probe(selector).await.map(|(at, cluster_uid)| {
                if let Some(reporter) = &self.setting.reporter {
                    reporter.probed(&cluster_uid);
                }
                Input::Probed { at, cluster_uid }
            }),
            Output::Watch { from } => self.open(&from).await,
            Output::CheckRepair { from, to } => {
                let checked = repair::check(api, selector, [&from, &to]).await;
                repair_input(checked, Input::Repairable)
            }
            Output::Repair { from, to } => {
                let publication = Publication::resume(self.publication.take(), from, to);
                let publication = self.publication.insert(publication);
                let published = publication.run(api, selector, &mut self.outlet).await?;
                repair_input(published, Input::Repaired)
            }
            Output::EraNeeded {
                reason,
                to,
                repaired,
                cluster_uid,
            } => {
                let uid = cluster_uid.clone();
                self.outlet.era(reason, to, repaired, uid).await?;
                self.setting.identity.set(cluster_uid);
                return Ok(Input::Granted);
            }
            Output::Wait {
                retry_after_ms,
                fresh,
            } => {
                sleep(self.backoff.next(fresh, retry_after_ms)).await;
                return Ok(Input::Waited);
            }
            // Done at once in `apply`.
            Output::Deliver | Output::Skip | Output::Abandon | Output::Closed(_) => {
                return Ok(Input::Tick);
            }
        };
        Ok(match input {
            Ok(input) => {
                self.outlet.heard();
                input
            }
            Err(error) => self.fail(&error),
        })
    }

    fn fail(&self, error: &ApiError) -> Input {
        let failure = error.failure();
        // What is gone is repaired or told by an era; nobody needs to act.
        if failure != Failure::Gone
            && let Some(reporter) = &self.setting.reporter
        {
            reporter.failing(error);
        }
        Input::Failed(failure)
    }

    async fn open(&mut self, from: &ResourceVersion) -> Result<Input, ApiError> {
        // Version 0 would mean "any state", which may be an old one (trap T9).
        if *from == ResourceVersion::ZERO {
            return Ok(Input::Failed(Failure::Gone));
        }
        let Setting { api, selector, .. } = &self.setting;
        let seconds = rand::rng().random_range(WATCH_SECONDS);
        let body = api.open(requests::watch(selector, from, seconds)).await?;
        self.watch = Some(OpenWatch {
            body,
            lines: LineSplitter::default(),
            read_at: Instant::now(),
        });
        if let Some(reporter) = &self.setting.reporter {
            reporter.watching();
        }
        Ok(Input::Opened)
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
        match watch.read_until(deadline).await {
            None if torn => self.end(BROKEN).await,
            None => self.apply(Input::Tick, None).await,
            Some(Ok(Some(chunk))) => {
                watch.lines.push(&chunk);
                self.outlet.heard();
                self.read_lines().await?;
                self.flush().await
            }
            Some(Ok(None)) if torn => self.end(BROKEN).await,
            Some(Ok(None)) => self.end(Input::Ended).await,
            Some(Err(error)) => {
                tracing::debug!(%error, "watch broke");
                self.end(BROKEN).await
            }
        }
    }

    async fn end(&mut self, input: Input) -> Result<(), Stopped> {
        self.watch = None;
        self.apply(input, None).await
    }

    /// Hands in whole lines, as long as the session keeps the watch.
    async fn read_lines(&mut self) -> Result<(), Stopped> {
        let seen = unix_now();
        while let Some(watch) = &mut self.watch {
            let line = match watch.lines.next_line() {
                Ok(None) => return Ok(()),
                Ok(Some(line)) if line.trim_ascii().is_empty() => continue,
                Ok(Some(line)) => read_line(&line, seen),
                Err(error) => Err(error),
            };
            let (input, frame) = match line {
                Ok(Line::Frame(frame)) => {
                    let (rv, change) = (frame.rv.clone(), frame.change);
                    (Input::Frame { rv, change }, Some(frame))
                }
                Ok(Line::Bookmark(rv)) => (Input::Bookmark(rv), None),
                Ok(Line::Error(status)) => {
                    tracing::debug!(code = status.code, message = %status.message, "watch error");
                    (Input::Failed(status_failure(&status)), None)
                }
                Err(error) => (self.fail(&error.into()), None),
            };
            self.apply(input, frame).await?;
        }
        Ok(())
    }
}

fn repair_input(done: Result<(), RepairError>, input: Input) -> Result<Input, ApiError> {
    match done {
        Ok(()) => Ok(input),
        Err(RepairError::Irreparable) => Ok(Input::Irreparable),
        Err(RepairError::Failed(error)) => Err(error),
    }
}

/// Long enough never to come in a session's life between two events.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

const BROKEN: Input = Input::Failed(Failure::Other {
    retry_after_ms: None,
});
