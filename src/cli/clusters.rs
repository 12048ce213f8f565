//! `quorumwatch clusters`: which clusters are monitored.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use prost_types::FieldMask;
use serde_json::json;

use super::{
    Endpoints, Error,
    connection::{Connection, MESSAGE_BYTES_MAX},
    json::{self, word},
    output::{self, Format, Out, Output},
    table::{Table, or_dash},
    time::{age, instant, short},
};
use crate::proto::v1::{
    Cluster, ClusterSource, CreateClusterRequest, DeleteClusterRequest, GetClusterRequest,
    InCluster, KubeconfigFile, KubeconfigInline, ListClustersRequest, ResourceSelector,
    UpdateClusterRequest, cluster_service_client::ClusterServiceClient, cluster_source::Source,
};

/// Show and change which clusters are monitored.
///
/// Without a command, all of them are shown.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    client: Client,
}

const AFTER_HELP: &str = "\
Examples:
  quorumwatch clusters
  quorumwatch clusters add prod-eu --kubeconfig /etc/kube/config --kube-context prod-eu -l env=prod
  quorumwatch clusters get prod-eu -o json
  quorumwatch clusters pause prod-eu";

const AFTER_HELP_OF_ADD: &str = "\
Examples:
  a kubeconfig that lies on every replica, in a folder that it may read:
    quorumwatch clusters add prod-eu --kubeconfig /etc/kube/config --kube-context prod-eu
  a source in the replicas' own configuration, [sources.prod-eu]:
    quorumwatch clusters add prod-eu --source prod-eu -l env=prod
  the cluster that the replicas run in:
    quorumwatch clusters add home --in-cluster
  more than Kubernetes Events:
    quorumwatch clusters add home --in-cluster --resource v1/events --resource apps/v1/deployments";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show all clusters.
    List(Client),
    /// Show one cluster.
    Get(Named),
    /// Begin to monitor a cluster.
    Add(Box<Add>),
    /// Stop monitoring a cluster and forget its checkpoints.
    Remove(Named),
    /// Stop watching a cluster; its checkpoints stay.
    Pause(Named),
    /// Go on watching a cluster where it was paused.
    Resume(Named),
}

#[derive(Debug, clap::Args)]
struct Client {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The cluster's name.
    name: String,
    #[command(flatten)]
    client: Client,
}

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP_OF_ADD, group = clap::ArgGroup::new("from").required(true).args(
    ["kubeconfig", "kubeconfig_inline", "source", "in_cluster"]
))]
struct Add {
    /// The cluster's name: lowercase letters, digits, '-' and '.'.
    name: String,
    /// A kubeconfig file that every replica has, in a folder of its --kubeconfig-dir.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A kubeconfig file of yours without credentials; its text is sent and kept by the group.
    #[arg(long, value_name = "FILE")]
    kubeconfig_inline: Option<PathBuf>,
    /// The context of the kubeconfig; its current context where it is not set.
    #[arg(
        long,
        value_name = "CONTEXT",
        default_value = "",
        hide_default_value = true
    )]
    kube_context: String,
    /// The name of a source in the replicas' own configuration.
    #[arg(long, value_name = "NAME", conflicts_with = "kube_context")]
    source: Option<String>,
    /// The service account of the pod that a replica runs in.
    #[arg(long, conflicts_with = "kube_context")]
    in_cluster: bool,
    /// A label that subscribers can select by; may be repeated.
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = key_and_value)]
    labels: Vec<(String, String)>,
    /// What to watch, like v1/configmaps; may be repeated. Kubernetes Events where it is not set.
    #[arg(long = "resource", value_name = "RESOURCE")]
    resources: Vec<String>,
    /// Do not watch it yet.
    #[arg(long)]
    paused: bool,
    #[command(flatten)]
    client: Client,
}

/// What is told where nothing is monitored.
pub(super) const NO_CLUSTERS: &str =
    "no clusters yet; add one with `quorumwatch clusters add` (see its --help)";

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    match arguments.action.unwrap_or(Action::List(arguments.client)) {
        Action::List(client) => {
            let clusters = list(&client.connection.endpoints()?).await?;
            show_all(client.output.format, &clusters)
        }
        Action::Get(Named { name, client }) => {
            let cluster = get(&client.connection.endpoints()?, &name).await?;
            show_one(client.output.format, &cluster)
        }
        Action::Add(add) => {
            let cluster = add.cluster()?;
            let created = create(&add.client.connection.endpoints()?, cluster).await?;
            show_one(add.client.output.format, &created)
        }
        Action::Remove(Named { name, client }) => {
            remove(&client.connection.endpoints()?, &name).await?;
            match client.output.format {
                Format::Json => output::write_json(&mut output::open(), &json!({ "name": name })),
                Format::Table => {
                    output::note(&format!("{name} is no longer monitored"));
                    Ok(())
                }
            }
        }
        Action::Pause(Named { name, client }) => {
            let cluster = pause(&client.connection.endpoints()?, name, true).await?;
            show_one(client.output.format, &cluster)
        }
        Action::Resume(Named { name, client }) => {
            let cluster = pause(&client.connection.endpoints()?, name, false).await?;
            show_one(client.output.format, &cluster)
        }
    }
}

impl Add {
    fn cluster(&self) -> Result<Cluster, Error> {
        let source = if let Some(path) = &self.kubeconfig {
            let absolute = std::path::absolute(path).map_err(|error| unreadable(path, error))?;
            Source::KubeconfigFile(KubeconfigFile {
                path: absolute.display().to_string(),
                context: self.kube_context.clone(),
            })
        } else if let Some(path) = &self.kubeconfig_inline {
            let yaml = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
            let context = self.kube_context.clone();
            Source::KubeconfigInline(KubeconfigInline { yaml, context })
        } else if let Some(name) = &self.source {
            Source::Configured(name.clone())
        } else {
            Source::InCluster(InCluster {})
        };
        let selector = |resource: &String| ResourceSelector {
            resource: resource.clone(),
            ..ResourceSelector::default()
        };
        Ok(Cluster {
            name: self.name.clone(),
            labels: self.labels.iter().cloned().collect(),
            source: Some(ClusterSource {
                source: Some(source),
            }),
            resources: self.resources.iter().map(selector).collect(),
            paused: self.paused,
            ..Cluster::default()
        })
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::File {
        action: "read the kubeconfig",
        path: path.display().to_string(),
        source,
    }
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("use KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// All clusters, page by page; sorted by name.
pub(super) async fn list(endpoints: &Endpoints) -> Result<Vec<Cluster>, Error> {
    let mut clusters = Vec::new();
    let mut request = ListClustersRequest::default();
    loop {
        let page = endpoints
            .ask(|channel| {
                let request = request.clone();
                async move {
                    ClusterServiceClient::new(channel)
                        .max_decoding_message_size(MESSAGE_BYTES_MAX)
                        .list_clusters(request)
                        .await
                }
            })
            .await?;
        clusters.extend(page.clusters);
        if page.next_page_token.is_empty() {
            return Ok(clusters);
        }
        request.page_token = page.next_page_token;
    }
}

async fn get(endpoints: &Endpoints, name: &str) -> Result<Cluster, Error> {
    let answer = endpoints
        .ask(|channel| {
            let request = GetClusterRequest { name: name.into() };
            async move {
                ClusterServiceClient::new(channel)
                    .get_cluster(request)
                    .await
            }
        })
        .await?;
    Ok(answer.cluster.unwrap_or_default())
}

/// Begins to monitor a cluster.
pub(super) async fn create(endpoints: &Endpoints, cluster: Cluster) -> Result<Cluster, Error> {
    let request = CreateClusterRequest {
        cluster: Some(cluster),
    };
    let answer = endpoints
        .tell(|channel| {
            let request = request.clone();
            async move {
                ClusterServiceClient::new(channel)
                    .create_cluster(request)
                    .await
            }
        })
        .await?;
    Ok(answer.cluster.unwrap_or_default())
}

async fn pause(endpoints: &Endpoints, name: String, paused: bool) -> Result<Cluster, Error> {
    let request = UpdateClusterRequest {
        cluster: Some(Cluster {
            name,
            paused,
            ..Cluster::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["paused".into()],
        }),
    };
    let answer = endpoints
        .tell(|channel| {
            let request = request.clone();
            async move {
                ClusterServiceClient::new(channel)
                    .update_cluster(request)
                    .await
            }
        })
        .await?;
    Ok(answer.cluster.unwrap_or_default())
}

async fn remove(endpoints: &Endpoints, name: &str) -> Result<(), Error> {
    let answer = endpoints.tell(|channel| {
        let request = DeleteClusterRequest {
            name: name.into(),
            revision: 0,
        };
        async move {
            ClusterServiceClient::new(channel)
                .delete_cluster(request)
                .await
        }
    });
    answer.await.map(|_| ())
}

fn show_all(format: Format, clusters: &[Cluster]) -> Result<(), Error> {
    let mut out = output::open();
    match format {
        Format::Json => {
            let clusters: Vec<_> = clusters.iter().map(json::cluster).collect();
            output::write_json(&mut out, &json!({ "clusters": clusters }))
        }
        Format::Table if clusters.is_empty() => {
            output::note(NO_CLUSTERS);
            Ok(())
        }
        Format::Table => write_table(&mut out, clusters).map_err(Error::Output),
    }
}

fn show_one(format: Format, cluster: &Cluster) -> Result<(), Error> {
    let mut out = output::open();
    match format {
        Format::Json => output::write_json(&mut out, &json::cluster(cluster)),
        Format::Table => {
            write_table(&mut out, std::slice::from_ref(cluster)).map_err(Error::Output)
        }
    }
}

fn write_table(out: &mut Out, clusters: &[Cluster]) -> io::Result<()> {
    let rows: Vec<_> = clusters.iter().map(row).collect();
    let head = [
        "NAME",
        "HEALTH",
        "LAG",
        "AGE",
        "SOURCE",
        "RESOURCES",
        "LABELS",
        "REASON",
    ];
    Table::new(head).write(out, &rows)?;
    out.flush()
}

/// How it fares, in a word.
pub(super) fn condition(cluster: &Cluster) -> String {
    let health = cluster.health.clone().unwrap_or_default();
    match (cluster.paused, health.condition()) {
        (true, _) => "paused".to_owned(),
        (false, condition) => word(condition.as_str_name(), "CLUSTER_CONDITION_"),
    }
}

fn row(cluster: &Cluster) -> [String; 8] {
    let health = cluster.health.clone().unwrap_or_default();
    let resources: Vec<_> = cluster
        .resources
        .iter()
        .map(|r| r.resource.as_str())
        .collect();
    let labels: BTreeMap<_, _> = cluster.labels.iter().collect();
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let created = cluster.create_time.as_ref().and_then(instant);
    [
        cluster.name.clone(),
        condition(cluster),
        cluster.lag_ms.map_or_else(|| "-".into(), short),
        created.map_or_else(|| "-".into(), |at| age(&at)),
        source(cluster),
        or_dash(&resources.join(",")),
        or_dash(&labels.join(",")),
        or_dash(&health.reason),
    ]
}

fn source(cluster: &Cluster) -> String {
    let source = cluster
        .source
        .as_ref()
        .and_then(|from| from.source.as_ref());
    match source {
        None => "-".into(),
        Some(Source::KubeconfigFile(file)) => file.path.clone(),
        Some(Source::KubeconfigInline(_)) => "inline".into(),
        Some(Source::Configured(name)) => format!("[sources.{name}]"),
        Some(Source::InCluster(_)) => "in-cluster".into(),
    }
}
