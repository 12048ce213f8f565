//! `quorumwatch clusters`: which clusters are monitored.

mod apply;
mod arguments;
mod document;
mod export;
mod flags;
mod show;
mod watch;

use prost_types::FieldMask;

use super::{
    Error,
    connection::Connection,
    json::Json,
    output::{self, Format, Output},
};
use crate::{
    client::Client,
    proto::v1::{Cluster, DeleteClusterRequest, ListClustersRequest, UpdateClusterRequest},
};
use arguments::{Add, Update};
use flags::{EtagFlag, WriteFlags};
pub(super) use show::condition;

/// Show and change which clusters are monitored.
///
/// Without a subcommand, lists all of them.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

const AFTER_HELP: &str = "\
Examples:
  quorumwatch clusters
  quorumwatch clusters -l env=prod --watch
  quorumwatch clusters add prod-eu --kubeconfig /etc/kube/config --kube-context prod-eu -l env=prod
  quorumwatch clusters update prod-eu -l tier=1 -l env-
  quorumwatch clusters get prod-eu -o json
  quorumwatch clusters pause prod-eu
  quorumwatch clusters export > clusters.yaml
  quorumwatch clusters apply -f clusters.yaml";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show all clusters.
    List(List),
    /// Show one cluster.
    Get(Named),
    /// Start monitoring a cluster.
    Add(Box<Add>),
    /// Change labels, source, resources or description of a cluster.
    Update(Box<Update>),
    /// Stop monitoring a cluster and forget its checkpoints.
    Remove(Remove),
    /// Stop watching a cluster; its checkpoints stay.
    Pause(Change),
    /// Resume watching a paused cluster.
    Resume(Change),
    Export(export::Arguments),
    Apply(apply::Arguments),
}

/// Flags of every subcommand.
#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only clusters with these labels: env=prod,tier!=test.
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    selector: String,
    /// Then show each change, until Ctrl-C. With -o json: one line per message.
    #[arg(short = 'w', long)]
    watch: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The cluster's name.
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Change {
    /// The cluster's name.
    name: String,
    #[command(flatten)]
    etag: EtagFlag,
    #[command(flatten)]
    write: WriteFlags,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Remove {
    #[command(flatten)]
    change: Change,
    /// Succeed if there is no such cluster.
    #[arg(long)]
    allow_missing: bool,
}

/// What is shown where nothing is monitored.
pub(super) const NO_CLUSTERS: &str =
    "no clusters yet; add one with `quorumwatch clusters add` (see its --help)";

/// The note beside the answer to `--validate-only`.
const NOTHING_CHANGED: &str = "validated only: nothing was changed";

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    match arguments.action.unwrap_or(Action::List(arguments.list)) {
        Action::List(list) => list.run().await,
        Action::Get(Named { name, common }) => {
            let answer = common.connection.client()?.get_cluster(&name).await?;
            let cluster = answer.cluster.unwrap_or_default();
            match common.output.format {
                Format::Json => output::write_json(&mut output::open(), &Json::of(&cluster)),
                Format::Table => {
                    show::write_one(&mut output::open(), &cluster).map_err(Error::Output)
                }
            }
        }
        Action::Add(add) => {
            let request = add.request()?;
            let answer = add
                .common
                .connection
                .client()?
                .create_cluster(request)
                .await?;
            changed(add.common.output.format, add.write, answer.cluster)
        }
        Action::Update(update) => {
            let request = update.request()?;
            let answer = update
                .common
                .connection
                .client()?
                .update_cluster(request)
                .await?;
            changed(update.common.output.format, update.write, answer.cluster)
        }
        Action::Remove(remove) => remove.run().await,
        Action::Pause(change) => change.pause(true).await,
        Action::Resume(change) => change.pause(false).await,
        Action::Export(export) => export::run(export).await,
        Action::Apply(apply) => apply::run(apply).await,
    }
}

impl List {
    async fn run(self) -> Result<(), Error> {
        let client = self.common.connection.client()?;
        let format = self.common.output.format;
        if self.watch {
            return watch::run(&client, self.selector, format).await;
        }
        let is_filtered = !self.selector.is_empty();
        let all = client
            .list_clusters(ListClustersRequest {
                cluster_selector: self.selector,
                ..ListClustersRequest::default()
            })
            .await?;
        let mut out = output::open();
        match format {
            Format::Json => output::write_json(&mut out, &Json::of(&all)),
            Format::Table if all.clusters.is_empty() && is_filtered => {
                output::note("no cluster has these labels");
                Ok(())
            }
            Format::Table if all.clusters.is_empty() => {
                output::note(NO_CLUSTERS);
                Ok(())
            }
            Format::Table => show::write_all(&mut out, &all.clusters).map_err(Error::Output),
        }
    }
}

impl Change {
    async fn pause(self, paused: bool) -> Result<(), Error> {
        let request = UpdateClusterRequest {
            cluster: Some(Cluster {
                name: self.name,
                paused,
                etag: self.etag.etag,
                ..Cluster::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["paused".into()],
            }),
            validate_only: self.write.validate_only,
            ..UpdateClusterRequest::default()
        };
        let answer = self
            .common
            .connection
            .client()?
            .update_cluster(request)
            .await?;
        changed(self.common.output.format, self.write, answer.cluster)
    }
}

impl Remove {
    async fn run(self) -> Result<(), Error> {
        let Change {
            name,
            etag,
            write,
            common,
        } = self.change;
        let request = DeleteClusterRequest {
            name: name.clone(),
            etag: etag.etag,
            allow_missing: self.allow_missing,
            validate_only: write.validate_only,
            request_id: String::new(),
        };
        let answer = common.connection.client()?.delete_cluster(request).await?;
        match (common.output.format, write.validate_only) {
            (Format::Json, _) => output::write_json(&mut output::open(), &Json::of(&answer)),
            (Format::Table, true) => {
                output::note(NOTHING_CHANGED);
                Ok(())
            }
            (Format::Table, false) => {
                output::note(&format!("{name} is no longer monitored"));
                Ok(())
            }
        }
    }
}

/// Shows a cluster after a write.
fn changed(format: Format, write: WriteFlags, cluster: Option<Cluster>) -> Result<(), Error> {
    if write.validate_only {
        output::note(NOTHING_CHANGED);
    }
    let (mut out, cluster) = (output::open(), cluster.unwrap_or_default());
    match format {
        Format::Json => output::write_json(&mut out, &Json::of(&cluster)),
        Format::Table => {
            show::write_all(&mut out, std::slice::from_ref(&cluster)).map_err(Error::Output)
        }
    }
}

/// All clusters, by name; for other commands.
pub(super) async fn list(client: &Client) -> Result<Vec<Cluster>, Error> {
    let all = client.list_clusters(ListClustersRequest::default()).await?;
    Ok(all.clusters)
}
