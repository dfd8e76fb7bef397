"""Writes a line for each transition of a Task that an informer tells of.

The informer's loop never waits for the disk: transitions wait in a queue, which a thread empties. A
disk that is full, or a directory that is away, is said in the log and tried again; what the queue
has no room for meanwhile is counted, and the next line that is written says how much is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.backoff import EXACT, Backoff
from taskctl.clock import Clock
from taskctl.errors import ConfigError
from taskctl.history.files import HistoryFiles
from taskctl.history.lines import Transition, encode, noted_of, peek, sequence_of
from taskctl.history.transitions import transition_of

log = logging.getLogger(__name__)

# Transitions that wait; of more, only the last of each Task.
MAX_WAITING: Final = 10_000
# And of more Tasks than that, the oldest get no line.
MAX_WAITING_TASKS: Final = 50_000
_BATCH: Final = 500
# Only this process writes there, so its pauses need not be spread.
_WRITE_BACKOFF: Final = Backoff(0.5, 30.0, EXACT)
_COMPLAIN_S: Final = 60.0
_PRUNE_S: Final = 600.0
_FLUSH_S: Final = 5.0

Task = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecorderWorld:
    """What a recorder asks of others.

    Attributes:
        synced: set once the handler was told of all Tasks that there are.
        workspace_of: where the TaskCluster of a Task keeps files; None: unknown.
        clock: source of time.
        sleep: waits for seconds.
    """

    synced: asyncio.Event
    workspace_of: Callable[[Task], Mapping[str, str] | None]
    clock: Clock
    sleep: Callable[[float], Any] = asyncio.sleep


class Recorder:
    """Keeps a history of Tasks; :meth:`on_task` is the handler of an informer.

    Args:
        open_files: opens the files; is called again after a failure.
        around: what it asks of others.
    """

    def __init__(self, open_files: Callable[[], HistoryFiles], around: RecorderWorld) -> None:
        self._open_files = open_files
        self._around = around
        # Of the Tasks that exist: what got a line, or waits for one.
        self._last: dict[str, tuple[Any, ...]] = {}
        self._waiting: list[Transition] = []
        self._room = MAX_WAITING
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sequence = 0
        self._lost = 0
        self._restored = False
        self._complained_s = float("-inf")
        self._failures = 0
        self.trouble = ""

    @property
    def lines(self) -> int:
        """Number of the last line."""
        return self._sequence

    @property
    def waiting(self) -> int:
        """How many transitions wait for their line."""
        return len(self._waiting)

    def on_task(self, old: Task | None, new: Task | None) -> None:
        """Take notice of a Task that came, changed or went. Does not wait."""
        task = new if new is not None else old
        if task is None:
            return
        uid = task["metadata"]["uid"]
        if new is None:
            self._last.pop(uid, None)
        else:
            now = transition_of(new)
            if self._last.get(uid) == now:
                return
            self._last[uid] = now
        self._put(self._entry(task, deleted=new is None, late=not self._around.synced.is_set()))

    def _entry(self, task: Task, *, deleted: bool, late: bool) -> Transition:
        return Transition(
            task=task,
            at=self._around.clock.now(),
            deleted=deleted,
            late=late,
            workspace=self._around.workspace_of(task) or noted_of(task).workspace,
        )

    def _put(self, entry: Transition) -> None:
        self._waiting.append(entry)
        if len(self._waiting) > self._room:
            self._shorten()
        self._idle.clear()
        self._news.set()

    def _shorten(self) -> None:
        """Keep only the last transition of each Task, and of too many Tasks only the latest."""
        last: dict[str, Transition] = {}
        for entry in self._waiting:
            last.pop(entry.task["metadata"]["uid"], None)
            last[entry.task["metadata"]["uid"]] = entry
        kept = list(last.values())[-MAX_WAITING_TASKS:]
        self._lost += len(self._waiting) - len(kept)
        self._waiting = kept
        # Where each Task has one transition only, it is not gone over again for each further one.
        self._room = max(MAX_WAITING, 2 * len(kept))

    # --- writing ------------------------------------------------------------------------

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            try:
                files = await asyncio.to_thread(self._open_files)
                try:
                    await self._restore(files)
                    if not self._waiting:
                        self._well()
                    await self._write(files)
                finally:
                    files.close()
            except (OSError, ConfigError) as error:
                self._complain(error)
                self._failures += 1
                await self._around.sleep(_WRITE_BACKOFF.pause_s(self._failures))

    async def close(self) -> None:
        """Wait until all is written, for some seconds at most."""
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self._idle.wait()
        except TimeoutError:
            log.warning("history: %d transitions were not written", len(self._waiting))

    async def _write(self, files: HistoryFiles) -> None:
        clock = self._around.clock
        while True:
            await asyncio.to_thread(files.prune)
            pruned_s = clock.monotonic_s()
            while clock.monotonic_s() - pruned_s < _PRUNE_S:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PRUNE_S):
                        await self._news.wait()
                await self._write_waiting(files)

    async def _write_waiting(self, files: HistoryFiles) -> None:
        while self._waiting:
            batch, lost = self._waiting[:_BATCH], self._lost
            first = self._sequence + 1
            await asyncio.to_thread(_append, files, batch, first, lost)
            # Meanwhile the queue may have been shortened, but not reordered.
            written = {id(entry) for entry in batch}
            self._waiting = [entry for entry in self._waiting if id(entry) not in written]
            self._sequence += len(batch)
            self._lost -= lost
            self._well()
        self._room = MAX_WAITING
        self._news.clear()
        self._idle.set()

    # --- going on where an earlier recorder ended ---------------------------------------

    async def _restore(self, files: HistoryFiles) -> None:
        """Leave out what has a line already, and note what was deleted meanwhile."""
        if self._restored:
            return
        recorded, self._sequence = await asyncio.to_thread(_recorded, files)
        self._waiting = [
            entry
            for entry in self._waiting
            if entry.deleted
            or recorded.get(entry.task["metadata"]["uid"]) != transition_of(entry.task)
        ]
        await self._around.synced.wait()
        seen = {entry.task["metadata"]["uid"] for entry in self._waiting if entry.deleted}
        missing = recorded.keys() - self._last.keys() - seen
        if missing:
            tasks = await asyncio.to_thread(_last_lines, files, missing)
            for task in tasks:
                self._put(self._entry(task, deleted=True, late=True))
            log.info("history: Tasks that were deleted while no recorder ran: %d", len(tasks))
        self._restored = True
        if not self._waiting:
            self._idle.set()

    # --- telling ------------------------------------------------------------------------

    def _complain(self, error: Exception) -> None:
        text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        if isinstance(error, BlockingIOError):
            text = "another process writes to it"
        self.trouble = text
        now_s = self._around.clock.monotonic_s()
        if now_s - self._complained_s >= _COMPLAIN_S:
            self._complained_s = now_s
            log.warning(
                "history: it cannot be written: %s; %d transitions wait, and it is tried again "
                "(said once a minute)",
                text,
                len(self._waiting),
            )

    def _well(self) -> None:
        if self.trouble:
            log.info("history: it can be written again")
        self.trouble = ""
        self._failures = 0


def _append(files: HistoryFiles, batch: list[Transition], first: int, lost: int) -> None:
    files.append(
        [
            encode(entry, sequence=first + number, lost=0 if number else lost)
            for number, entry in enumerate(batch)
        ]
    )


def _recorded(files: HistoryFiles) -> tuple[dict[str, tuple[Any, ...]], int]:
    """Return the transition of each Task whose deletion has no line, and the last number."""
    found: dict[str, tuple[Any, ...]] = {}
    sequence = 0
    for task in _all_lines(files):
        uid = task["metadata"]["uid"]
        with contextlib.suppress(AttributeError, TypeError):  # a line of another program
            sequence = max(sequence, sequence_of(task))
            if noted_of(task).deleted:
                found.pop(uid, None)
            else:
                found[uid] = transition_of(task)
    return found, sequence


def _last_lines(files: HistoryFiles, uids: Collection[str]) -> list[Task]:
    """Return Tasks as their last lines have them."""
    found: dict[str, Task] = {}
    for task in _all_lines(files):
        if task["metadata"]["uid"] in uids:
            found[task["metadata"]["uid"]] = task
    return list(found.values())


def _all_lines(files: HistoryFiles) -> Iterator[Task]:
    """Yield the Tasks of all lines that can be read; readers say which cannot."""
    for lines in files.segments():
        for line in lines:
            task = peek(line)
            if task is not None:
                yield task
