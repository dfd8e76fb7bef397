"""The logs of several tasks: one after the other, or all at once as they grow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from taskctl.cli.access import Session
from taskctl.cli.logprint import LogPrinter, LogRequest
from taskctl.cli.logsink import ChunkWriter, Spool
from taskctl.cli.output import note
from taskctl.errors import Forbidden, TaskctlError
from taskctl.outside.attempts import last_begun, place_of
from taskctl.outside.logcopy import Copy, LocalCopy, find_copy

# How many logs are read at a time; each is a connection to the API server.
MAX_OPEN: Final = 32
# How many are read before it is their turn, where they are printed one after the other.
_AHEAD: Final = 4
# How long a log may say nothing after its task has ended, before the rest is given up.
QUIET_S: Final = 10.0
# For so long it stays true where the copies of a TaskCluster's logs are.
_COPY_KNOWN_S: Final = 10.0

WriterFor = Callable[[dict[str, Any]], ChunkWriter]


@dataclass(slots=True)
class _LogReader:
    """What is printed of one Task.

    Attributes:
        task: raw, as last seen.
        writer: where its log goes.
        printed: number of the latest attempt that was begun to be printed.
        job: prints; None: nothing to print just now.
    """

    task: dict[str, Any]
    writer: ChunkWriter
    printed: int
    job: asyncio.Task[None] | None = None


class LogGroup:
    """Prints the logs of Tasks that a watch tells it of, or of Tasks that are given.

    Args:
        session: client and namespace.
        writer_for: returns where the log of a raw Task goes; called once for each Task.
        wanted: what to print.

    Attributes:
        lost: how many logs could not be printed whole; each was told on stderr.
    """

    def __init__(self, session: Session, writer_for: WriterFor, wanted: LogRequest) -> None:
        self._session = session
        self._writer_for = writer_for
        self._wanted = wanted
        self._open = asyncio.Semaphore(MAX_OPEN)
        self._readers: dict[str, _LogReader] = {}
        self._copies: dict[str, tuple[float, Copy | None]] = {}
        self._bytes = 0
        self._told_full = False
        self.lost = 0

    # --- as they grow -------------------------------------------------------------------

    def see(self, task: dict[str, Any], *, latest_only: bool = False) -> None:
        """Note how a raw Task stands now; attempts that have begun are printed by and by.

        Args:
            task: as the API server has it.
            latest_only: where the Task was not seen before, leave out its earlier attempts.
        """
        uid, begun = task["metadata"]["uid"], last_begun(task)
        reader = self._readers.get(uid)
        if reader is None:
            if not begun:
                return
            printed = begun - 1 if latest_only else 0
            reader = _LogReader(task, _Counted(self._writer_for(task), self._count), printed)
            self._readers[uid] = reader
        reader.task = task
        if reader.printed < begun and reader.job is None:
            if self._open.locked() and not self._told_full:
                self._told_full = True
                note(f"({MAX_OPEN} logs are followed at a time; others come when one has ended)")
            name = f"log of {task['metadata']['name']}"
            reader.job = asyncio.create_task(self._print_attempts(reader), name=name)

    async def drained(self, uid: str = "") -> None:
        """Wait until everything is printed that has been written; all Tasks seen have ended.

        A log that gives no sign of life for QUIET_S is given up, which is told.

        Args:
            uid: of the Task to wait for; empty: of all.
        """
        while jobs := self._jobs(uid):
            before = self._bytes
            done, left = await asyncio.wait(
                jobs, timeout=QUIET_S, return_when=asyncio.FIRST_COMPLETED
            )
            if done or self._bytes != before:
                continue
            for reader in list(self._readers.values()):
                if reader.job in left:
                    self._lose(reader.task, "the rest of its log does not come")
            await _cancel(left)

    async def close(self) -> None:
        """Stop printing."""
        await _cancel(self._jobs())

    def _jobs(self, uid: str = "") -> set[asyncio.Task[None]]:
        readers = self._readers.values() if not uid else [self._readers.get(uid)]
        return {reader.job for reader in readers if reader is not None and reader.job is not None}

    async def _print_attempts(self, reader: _LogReader) -> None:
        try:
            while reader.printed < last_begun(reader.task):
                reader.printed += 1
                again = reader.printed > 1
                async with self._open:
                    if again:
                        reader.writer.write(f"--- attempt {reader.printed} ---\n".encode())
                    await self._print(reader.task, reader.printed, reader.writer, again=again)
        finally:
            reader.job = None

    # --- one after the other ------------------------------------------------------------

    async def print_all(self, tasks: Iterable[dict[str, Any]]) -> int:
        """Print the log of the latest attempt of each raw Task, in their order.

        Returns:
            Of how many Tasks; the others have not begun.
        """
        ahead: deque[tuple[dict[str, Any], Spool, asyncio.Task[None]]] = deque()
        number = 0
        try:
            for task in tasks:
                attempt = last_begun(task)
                if not attempt:
                    continue
                number += 1
                spool = Spool()
                job = asyncio.create_task(self._print(task, attempt, spool))
                ahead.append((task, spool, job))
                if len(ahead) >= _AHEAD:
                    await self._pour(*ahead[0])
                    ahead.popleft()
            while ahead:
                await self._pour(*ahead[0])
                ahead.popleft()
        finally:
            await _cancel({job for _, _, job in ahead})
            for _, spool, _ in ahead:
                spool.close()
        return number

    async def _pour(self, task: dict[str, Any], spool: Spool, job: asyncio.Task[None]) -> None:
        await job
        spool.pour(self._writer_for(task))
        spool.close()

    # --- both ---------------------------------------------------------------------------

    async def _print(
        self, task: dict[str, Any], attempt: int, writer: ChunkWriter, *, again: bool = False
    ) -> None:
        name = task["metadata"]["name"]
        try:
            copy = await self._copy(task)
            printer = LogPrinter(
                self._session,
                copy,
                replace(self._wanted, tail=None) if again else self._wanted,
                writer=writer,
                tell=lambda text: note(f"({name}: {text.strip('()')})"),
                compare=isinstance(copy, LocalCopy),
            )
            await printer.print_attempt(place_of(task, attempt))
        except TaskctlError as error:
            self._lose(task, str(error))

    def _lose(self, task: dict[str, Any], why: str) -> None:
        self.lost += 1
        name = task["metadata"]["name"]
        note(f"({name}: {why}; taskctl logs {name} tries again)")

    async def _copy(self, task: dict[str, Any]) -> Copy | None:
        cluster, now = task["spec"]["clusterName"], asyncio.get_running_loop().time()
        until, copy = self._copies.get(cluster, (0.0, None))
        if until < now:
            try:
                copy = await find_copy(self._session, task)
            except Forbidden:  # who may read logs need not see TaskClusters and pods
                copy = None
            self._copies[cluster] = now + _COPY_KNOWN_S, copy
        return copy

    def _count(self, size: int) -> None:
        self._bytes += size


class _Counted:
    """A writer that tells how much went there."""

    def __init__(self, writer: ChunkWriter, count: Callable[[int], None]) -> None:
        self._writer = writer
        self._count = count

    def write(self, chunk: bytes) -> None:
        self._count(len(chunk))
        self._writer.write(chunk)

    def end(self) -> None:
        self._writer.end()


async def _cancel(jobs: set[asyncio.Task[None]]) -> None:
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
