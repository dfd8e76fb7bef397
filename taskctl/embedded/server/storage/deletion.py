"""How an object is deleted: preconditions, grace, and what becomes of its dependents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from taskctl.clock import format_seconds, parse_time
from taskctl.embedded.server.refusals import errors
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.storage.records import GRACE, Record
from taskctl.embedded.server.values.meta import FINALIZER_FOREGROUND, FINALIZER_ORPHAN


class Propagation(StrEnum):
    """What becomes of an object's dependents (``DeleteOptions.propagationPolicy``)."""

    BACKGROUND = "Background"
    FOREGROUND = "Foreground"
    ORPHAN = "Orphan"


@dataclass(frozen=True, slots=True)
class Deletion:
    """How to delete.

    Attributes:
        grace_s: seconds until the object may go; 0 removes it at once, finalizers allowing.
        uid: refuse if the object has another UID.
        revision: refuse if the object has another resourceVersion.
        propagation: None leaves the object's finalizers as they are.
        graceful: the kind has grace periods. Then even a removal without grace begins with a
            version that is marked as being deleted, and watchers see both.
        prepare: changes the object when it is marked as being deleted.
    """

    grace_s: int = 0
    uid: str | None = None
    revision: str | None = None
    propagation: Propagation | None = None
    graceful: bool = False
    prepare: Callable[[Json], None] | None = None


def mark_deleted(meta: Json, grace_s: int, now: datetime) -> bool:
    """Set or shorten the deadline in an object's metadata.

    Args:
        meta: is changed.
        grace_s: seconds from the first request to delete.
        now: the time.

    Returns:
        Whether the deadline changed.
    """
    if "deletionTimestamp" in meta:
        before_s = int(meta.get(GRACE) or 0)
        if grace_s >= before_s:
            return False
        asked_at = parse_time(meta["deletionTimestamp"]) - timedelta(seconds=before_s)
        deadline = max(now, asked_at + timedelta(seconds=grace_s))
    else:
        deadline = now + timedelta(seconds=grace_s)
        if meta.get("generation"):
            meta["generation"] += 1
    meta["deletionTimestamp"] = format_seconds(deadline)
    meta[GRACE] = grace_s
    return True


def check_preconditions(old: Record, deletion: Deletion) -> None:
    """Compare UID and version (k8s.io/apiserver ``registry/rest/delete.go``, BeforeDelete).

    Raises:
        errors.StatusError: 409.
    """
    if deletion.uid is not None and deletion.uid != old.uid:
        why = (
            f"the UID in the precondition ({deletion.uid}) does not match the UID in record "
            f"({old.uid}). The object might have been deleted and then recreated"
        )
    elif deletion.revision is not None and deletion.revision != str(old.revision):
        why = (
            f"the ResourceVersion in the precondition ({deletion.revision}) does not match the "
            f"ResourceVersion in record ({old.revision}). The object might have been modified"
        )
    else:
        return
    raise errors.precondition_failed(old.resource, old.load()["kind"], old.name, why)


def set_propagation(meta: Json, propagation: Propagation | None) -> None:
    """Add the finalizer that makes the garbage collector act, and remove the other one."""
    if propagation is None:
        return
    wanted = {
        Propagation.ORPHAN: FINALIZER_ORPHAN,
        Propagation.FOREGROUND: FINALIZER_FOREGROUND,
        Propagation.BACKGROUND: None,
    }[propagation]
    before = meta.get("finalizers") or []
    after = [f for f in before if f not in (FINALIZER_ORPHAN, FINALIZER_FOREGROUND) or f == wanted]
    if wanted and wanted not in after:
        after.append(wanted)
    if after != before:
        meta["finalizers"] = after
        if not after:
            del meta["finalizers"]
