//! Asks an API server that has fallen silent whether it is still there.

use tokio::time::Instant;

use super::{breaker::Breaker, client::ApiServer, liveness::Liveness, readiness::Readiness};
use crate::domain::cluster::StreamSelector;

/// Asks once for each suspicious silence; never ends. `selector` is what is watched there.
pub(super) async fn watch_over(api: ApiServer, selector: StreamSelector) {
    let (liveness, breaker) = (api.liveness(), api.breaker());
    let server = Readiness {
        api: &api,
        selector: &selector,
    };
    loop {
        liveness.silent().await;
        let heard = liveness.heard.notified();
        tokio::pin!(heard);
        heard.as_mut().enable();
        let asked_at = Instant::now();
        tokio::select! {
            biased;
            () = &mut heard => {
                breaker.heard();
                continue;
            }
            is_silent = breaker.is_silent(&server) => {
                if is_silent {
                    give_up_watches(liveness, breaker, asked_at);
                }
            }
        }
        // An open breaker needs a prober even if no request waits.
        breaker.settle(&server, |_| {}).await;
        // It is not asked again before it sends: what is quiet now is left to keepalive.
        if liveness.suspect_at().is_some_and(|at| at <= asked_at) {
            heard.await;
        }
    }
}

/// The watches that have been silent since are reopened, once the server answers.
fn give_up_watches(liveness: &Liveness, breaker: &Breaker, asked_at: Instant) {
    tracing::debug!(
        ?breaker,
        "the API server went silent and does not answer the probe"
    );
    liveness.unanswered.send_replace(Some(asked_at));
}
