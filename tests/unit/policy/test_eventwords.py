"""What Events say is wrong with an object."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.policy.eventwords import newest_words


def event(second: int, reason: str, *, kind: str = "Warning", uid: str = "u", **more: Any) -> Any:
    return {
        "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
        "involvedObject": {"uid": uid},
        "type": kind,
        "reason": reason,
        "message": f"{reason} it is",
        "lastTimestamp": f"2026-01-01T00:00:{second:02}Z",
    } | more


@pytest.mark.parametrize(
    ("events", "normal", "words"),
    [
        ([], True, ""),
        ([event(1, "A"), event(3, "C"), event(2, "B")], False, "C: C it is"),
        ([event(1, "A"), event(3, "C", kind="Normal")], False, "A: A it is"),
        ([event(1, "A"), event(3, "C", kind="Normal")], True, "A: A it is"),
        ([event(3, "C", kind="Normal")], False, ""),
        ([event(3, "C", kind="Normal")], True, "C: C it is"),
        ([event(3, "C", uid="other"), event(1, "A")], False, "A: A it is"),
        ([event(1, "A", message="two\n  lines")], False, "A: two lines"),
        ([event(1, "A", message=None)], False, "A"),
        (
            [
                event(9, "A"),
                event(0, "B", lastTimestamp=None, eventTime="2026-01-01T00:00:30.000000Z"),
            ],
            False,
            "B: B it is",
        ),
        (
            [event(9, "A"), event(0, "B", series={"lastObservedTime": "2026-01-01T00:01:00Z"})],
            False,
            "B: B it is",
        ),
        ([event(0, "A", lastTimestamp=None)], False, "A: A it is"),
    ],
)
def test_newest_words(events: list[Any], normal: bool, words: str) -> None:
    assert newest_words(events, "u", normal=normal) == words
