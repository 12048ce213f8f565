//! The clusters: those of `[[clusters]]`, and kubeconfigs that no cluster of the file uses.

use std::{fs, path::PathBuf, sync::Arc};

use super::{
    finding::Finding,
    targets::{Outcome, Target},
};
use crate::{
    config::Serve,
    domain::cluster::{ClusterSpec, ResourceSelector, Source},
    server,
    watcher::{
        CredentialPolicy, WatchPolicy,
        access::{Answer, examine},
    },
};

/// A kubeconfig to check without a configuration.
pub(super) struct Only {
    pub(super) file: PathBuf,
    pub(super) context: String,
    pub(super) resources: Vec<ResourceSelector>,
}

pub(super) fn targets(serve: &Serve) -> Vec<Target> {
    let credentials = Arc::new(server::credentials(serve));
    let of_clusters = serve.clusters.iter().map(|spec| {
        let subject = format!("cluster {}", spec.name);
        target(&subject, spec.clone(), Arc::clone(&credentials))
    });
    let is_used = |name: &String| {
        let mut sources = serve.clusters.iter().map(|spec| &spec.source);
        sources.any(|source| matches!(source, Source::Configured { name: used } if used == name))
    };
    let unused = serve.sources.keys().filter(|name| !is_used(name));
    let of_sources = unused.map(|name| {
        let source = Source::Configured { name: name.clone() };
        let subject = format!("source {name}");
        target(&subject, spec(source, Vec::new()), Arc::clone(&credentials))
    });
    of_clusters.chain(of_sources).collect()
}

/// The cluster of one kubeconfig file. It is subject to the same flags and variables as a replica;
/// its own directory is always allowed.
pub(super) fn only(serve: &Serve, only: &Only) -> Target {
    let mut credentials = server::credentials(serve);
    // Where the file is not there, reading it reports that.
    let file = fs::canonicalize(&only.file).unwrap_or_else(|_| only.file.clone());
    credentials
        .kubeconfig_dirs
        .extend(file.parent().map(PathBuf::from));
    let source = Source::KubeconfigFile {
        path: file.display().to_string(),
        context: only.context.clone(),
    };
    let subject = if only.context.is_empty() {
        "cluster".to_owned()
    } else {
        format!("cluster {}", only.context)
    };
    let spec = spec(source, only.resources.clone());
    target(&subject, spec, Arc::new(credentials))
}

fn spec(source: Source, resources: Vec<ResourceSelector>) -> ClusterSpec {
    ClusterSpec {
        name: "checked".to_owned(),
        labels: [].into(),
        source,
        resources,
        paused: false,
        description: String::new(),
        duplicate_of: String::new(),
    }
}

fn target(subject: &str, spec: ClusterSpec, credentials: Arc<CredentialPolicy>) -> Target {
    let name = subject.to_owned();
    Target::new(subject, async move {
        let examined = examine(spec, credentials, WatchPolicy::default()).await;
        let finding = |answer: Answer| {
            Finding::new(&name, &answer.check, answer.verdict, answer.detail).advise(answer.advice)
        };
        let findings = examined.answers.into_iter().map(finding).collect();
        let manifest = Some(examined.manifest).filter(|text| !text.is_empty());
        Outcome {
            findings,
            manifest: manifest.map(|text| (name.clone(), text)),
            ..Outcome::default()
        }
    })
}
