//! What `events` is told.

use std::{path::PathBuf, time::Duration};

use super::object::involved_object;
use crate::{
    cli::{connection::Connection, duration, terminal::Colour},
    proto::v1::{Filter, ObjectReference},
};

/// Follow what happens in the clusters, like kubectl get events -A --watch.
///
/// All clusters are merged into one stream. It runs until Ctrl-C, and goes on at another replica where the one that serves it goes away,
/// without losing or repeating a line. Filters of different kinds are joined by "and", the values
/// of one by "or".
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Begin with what exists now.
    #[arg(long, conflicts_with = "cursor", help_heading = "From where")]
    pub(super) snapshot: bool,
    /// Begin after a cursor.
    #[arg(
        long,
        value_name = "CURSOR",
        conflicts_with = "since_cursor",
        help_heading = "From where"
    )]
    pub(super) cursor: Option<String>,
    /// Begin after the cursor in this file, and keep the cursor in it from then on. Where there
    /// is no such file yet, begin as if this were not given.
    #[arg(long, value_name = "FILE", help_heading = "From where")]
    pub(super) since_cursor: Option<PathBuf>,
    /// End after so many events.
    #[arg(long, value_name = "COUNT", help_heading = "Until when")]
    pub(super) limit: Option<u64>,
    /// End after this time, like 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, help_heading = "Until when")]
    pub(super) duration: Option<Duration>,
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
  quorumwatch events --field-selector type!=Normal,involvedObject.kind=Node
  quorumwatch events --snapshot                         what exists, then what happens
  quorumwatch events --since-cursor seen -o jsonl       resumes where the last run ended
  quorumwatch events -o jsonl | jq -r .event.object.message

Output:
  table   for people; as wide as the terminal
  wide    with source, count, first seen, epoch, id, and the replica that sent it
  jsonl   one JSON object per line: event, gap or synced, with its cursor
  json    the same, indented          yaml    the same, as YAML documents
  cursor  only where the stream stands, for --cursor: at the start, every five seconds, at the end

Gaps and changes of ownership are shown in line in tables, and on standard error beside data;
gaps are in the data as well.

Fields of --field-selector: metadata.name, metadata.namespace, type, reason, source,
reportingComponent, involvedObject.kind, .namespace, .name and .uid, with =, == and !=.";

/// Above the filters in help texts.
const WHICH: &str = "Which events";

/// How it is printed.
#[derive(Debug, clap::Args)]
struct Output {
    /// What is printed.
    #[arg(short = 'o', long = "output", value_enum, default_value = "table")]
    format: EventFormat,
    /// When colours are used.
    #[arg(long, value_enum, default_value = "auto")]
    color: Colour,
    /// With jsonl, json and yaml: print progress too. Its cursor is the whole cursor.
    #[arg(long)]
    progress: bool,
    /// Say nothing of reconnections and of changes of ownership.
    #[arg(short, long)]
    quiet: bool,
    /// It always follows; accepted because kubectl has it.
    #[arg(short = 'w', long, hide = true)]
    watch: bool,
}

/// Which events are wanted.
#[derive(Debug, clap::Args)]
struct Which {
    /// Only these clusters, joined by ','; may be repeated.
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
    /// Only objects in these namespaces, joined by ','; may be repeated.
    #[arg(
        short = 'n',
        long = "namespace",
        value_name = "NAMESPACE",
        value_delimiter = ',', help_heading = WHICH)]
    namespaces: Vec<String>,
    /// Objects in all namespaces: as it is where -n is not given.
    #[arg(short = 'A', long, conflicts_with = "namespaces", help_heading = WHICH)]
    all_namespaces: bool,
    /// Only Kubernetes Events of this type, Normal or Warning.
    #[arg(
        long = "type",
        visible_alias = "types",
        value_name = "TYPE",
        value_enum,
        ignore_case = true,
        value_delimiter = ',', help_heading = WHICH)]
    types: Vec<EventType>,
    /// Only Kubernetes Events of these reasons, like BackOff, joined by ','; may be repeated.
    #[arg(long = "reason", value_name = "REASON", value_delimiter = ',', help_heading = WHICH)]
    reasons: Vec<String>,
    /// Only Kubernetes Events about this object, like pod/web-0, or pod/ for all of a kind.
    #[arg(
        long = "for",
        visible_alias = "object",
        value_name = "KIND/NAME",
        value_parser = involved_object, help_heading = WHICH)]
    object: Option<ObjectReference>,
    /// Only what has these fields, like type=Warning,involvedObject.name!=web-0.
    #[arg(
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true, help_heading = WHICH)]
    field_selector: String,
    /// Only these resources, like v1/configmaps, joined by ','; may be repeated.
    #[arg(long = "resource", value_name = "RESOURCE", value_delimiter = ',', help_heading = WHICH)]
    resources: Vec<String>,
}

/// What is printed of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum EventFormat {
    /// For people.
    Table,
    /// For people, with all columns.
    Wide,
    /// One indented JSON document per frame.
    Json,
    /// One line of JSON per frame.
    Jsonl,
    /// One YAML document per frame.
    Yaml,
    /// Only cursors.
    Cursor,
}

/// The type of a Kubernetes Event; the names are Kubernetes'.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EventType {
    #[value(name = "Normal")]
    Normal,
    #[value(name = "Warning")]
    Warning,
}

impl Arguments {
    /// What the server is asked for.
    pub(super) fn filter(&self) -> Filter {
        let which = &self.which;
        Filter {
            clusters: which.clusters.clone(),
            cluster_selector: which.selector.clone(),
            resources: which.resources.clone(),
            namespaces: which.namespaces.clone(),
            names: Vec::new(),
            event_types: which.types.iter().map(|kind| format!("{kind:?}")).collect(),
            event_reasons: which.reasons.clone(),
            involved_object: which.object.clone(),
            field_selector: which.field_selector.clone(),
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
