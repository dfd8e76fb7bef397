"""The fence: may this container run this attempt?

taskctl-init asks the agent, the agent asks this, and writes the answer under
compare-and-swap. Whatever the kubelet starts twice, late or on two workers, one claim wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from taskctl.api.states import TaskState
from taskctl.clock import format_micro
from taskctl.constants import Reason
from taskctl.policy.lineage import runs_of
from taskctl.policy.status import StatusPatch, active_conditions, conditions_on_the_way
from taskctl.policy.view import TaskView, parse_task, time_or_none, with_defaults


@dataclass(frozen=True, slots=True)
class ClaimEntry:
    """The container that asks, as its entry in the pod's spec says.

    Attributes:
        task_uid: UID of the Task it was placed for.
        attempt: number of the attempt, ≥ 1.
        container: name of the ephemeral container.
        pod_name: the agent's own pod.
        pod_uid: UID of that pod.
        placed: when the controller decided, RFC 3339, or empty.
        defaults: what it takes of its TaskCluster's ``spec.taskDefaults``.
    """

    task_uid: str
    attempt: int
    container: str
    pod_name: str
    pod_uid: str
    placed: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claimed:
    """The container may run once this is written under the Task's resourceVersion.

    Attributes:
        status_patch: the value of ``status`` in a merge patch; see
            :func:`taskctl.policy.status.status_body` for the whole body.
    """

    status_patch: StatusPatch


@dataclass(frozen=True, slots=True)
class AlreadyOurs:
    """The Task already says that this container runs this attempt: an answer got lost."""


@dataclass(frozen=True, slots=True)
class ClaimRefused:
    """The container must exit without running anything.

    Attributes:
        reason: one sentence, for the container's log.
    """

    reason: str


def decide_claim(
    task: Mapping[str, Any], entry: ClaimEntry, now: datetime
) -> Claimed | AlreadyOurs | ClaimRefused:
    """Decide whether the container may run its attempt.

    Args:
        task: the raw Task as just read.
        entry: the container that asks.
        now: becomes ``times.started``.
    """
    view = with_defaults(parse_task(task), entry.defaults)
    if view.uid != entry.task_uid:
        return ClaimRefused(f"task {view.name} was deleted and made again since this was placed")
    if is_running_here(view, entry):
        return AlreadyOurs()
    refusal = _refusal(view, entry)
    if refusal:
        return ClaimRefused(refusal)
    return Claimed(_claim_patch(view, entry, now))


def is_running_here(view: TaskView, entry: ClaimEntry) -> bool:
    """Whether the Task says that exactly this container runs exactly this attempt."""
    return (
        view.state is TaskState.RUNNING
        and view.attempt == entry.attempt
        and view.container == entry.container
        and view.pod_uid == entry.pod_uid
    )


def _refusal(view: TaskView, entry: ClaimEntry) -> str:
    if view.deleting:
        return f"task {view.name} is being deleted"
    if view.state not in (TaskState.PENDING, TaskState.SCHEDULED):
        return f"task {view.name} is {view.state}, attempt {view.attempt}"
    if view.attempt != entry.attempt - 1:
        return (
            f"attempt {entry.attempt} of task {view.name} is superseded: "
            f"attempt {view.attempt} was begun or written off"
        )
    if view.cancel:
        return f"task {view.name} is cancelled"
    if view.suspend:
        return f"task {view.name} is suspended"
    return ""


@dataclass(frozen=True, slots=True)
class ClaimBasis:
    """What a claim writes of the Task itself.

    Attributes:
        root: name of the tree's root.
        parent: name of the Task that made it; empty for a root.
        depth: level in the tree.
        runs: what ``status.runs`` says.
        created: when it was created, RFC 3339.
        generation: of the Task.
    """

    root: str
    parent: str
    depth: int
    runs: str
    created: str
    generation: int


def basis_of(view: TaskView) -> ClaimBasis:
    """Return what a claim of the Task writes of it."""
    return ClaimBasis(
        root=view.root_name,
        parent=view.parent_name,
        depth=view.depth,
        runs=runs_of(view),
        created=_micro(view.created) or "",
        generation=view.generation,
    )


def is_fresh(view: TaskView) -> bool:
    """Whether a claim depends on nothing in the Task's status: nothing there has to be replaced."""
    status = view.status
    return not (status.get("conditions") or status.get("defaults"))


def fresh_claim(basis: ClaimBasis, entry: ClaimEntry, now: datetime) -> StatusPatch:
    """Return what claims a Task that was :func:`is_fresh` when the controller placed it.

    It is to be written under the resourceVersion that the controller saw: as long as that
    counts, :func:`decide_claim` would decide the same.

    Args:
        basis: of the Task, as the controller saw it.
        entry: the container that asks.
        now: becomes ``times.started``.
    """
    conditions = conditions_on_the_way(None, basis.generation, Reason.STARTED, now)
    return _patch(basis, entry, dict(entry.defaults) or None, conditions, now)


def _claim_patch(view: TaskView, entry: ClaimEntry, now: datetime) -> StatusPatch:
    conditions = active_conditions(view, Reason.STARTED, now)
    return _patch(basis_of(view), entry, claimed_defaults(view, entry), conditions, now)


def _patch(
    basis: ClaimBasis,
    entry: ClaimEntry,
    defaults: dict[str, Any] | None,
    conditions: list[dict[str, Any]],
    now: datetime,
) -> StatusPatch:
    return {
        "state": TaskState.RUNNING.value,
        "reason": Reason.STARTED.value,
        "message": "",
        "attempt": entry.attempt,
        "podName": entry.pod_name,
        "podUID": entry.pod_uid,
        "containerName": entry.container,
        "root": basis.root or None,
        "parent": basis.parent or None,
        "depth": basis.depth,
        "runs": basis.runs or None,
        "defaults": defaults,
        "times": {
            "created": basis.created or None,
            "placed": entry.placed or None,
            "started": format_micro(now),
            "userCode": None,
            "exited": None,
            "observed": None,
        },
        "exitCode": None,
        "signal": None,
        "nextAttemptTime": None,
        "output": None,
        "outputObject": None,
        "progress": None,
        "usage": None,
        "observedGeneration": basis.generation,
        "conditions": conditions,
    }


def claimed_defaults(view: TaskView, entry: ClaimEntry) -> dict[str, Any] | None:
    """Return ``status.defaults`` as a merge patch: those of an earlier attempt must not stay."""
    wanted = dict(entry.defaults)
    before = view.status.get("defaults") or {}
    patch: dict[str, Any] = {name: None for name in before if name not in wanted}
    patch |= {name: _replacing(before.get(name), value) for name, value in wanted.items()}
    return patch or None


def _replacing(before: Any, value: Any) -> Any:
    """Return a merge patch that leaves nothing of what was there before."""
    if not isinstance(before, Mapping) or not isinstance(value, Mapping):
        return value
    patch: dict[str, Any] = {name: None for name in before if name not in value}
    return patch | {name: _replacing(before.get(name), item) for name, item in value.items()}


def _micro(text: str) -> str | None:
    moment = time_or_none(text)
    return format_micro(moment) if moment is not None else None
