"""The subscription: one stream of frames, from any replica that can serve it."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

import grpc

from quorumwatch import _call
from quorumwatch._buffer import Buffer
from quorumwatch._call import Connect
from quorumwatch._course import Attempt, Course
from quorumwatch.cursor import Cursor
from quorumwatch.errors import DELAY_MAX, ClosedError, Failure, Reaction, refused
from quorumwatch.v1.event_pb2 import Closing, ClosingAction, ClosingReason
from quorumwatch.v1.event_service_pb2 import (
    Filter,
    FromCursor,
    FromNow,
    FromSnapshot,
    SubscribeRequest,
    SubscribeResponse,
    Until,
    View,
)

_log: Final = logging.getLogger("quorumwatch")

Frame = SubscribeResponse
"""One message of a subscription: `frame.WhichOneof("frame")` is the name of its field that is set,
or `None` for a frame of a later version, of which only the cursor matters."""


class Start(enum.Enum):
    """Where a subscription without a saved cursor begins."""

    NOW = "now"
    """With the changes from now on."""
    SNAPSHOT = "snapshot"
    """With the objects that exist, followed by their changes."""


@dataclass(frozen=True)
class _Times:
    """Timeouts, in seconds."""

    # A replica sends a Heartbeat after half a second without any other frame; after three missed
    # ones, the next replica is tried.
    silence: float = 1.5
    # For the connection and the first frame, while there are other replicas to try.
    first_frame: float = 5.0
    # The same, if there are none.
    only_frame: float = 12.0
    # The resolution of these timeouts.
    tick: float = 0.1
    # A call that lasts this long, the longest pause between two attempts, has not failed.
    settled: float = 2.0


class Subscription:
    """Frames of a subscription that resumes automatically at the next replica.

    An asynchronous iterator and context manager. It ends only after `until`; it raises
    `QuorumwatchError` on an error that no replica can resolve. Use `blocking` for programs without
    asyncio.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        filters: Iterable[Filter] = (),
        view: View = View.VIEW_FULL,
        start: Start = Start.NOW,
        kept: Iterable[str] = (),
        until: Until = Until.UNTIL_UNSPECIFIED,
        client_name: str = "",
        silence: float | None = None,
        connect: Connect | None = None,
        _times: _Times | None = None,
    ) -> None:
        """Sends no request before the first frame is asked for.

        endpoints: replicas of one group, as host:port; any of them, in any order.
        filters: select what is sent: what matches any of them; everything if there are none.
        start: where to begin if `kept` is empty.
        kept: the saved cursor: `Cursor.parts`, or `Store.kept`.
        silence: how many seconds a replica may send nothing before the next one is tried; 1.5 by
            default. A replica sends a heartbeat every half a second.
        """
        self._course = Course(endpoints)
        self._request = SubscribeRequest(
            filters=filters, view=view, until=until, client_name=client_name
        )
        if start is Start.SNAPSHOT:
            self._request.snapshot.CopyFrom(FromSnapshot())
        else:
            self._request.now.CopyFrom(FromNow())
        kept = tuple(kept)
        self._received = Cursor(kept)
        self._cursor = Cursor(kept)
        self._connect = connect or Connect()
        self._times = _times or _Times()
        if silence is not None:
            self._times = replace(self._times, silence=silence)
        self._buffer = Buffer()
        self._waiting: list[Frame] = []
        self._reader: asyncio.Task[None] | None = None
        self._endpoint: str | None = None

    @property
    def cursor(self) -> Cursor:
        """The cursor after the last returned frame: save its `parts` with your results."""
        return self._cursor

    @property
    def endpoint(self) -> str | None:
        """The replica that serves the subscription; `None` while it is disconnected."""
        return self._endpoint

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the subscription."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        self._buffer.end(None)

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        frame = await self.frame()
        if frame is None:
            raise StopAsyncIteration
        return frame

    async def frame(self) -> Frame | None:
        """The next frame; `None` at the end."""
        if not self._waiting:
            self._waiting = await self._take()
            self._waiting.reverse()
        if not self._waiting:
            return None
        frame = self._waiting.pop()
        self._cursor.keep(frame)
        return frame

    async def batch(self) -> list[Frame]:
        """All frames that have arrived, at least one; none at the end.

        One transaction for each batch gives a high throughput under load, and a low latency
        otherwise.
        """
        frames = self._waiting[::-1] or await self._take()
        self._waiting = []
        for frame in frames:
            self._cursor.keep(frame)
        return frames

    async def batches(self) -> AsyncIterator[list[Frame]]:
        """Iterates over batches, until the end."""
        while frames := await self.batch():
            yield frames

    async def _take(self) -> list[Frame]:
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        return await self._buffer.take()

    async def _read(self) -> None:
        try:
            while await self._attempt(self._course.next(_now())):
                pass
            self._buffer.end(None)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._buffer.end(error)

    async def _attempt(self, attempt: Attempt) -> bool:
        """Receives from one replica until it fails. Returns whether to continue after it."""
        await asyncio.sleep(attempt.wait)
        try:
            closing = await self._follow(attempt)
        except grpc.RpcError as error:
            failure = Failure.of(error)
            if failure.reaction in (Reaction.FIX, Reaction.READ):
                raise refused(attempt.endpoint, failure) from None
            if failure.reaction is Reaction.REPEAT:
                self._course.repeat(_now(), failure.retry_delay)
            else:
                self._course.go_elsewhere(_now(), failure.retry_delay)
            _log.warning("left %s: %s", attempt.endpoint, failure)
        except (_call.SilentError, _call.LostError) as error:
            self._course.go_elsewhere(_now())
            _log.warning("left %s: %s", attempt.endpoint, error)
        else:
            return self._obey(closing, attempt.endpoint)
        finally:
            self._endpoint = None
        return True

    async def _follow(self, attempt: Attempt) -> Closing:
        started = _now()
        times = self._times
        frames = _call.frames(
            attempt.endpoint,
            self._next_request(),
            self._connect,
            first_within=times.first_frame if attempt.is_hurried else times.only_frame,
            within=times.silence,
            tick=times.tick,
        )
        async with contextlib.aclosing(frames):
            async for frame, size in frames:
                if self._endpoint is None:
                    self._endpoint = attempt.endpoint
                    _log.info("following at %s", attempt.endpoint)
                if _now() - started >= times.settled:
                    self._course.holds()
                self._received.keep(frame)
                await self._buffer.put(frame, size)
                if frame.HasField("closing"):
                    return frame.closing
        raise AssertionError("frames end by an exception")

    def _next_request(self) -> SubscribeRequest:
        request = SubscribeRequest()
        request.CopyFrom(self._request)
        if self._received:
            request.resume.CopyFrom(FromCursor(cursors=self._received.parts))
        return request

    def _obey(self, closing: Closing, endpoint: str) -> bool:
        """Carries out the action of a `Closing`. Returns whether to continue."""
        if closing.action == ClosingAction.CLOSING_ACTION_STOP:
            if closing.reason != ClosingReason.CLOSING_REASON_COMPLETE:
                raise ClosedError(closing)
            return False
        delay = min(closing.retry_delay.ToTimedelta().total_seconds(), DELAY_MAX)
        if closing.action == ClosingAction.CLOSING_ACTION_RESUME:
            self._course.repeat(_now(), delay)
        else:
            self._course.go_elsewhere(_now(), delay)
        _log.warning("left %s: %s", endpoint, closing.message or closing.reason)
        return True


def _now() -> float:
    return asyncio.get_running_loop().time()
