"""Tables, frame by frame."""

from fake import event, gap, progress, stream_change, synced

from quorumwatch import Did, Frame, Table


def table(*frames: Frame) -> Table:
    copy = Table()
    for frame in frames:
        copy.apply(frame)
    return copy


def rows(copy: Table) -> list[tuple[str, str, str]]:
    return sorted((row.stream, row.object.name, row.position.resource_version) for row in copy)


SNAPSHOT = (
    stream_change("ADDED", snapshot_follows=True),
    event("SNAPSHOT", "x", 1),
    event("SNAPSHOT", "y", 2),
)


def test_a_snapshot_fills_it_and_changes_keep_it() -> None:
    copy = table(*SNAPSHOT)
    assert not copy.is_complete
    copy.apply(synced(3))
    assert copy.is_complete and not copy.is_up_to_date
    copy.apply(progress("w", up_to_date=True))
    assert copy.is_up_to_date
    copy.apply(event("ADDED", "z", 4))
    copy.apply(event("MODIFIED", "x", 5))
    copy.apply(event("DELETED", "y", 6))
    assert rows(copy) == [("1", "x", "5"), ("1", "z", "4")]
    copy.apply(event("UNMATCHED", "x", 7))
    copy.apply(event("UNMATCHED", "never-had", 8))
    assert rows(copy) == [("1", "z", "4")]
    found = copy.get("1", "ns", "z")
    assert found and found.object.uid == "uid-z"
    assert copy.get("1", "", "z") is None and copy.get("2", "ns", "z") is None


def test_an_unrepaired_gap_replaces_what_is_there() -> None:
    copy = table(*SNAPSHOT, synced(3), gap(), event("SNAPSHOT", "y", 9))
    assert rows(copy) == [("1", "x", "1"), ("1", "y", "9")]
    dropped = copy.apply(synced(10))
    assert [(change.did, change.key.name) for change in dropped] == [(Did.DROPPED, "x")]
    assert rows(copy) == [("1", "y", "9")]


def test_a_snapshot_that_starts_again_forgets_what_it_named() -> None:
    copy = table(*SNAPSHOT, gap("SNAPSHOT_RESTARTED"), event("SNAPSHOT", "y", 2), synced(3))
    assert rows(copy) == [("1", "y", "2")]


def test_a_repaired_gap_asks_for_nothing() -> None:
    copy = table(*SNAPSHOT, synced(3), gap(repaired=True), event("DELETED", "x", 7))
    assert copy.is_complete
    assert rows(copy) == [("1", "y", "2")]


def test_streams_are_apart() -> None:
    copy = table(
        *SNAPSHOT,
        stream_change("ADDED", "2", snapshot_follows=True),
        event("SNAPSHOT", "x", 1, stream="2"),
        synced(3, "2"),
    )
    assert len(copy) == 3 and not copy.is_complete
    dropped = copy.apply(stream_change("REMOVED", "1"))
    assert [change.key.name for change in dropped] == ["x", "y"]
    assert rows(copy) == [("2", "x", "1")] and copy.is_complete
    assert [stream.stream for stream in copy.streams()] == ["2"]


def test_a_stream_that_comes_back_is_replaced() -> None:
    copy = table(*SNAPSHOT, synced(3), stream_change("ADDED", snapshot_follows=True), synced(9))
    assert rows(copy) == []


def test_a_stream_that_continues_keeps_its_rows() -> None:
    copy = table(*SNAPSHOT, synced(3), stream_change("ADDED"), stream_change("PAUSED"))
    assert len(copy) == 2 and copy.is_complete


def test_what_it_did_is_returned() -> None:
    copy = table(*SNAPSHOT)
    stored = copy.apply(event("MODIFIED", "x", 4))
    assert [(change.did, change.event.position.resource_version) for change in stored] == [
        (Did.STORED, "4")
    ]
    assert copy.apply(event("DELETED", "nobody", 5)) == []
