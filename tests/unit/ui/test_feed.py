"""Whatever happens in whatever order: what a browser was told is what there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from taskctl.ui.feed import Feed, FeedRows, Step, apply_told


@dataclass(frozen=True)
class Thing:
    uid: str
    value: int


UIDS = st.sampled_from([f"u{n}" for n in range(8)])
STEPS = st.one_of(
    st.tuples(st.just("put"), UIDS, st.integers(0, 3)),
    st.tuples(st.just("remove"), UIDS, st.just(0)),
    st.tuples(st.just("take"), st.just(""), st.integers(1, 4)),
)


def drain(feed: Feed, mirror: dict[str, Any], limit: int = 3) -> None:
    while told := feed.take(limit):
        apply_told(mirror, told)


@settings(max_examples=400)
@given(before=st.lists(STEPS, max_size=12), after=st.lists(STEPS, max_size=60))
def test_deltas_applied_to_a_snapshot_are_a_fresh_snapshot(
    before: list[tuple[str, str, int]], after: list[tuple[str, str, int]]
) -> None:
    board = FeedRows()
    for step, uid, value in before:
        if step == "put":
            board.put(Thing(uid, value))
    feed, mirror = board.feed(max_pending=3), dict[str, Any]()
    for step, uid, value in after:
        if step == "put":
            board.put(Thing(uid, value))
        elif step == "remove":
            board.remove(uid)
        else:
            apply_told(mirror, feed.take(value))
        assert feed.pending <= max(3, len(board)) + 1  # bounded, however much happens
    drain(feed, mirror)
    assert mirror == board.rows()
    fresh = dict[str, Any]()
    drain(board.feed(), fresh)
    assert mirror == fresh


def test_a_row_that_changes_often_is_sent_once() -> None:
    board, mirror = FeedRows(), dict[str, Any]()
    feed = board.feed()
    drain(feed, mirror)
    for value in range(1000):
        board.put(Thing("a", value))
    told = feed.take()
    assert [one.step for one in told] == [Step.ROWS]
    assert told[0].rows == (Thing("a", 999),)
    assert feed.take() == []


def test_a_row_that_did_not_change_is_not_sent() -> None:
    board, mirror = FeedRows(), dict[str, Any]()
    board.put(Thing("a", 1))
    feed = board.feed()
    drain(feed, mirror)
    board.put(Thing("a", 1))
    assert feed.take() == []


def test_a_browser_that_falls_behind_begins_again() -> None:
    board, mirror = FeedRows(), dict[str, Any]()
    feed = board.feed(max_pending=10)
    drain(feed, mirror)
    for number in range(100):  # as many come as go, so that the board stays small
        board.put(Thing(f"u{number}", 1))
        board.remove(f"u{number}")
    board.put(Thing("last", 1))
    told = feed.take()
    assert told[0].step is Step.RESET
    apply_told(mirror, told)
    drain(feed, mirror)
    assert mirror == {"last": Thing("last", 1)}


def test_the_end_of_a_snapshot_is_told() -> None:
    board = FeedRows()
    for number in range(5):
        board.put(Thing(f"u{number}", 1))
    feed = board.feed()
    steps = [told.step for _ in range(3) for told in feed.take(2)]
    assert steps == [Step.RESET, Step.ROWS, Step.ROWS, Step.ROWS, Step.SYNCED]


async def test_waiting_ends_when_there_is_news() -> None:
    board = FeedRows()
    feed = board.feed()
    await feed.wait()
    feed.take()
    board.put(Thing("a", 1))
    await feed.wait()
    feed.close()
    feed.take()
    board.put(Thing("b", 1))
    assert feed.pending == 0
