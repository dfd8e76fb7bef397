"""Processes by pid file: started once, ended by their own pid, logs kept."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

STOP_S = 15.0


def _start_time(pid: int) -> str | None:
    """Return the start time in ticks: pid and start time together name one process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def _inherited() -> list[int]:
    """Return our descriptors that a child would get: a lock among them would never be freed."""
    numbers = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
    return [number for number in numbers if _is_inheritable(number)]


def _is_inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # that of the listing itself, closed by now
        return False


class Process:
    """One component of the node.

    Args:
        name: of the component; names the pid file and the log.
        directory: where both are.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._pid_file = directory / f"{name}.pid"

    def pid(self) -> int | None:
        """Return the pid if the process that was started is still running."""
        try:
            pid, started = self._pid_file.read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if _start_time(int(pid)) == started else None

    def start(self, command: list[str]) -> None:
        """Start the command unless it runs already."""
        if self.pid() is not None:
            return
        # Not subprocess: its objects complain when they are dropped before the process ends.
        append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        files: list[tuple[Any, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.log), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        files += [(os.POSIX_SPAWN_CLOSE, number) for number in _inherited()]
        pid = os.posix_spawnp(command[0], command, os.environ, file_actions=files, setsid=True)
        self._pid_file.write_text(f"{pid} {_start_time(pid)}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after 15 s."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while (pid := self.pid()) is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
            time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)
