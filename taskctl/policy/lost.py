"""When is an attempt lost, and what becomes of its Task?

Pod status is the fallback here, never the normal way: an exit is reported by the agent.
Each rule waits long enough for a report that is on its way, and each result is written
under the Task's resourceVersion, so a report that arrives first wins.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from taskctl.api.states import TaskState
from taskctl.clock import format_micro
from taskctl.constants import Reason
from taskctl.policy.retry import Retry, decide_infra_retry
from taskctl.policy.status import (
    Ending,
    StatusPatch,
    next_attempt_time,
    pending_patch,
    terminal_patch,
    with_past_attempt,
    with_sentence,
)
from taskctl.policy.view import TaskView

# After the container's end is seen: time for the agent's report to reach our watch.
CONTAINER_LOST_AFTER_S: Final = 5.0
# A deleted pod is gone when its grace has passed (deletionTimestamp says when); one that
# is still there so much later is on a node that does not answer.
TERMINATING_GRACE_S: Final = 30.0
# An unclaimed attempt is shown as Scheduled only when it takes this long.
SHOW_SCHEDULED_AFTER_S: Final = 2.0


def infra_patch(
    view: TaskView, attempt: int, ending: Ending, now: datetime, *, leaf: bool = False
) -> StatusPatch:
    """Return the patch for an attempt that was lost by no fault of the task.

    Back in the queue, or Failed/InfrastructureFailures at the cap of :mod:`policy.retry`.

    Args:
        view: the Task.
        attempt: the lost one; it is spent.
        ending: why it was lost.
        now: time of the decision.
        leaf: see :func:`taskctl.policy.status.terminal_patch`.
    """
    infra_failures = view.infra_failures + 1
    decision = decide_infra_retry(infra_failures)
    if isinstance(decision, Retry):
        patch = pending_patch(view, attempt, ending)
        patch["nextAttemptTime"] = next_attempt_time(decision, now)
        patch["attempts"] = with_past_attempt(view, _past(view, attempt, ending.reason, now))
    else:
        final = Ending(Reason.INFRASTRUCTURE, with_sentence(ending.message, decision))
        patch = terminal_patch(view, TaskState.FAILED, final, now, leaf=leaf)
        patch["attempt"] = attempt
    patch["infraFailures"] = infra_failures
    return patch


def _past(view: TaskView, attempt: int, reason: Reason, now: datetime) -> dict[str, object]:
    claimed = view.attempt == attempt
    return {
        "attempt": attempt,
        "podName": view.pod_name if claimed and view.pod_name else None,
        "reason": reason.value,
        "started": (view.status.get("times") or {}).get("started") if claimed else None,
        "exited": format_micro(now),
    }


def suspended_patch(view: TaskView, attempt: int) -> StatusPatch:
    """Return the patch that takes a placed, unclaimed attempt back because of ``spec.suspend``.

    The attempt is spent, so that its container finds itself superseded, but not charged.
    """
    message = "spec.suspend is true; set it to false to let the task run."
    return pending_patch(view, attempt, Ending(Reason.SUSPENDED, message))
