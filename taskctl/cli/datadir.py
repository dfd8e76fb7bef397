"""The data directory of the local stack: its files, and the lock that makes it one stack."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskctl.cli.exits import CliError
from taskctl.errors import ConfigError

DEFAULT_DATA_DIR = ".taskctl"
_KEEP_LOG_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DataDir:
    """Names of the files in a data directory.

    Attributes:
        path: absolute.
    """

    path: Path

    @property
    def kubeconfig(self) -> Path:
        """Written by the server."""
        return self.path / "kubeconfig"

    @property
    def ready(self) -> Path:
        """There for as long as everything is up."""
        return self.path / "ready"

    @property
    def state(self) -> Path:
        """JSON with the process ids of the supervisor and its children."""
        return self.path / "local.json"

    @property
    def lock_file(self) -> Path:
        """Locked for as long as a supervisor lives."""
        return self.path / "lock"

    def log(self, component: str) -> Path:
        """Where a component's output goes."""
        return self.path / "logs" / f"{component}.log"

    def prepare(self) -> None:
        """Make the directory, for its owner alone.

        Raises:
            ConfigError: it cannot be made, or belongs to another user.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            (self.path / "logs").mkdir(mode=0o700, exist_ok=True)
            # Tokens and volumes do not belong in a repository.
            ignored = self.path / ".gitignore"
            if not ignored.exists():
                ignored.write_text("*\n")
        except OSError as error:
            raise ConfigError(
                f"cannot use {self.path} as data directory: {error}; choose another with --data-dir"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock; the kernel lets go of it when the process ends, however it ends.

        Raises:
            CliError: another stack has it.
        """
        with self.lock_file.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CliError(
                    f"a local stack already runs on {self.path} (pid {self._holder()}); stop it "
                    f"with `taskctl local stop`, or choose another directory with --data-dir"
                ) from error
            # On a full disk the process id cannot be written; the lock is what counts.
            with suppress(OSError):
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), f"{os.getpid()}\n".encode())
            yield

    def running_pid(self) -> int | None:
        """Return the supervisor's process id, or None if no supervisor runs."""
        try:
            with self.lock_file.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    holder = self._holder()
                    return int(holder) if holder.isdecimal() else 0
        except OSError:
            return None
        return None

    def write_state(self, pids: dict[str, int]) -> None:
        """Record the children's process ids."""
        self._write(self.state, {"pid": os.getpid(), "components": pids})

    def read_state(self) -> dict[str, Any]:
        """Return what :meth:`write_state` wrote; empty if nothing is there."""
        with suppress(OSError, json.JSONDecodeError):
            found = json.loads(self.state.read_text())
            return found if isinstance(found, dict) else {}
        return {}

    def mark_ready(self, url: str) -> None:
        """Write the file that says that the stack is up."""
        value = {"pid": os.getpid(), "url": url, "kubeconfig": str(self.kubeconfig)}
        self._write(self.ready, value)

    def mark_not_ready(self) -> None:
        """Take that back."""
        self.ready.unlink(missing_ok=True)

    def rotate_log(self, component: str) -> None:
        """Keep one older log, so that years of restarts do not fill the disk."""
        path = self.log(component)
        if path.exists() and path.stat().st_size > _KEEP_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))

    def log_tail(self, component: str, lines: int) -> list[str]:
        """Return the last lines of a component's log."""
        with suppress(OSError):
            with self.log(component).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 16384))
                text = file.read().decode(errors="replace")
            return text.splitlines()[-lines:]
        return []

    def _holder(self) -> str:
        with suppress(OSError):
            return self.lock_file.read_text().strip() or "unknown"
        return "unknown"

    @staticmethod
    def _write(path: Path, value: dict[str, Any]) -> None:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(value) + "\n")
        temporary.replace(path)


def home_directory() -> Path | None:
    """Return the user's home directory, or None where there is none."""
    with suppress(RuntimeError):
        return Path.home()
    return None


def stack_registry() -> Path | None:
    """Return where the local stacks of this user name their data directories, or None."""
    state = os.environ.get("XDG_STATE_HOME")
    if state:
        return Path(state) / "taskctl" / "stacks"
    home = home_directory()
    return None if home is None else home / ".local" / "state" / "taskctl" / "stacks"
