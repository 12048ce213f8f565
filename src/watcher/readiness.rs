//! The probe of a circuit breaker: whether an API server is ready.

use std::time::Duration;

use super::{api_error::ApiError, breaker::Probed, client::ApiServer, requests};
use crate::domain::cluster::StreamSelector;

/// An API server, and what is watched there.
pub(super) struct Readiness<'a> {
    pub(super) api: &'a ApiServer,
    pub(super) selector: &'a StreamSelector,
}

impl Probed for Readiness<'_> {
    /// The cheapest request that shows whether lists and watches will be served: every user may send
    /// it, it costs the server next to nothing, and it proves the way there, TLS, the credentials, and
    /// that the server has reached etcd and read its roles. Before that a server that starts refuses
    /// with 403 or 429 what it serves a moment later. It is never held back.
    ///
    /// If the server reports that it is not ready, which may be wrong, a list counts.
    async fn is_ready(&self, accepts_list: bool) -> Result<(), ApiError> {
        let Self { api, selector } = self;
        match api.read_all(requests::readiness()).await {
            Err(ApiError::Status { verb, mut status }) if status.code >= 500 => {
                // One that asks to be left alone is not asked for more.
                if accepts_list && status.retry_after_ms.unwrap_or(0) == 0 {
                    let list = api.read_all(requests::probe(selector)).await;
                    if !list.is_err_and(|error| error.may_be_the_clusters()) {
                        return Ok(());
                    }
                }
                // The body lists each check by name, for humans.
                status.message = "it is not ready".into();
                Err(ApiError::Status { verb, status })
            }
            Err(error) if error.may_be_the_clusters() => Err(error),
            // Whatever it thinks of this path, it answers.
            _ => Ok(()),
        }
    }

    fn no_answer(&self, after: Duration) -> ApiError {
        self.api.no_answer(after)
    }
}
