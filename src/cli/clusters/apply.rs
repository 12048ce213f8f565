//! `quorumwatch clusters apply`: creates or updates clusters from a file.

use std::{collections::BTreeMap, io::Write as _, path::PathBuf};

use prost_types::FieldMask;

use super::{
    Common, NOTHING_CHANGED,
    document::{self, written},
    flags::WriteFlags,
};
use crate::{
    cli::{
        Error,
        json::Json,
        output::{self, Format},
        table::Table,
    },
    client::Client,
    proto::v1::{Cluster, ListClustersResponse, UpdateClusterRequest},
};

/// Create or update clusters from a file.
///
/// Each cluster in the file is replaced as a whole: what the file leaves out gets its default.
/// Clusters that are not in the file are left unchanged. Applying the same file again changes
/// nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file is JSON or YAML: what `clusters export` or `clusters -o json` prints, one cluster, an
array of clusters, or several documents. What the group adds (uid, health, times) is ignored.

Examples:
  quorumwatch clusters apply -f clusters.yaml --validate-only
  quorumwatch clusters apply -f clusters.yaml
  quorumwatch clusters get prod-eu -o json | jq '.labels.env = \"prod\"' | \\
    quorumwatch clusters apply --use-etags -f -")]
pub(super) struct Arguments {
    /// The file, or - for standard input.
    #[arg(short = 'f', long, value_name = "FILE")]
    file: PathBuf,
    /// Reject a cluster whose etag differs from the one in the file: it was changed meanwhile.
    #[arg(long)]
    use_etags: bool,
    #[command(flatten)]
    write: WriteFlags,
    #[command(flatten)]
    common: Common,
}

/// The result for one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Created,
    Updated,
    Unchanged,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let Arguments {
        file,
        use_etags,
        write,
        common,
    } = arguments;
    let wanted = document::read(&file)?;
    let client = common.connection.client()?;
    let existing = super::list(&client).await?;
    let existing: BTreeMap<_, _> = existing
        .into_iter()
        .map(|cluster| (cluster.name.clone(), cluster))
        .collect();
    let mut done = Vec::new();
    let mut applied = Ok(());
    for cluster in &wanted {
        let request = request(cluster, use_etags, write);
        match apply(&client, existing.get(&cluster.name), request).await {
            Ok(one) => done.push(one),
            Err(error) => {
                applied = Err(error);
                break;
            }
        }
    }
    if applied.is_err() {
        let (count, of) = (done.len(), wanted.len());
        output::note(&format!(
            "{count} of {of} clusters were applied, in the order of the file"
        ));
    }
    show(common.output.format, write, done, client.written())?;
    applied
}

/// The whole cluster, as in the file.
fn request(cluster: &Cluster, use_etags: bool, write: WriteFlags) -> UpdateClusterRequest {
    let etag = if use_etags {
        cluster.etag.clone()
    } else {
        String::new()
    };
    UpdateClusterRequest {
        cluster: Some(Cluster {
            etag,
            ..written(cluster)
        }),
        update_mask: Some(FieldMask {
            paths: vec!["*".into()],
        }),
        allow_missing: true,
        validate_only: write.validate_only,
        request_id: String::new(),
    }
}

/// An unchanged cluster is not written, so that its etag stays the same.
async fn apply(
    client: &Client,
    existing: Option<&Cluster>,
    request: UpdateClusterRequest,
) -> Result<(Effect, Cluster), Error> {
    let wanted = request.cluster.clone().unwrap_or_default();
    if let Some(existing) = existing
        && written(existing) == written(&wanted)
        && (wanted.etag.is_empty() || wanted.etag == existing.etag)
    {
        return Ok((Effect::Unchanged, existing.clone()));
    }
    let answer = client.update_cluster(request).await.map_err(Error::from)?;
    let effect = match existing {
        Some(_) => Effect::Updated,
        None => Effect::Created,
    };
    Ok((effect, answer.cluster.unwrap_or_default()))
}

fn show(
    format: Format,
    write: WriteFlags,
    done: Vec<(Effect, Cluster)>,
    revision: u64,
) -> Result<(), Error> {
    let mut out = output::open();
    if write.validate_only {
        output::note(NOTHING_CHANGED);
    }
    match format {
        Format::Json => {
            let list = ListClustersResponse {
                clusters: done.into_iter().map(|(_, cluster)| cluster).collect(),
                revision,
                ..ListClustersResponse::default()
            };
            output::write_json(&mut out, &Json::of(&list))
        }
        Format::Table if done.is_empty() => Ok(()),
        Format::Table => {
            let row = |(effect, cluster): &(Effect, Cluster)| {
                [cluster.name.clone(), effect.word(write).to_owned()]
            };
            let rows: Vec<_> = done.iter().map(row).collect();
            Table::new(["NAME", "RESULT"])
                .write(&mut out, &rows)
                .and_then(|()| out.flush())
                .map_err(Error::Output)
        }
    }
}

impl Effect {
    fn word(self, write: WriteFlags) -> &'static str {
        match (self, write.validate_only) {
            (Self::Created, false) => "created",
            (Self::Created, true) => "would be created",
            (Self::Updated, false) => "updated",
            (Self::Updated, true) => "would be updated",
            (Self::Unchanged, _) => "unchanged",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cluster, WriteFlags, request};

    #[test]
    fn a_cluster_is_sent_as_a_whole_and_its_etag_only_where_that_is_asked_for() {
        let cluster = Cluster {
            name: "a".into(),
            uid: "u".into(),
            etag: "7".into(),
            ..Cluster::default()
        };
        let sent = request(&cluster, false, WriteFlags::default());
        assert_eq!(sent.update_mask.unwrap().paths, ["*"]);
        assert!(sent.allow_missing && !sent.validate_only);
        let only_named = Cluster {
            name: "a".into(),
            ..Cluster::default()
        };
        assert_eq!(sent.cluster, Some(only_named.clone()));
        let with_etag = Cluster {
            etag: "7".into(),
            ..only_named
        };
        let checked = request(
            &cluster,
            true,
            WriteFlags {
                validate_only: true,
            },
        );
        assert_eq!(checked.cluster, Some(with_etag));
        assert!(checked.validate_only);
    }
}
