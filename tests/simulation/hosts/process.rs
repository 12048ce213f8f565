//! A process with a runtime of its own, which can stand still while its machine and all others go on.
//!
//! turmoil runs all tasks of a host, or none for good. So only the machine of such a process is a
//! host of turmoil; the process runs beside it, between the steps of the simulation. While it stands
//! still none of its tasks runs and its clock shows the same time; then the clock has gone on all at
//! once, and everything that was due meanwhile is due late, as after SIGSTOP and SIGCONT.
//!
//! What that is not: a machine that is suspended, whose clock stands still, too; and a disk goes on
//! beside a process that is stopped, but here a flush that is under way ends with the freeze. The
//! wall clock of such a process always shows the epoch: no decision of a replica depends on it.

use std::{mem, time::Duration};

use tokio::{
    runtime::{self, Runtime},
    task::LocalSet,
    time::{advance, sleep},
};
use tracing::Span;

/// A process.
pub(super) struct Process {
    runtime: Runtime,
    /// Where its first task runs. What that spawns runs on the runtime.
    tasks: LocalSet,
    /// Names it in logs.
    span: Span,
    is_frozen: bool,
    /// For how long it has stood still.
    behind: Duration,
}

impl Process {
    /// Begins with this task, on a clock that goes on only in [`Self::run`].
    pub(super) fn start(name: &str, first: impl Future<Output = ()> + 'static) -> Self {
        let mut builder = runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        let tasks = LocalSet::new();
        let started = tasks.run_until(async {
            drop(tokio::task::spawn_local(first));
        });
        runtime.block_on(started);
        Self {
            runtime,
            tasks,
            span: tracing::info_span!("node", %name),
            is_frozen: false,
            behind: Duration::ZERO,
        }
    }

    /// Whether it stands still from now on.
    pub(super) fn set_frozen(&mut self, is_frozen: bool) {
        self.is_frozen = is_frozen;
    }

    /// Lets it run for so long, or stand still.
    pub(super) fn run(&mut self, lasts: Duration) {
        if self.is_frozen {
            self.behind += lasts;
            return;
        }
        let behind = mem::take(&mut self.behind);
        let _named = self.span.enter();
        let until = async move {
            // Before any other task runs: each of them finds that it is late.
            if !behind.is_zero() {
                advance(behind).await;
            }
            // poll: so long is a step of the simulation
            sleep(lasts).await;
        };
        self.runtime.block_on(self.tasks.run_until(until));
    }
}
