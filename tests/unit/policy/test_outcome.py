"""What an exit means."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.clock import parse_time
from taskctl.constants import MESSAGE_LIMIT_CHARS
from taskctl.policy.outcome import ExitReport, StatusChange, Superseded, decide_after_exit
from taskctl.safetext import UNSAFE
from tests.unit.policy.build import NOW, at, child, conditions, raw_task, running, written


def report(**fields: Any) -> ExitReport:
    values: dict[str, Any] = {"attempt": 1, "started": at(-10), "exited": at(-1)}
    return ExitReport(**values | fields)


def after(task: dict[str, Any], exit_report: ExitReport, jitter: float = 0.5) -> dict[str, Any]:
    decision = decide_after_exit(task, "k", exit_report, NOW, jitter)
    assert isinstance(decision, StatusChange)
    status: dict[str, Any] = written(task, decision.status_patch)["status"]
    return status


def task_with(spec: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    return raw_task(spec=spec or {}, status=running(**status))


def test_success() -> None:
    status = after(
        task_with(),
        report(user_s=1.25, system_s=0.5, max_rss_bytes=4096, output_object="t-output"),
    )
    assert (status["state"], status["reason"]) == ("Succeeded", "Completed")
    assert status["exitCode"] == 0
    assert status["outputObject"] == "t-output"
    assert status["usage"] == {"userSeconds": 1.25, "systemSeconds": 0.5, "maxRssBytes": 4096}
    assert status["times"] == {
        "started": "2030-01-01T11:59:00.000000Z",
        "userCode": "2030-01-01T11:59:50.000000Z",
        "exited": "2030-01-01T11:59:59.000000Z",
        "observed": "2030-01-01T12:00:00.000000Z",
    }
    assert status["podName"] == "w-1", "logs are looked for there"
    assert "failures" not in status


@pytest.mark.parametrize("end", [{"code": 0}, {"code": 1}, {"reason": "WorkerLost"}])
@pytest.mark.parametrize("retries", [0, 1])
def test_no_attempt_leaves_a_wait_behind(end: dict[str, Any], retries: int) -> None:
    task = task_with({"retry": {"limit": retries}}, waitingSince="2030-01-01T11:59:30.000000Z")
    assert "waitingSince" not in after(task, report(**end))


def test_root_waits_for_its_tree() -> None:
    assert conditions(after(task_with(), report())) == {}


def test_leaf_root_is_complete_at_once() -> None:
    status = after(task_with(), report(spawned=False))
    assert conditions(status) == {"Complete": "True", "Succeeded": "True"}


def test_descendant_is_complete_at_once() -> None:
    status = after(child("t", status=running()), report(code=2))
    assert conditions(status) == {"Complete": "True", "Succeeded": "False"}


@pytest.mark.parametrize(
    ("fields", "reason", "words", "code", "signal"),
    [
        ({"code": 3}, "NonZeroExit", "code 3", 3, None),
        ({"signal": 9}, "Signalled", "signal 9 (SIGKILL)", 137, 9),
        ({"signal": 99}, "Signalled", "signal 99.", 227, 99),
        ({"signal": 15, "reason": "Timeout"}, "Timeout", "timeoutSeconds=5", 143, 15),
        (
            {"signal": 9, "reason": "MemoryLimitExceeded", "message": "They held 70 MiB."},
            "MemoryLimitExceeded",
            "resources.limits.memory=64Mi. They held 70 MiB.",
            137,
            9,
        ),
        ({"code": 127, "reason": "CommandNotFound"}, "CommandNotFound", "'run'", 127, None),
        ({"code": 126, "reason": "StartError"}, "StartError", "could not be started", 126, None),
        ({"reason": "OutputRejected"}, "OutputRejected", "output", 0, None),
    ],
)
def test_failures_of_the_user(
    fields: dict[str, Any], reason: str, words: str, code: int, signal: int | None
) -> None:
    spec = {"timeoutSeconds": 5, "resources": {"limits": {"memory": "64Mi"}}}
    status = after(task_with(spec), report(**fields))
    assert (status["state"], status["reason"]) == ("Failed", reason)
    assert words in status["message"]
    assert status["exitCode"] == code
    assert status.get("signal") == signal
    assert status["failures"] == 1


def test_message_has_detail_and_the_end_of_the_log() -> None:
    tail = b"x" * 5000 + b"\nTraceback\nValueError: \xff bad\x00\n"
    status = after(task_with(), report(code=1, tail=tail, message="Something more."))
    assert status["message"].startswith(
        "The command exited with code 1. Something more: ValueError: \ufffd bad\n"
    )
    assert status["message"].endswith("ValueError: \ufffd bad")
    assert len(status["message"]) <= MESSAGE_LIMIT_CHARS


def test_retry_backs_off() -> None:
    task = task_with({"retry": {"limit": 2, "backoffSeconds": 4, "jitter": 0}}, failures=1)
    status = after(task, report(code=7))
    assert (status["state"], status["reason"]) == ("Pending", "BackOff")
    assert status["failures"] == 2
    assert status["attempt"] == 1
    assert parse_time(status["nextAttemptTime"]) == NOW + timedelta(seconds=8)
    assert "podName" not in status, "agents select their tasks by it"
    assert "podUID" not in status
    assert status["attempts"] == [
        {
            "attempt": 1,
            "podName": "w-1",
            "reason": "NonZeroExit",
            "exitCode": 7,
            "started": "2030-01-01T11:59:50.000000Z",
            "exited": "2030-01-01T11:59:59.000000Z",
        }
    ]


def test_past_attempts_are_capped() -> None:
    past = [{"attempt": number} for number in range(1, 11)]
    task = task_with({"retry": {"limit": 99}}, attempt=11, attempts=past)
    status = after(task, report(attempt=11, code=1))
    assert [entry["attempt"] for entry in status["attempts"]] == list(range(2, 12))


@pytest.mark.parametrize(
    ("retry", "fields", "retried"),
    [
        ({"limit": 0}, {"code": 1}, False),
        ({"limit": 1}, {"code": 1}, True),
        ({"limit": 1, "onExitCodes": [2]}, {"code": 1}, False),
        ({"limit": 1, "onExitCodes": [2]}, {"code": 2}, True),
        ({"limit": 1, "exceptExitCodes": [2]}, {"code": 2}, False),
        ({"limit": 1, "exceptExitCodes": [2]}, {"code": 1}, True),
        ({"limit": 1, "onExitCodes": [137]}, {"signal": 9}, True),
        ({"limit": 1, "onExitCodes": [137]}, {"signal": 15, "reason": "Timeout"}, False),
        ({"limit": 1, "exceptExitCodes": [143]}, {"signal": 15, "reason": "Timeout"}, True),
        ({"limit": 1}, {"code": 127, "reason": "CommandNotFound"}, True),
    ],
)
def test_retry_rules(retry: dict[str, Any], fields: dict[str, Any], retried: bool) -> None:
    status = after(task_with({"retry": retry}), report(**fields))
    assert (status["state"] == "Pending") is retried


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("Signalled", "WorkerLost"),
        ("WorkerLost", "WorkerLost"),
        ("ContainerLost", "ContainerLost"),
    ],
)
def test_losses_are_not_charged(reason: str, shown: str) -> None:
    status = after(task_with(), report(reason=reason, signal=15))
    assert (status["state"], status["reason"]) == ("Pending", shown)
    assert status["infraFailures"] == 1
    assert "failures" not in status
    assert "nextAttemptTime" not in status, "the first loss is tried again at once"


def test_later_losses_wait() -> None:
    status = after(task_with(infraFailures=3), report(reason="Signalled"))
    assert parse_time(status["nextAttemptTime"]) == NOW + timedelta(seconds=4)


def test_losses_are_capped() -> None:
    status = after(task_with(infraFailures=9), report(reason="Signalled"))
    assert (status["state"], status["reason"]) == ("Failed", "InfrastructureFailures")
    assert status["infraFailures"] == 10


@pytest.mark.parametrize(
    ("spec", "fields", "state"),
    [
        ({}, {"reason": "Cancelled", "signal": 15}, "Cancelled"),
        ({}, {"reason": "Cancelled", "code": 0}, "Cancelled"),
        ({"cancel": True}, {"code": 1}, "Cancelled"),
        ({"cancel": True, "retry": {"limit": 9}}, {"code": 1}, "Cancelled"),
        ({"cancel": True}, {"reason": "Signalled", "signal": 15}, "Cancelled"),
        ({"cancel": True}, {"code": 0}, "Succeeded"),
    ],
)
def test_cancelled(spec: dict[str, Any], fields: dict[str, Any], state: str) -> None:
    assert after(task_with(spec), report(**fields))["state"] == state


@pytest.mark.parametrize(
    "status",
    [
        {"state": "Pending", "attempt": 1},
        running(attempt=2),
        running(containerName="other"),
        running() | {"state": "Succeeded"},
    ],
)
def test_superseded(status: dict[str, Any]) -> None:
    assert isinstance(
        decide_after_exit(raw_task(status=status), "k", report(), NOW, 0.5), Superseded
    )


@given(
    code=st.integers(0, 255),
    signal=st.integers(0, 64),
    reason=st.sampled_from(
        ["", "Timeout", "Cancelled", "CommandNotFound", "StartError", "Signalled", "ContainerLost"]
    ),
    limit=st.integers(0, 3),
    failures=st.integers(0, 4),
    infra=st.integers(0, 9),  # at ten the task has failed
    jitter=st.floats(0, 1, exclude_max=True),
    cancel=st.booleans(),
)
def test_every_exit_settles_the_attempt(
    code: int,
    signal: int,
    reason: str,
    limit: int,
    failures: int,
    infra: int,
    jitter: float,
    cancel: bool,
) -> None:
    """It ends or waits again; the counters tell why; a report is never taken twice."""
    spec = {"retry": {"limit": limit}, "cancel": cancel}
    task = task_with(spec, failures=failures, infraFailures=infra)
    exit_report = report(code=code, signal=signal, reason=reason)
    status = after(task, exit_report, jitter)
    assert status["state"] in ("Pending", "Succeeded", "Failed", "Cancelled")
    charged = status["failures"] - failures, status["infraFailures"] - infra
    assert charged in ((0, 0), (1, 0), (0, 1))
    if status["state"] == "Pending":
        assert charged != (0, 0)
        assert status["failures"] <= limit or charged == (0, 1)
        assert status["infraFailures"] <= 10
    if status["state"] == "Succeeded":
        assert (code, signal, reason) == (0, 0, "")
    assert len(status["message"]) <= MESSAGE_LIMIT_CHARS
    again = decide_after_exit(task | {"status": status}, "k", exit_report, NOW, jitter)
    assert isinstance(again, Superseded)


HOSTILE = st.text(
    st.sampled_from("\x00\x07\x08\x1b\x7f\x9b\x9d\u202e\u2066\r\n[]0;ab "), max_size=60
)


@given(HOSTILE, HOSTILE)
def test_a_message_is_safe_on_terminals(tail: str, said: str) -> None:
    status = after(task_with(), report(code=1, tail=tail.encode(), message=said))
    texts = [status["message"], *(c["message"] for c in status.get("conditions", ()))]
    assert not any(UNSAFE.search(text.translate({10: None, 9: None})) for text in texts)


def test_an_escape_sequence_is_shown_as_text() -> None:
    status = after(task_with(), report(code=1, tail=b"\x1b]0;owned\x07hello"))
    assert "\\x1b]0;owned\\x07hello" in status["message"]
