"""Processes by pid file: started once, ended by their own pid, logs kept."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

STOP_S = 15.0


def _start_time(pid: int) -> str | None:
    """Return the start time in ticks: pid and start time together name one process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


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
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._pid_file.write_text(f"{process.pid} {_start_time(process.pid)}")

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
        while self.pid() is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
            time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)
