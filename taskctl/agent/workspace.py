"""The agent's part of the shared workspace: logs, exit records, large values.

Tasks write there too, so nothing in it is trusted: paths are walked without following
symbolic links (one could point at the agent's own secrets), only regular files are read, and
sizes are capped before anything is read. All functions block; call them in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taskctl import beneath
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.constants import (
    EXITS_DIR,
    LOG_SEGMENTS_SUFFIX,
    LOGS_DIR,
    OBJECTS_DIR,
    WORKSPACE_META_DIR,
)

logger = logging.getLogger(__name__)

MAX_READ_BYTES: Final = 8 * 1024 * 1024  # of a large value that is handed over as JSON text
MAX_RECORD_BYTES: Final = 64 * 1024
# Tasks run as whatever user their image names, and all of them write here. Like /tmp: what one
# user made, only that user and the agent, who owns the directories, can remove.
_DIRECTORY_MODE: Final = 0o1777
_FILE_MODE: Final = 0o644
_NAME_PART: Final = 180  # of 255 bytes that a file name may have
_SEGMENTS: Final = 64  # of a log that are looked at; a task can put files there
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Space:
    """Room in the file system of a workspace, in bytes.

    Attributes:
        size_bytes: all of it.
        free_bytes: what a user other than root may still use.
    """

    size_bytes: int
    free_bytes: int


class Workspace:
    """Files below ``<workspace>/.taskctl``.

    Args:
        root: where the workspace is mounted.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the directories; others may have made them before.

        A task can put anything in their place, so what is in the way is moved aside.

        Raises:
            OSError: the workspace cannot be written, or another process prevents it.
        """
        self._make("", WORKSPACE_META_DIR)
        for relative in (LOGS_DIR, EXITS_DIR, OBJECTS_DIR):
            self._make(WORKSPACE_META_DIR, relative.rpartition("/")[2])

    def try_prepare(self) -> None:
        """Make the directories if that is possible; else say in the log what does not work.

        A workspace that is full, or that a task has made useless, costs logs and large values,
        which are reported where they fail. It must not cost the worker.
        """
        try:
            self.prepare()
        except OSError as error:
            logger.error(
                "the workspace %s cannot be used: %s; logs, exit records and large values of tasks "
                "cannot be kept there until that is mended",
                self.root,
                error,
            )

    def _make(self, above: str, name: str) -> None:
        with beneath.directory(self.root, above) as parent:
            moved = beneath.make_directory(parent, name, _DIRECTORY_MODE)
        if moved:
            logger.warning(
                "%s in the workspace %s was not a directory that we can use; it was moved to %s",
                f"{above}/{name}".lstrip("/"),
                self.root,
                moved,
            )

    def log_path(self, task: str, task_uid: str, attempt: int) -> str:
        """Return where an attempt's output is copied to."""
        return str(self.root / log_file(task, task_uid, attempt))

    def record_path(self, task_uid: str, attempt: int) -> str:
        """Return where taskctl-init leaves an attempt's exit record."""
        return str(self.root / EXITS_DIR / f"{task_uid}-{attempt}")

    def read_record(self, task_uid: str, attempt: int) -> bytes | None:
        """Return an exit record; None while there is none.

        Raises:
            OSError: it exists, but is not a readable file of a sensible size.
        """
        try:
            return self._read(f"{EXITS_DIR}/{task_uid}-{attempt}", MAX_RECORD_BYTES)
        except FileNotFoundError:
            return None

    def remove_record(self, task_uid: str, attempt: int) -> None:
        """Remove an exit record that is in the API server now; it need not be there."""
        with contextlib.suppress(OSError), beneath.directory(self.root, EXITS_DIR) as directory:
            os.unlink(f"{task_uid}-{attempt}", dir_fd=directory)

    def log_bytes(self, task: str, task_uid: str, attempt: int) -> int:
        """Return the size of an attempt's log with what came later; 0: there is none to be seen."""
        log = log_file(task, task_uid, attempt)
        try:
            with beneath.regular_file(self.root, log) as (_, status):
                size = status.st_size
        except OSError:
            return 0
        with (
            contextlib.suppress(OSError),
            beneath.directory(self.root, log + LOG_SEGMENTS_SUFFIX) as later,
        ):
            for name in os.listdir(later)[:_SEGMENTS]:
                with contextlib.suppress(OSError):
                    size += os.stat(name, dir_fd=later, follow_symlinks=False).st_size
        return size

    def space(self) -> Space:
        """Return the size of the file system, and what is free of it.

        Raises:
            OSError: it does not answer.
        """
        status = os.statvfs(self.root)
        return Space(
            size_bytes=status.f_blocks * status.f_frsize,
            free_bytes=status.f_bavail * status.f_frsize,
        )

    def write_object(self, content: bytes) -> dict[str, Any]:
        """Store a value under its hash; return ``path``, ``sha256`` and ``size`` of its ref.

        Raises:
            OSError: the workspace cannot be written.
        """
        digest = hashlib.sha256(content).hexdigest()
        path = object_path(digest)
        reference = {"path": path, "sha256": digest, "size": len(content)}
        try:
            self._store(path, content)
        except OSError as error:
            if error.errno in _FULL:
                raise
            self.prepare()  # a task may have put something else in the way meanwhile
            self._store(path, content)
        return reference

    def _store(self, path: str, content: bytes) -> None:
        shelf, name = os.path.split(path)
        self._make(OBJECTS_DIR, os.path.basename(shelf))
        with beneath.directory(self.root, OBJECTS_DIR) as objects:
            os.fsync(objects)
        with beneath.directory(self.root, shelf) as directory:
            _write_once(directory, name, content)

    def check_object(self, path: str, size: int) -> None:
        """Make sure that a large value is there and has the size that was said.

        Raises:
            Refusal: ``bad_request``: it is not.
        """
        try:
            with beneath.regular_file(self.root, path) as (fd, status):
                found = status.st_size
                _renew(fd)
                if found == size:
                    return
        except OSError as error:
            raise Refusal(
                ErrorCode.BAD_REQUEST,
                f"ref.path: {path} cannot be read in the workspace: {error.strerror}",
            ) from error
        raise Refusal(
            ErrorCode.BAD_REQUEST, f"ref.size: is {size}, but the file {path} has {found} bytes"
        )

    def read_object(self, path: str, sha256: str) -> bytes:
        """Return a large value.

        Raises:
            Refusal: ``too_large``: over 8 MiB; ``rejected``: it cannot be read, or is not
                what was stored.
        """
        try:
            content = self._read(path, MAX_READ_BYTES)
        except _TooLargeError as error:
            raise Refusal(
                ErrorCode.TOO_LARGE,
                f"{path} has {error.size} bytes; at most {MAX_READ_BYTES} are handed over as "
                "json: ask for format value and read the file",
            ) from error
        except OSError as error:
            raise Refusal(
                ErrorCode.REJECTED, f"{path} cannot be read in the workspace: {error.strerror}"
            ) from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Refusal(ErrorCode.REJECTED, f"{path} is damaged: its SHA-256 is not {sha256}")
        return content

    def _read(self, relative: str, max_bytes: int) -> bytes:
        with beneath.regular_file(self.root, relative) as (fd, status):
            if status.st_size > max_bytes:
                raise _TooLargeError(status.st_size)
            with os.fdopen(os.dup(fd), "rb") as file:
                return file.read(max_bytes)


class _TooLargeError(OSError):
    def __init__(self, size: int) -> None:
        super().__init__(0, f"has {size} bytes, which is too large")
        self.size = size


def log_file(task: str, task_uid: str, attempt: int) -> str:
    """Return where an attempt's output is copied to, relative to the workspace.

    The name is for people, who look for it; the UID tells tasks apart that had the same name one
    after another, or in namespaces that share this workspace.
    """
    return f"{LOGS_DIR}/{task[:_NAME_PART]}.{task_uid}.{attempt}.log"


def object_path(sha256: str) -> str:
    """Return where a value with this hash lies, relative to the workspace."""
    return f"{OBJECTS_DIR}/{sha256[:2]}/{sha256}"


def _renew(fd: int) -> None:
    """Have a file count as new, so that the clean-up leaves it; another user's stays as it is."""
    with contextlib.suppress(OSError):
        os.utime(fd)


def _is_there(directory: int, name: str, size: int) -> bool:
    """Whether a value is there in full; if so, it is kept from being cleaned up."""
    try:
        fd = beneath.open_regular(directory, name)
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        if status.st_size != size:
            return False
        _renew(fd)
        # The clean-up may have taken the name away before it could see that.
        again = os.stat(name, dir_fd=directory, follow_symlinks=False)
        return again.st_ino == status.st_ino
    except FileNotFoundError:
        return False
    finally:
        os.close(fd)


def _write_once(directory: int, name: str, content: bytes) -> None:
    """Write a file whose name is its hash; if it is there in full, it is the same."""
    if _is_there(directory, name, len(content)):
        return
    temporary = f".{name}.{secrets.token_hex(4)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, _FILE_MODE, dir_fd=directory)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)
