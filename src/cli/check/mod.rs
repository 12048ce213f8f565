//! `quorumwatch check`: shows the effective configuration, its problems, and whether everything
//! that it names is reachable.
//!
//! Each thing to check is a [`Target`]; to add a kind of thing, add targets and
//! nothing else.

mod clusters;
mod finding;
mod local;
mod peers;
mod report;
mod targets;

use std::path::PathBuf;

use super::{
    Error,
    configuration::Configuration,
    output::{self, Output},
};
use crate::{
    config::Serve,
    domain::cluster::{Resource, ResourceSelector},
};
use finding::Verdict;
use report::Report;
use targets::Target;

/// Validate a configuration, and test whether what it names is reachable.
///
/// Takes the same file, variables and flags as `serve`.
///
/// Exit codes: 0 no problem found; 1 a reachability or permission check failed; 2 the configuration
/// is invalid.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Also connect to every peer and cluster and check permissions there. Changes nothing.
    #[arg(long)]
    connect: bool,
    /// Only check whether this kubeconfig's cluster can be monitored.
    #[arg(long, value_name = "FILE", conflicts_with = "connect")]
    kubeconfig: Option<PathBuf>,
    /// The context to use. [default: the file's current context]
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    kube_context: Option<String>,
    /// A resource to check, like apps/v1/deployments; may be repeated. [default: v1/events]
    #[arg(long = "resource", value_name = "RESOURCE", requires = "kubeconfig")]
    resources: Vec<Resource>,
    /// Namespaces to check, separated by ','; may be repeated. [default: all]
    #[arg(
        short = 'n',
        long = "namespace",
        value_name = "NAMESPACE",
        value_delimiter = ',',
        requires = "kubeconfig"
    )]
    namespaces: Vec<String>,
    #[command(flatten)]
    output: Output,
}

const AFTER_HELP: &str = "\
Examples:
  quorumwatch check --config quorumwatch.toml             validate it, and show the effective values
  quorumwatch check --config quorumwatch.toml --connect   also reach every peer and every cluster
  quorumwatch check --kubeconfig ~/.kube/config --resource apps/v1/deployments
                                                          can this cluster be monitored?";

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let loaded = arguments.configuration.load();
    for warning in &loaded.warnings {
        output::note(&format!("warning: {warning}"));
    }
    let only = arguments.kubeconfig.map(|file| clusters::Only {
        file,
        context: arguments.kube_context.unwrap_or_default(),
        resources: selectors(arguments.resources, &arguments.namespaces),
    });
    let targets = match (&loaded.serve, &only) {
        (Ok(serve), Some(only)) => vec![clusters::only(serve, only)],
        (Ok(serve), None) if arguments.connect => all(serve),
        _ => Vec::new(),
    };
    let is_asked = !targets.is_empty();
    let outcomes = targets::reach(targets).await;
    let report = Report::new(&loaded, outcomes, only.is_none());
    report.write(&mut output::open(), arguments.output.format)?;
    loaded.serve?;
    match report.count(Verdict::Failed) {
        0 if is_asked => output::note("everything is reachable and usable"),
        0 => output::note("the configuration is valid; --connect also tests what it names"),
        failed => return Err(Error::ChecksFailed(failed)),
    }
    Ok(())
}

/// What would be watched, as `clusters add` takes it.
fn selectors(mut resources: Vec<Resource>, namespaces: &[String]) -> Vec<ResourceSelector> {
    if resources.is_empty() && !namespaces.is_empty() {
        resources.push(Resource::events());
    }
    let selector = |resource| ResourceSelector {
        namespaces: namespaces.to_vec(),
        ..ResourceSelector::all(resource)
    };
    resources.into_iter().map(selector).collect()
}

/// Everything that a configuration names.
fn all(serve: &Serve) -> Vec<Target> {
    let mut targets = local::targets(serve);
    targets.extend(peers::targets(serve));
    targets.extend(clusters::targets(serve));
    targets
}
