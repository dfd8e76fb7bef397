"""When notifications are tried again, and what is written down meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.policy.hostlist import parse_allowed
from taskctl.policy.notify import (
    LONGEST_WAIT_S,
    DeliveryAnswer,
    NoteOwed,
    SendLater,
    SendNow,
    after_attempt,
    decide_notify,
    noted,
    pause_after,
    told_time,
)
from taskctl.policy.runs import run_again
from taskctl.policy.view import TaskView
from tests.unit.policy.build import NOW, at, view

ALLOWED = parse_allowed(["hooks.example.com"])
COMPLETE = [
    {"type": "Complete", "status": "True", "reason": "Completed", "message": "",
     "lastTransitionTime": "2030-01-01T11:59:58Z", "observedGeneration": 3},
    {"type": "Succeeded", "status": "True", "reason": "Completed", "message": "",
     "lastTransitionTime": "2030-01-01T11:59:58Z", "observedGeneration": 3},
]  # fmt: skip


def root(status: dict[str, Any] | None = None, **receiver: Any) -> TaskView:
    spec = {"notify": [{"url": "https://hooks.example.com/"} | receiver]}
    ended = {"state": "Succeeded", "attempt": 1, "conditions": COMPLETE}
    return view("root", spec=spec, status=ended | (status or {}))


def with_entries(entries: list[dict[str, Any]], **receiver: Any) -> TaskView:
    return root({"tree": {"notifications": entries}}, **receiver)


@given(st.integers(1, 200), st.floats(0, 1e9), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_and_are_bounded(attempts: int, asked_s: float, chance: float) -> None:
    own_s, pause_s = pause_after(attempts, 0.0, chance), pause_after(attempts, asked_s, chance)
    assert 1.5 <= own_s <= 1125
    assert own_s <= pause_s <= LONGEST_WAIT_S
    assert pause_s >= min(asked_s, 3600)
    assert pause_after(attempts + 1, 0.0, chance) >= own_s


def test_by_default_it_tries_for_an_hour() -> None:
    (entry,) = noted(root(), NOW)
    moment, waited_s = NOW, 0.0
    for _ in range(12):
        entry = after_attempt(root(), entry, DeliveryAnswer(500), moment, 0.5)
        assert entry["state"] == "Owed"
        waited_s += pause_after(entry["attempts"], 0.0, 0.5)
    assert 3000 < waited_s < 5000
    entry = after_attempt(root(), entry, DeliveryAnswer(500), moment, 0.5)
    assert (entry["state"], entry["reason"], entry["attempts"]) == ("GivenUp", "ReceiverFailed", 13)
    assert "data" not in entry
    assert "next" not in entry


@pytest.mark.parametrize("code", [*range(200, 210), 226, 299])
def test_every_2xx_is_a_success(code: int) -> None:
    (entry,) = noted(root(), NOW)
    done = after_attempt(root(), entry, DeliveryAnswer(code), NOW, 0.0)
    assert (done["state"], done["message"]) == ("Sent", f"HTTP {code}")


@pytest.mark.parametrize("code", [100, 300, 304, 308, 400, 401, 403, 404, 409, 410, 422, 451])
def test_what_is_final(code: int) -> None:
    (entry,) = noted(root(), NOW)
    done = after_attempt(root(), entry, DeliveryAnswer(code), NOW, 0.0)
    assert (done["state"], done["attempts"]) == ("GivenUp", 1)


def test_first_it_is_noted_then_sent_then_waited() -> None:
    step = decide_notify(root(), ALLOWED, lambda _: 0.0, NOW)
    assert isinstance(step, NoteOwed)
    (entry,) = step.patch["tree"]["notifications"]
    assert (entry["event"], entry["time"]) == ("Succeeded", "2030-01-01T11:59:58.000000Z")
    conditions = step.patch["conditions"]
    noted_root = root({"tree": {"notifications": [entry]}, "conditions": conditions})
    assert decide_notify(noted_root, ALLOWED, lambda _: 0.0, NOW) == SendNow((entry,))
    tried = after_attempt(noted_root, entry, DeliveryAnswer(503), NOW, 0.5)
    later = root({"tree": {"notifications": [tried]}, "conditions": conditions})
    step = decide_notify(later, ALLOWED, lambda _: -5.0, NOW)
    assert isinstance(step, NoteOwed)  # the condition has a cause to name now
    later = root({"tree": {"notifications": [tried]}, "conditions": step.patch["conditions"]})
    assert decide_notify(later, ALLOWED, lambda _: -5.0, NOW) == SendLater(5.0)
    assert decide_notify(later, ALLOWED, lambda _: 0.0, NOW) == SendNow((tried,))


@pytest.mark.parametrize("task", [view("plain"), root({"state": "Running", "conditions": []})])
def test_there_is_nothing_to_tell_yet(task: TaskView) -> None:
    assert decide_notify(task, ALLOWED, lambda _: 0.0, NOW) is None


def test_a_skipped_event_leaves_nothing_owed() -> None:
    task = root(events=["Failed"])
    assert decide_notify(task, ALLOWED, lambda _: 0.0, NOW) is None
    assert told_time(task) == at(-2)


def test_the_time_to_live_counts_from_the_last_of_them() -> None:
    assert told_time(root()) is None
    (entry,) = noted(root(), NOW)
    assert told_time(with_entries([entry])) is None
    sent = after_attempt(root(), entry, DeliveryAnswer(200), at(30), 0.0)
    assert told_time(with_entries([sent])) == at(30)


def test_another_run_takes_along_what_is_owed_of_the_last() -> None:
    patch = run_again(root(), NOW)["tree"]
    assert patch["run"] == 2
    (entry,) = patch["notifications"]
    assert (entry["run"], entry["event"], entry["data"]["run"]) == (1, "Succeeded", 1)
    assert "notifications" not in run_again(view("plain"), NOW)["tree"]


def test_what_a_stranger_writes_into_the_status_is_given_up() -> None:
    odd = {"id": "x", "notify": 7, "run": 1, "event": "Failed", "time": "now", "state": "Owed"}
    step = decide_notify(with_entries([odd]), ALLOWED, lambda _: 0.0, NOW)
    assert isinstance(step, NoteOwed)
    by_id = {entry["id"]: entry["state"] for entry in step.patch["tree"]["notifications"]}
    assert by_id == {"x": "GivenUp", "uid-root-1-ended-0": "Owed"}
