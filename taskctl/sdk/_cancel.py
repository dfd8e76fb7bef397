"""SIGTERM as an exception.

taskctl-init sends SIGTERM when the task is cancelled, has run too long or its worker goes
away, and SIGKILL after a grace period. Here it becomes :class:`TaskCancelled`: raised where
the main thread is, or, where an asyncio loop runs there, by cancelling the loop's tasks.

Only in the process that runs the task: what it forks, or starts by multiprocessing, dies of
SIGTERM as in any other program.
"""

from __future__ import annotations

import os
import sys

from taskctl.sdk.errors import TaskCancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any


class _State:
    requested = False
    in_child = False  # of os.fork()


def stop_requested() -> bool:
    """Return whether SIGTERM has come."""
    return _State.requested


def install() -> None:
    """Take SIGTERM over, unless the program handles it itself or this is not the main thread."""
    if _State.in_child or _is_worker_process():
        return
    import signal

    try:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_sigterm)
    except ValueError:  # only the main thread may
        pass


def _is_worker_process() -> bool:
    """Whether multiprocessing started this process."""
    process = sys.modules.get("multiprocessing.process")
    if process is None:
        return False
    # While such a process imports the program, it does not know its parent yet.
    is_starting = getattr(process.current_process(), "_inheriting", False)
    return bool(is_starting) or process.parent_process() is not None


def _after_fork() -> None:
    _State.in_child = True
    _State.requested = False
    signal = sys.modules.get("signal")
    if signal is not None and signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_after_fork)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    del number, frame
    if _State.requested:  # once is enough: the clean-up must not be interrupted
        return
    _State.requested = True
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            pass  # no loop in the main thread
        else:
            # An exception raised here would hit the loop's own code.
            loop.call_soon_threadsafe(_cancel_all, asyncio, loop)
            return
    raise TaskCancelled("the task is to stop (SIGTERM)")


def _cancel_all(asyncio: Any, loop: Any) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
