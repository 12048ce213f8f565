"""The position of a subscription."""

from __future__ import annotations

from collections.abc import Iterable

from quorumwatch.v1.event_service_pb2 import SubscribeResponse


class Cursor:
    """The position of a subscription: the last whole cursor, and the deltas after it, in order.

    The parts are opaque: never build, shorten, reorder or merge them.
    """

    def __init__(self, parts: Iterable[str] = ()) -> None:
        self._parts = list(parts)

    @property
    def parts(self) -> tuple[str, ...]:
        """What to save, and to pass to a later `Subscription` as `kept`."""
        return tuple(self._parts)

    def keep(self, frame: SubscribeResponse) -> None:
        """Advances the cursor to this frame."""
        if frame.cursor:
            self._parts = [frame.cursor]
        elif frame.cursor_delta:
            self._parts.append(frame.cursor_delta)

    def __bool__(self) -> bool:
        return bool(self._parts)
