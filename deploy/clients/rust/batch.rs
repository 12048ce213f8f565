//! As many frames at once as have arrived.

#![expect(clippy::print_stderr, reason = "people want to see who serves")]

use futures::FutureExt as _;
use quorumwatch::{
    client::{Error, Subscription, Update},
    proto::v1::SubscribeResponse,
};

/// Most frames of a batch.
const FRAMES_MAX: usize = 1024;

/// All frames that have arrived, at least one; `None` at the end.
///
/// One transaction for each batch is fast under load, and prompt without it.
pub(crate) async fn batch(
    subscription: &mut Subscription,
) -> Result<Option<Vec<SubscribeResponse>>, Error> {
    let mut frames = Vec::new();
    let mut next = subscription.next().await?;
    loop {
        match next {
            None => return Ok(Some(frames).filter(|frames| !frames.is_empty())),
            Some(Update::Frame(frame)) => frames.push(*frame),
            Some(Update::Connected(endpoint)) => eprintln!("following at {endpoint}"),
            Some(Update::Interrupted { endpoint, why }) => eprintln!("left {endpoint}: {why}"),
        }
        next = if frames.is_empty() {
            subscription.next().await?
        } else if frames.len() == FRAMES_MAX {
            return Ok(Some(frames));
        } else {
            match subscription.next().now_or_never() {
                Some(next) => next?,
                None => return Ok(Some(frames)),
            }
        };
    }
}
