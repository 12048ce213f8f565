"""Events, gaps and the cursor in one database."""

from pathlib import Path

import pytest
from fake import event, gap, progress, stream_change, synced

from quorumwatch import QuorumwatchError
from quorumwatch.sqlite import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def rows(store: Store, columns: str, table: str = "events") -> list[tuple[object, ...]]:
    with store.transaction([]) as db:
        return db.execute(f"SELECT {columns} FROM {table} ORDER BY seq").fetchall()


def test_events_and_cursor_are_there_again(path: Path) -> None:
    with Store(path) as store:
        assert store.kept == []
        store.save([progress("w1"), event("ADDED", "x", 1, delta="d1")])
        store.save([event("DELETED", "x", 2, delta="d2")])
    with Store(path) as store:
        assert store.kept == ["w1", "d1", "d2"]
        assert rows(store, "change_type, name, era, resource_version, ordinal, object") == [
            ("ADDED", "x", 1, "1", 0, '{"rv": 1}'),
            ("DELETED", "x", 1, "2", 0, '{"rv": 2}'),
        ]
        store.save([event("ADDED", "y", 3, delta="d3"), progress("w2"), event("ADDED", "z", 4)])
        assert store.kept == ["w2"]


def test_what_is_sent_again_is_there_once(path: Path) -> None:
    with Store(path) as store:
        received = [
            gap(delta="d1"),
            event("SNAPSHOT", "x", 1),
            event("SNAPSHOT", "y", 2),
            gap("SNAPSHOT_RESTARTED"),
            event("SNAPSHOT", "x", 1),
            event("SNAPSHOT", "y", 3),
        ]
        store.save(received)
        store.save([*received, synced(4, delta="d2"), event("ADDED", "y", 3)])
        assert rows(store, "change_type, name, object_version") == [
            ("SNAPSHOT", "x", "1"),
            ("SNAPSHOT", "y", "3"),
            ("ADDED", "y", "3"),
        ]
        gaps = rows(store, "reason, from_position, to_position", "gaps")
        assert gaps == [("HISTORY_EXPIRED", "1/5", "")]
        places = rows(store, "after_event, synced_event, synced_position", "gaps")
        assert places == [(0, 8, "1/4/0")]


def test_a_snapshot_at_the_beginning_starts_again_too(path: Path) -> None:
    beginning = [stream_change("ADDED", snapshot_follows=True), event("SNAPSHOT", "x", 1)]
    with Store(path) as store:
        store.save([*beginning, event("SNAPSHOT", "y", 2)])
        store.save([*beginning, synced(4)])
        store.save([gap(), event("SNAPSHOT", "z", 9), synced(9)])
        assert rows(store, "name") == [("x",), ("z",)]
        assert len(rows(store, "reason", "gaps")) == 2


def test_a_snapshot_after_a_gap_that_is_resumed_is_of_that_gap(path: Path) -> None:
    with Store(path) as store:
        store.save([gap(), event("SNAPSHOT", "x", 1)])
        resumed = stream_change("ADDED", snapshot_follows=True)
        store.save([resumed, event("SNAPSHOT", "y", 2), synced(4)])
        assert rows(store, "name") == [("y",)]
        assert rows(store, "reason", "gaps") == [("HISTORY_EXPIRED",)]


def test_a_transaction_keeps_all_or_nothing(path: Path) -> None:
    with Store(path) as store:
        store.save([progress("w1")])
        with pytest.raises(ZeroDivisionError), store.transaction([progress("w2")]) as db:
            db.execute("CREATE TABLE mine (x)")
            raise ZeroDivisionError
        assert store.kept == ["w1"]
        with store.transaction([progress("w3")]) as db:
            db.execute("CREATE TABLE mine (x)")
        assert store.kept == ["w3"]


def test_two_programs_do_not_write_everything_twice(path: Path) -> None:
    with Store(path) as one, Store(path) as other:
        one.save([progress("w1")])
        with pytest.raises(QuorumwatchError, match="another process"):
            other.save([progress("w1"), event("ADDED", "x", 1)])
        assert rows(one, "name") == []
