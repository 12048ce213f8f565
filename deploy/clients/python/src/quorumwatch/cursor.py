"""Where a subscription stands."""

from __future__ import annotations

from collections.abc import Iterable

from quorumwatch.v1.event_service_pb2 import SubscribeResponse


class Cursor:
    """What is kept of a subscription's cursor: the last whole, then the deltas after it, in order.

    Opaque: never build, shorten, reorder or merge the parts.
    """

    def __init__(self, parts: Iterable[str] = ()) -> None:
        self._parts = list(parts)

    @property
    def parts(self) -> tuple[str, ...]:
        """What to save, and to give to a later `Subscription` as `kept`."""
        return tuple(self._parts)

    def keep(self, frame: SubscribeResponse) -> None:
        """Makes it the cursor after this frame."""
        if frame.cursor:
            self._parts = [frame.cursor]
        elif frame.cursor_delta:
            self._parts.append(frame.cursor_delta)

    def __bool__(self) -> bool:
        return bool(self._parts)
