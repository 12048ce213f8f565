//! Reading what this replica has applied, at a revision or later: [`Reads`].

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tonic::{Status, metadata::MetadataMap};

use super::status::replica_behind;
use crate::{
    domain::{id::Revision, state::State},
    raft::Raft,
};

/// How long a replica may take to apply what a request refers to; others are asked after that.
pub(super) const APPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// What an answer may take to reach its caller: by so much earlier than the caller's deadline it is
/// given.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(100);

/// What this replica has applied. A cheap clone.
#[derive(Clone)]
pub(super) struct Reads {
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) applied: watch::Receiver<Revision>,
}

/// A state, and the revision at which it holds: it has all that led to that revision, even where
/// what came last changed nothing in it.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) state: Arc<State>,
    pub(super) revision: Revision,
}

impl Reads {
    /// Reads what Raft applies.
    pub(super) fn new(raft: &Raft) -> Self {
        Self {
            state: raft.watch_state(),
            applied: raft.watch_applied(),
        }
    }

    /// What is applied now.
    pub(super) fn now(&self) -> Read {
        // In this order: the state has all that led to what was applied before it was read.
        let applied = *self.applied.borrow();
        let state = Arc::clone(&self.state.borrow());
        let revision = applied.max(state.revision);
        Read { state, revision }
    }

    /// What is applied once a revision is, if that is soon; 0 for what is applied now.
    pub(super) async fn at_least(&self, revision: u64, timeout: Duration) -> Result<Read, Status> {
        let revision = Revision(revision);
        let mut applied = self.applied.clone();
        let reached = applied.wait_for(|applied| *applied >= revision);
        let reached = tokio::time::timeout(timeout.min(APPLY_TIMEOUT), reached);
        // What it gives locks the value for as long as it lives, and is dropped here: who reads the
        // value again meanwhile waits for a writer that waits for the first reader.
        let is_reached = matches!(reached.await, Ok(Ok(_)));
        if is_reached {
            return Ok(self.now());
        }
        let has = self.now().revision;
        Err(replica_behind(format!(
            "this replica has applied revision {has}, and the request needs {revision}; try \
             another replica"
        )))
    }
}

/// How long to wait for what an answer depends on: the time up to the caller's deadline, or `most`
/// where that is less or there is none.
pub(super) fn timeout(metadata: &MetadataMap, most: Duration) -> Duration {
    let header = metadata.get("grpc-timeout");
    let timeout = header.and_then(|header| read_timeout(header.to_str().ok()?));
    timeout.map_or(most, |timeout| {
        most.min(timeout.saturating_sub(ANSWER_TIMEOUT))
    })
}

/// `grpc-timeout` as gRPC over HTTP/2 defines it: up to eight digits and a unit.
fn read_timeout(text: &str) -> Option<Duration> {
    let (at, unit) = text.char_indices().last()?;
    let digits = &text[..at];
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse::<u64>().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 60 * 60),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::sync::watch;
    use tonic::{Code, metadata::MetadataMap};

    use super::{ANSWER_TIMEOUT, APPLY_TIMEOUT, Reads, Revision, State, timeout};

    fn reads() -> (watch::Sender<Arc<State>>, watch::Sender<Revision>, Reads) {
        let (state_sender, state) = watch::channel(Arc::new(State::default()));
        let (applied_sender, applied) = watch::channel(Revision(0));
        (state_sender, applied_sender, Reads { state, applied })
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_waits_for_its_revision_but_not_for_long() {
        let (_state, applied, reads) = reads();
        applied.send_replace(Revision(5));
        let now = reads.at_least(0, APPLY_TIMEOUT).await.unwrap();
        assert_eq!(now.revision, Revision(5), "although nothing changed there");
        let coming = reads.at_least(6, APPLY_TIMEOUT);
        let applies = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            applied.send_replace(Revision(7));
        };
        let (read, ()) = tokio::join!(coming, applies);
        assert_eq!(read.unwrap().revision, Revision(7));
        let status = reads.at_least(8, APPLY_TIMEOUT).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("revision 7"), "{status}");
    }

    /// A reader that held the value while it read it again waited for a writer that waited for the
    /// reader, and with them every thread of the replica.
    #[test]
    fn a_read_and_a_write_never_wait_for_each_other() {
        let (_state, applied, reads) = reads();
        let (done, finished) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            let mut revision = 0;
            while applied.receiver_count() > 0 {
                revision += 1;
                applied.send_replace(Revision(revision));
            }
        });
        let reader = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().build().unwrap();
            runtime.block_on(async {
                for _ in 0..20_000 {
                    reads.at_least(0, APPLY_TIMEOUT).await.unwrap();
                }
            });
            drop(reads);
            done.send(()).unwrap();
        });
        let ended = finished.recv_timeout(Duration::from_secs(60));
        ended.expect("the reader and the writer wait for each other");
        reader.join().unwrap();
        writer.join().unwrap();
    }

    #[test]
    fn the_deadline_of_the_caller_bounds_the_wait() {
        let most = Duration::from_secs(2);
        let with = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            timeout(&metadata, most)
        };
        assert_eq!(timeout(&MetadataMap::new(), most), most);
        assert_eq!(with("500m"), Duration::from_millis(500) - ANSWER_TIMEOUT);
        assert_eq!(with("1S"), Duration::from_secs(1) - ANSWER_TIMEOUT);
        assert_eq!(with("1M"), most);
        assert_eq!(with("7u"), Duration::ZERO);
        for unreadable in ["", "5", "S", "5x", "-1S", "123456789S", "5é"] {
            let mut metadata = MetadataMap::new();
            let value = tonic::metadata::MetadataValue::try_from(unreadable.as_bytes());
            let Ok(value) = value else { continue };
            metadata.insert("grpc-timeout", value);
            assert_eq!(timeout(&metadata, most), most, "{unreadable:?}");
        }
    }
}
