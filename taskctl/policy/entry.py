"""The entry of a task's container in its worker's spec: the record of a placement.

The name derives from Task UID and attempt, so the pod's spec says by itself what was
placed there; nothing else has to remember it. The entry stays readable in the pod for as
long as that lives, so it holds no secret but the one-time nonce.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskctl.constants import (
    ENV_ATTEMPT,
    ENV_CONTAINER,
    ENV_DEFAULTS,
    ENV_NONCE,
    ENV_PLACED,
    ENV_REQUESTS,
    ENV_SOCKET,
    ENV_TASK,
    ENV_TASK_UID,
    INIT_PATH,
    SOCKET_PATH,
    WORKSPACE_VOLUME,
)
from taskctl.policy.resources import NOTHING, Amount, amount_text, parse_amount, requested
from taskctl.policy.taskdefaults import taken, to_text
from taskctl.policy.view import TaskView, time_or_none

_PREFIX: Final = "t-"
_HASH_CHARS: Final = 10


@dataclass(frozen=True, slots=True)
class EntryView:
    """A placed attempt, read back from a pod's spec.

    Attributes:
        container: name of the ephemeral container.
        task_name: name of the Task, in the pod's namespace.
        task_uid: its UID.
        attempt: number of the attempt.
        placed: when it was decided; None if malformed.
        image: the container's image.
        amount: CPU and memory that it takes of its worker.
    """

    container: str
    task_name: str
    task_uid: str
    attempt: int
    placed: datetime | None
    image: str
    amount: Amount = NOTHING


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an entry needs beyond its Task.

    Attributes:
        attempt: number of the attempt to place.
        nonce: one-time secret, 32 hexadecimal digits, drawn by the caller.
        placed: time of the decision, as MicroTime text.
    """

    attempt: int
    nonce: str
    placed: str


def container_name(task_uid: str, attempt: int) -> str:
    """Return the name of the container for that attempt of that Task."""
    digest = hashlib.sha256(task_uid.encode()).hexdigest()[:_HASH_CHARS]
    return f"{_PREFIX}{digest}-{attempt}"


def is_task_container(name: str) -> bool:
    """Whether a container's name is of the form that taskctl gives."""
    return name.startswith(_PREFIX)


def build_entry(view: TaskView, ticket: Ticket, frame: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ephemeral container for one attempt.

    Args:
        view: the Task, with the defaults of its TaskCluster.
        ticket: attempt, nonce and time.
        frame: the worker's :func:`taskctl.policy.workerpod.task_frame`: the mounts and the
            security context that this very pod offers to tasks.
    """
    name = container_name(view.uid, ticket.attempt)
    env = [
        {"name": ENV_CONTAINER, "value": name},
        {"name": ENV_TASK, "value": view.name},
        {"name": ENV_TASK_UID, "value": view.uid},
        {"name": ENV_ATTEMPT, "value": str(ticket.attempt)},
        {"name": ENV_NONCE, "value": ticket.nonce},
        {"name": ENV_PLACED, "value": ticket.placed},
        {"name": ENV_SOCKET, "value": SOCKET_PATH},
    ]
    defaults = defaults_taken(view)
    if defaults:
        env.append({"name": ENV_DEFAULTS, "value": to_text(defaults)})
    amount = requested(view.spec)
    if amount != NOTHING:  # counted from here on, whatever becomes of the Task and its TaskCluster
        env.append({"name": ENV_REQUESTS, "value": amount_text(amount)})
    # Plain values travel over the socket; only the kubelet can resolve these.
    env += [dict(item) for item in view.spec.get("env") or () if item.get("valueFrom")]
    read_only = bool(view.spec.get("readOnlyWorkspace"))
    return build_container(name, view.spec["image"], env, frame, read_only=read_only)


def build_container(
    name: str,
    image: str,
    env: list[dict[str, Any]],
    frame: Mapping[str, Any],
    *,
    read_only: bool,
) -> dict[str, Any]:
    """Return an ephemeral container that begins with taskctl-init.

    Args:
        name: of the container.
        image: of the container.
        env: its environment.
        frame: as in :func:`build_entry`.
        read_only: mount the workspace read-only.
    """
    entry: dict[str, Any] = {
        "name": name,
        "image": image,
        "imagePullPolicy": frame.get("imagePullPolicy") or "IfNotPresent",
        "command": [INIT_PATH],
        "env": env,
        "volumeMounts": _mounts(frame.get("volumeMounts") or (), read_only=read_only),
        "terminationMessagePolicy": "File",
    }
    if frame.get("securityContext"):
        entry["securityContext"] = dict(frame["securityContext"])
    return entry


def defaults_taken(view: TaskView) -> dict[str, Any]:
    """Return what of the filled spec is not the Task's own; its agent has no TaskCluster."""
    return {} if view.spec is view.own_spec else taken(view.own_spec, view.spec)


def _mounts(mounts: Iterable[Mapping[str, Any]], *, read_only: bool) -> list[dict[str, Any]]:
    result = []
    for mount in mounts:
        copy = dict(mount)
        if read_only and copy.get("name") == WORKSPACE_VOLUME:
            copy["readOnly"] = True
        result.append(copy)
    return result


def parse_entry(container: Mapping[str, Any]) -> EntryView | None:
    """Read a placement back from an ephemeral container; None for one that is not ours."""
    name = container.get("name", "")
    if not is_task_container(name):
        return None
    env = {item.get("name"): item.get("value") for item in container.get("env") or ()}
    uid, attempt = env.get(ENV_TASK_UID), env.get(ENV_ATTEMPT)
    if not uid or not attempt or not attempt.isdigit() or name != container_name(uid, int(attempt)):
        return None
    return EntryView(
        container=name,
        task_name=env.get(ENV_TASK) or "",
        task_uid=uid,
        attempt=int(attempt),
        placed=time_or_none(env.get(ENV_PLACED)),
        image=container.get("image", ""),
        amount=parse_amount(env.get(ENV_REQUESTS)),
    )


def json_bytes(value: Any) -> int:
    """Return how many bytes a part of a pod takes as JSON, about (ASCII escapes count)."""
    return len(json.dumps(value, separators=(",", ":")))


def append_body(pod_uid: str, entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the strategic-merge patch that appends entries to one certain pod.

    It holds the new entries only: the merge key of the list is the name. The UID makes the
    API server refuse (422) the patch for a pod made again under the same name.
    """
    return {
        "metadata": {"uid": pod_uid},
        "spec": {"ephemeralContainers": [dict(entry) for entry in entries]},
    }
