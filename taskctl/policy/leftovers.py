"""What of the files that taskctl keeps in a workspace is left over, and may be removed.

A file belongs to a Task by the UID in its name. It goes with its Task. A file of a Task that this
agent has never seen is an orphan: its Task may have been deleted while no agent looked, but where
several clusters share a directory it may also live in another one, so an orphan has to be old.
Large values have no UID: they go when no TaskObject names them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from taskctl.constants import EXITS_DIR, LOGS_DIR, OBJECTS_DIR, TASKS_DIR
from taskctl.policy.workspace import plan_workspace

DEFAULT_ORPHAN_S: Final = 86_400
DEFAULT_PERIOD_S: Final = 60
# A value is written before its TaskObject is, and one that is there already is used again: then
# its time is renewed. An hour is far more than the agent tries for.
OBJECT_IDLE_S: Final = 3600

_UID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_LOG: Final = re.compile(rf".+\.(?P<uid>{_UID})\.[0-9]+\.log(?P<segments>\.d)?", re.DOTALL)
_EXIT: Final = re.compile(rf"(?P<uid>{_UID})-[0-9]+(\.tmp)?")
_TASK: Final = re.compile(rf"(?P<uid>{_UID})")
_OBJECT: Final = re.compile(r"[0-9a-f]{64}")
# Temporary names of values (agent, SDK), what was moved aside, trees that were too deep.
_STRAY: Final = re.compile(
    r"\.[0-9a-f]{64}\.[0-9a-f]+\.tmp|[0-9a-f]{64}\.[0-9]+-[0-9a-f]+|moved-[0-9a-f]{16}"
)
SWEPT_PREFIX: Final = ".swept-"


class LeftoverKind(StrEnum):
    """What a file in taskctl's directories is."""

    LOG = "log"
    LOG_SEGMENTS = "directory with the end of a long log"
    EXIT = "exit record"
    TASK_DIR = "directory of a task"
    OBJECT = "large value"
    STRAY = "stray file"  # a temporary file of who was killed, or one that was moved aside
    SWEPT = "rest of a directory"


class Ruling(StrEnum):
    """What to do with a file."""

    KEEP = "keep"
    REMOVE = "remove"
    ASK = "ask"  # remove it if the Task has ended for long, or no TaskObject names the value


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that may be left over.

    Attributes:
        kind: what it is.
        directory: where it is, relative to the workspace.
        name: in there.
        uid: of its Task; empty: it has none.
        modified_ns: when it was last written, in nanoseconds since the epoch.
        age_s: seconds since then.
    """

    kind: LeftoverKind
    directory: str
    name: str
    uid: str = ""
    modified_ns: int = 0
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CleanupRules:
    """``spec.workspace.cleanup`` of a TaskCluster, with its defaults.

    Attributes:
        enabled: whether anything is removed at all.
        after_deletion_s: how old a file of a deleted Task must be.
        orphan_s: how old an orphan must be; None: orphans and large values stay.
        max_age_s: how long logs and directories of ended Tasks stay; None: as long as the Task.
        period_s: time between two looks of all agents of the TaskCluster, on average.
    """

    enabled: bool = True
    after_deletion_s: float = 0.0
    orphan_s: float | None = DEFAULT_ORPHAN_S
    max_age_s: float | None = None
    period_s: float = DEFAULT_PERIOD_S


def cleanup_rules(cluster: Mapping[str, Any]) -> CleanupRules:
    """Return the rules of a raw TaskCluster.

    A directory of a node or an export may be shared with namespaces whose Tasks cannot be seen
    from here: there orphans are removed only if an age is given.
    """
    given = (cluster["spec"].get("workspace") or {}).get("cleanup") or {}
    volume = plan_workspace(cluster).volume or {}
    shared = "hostPath" in volume or "nfs" in volume
    orphan_s = given.get("orphanSeconds")
    if orphan_s is None and not shared:
        orphan_s = DEFAULT_ORPHAN_S
    period_s = given.get("periodSeconds")
    return CleanupRules(
        enabled=given.get("enabled") is not False,
        after_deletion_s=given.get("afterDeletionSeconds") or 0,
        orphan_s=orphan_s,
        max_age_s=given.get("maxAgeSeconds"),
        period_s=DEFAULT_PERIOD_S if period_s is None else period_s,
    )


def recognize(directory: str, name: str) -> tuple[LeftoverKind, str] | None:
    """Return what a name in a directory of taskctl is, and the UID of its Task; None: not ours."""
    patterns = {
        LOGS_DIR: (LeftoverKind.LOG, _LOG),
        EXITS_DIR: (LeftoverKind.EXIT, _EXIT),
        TASKS_DIR: (LeftoverKind.TASK_DIR, _TASK),
    }
    if directory in patterns:
        kind, pattern = patterns[directory]
        if match := pattern.fullmatch(name):
            later = match.groupdict().get("segments")
            return LeftoverKind.LOG_SEGMENTS if later else kind, match["uid"]
        if kind is LeftoverKind.TASK_DIR and name.startswith(SWEPT_PREFIX):
            return LeftoverKind.SWEPT, ""
    elif directory == f"{OBJECTS_DIR}/{name[:2]}" and _OBJECT.fullmatch(name):
        return LeftoverKind.OBJECT, ""
    return (LeftoverKind.STRAY, "") if _STRAY.fullmatch(name) else None


def judge(
    file: Leftover, rules: CleanupRules, living: Collection[str], seen: Collection[str]
) -> Ruling:
    """Return what to do with a file.

    Args:
        file: as it was found, before ``living`` was asked for.
        rules: of the TaskCluster.
        living: UIDs of the Tasks that there are in the namespace.
        seen: UIDs of Tasks that were there at an earlier look.
    """
    orphaned = rules.orphan_s is not None and file.age_s >= rules.orphan_s
    match file.kind:
        case LeftoverKind.SWEPT:
            return Ruling.REMOVE
        case LeftoverKind.OBJECT:
            idle = rules.orphan_s is not None and file.age_s >= OBJECT_IDLE_S
            return Ruling.ASK if idle else Ruling.KEEP
        case LeftoverKind.STRAY:
            return Ruling.REMOVE if orphaned else Ruling.KEEP
    if file.uid in living:
        old = rules.max_age_s is not None and file.age_s >= rules.max_age_s
        return Ruling.ASK if old and file.kind is not LeftoverKind.EXIT else Ruling.KEEP
    known = file.uid in seen
    gone = file.age_s >= rules.after_deletion_s and (known or orphaned)
    return Ruling.REMOVE if gone else Ruling.KEEP


def age_s(now_s: float, modified_s: float, changed_s: float) -> float:
    """Return how old a file is, in seconds, at least 0.

    A task can set the time of its file (``modified_s``) to a day far ahead, so that it would never
    be old. The time of the last change of its entry (``changed_s``) it cannot set.
    """
    last_s = modified_s if modified_s <= now_s else min(changed_s, modified_s)
    return max(now_s - last_s, 0.0)
