"""How children hang on their tree: names, owners, labels, depth.

Everything a task creates is owned by the tree's *root*: deleting the root deletes the
tree, and the removal of a task in the middle never takes its children along. Names derive
from parent and key, not from the attempt, so a parent that runs again finds its children.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from taskctl.constants import (
    ANNOTATION_DEPTH,
    ANNOTATION_PARENT,
    ANNOTATION_SPAWN_KEY,
    API_VERSION,
    LABEL_PARENT_UID,
    LABEL_ROOT,
    LABEL_ROOT_UID,
)
from taskctl.policy.view import TaskView, lineage_of

MAX_LABEL_CHARS: Final = 63
OUTPUT_SUFFIX: Final = "-output"  # behind a Task's name: the TaskObject with its output
_HASH_CHARS: Final = 10
# With "-" and the hash: what a label value holds.
_STEM_CHARS: Final = MAX_LABEL_CHARS - _HASH_CHARS - 1
_EXIT_STEM_CHARS: Final = _STEM_CHARS - len("-exit")


def child_name(parent: TaskView, key: str) -> str:
    """Return the default name of a child: ``<root, cut>-<hash of parent UID and key>``."""
    return f"{_stem(parent.root_name)}-{_digest(f'{parent.uid}/{key}')}"


def exit_name(root: TaskView, run: int) -> str:
    """Return the name of the task in ``spec.onExit`` of a root, for one run of its tree."""
    return f"{root.name[:_EXIT_STEM_CHARS].rstrip('-.')}-exit-{_digest(f'{root.uid}/exit/{run}')}"


def input_name(task_name: str) -> str:
    """Return the name of the TaskObject made as a child's input."""
    return f"{task_name}-input"


def child_metadata(
    parent: TaskView, name: str, key: str, *, depth: int | None = None
) -> dict[str, Any]:
    """Return ``metadata`` for something that a task makes and its root owns.

    Args:
        parent: the task that makes it.
        name: its name.
        key: names it among what the parent makes.
        depth: of a Task: its level in the tree; None: it is no Task.
    """
    annotations = {ANNOTATION_PARENT: parent.name, ANNOTATION_SPAWN_KEY: key}
    if depth is not None:
        annotations[ANNOTATION_DEPTH] = str(depth)
    return {
        "name": name,
        "namespace": parent.namespace,
        "labels": tree_labels(parent),
        "annotations": annotations,
        "ownerReferences": [owner_reference(parent.root_name, parent.root_uid)],
    }


def child_lineage(parent: TaskView, name: str, key: str) -> dict[str, Any]:
    """Return ``spec.lineage`` of a child; what a tree's membership is decided by."""
    return {
        "task": name,
        "root": parent.root_name,
        "rootUID": parent.root_uid,
        "parent": parent.name,
        "parentUID": parent.uid,
        "depth": parent.depth + 1,
        "key": key,
    }


def tree_labels(maker: TaskView) -> dict[str, str]:
    """Return the labels of an object that a task makes: its root, and the maker as parent."""
    return {
        LABEL_ROOT: label_value(maker.root_name),
        LABEL_ROOT_UID: maker.root_uid,
        LABEL_PARENT_UID: maker.uid,
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
    """Return an object's name as a label value, which holds 63 characters: cut, with a hash."""
    return name if len(name) <= MAX_LABEL_CHARS else f"{_stem(name)}-{_digest(name)}"


def is_same_child(existing: Mapping[str, Any], parent: TaskView, key: str) -> bool:
    """Whether a Task that already has the name is this very child, made by an earlier try."""
    lineage = lineage_of(existing)
    return lineage is not None and (lineage["parentUID"], lineage["key"]) == (parent.uid, key)


def is_same_object(existing: Mapping[str, Any], parent: TaskView, key: str) -> bool:
    """Whether a TaskObject that already has the name was made for this very child.

    A TaskObject has no lineage of its own. It counts in no tree, and its content cannot change.
    """
    metadata = existing.get("metadata") or {}
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    return (
        labels.get(LABEL_PARENT_UID) == parent.uid and annotations.get(ANNOTATION_SPAWN_KEY) == key
    )


def depth_refusal(parent: TaskView) -> str | None:
    """Return why a Task may have no children (``spec.limits.depth``), or None if it may."""
    depth, limit = parent.depth + 1, parent.limit("depth")
    if limit is None or depth <= limit:
        return None
    return (
        f"would be at depth {depth} of the tree; limits.depth of root task "
        f"{parent.root_name} allows {limit}; set a higher one in spec.limits of the next root, or "
        "in taskDefaults.limits of its TaskCluster; those of a tree do not change"
    )


def _stem(name: str) -> str:
    return name[:_STEM_CHARS].rstrip("-.")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARS]
