"""The copy of a task's log in the workspace: on this machine, or through a worker.

The copy is whole where the container's log is not: a kubelet keeps about 10 MiB of that, and
serves what came since its latest rotation. But tasks can write in the workspace, so nothing
there is trusted: no symbolic link is followed, and only regular files are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from taskctl.constants import AGENT_CONTAINER
from taskctl.errors import ApiError, Forbidden, TaskctlError
from taskctl.outside.logpieces import CHUNK_BYTES, LogPart, LogPieces
from taskctl.outside.session import Session
from taskctl.outside.workspace import (
    LocalWorkspace,
    WorkerWorkspace,
    find_workspace,
    recorded_workspace,
)
from taskctl.policy.runcluster import cluster_of_task

if TYPE_CHECKING:
    pass

COPY_VERB: Final = "workspace-log"
NO_COPY: Final = "none"  # what the verb says instead of a size
_CHUNK: Final = 64 * 1024
_HEAD_BYTES: Final = 64
_LOCAL_POLL_S: Final = 0.3
# Each look through a worker starts a process there.
_WORKER_POLL_S: Final = 2.0


class CopyError(TaskctlError):
    """The copy is not there, or cannot be read."""


class CopyMissing(CopyError):
    """There is no copy."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt ran.

    Attributes:
        task: name of the Task.
        uid: its UID.
        attempt: number.
        pod: the worker, or empty.
        container: in that pod.
    """

    task: str
    uid: str
    attempt: int
    pod: str = ""
    container: str = ""


class Copy(Protocol):
    """The copies of the logs in one workspace."""

    @property
    def poll_s(self) -> float:
        """How often to look for more, in seconds."""
        ...

    async def size(self, place: Place) -> int:
        """Return how many bytes the copy has.

        Raises:
            CopyError: it is not there, or cannot be read.
        """
        ...

    def read(
        self, place: Place, *, offset: int = 0, tail: int | None = None
    ) -> AsyncGenerator[LogPart, None]:
        """Yield the copy from ``offset`` on, or its last lines, with a mark where it was cut.

        Raises:
            CopyError: it is not there, or cannot be read.
        """
        ...


async def find_copy(session: Session, task: Mapping[str, Any]) -> Copy | None:
    """Return the way to the copies of the logs of a raw Task, or None if there is none.

    Raises:
        ApiError: the API server refuses to tell, or is away.
    """
    way = await find_workspace(session, cluster_of_task(task))
    match way or await recorded_workspace(session, task):
        case LocalWorkspace(directory):
            return LocalCopy(directory)
        case WorkerWorkspace(pod):
            return WorkerCopy(session, pod)
    return None


# --- on this machine ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """The workspace is a directory here."""

    directory: Path
    poll_s: float = _LOCAL_POLL_S

    async def size(self, place: Place) -> int:
        """Return the size of the log, with what was cut."""
        return await asyncio.to_thread(copy_size, self.directory, place)

    async def read(
        self, place: Place, *, offset: int = 0, tail: int | None = None
    ) -> AsyncGenerator[LogPart, None]:
        """Yield the copy from ``offset`` on, as far as it reaches now."""
        if tail is not None:
            offset = await asyncio.to_thread(copy_tail_offset, self.directory, place, tail)
        while part := await asyncio.to_thread(read_copy, self.directory, place, offset):
            yield part
            offset = part.end


def copy_size(directory: Path, place: Place) -> int:
    """Return how many bytes the log had whose copy is in a workspace. Blocking.

    Raises:
        CopyError: it does not exist, or is not a regular file below the workspace.
    """
    with _readable(place):
        return _pieces(directory, place).size()


def read_copy(directory: Path, place: Place, offset: int) -> LogPart | None:
    """Return up to 64 KiB of the copy in a workspace; None at its end. Blocking.

    Raises:
        CopyError: as :func:`copy_size`.
    """
    with _readable(place):
        return _pieces(directory, place).read(offset)


def copy_tail_offset(directory: Path, place: Place, lines: int) -> int:
    """Return where the last ``lines`` lines of the copy in a workspace begin. Blocking.

    Raises:
        CopyError: as :func:`copy_size`.
    """
    with _readable(place):
        return _pieces(directory, place).tail_offset(lines)


def _pieces(directory: Path, place: Place) -> LogPieces:
    from taskctl.agent.workspace import log_file

    return LogPieces(directory, log_file(place.task, place.uid, place.attempt))


@contextmanager
def _readable(place: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _not_readable(place, error) from error


def _not_readable(place: Place, error: OSError) -> CopyError:
    what = f"the copy of the log of attempt {place.attempt} of {place.task} in the workspace"
    if isinstance(error, FileNotFoundError):
        return CopyMissing(f"{what} is not there")
    return CopyError(f"{what} cannot be read: {error.strerror or error}")


# --- frames, in which a worker sends parts -------------------------------------------


def to_frame(part: LogPart) -> bytes:
    """Return a part as a worker sends it."""
    return f"{len(part.data)} {part.end} {int(part.cut)}\n".encode() + part.data


class FrameReader:
    """Takes parts out of what a worker sends."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[LogPart]:
        """Yield the parts that are complete with this chunk.

        Raises:
            CopyError: what was sent is none.
        """
        self._rest += chunk
        while (head := self._rest.find(b"\n", 0, _HEAD_BYTES)) >= 0:
            words = bytes(self._rest[:head]).split()
            if len(words) != 3 or not all(word.isdigit() for word in words):
                raise CopyError("the worker sent something other than the log")
            size, end, cut = map(int, words)
            if size > 2 * CHUNK_BYTES:
                raise CopyError("the worker sent something other than the log")
            if len(self._rest) < head + 1 + size:
                return
            yield LogPart(bytes(self._rest[head + 1 : head + 1 + size]), end, bool(cut))
            del self._rest[: head + 1 + size]
        if len(self._rest) >= _HEAD_BYTES:
            raise CopyError("the worker sent something other than the log")


# --- through a worker ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerCopy:
    """A living worker mounts the workspace; its agent's container reads it for us."""

    session: Session
    pod: str
    poll_s: float = _WORKER_POLL_S

    async def size(self, place: Place) -> int:
        """Ask the worker for the size."""
        output = bytearray()
        async with aclosing(self._run(place, "--size")) as chunks:
            async for chunk in chunks:
                output += chunk[:_CHUNK]
        if output.strip() == NO_COPY.encode():
            raise _not_readable(place, FileNotFoundError())
        if not output.strip().isdigit():
            raise CopyError(f"worker {self.pod} did not send the size of the log")
        return int(output)

    async def read(
        self, place: Place, *, offset: int = 0, tail: int | None = None
    ) -> AsyncGenerator[LogPart, None]:
        """Have the worker print the copy."""
        options = ["--offset", str(offset)] if tail is None else ["--tail", str(tail)]
        reader = FrameReader()
        async with aclosing(self._run(place, "--framed", *options)) as chunks:
            async for chunk in chunks:
                for part in reader.feed(chunk):
                    yield part

    async def _run(self, place: Place, *options: str) -> AsyncGenerator[bytes, None]:
        command = ["taskctl", COPY_VERB, place.task, place.uid, str(place.attempt), *options]
        client, namespace = self.session.client, self.session.namespace
        output = client.stream_output(self.pod, namespace, AGENT_CONTAINER, command)
        try:
            async with aclosing(output):
                async for chunk in output:
                    yield chunk
        except Forbidden as error:
            raise CopyError(
                f"the copy of the log cannot be read through worker {self.pod}: {error.message}; "
                "it takes the right to create and get pods/exec"
            ) from error
        except ApiError as error:
            raise CopyError(f"worker {self.pod}: {error.message}") from error
