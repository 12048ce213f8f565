"""The buffer between a call and its consumer."""

from __future__ import annotations

import asyncio

from quorumwatch.v1.event_service_pb2 import SubscribeResponse

# When the buffer is full, the replica waits (flow control). An object may have 8 MiB.
FRAMES_MAX = 1024
BYTES_MAX = 16 * 1024 * 1024


class Buffer:
    """A queue with two limits, for one producer and one consumer."""

    def __init__(self) -> None:
        self._frames: list[SubscribeResponse] = []
        self._bytes = 0
        self._has_ended = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()

    async def put(self, frame: SubscribeResponse, size: int) -> None:
        """Waits for room and adds a frame of so many bytes. An empty buffer takes any size."""
        while self._frames and (len(self._frames) >= FRAMES_MAX or self._bytes + size > BYTES_MAX):
            self._has_room.clear()
            await self._has_room.wait()
        self._frames.append(frame)
        self._bytes += size
        self._changed.set()

    def end(self, error: BaseException | None) -> None:
        """Marks the buffer as complete: `error` is raised after the frames that it still holds."""
        self._has_ended = True
        self._error = error
        self._changed.set()

    async def take(self) -> list[SubscribeResponse]:
        """Waits for frames and returns all; none at the end. Raises the error given to `end`."""
        while not self._frames:
            if self._error is not None:
                raise self._error
            if self._has_ended:
                return []
            self._changed.clear()
            await self._changed.wait()
        frames, self._frames, self._bytes = self._frames, [], 0
        self._has_room.set()
        return frames
