"""The colours that states and outcomes have on the dashboard: those of the page and the terminal.

Without them, Grafana gives the colours of its palette to the lines in alphabetical order, and what
failed may be green. A colour is one of Grafana's names, which suits its light and its dark theme,
or a greyish one that can be read on both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taskctl.api.states import TaskState

_GOOD: Final = "green"
_BAD: Final = "red"
_UNSURE: Final = "orange"
_ACTIVE: Final = "blue"
_WAITING: Final = "yellow"
_STOPPED: Final = "#9286b4"
_IDLE: Final = "#a3a9b3"
_PAST: Final = "#747a84"

TASK_STATES: Final[Mapping[str, str]] = {
    TaskState.PENDING: _IDLE,
    TaskState.SCHEDULED: _WAITING,
    TaskState.RUNNING: _ACTIVE,
    TaskState.SUCCEEDED: _GOOD,
    TaskState.FAILED: _BAD,
    TaskState.CANCELLED: _STOPPED,
    TaskState.SKIPPED: _PAST,
}
AGENT_STARTS: Final[Mapping[str, str]] = {
    "own": _ACTIVE,
    "standby": _WAITING,
    "handed over": _STOPPED,
    "claims won": _GOOD,
    "claims lost": _UNSURE,  # of containers that race for an attempt, one wins
    "children": _IDLE,
}
# What agents recorded; one that did not count any more was dropped.
RECORDED: Final[Mapping[str, str]] = {**TASK_STATES, "Dropped": _UNSURE}
ATTEMPTS: Final[Mapping[str, str]] = {"failed": _BAD, "lost": _UNSURE}
WORKER_STATES: Final[Mapping[str, str]] = {
    "coming": _WAITING,
    "serving": _GOOD,
    "worn": _UNSURE,
    "retiring": _IDLE,
}
# Rotation and scaling down are as they should be; a worker that was lost is not.
WORKERS_REMOVED: Final[Mapping[str, str]] = {
    "worn": _WAITING,
    "aged": _ACTIVE,
    "outdated": _STOPPED,
    "surplus": _GOOD,
    "leaving": _PAST,
    "workspace": _UNSURE,
    "lost": _BAD,
    "deleted": _IDLE,
}
RECONCILES: Final[Mapping[str, str]] = {
    "success": _GOOD,
    "requeue_after": _ACTIVE,
    "conflict": _WAITING,
    "terminal": _UNSURE,
    "timeout": _STOPPED,
    "error": _BAD,
    "panic": _BAD,
}
SPANS: Final[Mapping[str, str]] = {"made": _ACTIVE, "exported": _GOOD, "failed": _BAD}
HISTORY_REQUESTS: Final[Mapping[str, str]] = {
    "answered": _GOOD,
    "refused": _UNSURE,
    "bad": _STOPPED,
    "busy": _WAITING,
    "failed": _BAD,
}
