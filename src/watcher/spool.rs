//! What is read for one who asked, at the API server's speed, and handed out at the reader's:
//! [`spool`].

use tokio::sync::mpsc;

use super::{HistoryItem, outlet::Stopped};

/// Batches of one read that may lie in memory; their bytes are what is bounded.
const BATCHES_MAX: usize = 16 * 1024;

/// Runs `reading`, and hands out what it sends, in order. What was read before it failed is handed
/// out as well, and why it failed.
pub(super) async fn spool<F>(
    items: &mpsc::Sender<HistoryItem>,
    reading: impl FnOnce(mpsc::Sender<HistoryItem>) -> F,
) -> Result<(), Stopped>
where
    F: Future<Output = Result<(), Stopped>>,
{
    let (read, mut taken) = mpsc::channel(BATCHES_MAX);
    let reading = Box::pin(reading(read));
    let handing_out = async {
        while let Some(item) = taken.recv().await {
            items.send(item).await.map_err(|_| Stopped)?;
        }
        Ok(())
    };
    let (read, handed_out) = tokio::join!(reading, handing_out);
    read.and(handed_out)
}
