"""One call to one replica: its frames, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, cast

import grpc

from quorumwatch.v1.event_service_pb2 import SubscribeRequest, SubscribeResponse

_Sized = tuple[SubscribeResponse, int]

_METHOD: Final = "/quorumwatch.v1.EventService/Subscribe"

_OPTIONS: Final = (
    # An object may have 8 MiB; the default is 4 MiB.
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    # A connection for each call, so that gRPC's own back-off does not apply.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class Connect:
    """How to connect to replicas."""

    credentials: grpc.ChannelCredentials | None = None
    """For TLS, for example with a proxy; plaintext by default."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Sent with each call, such as `(("authorization", "Bearer ..."),)`."""
    options: tuple[tuple[str, str | int], ...] = ()
    """Channel options of the gRPC library."""


class SilentError(Exception):
    """A replica has sent nothing for too long."""


class LostError(Exception):
    """A replica has ended the call without a reason."""


class _Watchdog:
    """Cancels a call that receives nothing in time.

    It counts ticks of the loop instead of reading a clock: a pause of this process does not count.
    """

    def __init__(self, cancel: Callable[[], object], tick: float) -> None:
        self._cancel = cancel
        self._tick_seconds = tick
        self._left: int | None = None
        self.has_expired = False
        self._timer = asyncio.get_running_loop().call_later(tick, self._tick)

    def expect(self, within: float) -> None:
        """Starts the timeout: something must be received within so many seconds."""
        self._left = int(within / self._tick_seconds) + 1

    def rest(self) -> None:
        """Stops the timeout, while the frame is processed and the replica waits for us."""
        self._left = None

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.has_expired = True
                self._cancel()
                return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._tick_seconds, self._tick)


async def frames(
    endpoint: str,
    request: SubscribeRequest,
    connect: Connect,
    *,
    first_within: float,
    within: float,
    tick: float,
) -> AsyncGenerator[_Sized, None]:
    """Frames with their sizes.

    Ends only by an exception: `grpc.RpcError`, `SilentError` or `LostError`.
    """
    options = (*_OPTIONS, *connect.options)
    if connect.credentials is None:
        channel = grpc.aio.insecure_channel(endpoint, options)
    else:
        channel = grpc.aio.secure_channel(endpoint, connect.credentials, options)
    async with channel:
        subscribe = channel.unary_stream(
            _METHOD,
            request_serializer=SubscribeRequest.SerializeToString,
            response_deserializer=_sized,
        )
        call = subscribe(request, metadata=connect.metadata)
        watchdog = _Watchdog(call.cancel, tick)
        try:
            watchdog.expect(first_within)
            while (received := await call.read()) is not grpc.aio.EOF:
                sized = cast(_Sized, received)
                # A heartbeat only resets the timeout.
                if not sized[0].HasField("heartbeat"):
                    watchdog.rest()
                    yield sized
                watchdog.expect(within)
            raise LostError("it ended the subscription without a reason")
        except asyncio.CancelledError:
            if watchdog.has_expired:
                raise SilentError("it sent nothing for too long") from None
            raise
        finally:
            watchdog.stop()
            call.cancel()


def _sized(message: bytes) -> _Sized:
    return SubscribeResponse.FromString(message), len(message)
