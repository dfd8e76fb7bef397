"""Is a Task ready to be placed? If not: what does it wait for, or why can it never run?

A dependency counts by its own state, not by its tree's: a child may run after its own
root's process has ended, and would wait for ever for a tree that it belongs to itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from taskctl.api.states import TaskState, When
from taskctl.constants import Reason
from taskctl.policy.status import FINE, Ending
from taskctl.policy.view import TaskView

_NAMES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Dependency:
    """One name of ``spec.runAfter.tasks``.

    Attributes:
        name: the Task's name.
        state: its state; None where no such Task exists (yet).
    """

    name: str
    state: TaskState | None


@dataclass(frozen=True, slots=True)
class Source:
    """The Task whose output is another Task's input.

    Attributes:
        name: the Task's name.
        state: its state.
        output_object: ``status.outputObject``, or empty.
    """

    name: str
    state: TaskState
    output_object: str = ""


@dataclass(frozen=True, slots=True)
class ReadinessFacts:
    """What the answer depends on beyond the Task itself.

    Attributes:
        worker_slots: ``slotsPerWorker`` of its TaskCluster; None: there is no such cluster.
        input_exists: whether ``spec.inputObject`` exists; True where none is named.
        dependencies: the tasks it runs after.
        cycle: names of a cycle in ``runAfter`` that it belongs to, itself first; or empty.
        cancelled_with: the Task above it that was cancelled with all its descendants; or empty.
        backoff_left_s: seconds until its back-off ends; 0: there is none, or it has ended.
        source: the Task whose output ``spec.inputObject`` is, or will be; None: it is of none.
    """

    worker_slots: int | None
    input_exists: bool = True
    dependencies: tuple[Dependency, ...] = ()
    cycle: tuple[str, ...] = ()
    cancelled_with: str = ""
    backoff_left_s: float = 0.0
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """Place it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now.

    Attributes:
        reason: machine-readable.
        message: for people.
        left_s: look again after so many seconds; None: an event will tell.
    """

    reason: Reason
    message: str
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """It cannot run any more: end it like this."""

    state: TaskState
    ending: Ending


def decide_readiness(view: TaskView, facts: ReadinessFacts) -> Ready | Wait | Never:
    """Decide on a Task that is Pending or Scheduled and not placed."""
    if view.cancel:
        return Never(
            TaskState.CANCELLED,
            Ending(Reason.CANCELLED, "The task was cancelled before it was started."),
        )
    if facts.cancelled_with:
        return Never(TaskState.CANCELLED, Ending(Reason.CANCELLED, _with_tree(facts)))
    if facts.cycle:
        return Never(TaskState.FAILED, Ending(Reason.DEPENDENCY_CYCLE, cycle_message(facts.cycle)))
    if view.suspend:
        return Wait(Reason.SUSPENDED, "spec.suspend is true; set it to false to let the task run.")
    blocked = _dependencies(view, facts.dependencies)
    if blocked is not None:
        return blocked
    if facts.worker_slots is None:
        return Wait(
            Reason.CLUSTER_NOT_FOUND,
            f"There is no TaskCluster {view.cluster!r} in namespace {view.namespace!r}.",
        )
    if view.slots > facts.worker_slots:
        return Wait(
            Reason.SLOTS_EXCEED_WORKER,
            f"The task takes {view.slots} slots; workers of TaskCluster {view.cluster!r} have "
            f"{facts.worker_slots} (spec.slotsPerWorker).",
        )
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
    shown = cycle if len(cycle) <= _NAMES_SHOWN else (*cycle[: _NAMES_SHOWN - 1], "…")
    path = " → ".join((*shown, cycle[0]))
    return f"runAfter has a cycle of {len(cycle)} tasks that wait for each other ({path}); {remedy}"


def _source(view: TaskView, source: Source | None) -> Wait | Never | None:
    """Decide on an input that is a Task's output: only that of its last attempt counts.

    It is known when the Task is over. Before, what is there may be of an attempt that fails.
    """
    if source is None:
        return None
    about = f"The input {view.input_object!r} is the output of Task {source.name!r}"
    if source.name == view.name:
        return _never(f"{about}, which is this Task itself.")
    if not source.state.terminal:
        return Wait(Reason.WAITING_FOR_TASKS, f"{about}, which is {source.state}.")
    if source.state is TaskState.SKIPPED:
        return _skipped(f"{about}, which was skipped.")
    if source.state is not TaskState.SUCCEEDED:
        return _never(f"{about}, which is {source.state}.")
    if source.output_object != view.input_object:
        return _never(f"{about}, which has succeeded without one.")
    return None


def _dependencies(view: TaskView, dependencies: Iterable[Dependency]) -> Wait | Never | None:
    when = view.spec.get("when") or When.SUCCESS
    open_names, bad, good, skipped = [], [], 0, []
    for dependency in dependencies:
        if dependency.state is None or not dependency.state.terminal:
            open_names.append(dependency.name)
        elif dependency.state is TaskState.SUCCEEDED:
            good += 1
        elif dependency.state is TaskState.SKIPPED:
            skipped.append(dependency.name)
        else:
            bad.append(f"{dependency.name} is {dependency.state}")
    if when == When.SUCCESS and bad:
        return _never(f"when is Success, but {_some(bad)}.")
    if open_names:
        total = len(open_names) + len(bad) + good + len(skipped)
        return Wait(
            Reason.WAITING_FOR_TASKS,
            f"Waits for {len(open_names)} of {total} tasks: {_some(open_names)}.",
        )
    if when == When.SUCCESS and skipped:
        # Only now, so that the outcome does not hang on who ended first: a failure counts more.
        return _skipped(f"when is Success, but {_some(skipped)} was skipped.")
    if when == When.FAILURE and not bad and (good or skipped):
        return _skipped("when is Failure, but no task in runAfter failed.")
    return None


def _never(message: str) -> Never:
    return Never(TaskState.FAILED, Ending(Reason.DEPENDENCY_FAILED, message))


def _skipped(message: str) -> Never:
    return Never(TaskState.SKIPPED, Ending(Reason.SKIPPED, message))


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def settles(when: str, state: TaskState) -> bool:
    """Whether one dependency's end may settle the question while others are still open.

    True where it makes ``when: Success`` impossible; the caller need not look at the
    waiting Task again before the last dependency ends otherwise.
    """
    return when == When.SUCCESS and state.terminal and state not in FINE
