"""From a spawn spec to a Task and its input TaskObject; pure.

The names follow from the parent's UID and the key, so a parent that runs again arrives at the
children it already has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from taskctl.agent import fields, fieldtexts
from taskctl.agent.fields import bad
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.agent.rights import check_workspace_access
from taskctl.agent.values import Content, parse_content
from taskctl.api import meta
from taskctl.api.lineage import MAX_SPAWN_KEY
from taskctl.api.task import TaskSpec
from taskctl.api.taskrules import MAX_TASK_NAME
from taskctl.constants import (
    API_VERSION,
    LABEL_GROUP,
)
from taskctl.policy.lineage import (
    child_lineage,
    child_metadata,
    child_name,
    depth_refusal,
    input_name,
)
from taskctl.policy.taskdefaults import NULLABLE
from taskctl.policy.view import TaskView

MAX_SPAWN: Final = 1000
_DNS_SUBDOMAIN: Final = re.compile(meta.DNS_SUBDOMAIN)

INHERITED: Final = (
    "image",
    "command",
    "args",
    "env",
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
_OF_ROOTS: Final = ("cluster", "tasks", "params", "treeTimeoutSeconds", "onExit", "notify")
_OVERRIDABLE: Final = frozenset(
    field.alias or name for name, field in TaskSpec.model_fields.items()
).difference(("input", "inputObject", "cancel", "cancelScope", "lineage", *_OF_ROOTS))
_SPEC_KEYS: Final = frozenset(
    ("key", "name", "value", "json", "data", "ref", "input_object", "inline", "overrides", "set")
)


@dataclass(frozen=True, slots=True)
class Child:
    """What is to be created.

    Attributes:
        name: of the Task.
        key: the spawn key.
        task: the Task.
        input_name: of the input TaskObject; empty where none is to be created.
        content: what goes into it.
    """

    name: str
    key: str
    task: dict[str, Any]
    input_name: str = ""
    content: Content | None = None


def build_child(
    parent: TaskView, spec: Any, where: str, peers: Container[str] = frozenset()
) -> Child:
    """Return the child that one spawn spec asks for.

    Args:
        parent: who spawns.
        spec: one item of ``tasks``, unchecked.
        where: its path in the request, for example ``tasks[3]``.
        peers: other TaskClusters that the child may name.

    Raises:
        Refusal: ``bad_request``, naming the field; ``limit``: the tree may not grow so deep.
    """
    spec = _checked_map(spec, where)
    dot = f"{where}."
    refusal = depth_refusal(parent)
    if refusal is not None:
        raise Refusal(ErrorCode.LIMIT, f"{where}: {refusal}")
    key = fields.text(spec, "key", max_chars=MAX_SPAWN_KEY, where=dot)
    content = parse_content(spec, where=dot)
    named_input = fields.optional_text(spec, "input_object", max_chars=meta.MAX_NAME, where=dot)
    if content is not None and named_input:
        raise bad(dot + "input_object", "give either a value or the name of an object, not both")

    task_spec = _task_spec(parent, fieldtexts.merged(spec, where), dot, peers)
    name = _named(spec, dot) or child_name(parent, key, _words(task_spec.get("command")))
    if fields.flag(spec, "inline", where=dot) and content is not None and content.is_small:
        task_spec["input"], content = content.body, None
    made_input = input_name(name) if content is not None else ""
    if made_input or named_input:
        task_spec["inputObject"] = made_input or named_input
    metadata = child_metadata(parent, name, key, depth=parent.depth + 1)
    task = {"apiVersion": API_VERSION, "kind": "Task", "metadata": metadata, "spec": task_spec}
    _validate(task_spec, where)
    task_spec["lineage"] = child_lineage(parent, name, key)
    if task_spec.get("group"):
        metadata["labels"][LABEL_GROUP] = task_spec["group"]
    return Child(name=name, key=key, task=task, input_name=made_input, content=content)


def _checked_map(spec: Any, where: str) -> dict[str, Any]:
    checked = fields.mapping(spec, where)
    unknown = sorted(set(checked) - _SPEC_KEYS)
    if unknown:
        raise bad(
            f"{where}.{unknown[0]}",
            f"unknown field; known are {', '.join(sorted(_SPEC_KEYS))} (fields of the Task's spec "
            "go into overrides)",
        )
    return checked


def _words(command: Any) -> list[str]:
    """Return a command that was not checked yet, as far as it consists of words."""
    return [word for word in command if isinstance(word, str)] if isinstance(command, list) else []


def _named(spec: dict[str, Any], dot: str) -> str:
    """Return the name that was asked for, or empty."""
    name = fields.optional_text(spec, "name", max_chars=MAX_TASK_NAME, where=dot)
    if name and not _DNS_SUBDOMAIN.fullmatch(name):
        raise bad(
            dot + "name",
            f"{name!r} is no object name: lower-case letters, digits, '-' and '.', beginning and "
            "ending with a letter or digit",
        )
    return name


def _task_spec(
    parent: TaskView, given: dict[str, Any], dot: str, peers: Container[str]
) -> dict[str, Any]:
    for name in sorted(given):
        if name not in _OVERRIDABLE:
            raise bad(f"{dot}overrides.{name}", _not_overridable(name))
    # The defaults of the TaskCluster are the child's as well, when it is placed.
    own = parent.own_spec
    inherited = {name: own[name] for name in INHERITED if name in own}
    inherited["clusterName"] = parent.cluster
    if "limits" in parent.spec:  # those of a tree are the same for all of it
        inherited["limits"] = parent.spec["limits"]
    if "limits" in given and given["limits"] != parent.spec.get("limits"):
        raise bad(
            f"{dot}overrides.limits", "limits are set on the root and hold for the whole tree"
        )
    _check_cluster(parent, given.get("clusterName"), f"{dot}overrides.clusterName", peers)
    check_workspace_access(parent, given, f"{dot}overrides")
    _check_sources(parent.spec.get("env"), given.get("env"), f"{dot}overrides.env")
    return inherited | {
        name: value for name, value in given.items() if value is not None or name in NULLABLE
    }


def _check_cluster(parent: TaskView, name: Any, where: str, peers: Container[str]) -> None:
    """Refuse a TaskCluster that the parent's one does not list: it may hold other rights."""
    if name is None or name == parent.cluster:
        return
    if not isinstance(name, str):
        raise bad(where, f"must be text, not {fields.kind_of(name)}")
    if name not in peers:
        raise bad(
            where,
            f"TaskCluster {name!r} is no peer of {parent.cluster!r}, in which this task runs; to "
            f"allow its tasks to create children there, add the name to spec.peers of TaskCluster "
            f"{parent.cluster!r}",
        )


def _check_sources(inherited: Any, given: Any, where: str) -> None:
    """Refuse values from Secrets and the like, unless the parent was given the very same.

    Task code has no token; it must not read by way of a child what it may not read itself.
    """
    known = [entry.get("valueFrom") for entry in inherited or ()]
    for index, entry in enumerate(given if isinstance(given, list) else ()):
        source = entry.get("valueFrom") if isinstance(entry, dict) else None
        if source is not None and source not in known:
            raise bad(
                f"{where}[{index}].valueFrom",
                "a child may have only sources that its parent was given; name it in the env of "
                "the root task, from which children inherit it",
            )


def _not_overridable(name: str) -> str:
    if name in ("input", "inputObject"):
        return "give the input beside overrides, as value, json, data, ref or input_object"
    if name in ("cancel", "cancelScope"):
        return "a task cannot be born cancelled; remove it"
    if name in ("tasks", "params"):
        return "only a root can have them; spawn the tasks one by one"
    if name == "cluster":
        return "only a root can have a TaskCluster of its own; give clusterName, or leave it out"
    if name == "treeTimeoutSeconds":
        return "it goes for a whole tree; set it on the root, or timeoutSeconds for this task"
    if name == "onExit":
        return "it is for the end of a whole tree; set it on the root"
    if name == "notify":
        return "it tells of a whole tree; set it on the root"
    if name == "lineage":
        return "taskctl writes it; remove it"
    likely = meta.likely_field(name, _OVERRIDABLE)
    if likely:
        return f"no field of a Task's spec; did you mean {likely}?"
    return "no field of a Task's spec; see `kubectl explain task.spec`"


def _validate(task_spec: dict[str, Any], where: str) -> None:
    """Check a spec as the API server will: by the names in the CRD, converting nothing.

    What the server does not know it drops without a word, so a misspelt field must end here.
    """
    fields.json_only(task_spec, f"{where}.overrides")
    try:
        text = json.dumps(task_spec)
        TaskSpec.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        # A rule about the spec as a whole has no path of its own.
        dots = ["." if item["loc"] else ": " for item in error.errors()]
        lines = zip(dots, meta.describe_errors(error, TaskSpec), strict=True)
        sentences = [f"{where}.overrides{dot}{line}" for dot, line in lines]
        raise Refusal(ErrorCode.BAD_REQUEST, "; ".join(sentences[:5])) from error
