"""Subscriptions without asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from quorumwatch.cursor import Cursor
from quorumwatch.subscription import Frame, Subscription


class BlockingSubscription:
    """A `Subscription` as an ordinary iterator and context manager, for one thread.

    Nothing runs between two calls: if they are too far apart, the server closes the subscription as
    too slow, and the next call resumes it.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._runner = asyncio.Runner()

    @property
    def cursor(self) -> Cursor:
        """See `Subscription.cursor`."""
        return self._subscription.cursor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the subscription."""
        self._runner.run(self._subscription.aclose())
        self._runner.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        frame = self._runner.run(self._subscription.frame())
        if frame is None:
            raise StopIteration
        return frame

    def batches(self) -> Iterator[list[Frame]]:
        """See `Subscription.batches`."""
        while frames := self._runner.run(self._subscription.batch()):
            yield frames


def blocking(subscription: Subscription) -> BlockingSubscription:
    """A subscription for programs without asyncio."""
    return BlockingSubscription(subscription)
