//! Work that blocks its thread, as a replica needs it: [`Blocking`]. What ships is [`Threads`]; a
//! replica that is simulated on one thread, with a clock that jumps, does such work in its turn:
//! [`InTurn`].

use std::{fmt, io, thread};

use futures::future::BoxFuture;
use tokio::{runtime, sync::oneshot};

use crate::panics::catch;

/// Does what may block.
pub trait Blocking: fmt::Debug + Send + Sync + 'static {
    /// Does this soon; to be called within a runtime.
    fn run(&self, work: Box<dyn FnOnce() + Send>);

    /// Drives this to its end, on a thread of this name where it has one. Any of its steps may block.
    fn drive(&self, name: &'static str, work: BoxFuture<'static, ()>) -> io::Result<()>;
}

/// Does this where it may block, and waits for it. A panic in it continues in the caller.
pub async fn blocking<T: Send + 'static>(
    on: &dyn Blocking,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, done) = oneshot::channel();
    on.run(Box::new(move || drop(sender.send(catch(work)))));
    match done.await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => panic.resume(),
        // The runtime ends.
        Err(_) => std::future::pending().await,
    }
}

/// Threads beside those of the runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct Threads;

impl Blocking for Threads {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        drop(tokio::task::spawn_blocking(work));
    }

    fn drive(&self, name: &'static str, work: BoxFuture<'static, ()>) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_owned());
        let runtime = runtime::Builder::new_current_thread().build()?;
        drop(thread.spawn(move || runtime.block_on(work))?);
        Ok(())
    }
}

/// The thread that asks: nothing else goes on there meanwhile, and no time passes on a clock that is
/// stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct InTurn;

impl Blocking for InTurn {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn drive(&self, _: &'static str, work: BoxFuture<'static, ()>) -> io::Result<()> {
        drop(tokio::spawn(work));
        Ok(())
    }
}
