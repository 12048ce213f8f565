//! Panics: which of them end the process, and which are caught.
//!
//! A panic ends the process ([`end_process`]): a replica that goes on with a dead part would be the
//! worst of all. What serves one cluster is excepted ([`contain`]): if it ended the process, the
//! cluster would be given to the next replica and end that one too, until none is left. So is what
//! reads the replica's own data, because sled panics where that is damaged ([`catch`]).

use std::{
    any::Any,
    cell::RefCell,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    pin::Pin,
    task::{Context, Poll},
};

/// The exit code of a process that panicked; Rust's own.
const PANICKED: i32 = 101;

thread_local! {
    /// What is being caught on this thread, the innermost last, each with the panic that it met.
    static CATCHING: RefCell<Vec<Option<Panic>>> = const { RefCell::new(Vec::new()) };
}

/// A panic that was caught.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panicked at {place}: {message}")]
pub struct Panic {
    /// What it says. For the log alone: it may repeat what it could not read.
    pub message: String,
    /// Where in the code it came from; empty where that is not known.
    pub place: String,
}

impl Panic {
    fn new(payload: &(dyn Any + Send), place: String) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let message = text.unwrap_or_else(|| "without a message".to_owned());
        Self { message, place }
    }

    /// Continues a panic that was caught on its way to the code that can handle it.
    pub fn resume(self) -> ! {
        let is_caught = CATCHING.with_borrow(|catching| !catching.is_empty());
        if !is_caught {
            // Resumed, it would not reach the hook, and end a task in silence.
            #[expect(clippy::panic, reason = "it panicked already")]
            {
                panic!("{self}");
            }
        }
        panic::resume_unwind(Box::new(self))
    }
}

/// From now on a panic that nobody catches ends the process.
pub fn end_process() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !note(info) {
            report(info);
            std::process::exit(PANICKED);
        }
    }));
}

/// Keeps the message of a panic for the code that catches it; whether there is such code.
fn note(info: &PanicHookInfo<'_>) -> bool {
    let noted = CATCHING.try_with(|catching| {
        let mut catching = catching.borrow_mut();
        match catching.last_mut() {
            Some(met @ None) => {
                let place = info.location().map(ToString::to_string);
                *met = Some(Panic::new(info.payload(), place.unwrap_or_default()));
                true
            }
            // A panic while another one unwinds cannot be caught.
            _ => false,
        }
    });
    noted.unwrap_or(false)
}

/// Does this, and catches a panic in it. What it has changed half-way must not be used again.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    CATCHING.with_borrow_mut(|catching| catching.push(None));
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    let met = CATCHING.with_borrow_mut(Vec::pop).flatten();
    done.map_err(|payload| match payload.downcast::<Panic>() {
        Ok(resumed) => *resumed,
        Err(payload) => met.unwrap_or_else(|| Panic::new(&*payload, String::new())),
    })
}

/// Catches a panic in this work, whichever threads run it. What it spawns is work of its own.
pub fn contain<F: Future>(work: F) -> Contained<F> {
    Contained(Some(Box::pin(work)))
}

/// Work of which a panic is caught.
pub struct Contained<F: Future>(Option<Pin<Box<F>>>);

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else {
            return Poll::Pending;
        };
        let done = match catch(|| work.as_mut().poll(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => Err(panic),
        };
        // What is left of it may panic too.
        let dropped = catch(|| drop(self.0.take()));
        Poll::Ready(done.and_then(|output| dropped.map(|()| output)))
    }
}

impl<F: Future> Drop for Contained<F> {
    fn drop(&mut self) {
        let work = self.0.take();
        if let Err(panic) = catch(|| drop(work)) {
            tracing::error!(
                message = panic.message,
                place = panic.place,
                "work that was ended panicked"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::{Panic, catch, contain, end_process};

    /// Set in a process of which a panic is to end it, or not.
    const CHILD: &str = "QUORUMWATCH_TEST_PANICS";

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "dropped");
        }
    }

    #[test]
    fn a_panic_is_caught_with_its_message_wherever_it_goes_on() {
        assert_eq!(catch(|| 7), Ok(7));
        let caught = catch(|| {
            let inner = catch(|| panic!("as {}", "planted"));
            inner.unwrap_or_else(|panic: Panic| panic.resume());
        });
        assert_eq!(
            caught.map_err(|panic| panic.message),
            Err::<(), _>("as planted".into())
        );
    }

    #[tokio::test]
    async fn work_that_panics_is_over_and_what_it_held_is_dropped() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let work = async move {
            let _held = sender;
            tokio::task::yield_now().await;
            panic!("planted")
        };
        let done: Result<(), Panic> = contain(work).await;
        assert_eq!(done.map_err(|panic| panic.message), Err("planted".into()));
        assert!(receiver.await.is_err());
    }

    #[tokio::test]
    async fn work_that_panics_when_it_is_dropped_harms_nobody() {
        let held = PanicsWhenDropped;
        let work = contain(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        drop(work);
        let held = PanicsWhenDropped;
        let done = contain(async move { drop(held) }).await;
        assert_eq!(done.map_err(|panic| panic.message), Err("dropped".into()));
    }

    /// Runs one of the tests below in a process of its own.
    fn child(test: &str) -> Output {
        let this = std::env::current_exe().unwrap();
        let mut child = Command::new(this);
        let test = format!("panics::tests::{test}");
        child
            .args(["--exact", "--nocapture", &test])
            .env(CHILD, "1");
        child.output().unwrap()
    }

    #[test]
    fn a_panic_that_nobody_catches_ends_the_process() {
        if std::env::var_os(CHILD).is_none() {
            let output = child("a_panic_that_nobody_catches_ends_the_process");
            assert_eq!(output.status.code(), Some(101), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                said.contains("panicked at") && said.contains("planted"),
                "{said}"
            );
            return;
        }
        end_process();
        // The thread's panic alone would not fail the test.
        let _ = std::thread::spawn(|| panic!("planted")).join();
    }

    #[test]
    fn a_panic_that_is_caught_says_nothing_and_is_known_with_its_place() {
        if std::env::var_os(CHILD).is_none() {
            let output = child("a_panic_that_is_caught_says_nothing_and_is_known_with_its_place");
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("planted"), "{said}");
            return;
        }
        end_process();
        let caught = std::thread::spawn(|| catch(|| panic!("planted"))).join();
        let Ok(Err::<(), _>(panic)) = caught else {
            std::process::abort();
        };
        let known = panic.place.contains("panics.rs:") && panic.message == "planted";
        assert!(known, "{panic}");
    }
}
