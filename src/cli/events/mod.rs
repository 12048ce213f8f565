//! `quorumwatch events`: follow what happens in the clusters.

mod cursor_file;
mod row;

use std::{io::Write, path::PathBuf, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Error,
    connection::Connection,
    interrupt, json,
    output::{self, Out, StreamFormat, StreamOutput},
    subscription::{Begin, Subscription, Update},
};
use crate::proto::v1::{
    Filter, ObjectReference, Progress, SubscribeResponse, subscribe_response::Frame,
};
use cursor_file::CursorFile;
use row::EventTable;

/// How often the cursor is saved while frames come: what is printed again after a crash.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Filters of different kinds are joined by "and", those of one kind by "or".
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: StreamOutput,
    /// Only these clusters; may be repeated.
    #[arg(long = "cluster", value_name = "NAME")]
    clusters: Vec<String>,
    /// Only clusters whose labels match, like env=prod,tier!=test.
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    selector: String,
    /// Only these resources, like v1/configmaps; may be repeated.
    #[arg(long = "resource", value_name = "RESOURCE")]
    resources: Vec<String>,
    /// Only objects in these namespaces; may be repeated.
    #[arg(short = 'n', long = "namespace", value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// Only Kubernetes Events of these reasons, like BackOff; may be repeated.
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<String>,
    /// Only Kubernetes Events of this type; may be repeated.
    #[arg(long = "type", value_name = "TYPE", value_enum, ignore_case = true)]
    types: Vec<EventType>,
    /// Only Kubernetes Events about this object, like pod/web-0, or pod/ for all of a kind.
    #[arg(long, value_name = "KIND/NAME", value_parser = involved_object)]
    object: Option<ObjectReference>,
    /// Begin with what exists now.
    #[arg(long, conflicts_with = "cursor")]
    snapshot: bool,
    /// Begin after a cursor.
    #[arg(long, value_name = "CURSOR", conflicts_with = "since_cursor")]
    cursor: Option<String>,
    /// Begin after the cursor in this file, and keep the cursor in it from then on. Where there
    /// is no such file yet, begin as if this were not given.
    #[arg(long, value_name = "FILE")]
    since_cursor: Option<PathBuf>,
    /// End after so many events.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// With -o jsonl: print progress too. Its cursor is the whole cursor.
    #[arg(long)]
    progress: bool,
}

/// The type of a Kubernetes Event; the names are Kubernetes'.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EventType {
    Normal,
    Warning,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let shutdown = interrupt::token()?;
    let mut cursor_file = arguments.since_cursor.clone().map(CursorFile::new);
    let kept = cursor_file.as_ref().map(CursorFile::read).transpose()?;
    let begin = match arguments.cursor.clone().or_else(|| kept.flatten()) {
        Some(cursor) => Begin::After(cursor),
        None if arguments.snapshot => Begin::Snapshot,
        None => Begin::Now,
    };
    let printer = Printer::new(&arguments);
    let limit = arguments.limit;
    let filter = arguments.filter();
    let endpoints = arguments.connection.endpoints();
    let replicas = endpoints.len();
    let mut follower = Follower {
        subscription: Subscription::new(endpoints, filter, begin),
        printer,
        left: limit.unwrap_or(u64::MAX),
        replicas,
        connected: false,
        covers: true,
        failed: Vec::new(),
    };
    let result = follower.follow(&shutdown, cursor_file.as_mut()).await;
    // What was printed counts as seen however the stream ended.
    let flushed = follower.printer.out.flush().map_err(Error::Output);
    if let (Ok(()), Some(file)) = (&flushed, &mut cursor_file) {
        file.save(follower.subscription.cursor())?;
    }
    result.and(flushed)
}

impl Arguments {
    fn filter(&self) -> Filter {
        Filter {
            clusters: self.clusters.clone(),
            cluster_selector: self.selector.clone(),
            resources: self.resources.clone(),
            namespaces: self.namespaces.clone(),
            names: Vec::new(),
            event_types: self.types.iter().map(|kind| format!("{kind:?}")).collect(),
            event_reasons: self.reasons.clone(),
            involved_object: self.object.clone(),
        }
    }
}

fn involved_object(text: &str) -> Result<ObjectReference, &'static str> {
    let (kind, name) = text
        .split_once('/')
        .filter(|(kind, _)| !kind.is_empty())
        .ok_or("use KIND/NAME, like pod/web-0")?;
    Ok(ObjectReference {
        kind: kind.into(),
        name: name.into(),
        ..ObjectReference::default()
    })
}

struct Follower {
    subscription: Subscription,
    printer: Printer,
    /// How many events are still to be printed.
    left: u64,
    replicas: usize,
    connected: bool,
    /// Whether any stream matches, as far as is known.
    covers: bool,
    /// Attempts that failed since the last one that did not.
    failed: Vec<String>,
}

impl Follower {
    async fn follow(
        &mut self,
        shutdown: &CancellationToken,
        mut file: Option<&mut CursorFile>,
    ) -> Result<(), Error> {
        let mut save = tokio::time::interval(SAVE_INTERVAL);
        while self.left > 0 {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                _ = save.tick(), if file.is_some() => {
                    self.printer.out.flush().map_err(Error::Output)?;
                    if let Some(file) = &mut file {
                        file.save(self.subscription.cursor())?;
                    }
                }
                update = self.subscription.next() => self.take(update?)?,
                // Nothing more is at hand: show what is.
                () = std::future::ready(()), if !self.printer.out.buffer().is_empty() => {
                    self.printer.out.flush().map_err(Error::Output)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, update: Update) -> Result<(), Error> {
        match update {
            Update::Connected(endpoint) => {
                if self.connected {
                    output::note(&format!("goes on at {endpoint}"));
                }
                self.connected = true;
                self.failed.clear();
                Ok(())
            }
            Update::Interrupted { endpoint, reason } => {
                if self.connected && self.failed.is_empty() {
                    output::note(&format!(
                        "{endpoint} is gone ({reason}); resuming elsewhere"
                    ));
                }
                // After one round the list is complete; later rounds would only repeat it.
                if self.failed.len() < self.replicas {
                    self.failed.push(format!("{endpoint}: {reason}"));
                }
                if !self.connected && self.failed.len() == self.replicas {
                    return Err(Error::NoAnswer(std::mem::take(&mut self.failed)));
                }
                Ok(())
            }
            Update::Frame(response) => {
                match &response.frame {
                    Some(Frame::Event(_)) => self.left -= 1,
                    Some(Frame::Progress(progress)) => self.cover(progress),
                    _ => {}
                }
                self.printer.print(&response)
            }
        }
    }
}

impl Follower {
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
    }
}

struct Printer {
    out: Out,
    /// `None` for JSON lines.
    table: Option<EventTable>,
    with_progress: bool,
}

impl Printer {
    fn new(arguments: &Arguments) -> Self {
        Self {
            out: output::open(),
            table: (arguments.output.format == StreamFormat::Table).then(EventTable::new),
            with_progress: arguments.progress,
        }
    }

    fn print(&mut self, response: &SubscribeResponse) -> Result<(), Error> {
        if let Some(table) = &mut self.table {
            return table.write(&mut self.out, response).map_err(Error::Output);
        }
        if !self.with_progress && matches!(response.frame, Some(Frame::Progress(_))) {
            return Ok(());
        }
        match json::frame(response) {
            Some(line) => output::write_json_line(&mut self.out, &line),
            None => Ok(()),
        }
    }
}
