"""What a Task takes from its TaskCluster where it leaves a field out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.policy.claim import Claimed, ClaimEntry, decide_claim
from taskctl.policy.entry import Ticket, build_entry
from taskctl.policy.status import status_body
from taskctl.policy.taskdefaults import filled, from_text, missing_field, taken, to_text
from taskctl.policy.view import parse_task, with_defaults

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
B = {"name": "B", "value": "1"}
DEFAULTS: dict[str, Any] = {
    "image": "i:1",
    "command": ["python"],
    "args": ["-v"],
    "env": [{"name": "A", "value": "1"}, B],
    "workingDir": "/x",
    "retry": {"limit": 2},
    "timeoutSeconds": 60,
    "startDeadlineSeconds": 9,
    "ttlSecondsAfterFinished": {"success": 1200, "failure": 7200},
    "limits": {"depth": 3},
}


def raw(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "t", "namespace": "ns", "uid": "uid-t", "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {"clusterName": "c", **spec}, "status": status or {}}


@pytest.mark.parametrize(
    ("own", "field", "value"),
    [
        ({}, "image", "i:1"),
        ({"image": "mine"}, "image", "mine"),
        ({}, "command", ["python"]),
        ({"command": []}, "command", ["python"]),
        ({}, "args", ["-v"]),
        ({"args": ["x"]}, "args", ["x"]),
        ({"command": ["sh"]}, "args", None),
        ({"env": [{"name": "A", "value": "2"}]}, "env", [B, {"name": "A", "value": "2"}]),
        ({"retry": {"limit": 0}}, "retry", {"limit": 0}),
        ({"ttlSecondsAfterFinished": {"failure": 1}}, "ttlSecondsAfterFinished", {"failure": 1}),
        ({"ttlSecondsAfterFinished": None}, "ttlSecondsAfterFinished", None),
        ({"ttlSecondsAfterFinished": {}}, "ttlSecondsAfterFinished", {}),
        ({}, "startDeadlineSeconds", 9),
        ({}, "limits", {"depth": 3}),
        ({}, "priority", None),
    ],
)  # fmt: skip
def test_own_fields_count_as_a_whole(own: dict[str, Any], field: str, value: Any) -> None:
    assert filled(own, DEFAULTS).get(field) == value


_FIELDS = st.fixed_dictionaries(
    {}, optional={name: st.just(value) for name, value in DEFAULTS.items() if name != "args"}
)


@given(_FIELDS, _FIELDS)
def test_what_is_taken_travels_and_comes_to_the_same(own: Any, defaults: Any) -> None:
    at_placing = filled(own, defaults)
    sent = from_text(to_text(taken(own, at_placing) if at_placing is not own else {}))
    assert filled(own, sent) == at_placing
    assert filled(own, {}) is own


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null"])
def test_what_is_no_record_of_defaults_is_none(text: str) -> None:
    assert from_text(text) == {}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"command": ["x"]}, "spec.image"),
        ({"image": "i"}, "spec.command"),
        ({"image": "i", "command": ["x"]}, ""),
        ({"tasks": [{"image": "i", "command": ["x"]}, {"command": ["x"]}]}, "spec.tasks[1].image"),
        ({"image": "i", "tasks": [{"command": ["x"]}, {}]}, "spec.tasks[1].command"),
        ({"image": "i", "command": ["x"], "tasks": [{}]}, ""),
    ],
)
def test_missing_field(spec: dict[str, Any], path: str) -> None:
    assert missing_field(spec) == path


def claim(task: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The claim of the next attempt, as the API server merges it into the status."""
    attempt = parse_task(task).next_attempt
    entry = ClaimEntry("uid-t", attempt, f"k-{attempt}", "w-1", "pod-1", "", defaults)
    decision = decide_claim(task, entry, NOW)
    assert isinstance(decision, Claimed)
    body = status_body(task, decision.status_patch)
    return {**task, "status": merged(task["status"], body["status"])}


def merged(old: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def test_an_attempt_keeps_what_it_was_placed_with() -> None:
    waiting = with_defaults(parse_task(raw()), DEFAULTS)
    entry = build_entry(waiting, Ticket(1, "n", ""), {})
    assert entry["image"] == "i:1"
    env = {item["name"]: item["value"] for item in entry["env"]}
    running = claim(raw(), from_text(env["TASKCTL_DEFAULTS"]))
    other = {"image": "other", "timeoutSeconds": 1}
    for view in (parse_task(running), with_defaults(parse_task(running), other)):
        assert view.spec["timeoutSeconds"] == 60
        assert view.own_spec == {"clusterName": "c"}
    # The next attempt has those of its own time, and nothing of the one before.
    again = {**running, "status": {**running["status"], "state": "Pending"}}
    assert with_defaults(parse_task(again), other).spec == {"clusterName": "c", **other}
    for defaults in (other, {"retry": {"backoffSeconds": 2}}, {}):
        assert (claim(again, defaults)["status"].get("defaults") or {}) == defaults


def test_a_task_with_everything_of_its_own_needs_no_record() -> None:
    entry = build_entry(
        with_defaults(parse_task(raw(**DEFAULTS)), DEFAULTS), Ticket(1, "n", ""), {}
    )
    assert "TASKCTL_DEFAULTS" not in {item["name"] for item in entry["env"]}
