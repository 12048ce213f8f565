//! Follows a subscription: prints, saves the cursor, and prints notes about the connection.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::Arguments, cursor_file::CursorFile, owners::OwnerChanges, printer::Printer,
    streams::Streams,
};
use crate::{
    cli::{Endpoint, Endpoints, Error, attempts::Attempts, output, terminal},
    client::{self, Subscription, Update},
    proto::v1::{ErrorReason, ShardChange, SubscribeResponse, subscribe_response::Frame},
};

/// How often the cursor is saved while frames come: what is printed again after a crash.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Follows a subscription.
pub(super) struct Follower {
    subscription: Subscription,
    attempts: Attempts,
    owners: Option<OwnerChanges>,
    printer: Printer,
    file: Option<CursorFile>,
    /// How many events are still to be printed.
    left: u64,
    until: Option<Instant>,
    quiet: bool,
    /// Since when no replica serves the subscription.
    interrupted: Option<Instant>,
    streams: Streams,
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
            attempts: Attempts::new(endpoints),
            owners,
            printer,
            file,
            left: arguments.limit.unwrap_or(u64::MAX),
            until: arguments.duration.map(|length| Instant::now() + length),
            quiet: arguments.is_quiet(),
            interrupted: None,
            streams: Streams::default(),
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
        match (result, &self.file) {
            (Err(Error::Client(error)), Some(file)) if is_about_the_cursor(&error) => {
                Err(file.refused(error.message().unwrap_or_default()))
            }
            (result, _) => result,
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
                update = self.subscription.next() => match update? {
                    Some(update) => self.take(update)?,
                    None => return Ok(()),
                },
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
            Update::Interrupted { endpoint, why } => self.stops(&endpoint, &why.to_string()),
            Update::Frame(response) => self.frame(&response),
        }
    }

    fn frame(&mut self, response: &SubscribeResponse) -> Result<(), Error> {
        match &response.frame {
            Some(Frame::Event(_)) => self.left -= 1,
            Some(Frame::StreamChange(change)) => self.streams.change(change),
            Some(Frame::Progress(progress)) => {
                for note in self.streams.progress(progress) {
                    output::note(&note);
                }
            }
            _ => {}
        }
        self.printer.print(response, self.subscription.cursor())
    }

    fn goes_on(&mut self, endpoint: &Endpoint) {
        if let Some(since) = self.interrupted.take() {
            let milliseconds = since.elapsed().as_millis();
            self.note(&format!("resumed at {endpoint} after {milliseconds} ms"));
        }
        self.attempts.serves();
        self.streams.forget();
        self.printer.served_by(endpoint);
    }

    fn stops(&mut self, endpoint: &Endpoint, reason: &str) -> Result<(), Error> {
        if self.attempts.has_served() {
            self.interrupted.get_or_insert_with(Instant::now);
        }
        let notes = self.attempts.fails(endpoint, reason)?;
        notes.iter().for_each(|note| self.note(note));
        Ok(())
    }

    fn owner_changed(&mut self, change: &ShardChange) -> Result<(), Error> {
        match &change.shard {
            Some(shard) if self.streams.has_cluster(&shard.cluster) => {
                self.printer.print_owner(change, shard)
            }
            _ => Ok(()),
        }
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            output::note(text);
        }
    }
}

/// Whether what is wrong is the cursor that was resumed from.
fn is_about_the_cursor(error: &client::Error) -> bool {
    let reasons = [
        ErrorReason::CursorInvalid,
        ErrorReason::CursorForeign,
        ErrorReason::CursorFromLostState,
    ];
    error
        .reason()
        .is_some_and(|reason| reasons.contains(&reason))
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
