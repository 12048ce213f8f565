//! The arguments of `events`.

use std::{path::PathBuf, time::Duration};

use super::object::involved_object;
use crate::{
    cli::{connection::Connection, duration, terminal::Colour},
    client::{Begin, Cursor, Options},
    proto::{
        from_json,
        v1::{ChangeType, Filter, KubernetesEventFilter, ObjectReference, Until, View},
    },
};

/// The client name that replicas log.
const CLIENT_NAME: &str = concat!("quorumwatch-cli/", env!("CARGO_PKG_VERSION"));

/// Stream events from the clusters, like kubectl get events -A --watch.
///
/// All clusters are merged into one stream. It runs until Ctrl-C; if the replica that serves it
/// goes away, it resumes at another one without losing or repeating a line. Different filters are
/// combined with "and", the values of one filter with "or".
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Start with a snapshot of what exists.
    #[arg(long, conflicts_with = "cursor", help_heading = "From where")]
    snapshot: bool,
    /// Resume after a cursor: all its parts, separated by ','.
    #[arg(
        long,
        value_name = "CURSOR",
        value_delimiter = ',',
        conflicts_with = "cursor_file",
        help_heading = "From where"
    )]
    cursor: Vec<String>,
    /// Resume after the cursor in this file, and keep the file up to date. If the file does not
    /// exist, start as without this flag.
    #[arg(
        long,
        alias = "since-cursor",
        value_name = "FILE",
        help_heading = "From where"
    )]
    pub(super) cursor_file: Option<PathBuf>,
    /// Exit once everything up to the present has been printed; with --snapshot this lists what
    /// exists.
    #[arg(long, value_enum, value_name = "WHEN", help_heading = "Until when")]
    until: Option<End>,
    /// Exit after this many events.
    #[arg(long, value_name = "COUNT", help_heading = "Until when")]
    pub(super) limit: Option<u64>,
    /// Exit after this time, like 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, help_heading = "Until when")]
    pub(super) duration: Option<Duration>,
    /// Resume at another replica after this much silence; replicas send a heartbeat every 500ms.
    /// [default: 1500ms]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, help_heading = "Connection")]
    silence: Option<Duration>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    pub(super) connection: Connection,
}

const AFTER_HELP: &str = "\
Examples:
  quorumwatch events                                    everything from now on
  quorumwatch events --type Warning -n payments         as `kubectl get events` has it
  quorumwatch events -l env=prod --reason BackOff,Failed
  quorumwatch events --for pod/web-0 --cluster prod-eu
  quorumwatch events --resource apps/v1/deployments --label app=web --change deleted
  quorumwatch events --field-selector type!=Normal,involvedObject.kind=Node
  quorumwatch events --filter '{\"namespaces\":[\"shop\"]}' --filter '{\"clusterSelector\":\"env=prod\"}'
  quorumwatch events --snapshot --until up-to-date      what exists
  quorumwatch events --snapshot                         what exists, then every change
  quorumwatch events --cursor-file seen -o jsonl        resumes where the last run stopped
  quorumwatch events -o jsonl | jq -r '.event.objectJson // empty | fromjson.message'

Output:
  table   truncated to the terminal's width (the default)
  wide    with source, count, first seen, epoch, id, and the replica that sent it
  jsonl   one JSON object per line, a SubscribeResponse of the API, as grpcurl prints it: event, gap,
          streamChange, synced or closing
  json    the same, indented          yaml    the same, as YAML documents
  cursor  only the cursor, for --cursor: at the start, every five seconds, at the end

Gaps, stream changes and ownership changes appear as rows in tables, and on standard error
with the other formats; all but ownership are also in the data.

Fields of --field-selector: metadata.name, metadata.namespace, type, reason, source,
reportingComponent, involvedObject.kind, .namespace, .name and .uid, with =, == and !=.

--filter takes a Filter of the API (quorumwatch/v1/event_service.proto) as JSON; events that match
any of them, or all of the other flags together, are sent.";

/// The help heading of the filters.
const WHICH: &str = "Which events";

/// Output flags.
#[derive(Debug, clap::Args)]
struct Output {
    /// What is printed.
    #[arg(short = 'o', long = "output", value_enum, default_value = "table")]
    format: EventFormat,
    /// How much of each object to send: all of it, its metadata, or only its name.
    #[arg(long, value_enum, default_value = "full")]
    view: ObjectView,
    /// When to use colours.
    #[arg(long, value_enum, default_value = "auto")]
    color: Colour,
    /// With jsonl, json and yaml: print progress too.
    #[arg(long)]
    progress: bool,
    /// Print no notes about reconnections and changes of ownership.
    #[arg(short, long)]
    quiet: bool,
    /// Accepted for kubectl compatibility; the command always follows.
    #[arg(short = 'w', long, hide = true)]
    watch: bool,
}

/// Filter flags.
#[derive(Debug, clap::Args)]
struct Which {
    /// Only these clusters, separated by ','; may be repeated.
    #[arg(long = "cluster", value_name = "NAME", value_delimiter = ',', help_heading = WHICH)]
    clusters: Vec<String>,
    /// Only clusters whose labels match, like env=prod,tier!=test.
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true, help_heading = WHICH)]
    selector: String,
    /// Only these resources, like v1/configmaps, separated by ','; may be repeated.
    #[arg(long = "resource", value_name = "RESOURCE", value_delimiter = ',', help_heading = WHICH)]
    resources: Vec<String>,
    /// Only objects in these namespaces, separated by ','; may be repeated.
    #[arg(
        short = 'n',
        long = "namespace",
        value_name = "NAMESPACE",
        value_delimiter = ',', help_heading = WHICH)]
    namespaces: Vec<String>,
    /// Objects in all namespaces, as without -n.
    #[arg(short = 'A', long, conflicts_with = "namespaces", help_heading = WHICH)]
    all_namespaces: bool,
    /// Only objects of these names, separated by ','; may be repeated.
    #[arg(long = "name", value_name = "NAME", value_delimiter = ',', help_heading = WHICH)]
    names: Vec<String>,
    /// Only objects whose labels match, like app=web,tier!=test.
    #[arg(
        long = "label",
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true, help_heading = WHICH)]
    object_selector: String,
    /// Only these changes, separated by ','; may be repeated.
    #[arg(
        long = "change",
        value_name = "CHANGE",
        value_enum,
        ignore_case = true,
        value_delimiter = ',',
        conflicts_with = "snapshot", help_heading = WHICH)]
    changes: Vec<Change>,
    /// Only Kubernetes Events of this type, Normal or Warning.
    #[arg(
        long = "type",
        visible_alias = "types",
        value_name = "TYPE",
        value_enum,
        ignore_case = true,
        value_delimiter = ',', help_heading = WHICH)]
    types: Vec<EventType>,
    /// Only Kubernetes Events of these reasons, like BackOff, separated by ','; may be repeated.
    #[arg(long = "reason", value_name = "REASON", value_delimiter = ',', help_heading = WHICH)]
    reasons: Vec<String>,
    /// Only Kubernetes Events of these components, like kubelet, separated by ','; may be repeated.
    #[arg(long = "source", value_name = "COMPONENT", value_delimiter = ',', help_heading = WHICH)]
    sources: Vec<String>,
    /// Only Kubernetes Events about this object, like pod/web-0, or pod/ for all of a kind.
    #[arg(
        long = "for",
        visible_alias = "object",
        value_name = "KIND/NAME",
        value_parser = involved_object, help_heading = WHICH)]
    object: Option<ObjectReference>,
    /// Only objects with these fields, like type=Warning,involvedObject.name!=web-0.
    #[arg(
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true, help_heading = WHICH)]
    field_selector: String,
    /// Also what matches this filter, as JSON of the API; may be repeated.
    #[arg(long = "filter", value_name = "JSON", value_parser = filter, help_heading = WHICH)]
    others: Vec<Filter>,
}

/// What is printed of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum EventFormat {
    /// A table.
    Table,
    /// A table with all columns.
    Wide,
    /// One indented JSON document per frame.
    Json,
    /// One line of JSON per frame.
    Jsonl,
    /// One YAML document per frame.
    Yaml,
    /// Only the cursor, whenever it changes.
    Cursor,
}

/// How much of each object is sent.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ObjectView {
    /// The whole object.
    Full,
    /// apiVersion, kind and metadata.
    Metadata,
    /// Only namespace, name, UID and resource version.
    None,
}

/// When the stream ends.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum End {
    /// Once everything up to the present has been sent.
    UpToDate,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Change {
    /// Created.
    Added,
    /// Updated.
    Modified,
    /// Deleted.
    Deleted,
}

/// The type of a Kubernetes Event; the names are Kubernetes'.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EventType {
    #[value(name = "Normal")]
    Normal,
    #[value(name = "Warning")]
    Warning,
}

fn filter(text: &str) -> Result<Filter, String> {
    let filter = serde_json::from_str(text).and_then(from_json);
    filter.map_err(|error| error.to_string())
}

impl From<Change> for ChangeType {
    fn from(change: Change) -> Self {
        match change {
            Change::Added => Self::Added,
            Change::Modified => Self::Modified,
            Change::Deleted => Self::Deleted,
        }
    }
}

impl Arguments {
    /// What the server is asked for; `saved` is the cursor in the file, where there is one.
    pub(super) fn options(&self, saved: Option<Cursor>) -> Options {
        let named = (!self.cursor.is_empty()).then(|| Cursor::from_parts(self.cursor.clone()));
        Options {
            filters: self.which.filters(),
            view: match self.output.view {
                ObjectView::Full => View::Full,
                ObjectView::Metadata => View::Metadata,
                ObjectView::None => View::None,
            },
            begin: match named.or(saved) {
                Some(cursor) => Begin::After(cursor),
                None if self.snapshot => Begin::Snapshot,
                None => Begin::Now,
            },
            until: match self.until {
                Some(End::UpToDate) => Until::UpToDate,
                None => Until::Unspecified,
            },
            silence: self.silence,
            client_name: CLIENT_NAME.into(),
        }
    }

    pub(super) fn format(&self) -> EventFormat {
        self.output.format
    }

    pub(super) fn colours(&self) -> bool {
        self.output.color.on_stdout()
    }

    pub(super) fn with_progress(&self) -> bool {
        self.output.progress
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.output.quiet
    }
}

impl Which {
    /// Those of `--filter`, and one of all the other flags; none where there are no flags.
    fn filters(&self) -> Vec<Filter> {
        let own = Filter {
            clusters: self.clusters.clone(),
            cluster_selector: self.selector.clone(),
            resources: self.resources.clone(),
            namespaces: self.namespaces.clone(),
            names: self.names.clone(),
            object_selector: self.object_selector.clone(),
            change_types: self
                .changes
                .iter()
                .map(|c| ChangeType::from(*c).into())
                .collect(),
            kubernetes_event: self.kubernetes_event(),
            field_selector: self.field_selector.clone(),
        };
        let own = (own != Filter::default()).then_some(own);
        own.into_iter().chain(self.others.iter().cloned()).collect()
    }

    /// Unset where no flag is about Kubernetes Events: it would match nothing else.
    fn kubernetes_event(&self) -> Option<KubernetesEventFilter> {
        let filter = KubernetesEventFilter {
            types: self.types.iter().map(|kind| format!("{kind:?}")).collect(),
            reasons: self.reasons.clone(),
            sources: self.sources.clone(),
            involved_object: self.object.clone(),
        };
        (filter != KubernetesEventFilter::default()).then_some(filter)
    }
}

#[cfg(test)]
mod tests;
