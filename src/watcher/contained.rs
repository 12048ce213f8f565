//! A client of which a panic reaches the sender of a request: [`ContainedService`] and
//! [`Connections`]. kube calls its service from a task of its own, and hyper has one for each
//! connection; a panic there would otherwise be met by nobody who knows the cluster.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use hyper::rt::Executor;
use tower::Service;

use crate::panics::{Panic, catch, contain};

/// A service whose panics are those of the requests that meet them.
pub(super) struct ContainedService<S> {
    service: S,
    /// For the next request.
    met: Option<Panic>,
}

impl<S> ContainedService<S> {
    pub(super) fn new(service: S) -> Self {
        Self { service, met: None }
    }
}

impl<S, R> Service<R> for ContainedService<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.met.is_some() {
            return Poll::Ready(Ok(()));
        }
        match catch(|| self.service.poll_ready(context)) {
            Ok(ready) => ready,
            Err(panic) => {
                self.met = Some(panic);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn call(&mut self, request: R) -> Self::Future {
        let called = match self.met.take() {
            Some(panic) => Err(panic),
            None => catch(|| self.service.call(request)),
        };
        Box::pin(async move {
            match called {
                Ok(answer) => answer.await,
                Err(panic) => panic.resume(),
            }
        })
    }
}

/// The connections of a client: each has a task. A cheap clone.
#[derive(Clone, Default)]
pub(super) struct Connections {
    /// The first panic of one of them that nobody has taken yet.
    met: Arc<Mutex<Option<Panic>>>,
}

impl Connections {
    /// Goes on with a panic of one of the connections.
    pub(super) fn resume_panic(&self) {
        let met = self
            .met
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(panic) = met {
            panic.resume();
        }
    }
}

impl<F> Executor<F> for Connections
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, connection: F) {
        let met = self.met.clone();
        tokio::spawn(async move {
            if let Err(panic) = contain(connection).await {
                let mut met = met.lock().unwrap_or_else(PoisonError::into_inner);
                met.get_or_insert(panic);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::ServiceExt as _;

    use super::{Connections, ContainedService, Executor as _, Service as _, catch, contain};

    #[tokio::test]
    async fn a_panic_of_the_service_is_met_by_the_request() {
        let service = tower::service_fn(|number: u32| {
            assert!(number != 1, "planted");
            async move { Ok::<_, Infallible>(number) }
        });
        let mut service = ContainedService::new(service);
        for (number, message) in [(0, None), (1, Some("planted")), (2, None)] {
            let called = service.ready().await.unwrap().call(number);
            let answer = contain(called).await;
            assert_eq!(answer.err().map(|panic| panic.message).as_deref(), message);
        }
    }

    #[tokio::test]
    async fn a_panic_of_a_connection_is_met_by_the_next_request() {
        let connections = Connections::default();
        assert!(catch(|| connections.resume_panic()).is_ok());
        connections.execute(async { panic!("planted") });
        while connections.met.lock().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        let panic = catch(|| connections.resume_panic()).unwrap_err();
        assert_eq!(panic.message, "planted");
        assert!(catch(|| connections.resume_panic()).is_ok());
    }
}
