//! Follows a subscription: prints, keeps the cursor, and says what happens to the connection.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    arguments::Arguments, cursor_file::CursorFile, owners::OwnerChanges, printer::Printer,
};
use crate::{
    cli::{
        Endpoint, Endpoints, Error, output,
        status::LAG_MAX_MS,
        subscription::{Subscription, Update},
        terminal,
        time::short,
    },
    proto::v1::{Progress, ShardChange, subscribe_response::Frame},
};

/// How often the cursor is saved while frames come: what is printed again after a crash.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Follows a subscription.
pub(super) struct Follower {
    subscription: Subscription,
    endpoints: Endpoints,
    owners: Option<OwnerChanges>,
    printer: Printer,
    file: Option<CursorFile>,
    /// How many events are still to be printed.
    left: u64,
    until: Option<Instant>,
    quiet: bool,
    connected: bool,
    /// Since when no replica serves the subscription.
    interrupted: Option<Instant>,
    /// Whether any stream matches, as far as is known.
    covers: bool,
    /// The clusters of the streams that match.
    clusters: BTreeSet<String>,
    /// Streams that have not been heard for too long.
    lagging: BTreeSet<String>,
    /// Attempts that failed since the last one that did not.
    failed: Vec<String>,
}

impl Follower {
    pub(super) fn new(
        subscription: Subscription,
        endpoints: Endpoints,
        owners: Option<OwnerChanges>,
        printer: Printer,
        file: Option<CursorFile>,
        arguments: &Arguments,
    ) -> Self {
        Self {
            subscription,
            endpoints,
            owners,
            printer,
            file,
            left: arguments.limit.unwrap_or(u64::MAX),
            until: arguments.duration.map(|length| Instant::now() + length),
            quiet: arguments.is_quiet(),
            connected: false,
            interrupted: None,
            covers: true,
            clusters: BTreeSet::new(),
            lagging: BTreeSet::new(),
            failed: Vec::new(),
        }
    }

    /// Follows until Ctrl-C, the limit, or an error; what was printed then counts as seen.
    pub(super) async fn run(mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let result = self.follow(shutdown).await;
        // What could not be written must not count as seen, not even where the rest of it can be.
        if matches!(result, Err(Error::Output(_))) {
            return result;
        }
        self.printer.end(self.subscription.cursor())?;
        self.save()?;
        match result {
            Err(Error::Refused { status, .. })
                if status.code() == Code::InvalidArgument
                    && status.message().starts_with("cursor:")
                    && self.file.is_some() =>
            {
                let file = self.file.as_ref();
                file.map_or(Ok(()), |file| Err(file.refused(status.message())))
            }
            result => result,
        }
    }

    async fn follow(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut tick = interval(SAVE_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.left > 0 {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = at(self.until) => return Ok(()),
                _ = tick.tick() => {
                    if terminal::reader_has_left() {
                        let left = std::io::ErrorKind::BrokenPipe;
                        return Err(Error::Output(left.into()));
                    }
                    self.printer.flush()?;
                    self.save()?;
                }
                update = self.subscription.next() => self.take(update?)?,
                change = next(self.owners.as_mut()) => self.owner_changed(&change)?,
                // Nothing more is at hand: show what is.
                () = std::future::ready(()), if self.printer.has_buffered() => {
                    self.printer.flush()?;
                }
            }
        }
        Ok(())
    }

    /// Keeps the cursor; what it covers has been written.
    fn save(&mut self) -> Result<(), Error> {
        let cursor = self.subscription.cursor();
        self.file.as_mut().map_or(Ok(()), |file| file.save(cursor))
    }

    fn take(&mut self, update: Update) -> Result<(), Error> {
        match update {
            Update::Connected(endpoint) => {
                self.goes_on(&endpoint);
                Ok(())
            }
            Update::Interrupted { endpoint, reason } => self.stops(&endpoint, &reason),
            Update::Frame(response) => {
                match &response.frame {
                    Some(Frame::Event(_)) => self.left -= 1,
                    Some(Frame::Progress(progress)) => self.cover(progress),
                    _ => {}
                }
                self.printer.print(&response, self.subscription.cursor())
            }
        }
    }

    fn goes_on(&mut self, endpoint: &Endpoint) {
        if let Some(since) = self.interrupted.take().filter(|_| self.connected) {
            let milliseconds = since.elapsed().as_millis();
            self.note(&format!("goes on at {endpoint} after {milliseconds} ms"));
        }
        self.connected = true;
        self.failed.clear();
        self.printer.served_by(endpoint);
    }

    fn stops(&mut self, endpoint: &Endpoint, reason: &str) -> Result<(), Error> {
        let replicas = self.endpoints.len();
        if self.connected && self.failed.is_empty() {
            self.interrupted.get_or_insert_with(Instant::now);
            self.note(&format!("{endpoint} serves no more ({reason}); resuming"));
        }
        // After one round the list is complete; later rounds would only repeat it.
        if self.failed.len() < replicas {
            self.failed.push(format!("{endpoint}: {reason}"));
            if self.failed.len() == replicas {
                if !self.connected {
                    return Err(self.endpoints.no_answer(std::mem::take(&mut self.failed)));
                }
                if replicas > 1 {
                    self.note("no replica serves now; trying until one does");
                }
            }
        }
        Ok(())
    }

    /// Silence would look like a cluster where nothing happens.
    fn cover(&mut self, progress: &Progress) {
        let covers = !progress.streams.is_empty();
        if self.covers && !covers {
            output::note(
                "no cluster and resource of the group matches; waiting for one \
                 (`quorumwatch clusters` shows them)",
            );
        }
        self.covers = covers;
        let clusters = progress.streams.iter();
        self.clusters = clusters.map(|stream| stream.cluster.clone()).collect();
        for stream in &progress.streams {
            self.lags(&stream.cluster, &stream.resource, stream.lag_ms);
        }
    }

    /// Silence may also be an API server that is not heard any more.
    fn lags(&mut self, cluster: &str, resource: &str, lag_ms: u64) {
        let name = format!("{cluster} {resource}");
        if lag_ms <= LAG_MAX_MS {
            if self.lagging.remove(&name) {
                output::note(&format!("{name} is heard again"));
            }
        } else if self.lagging.insert(name.clone()) {
            let lag = short(lag_ms);
            output::note(&format!(
                "{name} has not been heard for {lag}; `quorumwatch status` says why"
            ));
        }
    }

    fn owner_changed(&mut self, change: &ShardChange) -> Result<(), Error> {
        if self.clusters.contains(&change.cluster) {
            self.printer.print_owner(change)?;
        }
        Ok(())
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            output::note(text);
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn next(owners: Option<&mut OwnerChanges>) -> ShardChange {
    match owners {
        Some(owners) => owners.next().await,
        None => std::future::pending().await,
    }
}
