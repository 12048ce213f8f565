//! Measures what quorumwatch costs, in one run: see `benches/README.md`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot continue ends")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints figures"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are not exact"
)]

mod floor;
mod frames;
#[path = "../../tests/it/harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests need more of it than this program does"
)]
mod harness;
mod measure;
mod own_process;
mod reader;
mod report;
mod state;

use crate::{
    measure::{Plan, Watched},
    report::Report,
};

const GROUPS: [&str; 5] = ["cpu", "subscribers", "overload", "idle", "state"];

/// The command line.
struct Asked {
    groups: Vec<String>,
    is_json: bool,
}

fn asked() -> Asked {
    let mut asked = Asked {
        groups: Vec::new(),
        is_json: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Passed by cargo.
            "--bench" => {}
            "-o" | "--output" => asked.is_json = arguments.next().as_deref() == Some("json"),
            group if GROUPS.contains(&group) => asked.groups.push(group.to_owned()),
            other => {
                eprintln!("{other:?} is not measured; there are: {GROUPS:?}, and `-o json`");
                std::process::exit(2);
            }
        }
    }
    if asked.groups.is_empty() {
        asked.groups = GROUPS.map(str::to_owned).to_vec();
    }
    asked
}

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [argument, path, rate] = arguments.as_slice()
        && argument == floor::ARGUMENT
    {
        return floor::serve(path, rate).await;
    }
    if let [argument, watches @ ..] = arguments.as_slice()
        && argument == reader::ARGUMENT
    {
        return reader::read(watches).await;
    }
    let asked = asked();
    let is_quick = std::env::var_os("QUICK").is_some();
    let plan = if is_quick { Plan::QUICK } else { Plan::FULL };
    let wants = |group: &str| asked.groups.iter().any(|asked| asked == group);
    let mut report = Report::default();
    if wants("state") {
        state::measure(&mut report, plan.state_clusters);
    }
    if wants("cpu") || wants("subscribers") || wants("overload") {
        let mut watched = Watched::start(&plan).await;
        if wants("cpu") {
            watched.cpu(&mut report).await;
        }
        if wants("subscribers") {
            watched.subscribers(&mut report).await;
        }
        if wants("overload") {
            watched.overload(&mut report).await;
        }
    }
    if wants("idle") {
        measure::idle(&plan, &mut report).await;
    }
    if asked.is_json {
        println!("{:#}", report.json(is_quick));
    } else {
        print!("{}", report.table());
    }
}
