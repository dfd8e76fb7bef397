"""The lines of a history: a Task each, as JSON, with what the recorder adds. Pure.

``taskctl export`` writes the same lines without that addition. A line is checked by itself, so that
one that is none costs no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskctl.clock import format_micro, parse_time
from taskctl.constants import API_VERSION
from taskctl.errors import ConfigError
from taskctl.policy.view import parse_task

# What the recorder adds stands beside `metadata`, `spec` and `status`.
FIELD: Final = "history"
# Stands in each line of a deletion as :func:`encode` writes it, and may stand in others.
DELETED_TEXT: Final = '"deleted":true'
# etcd holds no object of more than 1.5 MiB; as JSON on one line it may be somewhat more.
MAX_LINE_BYTES: Final = 8 * 1024 * 1024
# What the verbs look into.
_MAPS: Final = ("times", "usage", "progress", "descendants", "tree", "defaults")
_LISTS: Final = ("conditions", "attempts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One transition of a Task.

    Attributes:
        task: raw, as it was then; after its deletion as it was last.
        at: when the recorder saw it.
        deleted: the Task is gone.
        late: it happened while the recorder did not look, some time before ``at``.
        workspace: where its TaskCluster kept files: ``claimName`` or ``hostPath``; empty: unknown.
    """

    task: Mapping[str, Any]
    at: datetime
    deleted: bool = False
    late: bool = False
    workspace: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """What a recorder added to a line.

    Attributes:
        at: when it saw the transition; None: the line does not say.
        deleted: the Task was gone by then.
        late: the transition itself was earlier.
        workspace: where its TaskCluster kept files.
    """

    at: datetime | None = None
    deleted: bool = False
    late: bool = False
    workspace: Mapping[str, str] | None = None


def encode(entry: Transition, *, sequence: int, lost: int = 0) -> bytes:
    """Return the line of a transition.

    Args:
        entry: the transition.
        sequence: number of the line.
        lost: how many transitions before it got no line.
    """
    noted: dict[str, Any] = {"sequence": sequence, "at": format_micro(entry.at)}
    if entry.deleted:
        noted["deleted"] = True
    if entry.late:
        noted["late"] = True
    if lost:
        noted["lost"] = lost
    if entry.workspace:
        noted["workspace"] = dict(entry.workspace)
    return _dumps(bare(entry.task) | {FIELD: noted}) + b"\n"


def bare(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Task without ``managedFields``, which are a quarter of it and of no use here."""
    metadata = {name: value for name, value in task["metadata"].items() if name != "managedFields"}
    return {**task, "metadata": metadata}


def decode(line: bytes) -> dict[str, Any]:
    """Return the raw Task of a line, with what the recorder added in ``history``.

    Raises:
        ConfigError: it is not a Task; names the field.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ConfigError(f"not a Task: the line has more than {MAX_LINE_BYTES} bytes")
    try:
        task: Any = _loads(line)
    except ValueError as error:
        raise ConfigError(
            f"not JSON ({error}); --from takes what `taskctl export` wrote, a Task a line"
        ) from None
    if not isinstance(task, dict) or task.get("kind") != "Task":
        raise ConfigError("kind: not a Task; --from takes what `taskctl export` wrote")
    if task.get("apiVersion") != API_VERSION:
        raise ConfigError(f"apiVersion: {task.get('apiVersion')!r} is not {API_VERSION}")
    metadata = task.get("metadata")
    for field in ("name", "namespace", "uid"):
        value = metadata.get(field) if isinstance(metadata, dict) else None
        if not isinstance(value, str) or not value:
            raise ConfigError(f"metadata.{field}: must be a text that is not empty")
    _check_parts(task)
    if not isinstance(task.get(FIELD) or {}, dict):
        raise ConfigError(f"{FIELD}: must be an object")
    return task


def peek(line: bytes) -> dict[str, Any] | None:
    """Return what a line of our own holds, hardly checked; None: it is not a Task."""
    try:
        task = _loads(line)
        uid = task["metadata"]["uid"]
    except (ValueError, TypeError, KeyError):
        return None
    return task if isinstance(uid, str) and isinstance(task, dict) else None


def _check_parts(task: Mapping[str, Any]) -> None:
    try:
        parse_task(task)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"spec or status: not those of a Task ({error})") from None
    status = task.get("status") or {}
    for field in _MAPS:
        if not isinstance(status.get(field) or {}, dict):
            raise ConfigError(f"status.{field}: must be an object")
    for field in _LISTS:
        entries = status.get(field) or []
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise ConfigError(f"status.{field}: must be a list of objects")


def is_whole(line: bytes) -> bool:
    """Whether a line without an end is whole all the same; too long a one is judged elsewhere."""
    if len(line) > MAX_LINE_BYTES or not line.strip():
        return True
    try:
        _loads(line)
    except ValueError:
        return False
    return True


def noted_of(task: Mapping[str, Any]) -> Noted:
    """Return what a recorder added to a Task that was read from a line; nothing where none did."""
    found = task.get(FIELD) or {}
    try:
        at = parse_time(str(found["at"]))
    except (KeyError, ValueError):
        at = None
    workspace = found.get("workspace")
    if not isinstance(workspace, dict):
        workspace = None
    return Noted(at, found.get("deleted") is True, found.get("late") is True, workspace)


def sequence_of(task: Mapping[str, Any]) -> int:
    """Return the number of the line that a Task was read from; 0 where it has none."""
    number = (task.get(FIELD) or {}).get("sequence")
    return number if isinstance(number, int) and not isinstance(number, bool) else 0


# Loaded when a line is read or written, not with the command line's options.
def _loads(line: bytes) -> Any:
    import orjson

    return orjson.loads(line)


def _dumps(value: Mapping[str, Any]) -> bytes:
    import orjson

    return orjson.dumps(value)
