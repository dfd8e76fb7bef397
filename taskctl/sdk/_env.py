"""What the environment says about the task; names as in docs/protocol.md.

:mod:`taskctl.constants` has the same names, but is not for old interpreters.
"""

from __future__ import annotations

import os

from taskctl.sdk.errors import NotInTask, SdkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SOCKET: Final = "TASKCTL_SOCKET"
TOKEN: Final = "TASKCTL_TOKEN"
KEYS: Final = "TASKCTL_KEYS"
DEADLINE: Final = "TASKCTL_DEADLINE_S"
DEFAULT_DEADLINE_S: Final = 60.0

OBJECTS_DIR: Final = ".taskctl/objects"
TASKS_DIR: Final = ".taskctl/tasks"


class _Preparing:
    preparing = False  # this process does not know its task yet


def set_preparing(preparing: bool) -> None:
    """Say whether this process waits for its run; see :mod:`taskctl.sdk._prepared`."""
    _Preparing.preparing = preparing


def in_task() -> bool:
    """Return whether taskctl started this process as a task.

    A program that asks before its run is known cannot be prepared: it ends, and the run starts
    one of its own.
    """
    if _Preparing.preparing:
        os._exit(1)
    return bool(os.environ.get(SOCKET)) and bool(os.environ.get(TOKEN))


def endpoint() -> tuple[str, str]:
    """Return the path of the agent's socket and the token for it.

    Raises:
        NotInTask: taskctl did not start this process.
    """
    if not in_task():
        raise NotInTask(
            f"this process was not started by taskctl as a task ({SOCKET} and {TOKEN} are not "
            "set): create a Task that runs it, or call the function directly without spawn()"
        )
    return os.environ[SOCKET], os.environ[TOKEN]


def deadline_s() -> float:
    """Return how many seconds the agent has to answer a request.

    Raises:
        SdkError: the variable does not hold a number.
    """
    text = os.environ.get(DEADLINE, "")
    if not text:
        return DEFAULT_DEADLINE_S
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value > 0:
        raise SdkError(f"{DEADLINE} is {text!r}; set it to a number of seconds above 0")
    return value
