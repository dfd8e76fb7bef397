"""Printing the log of an attempt, whole: from its container, and where that has forgotten the
beginning, from the copy in the workspace.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import IO, Final

from taskctl.api.states import TaskState
from taskctl.cli.access import Session
from taskctl.cli.exits import CliError, ExitCode
from taskctl.cli.logsink import ChunkWriter, PlainWriter, Sink
from taskctl.cli.output import note
from taskctl.constants import LOGS_DIR
from taskctl.errors import ApiError, BadRequest, NotFound
from taskctl.outside.logcopy import Copy, CopyError, CopyMissing, Place

_SPOOL_BYTES: Final = 8 * 1024 * 1024
_CHUNK: Final = 64 * 1024
_BEGINNING_LOST: Final = (
    "(the container's log has lost its beginning; this is the copy in the workspace)"
)
# No kubelet rotates logs as short as this: its limit is 10 MiB unless an administrator lowers it.
_NEVER_ROTATED_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """What to print of a log, and how.

    Attributes:
        follow: until the attempt is over.
        tail: only so many lines from the end.
        timestamps: with the time of each line.
        filtered: it goes to a terminal, which must not act on it.
    """

    follow: bool = False
    tail: int | None = None
    timestamps: bool = False
    filtered: bool = False

    @property
    def everything(self) -> bool:
        """Whether what is printed is the log, byte for byte."""
        return self.tail is None and not self.timestamps


class LogPrinter:
    """Prints attempts of one Task.

    Args:
        session: client and namespace.
        copy: way to the workspace; None: there is none, or it cannot be reached.
        wanted: what to print.
        writer: where to; None: stdout.
        tell: what to do with what is to be said about the log.
        compare: find out by the copy whether the container's log is whole. Through a worker
            that starts a process there, which is too much for many tasks.
    """

    def __init__(
        self,
        session: Session,
        copy: Copy | None,
        wanted: LogRequest,
        *,
        writer: ChunkWriter | None = None,
        tell: Callable[[str], None] = note,
        compare: bool = True,
    ) -> None:
        self._session = session
        self._copy = copy
        self._wanted = wanted
        self._writer = writer
        self._tell = tell
        self._compare = compare

    async def print_attempt(self, place: Place, *, again: bool = False) -> None:
        """Print the log of an attempt.

        Args:
            place: where it ran.
            again: an earlier attempt was printed before, so a tail is no longer meant.

        Raises:
            CliError: it is not to be had, or part of it is missing.
        """
        if again and self._wanted.tail is not None:
            self._wanted = replace(self._wanted, tail=None)
        sink = Sink(self._writer or PlainWriter(filtered=self._wanted.filtered))
        try:
            if self._wanted.follow:
                await self._follow(place, sink)
            else:
                await self._print(place, sink)
        finally:
            sink.end()

    # --- the log as it is now -----------------------------------------------------------

    async def _print(self, place: Place, sink: Sink) -> None:
        size = asyncio.create_task(self._copy_size(place), name="size of the log's copy")
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spool:
            try:
                payload = await self._fetch(place, spool)
            except (NotFound, BadRequest) as error:
                await asyncio.gather(size, return_exceptions=True)
                await self._only_copy(place, sink, error)
                return
            except BaseException:
                size.cancel()
                raise
            whole = await size
            if self._is_whole(payload, whole):
                _pour(spool, sink)
                return
            missing = (whole or 0) - payload.size
            if self._wanted.timestamps:
                _pour(spool, sink)
                raise CliError(
                    f"the container's log has lost the first {missing} bytes of attempt "
                    f"{place.attempt}. The copy in the workspace has them, without times: leave "
                    "out --timestamps"
                )
        self._tell(
            "(the container's log has lost its beginning; this is the copy in the workspace)"
        )
        await self._print_copy(place, sink)

    async def _fetch(self, place: Place, spool: IO[bytes]) -> Payload:
        payload = Payload(timestamps=self._wanted.timestamps)
        async with aclosing(self._container(place, follow=False)) as chunks:
            async for chunk in chunks:
                spool.write(chunk)
                payload.add(chunk)
        return payload

    def _is_whole(self, payload: Payload, whole: int | None) -> bool:
        if whole is None or payload.size >= whole:
            return True
        return self._wanted.tail is not None and payload.lines >= self._wanted.tail

    async def _copy_size(self, place: Place) -> int | None:
        """Return how long the log is by the copy; None: unknown."""
        if self._copy is None or not self._compare:
            return None
        try:
            return await self._copy.size(place)
        except CopyMissing:
            return None
        except (CopyError, ApiError) as error:
            self._tell(f"(whether the log is whole could not be checked: {error})")
            return None

    def _container(self, place: Place, *, follow: bool) -> AsyncGenerator[bytes, None]:
        from taskctl.kube.interface import LogOptions

        if not place.pod:
            raise NotFound(f"attempt {place.attempt} of {place.task} left no worker behind")
        options = LogOptions(
            follow=follow, tail_lines=self._wanted.tail, timestamps=self._wanted.timestamps
        )
        return self._session.client.stream_log(
            place.pod, self._session.namespace, place.container, options=options
        )

    async def _only_copy(self, place: Place, sink: Sink, error: Exception) -> None:
        """Print the copy, the container's log being gone."""
        if self._copy is None:
            raise CliError(_gone(place, error), ExitCode.NOT_FOUND) from error
        if self._wanted.timestamps:
            raise CliError(
                f"the container's log is gone: {error}. The copy in the workspace has no times: "
                "leave out --timestamps",
                ExitCode.NOT_FOUND,
            ) from error
        try:
            await self._copy.size(place)
        except CopyError as second:
            raise CliError(f"{_gone(place, error)} ({second})", ExitCode.NOT_FOUND) from error
        self._tell(f"({error}; this is the copy in the workspace)")
        await self._print_copy(place, sink)

    async def _print_copy(self, place: Place, sink: Sink) -> None:
        assert self._copy is not None
        async with aclosing(self._copy.read(place, tail=self._wanted.tail)) as parts:
            async for part in parts:
                sink.write(part.data)

    # --- the log as it grows ------------------------------------------------------------

    async def _follow(self, place: Place, sink: Sink) -> None:
        if self._wanted.everything and await self._has_lost_its_beginning(place):
            self._tell(
                "(the container's log has lost its beginning; this is the copy in the workspace)"
            )
            await self._follow_copy(place, sink)
            return
        try:
            async with aclosing(self._container(place, follow=True)) as chunks:
                async for chunk in chunks:
                    sink.write(chunk)
        except ApiError as error:
            if not sink.count and isinstance(error, NotFound | BadRequest):
                await self._only_copy(place, sink, error)
                return
            if self._copy is None or not self._wanted.everything:
                raise
            self._tell(f"({error}; what follows is the copy in the workspace)")
            await self._follow_copy(place, sink)
            return
        if self._wanted.everything:
            await self._add_what_is_missing(place, sink)

    async def _has_lost_its_beginning(self, place: Place) -> bool:
        whole = await self._copy_size(place)
        if whole is None or whole < _NEVER_ROTATED_BYTES or not place.pod:
            return False
        payload = Payload()
        try:
            async with aclosing(self._container(place, follow=False)) as chunks:
                async for chunk in chunks:
                    payload.add(chunk)
        except (NotFound, BadRequest):
            return False
        return payload.size < whole

    async def _follow_copy(self, place: Place, sink: Sink) -> None:
        """Print the copy, as it grows, from where ``sink`` stands."""
        assert self._copy is not None
        offset = sink.count
        while True:
            over = await self._is_over(place)
            async with aclosing(self._copy.read(place, offset=offset)) as parts:
                async for part in parts:
                    sink.write(part.data)
                    offset = part.end
            if over:
                return
            await asyncio.sleep(self._copy.poll_s)

    async def _is_over(self, place: Place) -> bool:
        from taskctl.api.resources import TASKS
        from taskctl.policy.view import parse_task

        try:
            found = await self._session.client.get(TASKS, place.task, self._session.namespace)
        except NotFound:
            return True
        view = parse_task(found)
        same = view.uid == place.uid and view.attempt == place.attempt
        return not same or view.state is not TaskState.RUNNING

    async def _add_what_is_missing(self, place: Place, sink: Sink) -> None:
        """Compare with the copy, since a container's log may rotate faster than it is read."""
        whole = await self._copy_size(place)
        if whole is None or sink.count >= whole:
            return
        assert self._copy is not None
        missing, digest, left = whole - sink.count, hashlib.blake2b(), sink.count
        complete = False
        async with aclosing(self._copy.read(place)) as parts:
            async for part in parts:
                if part.cut and left:
                    break  # what was printed cannot be compared
                chunk = part.data
                digest.update(chunk[:left])
                rest, left = chunk[left:], max(0, left - len(chunk))
                if left:
                    continue
                complete = complete or sink.printed(digest.digest())
                if not complete:
                    break
                if rest:
                    sink.write(rest)
        if not complete:
            raise CliError(
                f"{missing} bytes are missing above: the container's log rotated faster than it "
                f"was read. For the whole log: taskctl logs --attempt {place.attempt} {place.task}"
            )


class Payload:
    """Counts what a container's log holds of a task's output.

    Args:
        timestamps: each line begins with a time, which does not count.
    """

    def __init__(self, *, timestamps: bool = False) -> None:
        self._timestamps = timestamps
        self._in_stamp = timestamps
        self.size = 0
        self.lines = 0

    def add(self, chunk: bytes) -> None:
        """Count a part of the log."""
        self.lines += chunk.count(b"\n")
        if not self._timestamps:
            self.size += len(chunk)
            return
        position = 0
        while position < len(chunk):
            if self._in_stamp:
                blank = chunk.find(b" ", position)
                if blank < 0:
                    return
                position, self._in_stamp = blank + 1, False
            end = chunk.find(b"\n", position)
            stop = len(chunk) if end < 0 else end + 1
            self.size += stop - position
            position, self._in_stamp = stop, end >= 0


def _pour(spool: IO[bytes], sink: Sink) -> None:
    spool.seek(0)
    while chunk := spool.read(_CHUNK):
        sink.write(chunk)


def _gone(place: Place, error: Exception) -> str:
    return (
        f"the log of attempt {place.attempt} is not to be had: {error}. If the TaskCluster has a "
        f"workspace, a copy is in there: {LOGS_DIR}/*.{place.uid}.{place.attempt}.log"
    )
