"""Subscriptions to replicas that follow scripts."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest
from fake import (
    COMPLETE,
    Replica,
    StatusError,
    closing,
    event,
    plays,
    progress,
    serving,
    stream_change,
)
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from quorumwatch import (
    ClosedError,
    CursorError,
    Filter,
    Frame,
    Reaction,
    RefusedError,
    Start,
    Subscription,
    View,
    blocking,
)
from quorumwatch.subscription import _Times
from quorumwatch.v1 import watch_pb2
from quorumwatch.v1.event_service_pb2 import SubscribeRequest

QUICK = _Times(silence=0.3, first_frame=0.2, only_frame=0.3, tick=0.02)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


async def names(subscription: Subscription) -> list[str]:
    """The object names of all events, in order."""
    async with subscription:
        return [frame.event.object.name async for frame in subscription if frame.HasField("event")]


async def hangs(_: SubscribeRequest) -> AsyncIterator[Frame]:
    await asyncio.Event().wait()
    yield Frame()


async def plays_then_hangs(_: SubscribeRequest) -> AsyncIterator[Frame]:
    yield progress("w1")
    yield event("ADDED", "x", 1, delta="d1")
    await asyncio.Event().wait()


async def test_the_request_says_what_was_asked_for() -> None:
    replica = Replica(plays(progress("w1"), COMPLETE))
    async with serving(replica) as endpoints:
        subscription = Subscription(
            endpoints,
            filters=[Filter(clusters=["one"])],
            view=View.VIEW_NONE,
            start=Start.SNAPSHOT,
            client_name="test",
        )
        assert await names(subscription) == []
    request = replica.requests[0]
    assert request.WhichOneof("from") == "snapshot"
    assert list(request.filters[0].clusters) == ["one"]
    assert request.view == View.VIEW_NONE
    assert request.client_name == "test"


async def test_a_lost_connection_is_resumed_elsewhere_with_whole_and_deltas_in_order() -> None:
    first = Replica(
        plays(
            stream_change("ADDED"),
            progress("w1"),
            event("ADDED", "x", 1, delta="d1"),
            event("ADDED", "y", 2, delta="d2"),
            StatusError(UNAVAILABLE),
        )
    )
    second = Replica(plays(progress("w2"), event("ADDED", "z", 3, delta="d3"), COMPLETE))
    async with serving(first, second) as endpoints:
        subscription = Subscription(endpoints)
        assert await names(subscription) == ["x", "y", "z"]
    assert first.requests[0].WhichOneof("from") == "now"
    assert second.kept == [["w1", "d1", "d2"]]
    assert subscription.cursor.parts == ("end",)


async def test_with_nothing_kept_it_begins_as_the_first_time() -> None:
    first = Replica(plays(stream_change("ADDED"), StatusError(UNAVAILABLE)))
    second = Replica(plays(COMPLETE))
    async with serving(first, second) as endpoints:
        await names(Subscription(endpoints, start=Start.SNAPSHOT))
    assert second.requests[0].WhichOneof("from") == "snapshot"


async def test_what_was_kept_is_resumed_at_once() -> None:
    replica = Replica(plays(COMPLETE))
    async with serving(replica) as endpoints:
        await names(Subscription(endpoints, start=Start.SNAPSHOT, kept=["w", "d"]))
    assert replica.kept == [["w", "d"]]


async def test_closing_says_where_to_go_on_and_when() -> None:
    first = Replica(
        plays(closing("REPLICA_STOPPING", "RESUME_ELSEWHERE", "w1"), StatusError(UNAVAILABLE)),
    )
    second = Replica(
        plays(progress("w2"), closing("SUBSCRIBER_TOO_SLOW", "RESUME", "w3", delay=0.3)),
        plays(COMPLETE),
    )
    async with serving(first, second) as endpoints:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await names(Subscription(endpoints))
        assert loop.time() - started >= 0.3
    assert (len(first.requests), second.kept) == (1, [["w1"], ["w3"]])


async def test_a_closing_that_stops_without_being_complete_is_an_error() -> None:
    async with serving(Replica(plays(closing("UNSPECIFIED", "STOP", "w1")))) as endpoints:
        with pytest.raises(ClosedError, match="a sentence"):
            await names(Subscription(endpoints))


async def test_a_silent_replica_is_left_before_and_after_its_first_frame() -> None:
    deaf, mute = Replica(hangs), Replica(plays_then_hangs)
    last = Replica(plays(COMPLETE))
    async with serving(deaf, mute, last) as endpoints:
        assert await names(Subscription(endpoints, _times=QUICK)) == ["x"]
    assert (len(deaf.requests), last.kept) == (1, [["w1", "d1"]])


async def test_heartbeats_keep_a_replica_and_are_not_handed_out() -> None:
    async def beats(_: SubscribeRequest) -> AsyncIterator[Frame]:
        yield progress("w1")
        for _beat in range(6):
            await asyncio.sleep(0.1)
            yield Frame(heartbeat=watch_pb2.Heartbeat())
        yield event("ADDED", "x", 1, delta="d1")
        await asyncio.Event().wait()

    last = Replica(plays(COMPLETE))
    async with serving(Replica(beats), last) as endpoints:
        subscription = Subscription(endpoints, silence=0.3, _times=replace(QUICK, silence=3600))
        frames = [frame async for frame in subscription]
    assert [frame.WhichOneof("frame") for frame in frames] == ["progress", "event", "closing"]
    assert last.kept == [["w1", "d1"]]


async def test_a_subscriber_that_takes_its_time_is_not_held_against_the_replica() -> None:
    replica = Replica(plays(*[event("ADDED", "x", rv) for rv in range(2000)], COMPLETE))
    async with serving(replica) as endpoints, Subscription(endpoints, _times=QUICK) as slow:
        taken = len(await slow.batch())
        await asyncio.sleep(0.8)
        async for frames in slow.batches():
            taken += len(frames)
    assert (taken, len(replica.requests)) == (2001, 1)


async def test_a_replica_that_is_not_there_is_passed_over() -> None:
    last = Replica(plays(COMPLETE))
    async with serving(last) as endpoints:
        await names(Subscription(["127.0.0.1:1", *endpoints]))
    assert len(last.requests) == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (UNAVAILABLE, "NO_QUORUM"),
        (UNAVAILABLE, "CURSOR_TOO_NEW"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ""),
        (grpc.StatusCode.INTERNAL, ""),
        # The reason counts, not the code.
        (grpc.StatusCode.INVALID_ARGUMENT, "REPLICA_BEHIND"),
    ],
)
async def test_other_replicas_may_help(code: grpc.StatusCode, reason: str) -> None:
    first, second = Replica(plays(StatusError(code, reason))), Replica(plays(COMPLETE))
    async with serving(first, second) as endpoints:
        await names(Subscription(endpoints))
    assert (len(first.requests), len(second.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_REACHED"),
        (grpc.StatusCode.UNIMPLEMENTED, ""),
        (grpc.StatusCode.INVALID_ARGUMENT, "A_LATER_ONE"),
    ],
)
async def test_a_request_at_fault_is_not_repeated(code: grpc.StatusCode, reason: str) -> None:
    details = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field="view", description="is not known")
        ]
    )
    first, second = Replica(plays(StatusError(code, reason, details))), Replica(plays(COMPLETE))
    async with serving(first, second) as endpoints:
        with pytest.raises(RefusedError, match="view: is not known") as caught:
            await names(Subscription(endpoints))
    assert not second.requests
    failure = caught.value.failure
    assert (failure.reason, failure.reaction) == (reason, Reaction.FIX)


async def test_a_refused_cursor_has_an_error_of_its_own() -> None:
    status = StatusError(grpc.StatusCode.INVALID_ARGUMENT, "CURSOR_FOREIGN")
    async with serving(Replica(plays(status))) as endpoints:
        with pytest.raises(CursorError):
            await names(Subscription(endpoints, kept=["w"]))


async def test_a_replica_is_asked_again_only_after_the_delay_that_it_asks_for() -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=300_000_000))
    busy = Replica(plays(StatusError(UNAVAILABLE, "REPLICA_BEHIND", retry)), plays(COMPLETE))
    async with serving(busy) as endpoints:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await names(Subscription(endpoints))
        assert loop.time() - started >= 0.3


async def test_frames_of_later_versions_are_handed_out_and_their_cursor_is_kept() -> None:
    replica = Replica(
        plays(progress("w1"), Frame(cursor_delta="d1"), StatusError(UNAVAILABLE)), plays(COMPLETE)
    )
    async with serving(replica) as endpoints:
        await names(Subscription(endpoints))
    assert replica.kept[1] == ["w1", "d1"]


async def test_what_was_received_but_not_handed_out_is_not_in_the_public_cursor() -> None:
    replica = Replica(plays(progress("w1"), event("ADDED", "x", 1, delta="d1"), COMPLETE))
    async with serving(replica) as endpoints, Subscription(endpoints) as subscription:
        parts = []
        for _ in range(2):
            await anext(subscription)
            await asyncio.sleep(0.1)
            parts.append(subscription.cursor.parts)
    assert parts == [("w1",), ("w1", "d1")]


def test_it_works_without_asyncio() -> None:
    replica = Replica(
        plays(progress("w1"), event("ADDED", "x", 1, delta="d1"), StatusError(UNAVAILABLE)),
        plays(event("ADDED", "y", 2, delta="d2"), event("ADDED", "z", 3, delta="d3"), COMPLETE),
    )
    loop = asyncio.new_event_loop()
    ready, stop = asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        async with serving(replica):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(ready.wait(), loop).result()
        with blocking(Subscription([replica.endpoint])) as subscription:
            received = [
                frame.event.object.name for frame in subscription if frame.HasField("event")
            ]
            assert received == ["x", "y", "z"]
            assert subscription.cursor.parts == ("end",)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
    assert replica.kept[1] == ["w1", "d1"]
