//! The clusters of the demo: simulated ones with a ledger of the truth, or the user's own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Arguments, tally::Tally};
use crate::{
    cli::{Error, sim},
    domain::{cluster::Resource, position::ResourceVersion},
    proto::v1::{Cluster, ClusterSource, KubeconfigFile, KubeconfigInline, cluster_source::Source},
    sim::{Audit, AuditReport, Fleet, FleetOptions, Ledger, Load, LoadOptions},
};

/// The clusters of the demo.
pub(super) enum World {
    /// Simulated in this process.
    Simulated(Simulated),
    /// Contexts of a kubeconfig of the user's.
    Own {
        kubeconfig: PathBuf,
        contexts: Vec<String>,
    },
}

/// Simulated clusters, and the load on them.
pub(super) struct Simulated {
    fleet: Fleet,
    load: Option<Load>,
    rate: u32,
    /// Where each cluster stood when the load began.
    from: BTreeMap<String, ResourceVersion>,
}

impl World {
    /// Prepares the clusters, without load.
    pub(super) async fn start(arguments: &Arguments) -> Result<Self, Error> {
        if let Some(path) = &arguments.kubeconfig {
            let kubeconfig = path.canonicalize().map_err(|source| Error::File {
                action: "read the kubeconfig",
                path: path.display().to_string(),
                source,
            })?;
            let mut contexts = arguments.contexts.clone();
            if contexts.is_empty() {
                // The current one.
                contexts.push(String::new());
            }
            return Ok(Self::Own {
                kubeconfig,
                contexts,
            });
        }
        let fleet = Fleet::start(FleetOptions {
            clusters: sim::names(arguments.clusters),
            seed: arguments.seed,
            resources: vec![Resource::events()],
            ..FleetOptions::default()
        })
        .await?;
        Ok(Self::Simulated(Simulated {
            fleet,
            load: None,
            rate: arguments.rate,
            from: BTreeMap::new(),
        }))
    }

    /// What the replicas need to know of these clusters.
    pub(super) fn replica_flags(&self, allow_exec: &[String]) -> Vec<String> {
        let Self::Own { kubeconfig, .. } = self else {
            return Vec::new();
        };
        let directory = kubeconfig.parent().unwrap_or_else(|| Path::new("/"));
        let mut flags = vec![
            "--kubeconfig-dir".to_owned(),
            directory.display().to_string(),
            // It is the user's own kubeconfig, used by the user's own processes.
            "--allow-file-references".to_owned(),
        ];
        for command in allow_exec {
            flags.extend(["--allow-exec".to_owned(), command.clone()]);
        }
        flags
    }

    /// The clusters to monitor.
    pub(super) fn clusters(&self) -> Vec<Cluster> {
        match self {
            Self::Simulated(simulated) => {
                let fleet = &simulated.fleet;
                let names = fleet.cluster_names().into_iter();
                let inline = |name: &str| KubeconfigInline {
                    yaml: fleet.kubeconfig(name),
                    context: name.to_owned(),
                };
                names
                    .map(|name| {
                        let source = Source::KubeconfigInline(inline(&name));
                        cluster(name, source)
                    })
                    .collect()
            }
            Self::Own {
                kubeconfig,
                contexts,
            } => {
                let path = kubeconfig.display().to_string();
                let file = |context: &String| KubeconfigFile {
                    path: path.clone(),
                    context: context.clone(),
                };
                contexts
                    .iter()
                    .map(|context| cluster(name_of(context), Source::KubeconfigFile(file(context))))
                    .collect()
            }
        }
    }

    /// One line about what is watched.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Simulated(simulated) => format!(
                "{} simulated clusters at {}, {} events per second",
                simulated.fleet.cluster_names().len(),
                simulated.fleet.address(),
                simulated.rate,
            ),
            Self::Own {
                kubeconfig,
                contexts,
            } => format!("{} clusters of {}", contexts.len(), kubeconfig.display()),
        }
    }

    /// Whether there is a ledger to compare the received events with.
    pub(super) fn has_ledger(&self) -> bool {
        matches!(self, Self::Simulated(_))
    }

    /// The line printed when it starts.
    pub(super) fn opening(&self) -> &'static str {
        match self {
            Self::Simulated(_) => "load started",
            Self::Own { .. } => "following; idle clusters deliver nothing",
        }
    }

    /// Starts the load.
    pub(super) fn begin(&mut self) {
        let Self::Simulated(simulated) = self else {
            return;
        };
        for name in simulated.fleet.cluster_names() {
            if let Some(cluster) = simulated.fleet.cluster(&name) {
                simulated.from.insert(name, cluster.current_rv());
            }
        }
        let options = LoadOptions {
            events_per_second: f64::from(simulated.rate),
            ..LoadOptions::default()
        };
        simulated.load = Some(simulated.fleet.load(options));
    }

    /// How many events were produced since; `None` without a ledger.
    pub(super) fn produced(&self) -> Option<u64> {
        let Self::Simulated(simulated) = self else {
            return None;
        };
        let now = |name: &str| simulated.fleet.cluster(name)?.current_rv().as_u64();
        let since =
            |(name, from): (&String, &ResourceVersion)| now(name)?.checked_sub(from.as_u64()?);
        Some(simulated.from.iter().filter_map(since).sum())
    }

    /// Stops the load.
    pub(super) async fn end(&mut self) {
        if let Self::Simulated(simulated) = self
            && let Some(load) = simulated.load.take()
        {
            load.stop().await;
        }
    }

    /// Whether the subscriber has received everything.
    pub(super) fn is_complete(&self, tally: &Tally) -> bool {
        let Self::Simulated(simulated) = self else {
            return true;
        };
        simulated.fleet.cluster_names().into_iter().all(|name| {
            let Some(cluster) = simulated.fleet.cluster(&name) else {
                return true;
            };
            let last = cluster.current_rv();
            // Nothing happened in it: there is nothing to be had.
            simulated.from.get(&name) == Some(&last)
                || tally
                    .reached(&name)
                    .is_some_and(|position| position.rv >= last)
        })
    }

    /// Compares with the ledger; `None` without one.
    pub(super) fn judge(&self, audit: &Audit) -> Option<AuditReport> {
        let Self::Simulated(simulated) = self else {
            return None;
        };
        let fleet = &simulated.fleet;
        let names = fleet.cluster_names();
        let clusters = names.iter().filter_map(|name| fleet.cluster(name));
        let ledgers: Vec<Ledger> = clusters.map(|cluster| cluster.ledger()).collect();
        Some(audit.report(&ledgers, &simulated.from))
    }

    /// Stops serving.
    pub(super) async fn stop(&mut self) {
        self.end().await;
        if let Self::Simulated(simulated) = self {
            simulated.fleet.stop().await;
        }
    }
}

fn cluster(name: String, source: Source) -> Cluster {
    Cluster {
        labels: [("from".to_owned(), "demo".to_owned())].into(),
        name,
        source: Some(ClusterSource {
            source: Some(source),
        }),
        ..Cluster::default()
    }
}

/// A cluster name from the name of a context, which may be anything.
fn name_of(context: &str) -> String {
    let lower = context.to_ascii_lowercase();
    let plain = lower.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
    // The end distinguishes contexts of one provider: their names begin alike.
    let start = plain.len().saturating_sub(63);
    let name = plain[start..].trim_matches(['-', '.']);
    if name.is_empty() { "current" } else { name }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn any_context_makes_a_cluster_name() {
        assert_eq!(name_of("kind-dev"), "kind-dev");
        assert_eq!(name_of(""), "current");
        assert_eq!(
            name_of("arn:aws:eks:eu-west-1:1234:cluster/Prod"),
            "arn-aws-eks-eu-west-1-1234-cluster-prod"
        );
        assert_eq!(name_of("ä@").len(), "current".len());
        assert!(name_of(&"x/".repeat(60)).len() <= 63);
    }
}
