"""What to do about failures that come from what a task can and cannot see. Pure.

A task runs in a container: it has a ``/tmp`` of its own, and the packages of its image. Users who
try the local stack for the first time meet both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from taskctl.api.states import TaskState
from taskctl.constants import Reason

_PRIVATE: Final = re.compile(r"(?<![\w./-])/(?:tmp|run|dev/shm)/[^\s'\":,;)]+")
_MODULE: Final = re.compile(r"ModuleNotFoundError: No module named '([\w.]{1,200})'")
_MISSING: Final = re.compile(r"no such file|cannot open|not found|can't open|does not exist", re.I)


def hint_for(task: Mapping[str, Any]) -> str:
    """Return in a sentence what to do about a failed raw Task; empty if that is not known."""
    status = task.get("status") or {}
    if status.get("state") != TaskState.FAILED:
        return ""
    message = str(status.get("message") or "")
    module = _MODULE.search(message)
    if module:
        return _module_hint(module[1])
    path = _PRIVATE.search(message)
    if path and _MISSING.search(message):
        return (
            f"A task has its own /tmp, /run and /dev/shm, so it does not see {path[0]} of the "
            "machine. Put the file into the image, the workspace ($TASKCTL_WORKSPACE), or, on the "
            "local stack, into another directory of this machine."
        )
    if status.get("reason") == Reason.COMMAND_NOT_FOUND:
        return (
            "A task runs the programs of its image; an image that the local stack does not know "
            "has those of this machine. Install the program there, name its full path, or give the "
            "image a source: taskctl image add NAME=SOURCE."
        )
    return ""


def _module_hint(module: str) -> str:
    package = module.partition(".")[0]
    return (
        f"The task's Python does not find the package {package}. If it is a folder of yours, send "
        'it along: taskctl run --code DIR, Client(code="DIR"). If it is to be installed, put it '
        "into the image, or on the local stack: taskctl image add NAME=requirements:FILE (or "
        "NAME=venv:DIR), and --image NAME."
    )
