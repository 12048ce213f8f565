//! What every call passes: [`Gate`] refuses what is too much before any of it is read, counts what
//! is read, and keeps the memory of a response until the transport has sent it.

use std::{
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{
    admission::{Admission, Admitted},
    connection::Client,
    status,
};
use crate::memory::{Reservation, held};

/// Calls whose responses are streams.
const STREAMS: [&str; 4] = [
    "/quorumwatch.v1.EventService/Subscribe",
    "/quorumwatch.v1.ShardService/WatchShards",
    "/quorumwatch.v1.ClusterService/WatchClusters",
    "/quorumwatch.v1.GroupService/WatchGroup",
];

/// How long a call may take until its answer, or the head of its answer, is there: longer than
/// anything that the group decides, and not as long as a slow sender likes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A chunk of a response above this is kept until the next one: see [`Sent`].
const LARGE_CHUNK_BYTES: usize = 64 * 1024;

/// Puts a gate before every service.
#[derive(Clone, Debug)]
pub struct Gate {
    admission: Admission,
}

impl Gate {
    /// A gate that asks `admission`.
    pub fn new(admission: Admission) -> Self {
        Self { admission }
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated {
            inner,
            admission: self.admission.clone(),
        }
    }
}

/// A service behind a gate.
#[derive(Clone, Debug)]
pub struct Gated<S> {
    inner: S,
    admission: Admission,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let client = request.extensions().get::<Client>();
        let address = client.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), Client::address);
        let is_stream = STREAMS.contains(&request.uri().path());
        let admitted = match self.admission.call(address, is_stream) {
            Ok(admitted) => Arc::new(admitted),
            Err(reached) => {
                let refused = reached.status().into_http();
                return Box::pin(async { Ok(refused) });
            }
        };
        request.extensions_mut().insert(admitted.clone());
        let admitted_body = admitted.clone();
        let request = request.map(|body| {
            Body::new(Received {
                body,
                admitted: admitted_body,
            })
        });
        // The one that is ready is the one that is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let called = inner.call(request);
            let Ok(answered) = tokio::time::timeout(ANSWER_TIMEOUT, called).await else {
                let late = status::outcome_unknown("the request, or its answer, took too long");
                return Ok(late.into_http());
            };
            let mut response = answered?;
            let in_flight = response.extensions_mut().remove::<InFlight>();
            Ok(response.map(|body| {
                Body::new(Sent {
                    body,
                    in_flight,
                    last: None,
                    _admitted: admitted,
                })
            }))
        })
    }
}

/// The body of a request, which is counted as it comes.
struct Received {
    body: Body,
    admitted: Arc<Admitted>,
}

impl HttpBody for Received {
    // tidy: the name is the trait's
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(reached) = self.admitted.grow(data.len())
        {
            return Poll::Ready(Some(Err(reached.status())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Memory of the responses that were taken for sending and that the next chunk carries.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(Arc<Mutex<Vec<Reservation>>>);

impl InFlight {
    pub(super) fn add(&self, held: Reservation) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of one budget at a time, nearly always: giving back is one call for a chunk then.
        let own = waiting
            .iter_mut()
            .try_fold(held, |held, other| other.absorb(held));
        waiting.extend(own);
    }

    /// What the next chunk holds until it is sent.
    pub(super) fn take(&self) -> Vec<Reservation> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The body of a response: each chunk holds the memory of its responses until it was written.
struct Sent {
    body: Body,
    in_flight: Option<InFlight>,
    /// The last chunk, where it is large. The encoder would use its memory again for what follows,
    /// and so keep as much as the largest response ever took; it does not if another one has
    /// the chunk, too.
    last: Option<Bytes>,
    _admitted: Arc<Admitted>,
}

impl HttpBody for Sent {
    // tidy: the name is the trait's
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let Poll::Ready(Some(Ok(frame))) = polled else {
            return polled;
        };
        let frame = frame.map_data(|data| match &self.in_flight {
            Some(in_flight) => held(data, Arc::new(in_flight.take())),
            None => data,
        });
        if let Some(data) = frame.data_ref() {
            self.last = (data.len() > LARGE_CHUNK_BYTES).then(|| data.clone());
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
