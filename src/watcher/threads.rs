//! Where clusters are watched: [`WatchThreads`].

use std::{io, sync::Arc, thread};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::domain::id::ClusterId;

/// Threads of which each watches some of the clusters. A cheap clone; they end with the last one,
/// and with what still runs on them.
///
/// Whatever a cluster's events pass from the socket to the ring runs on one thread. What one task
/// hands to the next is still in the cache of the core then, no other core has to be woken for it,
/// and memory is freed by the thread that allocated it: a third of the CPU time per event
/// (`cpu.at_60000` of `benches/load`). And consensus and leases, which run elsewhere, do not wait
/// behind events.
///
/// Without threads, which is the default, everything runs where the caller does: a replica that is
/// simulated on one thread has no others.
#[derive(Clone, Debug, Default)]
pub struct WatchThreads(Arc<[WatchThread]>);

#[derive(Debug)]
struct WatchThread {
    runtime: Handle,
    /// Ends the thread when this is dropped.
    _ends: DropGuard,
}

impl WatchThreads {
    /// Starts so many threads.
    pub fn start(count: usize) -> io::Result<Self> {
        (1..=count).map(start).collect::<io::Result<_>>().map(Self)
    }

    /// Where everything runs that watches this cluster; to be called within a runtime.
    pub fn of(&self, cluster: ClusterId) -> Handle {
        let index = cluster.0.checked_rem(self.0.len() as u64);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let thread = index.and_then(|index| self.0.get(index));
        thread.map_or_else(Handle::current, |thread| thread.runtime.clone())
    }
}

fn start(number: usize) -> io::Result<WatchThread> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let ended = CancellationToken::new();
    let end = ended.clone();
    let thread = thread::Builder::new().name(format!("watch-{number}"));
    drop(thread.spawn(move || {
        runtime.block_on(end.cancelled());
        // A credential command that hangs must not keep it.
        runtime.shutdown_background();
    })?);
    Ok(WatchThread {
        runtime: handle,
        _ends: ended.drop_guard(),
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::{runtime::Handle, sync::oneshot};

    use super::{ClusterId, WatchThreads};

    async fn name(on: &Handle) -> Option<String> {
        let name = on.spawn(async { thread::current().name().map(str::to_owned) });
        name.await.unwrap()
    }

    #[tokio::test]
    async fn all_of_a_cluster_runs_on_one_thread_and_the_clusters_are_spread() {
        let threads = WatchThreads::start(2).unwrap();
        for (cluster, thread) in [(4, "watch-1"), (7, "watch-2"), (9, "watch-2")] {
            let on = threads.of(ClusterId(cluster));
            assert_eq!(name(&on).await.as_deref(), Some(thread));
            // What is spawned there stays there.
            let nested = on.spawn(async { name(&Handle::current()).await });
            assert_eq!(nested.await.unwrap().as_deref(), Some(thread));
        }
    }

    #[tokio::test]
    async fn without_threads_everything_runs_where_the_caller_does() {
        let on = WatchThreads::default().of(ClusterId(3));
        assert_eq!(on.id(), Handle::current().id());
    }

    #[tokio::test]
    async fn a_thread_ends_with_the_last_clone_though_a_task_hangs() {
        let threads = WatchThreads::start(1).unwrap();
        let (running, ended) = oneshot::channel::<()>();
        let on = threads.of(ClusterId(0));
        on.spawn(async move {
            let _running = running;
            std::future::pending::<()>().await;
        });
        drop(threads.clone());
        assert!(name(&on).await.is_some());
        drop(threads);
        assert!(ended.await.is_err());
    }
}
