"""What an exit means: success, failure, another attempt, or nothing at all."""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskctl.api.states import TaskState
from taskctl.clock import format_micro
from taskctl.constants import Reason
from taskctl.policy.failure import Charge, failure_patch
from taskctl.policy.lost import infra_patch
from taskctl.policy.retry import rule_exit_code
from taskctl.policy.status import Ending, StatusPatch, terminal_patch, with_generation
from taskctl.policy.treetimeout import cancelled_end
from taskctl.policy.view import TaskView, parse_task

# taskctl-init says Signalled for a stop that came from outside (its pod is going away).
_INFRASTRUCTURE: Final[Mapping[str, Reason]] = {
    Reason.SIGNALLED: Reason.WORKER_LOST,
    Reason.WORKER_LOST: Reason.WORKER_LOST,
    Reason.CONTAINER_LOST: Reason.CONTAINER_LOST,
}
_USER_REASONS: Final[Mapping[str, Reason]] = {
    Reason.TIMEOUT: Reason.TIMEOUT,
    Reason.MEMORY_LIMIT: Reason.MEMORY_LIMIT,
    Reason.COMMAND_NOT_FOUND: Reason.COMMAND_NOT_FOUND,
    Reason.START_ERROR: Reason.START_ERROR,
    Reason.OUTPUT_REJECTED: Reason.OUTPUT_REJECTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitReport:
    """The end of an attempt, as taskctl-init or the agent reports it.

    Attributes:
        attempt: its number.
        code: exit code; 0 where a signal ended the command.
        signal: number of the signal that ended the command; 0 if none.
        reason: empty, or Timeout, MemoryLimitExceeded, Cancelled, CommandNotFound, StartError,
            OutputRejected, or an end the task is not charged for: Signalled (a stop from outside),
            ContainerLost, WorkerLost.
        message: detail for people, or empty.
        started: when the command was started; None if it never was.
        exited: when it ended; None if unknown.
        user_s: CPU seconds in user mode.
        system_s: CPU seconds in the kernel.
        max_rss_bytes: largest resident set.
        tail: end of the log.
        output_object: name of the TaskObject with the output, or None.
        output: a small output itself, a JSON value; None: there is none.
        spawned: whether this Task may have children. False promises that no attempt of it
            ever spawned any, so a root's tree is complete with it, which saves the tree
            controller a write; leave it True where that is not known.
    """

    attempt: int
    code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started: datetime | None = None
    exited: datetime | None = None
    user_s: float = 0.0
    system_s: float = 0.0
    max_rss_bytes: int = 0
    tail: bytes = b""
    output_object: str | None = None
    output: Any = None
    spawned: bool = True


@dataclass(frozen=True, slots=True)
class StatusChange:
    """Write this under the Task's resourceVersion; on a conflict read and decide again.

    Attributes:
        status_patch: the value of ``status`` in a merge patch.
    """

    status_patch: StatusPatch


@dataclass(frozen=True, slots=True)
class Superseded:
    """The Task does not say that this attempt runs in this container: drop the report.

    Attributes:
        reason: one sentence, for the log.
    """

    reason: str


def decide_after_exit(
    task: Mapping[str, Any], container: str, report: ExitReport, now: datetime, jitter: float
) -> StatusChange | Superseded:
    """Decide what an exit makes of the Task.

    Args:
        task: the raw Task as just read.
        container: name of the ephemeral container that reports.
        report: how the attempt ended.
        now: becomes ``times.observed`` and the base of a back-off.
        jitter: drawn by the caller from [0, 1); spreads the back-off.
    """
    view = parse_task(task)
    if (
        view.state is not TaskState.RUNNING
        or view.attempt != report.attempt
        or view.container != container
    ):
        return Superseded(
            f"task {view.name} is {view.state}, attempt {view.attempt} in "
            f"{view.container or 'no container'}; this was attempt {report.attempt} in {container}"
        )
    patch = with_generation(view, _decide(view, report, now, jitter))
    return StatusChange(_with_facts(patch or {}, report, now))


def _decide(view: TaskView, report: ExitReport, now: datetime, jitter: float) -> StatusPatch:
    leaf = _is_leaf(view, report)
    if report.reason in _INFRASTRUCTURE and not (view.cancel or view.deleting):
        ending = Ending(_INFRASTRUCTURE[report.reason], _sentence(view, report))
        return infra_patch(view, view.attempt, ending, now, leaf=leaf)
    if report.reason == "" and report.code == 0 and report.signal == 0:
        ending = Ending(Reason.COMPLETED, "")
        return terminal_patch(view, TaskState.SUCCEEDED, ending, now, leaf=leaf)
    if report.reason == Reason.CANCELLED or view.cancel or view.deleting:
        state, ending = cancelled_end(view, "The task was cancelled while it ran.")
        return terminal_patch(view, state, ending, now, leaf=leaf)
    return _decide_failure(view, report, now, jitter)


def _is_leaf(view: TaskView, report: ExitReport) -> bool:
    """Whether the Task is all of its tree, and its end that of the tree."""
    return not report.spawned and not view.tree_timed_out


def _decide_failure(
    view: TaskView, report: ExitReport, now: datetime, jitter: float
) -> StatusPatch:
    charge = Charge(
        attempt=view.attempt,
        ending=Ending(_failure_reason(report), _sentence(view, report)),
        exit_code=_exit_code(report),
        rule_code=None if report.reason == Reason.TIMEOUT else _exit_code(report),
        started=None if report.started is None else format_micro(report.started),
        exited=report.exited,
        tail=report.tail,
        leaf=_is_leaf(view, report),
    )
    return failure_patch(view, charge, now, jitter)


def _with_facts(patch: StatusPatch, report: ExitReport, now: datetime) -> StatusPatch:
    """Add what was measured, whatever was decided."""
    times: dict[str, Any] = patch.setdefault("times", {})
    times["observed"] = format_micro(now)
    times["exited"] = format_micro(report.exited or now)
    if report.started is not None:
        times["userCode"] = format_micro(report.started)
    patch["signal"] = report.signal or None
    if report.reason in (Reason.CONTAINER_LOST, Reason.WORKER_LOST):
        patch["exitCode"] = None  # it is not known; 0 would read as a success
    else:
        patch["exitCode"] = _exit_code(report)
        patch["usage"] = {
            "userSeconds": round(report.user_s, 6),
            "systemSeconds": round(report.system_s, 6),
            "maxRssBytes": report.max_rss_bytes,
        }
    if report.output_object is not None:
        patch["outputObject"] = report.output_object
    if report.output is not None:
        patch["output"] = report.output
    return patch


def _exit_code(report: ExitReport) -> int:
    return rule_exit_code(report.code, report.signal)


def _failure_reason(report: ExitReport) -> Reason:
    if report.reason in _USER_REASONS:
        return _USER_REASONS[report.reason]
    return Reason.SIGNALLED if report.signal else Reason.NON_ZERO_EXIT


def _sentence(view: TaskView, report: ExitReport) -> str:
    sentence = _bare_sentence(view, report)
    return f"{sentence} {report.message}" if report.message else sentence


def _bare_sentence(view: TaskView, report: ExitReport) -> str:
    command = (view.spec.get("command") or ["?"])[0]
    match report.reason:
        case Reason.TIMEOUT:
            limit_s = view.spec.get("timeoutSeconds")
            return f"The command ran longer than timeoutSeconds={limit_s} and was stopped."
        case Reason.MEMORY_LIMIT:
            limit = ((view.spec.get("resources") or {}).get("limits") or {}).get("memory")
            return f"The task's processes held more than resources.limits.memory={limit}."
        case Reason.COMMAND_NOT_FOUND:
            return f"The command {command!r} was not found in the image."
        case Reason.START_ERROR:
            return f"The command {command!r} could not be started."
        case Reason.OUTPUT_REJECTED:
            return "The task's output could not be recorded."
        case Reason.SIGNALLED:
            return f"The container on worker {view.pod_name} was stopped from outside."
        case Reason.WORKER_LOST:
            return f"Worker {view.pod_name} was lost while the task ran there."
        case Reason.CONTAINER_LOST:
            return f"The container on worker {view.pod_name} ended without a report."
    if report.signal:
        return f"The command was ended by {_signal_name(report.signal)}."
    return f"The command exited with code {report.code}."


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signals.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
