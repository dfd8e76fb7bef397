"""How children hang on their tree: names, owners, labels, depth.

Everything a task creates is owned by the tree's *root*: deleting the root deletes the
tree, and the removal of a task in the middle never takes its children along. Names derive
from parent and key, not from the attempt, so a parent that runs again finds its children.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

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

# Leaves room for a hash and a suffix such as -output-12 in a name of 253 characters.
MAX_ROOT_PART_CHARS: Final = 200
MAX_LABEL_CHARS: Final = 63
_HASH_CHARS: Final = 10
_NOT_LABEL: Final = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where new objects of a task belong.

    Attributes:
        namespace: the parent's.
        root_name: name of the tree's root.
        root_uid: its UID.
        parent_name: the task that creates.
        parent_uid: its UID.
        depth: level of the children: the parent's plus one.
    """

    namespace: str
    root_name: str
    root_uid: str
    parent_name: str
    parent_uid: str
    depth: int


def lineage_of(parent: TaskView) -> Lineage:
    """Return where the children of a Task belong."""
    return Lineage(
        namespace=parent.namespace,
        root_name=parent.root_name,
        root_uid=parent.root_uid,
        parent_name=parent.name,
        parent_uid=parent.uid,
        depth=parent.depth + 1,
    )


def child_name(parent_uid: str, key: str, root_name: str) -> str:
    """Return the default name of a child: ``<root, cut>-<hash of parent UID and key>``."""
    digest = hashlib.sha256(f"{parent_uid}/{key}".encode()).hexdigest()[:_HASH_CHARS]
    return f"{root_name[:MAX_ROOT_PART_CHARS].rstrip('-.')}-{digest}"


def input_name(task_name: str) -> str:
    """Return the name of the TaskObject made as a child's input."""
    return f"{task_name}-input"


def output_name(task_name: str, attempt: int) -> str:
    """Return the name of the TaskObject for the output of an attempt."""
    return f"{task_name}-output" if attempt <= 1 else f"{task_name}-output-{attempt}"


def child_metadata(lineage: Lineage, name: str, key: str, group: str = "") -> dict[str, Any]:
    """Return ``metadata`` for a child Task.

    Args:
        lineage: where it belongs.
        name: its name.
        key: the key that names it among its parent's children.
        group: ``spec.group``, or empty.
    """
    metadata = object_metadata(lineage, name)
    metadata["annotations"][ANNOTATION_SPAWN_KEY] = key
    if group:
        metadata["labels"][LABEL_GROUP] = group
    return metadata


def object_metadata(lineage: Lineage, name: str) -> dict[str, Any]:
    """Return ``metadata`` for any object made on behalf of a task (inputs, outputs)."""
    return {
        "name": name,
        "namespace": lineage.namespace,
        "labels": {
            LABEL_ROOT: label_value(lineage.root_name),
            LABEL_ROOT_UID: lineage.root_uid,
            LABEL_PARENT_UID: lineage.parent_uid,
        },
        "annotations": {
            ANNOTATION_PARENT: lineage.parent_name,
            ANNOTATION_DEPTH: str(lineage.depth),
        },
        "ownerReferences": [root_owner(lineage)],
    }


def root_owner(lineage: Lineage) -> dict[str, Any]:
    """Return the owner reference to the tree's root."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Task",
        "name": lineage.root_name,
        "uid": lineage.root_uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }


def label_value(text: str) -> str:
    """Return ``text`` as a label value: at most 63 characters, alphanumeric at both ends."""
    return _NOT_LABEL.sub("-", text)[:MAX_LABEL_CHARS].strip("-._")


def is_same_child(existing: Mapping[str, Any], lineage: Lineage, key: str) -> bool:
    """Whether an object that already has the name is this very child, made by an earlier try."""
    metadata = existing.get("metadata") or {}
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    return (
        labels.get(LABEL_PARENT_UID) == lineage.parent_uid
        and annotations.get(ANNOTATION_SPAWN_KEY) == key
    )


def depth_refusal(parent: Mapping[str, Any]) -> str | None:
    """Return why a Task may have no children (``spec.limits.depth``), or None if it may.

    Args:
        parent: the raw Task that wants to create children.
    """
    view = parse_task(parent)
    limit = (view.spec.get("limits") or {}).get("depth")
    if limit is None or view.depth + 1 <= limit:
        return None
    return f"children of {view.name} would be at depth {view.depth + 1}; limits.depth is {limit}"
