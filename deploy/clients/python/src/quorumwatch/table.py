"""A copy of the objects that exist, in memory."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from quorumwatch.subscription import Frame
from quorumwatch.v1.event_pb2 import (
    ChangeType,
    Event,
    Gap,
    GapReason,
    Progress,
    StreamChange,
    StreamChangeType,
    Synced,
)


@dataclass(frozen=True, order=True)
class Key:
    """An object's place in a table."""

    stream: str
    namespace: str
    name: str


class Did(enum.Enum):
    """What happened to a row."""

    STORED = "stored"
    DROPPED = "dropped"


@dataclass(frozen=True)
class RowChange:
    """A change of one row by a frame."""

    did: Did
    key: Key
    event: Event
    """The stored event; for a dropped row, the last one."""


_STORES: Final = (ChangeType.CHANGE_TYPE_ADDED, ChangeType.CHANGE_TYPE_MODIFIED)
_DROPS: Final = (ChangeType.CHANGE_TYPE_DELETED, ChangeType.CHANGE_TYPE_UNMATCHED)


@dataclass
class _Stream:
    change: StreamChange
    rows: dict[Key, Event] = field(default_factory=dict)
    # The keys in the current snapshot so far; `None` if no snapshot is in progress.
    seen: set[Key] | None = None


class Table:
    """Objects by stream, namespace and name, each as its last event.

    Apply every frame of a subscription that began with a snapshot and whose filters do not select
    change types. After a restart, begin with an empty table and without a saved cursor.
    """

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._is_up_to_date = False

    def apply(self, frame: Frame) -> list[RowChange]:
        """Applies a frame, and returns the rows that it changed."""
        match frame.WhichOneof("frame"):
            case "event":
                return self._event(frame.event)
            case "stream_change":
                return self._stream_change(frame.stream_change)
            case "gap":
                self._gap(frame.gap)
            case "synced":
                return self._synced(frame.synced)
            case "progress":
                self._progress(frame.progress)
            case "closing":
                self._is_up_to_date = False
        return []

    @property
    def is_complete(self) -> bool:
        """Whether no snapshot is in progress: the table is consistent, but may be old."""
        return all(stream.seen is None for stream in self._streams.values())

    @property
    def is_up_to_date(self) -> bool:
        """Whether the table is complete, and no stream was catching up at the last progress."""
        return self._is_up_to_date and self.is_complete

    def streams(self) -> list[StreamChange]:
        """The streams of the subscription, each as its last `StreamChange`."""
        return [stream.change for stream in self._streams.values()]

    def get(self, stream: str, namespace: str, name: str) -> Event | None:
        """One object, or `None`; the namespace of a cluster-scoped object is empty."""
        known = self._streams.get(stream)
        return known.rows.get(Key(stream, namespace, name)) if known else None

    def __len__(self) -> int:
        return sum(len(stream.rows) for stream in self._streams.values())

    def __iter__(self) -> Iterator[Event]:
        for stream in self._streams.values():
            yield from stream.rows.values()

    def _stream(self, name: str) -> _Stream:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = _Stream(StreamChange(stream=name))
        return stream

    def _event(self, event: Event) -> list[RowChange]:
        stream = self._stream(event.stream)
        key = Key(event.stream, event.object.namespace, event.object.name)
        if event.change_type == ChangeType.CHANGE_TYPE_SNAPSHOT:
            if stream.seen is not None:
                stream.seen.add(key)
        elif event.change_type in _DROPS:
            return _drop(stream, key)
        elif event.change_type not in _STORES:
            return []
        stream.rows[key] = event
        return [RowChange(Did.STORED, key, event)]

    def _stream_change(self, change: StreamChange) -> list[RowChange]:
        if change.type == StreamChangeType.STREAM_CHANGE_TYPE_REMOVED:
            gone = self._streams.pop(change.stream, None)
            rows = gone.rows.items() if gone else ()
            return [RowChange(Did.DROPPED, key, event) for key, event in rows]
        stream = self._stream(change.stream)
        stream.change = change
        if change.snapshot_follows:
            stream.seen = set()
        return []

    def _gap(self, gap: Gap) -> None:
        # After a repaired gap there is no snapshot: ordinary events follow.
        if not gap.repaired or gap.reason == GapReason.GAP_REASON_SNAPSHOT_RESTARTED:
            self._stream(gap.stream).seen = set()

    def _synced(self, synced: Synced) -> list[RowChange]:
        stream = self._stream(synced.stream)
        seen, stream.seen = stream.seen, None
        if seen is None:
            return []
        stale = [key for key in stream.rows if key not in seen]
        return [change for key in stale for change in _drop(stream, key)]

    def _progress(self, progress: Progress) -> None:
        self._is_up_to_date = progress.up_to_date


def _drop(stream: _Stream, key: Key) -> list[RowChange]:
    event = stream.rows.pop(key, None)
    return [] if event is None else [RowChange(Did.DROPPED, key, event)]
