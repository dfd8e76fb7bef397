"""What a shim leaves in a container's directory (the format is described in ``shim/main.c``)."""

from __future__ import annotations

import fcntl
import itertools
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

SPEC_FILE = "spec"
CLAIM_FILE = "claim"
STARTED_FILE = "started"
EXIT_FILE = "exit"
LOG_FILE = "log"
OLD_LOG_FILE = "log.1"
TMP_DIR = "tmp"
UPPER_DIR = "upper"
WORK_DIR = "work"
IMAGE_FILE = "image"
TERMINATION_FILE = "termination-log"

_ACCOUNT_PATH = b"/var/run/secrets/kubernetes.io/serviceaccount"
_PORT_VARIABLE = b"KUBERNETES_SERVICE_PORT="
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Liveness(StrEnum):
    """What a container's directory says about its shim."""

    NEVER = "never"  # no shim has claimed the directory
    ALIVE = "alive"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a run ended.

    Attributes:
        code: exit code; 128 + signal when a signal ended the program.
        signal: 0 when none did.
        start_error: the program never ran; ``code`` is 127, 126 or 128 and ``message`` says why.
        oom: the machine killed a process for want of memory meanwhile: a hint.
        started_at: None when the program never ran.
        finished_at: when the end was seen.
        message: for people.
    """

    code: int
    signal: int = 0
    start_error: bool = False
    oom: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    message: str = ""


def from_ns(ns: int) -> datetime | None:
    """Turn nanoseconds since 1970 into a moment; 0 means none."""
    return _EPOCH + timedelta(microseconds=ns // 1000) if ns else None


def read_exit(directory: Path) -> ExitRecord | None:
    """Read the exit record; None when there is none (yet)."""
    fields = _read_fields(directory / EXIT_FILE)
    if fields is None:
        return None
    return ExitRecord(
        code=_number(fields, "code", 1),
        signal=_number(fields, "signal"),
        start_error=bool(_number(fields, "start_error")),
        oom=bool(_number(fields, "oom")),
        started_at=from_ns(_number(fields, "started_ns")),
        finished_at=from_ns(_number(fields, "finished_ns")),
        message=fields.get("message", ""),
    )


def read_started(directory: Path) -> datetime | None:
    """Return when the program was started; None when it was not (yet)."""
    fields = _read_fields(directory / STARTED_FILE)
    return None if fields is None else from_ns(_number(fields, "started_ns"))


def liveness(directory: Path) -> tuple[Liveness, int]:
    """Say whether the directory's shim lives, and its process id (0 when it does not).

    The shim holds a lock on its claim for as long as it lives. That is proof against a process
    id that was given to another process meanwhile.
    """
    try:
        fd = os.open(directory / CLAIM_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Liveness.NEVER, 0
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(fd, 32).strip()
        return Liveness.ALIVE, int(text) if text.isdigit() else 0
    else:
        return Liveness.DEAD, 0
    finally:
        os.close(fd)


def server_port(directory: Path) -> str | None:
    """Return the API server's port as a container was told it that has a token for that server.

    None where it has no token, and so nothing to ask the server.
    """
    try:
        tokens = (directory / SPEC_FILE).read_bytes().split(b"\0")
    except OSError:
        return None
    if _ACCOUNT_PATH not in tokens:
        return None
    for keyword, operand in itertools.pairwise(tokens):
        if keyword == b"env" and operand.startswith(_PORT_VARIABLE):
            return operand.removeprefix(_PORT_VARIABLE).decode("utf-8", "replace")
    return None


def write_image(directory: Path, image_id: str) -> None:
    """Note which image a run is of."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(directory / IMAGE_FILE, image_id.encode())


def read_image(directory: Path) -> str:
    """Return which image a run is of; empty where it runs the host's programs."""
    try:
        return (directory / IMAGE_FILE).read_text("utf-8", "replace")
    except OSError:
        return ""


def read_tail(path: Path, limit: int) -> str:
    """Return at most the last ``limit`` bytes of a file as text, empty when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    temporary.replace(path)


def _read_fields(path: Path) -> dict[str, str] | None:
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return None
    return dict(line.partition(" ")[::2] for line in text.splitlines())


def _number(fields: dict[str, str], key: str, default: int = 0) -> int:
    try:
        return int(fields.get(key, default))
    except ValueError:
        return default
