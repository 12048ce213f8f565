//! A simulated Kubernetes API server: real HTTP list and watch, many clusters in one process,
//! every watch trap behind a named switch, and a ledger of the truth.
//!
//! It serves the demo, the tests and the benchmarks. It is not a fake client: the service meets it
//! through the same kube client as a real cluster. Each cluster lives under the base path
//! `/clusters/<name>` of one plain-HTTP listener. Objects are written through [`SimCluster`] or by
//! the seeded generator behind [`Fleet::load`], never over HTTP.
//!
//! What was committed is in each cluster's [`Ledger`]; what a subscriber received of it is judged
//! by an [`Audit`].

mod audit;
mod cluster;
mod connection;
mod discovery;
mod error;
mod fault;
mod fleet;
mod http;
mod kind;
mod ledger;
mod list;
mod load;
mod manifest;
mod object;
mod query;
mod requests;
mod review;
mod selector;
mod status;
mod store;
mod watch;

pub use audit::{Audit, AuditReport, Delivered, SeenGap};
pub use cluster::SimCluster;
pub use error::Error;
pub use fault::{Fault, Faults};
pub use fleet::{Fleet, FleetOptions};
pub use ledger::{Commit, Ledger, LedgerError, NewHistory};
pub use load::{Load, LoadOptions, LoadReport};
pub use manifest::Manifest;
pub use requests::SeenRequest;
