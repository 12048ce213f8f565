"""A replica that follows the script of a test, and helpers that build frames."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from quorumwatch import Frame
from quorumwatch.v1 import event_pb2
from quorumwatch.v1.event_service_pb2 import SubscribeRequest
from quorumwatch.v1.event_service_pb2_grpc import (
    EventServiceServicer,
    add_EventServiceServicer_to_server,
)
from quorumwatch.v1.position_pb2 import Position


class StatusError(Exception):
    """The status that a call ends with."""

    def __init__(self, code: grpc.StatusCode, reason: str = "", *details: Message) -> None:
        super().__init__(code.name)
        self.code = code
        info = error_details_pb2.ErrorInfo(domain="quorumwatch.dev", reason=reason)
        self.details = ([info] if reason else []) + list(details)


Script = Callable[[SubscribeRequest], AsyncIterator[Frame]]


class Replica(EventServiceServicer):
    """Runs the next script for each subscription, and repeats the last one."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.requests: list[SubscribeRequest] = []
        self.endpoint = ""

    async def Subscribe(  # noqa: N802
        self,
        request: SubscribeRequest,
        context: grpc.aio.ServicerContext[SubscribeRequest, Frame],
    ) -> AsyncIterator[Frame]:
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        self.requests.append(request)
        try:
            async for frame in script(request):
                yield frame
        except StatusError as status:
            await context.abort(status.code, "a sentence", _metadata(status))

    @property
    def kept(self) -> list[list[str]]:
        """The cursor of each subscription."""
        return [list(request.resume.cursors) for request in self.requests]


def _metadata(status: StatusError) -> tuple[tuple[str, bytes], ...]:
    proto = status_pb2.Status(code=status.code.value[0], message="a sentence")
    for detail in status.details:
        packed = Any()
        packed.Pack(detail)
        proto.details.append(packed)
    return (("grpc-status-details-bin", proto.SerializeToString()),)


@contextlib.asynccontextmanager
async def serving(*replicas: Replica) -> AsyncIterator[list[str]]:
    """Starts servers for these replicas, and yields their endpoints."""
    async with contextlib.AsyncExitStack() as stack:
        for replica in replicas:
            server = grpc.aio.server()
            port = server.add_insecure_port("127.0.0.1:0")
            add_EventServiceServicer_to_server(replica, server)
            await server.start()
            stack.push_async_callback(server.stop, 0)
            replica.endpoint = f"127.0.0.1:{port}"
        yield [replica.endpoint for replica in replicas]


def plays(*steps: Frame | Exception) -> Script:
    """A script that sends these frames, and raises an exception where there is one."""

    async def script(_: SubscribeRequest) -> AsyncIterator[Frame]:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            yield step

    return script


def position(rv: int, era: int = 1, ordinal: int | None = 0) -> Position:
    return Position(era=era, resource_version=str(rv), ordinal=ordinal)


def event(
    change: str, name: str, rv: int, *, stream: str = "1", delta: str = "", namespace: str = "ns"
) -> Frame:
    """A change of one object: `rv` is its resource version and that of its position."""
    return Frame(
        cursor_delta=delta,
        event=event_pb2.Event(
            id=f"{stream}-{rv}",
            stream=stream,
            cluster="one",
            resource="v1/events",
            change_type=f"CHANGE_TYPE_{change}",
            position=position(rv),
            object=event_pb2.ObjectMeta(
                namespace=namespace, name=name, uid=f"uid-{name}", resource_version=str(rv)
            ),
            object_json=f'{{"rv": {rv}}}',
        ),
    )


def progress(cursor: str, *, up_to_date: bool = False) -> Frame:
    return Frame(cursor=cursor, progress=event_pb2.Progress(up_to_date=up_to_date))


def stream_change(kind: str, stream: str = "1", *, snapshot_follows: bool = False) -> Frame:
    return Frame(
        stream_change=event_pb2.StreamChange(
            stream=stream,
            type=f"STREAM_CHANGE_TYPE_{kind}",
            snapshot_follows=snapshot_follows,
            cluster="one",
        )
    )


def gap(
    reason: str = "HISTORY_EXPIRED", *, repaired: bool = False, stream: str = "1", delta: str = ""
) -> Frame:
    body = event_pb2.Gap(
        stream=stream,
        cluster="one",
        resource="v1/events",
        reason=f"GAP_REASON_{reason}",
        repaired=repaired,
        message="a sentence",
    )
    getattr(body, "from").CopyFrom(position(5, ordinal=None))
    return Frame(cursor_delta=delta, gap=body)


def synced(rv: int, stream: str = "1", delta: str = "") -> Frame:
    body = event_pb2.Synced(stream=stream, cluster="one", position=position(rv))
    return Frame(cursor_delta=delta, synced=body)


def closing(reason: str, action: str, cursor: str, delay: float = 0.0) -> Frame:
    body = event_pb2.Closing(
        reason=f"CLOSING_REASON_{reason}",
        action=f"CLOSING_ACTION_{action}",
        message="a sentence",
    )
    body.retry_delay.FromMilliseconds(int(delay * 1000))
    return Frame(cursor=cursor, closing=body)


COMPLETE = closing("COMPLETE", "STOP", "end")
