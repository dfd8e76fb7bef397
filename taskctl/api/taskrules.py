"""What a Task must fulfil, as messages and as the rules of its CRD.

The model in :mod:`taskctl.api.task` checks the same, with the same messages.
"""

from __future__ import annotations

from typing import Any

from taskctl.api import meta
from taskctl.api.inputfrom import GROUP_MESSAGE
from taskctl.api.notify import CHILD_NOTIFY_MESSAGE
from taskctl.api.onexit import CHILD_ON_EXIT_MESSAGE
from taskctl.api.states import TaskState

ONE_CLUSTER_MESSAGE = (
    "set exactly one of clusterName, the name of a TaskCluster, and cluster, the spec of one for "
    "this run alone"
)
CHILD_CLUSTER_MESSAGE = (
    "only a root can have a TaskCluster of its own; give clusterName instead of cluster"
)
ROOT_TASKS_MESSAGE = "tasks and params belong to a root; a child cannot have them"
CHILD_TREE_TIMEOUT_MESSAGE = (
    "treeTimeoutSeconds goes for a whole tree; set it on the root, or timeoutSeconds for one task"
)
TOO_MANY_TASKS_MESSAGE = (
    "limits.descendants is less than the number of tasks; raise it, or remove tasks"
)
PARAMS_MESSAGE = "params are those of tasks; add tasks, or remove params"
UNKNOWN_AFTER_MESSAGE = "runAfter of one of the tasks names no task of this root; correct the name"
AFTER_ITSELF_MESSAGE = (
    "runAfter names the task itself, so that it could never start; remove that name"
)
MEMBER_NAME_MESSAGE = (
    "metadata.name together with the name of one of the tasks is too long for the Task made of it; "
    "choose shorter ones"
)
COMMAND_MESSAGE = (
    "must not be empty: taskctl-init runs the command, so the ENTRYPOINT of the image cannot "
    "be known; set spec.command, for example [python, /app/main.py], or leave it out where the "
    "TaskCluster has spec.taskDefaults.command"
)
IMMUTABLE_MESSAGE = (
    "spec cannot be changed, except for cancel, cancelScope, suspend, "
    "priority and ttlSecondsAfterFinished; delete the Task and create a new one"
)
CANCEL_MESSAGE = (
    "cancel cannot be taken back before the Task has ended; wait for that (taskctl retry takes it "
    "back then)"
)
CANCEL_SCOPE_MESSAGE = (
    "cancelScope cannot be narrowed to Task once the Task is cancelled: its descendants may have "
    "been cancelled already"
)
LINEAGE_MESSAGE = (
    "spec.lineage is written by taskctl and belongs to the child of that name; remove it to "
    "create a Task of your own"
)
MIN_SUCCESS_ALWAYS_MESSAGE = (
    "runAfter.minSuccess has no meaning with when: Always, which runs the Task whatever the "
    "outcome; remove one of them"
)
INPUT_MESSAGE = "set either input or inputObject, not both"
# Leaves room for what is added to a Task's name for its output, "-output-<attempt>".
MAX_TASK_NAME = 240
NAME_MESSAGE = (
    f"metadata.name must have at most {MAX_TASK_NAME} characters, because its output is named "
    "after it; choose a shorter one"
)
MUTABLE = frozenset({"cancel", "cancelScope", "suspend", "priority", "ttlSecondsAfterFinished"})
# A rule cannot name a field without a type, but it can through dyn(), and compare it whole.
UNTYPED = frozenset({"input"})


TASKS_RULES: dict[str, Any] = {
    **meta.map_list("name"),
    **meta.validations(
        meta.cel(
            # All names are collected once: the server estimates what a rule may cost at most.
            "[self.map(t, t.name)].all(names,"
            " self.all(t, !has(t.runAfter) || t.runAfter.all(name, name in names)))",
            UNKNOWN_AFTER_MESSAGE,
        ),
        meta.cel("self.all(t, !has(t.runAfter) || !(t.name in t.runAfter))", AFTER_ITSELF_MESSAGE),
    ),
}
ENDED_STATES = [state.value for state in TaskState if state.terminal]
_CANCELS_TREE = (
    "(has({spec}.cancel) && {spec}.cancel"
    " && (!has({spec}.cancelScope) || {spec}.cancelScope == 'Tree'))"
)


def add_spec_rules(schema: dict[str, Any]) -> None:
    """Add the rules of the whole spec; that of immutability goes over all frozen fields."""
    frozen = [name for name in schema["properties"] if name not in MUTABLE]
    unchanged = " && ".join(meta.unchanged(name, dyn=name in UNTYPED) for name in frozen)
    schema["not"] = {"required": ["input", "inputObject"]}
    schema["x-kubernetes-validations"] = [
        meta.cel(
            "has(self.clusterName) != has(self.cluster)",
            ONE_CLUSTER_MESSAGE,
            field_path=".clusterName",
        ),
        meta.cel(
            "!(has(self.lineage) && has(self.cluster))",
            CHILD_CLUSTER_MESSAGE,
            field_path=".cluster",
        ),
        meta.cel(
            "has(self.tasks) || !has(self.command) || size(self.command) > 0",
            f"command {COMMAND_MESSAGE}",
            field_path=".command",
        ),
        meta.cel(
            "!(has(self.lineage) && has(self.treeTimeoutSeconds))",
            CHILD_TREE_TIMEOUT_MESSAGE,
            field_path=".treeTimeoutSeconds",
        ),
        meta.cel(
            "!(has(self.lineage) && has(self.onExit))", CHILD_ON_EXIT_MESSAGE, field_path=".onExit"
        ),
        meta.cel(
            "!(has(self.lineage) && has(self.notify))", CHILD_NOTIFY_MESSAGE, field_path=".notify"
        ),
        meta.cel(
            "!(has(self.lineage) && (has(self.tasks) || has(self.params)))", ROOT_TASKS_MESSAGE
        ),
        meta.cel(
            "!has(self.tasks) || !has(self.limits) || !has(self.limits.descendants)"
            " || size(self.tasks) <= self.limits.descendants",
            TOO_MANY_TASKS_MESSAGE,
            field_path=".limits.descendants",
        ),
        meta.cel("!has(self.params) || has(self.tasks)", PARAMS_MESSAGE, field_path=".params"),
        meta.cel(
            f"!{_CANCELS_TREE.format(spec='oldSelf')} || !(has(self.cancel) && self.cancel)"
            f" || {_CANCELS_TREE.format(spec='self')}",
            CANCEL_SCOPE_MESSAGE,
            field_path=".cancelScope",
        ),
        meta.cel(
            "!has(self.runAfter) || !has(self.runAfter.minSuccess) || self.when != 'Always'",
            MIN_SUCCESS_ALWAYS_MESSAGE,
            field_path=".runAfter",
        ),
        meta.cel(
            "!has(self.inputFrom) || self.inputFrom.all(source, !has(source.group) ||"
            " (has(self.runAfter) && has(self.runAfter.group)"
            " && self.runAfter.group == source.group))",
            GROUP_MESSAGE,
            field_path=".inputFrom",
        ),
        # Rules of the spec are evaluated at each write of the status too, and a look at a field
        # by CEL costs as much as the spec has fields: a quarter of the write in all.
        meta.cel(f"self == oldSelf || ({unchanged})", IMMUTABLE_MESSAGE),
    ]
