"""From a root with tasks (``spec.tasks``) to the Tasks to create; from their ends to its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.graphcheck import FILLED, awaited, complaint, fill, params_of
from taskctl.api.states import TaskState
from taskctl.constants import API_VERSION, LABEL_GROUP, Reason
from taskctl.policy.limits import graph_refusal
from taskctl.policy.lineage import child_lineage, child_metadata
from taskctl.policy.status import Ending
from taskctl.policy.taskdefaults import NULLABLE
from taskctl.policy.treetimeout import timed_out_end
from taskctl.policy.view import TaskView

# What a task takes from its root where it does not say it itself.
_DEFAULTS: Final = (
    "image",
    "workingDir",
    "timeoutSeconds",
    "startDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "retry",
    "priority",
    "slots",
    "resources",
    "readOnlyWorkspace",
    "limits",
)
# Fields that belong together: who gives one of them takes none of the root's.
_UNITS: Final = (("command", "args"), ("input", "inputObject", "inputFrom"))
_OWN: Final = (
    "name",
    "runAfter",
    "runAfterGroup",
    "count",
    "subtree",
    "minSuccess",
    "env",
    "input",
    "inputFrom",
)
_NAMES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class BadGraph:
    """The root can never run.

    Attributes:
        message: what is wrong, with the field's path.
    """

    message: str


def member_name(root_name: str, name: str) -> str:
    """Return the name of the Task for one of a root's tasks."""
    return f"{root_name}-{name}"


def template_names(root: TaskView) -> tuple[str, ...]:
    """Return the names of a root's tasks."""
    return tuple(str(task["name"]) for task in root.spec.get("tasks") or ())


def plan_graph(root: TaskView) -> list[dict[str, Any]] | BadGraph:
    """Return the manifests of a root's tasks, in the order in which they stand.

    They take the defaults of the TaskCluster for themselves, when they are placed.
    """
    wrong = complaint(root.own_spec)
    if wrong is not None:
        return BadGraph(f"spec.{wrong}.")
    over = graph_refusal(root)
    if over is not None:
        return BadGraph(over)
    params = params_of(root.spec)
    own = root.own_spec
    defaults = {field: own[field] for field in _DEFAULTS if field in own}
    defaults["clusterName"] = root.cluster
    if "limits" in root.spec:  # those of a tree are the same for all of it
        defaults["limits"] = root.spec["limits"]
    return [_member(root, template, defaults, params) for template in root.spec["tasks"]]


def _member(
    root: TaskView,
    template: Mapping[str, Any],
    defaults: Mapping[str, Any],
    params: Mapping[str, str],
) -> dict[str, Any]:
    key = template["name"]
    name = member_name(root.name, key)
    spec = dict(defaults)
    for unit in _UNITS:
        giver = template if any(field in template for field in unit) else root.own_spec
        spec |= {field: giver[field] for field in unit if field in giver}
    spec |= {
        field: value
        for field, value in template.items()
        if field not in _OWN and (value is not None or field in NULLABLE)
    }
    if template.get("inputFrom"):
        spec["inputFrom"] = [_source(root, source) for source in template["inputFrom"]]
    spec["env"] = environment(root.own_spec.get("env"), template.get("env"), params)
    spec = {
        field: fill(value, params) if field in FILLED else value for field, value in spec.items()
    }
    if not spec["env"]:
        del spec["env"]
    after = _run_after(root, template)
    if after:
        spec["runAfter"] = after
    spec["lineage"] = child_lineage(root, name, key)
    metadata = child_metadata(root, name, key, depth=root.depth + 1)
    if spec.get("group"):
        metadata["labels"][LABEL_GROUP] = spec["group"]
    return {"apiVersion": API_VERSION, "kind": "Task", "metadata": metadata, "spec": spec}


def environment(
    roots: Iterable[Mapping[str, Any]] | None,
    own: Iterable[Mapping[str, Any]] | None,
    params: Mapping[str, str],
) -> list[Mapping[str, Any]]:
    """Return the variables: the parameters, over them the root's, over them the task's own."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, value in params.items():
        found[name] = {"name": name, "value": value}
    for entry in (*(roots or ()), *(own or ())):
        found[entry["name"]] = entry
    return list(found.values())


def _source(root: TaskView, source: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of ``inputFrom`` with the names of Tasks."""
    made = {field: value for field, value in source.items() if value is not None}
    if "task" in made:
        made["task"] = member_name(root.name, made["task"])
    if "tasks" in made:
        made["tasks"] = [member_name(root.name, name) for name in made["tasks"]]
    return made


def _run_after(root: TaskView, template: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``runAfter`` of a task: those whose results it takes are named, too."""
    names = awaited(template)
    after: dict[str, Any] = {}
    if names:
        after["tasks"] = [member_name(root.name, name) for name in names]
    if template.get("runAfterGroup"):
        after["group"] = template["runAfterGroup"]
    if not after:
        return {}
    for field in ("count", "subtree", "minSuccess"):
        if template.get(field) is not None:
            after[field] = template[field]
    return after


@dataclass(frozen=True, slots=True)
class GraphEnd:
    """How a root with tasks ends, once all of its tree has.

    Attributes:
        state: Succeeded, Failed or Cancelled.
        ending: reason and message.
    """

    state: TaskState
    ending: Ending


def decide_graph_end(
    root: TaskView, total: int, failed: int, cancelled: int, culprits: Iterable[str]
) -> GraphEnd:
    """Decide how a root with tasks ends when its tree is quiet.

    Args:
        root: the root.
        total: its descendants.
        failed: those that failed.
        cancelled: those that were cancelled, but for what their tree stopped itself.
        culprits: names of its own tasks that did not succeed.
    """
    if root.tree_timed_out:
        what = f"Of {total} descendants, {failed} failed and {cancelled} were stopped."
        return GraphEnd(*timed_out_end(root, what))
    if root.cancel:
        ending = Ending(Reason.CANCELLED, "The tree was cancelled.")
        return GraphEnd(TaskState.CANCELLED, ending)
    if not failed and not cancelled:
        return GraphEnd(TaskState.SUCCEEDED, Ending(Reason.COMPLETED, ""))
    names = list(culprits)
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
    message = f"Of {total} descendants, {failed} failed and {cancelled} were cancelled"
    message += f": {shown}." if shown else "."
    return GraphEnd(TaskState.FAILED, Ending(Reason.TREE_FAILED, message))
