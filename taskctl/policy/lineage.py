"""How children hang on their tree: names, owners, labels, depth.

Everything a task creates is owned by the tree's *root*: deleting the root deletes the
tree, and the removal of a task in the middle never takes its children along. Names derive
from parent and key, not from the attempt, so a parent that runs again finds its children.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from taskctl.constants import (
    ANNOTATION_DEPTH,
    ANNOTATION_PARENT,
    ANNOTATION_SPAWN_KEY,
    ANNOTATION_TRACEPARENT,
    API_VERSION,
    LABEL_PARENT_UID,
    LABEL_ROOT,
    LABEL_ROOT_UID,
)
from taskctl.policy.labels import label_of
from taskctl.policy.tracecontext import parse_traceparent
from taskctl.policy.view import TaskView, lineage_of
from taskctl.safetext import one_line

MAX_LABEL_CHARS: Final = 63
OUTPUT_SUFFIX: Final = "-output"  # behind a Task's name: the TaskObject with its output
_HASH_CHARS: Final = 10
_WORD_CHARS: Final = 20
_KEY_SHOWN_CHARS: Final = 40
# As the SDK and taskctl-init make them.
_MADE_KEY: Final = re.compile(r"auto-[0-9a-f]{16}-\d{1,20}")
# With "-" and the hash: what a label value holds.
_STEM_CHARS: Final = MAX_LABEL_CHARS - _HASH_CHARS - 1
_EXIT_STEM_CHARS: Final = _STEM_CHARS - len("-exit")


def child_name(parent: TaskView, key: str, command: Sequence[str] = ()) -> str:
    """Return the default name of a child: ``<root>-<word>-<hash of parent UID and key>``.

    The word is the key, if its user chose one, else the function or program. A made key says what
    is spawned (docs/protocol.md, "Spawn keys"), so the name follows from parent and key either
    way, and a parent that runs again with other code finds the child of that key.

    Args:
        parent: the Task that makes it.
        key: of the child.
        command: of the child; empty: not known here.
    """
    text = label_of(command) if is_made_key(key) else key
    word = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_WORD_CHARS].rstrip("-")
    tail = f"{word}-" * bool(word) + _digest(f"{parent.uid}/{key}")
    root = parent.root_name[: MAX_LABEL_CHARS - len(tail) - 1].rstrip("-.")
    return f"{root}-{tail}"


def is_made_key(key: str) -> bool:
    """Whether the SDK or taskctl-init made a key because the task gave none."""
    return _MADE_KEY.fullmatch(key) is not None


def shown_key(view: TaskView) -> str:
    """Return the key that a user chose for a child, unless its name says it; empty for a root."""
    key = str((view.spec.get("lineage") or {}).get("key") or "") if view.parent_uid else ""
    said = view.name == key or view.name.endswith(f"-{key}")
    return "" if said or is_made_key(key) else key


def runs_of(view: TaskView) -> str:
    """Return what ``status.runs`` says: function or program, with the key if a user chose it.

    As pytest writes parameters: ``square[part-3]``.
    """
    label, key = label_of(view.spec.get("command") or ()), shown_key(view)
    return one_line(f"{label}[{key[:_KEY_SHOWN_CHARS]}]" if key else label)


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
        depth: of a Task: its level in the tree; None: it is not a Task.
    """
    annotations = {ANNOTATION_PARENT: parent.name, ANNOTATION_SPAWN_KEY: key}
    if depth is not None:
        annotations[ANNOTATION_DEPTH] = str(depth)
        if parse_traceparent(parent.traceparent) is not None:
            annotations[ANNOTATION_TRACEPARENT] = parent.traceparent
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
