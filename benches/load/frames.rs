//! Frames in their wire encoding, and readers that use next to no CPU.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use prost::encoding::{WireType, decode_key, decode_varint};
use quorumwatch::client::Endpoint;
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Request, Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

/// The method that all readers call.
const SUBSCRIBE: &str = "/quorumwatch.v1.EventService/Subscribe";

/// `SubscribeResponse.event` and `.gap`.
const EVENT: u32 = 3;
const GAP: u32 = 5;

/// The minimum pause of a reader with a limited rate.
const PACE: Duration = Duration::from_millis(5);

/// A codec that leaves messages encoded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bare;

impl Codec for Bare {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bare {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Bare {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// The number of the field that holds the frame.
fn field_of(mut frame: Bytes) -> Option<u32> {
    while frame.has_remaining() {
        let (field, kind) = decode_key(&mut frame).ok()?;
        if field >= EVENT {
            return Some(field);
        }
        let length = (kind == WireType::LengthDelimited).then(|| decode_varint(&mut frame).ok());
        let length = usize::try_from(length??).ok()?;
        frame.advance(length.min(frame.remaining()));
    }
    None
}

/// Subscribes to everything from now on.
async fn subscribe(endpoint: &Endpoint) -> Streaming<Bytes> {
    let channel: Channel = endpoint.connect().await.expect("it listens").channel();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("it is connected");
    // The encoding of an empty request is empty.
    let request = Request::new(Bytes::new());
    let path = PathAndQuery::from_static(SUBSCRIBE);
    let answer = client.server_streaming(request, path, Bare).await;
    answer.expect("it serves").into_inner()
}

/// Records so many frames with events, in their wire encoding.
pub(crate) async fn record(endpoint: &Endpoint, count: usize) -> Vec<Bytes> {
    let mut stream = subscribe(endpoint).await;
    let mut frames = Vec::new();
    while frames.len() < count {
        let frame = stream.message().await.expect("no error");
        let frame = frame.expect("it does not end");
        if field_of(frame.clone()) == Some(EVENT) {
            frames.push(frame);
        }
    }
    frames
}

/// What readers have received.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) events: AtomicU64,
    pub(crate) gaps: AtomicU64,
    /// Why readers ended before they were stopped.
    pub(crate) ended: Mutex<Vec<String>>,
}

impl Received {
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

/// Readers, which end when this is dropped.
pub(crate) struct Readers {
    pub(crate) received: Arc<Received>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Readers {
    /// Starts `count` readers; each reads at most `rate` events per second if one is given.
    pub(crate) async fn start(endpoint: &Endpoint, count: usize, rate: Option<f64>) -> Self {
        let received = Arc::<Received>::default();
        let mut tasks = Vec::new();
        for _ in 0..count {
            let stream = subscribe(endpoint).await;
            let read = read(stream, Arc::clone(&received), rate);
            tasks.push(AbortOnDropHandle::new(tokio::spawn(read)));
        }
        Self {
            received,
            _tasks: tasks,
        }
    }
}

async fn read(mut stream: Streaming<Bytes>, received: Arc<Received>, rate: Option<f64>) {
    let start = Instant::now();
    let mut own = 0_u64;
    let why = loop {
        match stream.message().await {
            Ok(Some(frame)) => match field_of(frame) {
                Some(EVENT) => {
                    own += 1;
                    received.events.fetch_add(1, Ordering::Relaxed);
                }
                Some(GAP) => drop(received.gaps.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            },
            Ok(None) => break "the stream ended".to_owned(),
            Err(status) => break status.to_string(),
        }
        let due = rate.map(|rate| Duration::from_secs_f64(own as f64 / rate));
        if due.is_some_and(|due| due > start.elapsed() + PACE) {
            tokio::time::sleep(PACE).await;
        }
    };
    received.ended.lock().unwrap().push(why);
}
