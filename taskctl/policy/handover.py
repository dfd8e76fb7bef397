"""Parked containers, and the record of what is handed to them.

A *parked* container is in its worker's pod ahead of demand: its entry has a nonce and a class, and
names no task. The *class* is all of a Task that Kubernetes fixes when a container is created: the
image, how the workspace is mounted, the environment that only the kubelet can resolve.

The *handover record* of a worker says which attempt each parked container is to run. It is a
Lease, owned by the pod, with one annotation for each container: the one small built-in object that
a worker's account may read without seeing anything else (docs/decisions/0034-standby.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from taskctl.constants import (
    ENV_CLASS,
    ENV_CONTAINER,
    ENV_NONCE,
    ENV_SOCKET,
    LABEL_CLUSTER_UID,
    LABEL_MANAGED_BY,
    PARKED_PREFIX,
    SOCKET_PATH,
)
from taskctl.objectkey import ObjectKey
from taskctl.policy.claim import ClaimBasis, basis_of, is_fresh
from taskctl.policy.entry import build_container, defaults_taken
from taskctl.policy.prepare import command_for
from taskctl.policy.resources import NOTHING, Amount, amount_text, parse_amount, requested
from taskctl.policy.taskdefaults import to_text
from taskctl.policy.view import TaskView, time_or_none

_RANDOM_CHARS: Final = 12
_HASH_CHARS: Final = 10
_CLASS_CHARS: Final = 16
_ANNOTATION: Final = "handover.taskctl.dev/"
_NAME_LIMIT: Final = 253
# With it a parked container ends that was handed an attempt which it must not run (EX_TEMPFAIL of
# sysexits.h): the attempt can go elsewhere at once.
NOT_BEGUN_CODE: Final = 75
# All annotations of an object have 256 KiB at most, and a record has those of many containers.
DEFAULTS_LIMIT_BYTES: Final = 2048


@dataclass(frozen=True, slots=True)
class ContainerClass:
    """What of a Task is fixed when its container is created.

    Attributes:
        image: the container's image.
        env: entries of its ``env`` that have ``valueFrom``, as they stand.
        read_only: the workspace is mounted read-only.
    """

    image: str
    env: tuple[Mapping[str, Any], ...] = ()
    read_only: bool = False

    @property
    def fingerprint(self) -> str:
        """Names the class: the same for equal ones."""
        parts = [self.image, [dict(item) for item in self.env], self.read_only]
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:_CLASS_CHARS]


def class_of(spec: Mapping[str, Any]) -> ContainerClass:
    """Return the class that a Task with this spec needs."""
    env = tuple(item for item in spec.get("env") or () if item.get("valueFrom"))
    return ContainerClass(str(spec.get("image", "")), env, bool(spec.get("readOnlyWorkspace")))


def parkable_class(view: TaskView) -> ContainerClass | None:
    """Return the class of the parked containers that fit a Task; None: it needs one of its own.

    Args:
        view: the Task, with the defaults of its TaskCluster.
    """
    defaults = defaults_taken(view)
    if defaults and len(to_text(defaults)) > DEFAULTS_LIMIT_BYTES:
        return None  # they would not fit into the record
    return class_of(view.spec)


@dataclass(frozen=True, slots=True)
class ParkedView:
    """A parked container, read back from a pod's spec.

    Attributes:
        container: its name.
        fingerprint: of its class.
    """

    container: str
    fingerprint: str


def parked_name(random_hex: str) -> str:
    """Return a name for a parked container, made from a random hexadecimal text."""
    return f"{PARKED_PREFIX}{random_hex[:_RANDOM_CHARS]}"


def build_parked(
    name: str, wanted: ContainerClass, nonce: str, frame: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the ephemeral container to park.

    Args:
        name: of :func:`parked_name`.
        wanted: its class.
        nonce: one-time secret, 32 hexadecimal digits.
        frame: the worker's :func:`taskctl.policy.workerpod.task_frame`.
    """
    env = [
        {"name": ENV_CONTAINER, "value": name},
        {"name": ENV_CLASS, "value": wanted.fingerprint},
        {"name": ENV_NONCE, "value": nonce},
        {"name": ENV_SOCKET, "value": SOCKET_PATH},
    ]
    env += [dict(item) for item in wanted.env]
    return build_container(name, wanted.image, env, frame, read_only=wanted.read_only)


def parse_parked(container: Mapping[str, Any]) -> ParkedView | None:
    """Read a parked container back from a pod's spec; None for any other."""
    name = container.get("name", "")
    if not name.startswith(PARKED_PREFIX):
        return None
    env = {item.get("name"): item.get("value") for item in container.get("env") or ()}
    fingerprint = env.get(ENV_CLASS)
    if not fingerprint or env.get(ENV_CONTAINER) != name:
        return None
    return ParkedView(name, fingerprint)


def is_parked_name(name: str) -> bool:
    """Whether a container of that name was parked before it was given a task."""
    return name.startswith(PARKED_PREFIX)


# --- the record -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeenTask:
    """A Task as the controller saw it when it handed it over: the agent need not read it.

    Attributes:
        version: ``metadata.resourceVersion``; the claim holds as long as that counts.
        basis: what the claim writes of it.
        fingerprint: of its class.
        root_uid: UID of the tree's root.
        command: digest of its command (:mod:`taskctl.policy.prepare`).
    """

    version: str
    basis: ClaimBasis
    fingerprint: str
    root_uid: str
    command: str


@dataclass(frozen=True, slots=True)
class Handover:
    """What a parked container is to run.

    Attributes:
        task_name: name of the Task.
        task_uid: its UID.
        attempt: number of the attempt, ≥ 1.
        placed: when it was decided, as MicroTime text.
        amount: CPU and memory that it takes of its worker.
        defaults: what it takes of its TaskCluster's ``spec.taskDefaults``: an agent has no
            TaskCluster.
        seen: the Task at that time; None: the agent has to read it before it claims it.
    """

    task_name: str
    task_uid: str
    attempt: int
    placed: str
    amount: Amount = NOTHING
    defaults: Mapping[str, Any] = field(default_factory=dict)
    seen: SeenTask | None = None

    @property
    def placed_at(self) -> datetime | None:
        """When it was decided; None if malformed."""
        return time_or_none(self.placed)


@dataclass(frozen=True, slots=True)
class Dismissal:
    """A parked container is to end without having run anything.

    Attributes:
        taken_back: the attempt that it was given before; its agent may have been faster. None: it
            was given none.
    """

    taken_back: Handover | None = None


def encode_entry(entry: Handover | Dismissal) -> str:
    """Return an entry of the record as the text of its annotation."""
    if isinstance(entry, Dismissal):
        before = {} if entry.taken_back is None else _fields(entry.taken_back)
        return json.dumps({"exit": True, **before}, separators=(",", ":"))
    fields = _fields(entry)
    if entry.defaults:
        fields["defaults"] = dict(entry.defaults)
    if entry.seen is not None:
        fields["seen"] = _seen_fields(entry.seen)
    return json.dumps(fields, separators=(",", ":"))


def _fields(entry: Handover) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "task": entry.task_name,
        "uid": entry.task_uid,
        "attempt": entry.attempt,
        "placed": entry.placed,
    }
    if entry.amount != NOTHING:
        fields["requests"] = amount_text(entry.amount)
    return fields


def _seen_fields(seen: SeenTask) -> dict[str, Any]:
    basis = seen.basis
    return {
        "version": seen.version,
        "generation": basis.generation,
        "created": basis.created,
        "root": basis.root,
        "rootUID": seen.root_uid,
        "parent": basis.parent,
        "depth": basis.depth,
        "runs": basis.runs,
        "class": seen.fingerprint,
        "command": seen.command,
    }


def _decode_seen(fields: object) -> SeenTask | None:
    if not isinstance(fields, dict):
        return None
    texts = [
        fields.get(name)
        for name in ("version", "class", "rootUID", "command", "root", "parent", "runs", "created")
    ]
    numbers = [fields.get("depth"), fields.get("generation")]
    if not all(isinstance(text, str) for text in texts) or not fields.get("version"):
        return None
    if not all(type(number) is int for number in numbers):
        return None
    version, fingerprint, root_uid, command, root, parent, runs, created = map(str, texts)
    basis = ClaimBasis(root, parent, fields["depth"], runs, created, fields["generation"])
    return SeenTask(version, basis, fingerprint, root_uid, command)


def decode_entry(text: str) -> Handover | Dismissal | None:
    """Return an entry of the record; None: it cannot be read."""
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    handover = _decode_handover(fields)
    return Dismissal(handover) if fields.get("exit") is True else handover


def _decode_handover(fields: Mapping[str, Any]) -> Handover | None:
    task, uid, attempt = fields.get("task"), fields.get("uid"), fields.get("attempt")
    if not (isinstance(task, str) and isinstance(uid, str) and task and uid):
        return None
    if not isinstance(attempt, int) or attempt < 1:
        return None
    amount = parse_amount(fields.get("requests"))
    defaults = fields.get("defaults")
    taken = defaults if isinstance(defaults, dict) else {}
    placed, seen = str(fields.get("placed") or ""), _decode_seen(fields.get("seen"))
    return Handover(task, uid, attempt, placed, amount, taken, seen)


def parse_record(raw: Mapping[str, Any]) -> dict[str, Handover | Dismissal]:
    """Return what a raw record says, by container; what cannot be read is left out."""
    entries = {}
    for key, text in (raw["metadata"].get("annotations") or {}).items():
        entry = decode_entry(text) if key.startswith(_ANNOTATION) else None
        if entry is not None:
            entries[key.removeprefix(_ANNOTATION)] = entry
    return entries


def record_name(pod_name: str, pod_uid: str) -> str:
    """Return the name of a worker's record: another pod of that name has another one."""
    digest = hashlib.sha256(pod_uid.encode()).hexdigest()[:_HASH_CHARS]
    return f"{pod_name[: _NAME_LIMIT - _HASH_CHARS - 1].rstrip('-.')}.{digest}"


def record_pod_uid(raw: Mapping[str, Any]) -> str:
    """Return the UID of the pod whose record it is; empty: it is none."""
    for owner in raw["metadata"].get("ownerReferences") or ():
        if owner.get("kind") == "Pod":
            return str(owner.get("uid", ""))
    return ""


def record_changes(changes: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the merge patch that brings entries in, by container, or takes them out (None)."""
    return {"metadata": {"annotations": {_ANNOTATION + k: text for k, text in changes.items()}}}


def build_record(
    pod: ObjectKey, pod_uid: str, cluster_uid: str, changes: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return the record of a worker that has none yet."""
    entries = {_ANNOTATION + key: text for key, text in changes.items() if text is not None}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod_uid}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": record_name(pod.name, pod_uid),
            "namespace": pod.namespace,
            "labels": {LABEL_MANAGED_BY: "taskctl", LABEL_CLUSTER_UID: cluster_uid},
            "annotations": entries,
            "ownerReferences": [owner],
        },
        "spec": {"holderIdentity": pod.name},
    }


def handover_of(view: TaskView, placed: str) -> Handover:
    """Return the entry that hands a Task's next attempt over.

    Args:
        view: the Task, with the defaults of its TaskCluster.
        placed: the time of the decision, as MicroTime text.
    """
    amount, taken = requested(view.spec), defaults_taken(view)
    seen = _seen(view, len(to_text(taken)) if taken else 0)
    return Handover(view.name, view.uid, view.next_attempt, placed, amount, taken, seen)


def _seen(view: TaskView, other_bytes: int) -> SeenTask | None:
    """Return what lets the agent claim without reading; None: that would not be the same claim."""
    if not is_fresh(view) or not view.resource_version:
        return None
    seen = SeenTask(
        version=view.resource_version,
        basis=basis_of(view),
        fingerprint=class_of(view.spec).fingerprint,
        root_uid=view.root_uid,
        command=command_for(view).digest,
    )
    # An entry may take so much of a record, with what it takes of the defaults.
    size = len(json.dumps(_seen_fields(seen)).encode())
    return seen if size + other_bytes <= DEFAULTS_LIMIT_BYTES else None
