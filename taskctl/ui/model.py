"""What the page knows of a Task: one flat row, and on request the rest. Pure.

Rows are what is sent ten thousand at a time, so they hold what a picture needs and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.history.lines import noted_of
from taskctl.policy.labels import key_of, label_of
from taskctl.policy.lineage import is_made_key
from taskctl.policy.status import FINE
from taskctl.policy.view import TaskView, parse_task, time_or_none
from taskctl.safetext import visible

# Of ``status.times``, in the order in which they come.
STAGES: Final = ("created", "placed", "started", "userCode", "exited", "observed")
_LINE_CHARS: Final = 240


@dataclass(frozen=True, slots=True)
class Row:
    """A Task as the page draws it; its fields are the names in JSON.

    Attributes:
        uid: ``metadata.uid``.
        namespace: ``metadata.namespace``.
        name: ``metadata.name``.
        parent: UID of the Task that made this one; empty for a root.
        root: UID of the tree's root; its own for a root.
        depth: level in the tree; 0 for a root.
        title: how people call it: its name, or its key where taskctl made up the name (without the
            name of the root where it made up the key as well).
        label: its function or program, in a word.
        cluster: its TaskCluster.
        state: ``status.state``.
        reason: ``status.reason``, or empty.
        message: last line of ``status.message``; the traceback's last line says what was raised.
        attempt: number of the latest attempt.
        exit_code: of the command, or None.
        worker: pod of the latest attempt, or empty.
        slots: how many of the worker's slots it takes.
        times: milliseconds since 1970 of each of STAGES, or None.
        progress: units done, units in all (0: unknown) and a sentence; None: nothing reported.
        complete: the whole tree below has ended.
        tree: of a root that did well itself: ``running`` while its tree does, ``failed`` if that
            did not do well; else empty.
        cancel: it was asked to stop.
        gone: when its deletion was recorded, in milliseconds since 1970; None: it exists.
    """

    uid: str
    namespace: str
    name: str
    parent: str
    root: str
    depth: int
    title: str
    label: str
    cluster: str
    state: str
    reason: str
    message: str
    attempt: int
    exit_code: int | None
    worker: str
    slots: int
    times: tuple[float | None, ...]
    progress: tuple[int, int, str] | None
    complete: bool
    tree: str
    cancel: bool
    gone: float | None = None


def row_of(task: Mapping[str, Any]) -> Row:
    """Return the row of a raw Task.

    Raises:
        KeyError: it is not an object from the API server.
    """
    view = parse_task(task)
    status = view.status
    return Row(
        uid=view.uid,
        namespace=view.namespace,
        name=view.name,
        parent=view.parent_uid,
        root=view.root_uid,
        depth=view.depth,
        title=_title(view),
        label=line_of(label_of(view.spec.get("command") or ())),
        cluster=view.cluster,
        state=view.state.value,
        reason=str(status.get("reason") or ""),
        message=last_line(status.get("message")),
        attempt=view.attempt,
        exit_code=status.get("exitCode"),
        worker=view.pod_name,
        slots=view.slots,
        times=_times(view),
        progress=_progress(status.get("progress")),
        complete=_has(status, "Complete", "True"),
        tree=_tree(view),
        cancel=view.cancel,
        gone=_gone(task),
    )


def _gone(task: Mapping[str, Any]) -> float | None:
    noted = noted_of(task)
    if not noted.deleted:
        return None
    return 0.0 if noted.at is None else round(noted.at.timestamp() * 1000, 3)


def _title(view: TaskView) -> str:
    key = key_of(view)
    if is_made_key(key):
        # The label says what it is; the root's name stands above it.
        return view.name.removeprefix(f"{view.root_name}-")
    return line_of(key) or view.name


def _times(view: TaskView) -> tuple[float | None, ...]:
    found = view.status.get("times") or {}
    texts = [found.get(name) for name in STAGES]
    texts[0] = texts[0] or view.created
    moments = [time_or_none(text) for text in texts]
    return tuple(
        None if moment is None else round(moment.timestamp() * 1000, 3) for moment in moments
    )


def _progress(found: Mapping[str, Any] | None) -> tuple[int, int, str] | None:
    if not found:
        return None
    return (
        int(found.get("done") or 0),
        int(found.get("total") or 0),
        line_of(found.get("message")),
    )


def _has(status: Mapping[str, Any], kind: str, value: str) -> bool:
    return any(
        condition.get("type") == kind and condition.get("status") == value
        for condition in status.get("conditions") or ()
    )


def _tree(view: TaskView) -> str:
    if not view.is_root or view.state not in FINE:
        return ""
    if _has(view.status, "Complete", "False"):
        return "running"
    return "failed" if _has(view.status, "Succeeded", "False") else ""


def last_line(text: object) -> str:
    """Return the last line of a text that says something, harmless and not long."""
    lines = str(text or "").strip().splitlines()
    return line_of(lines[-1]) if lines else ""


def line_of(text: object) -> str:
    """Return a text of a stranger as one line, harmless and not long."""
    line = visible(str(text or ""), keep="")
    return line if len(line) <= _LINE_CHARS else line[: _LINE_CHARS - 1] + "…"


def detail_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the panel of a raw Task shows beside its row."""
    view = parse_task(task)
    status = view.status
    return {
        "uid": view.uid,
        "message": visible(str(status.get("message") or "")),
        "command": [visible(str(word)) for word in view.spec.get("command") or ()],
        "image": line_of(view.spec.get("image")),
        "usage": status.get("usage") or {},
        "signal": status.get("signal"),
        "infraFailures": view.infra_failures,
        "nextAttemptTime": status.get("nextAttemptTime"),
        "outputObject": status.get("outputObject"),
        "container": view.container,
        "attempts": [
            {
                name: past.get(name)
                for name in ("attempt", "podName", "reason", "exitCode", "started", "exited")
            }
            for past in status.get("attempts") or ()
        ],
    }


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A TaskCluster as the page shows it.

    Attributes:
        uid: ``metadata.uid``.
        namespace: ``metadata.namespace``.
        name: ``metadata.name``.
        workers: how many are ready.
        replicas: how many are wanted.
        slots: of each worker.
        ready: whether its condition Ready is true.
        message: why it is not.
    """

    uid: str
    namespace: str
    name: str
    workers: int
    replicas: int
    slots: int
    ready: bool
    message: str


def cluster_row_of(cluster: Mapping[str, Any]) -> ClusterRow:
    """Return the row of a raw TaskCluster.

    Raises:
        KeyError: it is not an object from the API server.
    """
    metadata, spec = cluster["metadata"], cluster.get("spec") or {}
    status = cluster.get("status") or {}
    ready: Mapping[str, Any] = next(
        (c for c in status.get("conditions") or () if c.get("type") == "Ready"), {}
    )
    return ClusterRow(
        uid=metadata["uid"],
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        workers=int(status.get("ready") or 0),
        replicas=_wanted(cluster),
        slots=int(spec.get("slotsPerWorker") or 1),
        ready=ready.get("status") == "True",
        message="" if ready.get("status") == "True" else line_of(ready.get("message")),
    )


def _wanted(cluster: Mapping[str, Any]) -> int:
    """Return how many workers a TaskCluster is to have; with ``maxReplicas`` taskctl says it."""
    spec, status = cluster.get("spec") or {}, cluster.get("status") or {}
    if spec.get("maxReplicas") is not None:
        return int(status.get("replicas") or 0)
    return int(spec.get("replicas") or 0)
