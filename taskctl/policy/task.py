"""One Task's next step, from its status, its placement and its worker: the reconciler's mind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from taskctl.api.conditions import cap_message
from taskctl.api.states import TaskState
from taskctl.constants import Reason
from taskctl.policy.lineage import runs_of
from taskctl.policy.lost import (
    CONTAINER_LOST_AFTER_S,
    SHOW_SCHEDULED_AFTER_S,
    SHOW_WAITING_AFTER_S,
    container_lost_patch,
    container_words,
    infra_patch,
    suspended_patch,
)
from taskctl.policy.podview import ContainerReport
from taskctl.policy.readiness import ReadinessFacts, decide_readiness
from taskctl.policy.status import Ending, StatusPatch, terminal_patch, with_generation
from taskctl.policy.treetimeout import cancelled_end
from taskctl.policy.verdicts import Never, Ready, Wait
from taskctl.policy.view import TaskView

# A reason to wait is written down only when it lasts: most inputs, clusters and
# predecessors that are missing at first are there a moment later.
SHOW_WAIT_AFTER_S: Final = 2.0
# What keeps a ready task from being placed is shown on it after so long: a worker that comes
# up, or an API server that is away for a moment, costs no write.
SHOW_UNPLACED_AFTER_S: Final = 5.0
# Reasons that would be a lie on a Task that is ready and merely queued.
# What is missing may have changed, though not the reason: a task exists by now, for example.
_TELLS_MORE: Final = frozenset(
    {
        Reason.CLUSTER_NOT_FOUND,
        Reason.WAITING_FOR_TASKS,
        Reason.SPEC_INCOMPLETE,
        Reason.IMAGE_NOT_ALLOWED,
        Reason.SLOTS_EXCEED_WORKER,
        Reason.RESOURCES_EXCEED_WORKER,
    }
)
_STALE_WHEN_READY: Final = frozenset(
    {
        Reason.CLUSTER_NOT_FOUND,
        Reason.INPUT_NOT_FOUND,
        Reason.SLOTS_EXCEED_WORKER,
        Reason.RESOURCES_EXCEED_WORKER,
        Reason.SPEC_INCOMPLETE,
        Reason.IMAGE_NOT_ALLOWED,
        Reason.SUSPENDED,
        Reason.WAITING_FOR_TASKS,
        Reason.WAITING_TO_START,
        Reason.NO_READY_WORKER,
        Reason.PLACEMENT_FORBIDDEN,
        Reason.PLACEMENT_FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class ClaimedAttempt:
    """What is known of the worker that a Running Task names.

    Attributes:
        gone: no such pod, or nothing runs in it any more.
        why: half a sentence on why it is gone, for people.
        ended_for_s: seconds since its container was first seen terminated; None: it was not.
        look_again_s: seconds until time alone may change ``gone``; None: only events do.
        ended: how its container was seen to end; None: it was not.
    """

    gone: bool
    why: str = ""
    ended_for_s: float | None = None
    look_again_s: float | None = None
    ended: ContainerReport | None = None


@dataclass(frozen=True, slots=True)
class PlacedAttempt:
    """The next attempt is in a live worker's spec, or on its way there, but not claimed.

    Attributes:
        pod_name: the worker.
        pod_uid: its UID.
        container: name of the ephemeral container.
        waited_s: seconds since it was decided.
        ended_for_s: seconds since the container was first seen terminated; None: it was not.
        waiting: the kubelet's word and sentence on why it does not run yet, or empty.
    """

    pod_name: str
    pod_uid: str
    container: str
    waited_s: float
    ended_for_s: float | None = None
    waiting: str = ""


@dataclass(frozen=True, slots=True)
class HeldFacts:
    """Placing the Task failed, and is tried again later.

    Attributes:
        message: what the API server said, with the remedy where one is known.
        for_s: seconds since the first of these failures.
        forbidden: a policy of the cluster or a missing right is in the way: a person must act.
    """

    message: str
    for_s: float
    forbidden: bool = False


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """Everything beyond the Task itself.

    Attributes:
        readiness: see :class:`ReadinessFacts`.
        worker: of a Running Task.
        placed: of a Task that waits to start; None: it is not placed.
        refused: why the API server will not have its container, now and again; or empty.
        held: failures to place it; None: there were none recently.
        unserved: why its TaskCluster has had no ready worker for a while; or empty.
        age_s: seconds since it was created.
        jitter: drawn from [0, 1); spreads a back-off.
    """

    readiness: ReadinessFacts
    worker: ClaimedAttempt | None = None
    placed: PlacedAttempt | None = None
    refused: str = ""
    held: HeldFacts | None = None
    unserved: str = ""
    age_s: float = float("inf")
    jitter: float = 0.5


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What to do now.

    Attributes:
        patch: status patch to write under the resourceVersion, or None.
        cancel: set ``spec.cancel``, so that its agent stops it.
        queue: the Task belongs in the queue of tasks to place.
        requeue_after_s: look again then; None: an event will tell.
        no_cluster: all that it waits for is its TaskCluster, which does not exist.
    """

    patch: StatusPatch | None = None
    cancel: bool = False
    queue: bool = False
    requeue_after_s: float | None = None
    no_cluster: bool = False


NOTHING: Final = TaskPlan()


def decide_task(view: TaskView, facts: TaskFacts, now: datetime) -> TaskPlan:
    """Return the next step of a Task."""
    plan = _next_step(view, facts, now)
    return replace(plan, patch=with_generation(view, plan.patch))


def _next_step(view: TaskView, facts: TaskFacts, now: datetime) -> TaskPlan:
    if view.deleting or view.state.terminal:
        return NOTHING
    readiness = facts.readiness
    cancelled = view.cancel or bool(readiness.cancelled_with) or readiness.timed_out
    if view.state is TaskState.RUNNING:
        plan = _running(view, facts, now)
        if plan.patch is not None or view.is_graph:  # which runs nothing
            return plan
        return replace(plan, cancel=cancelled != view.cancel)
    if facts.placed is not None and not cancelled:
        return _placed(view, facts, facts.placed, now)
    if facts.refused and not cancelled:
        ending = Ending(Reason.START_ERROR, f"The container was refused: {facts.refused}")
        patch = terminal_patch(view, TaskState.FAILED, ending, now)
        return TaskPlan(patch=patch)
    return _unplaced(view, facts, now)


# --- Running ------------------------------------------------------------------------


def _running(view: TaskView, facts: TaskFacts, now: datetime) -> TaskPlan:
    worker = facts.worker
    if worker is None:
        return NOTHING
    code = None if worker.ended is None else worker.ended.exit_code
    if worker.gone:
        message = _joined(
            f"Worker {view.pod_name} is lost ({worker.why}); the task ran there.",
            container_words(worker.ended),
        )
        return _lost(view, view.attempt, Ending(Reason.WORKER_LOST, message), now, code)
    if worker.ended_for_s is None:
        return TaskPlan(requeue_after_s=worker.look_again_s)
    left_s = CONTAINER_LOST_AFTER_S - worker.ended_for_s
    if left_s > 0:
        return TaskPlan(requeue_after_s=left_s)
    message = _joined(
        f"Container {view.container} on worker {view.pod_name} ended without a report.",
        container_words(worker.ended),
    )
    if view.cancel:
        return _lost(view, view.attempt, Ending(Reason.CONTAINER_LOST, message), now, code)
    return TaskPlan(patch=container_lost_patch(view, message, worker.ended, now, facts.jitter))


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _lost(
    view: TaskView, attempt: int, ending: Ending, now: datetime, exit_code: int | None = None
) -> TaskPlan:
    if view.cancel:
        message = f"{ending.message} It was to be cancelled anyway."
        state, ending = cancelled_end(view, message)
        return TaskPlan(patch=terminal_patch(view, state, ending, now))
    return TaskPlan(patch=infra_patch(view, attempt, ending, now, exit_code=exit_code))


# --- placed, not claimed ------------------------------------------------------------


def _placed(view: TaskView, facts: TaskFacts, placed: PlacedAttempt, now: datetime) -> TaskPlan:
    attempt = view.next_attempt
    if view.suspend or facts.readiness.suspended_with:
        return TaskPlan(patch=suspended_patch(view, attempt))
    if placed.ended_for_s is not None and placed.ended_for_s >= CONTAINER_LOST_AFTER_S:
        message = (
            f"Container {placed.container} on worker {placed.pod_name} ended before it began "
            f"the task{_because(placed.waiting)}."
        )
        return _lost(view, attempt, Ending(Reason.CONTAINER_LOST, message), now)
    waited_s = placed.waited_s
    if waited_s >= view.start_deadline_s:
        return _deadline(view, placed, now)
    next_look_s = view.start_deadline_s - waited_s
    if placed.ended_for_s is not None:
        next_look_s = min(next_look_s, CONTAINER_LOST_AFTER_S - placed.ended_for_s)
    odd = placed.waiting or placed.ended_for_s is not None
    show_after_s = SHOW_SCHEDULED_AFTER_S if odd else SHOW_WAITING_AFTER_S
    if waited_s < show_after_s:
        return TaskPlan(requeue_after_s=min(next_look_s, show_after_s - waited_s))
    return TaskPlan(patch=_scheduled_patch(view, placed), requeue_after_s=next_look_s)


def _because(waiting: str) -> str:
    return f" ({waiting})" if waiting else ""


def _deadline(view: TaskView, placed: PlacedAttempt, now: datetime) -> TaskPlan:
    message = (
        f"The container on worker {placed.pod_name} did not start within "
        f"startDeadlineSeconds={view.start_deadline_s}{_because(placed.waiting)}."
    )
    ending = Ending(Reason.START_DEADLINE, message)
    patch = terminal_patch(view, TaskState.FAILED, ending, now)
    # Written off: whatever the kubelet starts later finds its attempt superseded.
    patch["attempt"] = view.next_attempt
    patch |= _where(placed)
    return TaskPlan(patch=patch)


def _where(placed: PlacedAttempt) -> StatusPatch:
    return {
        "podName": placed.pod_name,
        "podUID": placed.pod_uid,
        "containerName": placed.container,
    }


def _scheduled_patch(view: TaskView, placed: PlacedAttempt) -> StatusPatch | None:
    message = placed.waiting or "The container was handed to the worker."
    shown = (
        view.state is TaskState.SCHEDULED
        and view.pod_uid == placed.pod_uid
        and view.status.get("message") == message
    )
    if shown:
        return None
    return {
        "state": TaskState.SCHEDULED.value,
        "reason": Reason.WAITING_TO_START.value,
        "message": message,
        "observedGeneration": view.generation,
        **_where(placed),
    }


# --- not placed ---------------------------------------------------------------------


def _unplaced(view: TaskView, facts: TaskFacts, now: datetime) -> TaskPlan:
    verdict = decide_readiness(view, facts.readiness)
    match verdict:
        case Never():
            patch = terminal_patch(view, verdict.state, verdict.ending, now)
            if facts.placed is not None:
                patch["attempt"] = view.next_attempt  # its container will find itself superseded
            return TaskPlan(patch=patch)
        case Ready():
            return _ready(view, facts)
        case Wait():
            plan = _wait(view, verdict, facts.age_s)
            return replace(plan, no_cluster=verdict.reason is Reason.CLUSTER_NOT_FOUND)


def _ready(view: TaskView, facts: TaskFacts) -> TaskPlan:
    trouble = _trouble(facts)
    if trouble is not None:
        left_s = SHOW_UNPLACED_AFTER_S - facts.age_s
        if left_s > 0 and not (facts.held is not None and facts.held.forbidden):
            return TaskPlan(queue=True, requeue_after_s=left_s)
        shown = view.state is TaskState.PENDING and (
            (view.status.get("reason"), view.status.get("message"))
            == (trouble.reason, cap_message(trouble.message))
        )
        return TaskPlan(patch=None if shown else _queued_patch(view, trouble), queue=True)
    stale = view.state is TaskState.SCHEDULED or view.status.get("reason") in _STALE_WHEN_READY
    if not stale:
        return TaskPlan(queue=True)
    return TaskPlan(patch=_queued_patch(view, Ending(Reason.QUEUED, "")), queue=True)


def _trouble(facts: TaskFacts) -> Ending | None:
    """What keeps the Task from being placed and should be known; None: nothing does."""
    held = facts.held
    if held is not None and held.forbidden:
        return Ending(Reason.PLACEMENT_FORBIDDEN, held.message)
    if facts.unserved:
        return Ending(Reason.NO_READY_WORKER, facts.unserved)
    if held is not None and held.for_s >= SHOW_UNPLACED_AFTER_S:
        return Ending(Reason.PLACEMENT_FAILED, held.message)
    return None


def _queued_patch(view: TaskView, why: Ending) -> StatusPatch:
    return {
        "state": TaskState.PENDING.value,
        "reason": why.reason.value,
        "message": cap_message(why.message),
        "runs": runs_of(view) or None,
        "observedGeneration": view.generation,
        "podName": None,
        "podUID": None,
        "containerName": None,
    }


def _wait(view: TaskView, wait: Wait, age_s: float) -> TaskPlan:
    look_s = wait.left_s
    unchanged = view.status.get("reason") == wait.reason and view.state is TaskState.PENDING
    if wait.reason in _TELLS_MORE:
        unchanged &= view.status.get("message") == cap_message(wait.message)
    if unchanged or wait.reason is Reason.BACK_OFF:
        return TaskPlan(requeue_after_s=look_s)
    show_s = SHOW_WAIT_AFTER_S - age_s
    if show_s > 0:
        return TaskPlan(requeue_after_s=show_s if look_s is None else min(show_s, look_s))
    patch: StatusPatch = {
        "state": TaskState.PENDING.value,
        "reason": wait.reason.value,
        "message": cap_message(wait.message),
        "runs": runs_of(view) or None,
        "observedGeneration": view.generation,
    }
    return TaskPlan(patch=patch, requeue_after_s=look_s)
