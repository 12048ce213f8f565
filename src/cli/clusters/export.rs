//! `quorumwatch clusters export`: clusters as `apply` takes them.

use std::io::Write as _;

use super::document::{Document, written};
use crate::{
    cli::{Error, connection::Connection, output},
    proto::v1::Cluster,
};

/// Print clusters in the format that `apply` reads.
///
/// Everything that users set and nothing that the group added: for backups, and to copy clusters to
/// another group. Exports contain no credentials, because clusters contain none.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  quorumwatch clusters export > clusters.yaml
  quorumwatch clusters export prod-eu -o json
  quorumwatch clusters export --context old | quorumwatch clusters apply --context new -f -")]
pub(super) struct Arguments {
    /// Only these clusters. [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    /// What is printed.
    #[arg(short = 'o', long = "output", value_enum, default_value = "yaml")]
    format: ExportFormat,
}

/// What an export looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ExportFormat {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let client = arguments.connection.client()?;
    let clusters: Vec<Cluster> = if arguments.names.is_empty() {
        super::list(&client).await?
    } else {
        let mut named = Vec::new();
        for name in &arguments.names {
            named.extend(client.get_cluster(name).await?.cluster);
        }
        named
    };
    let clusters: Vec<_> = clusters.iter().map(written).collect();
    let document = Document::of(&clusters);
    let mut out = output::open();
    match arguments.format {
        ExportFormat::Json => output::write_json(&mut out, &document),
        ExportFormat::Yaml => {
            let text = serde_saphyr::to_string(&document)
                .map_err(|error| Error::Output(std::io::Error::other(error)))?;
            out.write_all(text.as_bytes())
                .and_then(|()| out.flush())
                .map_err(Error::Output)
        }
    }
}
