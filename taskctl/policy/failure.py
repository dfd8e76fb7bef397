"""What a failure by the task's own doing makes of it: another attempt, or the end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from taskctl.api.states import TaskState
from taskctl.clock import format_micro
from taskctl.constants import Reason
from taskctl.policy.retry import RetryLater, decide_retry, parse_retry
from taskctl.policy.status import (
    Ending,
    StatusPatch,
    next_attempt_time,
    pending_patch,
    terminal_patch,
    with_past_attempt,
    with_sentence,
)
from taskctl.policy.tail import with_cause, with_tail
from taskctl.policy.view import TaskView


@dataclass(frozen=True, slots=True)
class Charge:
    """A failed attempt that the task is charged for.

    Attributes:
        attempt: its number.
        ending: reason and message.
        exit_code: as a shell counts it; None: the command has none.
        rule_code: what the rules of ``spec.retry`` compare with; None: no rule names it.
        started: when the command was started, as text; None: unknown.
        exited: when it ended; None: unknown.
        tail: end of the log.
        leaf: see :func:`taskctl.policy.status.terminal_patch`.
    """

    attempt: int
    ending: Ending
    exit_code: int | None
    rule_code: int | None = None
    started: str | None = None
    exited: datetime | None = None
    tail: bytes = b""
    leaf: bool = False


def failure_patch(view: TaskView, charge: Charge, now: datetime, jitter: float) -> StatusPatch:
    """Return the patch for a failed attempt: back in the queue after a back-off, or Failed.

    Args:
        view: the Task.
        charge: the failure.
        now: time of the decision, the base of the back-off.
        jitter: drawn by the caller from [0, 1).
    """
    failures, ending = view.failures + 1, charge.ending
    sentence = ending.message
    if ending.reason is Reason.NON_ZERO_EXIT:  # else the log does not say why it ended
        sentence = with_cause(sentence, charge.tail)
    decision = decide_retry(parse_retry(view.spec), failures, charge.rule_code, jitter)
    if isinstance(decision, RetryLater):
        message = with_tail(sentence, charge.tail)
        patch = pending_patch(view, charge.attempt, Ending(Reason.BACK_OFF, message))
        patch["nextAttemptTime"] = next_attempt_time(decision, now)
        started = (view.status.get("times") or {}).get("started")
        patch["attempts"] = with_past_attempt(
            view,
            {
                "attempt": charge.attempt,
                "podName": view.pod_name or None,
                "containerName": view.parked_container or None,
                "reason": ending.reason.value,
                "exitCode": charge.exit_code,
                "started": charge.started or started,
                "exited": format_micro(charge.exited or now),
            },
        )
    else:
        message = with_tail(with_sentence(sentence, decision), charge.tail)
        final = Ending(ending.reason, message)
        patch = terminal_patch(view, TaskState.FAILED, final, now, leaf=charge.leaf)
    patch["failures"] = failures
    return patch
