//! A client of hyper that reads watches, counts their events and does nothing else, in a process of
//! its own.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::io::AsyncBufReadExt as _;

use crate::own_process::OwnProcess;

/// The argument that makes this program the client.
pub(crate) const ARGUMENT: &str = "--read-watches";

/// The client's process, which ends when this is dropped.
pub(crate) struct Reader {
    process: OwnProcess,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reader {
    /// Starts a client that opens these watches.
    pub(crate) fn start(watches: &[String]) -> Self {
        let arguments = [ARGUMENT].into_iter().map(str::to_owned);
        let mut process = OwnProcess::start(arguments.chain(watches.iter().cloned()));
        let questions = process.0.stdin.take().expect("it is piped");
        let answers = process.0.stdout.take().expect("it is piped");
        Self {
            process,
            questions,
            answers: BufReader::new(answers),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How many events it has read so far.
    pub(crate) fn events(&mut self) -> u64 {
        writeln!(self.questions).expect("it reads");
        let mut answer = String::new();
        let read = self.answers.read_line(&mut answer);
        read.expect("it answers");
        answer.trim().parse().expect("a number")
    }
}

/// Reads watches, and answers each line of standard input with the number of their events, until it
/// closes: when the process that started this one ends.
pub(crate) async fn read(watches: &[String]) {
    let events = Arc::<AtomicU64>::default();
    let client = Client::builder(TokioExecutor::new()).build_http();
    for watch in watches {
        tokio::spawn(count(client.clone(), watch.clone(), Arc::clone(&events)));
    }
    let mut questions = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(_)) = questions.next_line().await {
        println!("{}", events.load(Ordering::Relaxed));
    }
}

async fn count(client: Client<HttpConnector, Empty<Bytes>>, watch: String, events: Arc<AtomicU64>) {
    let watch = watch.parse().expect("it is an address");
    let answer = client.get(watch).await.expect("the cluster answers");
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.expect("the watch stays open");
        let lines = frame.data_ref().map_or(0, |chunk| {
            let ends = memchr::memchr_iter(b'\n', chunk);
            ends.count() as u64
        });
        events.fetch_add(lines, Ordering::Relaxed);
    }
}
