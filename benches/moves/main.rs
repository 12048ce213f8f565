//! For how long subscribers hear nothing, in one run: see `benches/README.md`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures are what it is for"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are not exact"
)]

mod asked;
mod clock;
mod clusters;
#[path = "../../tests/kube/control_plane/mod.rs"]
#[allow(
    unused_imports,
    reason = "the tests need more of it than this program does"
)]
mod control_plane;
#[path = "../../tests/it/harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests need more of it than this program does"
)]
mod harness;
mod isolation;
#[path = "../../tests/kube/kind.rs"]
#[allow(dead_code, reason = "the tests need more of it than this program does")]
mod kind;
mod network;
mod options;
mod report;
mod scenario;
mod scenarios;
mod servers;
mod silence;
mod subscriber;
mod timeline;
mod window;
mod world;
mod writer;

use std::{cell::RefCell, panic::AssertUnwindSafe, process::ExitCode, rc::Rc};

use futures::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    network::Network,
    options::{Arguments, Format},
    report::Tally,
    scenario::Scenario,
    world::REPLICAS,
};

/// What a shell returns for a program that was interrupted.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let asked = Arguments::read();
    let missing = if asked.no_namespaces {
        Some("--no-namespaces says so".to_owned())
    } else if isolation::is_inside() {
        None
    } else if let Some(missing) = isolation::missing() {
        eprintln!("no namespaces: {missing}; what cuts a network is skipped");
        Some(missing)
    } else {
        return isolation::entered(Box::pin(interrupted())).await;
    };
    measured(&asked, missing).await
}

async fn interrupted() {
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be caught");
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be caught");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = isolation::parent_ends() => {}
    }
}

/// Measures, until everything is measured or it is interrupted; then prints what there is.
async fn measured(asked: &Arguments, missing: Option<String>) -> ExitCode {
    let tallies = RefCell::new(Vec::new());
    let is_whole = tokio::select! {
        () = measure(asked, missing, &tallies) => true,
        () = interrupted() => false,
    };
    let tallies = tallies.into_inner().into_iter();
    let tallies: Vec<_> = tallies
        .filter_map(Rc::into_inner)
        .map(RefCell::into_inner)
        .collect();
    match asked.output {
        Format::Json => println!("{:#}", report::json(&tallies, asked)),
        Format::Table => print!("{}", report::table(&tallies, asked.before.as_ref())),
    }
    if !is_whole {
        eprintln!("interrupted");
        ExitCode::from(INTERRUPTED)
    } else if tallies.iter().all(Tally::is_clean) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

type Tallies = RefCell<Vec<Rc<RefCell<Tally>>>>;

async fn measure(asked: &Arguments, missing: Option<String>, tallies: &Tallies) {
    let network = missing
        .is_none()
        .then(|| Rc::new(Network::create(REPLICAS, asked.shards.into())));
    for scenario in &asked.scenarios {
        let mut tally = Tally::new(scenario.name());
        tally.may_have_gaps = asked.real && scenario.restarts_api_servers();
        let tally = Rc::new(RefCell::new(tally));
        tallies.borrow_mut().push(Rc::clone(&tally));
        if let (Some(why), true) = (&missing, scenario.needs_network()) {
            tally.borrow_mut().skipped = Some(why.clone());
        } else if asked.real && *scenario == Scenario::Storm {
            tally.borrow_mut().skipped = Some("there are only few real API servers".into());
        } else {
            one(*scenario, asked, network.clone(), &tally).await;
        }
    }
}

/// Measures one scenario. What panics ends it, and not those after it.
async fn one(
    scenario: Scenario,
    asked: &Arguments,
    network: Option<Rc<Network>>,
    tally: &RefCell<Tally>,
) {
    let run = AssertUnwindSafe(scenario.run(asked, network, tally));
    if let Err(panic) = run.catch_unwind().await {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        tally.borrow_mut().failed = Some(words.unwrap_or_else(|| "it panicked".into()));
    }
}
