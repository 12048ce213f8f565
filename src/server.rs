//! Assembles a replica: builds, wires, starts in order, stops in reverse order.

use tokio_util::sync::CancellationToken;

use crate::config;

/// Why a replica ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no replica in this build.
    #[error("this build holds no replica")]
    Absent,
}

/// Runs a replica until `shutdown`.
pub async fn run(config: config::Serve, shutdown: CancellationToken) -> Result<(), Error> {
    drop((config, shutdown));
    Err(Error::Absent)
}
