"""Another run of a tree that had ended (``taskctl retry``)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from taskctl.clock import format_micro
from taskctl.policy.notify import noted, receivers
from taskctl.policy.status import StatusPatch
from taskctl.policy.view import TaskView

_EMPTY: Final[Mapping[str, Any]] = {}


def run_again(root: TaskView, now: datetime) -> StatusPatch:
    """Return the patch of ``status`` with which a tree that had ended begins another run.

    The patch overwrites how the run before has ended, so it also notes what the receivers of that
    run are owed.
    """
    run = int((root.status.get("tree") or _EMPTY).get("run") or 1)
    tree: StatusPatch = {"run": run + 1, "since": format_micro(now), "timedOut": None}
    if receivers(root):
        tree["notifications"] = noted(root, now)
    return {"tree": tree}
