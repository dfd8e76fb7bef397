"""A program that was started before its run is known ("Prepared commands" in docs/protocol.md).

taskctl-init may start ``python -m taskctl.sdk.run module:function`` ahead. Python starts, and the
module is imported; then the process waits on a socket until it is told its run. What belongs to
one run alone, its token and its names, is not there before.
"""

from __future__ import annotations

import os
import sys

from taskctl.sdk import _env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

VARIABLE: Final = "TASKCTL_PREPARED"  # number of the socket
_READY: Final = b"R"
_HEAD_BYTES: Final = 4
# What waits takes no slot: it must not take the memory that running tasks need.
MAX_WAITING_BYTES: Final = 128 * 1024 * 1024


def take_socket() -> int | None:
    """Return the socket on which the run is to be waited for; None: this is an ordinary run.

    Only the first call finds it, and programs that this one starts do not.
    """
    text = os.environ.pop(VARIABLE, "")
    if not text.isdecimal():
        return None
    try:
        os.set_inheritable(int(text), False)
    except OSError:
        return None
    return int(text)


def wait_for_run(socket: int, load: Callable[[], None]) -> None:
    """Load what the run will need, wait for it, and become it. Returns when it is to begin.

    Whatever goes wrong before ends this process without a word: the run then starts one of its
    own, which says what is wrong. Where a file that was loaded has changed since, the program is
    started once more, in this process.
    """
    _env.set_preparing(True)
    try:
        load()
        if _resident_bytes() > MAX_WAITING_BYTES:
            os._exit(1)
        before = _loaded_files()
        os.write(socket, _READY)
        told = _read_run(socket)
    except BaseException:  # noqa: BLE001  (the module may do anything, also exit)
        os._exit(1)
    os.close(socket)
    _env.set_preparing(False)
    _set_environment(told)
    if _loaded_files() != before:
        _start_again()


def _read_run(socket: int) -> bytes:
    length = int.from_bytes(_read(socket, _HEAD_BYTES), "big")
    return _read(socket, length)


def _read(socket: int, count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = os.read(socket, count - len(content))
        if not part:
            os._exit(0)  # the supervisor has gone
        content += part
    return content


def _set_environment(told: bytes) -> None:
    """Put the whole environment of the run in place of that of the preparation."""
    given = dict(entry.split(b"=", 1) for entry in told.split(b"\0") if b"=" in entry)
    current = os.environb
    for name in [name for name in current if name not in given]:
        del current[name]
    for name, value in given.items():
        if current.get(name) != value:
            current[name] = value


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _loaded_files() -> dict[str, tuple[int, int, int, int] | None]:
    """Return what tells that a file of a loaded module was changed, by its path."""
    found: dict[str, tuple[int, int, int, int] | None] = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if type(path) is str:
            found[path] = _stamp(path)
    return found


def _stamp(path: str) -> tuple[int, int, int, int] | None:
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return None  # in an archive, or gone
    return seen.st_mtime_ns, seen.st_size, seen.st_ino, seen.st_dev


def _start_again() -> None:
    """Start this program once more with the run's environment."""
    with open("/proc/self/cmdline", "rb") as file:
        arguments = file.read().split(b"\0")[:-1]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, arguments, os.environb)
