"""The task in ``spec.onExit`` of a root: when it is owed, what it is told, what became of it.

It is a root of its own, owned by the first one, whose name follows from that root's UID and the
number of the run. So a controller that is killed between creating it and noting it
(``status.tree.exit``) finds it again; and once it is noted, it is never made a second time, even
if a user deletes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskctl.api.conditions import cap_message, find_condition
from taskctl.api.graphcheck import FILLED, fill, params_of
from taskctl.api.states import ConditionStatus, ConditionType, TaskState
from taskctl.clock import format_micro
from taskctl.constants import API_VERSION, LABEL_EXIT_OF, Reason
from taskctl.policy.graph import environment
from taskctl.policy.lineage import exit_name, owner_reference
from taskctl.policy.status import Ending, StatusPatch, completion_time, is_complete
from taskctl.policy.view import TaskView, lineage_of, parse_task, time_or_none

# What the exit task takes from its root where it does not say it itself.
_FROM_ROOT: Final = (
    "image",
    "workingDir",
    "timeoutSeconds",
    "startDeadlineSeconds",
    "priority",
    "slots",
    "readOnlyWorkspace",
)
_TOLD: Final = ("ROOT", "RUN", "STATE", "REASON", "MESSAGE")


@dataclass(frozen=True, slots=True)
class ExitNote:
    """What the root should say of its exit task.

    Attributes:
        patch: status patch.
    """

    patch: StatusPatch


@dataclass(frozen=True, slots=True)
class ExitMissing:
    """It is not there.

    Attributes:
        manifest: what to create; None: it was noted before, so a user has deleted it.
    """

    manifest: dict[str, Any] | None


def exit_run(root: TaskView) -> int:
    """Return the number of the tree's run, whose exit task is meant."""
    return int(_tree(root).get("run") or 1)


def exit_task_name(root: TaskView) -> str:
    """Return the name of the exit task of the tree's present run."""
    return exit_name(root, exit_run(root))


def wants_exit(root: TaskView) -> bool:
    """Whether a tree is over, and has an exit task."""
    return root.is_root and bool(root.spec.get("onExit")) and is_complete(root)


def is_exit_of(task: Mapping[str, Any], root: TaskView) -> bool:
    """Whether a raw Task is an exit task of a root: none that grew in a tree can pass for one."""
    owners = task["metadata"].get("ownerReferences") or ()
    return lineage_of(task) is None and any(owner.get("uid") == root.uid for owner in owners)


def decide_exit(
    root: TaskView, found: Mapping[str, Any] | None, now: datetime
) -> ExitNote | ExitMissing | None:
    """Decide the next step for the exit task of a tree that is over; None: there is none.

    Args:
        root: the root; :func:`wants_exit`.
        found: the raw Task of :func:`exit_task_name`, or None.
        now: becomes the time of its end.
    """
    noted = _noted(root)
    if found is None:
        if noted is None:
            return ExitMissing(exit_manifest(root))
        return None if noted.get("finished") else ExitMissing(None)
    if not is_exit_of(found, root):
        if noted is not None and noted.get("finished"):
            return None
        name = exit_task_name(root)
        return exit_refused(
            root,
            Ending(
                Reason.NAME_CONFLICT,
                f"A Task named {name} exists and is not the exit task of {root.name}; delete it "
                f"and run the tree again (taskctl retry {root.name}).",
            ),
            now,
        )
    view = parse_task(found)
    over = is_complete(view)
    state, ending = tree_outcome(view)
    patch: StatusPatch = {
        "run": exit_run(root),
        "task": view.name,
        "state": (state if over else view.state).value,
        "reason": ending.reason if over else None,
        "message": (ending.message or None) if over else None,
    }
    same = noted is not None and all(noted.get(key) == value for key, value in patch.items())
    if same and bool((noted or {}).get("finished")) == over:
        return None
    ended = completion_time(view.status) or now
    return _note(patch | {"finished": format_micro(ended) if over else None})


def exit_refused(root: TaskView, why: Ending, now: datetime) -> ExitNote:
    """Return the note that the exit task cannot be created, or is gone."""
    return _note(
        {
            "run": exit_run(root),
            "task": exit_task_name(root),
            "state": TaskState.FAILED.value,
            "reason": why.reason.value,
            "message": cap_message(why.message),
            "finished": format_micro(now),
        }
    )


def exit_deleted(root: TaskView, now: datetime) -> ExitNote:
    """Return the note that the exit task was deleted before it had ended."""
    ending = Ending(Reason.EXIT_TASK_DELETED, "It was deleted before it had ended.")
    return exit_refused(root, ending, now)


def settled_time(root: TaskView) -> datetime | None:
    """Return when a tree and its exit task had ended; None: they have not."""
    completed = completion_time(root.status)
    if completed is None or not root.is_root or not root.spec.get("onExit"):
        return completed
    finished = time_or_none((_noted(root) or {}).get("finished"))
    return None if finished is None else max(completed, finished)


def is_settled(root: TaskView) -> bool:
    """Whether a tree is complete, and its exit task, if it has one, has ended."""
    return is_complete(root) and (
        not root.spec.get("onExit") or bool((_noted(root) or {}).get("finished"))
    )


@dataclass(frozen=True, slots=True)
class TreeOutcome:
    """How a tree has ended.

    Attributes:
        reason: machine-readable, a word of :class:`Reason`.
        message: for people, or empty.
    """

    reason: str
    message: str


def tree_outcome(root: TaskView) -> tuple[TaskState, TreeOutcome]:
    """Return how a tree has ended that is complete: Succeeded, Failed or Cancelled, and why."""
    verdict = find_condition(root.status.get("conditions"), ConditionType.SUCCEEDED) or {}
    outcome = TreeOutcome(
        str(verdict.get("reason") or root.status.get("reason") or ""),
        str(verdict.get("message") or root.status.get("message") or "").strip(),
    )
    if verdict.get("status") == ConditionStatus.TRUE:
        return TaskState.SUCCEEDED, outcome
    cancelled = root.state is TaskState.CANCELLED
    return TaskState.CANCELLED if cancelled else TaskState.FAILED, outcome


def outcome_json(root: TaskView) -> dict[str, Any]:
    """Return the outcome of a tree that is complete, as the exit task's input has it."""
    state, outcome = tree_outcome(root)
    completed = completion_time(root.status)
    value: dict[str, Any] = {
        "root": root.name,
        "namespace": root.namespace,
        "uid": root.uid,
        "run": exit_run(root),
        "state": state.value,
        "reason": outcome.reason,
        "message": outcome.message,
        "descendants": dict(root.status.get("descendants") or {"total": 0}),
        "created": root.created,
        "completed": None if completed is None else format_micro(completed),
    }
    for field in ("output", "outputObject"):
        if root.status.get(field) is not None:
            value[field] = root.status[field]
    return value


def exit_manifest(root: TaskView) -> dict[str, Any]:
    """Return the exit task to create for a tree that is complete."""
    template, own = root.spec["onExit"], root.own_spec
    spec: dict[str, Any] = {"clusterName": root.cluster}
    spec |= {field: own[field] for field in _FROM_ROOT if own.get(field) is not None}
    spec |= {field: value for field, value in template.items() if value is not None}
    params = params_of(own)
    spec["env"] = environment(own.get("env"), template.get("env"), params)
    if root.is_graph:
        spec = {
            field: fill(value, params) if field in FILLED else value
            for field, value in spec.items()
        }
    outcome = outcome_json(root)
    told = {f"TREE_{word}": str(outcome[word.lower()]).replace("\0", "") for word in _TOLD}
    spec["env"] = [
        *(entry for entry in spec["env"] if entry["name"] not in told),
        *({"name": name, "value": value} for name, value in told.items()),
    ]
    spec["input"] = {"outcome": outcome}
    # It stays as long as the root; a time to live of the TaskCluster's defaults must not count.
    spec["ttlSecondsAfterFinished"] = {}
    if "limits" in root.spec:
        spec["limits"] = root.spec["limits"]
    metadata = {
        "name": exit_task_name(root),
        "namespace": root.namespace,
        "labels": {LABEL_EXIT_OF: root.uid},
        "ownerReferences": [owner_reference(root.name, root.uid)],
    }
    return {"apiVersion": API_VERSION, "kind": "Task", "metadata": metadata, "spec": spec}


def _note(entry: dict[str, Any]) -> ExitNote:
    return ExitNote({"tree": {"exit": entry}})


def _tree(root: TaskView) -> Mapping[str, Any]:
    return root.status.get("tree") or {}


def _noted(root: TaskView) -> Mapping[str, Any] | None:
    """Return what the root says of the exit task of its present run."""
    noted: Mapping[str, Any] | None = _tree(root).get("exit")
    return noted if noted and noted.get("run") == exit_run(root) else None
