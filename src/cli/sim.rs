//! `quorumwatch sim`: simulated clusters to try things with.

use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use super::{
    Error, duration, interrupt,
    output::{self, Format, Output},
};
use crate::sim::{Fleet, FleetOptions, LoadOptions};

/// Run simulated clusters to experiment with.
///
/// They serve the Kubernetes API over HTTP and generate events until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  quorumwatch sim --kubeconfig-out sim.json
  quorumwatch sim --clusters 20 --rate 500 --listen 127.0.0.1:0 -o json

Then, where a replica runs:
  quorumwatch clusters add sim-1 --kubeconfig-inline sim.json --kube-context sim-1")]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Number of clusters.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clusters: u16,
    /// Events per second, across all clusters; 0 for none.
    #[arg(long, default_value_t = 10)]
    rate: u32,
    /// Address to listen on; port 0 for any.
    #[arg(long, default_value = "127.0.0.1:7480")]
    listen: SocketAddr,
    /// Random seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Lifetime of an event.
    #[arg(long, default_value = "5m", value_parser = duration::parse)]
    event_ttl: Duration,
    /// Where to write a kubeconfig with one context per cluster.
    #[arg(long, value_name = "FILE")]
    kubeconfig_out: Option<PathBuf>,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let shutdown = interrupt::token()?;
    let fleet = Fleet::start(FleetOptions {
        listen: arguments.listen,
        clusters: names(arguments.clusters),
        seed: arguments.seed,
        event_ttl: Some(arguments.event_ttl),
        ..FleetOptions::default()
    })
    .await?;
    if let Some(path) = &arguments.kubeconfig_out {
        // JSON is YAML too.
        std::fs::write(path, format!("{:#}\n", kubeconfig(&fleet))).map_err(|source| {
            Error::File {
                action: "write the kubeconfig to",
                path: path.display().to_string(),
                source,
            }
        })?;
    }
    show(arguments.output.format, &fleet)?;
    let load = (arguments.rate > 0).then(|| {
        fleet.load(LoadOptions {
            events_per_second: f64::from(arguments.rate),
            // No padding: people read these.
            object_bytes: 0,
            ..LoadOptions::default()
        })
    });
    shutdown.cancelled().await;
    if let Some(load) = load {
        load.stop().await;
    }
    fleet.stop().await;
    Ok(())
}

/// `sim-1` to `sim-N`.
pub(super) fn names(count: u16) -> Vec<String> {
    (1..=count).map(|number| format!("sim-{number}")).collect()
}

fn server(fleet: &Fleet, cluster: &str) -> String {
    format!("http://{}/clusters/{cluster}", fleet.address())
}

/// One kubeconfig for all clusters: no credentials, a context named as each cluster.
fn kubeconfig(fleet: &Fleet) -> Value {
    let names = fleet.cluster_names();
    let all = |entry: &dyn Fn(&String) -> Value| names.iter().map(entry).collect::<Vec<_>>();
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": all(&|name| json!({
            "name": name,
            "cluster": { "server": server(fleet, name) },
        })),
        "users": [{ "name": "nobody", "user": {} }],
        "contexts": all(&|name| json!({
            "name": name,
            "context": { "cluster": name, "user": "nobody" },
        })),
        "current-context": names.first(),
    })
}

fn show(format: Format, fleet: &Fleet) -> Result<(), Error> {
    let mut out = output::open();
    let names = fleet.cluster_names();
    if format == Format::Json {
        let cluster = |name: &String| json!({ "name": name, "server": server(fleet, name) });
        let clusters: Vec<_> = names.iter().map(cluster).collect();
        return output::write_json(&mut out, &json!({ "clusters": clusters }));
    }
    let mut lines = || {
        for name in &names {
            writeln!(out, "{name}   {}", server(fleet, name))?;
        }
        out.flush()
    };
    lines().map_err(Error::Output)
}
