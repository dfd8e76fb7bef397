"""What a handover says of its Task, so that the agent claims without reading it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskctl.policy.claim import Claimed, ClaimEntry, decide_claim, fresh_claim
from taskctl.policy.handover import (
    DEFAULTS_LIMIT_BYTES,
    Handover,
    class_of,
    decode_entry,
    encode_entry,
    handover_of,
)
from taskctl.policy.prepare import command_for
from taskctl.policy.taskdefaults import filled
from taskctl.policy.view import parse_task, with_defaults
from tests.unit.policy.build import NOW, child, raw_task

PLACED = "2030-01-01T11:59:59.000000Z"
DEFAULTS: dict[str, Any] = {
    "image": "base",
    "env": [{"name": "A", "value": "1"}],
    "command": ["python", "-m", "taskctl.sdk.run", "sums:square"],
}


def handed(task: dict[str, Any], defaults: dict[str, Any] | None = None) -> Handover:
    """What the agent reads in the record."""
    view = with_defaults(parse_task(task), defaults or {})
    entry = decode_entry(encode_entry(handover_of(view, PLACED)))
    assert isinstance(entry, Handover)
    return entry


def bare(task: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in task.items() if key != "status"}


def lacking(*fields: str) -> dict[str, Any]:
    task = raw_task()
    for field in fields:
        del task["spec"][field]
    return task


TASKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a root": (raw_task(), {}),
    "without a status": (bare(raw_task()), {}),
    "a child": (child("c", "t"), {}),
    "scheduled": (raw_task(status={"state": "Scheduled", "message": "soon"}), {}),
    "a second attempt": (raw_task(status={"attempt": 1, "failures": 1, "exitCode": 3}), {}),
    "noted to the microsecond": (
        raw_task(annotations={"taskctl.dev/created": "2030-01-01T11:00:00.123456Z"}),
        {},
    ),
    "a function": (raw_task(spec={"command": DEFAULTS["command"], "args": ["--many"]}), {}),
    "with defaults": (lacking("image", "command"), DEFAULTS),
    "with an environment": (
        raw_task(spec={"env": [{"name": "B", "value": "2"}], "workingDir": "/app"}),
        DEFAULTS,
    ),
}


@pytest.mark.parametrize("case", TASKS)
def test_a_claim_as_seen_is_the_claim_of_the_task(case: str) -> None:
    task, defaults = TASKS[case]
    entry = handed(task, defaults)
    assert entry.seen is not None
    claim = ClaimEntry(
        entry.task_uid, entry.attempt, "k", "w-1", "pod-1", entry.placed, entry.defaults
    )
    decided = decide_claim(task, claim, NOW)
    assert isinstance(decided, Claimed)
    assert fresh_claim(entry.seen.basis, claim, NOW) == decided.status_patch
    assert entry.seen.version == task["metadata"]["resourceVersion"]


@pytest.mark.parametrize("case", TASKS)
def test_it_names_the_command_and_class_that_the_agent_finds(case: str) -> None:
    task, defaults = TASKS[case]
    entry = handed(task, defaults)
    assert entry.seen is not None
    view = with_defaults(parse_task(task), entry.defaults)
    assert entry.seen.command == command_for(view).digest
    assert entry.seen.root_uid == view.root_uid
    assert entry.seen.fingerprint == class_of(filled(task["spec"], entry.defaults)).fingerprint


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": [{"type": "Complete", "status": "False"}]},
        {"defaults": {"image": "before"}, "attempt": 1},
    ],
    ids=["conditions", "defaults of an earlier attempt"],
)
def test_a_task_whose_status_the_claim_depends_on_is_to_be_read(status: dict[str, Any]) -> None:
    assert handed(raw_task(status=status)).seen is None


def test_what_takes_too_much_of_the_record_is_to_be_read() -> None:
    value = "x" * (DEFAULTS_LIMIT_BYTES - 100)
    task, defaults = raw_task(), {"env": [{"name": "A", "value": value}]}
    entry = handed(task, defaults)
    assert entry.defaults == defaults
    assert entry.seen is None


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        {},
        {"version": ""},
        {"version": 7},
        {"depth": "0"},
        {"depth": True},
        {"generation": None},
        {"root": None},
        {"command": 1},
    ],
)
def test_what_is_said_wrongly_is_not_said(broken: Any) -> None:
    fields = json.loads(encode_entry(handed(raw_task())))
    fields["seen"] = fields["seen"] | broken if broken else broken
    entry = decode_entry(json.dumps(fields))
    assert isinstance(entry, Handover)
    assert entry.seen is None
    assert entry.task_uid == "uid-t"
