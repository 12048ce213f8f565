//! `quorumwatch clusters --watch`: every change of a cluster, as it happens.

use std::io::Write as _;

use tokio_util::sync::CancellationToken;

use super::{NO_CLUSTERS, show};
use crate::{
    cli::{
        Error,
        attempts::Attempts,
        interrupt,
        json::{Json, word},
        output::{self, Format, Out},
        table::{Table, or_dash},
        time::{self, rfc3339},
    },
    client::{
        Client,
        watch::{ClusterWatch, Update},
    },
    proto::v1::{
        Cluster, ClusterChange, ClusterPage, WatchClustersRequest, WatchClustersResponse,
        watch_clusters_response,
    },
};

/// The columns of the changes.
const HEAD: [&str; 5] = ["SEEN", "CHANGE", "NAME", "HEALTH", "REASON"];

pub(super) async fn run(client: &Client, selector: String, format: Format) -> Result<(), Error> {
    let shutdown = interrupt::token()?;
    let request = WatchClustersRequest {
        cluster_selector: selector,
        ..WatchClustersRequest::default()
    };
    let attempts = Attempts::new(client.endpoints().clone());
    let mut watch = ClusterWatch::new(client.endpoints().clone(), request);
    let mut printer = Printer {
        out: output::open(),
        format,
        changes: Table::new(HEAD),
    };
    printer.follow(&mut watch, attempts, &shutdown).await
}

struct Printer {
    out: Out,
    format: Format,
    changes: Table<5>,
}

impl Printer {
    async fn follow(
        &mut self,
        watch: &mut ClusterWatch,
        mut attempts: Attempts,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        loop {
            let update = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                update = watch.next() => update?,
            };
            match update {
                Update::Connected(_) => attempts.serves(),
                Update::Interrupted { endpoint, why } => {
                    attempts.note_failure(&endpoint, &why)?;
                }
                Update::Snapshot => {
                    let clusters = watch.clusters().values().cloned().collect();
                    self.snapshot(clusters, watch.revision())?;
                }
                Update::Change(change) => self.change(change, watch.revision())?,
            }
            self.out.flush().map_err(Error::Output)?;
        }
    }

    fn snapshot(&mut self, clusters: Vec<Cluster>, revision: u64) -> Result<(), Error> {
        if self.format == Format::Json {
            let page = ClusterPage { clusters };
            return self.message(watch_clusters_response::Update::Snapshot(page), revision);
        }
        if clusters.is_empty() {
            output::note(NO_CLUSTERS);
        }
        // Later rows stand under the heads: no kind and hardly a condition is longer than these.
        self.changes
            .widen(&["", "updated", "", "unreachable", ""].map(str::to_owned));
        for cluster in &clusters {
            self.changes.widen(&row("", cluster));
        }
        show::write_all(&mut self.out, &clusters)
            .and_then(|()| writeln!(self.out))
            .and_then(|()| self.changes.write_head(&mut self.out))
            .map_err(Error::Output)
    }

    fn change(&mut self, change: ClusterChange, revision: u64) -> Result<(), Error> {
        if self.format == Format::Json {
            return self.message(watch_clusters_response::Update::Change(change), revision);
        }
        let kind = word(change.r#type().as_str_name(), "CLUSTER_CHANGE_TYPE_");
        let row = row(&kind, &change.cluster.unwrap_or_default());
        self.changes
            .write_row(&mut self.out, &row)
            .map_err(Error::Output)
    }

    fn message(
        &mut self,
        update: watch_clusters_response::Update,
        revision: u64,
    ) -> Result<(), Error> {
        let message = WatchClustersResponse {
            revision,
            update: Some(update),
            ..WatchClustersResponse::default()
        };
        output::write_json_line(&mut self.out, &Json::of(&message))
    }
}

fn row(kind: &str, cluster: &Cluster) -> [String; 5] {
    [
        rfc3339(&time::now()),
        kind.to_owned(),
        cluster.name.clone(),
        show::condition(cluster),
        or_dash(&show::reason(cluster)),
    ]
}
