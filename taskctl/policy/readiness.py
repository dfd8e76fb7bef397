"""Is a Task ready to be placed? If not: what does it wait for, or why can it never run?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskctl.api.states import TaskState
from taskctl.constants import Reason
from taskctl.policy.imagerule import is_allowed
from taskctl.policy.resources import OPEN_WORKERS, ClusterResources, misfit
from taskctl.policy.runafter import (
    NAMES_SHOWN,
    NO_GROUP,
    NOTHING,
    Dependency,
    GroupFacts,
    RunAfterRule,
    decide_run_after,
)
from taskctl.policy.status import Ending
from taskctl.policy.taskdefaults import missing_field
from taskctl.policy.treetimeout import cancelled_end, timed_out_end
from taskctl.policy.verdicts import Never, Ready, Wait, never, skipped
from taskctl.policy.view import TaskView


@dataclass(frozen=True, slots=True)
class InputTask:
    """The Task whose output is another Task's input.

    Attributes:
        name: the Task's name.
        state: its state.
        output_object: ``status.outputObject``, or empty.
        has_value: whether its status holds the output itself.
    """

    name: str
    state: TaskState
    output_object: str = ""
    has_value: bool = False


@dataclass(frozen=True, slots=True)
class ReadinessFacts:
    """What the answer depends on beyond the Task itself.

    Attributes:
        worker_slots: ``slotsPerWorker`` of its TaskCluster; None: there is no such cluster.
        no_cluster: why there is none of its own (``spec.cluster``), a sentence; empty: not known.
        allowed_images: its ``spec.allowedImages``; None: it allows all.
        resources: CPU and memory of its workers.
        input_exists: whether ``spec.inputObject`` exists; True where none is named.
        after: what it says about the tasks it runs after; empty once it has begun.
        dependencies: those that it names.
        group: the members of the group that it runs after.
        cycle: names of a cycle in ``runAfter`` that it belongs to, itself first; or empty.
        cancelled_with: the Task above it that was cancelled with all its descendants; or empty.
        stopped_with: the task that cancelled that one, since it needs it no more; or empty.
        timed_out: the tree has run out of time (``treeTimeoutSeconds`` of its root).
        suspended_with: the root above it that is suspended; or empty.
        backoff_left_s: seconds until its back-off ends; 0: there is none, or it has ended.
        source: the Task whose output ``spec.inputObject`` is, or will be; None: it is of none.
    """

    worker_slots: int | None
    no_cluster: str = ""
    allowed_images: Sequence[str] | None = None
    resources: ClusterResources = OPEN_WORKERS
    input_exists: bool = True
    after: RunAfterRule = NOTHING
    dependencies: tuple[Dependency, ...] = ()
    group: GroupFacts = NO_GROUP
    cycle: tuple[str, ...] = ()
    cancelled_with: str = ""
    stopped_with: str = ""
    timed_out: bool = False
    suspended_with: str = ""
    backoff_left_s: float = 0.0
    source: InputTask | None = None


def decide_readiness(view: TaskView, facts: ReadinessFacts) -> Ready | Wait | Never:
    """Decide on a Task that is Pending or Scheduled and not placed."""
    over = _over(view, facts)
    if over is not None:
        return over
    if facts.cycle:
        return Never(TaskState.FAILED, Ending(Reason.DEPENDENCY_CYCLE, cycle_message(facts.cycle)))
    if view.suspend:
        return Wait(Reason.SUSPENDED, "spec.suspend is true; set it to false to let the task run.")
    if facts.suspended_with:
        return Wait(
            Reason.SUSPENDED,
            f"The root of the tree, {facts.suspended_with}, is suspended; set its spec.suspend to "
            "false to let the tree run.",
        )
    blocked = decide_run_after(facts.after, facts.dependencies, facts.group)
    if blocked is not None:
        return blocked
    if facts.worker_slots is None:
        message = f"There is no TaskCluster {view.cluster!r} in namespace {view.namespace!r}."
        return Wait(Reason.CLUSTER_NOT_FOUND, facts.no_cluster or message)
    unfit = unfit_for_cluster(view, facts)
    if unfit is not None:
        return unfit
    unmade = _source(view, facts.source)
    if unmade is not None:
        return unmade
    if not facts.input_exists:
        return Wait(
            Reason.INPUT_NOT_FOUND,
            f"There is no TaskObject {view.input_object!r} in namespace {view.namespace!r}.",
        )
    if facts.backoff_left_s > 0:
        message = "The next attempt waits for its back-off to end."
        return Wait(Reason.BACK_OFF, message, facts.backoff_left_s)
    return Ready()


def _over(view: TaskView, facts: ReadinessFacts) -> Never | None:
    """Decide on a Task that was cancelled, by itself or with others."""
    if facts.timed_out:
        return Never(*timed_out_end(view, "This task had not started."))
    if view.cancel:
        return Never(*cancelled_end(view, "The task was cancelled before it was started."))
    if facts.cancelled_with:
        reason = Reason.STOPPED if facts.stopped_with else Reason.CANCELLED
        return Never(TaskState.CANCELLED, Ending(reason, _with_tree(facts)))
    return None


def unfit_for_cluster(view: TaskView, facts: ReadinessFacts) -> Wait | None:
    """Return why the TaskCluster cannot run the Task as both are now, or None if it can."""
    worker_slots = facts.worker_slots or 0
    missing = missing_field(view.spec)
    if missing:
        return Wait(Reason.SPEC_INCOMPLETE, _incomplete(view, missing))
    image = str(view.spec.get("image") or "")
    if not view.is_graph and not is_allowed(image, facts.allowed_images):
        return Wait(
            Reason.IMAGE_NOT_ALLOWED,
            f"spec.allowedImages of TaskCluster {view.cluster!r} does not name image {image!r}.",
        )
    if view.slots > worker_slots:
        return Wait(
            Reason.SLOTS_EXCEED_WORKER,
            f"The task takes {view.slots} slots; workers of TaskCluster {view.cluster!r} have "
            f"{worker_slots} (spec.slotsPerWorker).",
        )
    too_much = "" if view.is_graph else misfit(view.spec, view.own_spec, facts.resources)
    if too_much:
        return Wait(Reason.RESOURCES_EXCEED_WORKER, too_much)
    return None


def _incomplete(view: TaskView, missing: str) -> str:
    """Say that a field is missing, and where it may come from; the spec cannot be changed."""
    name = missing.rpartition(".")[2]
    root = f", nor has the root (spec.{name})" if "tasks[" in missing else ""
    return (
        f"{missing} is not set{root}, and TaskCluster {view.cluster!r} has no "
        f"spec.taskDefaults.{name}: set that, or create the Task again with {missing}."
    )


def _with_tree(facts: ReadinessFacts) -> str:
    return (
        f"Task {facts.cancelled_with} was cancelled and its descendants with it; this one had not "
        "started."
    )


def cycle_message(cycle: tuple[str, ...]) -> str:
    """Return the sentence that names a cycle of ``runAfter``, the Task itself first."""
    remedy = "create them again without it."
    if len(cycle) == 1:
        return f"The task runs after itself (runAfter names {cycle[0]}): create it again without."
    shown = cycle if len(cycle) <= NAMES_SHOWN else (*cycle[: NAMES_SHOWN - 1], "…")
    path = " → ".join((*shown, cycle[0]))
    return f"runAfter has a cycle: these tasks wait for each other ({path}); {remedy}"


def _source(view: TaskView, source: InputTask | None) -> Wait | Never | None:
    """Decide on an input that is a Task's output: only that of its last attempt counts.

    It is known when the Task is over. Before, what is there may be of an attempt that fails.
    """
    if source is None:
        return None
    about = f"The input {view.input_object!r} is the output of Task {source.name!r}"
    if source.name == view.name:
        return never(f"{about}, which is this Task itself.")
    if not source.state.terminal:
        return Wait(Reason.WAITING_FOR_TASKS, f"{about}, which is {source.state}.")
    if source.state is TaskState.SKIPPED:
        return skipped(f"{about}, which was skipped.")
    if source.state is not TaskState.SUCCEEDED:
        return never(f"{about}, which is {source.state}.")
    if source.output_object != view.input_object and not source.has_value:
        return never(f"{about}, which has succeeded without one.")
    return None
