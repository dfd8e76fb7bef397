"""When is an attempt lost, and what becomes of its Task?

Pod status is the fallback here, never the normal way: an exit is reported by the agent.
Each rule waits long enough for a report that is on its way, and each result is written
under the Task's resourceVersion, so a report that arrives first wins.

The next attempt must not run beside the lost one. What proves that nothing runs in a pod:
its phase is Succeeded or Failed (a kubelet says so when no container can be running any more,
the cluster's pod garbage collector when the node is gone or was declared out of service), or
the pod object itself is gone, which our finalizer puts off until then. A container alone: its
state in the pod's status is terminated.

One rule rests on time: a pod that was deleted and whose grace has passed by a margin. Where its
node answers, the kubelet has killed everything long ago and merely cannot say so. Where the
node is cut off, it is deleted 300 s after it fell silent (taint-based eviction), and the rule
applies a minute later; its processes may run on until the node comes back, as with any lease.
The controller waits for an unreachable worker until it is deleted.

An exit code in the pod's status is shown to people and kept in ``status.attempts``, no more.
taskctl-init ends with the command's code only after the agent has recorded the outcome or has
refused to; so where the outcome is not on record, the code is one of a command that was
stopped from outside (a 0 of one that handles SIGTERM, for example), or of no command at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from taskctl.api.states import TaskState
from taskctl.clock import format_micro
from taskctl.constants import Reason
from taskctl.policy.failure import Charge, failure_patch
from taskctl.policy.podview import ContainerReport, PodView
from taskctl.policy.retry import MAX_CONTAINER_LOSSES, RetryLater, decide_infra_retry
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
# An unclaimed attempt is looked at after so long, and shown as Scheduled if the kubelet says
# that something is in the way.
SHOW_SCHEDULED_AFTER_S: Final = 2.0
# Without a word from it, that takes longer: a busy node starts ten containers a second, so the
# last of eight full batches waits for 25 s, and writes for them would make it slower still.
SHOW_WAITING_AFTER_S: Final = 30.0
_OOM_EXIT_CODE: Final = 137  # SIGKILL, as a shell counts it


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """Whether a worker's pod has come to its end.

    Attributes:
        over: nothing runs in it any more, as far as can be known.
        why: half a sentence on why, for people.
        look_again_s: seconds until time alone may make it so; None: only events do.
    """

    over: bool
    why: str = ""
    look_again_s: float | None = None


def worker_end(pod: PodView, overdue_s: float) -> WorkerEnd:
    """Decide whether anything may still run in a worker's pod.

    Args:
        pod: the worker.
        overdue_s: seconds since its deletionTimestamp, which is the end of its grace; negative
            before that. Of no account where it is not being deleted.
    """
    if pod.dead:
        return WorkerEnd(True, f"its pod has ended: {pod.problem}")
    if pod.deletion is None:
        return WorkerEnd(False)
    left_s = TERMINATING_GRACE_S - overdue_s
    if left_s > 0:
        return WorkerEnd(False, look_again_s=left_s)
    return WorkerEnd(True, "its pod was deleted and its node is silent")


def infra_patch(
    view: TaskView,
    attempt: int,
    ending: Ending,
    now: datetime,
    *,
    leaf: bool = False,
    exit_code: int | None = None,
) -> StatusPatch:
    """Return the patch for an attempt that was lost by no fault of the task.

    Back in the queue, or Failed/InfrastructureFailures at the cap of :mod:`policy.retry`.

    Args:
        view: the Task.
        attempt: the lost one; it is spent.
        ending: why it was lost.
        now: time of the decision.
        leaf: see :func:`taskctl.policy.status.terminal_patch`.
        exit_code: what the kubelet saw the container end with, if it did.
    """
    infra_failures = view.infra_failures + 1
    decision = decide_infra_retry(infra_failures)
    if isinstance(decision, RetryLater):
        patch = pending_patch(view, attempt, ending)
        patch["nextAttemptTime"] = next_attempt_time(decision, now)
        past = _past(view, attempt, ending.reason, now) | {"exitCode": exit_code}
        patch["attempts"] = with_past_attempt(view, past)
    else:
        final = Ending(Reason.INFRASTRUCTURE, with_sentence(ending.message, decision))
        patch = terminal_patch(view, TaskState.FAILED, final, now, leaf=leaf)
        patch["attempt"] = attempt
    patch["infraFailures"] = infra_failures
    return patch


def container_lost_patch(
    view: TaskView, message: str, report: ContainerReport | None, now: datetime, jitter: float
) -> StatusPatch:
    """Return the patch for a run whose container ended without a word while its worker is well.

    Out of memory is the task's own failure. What else ends a container's first process is not
    known: the node, or the task itself. So such losses are repeated, but not often.

    Args:
        view: the Task, Running.
        message: what is known, as sentences.
        report: how the kubelet saw the container end; None: it did not.
        now: time of the decision.
        jitter: drawn by the caller from [0, 1); spreads a back-off.
    """
    code = None if report is None else report.exit_code
    if report is not None and report.reason == Reason.OOM_KILLED:
        why = f"The task was killed because it ran out of memory. {message}"
        ending = Ending(Reason.OOM_KILLED, why)
        charge = Charge(view.attempt, ending, _OOM_EXIT_CODE, rule_code=_OOM_EXIT_CODE)
        return failure_patch(view, charge, now, jitter)
    past = view.status.get("attempts") or ()
    losses = 1 + sum(entry.get("reason") == Reason.CONTAINER_LOST for entry in past)
    ending = Ending(Reason.CONTAINER_LOST, message)
    if losses < MAX_CONTAINER_LOSSES:
        return infra_patch(view, view.attempt, ending, now, exit_code=code)
    why = (
        f"{message} That has happened {losses} times while the workers were well, so the task is "
        "taken to end its own supervisor (taskctl-init, the container's first process)."
    )
    patch = terminal_patch(view, TaskState.FAILED, Ending(Reason.CONTAINER_LOST, why), now)
    patch["failures"] = view.failures + 1
    return patch


def _past(view: TaskView, attempt: int, reason: Reason, now: datetime) -> dict[str, object]:
    claimed = view.attempt == attempt
    return {
        "attempt": attempt,
        "podName": view.pod_name if claimed and view.pod_name else None,
        "containerName": (view.parked_container or None) if claimed else None,
        "reason": reason.value,
        "started": (view.status.get("times") or {}).get("started") if claimed else None,
        "exited": format_micro(now),
    }


def container_words(report: ContainerReport | None) -> str:
    """Return a sentence on how the kubelet saw a container end; empty: it did not."""
    words = "" if report is None else report.words
    return f"The kubelet says of its container: {words}." if words else ""


def suspended_patch(view: TaskView, attempt: int) -> StatusPatch:
    """Return the patch that takes a placed, unclaimed attempt back because of ``spec.suspend``.

    The attempt is spent, so that its container finds itself superseded, but not charged.
    """
    message = "spec.suspend is true; set it to false to let the task run."
    return pending_patch(view, attempt, Ending(Reason.SUSPENDED, message))
