"""Which replica is tried next, and when."""

import pytest

from quorumwatch._course import PAUSE_MAX, Course

ABC = ["a:1", "b:1", "c:1"]


def course(endpoints: list[str]) -> Course:
    """Without jitter: every pause has its full length."""
    return Course(endpoints, jitter=lambda: 1.0)


def test_every_replica_is_tried_once_without_a_pause_and_then_with_growing_ones() -> None:
    way = course(ABC)
    attempts = []
    for _ in range(30):
        attempts.append(way.next(100.0))
        way.go_elsewhere(100.0)
    assert [attempt.endpoint for attempt in attempts[:4]] == ["a:1", "b:1", "c:1", "a:1"]
    waits = [attempt.wait for attempt in attempts]
    assert waits[:3] == [0.0, 0.0, 0.0]
    assert waits[3::3] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, PAUSE_MAX, PAUSE_MAX, 2.0])
    assert [attempt.is_hurried for attempt in attempts[:4]] == [True, True, True, False]


def test_an_attempt_that_lasts_forgets_those_before_it() -> None:
    way = course(ABC)
    for _ in range(20):
        way.next(1.0)
        way.go_elsewhere(1.0)
    assert way.next(1.0).wait > 1.0
    way.holds()
    way.go_elsewhere(1.0)
    assert way.next(1.0).wait == 0.0


def test_a_replica_that_asks_for_time_gets_it_while_the_others_are_asked() -> None:
    way = course(ABC)
    assert way.next(10.0).endpoint == "a:1"
    way.go_elsewhere(10.0, delay=5.0)
    assert way.next(10.0).endpoint == "b:1"
    way.go_elsewhere(10.0)
    assert way.next(10.0).endpoint == "c:1"
    way.go_elsewhere(10.0)
    assert way.next(10.0).endpoint == "b:1"
    way.go_elsewhere(10.0)
    assert way.next(16.0).endpoint == "c:1"
    way.go_elsewhere(16.0)
    assert way.next(16.0).endpoint == "a:1"


def test_one_replica_alone_is_waited_for() -> None:
    way = course(["a:1"])
    way.next(10.0)
    way.go_elsewhere(10.0, delay=5.0)
    assert way.next(10.0).wait == pytest.approx(5.0)


def test_a_repetition_stays_where_it_is_and_waits_for_the_delay_that_it_is_given() -> None:
    way = course(ABC)
    way.next(10.0)
    way.repeat(10.0, delay=1.5)
    again = way.next(10.0)
    assert again.endpoint == "a:1"
    assert again.wait == pytest.approx(1.5)


@pytest.mark.parametrize("endpoint", ["", "a", ":1", "http://a:1", "a:b", "a:1/x"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        Course([endpoint])
    with pytest.raises(ValueError, match="at least one"):
        Course([])
