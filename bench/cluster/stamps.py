"""Sees user code run without asking Kubernetes: each task writes a file into the workspace,
which is a directory of this machine; inotify says when, the file says at what time."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from pathlib import Path
from typing import Final, Self

FOLDER: Final = "bench"  # below the workspace
_CLOSE_WRITE: Final = 0x8
_HEAD: Final = struct.Struct("iIII")
_READ_BYTES: Final = 65536


def user_command(name: str, after: str = "") -> list[str]:
    """Return the command of a task: note the time in microseconds, then perhaps more."""
    return ["sh", "-c", f"echo $EPOCHREALTIME >/workspace/{FOLDER}/{name}; {after}".rstrip("; ")]


class Stamps:
    """The files that tasks have written, as they come.

    Args:
        workspace: directory of this machine behind the workspace.
    """

    def __init__(self, workspace: Path) -> None:
        self._folder = workspace / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._folder.chmod(0o777)  # tasks run as another user
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        path = os.fsencode(self._folder)
        if self._fd < 0 or self._libc.inotify_add_watch(self._fd, path, _CLOSE_WRITE) < 0:
            raise OSError(ctypes.get_errno(), f"inotify on {self._folder} fails")
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def expect(self, name: str) -> asyncio.Future[float]:
        """Return the time (seconds since 1970) that the task of that name will note.

        Ask before the task is started: what comes unasked is dropped.
        """
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[name] = future
        return future

    def _read(self) -> None:
        data, offset = os.read(self._fd, _READ_BYTES), 0
        while offset < len(data):
            _, _, _, length = _HEAD.unpack_from(data, offset)
            offset += _HEAD.size
            self._seen(data[offset : offset + length].rstrip(b"\0").decode())
            offset += length

    def _seen(self, name: str) -> None:
        path = self._folder / name
        future = self._waiting.pop(name, None)
        if future is not None and not future.done():
            future.set_result(float(path.read_text()))
        path.unlink(missing_ok=True)
