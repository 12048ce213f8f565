"""Which replica to try next, and when. Pure: it neither waits nor reads a clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# The pause after every replica was tried once: short at first, because a takeover is short, and
# never long, because API servers keep only minutes of history (seconds).
PAUSE_MIN, PAUSE_MAX = 0.05, 2.0


@dataclass(frozen=True)
class Attempt:
    """Which replica to try next, after how many seconds."""

    endpoint: str
    wait: float
    is_hurried: bool
    """Whether other replicas have not been tried yet: this attempt gets less time."""


class Course:
    """Selects the replica to try next."""

    def __init__(
        self, endpoints: Sequence[str], jitter: Callable[[], float] = random.random
    ) -> None:
        self._endpoints = [_checked(endpoint) for endpoint in endpoints]
        if not self._endpoints:
            raise ValueError("a subscription needs at least one endpoint, as host:port")
        self._not_before = [0.0] * len(self._endpoints)
        self._everywhere_not_before = 0.0
        self._turn = 0
        self._failed = 0
        self._jitter = jitter

    def next(self, now: float) -> Attempt:
        """The next attempt; `now` and all other times are of one monotonic clock."""
        start = max(now + self._pause(), self._everywhere_not_before)
        count = len(self._endpoints)
        order = [(self._turn + step) % count for step in range(count)]
        ready = (index for index in order if self._not_before[index] <= start)
        soonest = min(order, key=lambda index: self._not_before[index])
        self._turn = next(ready, soonest)
        wait = max(start, self._not_before[self._turn]) - now
        return Attempt(self._endpoints[self._turn], wait, self._failed < count)

    def holds(self) -> None:
        """Resets the count of failures: the current attempt has lasted long enough."""
        self._failed = 0

    def go_elsewhere(self, now: float, delay: float = 0.0) -> None:
        """Moves to the next replica; this one is not tried again before `delay` has passed."""
        self._failed += 1
        self._not_before[self._turn] = now + delay
        self._turn = (self._turn + 1) % len(self._endpoints)

    def repeat(self, now: float, delay: float) -> None:
        """Waits for `delay`, then tries this replica again: it has the data in memory."""
        self._failed += 1
        self._everywhere_not_before = now + delay

    def _pause(self) -> float:
        rounds = self._failed // len(self._endpoints)
        if rounds == 0:
            return 0.0
        pause = min(PAUSE_MIN * (1 << min(rounds - 1, 10)), PAUSE_MAX)
        return pause * (0.5 + 0.5 * self._jitter())


def _checked(endpoint: str) -> str:
    host, colon, port = endpoint.rpartition(":")
    if not (host and colon and port.isdecimal()) or "/" in endpoint:
        raise ValueError(f'"{endpoint}" is no endpoint; write host:port, as "127.0.0.1:7400"')
    return endpoint
