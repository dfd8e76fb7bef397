"""From a spawn spec to a Task and its input TaskObject; pure.

The names follow from the parent's UID and the key, so a parent that runs again arrives at the
children it already has.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from taskctl.agent import fields
from taskctl.agent.fields import bad
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.agent.values import Content, parse_content
from taskctl.api import meta
from taskctl.api.task import TaskSpec
from taskctl.constants import (
    ANNOTATION_DEPTH,
    ANNOTATION_PARENT,
    ANNOTATION_SPAWN_KEY,
    API_VERSION,
    LABEL_GROUP,
    LABEL_PARENT_UID,
    LABEL_ROOT,
    LABEL_ROOT_UID,
)
from taskctl.policy.view import TaskView, parse_task

MAX_SPAWN: Final = 1000
MAX_KEY_CHARS: Final = 1024
# Leaves room for "-output-<attempt>" within the 253 characters of an object's name.
MAX_TASK_NAME: Final = 230
_NAME_STEM: Final = 52  # with "-" and 10 digits: 63, what a label value holds
_DNS_SUBDOMAIN: Final = re.compile(meta.DNS_SUBDOMAIN)

INHERITED: Final = (
    "clusterName",
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
    "readOnlyWorkspace",
    "limits",
)
_OVERRIDABLE: Final = frozenset(
    field.alias or name for name, field in TaskSpec.model_fields.items()
).difference(("input", "inputObject", "cancel"))
_SPEC_KEYS: Final = frozenset(
    ("key", "name", "value", "json", "data", "ref", "input_object", "overrides")
)


@dataclass(frozen=True, slots=True)
class Parent:
    """The Task that spawns.

    Attributes:
        view: the Task.
        root_name: full name of the tree's root.
    """

    view: TaskView
    root_name: str

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> Parent:
        """Return the parent that a raw Task is."""
        view = parse_task(task)
        if view.is_root:
            return cls(view, view.name)
        owners = task["metadata"].get("ownerReferences") or ()
        names = [owner["name"] for owner in owners if owner.get("uid") == view.root_uid]
        return cls(view, names[0] if names else view.root_name)


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


def build_child(parent: Parent, spec: Any, where: str) -> Child:
    """Return the child that one spawn spec asks for.

    Args:
        parent: who spawns.
        spec: one item of ``tasks``, unchecked.
        where: its path in the request, for example ``tasks[3]``.

    Raises:
        Refusal: ``bad_request``, naming the field; ``limit``: the tree may not grow so deep.
    """
    spec = _checked_map(spec, where)
    dot = f"{where}."
    depth = parent.view.depth + 1
    _check_depth(parent, depth, dot)
    key = fields.text(spec, "key", max_chars=MAX_KEY_CHARS, where=dot)
    name = _child_name(parent, spec, key, dot)
    content = parse_content(spec, where=dot)
    named_input = fields.optional_text(spec, "input_object", max_chars=meta.MAX_NAME, where=dot)
    if content is not None and named_input:
        raise bad(dot + "input_object", "give either a value or the name of an object, not both")

    task_spec = _task_spec(parent, spec.get("overrides"), dot)
    input_name = f"{name}-input" if content is not None else ""
    if input_name or named_input:
        task_spec["inputObject"] = input_name or named_input
    metadata = lineage(parent, name, key, depth=depth)
    task = {"apiVersion": API_VERSION, "kind": "Task", "metadata": metadata, "spec": task_spec}
    _validate(task_spec, where)
    if task_spec.get("group"):
        metadata["labels"][LABEL_GROUP] = task_spec["group"]
    return Child(name=name, key=key, task=task, input_name=input_name, content=content)


def lineage(parent: Parent, name: str, key: str, *, depth: int | None = None) -> dict[str, Any]:
    """Return the metadata of something that ``parent`` makes and its root owns."""
    view = parent.view
    annotations = {ANNOTATION_PARENT: view.name, ANNOTATION_SPAWN_KEY: key}
    if depth is not None:
        annotations[ANNOTATION_DEPTH] = str(depth)
    return {
        "name": name,
        "namespace": view.namespace,
        "labels": {
            LABEL_ROOT: label_value(parent.root_name),
            LABEL_ROOT_UID: view.root_uid,
            LABEL_PARENT_UID: view.uid,
        },
        "annotations": annotations,
        "ownerReferences": [owner_reference(parent.root_name, view.root_uid)],
    }


def owner_reference(name: str, uid: str) -> dict[str, Any]:
    """Return a reference to an owning Task that does not hold up its deletion."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Task",
        "name": name,
        "uid": uid,
        "blockOwnerDeletion": False,
    }


def label_value(name: str) -> str:
    """Return a name as a label value, which holds 63 characters only: cut, with a hash."""
    if len(name) <= meta.MAX_LABEL:
        return name
    return f"{_stem(name)}-{_hash(name)}"


def is_own(existing: Mapping[str, Any], parent: Parent, key: str) -> bool:
    """Whether an object that is already there was made by the same parent under the same key."""
    metadata = existing["metadata"]
    return (metadata.get("labels") or {}).get(LABEL_PARENT_UID) == parent.view.uid and (
        metadata.get("annotations") or {}
    ).get(ANNOTATION_SPAWN_KEY) == key


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


def _check_depth(parent: Parent, depth: int, dot: str) -> None:
    limit = (parent.view.spec.get("limits") or {}).get("depth")
    if limit is not None and depth > limit:
        raise Refusal(
            ErrorCode.LIMIT,
            f"{dot.rstrip('.')}: would be at depth {depth} of the tree; limits.depth of root task "
            f"{parent.root_name} allows {limit}",
        )


def _child_name(parent: Parent, spec: dict[str, Any], key: str, dot: str) -> str:
    name = fields.optional_text(spec, "name", max_chars=MAX_TASK_NAME, where=dot)
    if not name:
        return f"{_stem(parent.root_name)}-{_hash(f'{parent.view.uid}/{key}')}"
    if not _DNS_SUBDOMAIN.fullmatch(name):
        raise bad(
            dot + "name",
            f"{name!r} is no object name: lower-case letters, digits, '-' and '.', beginning and "
            "ending with a letter or digit",
        )
    return name


def _task_spec(parent: Parent, overrides: Any, dot: str) -> dict[str, Any]:
    given = fields.mapping(overrides, f"{dot}overrides")
    for name in sorted(given):
        if name not in _OVERRIDABLE:
            raise bad(f"{dot}overrides.{name}", _not_overridable(name))
    inherited = {name: parent.view.spec[name] for name in INHERITED if name in parent.view.spec}
    if "limits" in given and given["limits"] != inherited.get("limits"):
        raise bad(
            f"{dot}overrides.limits", "limits are set on the root and hold for the whole tree"
        )
    return inherited | {name: value for name, value in given.items() if value is not None}


def _not_overridable(name: str) -> str:
    if name in ("input", "inputObject"):
        return "give the input beside overrides, as value, json, data, ref or input_object"
    if name == "cancel":
        return "a task cannot be born cancelled; remove it"
    return "no field of a Task's spec; see `kubectl explain task.spec`"


def _validate(task_spec: dict[str, Any], where: str) -> None:
    try:
        TaskSpec.model_validate(task_spec)
    except ValidationError as error:
        # A rule about the spec as a whole has no path of its own.
        dots = ["." if item["loc"] else ": " for item in error.errors()]
        lines = zip(dots, meta.describe_errors(error), strict=True)
        sentences = [f"{where}.overrides{dot}{line}" for dot, line in lines]
        raise Refusal(ErrorCode.BAD_REQUEST, "; ".join(sentences[:5])) from error


def _stem(name: str) -> str:
    return name[:_NAME_STEM].rstrip("-.")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
