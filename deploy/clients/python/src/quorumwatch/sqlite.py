"""Saves events and the cursor in one SQLite database: each event exactly once."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from quorumwatch.cursor import Cursor
from quorumwatch.errors import QuorumwatchError
from quorumwatch.subscription import Frame
from quorumwatch.v1.event_pb2 import (
    ChangeType,
    Event,
    Gap,
    GapReason,
    StreamChange,
    StreamChangeReason,
)
from quorumwatch.v1.position_pb2 import Position

# What is sent again after an interrupted snapshot or repair can have another position: the object's
# own version deduplicates it.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    era INTEGER NOT NULL,
    resource_version TEXT NOT NULL,
    ordinal INTEGER,
    id TEXT NOT NULL,
    cluster TEXT NOT NULL,
    resource TEXT NOT NULL,
    change_type TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    object_version TEXT NOT NULL,
    object TEXT NOT NULL,
    UNIQUE (stream, era, uid, object_version, change_type)
);
CREATE TABLE IF NOT EXISTS gaps (
    seq INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    cluster TEXT NOT NULL,
    resource TEXT NOT NULL,
    reason TEXT NOT NULL,
    repaired INTEGER NOT NULL,
    from_position TEXT NOT NULL,
    to_position TEXT NOT NULL,
    message TEXT NOT NULL,
    after_event INTEGER NOT NULL,
    synced_event INTEGER,
    synced_position TEXT,
    UNIQUE (stream, reason, from_position)
);
CREATE TABLE IF NOT EXISTS cursor (seq INTEGER PRIMARY KEY, part TEXT NOT NULL);
"""

_LAST_EVENT: Final = "(SELECT coalesce(max(seq), 0) FROM events)"
_INSERT_EVENT: Final = "INSERT OR IGNORE INTO events VALUES (NULL" + ", ?" * 13 + ")"
_INSERT_GAP: Final = (
    f"INSERT OR IGNORE INTO gaps VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, {_LAST_EVENT}, NULL, NULL)"
)
# A snapshot that is sent again after a resume has no row of its own: the first is still open.
_INSERT_BEGINNING: Final = f"""
INSERT OR IGNORE INTO gaps
SELECT NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, {_LAST_EVENT}, NULL, NULL
WHERE NOT EXISTS (
    SELECT 1 FROM gaps WHERE stream = ?1 AND NOT repaired AND synced_event IS NULL)
"""
# A snapshot that begins while another is in progress invalidates what that one has sent.
_DROP_VOID: Final = """
DELETE FROM events WHERE stream = ?1 AND change_type = 'SNAPSHOT' AND seq > (
    SELECT max(after_event) FROM gaps
    WHERE stream = ?1 AND NOT repaired AND synced_event IS NULL)
"""
_CLOSE_GAPS: Final = (
    f"UPDATE gaps SET synced_event = {_LAST_EVENT}, synced_position = ?"
    " WHERE stream = ? AND NOT repaired AND synced_event IS NULL"
)


class Store:
    """A database that holds events, gaps, and the cursor after them.

    `save` writes events and gaps to the tables of this module. For tables of your own use
    `transaction`, which saves only the cursor, in the transaction in which you write.
    """

    def __init__(self, path: str | Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        # A power loss can lose whole transactions, with their cursor: their frames are sent again.
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _SCHEMA)
        self._last = self._last_part()

    @property
    def kept(self) -> list[str]:
        """The saved cursor, to resume from."""
        rows = self._db.execute("SELECT part FROM cursor ORDER BY seq")
        return [part for (part,) in rows]

    def save(self, frames: Sequence[Frame]) -> None:
        """Saves frames and the cursor after them in one transaction."""
        with self.transaction(frames) as db:
            for frame in frames:
                match frame.WhichOneof("frame"):
                    case "event":
                        db.execute(_INSERT_EVENT, _event_row(frame.event))
                    case "stream_change" if frame.stream_change.snapshot_follows:
                        db.execute(_DROP_VOID, (frame.stream_change.stream,))
                        db.execute(_INSERT_BEGINNING, _beginning_row(frame.stream_change))
                    case "gap":
                        self._save_gap(frame.gap)
                    case "synced":
                        at = position_text(frame.synced.position)
                        db.execute(_CLOSE_GAPS, (at, frame.synced.stream))

    def _save_gap(self, gap: Gap) -> None:
        if not gap.repaired:
            self._db.execute(_DROP_VOID, (gap.stream,))
        if gap.reason != GapReason.GAP_REASON_SNAPSHOT_RESTARTED:
            self._db.execute(_INSERT_GAP, _gap_row(gap))

    @contextlib.contextmanager
    def transaction(self, frames: Sequence[Frame]) -> Iterator[sqlite3.Connection]:
        """A transaction for your own statements, in which the cursor after `frames` is saved."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self._last_part() != self._last:
                raise QuorumwatchError("another process saves its cursor in this database")
            yield self._db
            last = self._save_cursor(frames)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        self._last = last

    def _save_cursor(self, frames: Sequence[Frame]) -> int:
        cursor = Cursor()
        for frame in frames:
            cursor.keep(frame)
        if any(frame.cursor for frame in frames):
            self._db.execute("DELETE FROM cursor")
        rows = list(enumerate(cursor.parts, self._last + 1))
        self._db.executemany("INSERT INTO cursor VALUES (?, ?)", rows)
        return self._last + len(rows)

    def _last_part(self) -> int:
        row = self._db.execute("SELECT coalesce(max(seq), 0) FROM cursor").fetchone()
        return int(row[0])

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
        """Closes the database."""
        self._db.close()


def position_text(position: Position) -> str:
    """A position as "era/resource version/ordinal"."""
    text = f"{position.era}/{position.resource_version}"
    return f"{text}/{position.ordinal}" if position.HasField("ordinal") else text


def _event_row(event: Event) -> tuple[str | int | None, ...]:
    at = event.position
    return (
        event.stream,
        at.era,
        at.resource_version,
        at.ordinal if at.HasField("ordinal") else None,
        event.id,
        event.cluster,
        event.resource,
        ChangeType.Name(event.change_type).removeprefix("CHANGE_TYPE_"),
        event.object.namespace,
        event.object.name,
        event.object.uid,
        event.object.resource_version,
        event.object_json,
    )


def _beginning_row(change: StreamChange) -> tuple[str | bool, ...]:
    reason = StreamChangeReason.Name(change.reason).removeprefix("STREAM_CHANGE_REASON_")
    place = (change.stream, change.cluster, change.resource)
    return (*place, reason, False, "", "", change.message)


def _gap_row(gap: Gap) -> tuple[str | bool, ...]:
    at_from: Position = getattr(gap, "from")
    return (
        gap.stream,
        gap.cluster,
        gap.resource,
        GapReason.Name(gap.reason).removeprefix("GAP_REASON_"),
        gap.repaired,
        position_text(at_from) if gap.HasField("from") else "",
        position_text(gap.to) if gap.HasField("to") else "",
        gap.message,
    )
