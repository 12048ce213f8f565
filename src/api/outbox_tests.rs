use std::time::Duration;

use tokio_stream::StreamExt as _;

use super::{
    Encoded, Full, HEARTBEAT_EVERY, Outbox, Outgoing, RESPONSES_BYTES_MAX, RESPONSES_MAX, Response,
    Status, Waiting, outbox,
};
use crate::{
    domain::{
        cursor::Cursor,
        delivery::place::Place,
        id::{Era, StreamId},
        position::Position,
    },
    memory::Budget,
    pipeline::output::CursorStep,
    proto::v1::{SubscribeResponse, subscribe_response::Frame},
};

const SLOW_AFTER: Duration = Duration::from_secs(8);

fn new_outbox() -> (Outbox, Outgoing) {
    outbox(Cursor::default(), memory(64))
}

fn memory(mib: usize) -> Budget {
    Budget::new("memory.responses", mib << 20)
}

fn large(bytes: usize) -> Response {
    (response(&"x".repeat(bytes)), CursorStep::None)
}

fn response(text: &str) -> Encoded {
    Encoded::Other(Box::new(SubscribeResponse {
        cursor: text.to_owned(),
        ..SubscribeResponse::default()
    }))
}

fn moved(rv: u64) -> Response {
    let place = Place::At(Position::closed(Era(1), rv.into()));
    let step = CursorStep::Moved(StreamId(1), place);
    (response(&rv.to_string()), step)
}

fn last(cursor: &Cursor) -> (Encoded, Option<Status>) {
    let place = cursor.places.get(&StreamId(1));
    let text = place.map(ToString::to_string).unwrap_or_default();
    (response(&text), Some(Status::unavailable("over")))
}

/// Whether it is a heartbeat.
fn is_heartbeat(response: &Result<Encoded, Status>) -> bool {
    let Ok(Encoded::Other(response)) = response else {
        return false;
    };
    matches!(response.frame, Some(Frame::Heartbeat(_)))
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_sent_nothing_else_is_sent_heartbeats_from_its_first_response_on() {
    let (outbox, mut outgoing) = new_outbox();
    let waited = tokio::time::timeout(10 * HEARTBEAT_EVERY, outgoing.next()).await;
    assert!(waited.is_err(), "it is not served yet");
    outbox.push(vec![moved(1)], SLOW_AFTER).await.unwrap();
    assert!(!is_heartbeat(&outgoing.next().await.unwrap()));
    let mut taken_at = tokio::time::Instant::now();
    for _ in 0..3 {
        assert!(is_heartbeat(&outgoing.next().await.unwrap()));
        assert_eq!(taken_at.elapsed(), HEARTBEAT_EVERY);
        taken_at = tokio::time::Instant::now();
    }
    // Whatever is sent puts the next one off.
    tokio::time::advance(HEARTBEAT_EVERY / 2).await;
    outbox.push(vec![moved(2)], SLOW_AFTER).await.unwrap();
    assert!(!is_heartbeat(&outgoing.next().await.unwrap()));
    let taken_at = tokio::time::Instant::now();
    assert!(is_heartbeat(&outgoing.next().await.unwrap()));
    assert_eq!(taken_at.elapsed(), HEARTBEAT_EVERY);
    outbox.end(Waiting::Keep, last);
    assert_eq!(rest(outgoing).await.len(), 2);
}

async fn rest(outgoing: Outgoing) -> Vec<String> {
    let in_flight = outgoing.in_flight();
    let responses = outgoing.filter(|response| !is_heartbeat(response));
    let texts = responses.map(|response| {
        // It is sent at once.
        drop(in_flight.take());
        match response {
            Ok(Encoded::Other(response)) => response.cursor,
            Ok(Encoded::Event(_)) => "event".into(),
            Err(status) => status.message().to_owned(),
        }
    });
    texts.collect().await
}

#[tokio::test]
async fn the_last_frame_follows_what_waits_and_has_the_cursor_after_it() {
    let (outbox, outgoing) = new_outbox();
    outbox
        .push(vec![moved(1), moved(2)], SLOW_AFTER)
        .await
        .unwrap();
    outbox.end(Waiting::Keep, last);
    assert_eq!(rest(outgoing).await, ["1", "2", "1/2", "over"]);
}

#[tokio::test]
async fn what_a_slow_reader_has_not_taken_is_dropped_and_not_in_the_last_cursor() {
    let (outbox, mut outgoing) = new_outbox();
    outbox
        .push(vec![moved(1), moved(2)], SLOW_AFTER)
        .await
        .unwrap();
    outgoing.next().await.unwrap().unwrap();
    outbox.end(Waiting::Drop, last);
    assert_eq!(rest(outgoing).await, ["1/1", "over"]);
}

fn full() -> Vec<Response> {
    (0..RESPONSES_MAX as u64).map(moved).collect()
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_takes_no_more_until_something_is_read() {
    let (outbox, mut outgoing) = new_outbox();
    outbox.push(full(), SLOW_AFTER).await.unwrap();
    let more = outbox.push(vec![moved(999)], SLOW_AFTER);
    tokio::pin!(more);
    let waits = tokio::time::timeout(SLOW_AFTER / 2, more.as_mut()).await;
    assert!(waits.is_err());
    outgoing.next().await.unwrap().unwrap();
    assert_eq!(more.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_slow_and_who_takes_little_is_not() {
    let (outbox, mut outgoing) = new_outbox();
    outbox.push(full(), SLOW_AFTER).await.unwrap();
    outbox.push(vec![moved(999)], SLOW_AFTER).await.unwrap_err();
    // More than fits: room comes only after many were taken, one at a time.
    let (outbox, mut slow) = new_outbox();
    let twice = (0..2 * RESPONSES_MAX as u64).map(moved).collect();
    let pushing = async {
        outbox.push(twice, SLOW_AFTER).await?;
        outbox.push(vec![moved(1)], SLOW_AFTER).await
    };
    let reading = async {
        for _ in 0..=RESPONSES_MAX {
            tokio::time::sleep(SLOW_AFTER / 2).await;
            slow.next().await.unwrap().unwrap();
            drop(slow.in_flight().take());
        }
    };
    let (pushed, ()) = tokio::join!(pushing, reading);
    assert_eq!(pushed, Ok(()));
    outgoing.next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reader_that_leaves_is_noticed_by_the_waiter() {
    let (outbox, outgoing) = new_outbox();
    outbox.push(full(), SLOW_AFTER).await.unwrap();
    drop(outgoing);
    outbox.reader_left().await;
    assert_eq!(
        outbox.push(vec![moved(1)], SLOW_AFTER).await,
        Err(Full::ReaderLeft)
    );
}

#[tokio::test]
async fn an_outbox_that_is_dropped_ends_the_stream() {
    let (outbox, outgoing) = new_outbox();
    outbox.push(vec![moved(1)], SLOW_AFTER).await.unwrap();
    drop(outbox);
    assert_eq!(rest(outgoing).await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_one_reader_is_bounded_in_bytes() {
    let memory = memory(64);
    let (outbox, _outgoing) = outbox(Cursor::default(), memory.clone());
    let mut pushed = 0;
    while outbox.push(vec![large(100_000)], SLOW_AFTER).await.is_ok() {
        pushed += 1;
    }
    assert!(
        pushed * 100_000 <= RESPONSES_BYTES_MAX + 100_000,
        "{pushed}"
    );
    assert!(memory.used() <= RESPONSES_BYTES_MAX + 200_000);
    outbox.end(Waiting::Drop, last);
    assert_eq!(memory.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_who_reads_gets_everything_while_others_have_all_the_memory() {
    let memory = memory(1);
    let everything = memory.try_reserve(usize::MAX).unwrap();
    let (outbox, outgoing) = outbox(Cursor::default(), memory.clone());
    let sending = async move {
        for _ in 0..20 {
            let pushed = outbox.push(vec![large(20_000)], SLOW_AFTER).await;
            assert_eq!(pushed, Ok(()));
        }
        // What is larger than its own waits its turn, and is not slow meanwhile.
        let pushed = outbox.push(vec![large(500_000)], SLOW_AFTER).await;
        assert_eq!(pushed, Ok(()));
    };
    let freeing = async {
        tokio::time::sleep(3 * SLOW_AFTER).await;
        drop(everything);
    };
    let ((), texts, ()) = tokio::join!(sending, rest(outgoing), freeing);
    assert_eq!(texts.len(), 21);
    assert_eq!(memory.used(), 0);
}
