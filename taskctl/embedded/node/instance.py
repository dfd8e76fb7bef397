"""One run of a container: starting its shim, or taking over one that a former node started."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from taskctl.embedded.node import records
from taskctl.embedded.node.model import RunState
from taskctl.embedded.node.records import ExitRecord, Liveness

log = logging.getLogger(__name__)

# The shim's exit status when another shim owns the directory.
_CLAIMED: Final = 3
_NOTIFY_FD: Final = 3
# How often the lock of a shim is tried where the kernel has no pidfd (before 5.3).
_POLL_S: Final = 0.25
LOST_MESSAGE: Final = "The container could not be located when the node looked for it"


class Instance:
    """A container's directory and the shim that works in it.

    Must be used on a running event loop.

    Args:
        directory: of this run; created when it is launched.
        shim: the shim's binary.
        on_change: called, on the loop, when ``state`` has changed.
    """

    def __init__(self, directory: Path, shim: Path, on_change: Callable[[], None]) -> None:
        self.directory = directory
        self.state = RunState.ABSENT
        self.started_at: datetime | None = None
        self.exit: ExitRecord | None = None
        self.lost = False
        self._shim = shim
        self._on_change = on_change
        self._child_pid = 0
        self._pidfd = -1
        self._notify_fd = -1
        self._poll: asyncio.TimerHandle | None = None
        self._heard = b""

    def launch(self, spec: bytes) -> None:
        """Start the shim.

        Raises:
            OSError: the directory cannot be written or the shim cannot be started.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        records.write_private(self.directory / records.SPEC_FILE, spec)
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._child_pid = self._spawn(writing)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self.state = RunState.STARTING
        self._notify_fd = reading
        asyncio.get_running_loop().add_reader(reading, self._on_notice)
        self._watch(self._child_pid)

    def adopt(self) -> None:
        """Take over what is on disk; leaves ``state`` ABSENT when no shim has ever run here."""
        alive, pid = records.liveness(self.directory)
        if alive is Liveness.NEVER:
            return
        self.started_at = records.read_started(self.directory)
        if alive is Liveness.DEAD:
            self._conclude()
            return
        self.state = RunState.RUNNING if self.started_at else RunState.STARTING
        self._child_pid = pid  # it may be this process's child: then it must be waited for
        self._watch(pid)
        # The process id could have been given away between the look and pidfd_open.
        if records.liveness(self.directory)[0] is Liveness.DEAD:
            self._finish()

    def terminate(self) -> None:
        """Send SIGTERM to the program."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the container; the shim records it."""
        self._signal(signal.SIGUSR1)

    def kill_shim(self) -> None:
        """Kill the shim itself, and by that the container; no exit is recorded."""
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Stop watching; the container keeps running."""
        loop = asyncio.get_running_loop()
        for fd in (self._pidfd, self._notify_fd):
            if fd >= 0:
                loop.remove_reader(fd)
                os.close(fd)
        self._pidfd = self._notify_fd = -1
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

    def _spawn(self, notify_fd: int) -> int:
        null = os.devnull
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, null, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, null, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, null, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, notify_fd, _NOTIFY_FD),
        ]
        argv = [str(self._shim), str(self.directory), str(_NOTIFY_FD)]
        # The shim needs nothing of the node's environment, so a container cannot inherit it.
        return os.posix_spawn(str(self._shim), argv, {}, file_actions=actions)

    def _watch(self, pid: int) -> None:
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            asyncio.get_running_loop().call_soon(self._finish)
        except OSError:
            self._poll_later()
        else:
            asyncio.get_running_loop().add_reader(self._pidfd, self._finish)

    def _poll_later(self) -> None:
        self._poll = asyncio.get_running_loop().call_later(_POLL_S, self._on_poll)

    def _on_poll(self) -> None:
        if records.liveness(self.directory)[0] is Liveness.ALIVE or self._child_lives():
            self._poll_later()
        else:
            self._finish()

    def _child_lives(self) -> bool:
        if not self._child_pid:
            return False
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(self._child_pid, os.WNOHANG)[0] == 0
        return False

    def _on_notice(self) -> None:
        try:
            data = os.read(self._notify_fd, 4096)
        except BlockingIOError:
            return
        if not data:  # the shim is about to end; its pidfd says when
            asyncio.get_running_loop().remove_reader(self._notify_fd)
            os.close(self._notify_fd)
            self._notify_fd = -1
            return
        self._heard += data
        if b"\n" in self._heard and self.state is RunState.STARTING:
            words = self._heard.split()
            self.started_at = records.from_ns(int(words[2])) if len(words) > 2 else None
            self.state = RunState.RUNNING
            self._on_change()

    def _finish(self) -> None:
        """The shim has ended (or is not the one that owns the directory)."""
        self.close()
        status = 0
        if self._child_pid:
            with contextlib.suppress(ChildProcessError):
                status = os.waitstatus_to_exitcode(os.waitpid(self._child_pid, os.WNOHANG)[1])
            self._child_pid = 0
        if status == _CLAIMED:
            log.warning("another shim runs %s; watching that one", self.directory)
            self.state = RunState.ABSENT
            self.adopt()
            if self.state is RunState.ABSENT:  # claimed, yet no claim: the directory is not ours
                self._conclude()
        else:
            self._conclude()
        self._on_change()

    def _conclude(self) -> None:
        if self.started_at is None:
            self.started_at = records.read_started(self.directory)
        self.exit = records.read_exit(self.directory)
        self.lost = self.exit is None
        if self.exit is None:
            # As the kubelet: a container that vanished gets an exit code that it never had.
            self.exit = ExitRecord(code=137, started_at=self.started_at, message=LOST_MESSAGE)
        elif self.exit.started_at is not None:
            self.started_at = self.exit.started_at
        self.state = RunState.EXITED

    def _signal(self, number: signal.Signals) -> None:
        if self.state not in (RunState.STARTING, RunState.RUNNING):
            return
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
                return
            alive, pid = records.liveness(self.directory)
            if alive is Liveness.ALIVE and pid:
                os.kill(pid, number)
