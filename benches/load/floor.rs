//! A gRPC server of tonic that sends given frames and does nothing else, in a process of its own.

use std::{
    convert::Infallible,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures::{Stream, StreamExt as _, future::BoxFuture, stream};
use quorumwatch::client::Endpoint;
use tokio::net::TcpListener;
use tokio_stream::wrappers::{IntervalStream, TcpListenerStream};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, ServerStreamingService},
    transport::Server,
};

use crate::{frames::Bare, own_process::OwnProcess};

/// The argument that makes this program the server.
pub(crate) const ARGUMENT: &str = "--serve-frames";

/// The interval between sends; the simulated load is written at the same one.
const BEAT: Duration = Duration::from_millis(5);

/// The server's process, which ends when this is dropped.
pub(crate) struct Floor {
    process: OwnProcess,
    pub(crate) endpoint: Endpoint,
}

impl Floor {
    /// Starts a server that sends `rate` of these frames per second to each reader.
    pub(crate) fn start(frames: &[Bytes], rate: u32, folder: &Path) -> Self {
        let mut file = Vec::new();
        for frame in frames {
            let length = u32::try_from(frame.len()).expect("frames are small");
            file.extend_from_slice(&length.to_be_bytes());
            file.extend_from_slice(frame);
        }
        let path = folder.join("frames");
        fs::write(&path, file).expect("the directory can be written");
        let path = path.into_os_string().into_string();
        let path = path.expect("its name is text");
        let mut process = OwnProcess::start([ARGUMENT.to_owned(), path, rate.to_string()]);
        let mut line = String::new();
        let output = process.0.stdout.take().expect("it is piped");
        let read = BufReader::new(output).read_line(&mut line);
        read.expect("it prints its address");
        let endpoint = line.trim().parse().expect("an address");
        Self { process, endpoint }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Serves the frames of a file until standard input closes: when the process that started it ends.
pub(crate) async fn serve(path: &str, rate: &str) {
    let mut file = Bytes::from(fs::read(path).expect("it was written"));
    let mut frames = Vec::new();
    while file.has_remaining() {
        let length = file.get_u32() as usize;
        frames.push(file.split_to(length));
    }
    let rate: f64 = rate.parse().expect("a number");
    let service = Service {
        frames: frames.into(),
        each_beat: rate * BEAT.as_secs_f64(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it listens");
    let mut output = std::io::stdout();
    writeln!(output, "{address}").expect("it is read");
    output.flush().expect("it is read");
    let incoming = TcpListenerStream::new(listener);
    let incoming = incoming.inspect(|connection| {
        if let Ok(connection) = connection {
            let _ = connection.set_nodelay(true);
        }
    });
    let served = Server::builder()
        .tcp_nodelay(true)
        .add_service(service)
        .serve_with_incoming(incoming);
    let input_ends = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        served = served => served.expect("it serves"),
        _ = input_ends => {}
    }
}

#[derive(Clone)]
struct Service {
    frames: Arc<[Bytes]>,
    each_beat: f64,
}

type Frames = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl Service {
    fn frames(&self) -> Frames {
        let Self { frames, each_beat } = self.clone();
        let beats = IntervalStream::new(tokio::time::interval(BEAT)).enumerate();
        let sent = beats.flat_map(move |(beat, _)| {
            let place = |beat: usize| (beat as f64 * each_beat) as usize;
            let frames = Arc::clone(&frames);
            let due = place(beat)..place(beat + 1);
            stream::iter(due.map(move |index| Ok(frames[index % frames.len()].clone())))
        });
        Box::pin(sent)
    }
}

impl ServerStreamingService<Bytes> for Service {
    type Response = Bytes;
    type ResponseStream = Frames;
    type Future = BoxFuture<'static, Result<Response<Frames>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let frames = self.frames();
        Box::pin(async move { Ok(Response::new(frames)) })
    }
}

impl NamedService for Service {
    const NAME: &'static str = "quorumwatch.v1.EventService";
}

impl tower::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(Grpc::new(Bare).server_streaming(service, request).await) })
    }
}
