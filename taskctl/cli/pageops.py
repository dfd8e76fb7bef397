"""What the page asks of single Tasks, answered as the verbs of the same names do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from taskctl.api.resources import TASKS
from taskctl.api.states import TaskState
from taskctl.cli.access import Access
from taskctl.cli.exits import CliError
from taskctl.cli.gone import NO_HISTORY, History
from taskctl.cli.logs import find_place
from taskctl.clock import Clock, SystemClock
from taskctl.errors import BadRequest, NotFound
from taskctl.history.reading import Newest, Wanted
from taskctl.kube.client import KubeClient
from taskctl.kube.interface import LogOptions, PatchOptions
from taskctl.outside.logcopy import CopyError, Place, find_copy
from taskctl.outside.outcome import is_complete
from taskctl.outside.rerunning import Rerunner
from taskctl.outside.session import Session
from taskctl.policy.view import parse_task
from taskctl.ui.model import Row, row_of
from taskctl.ui.ops import LogText, TaskRef

LOG_LINES: Final = 1000
LOG_BYTES: Final = 256 * 1024
# Of lines as long as that, the last ones have to do.
_READ_BYTES: Final = 16 * 1024 * 1024


FindHistory = Callable[[], Awaitable[History | None]]


@dataclass(frozen=True, slots=True)
class EarlierTasks:
    """The Tasks of a history as rows.

    Attributes:
        find_history: returns the history, or None; one may come to be while the page is served.
        namespace: whose Tasks; empty: of all.
    """

    find_history: FindHistory
    namespace: str

    async def newest(self, limit: int) -> tuple[str, Newest[Row]]:
        """Return what the history is, in words, and the Tasks that went last.

        Raises:
            CliError: there is no history, or it cannot be read.
        """
        history = await self.find_history()
        if history is None:
            raise CliError(NO_HISTORY)
        wanted = Wanted(namespace=self.namespace, gone=True)
        return history.name, await history.newest(wanted, limit, row_of)


@dataclass(frozen=True, slots=True)
class PageOps:
    """Single Tasks, with the rights of the kubeconfig.

    Attributes:
        access: for the workspace of a local stack.
        client: where to ask.
        gone: Tasks that only a history has, by UID.
        find_history: returns where Tasks that are gone are recorded, or None.
        clock: source of time.
    """

    access: Access
    client: KubeClient
    gone: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    find_history: FindHistory | None = None
    clock: Clock = SystemClock()  # noqa: RUF009 - has no state

    async def get(self, ref: TaskRef) -> dict[str, Any]:
        """Return the raw Task, if it is still the same, or as the history has it."""
        if ref.uid in self.gone:
            return self.gone[ref.uid]
        try:
            return await self._existing(ref)
        except NotFound:
            history = await self._history()
            if history is None:
                raise
            wanted = Wanted(namespace=ref.namespace, uid=ref.uid, gone=True)
            found = (await history.newest(wanted, 1, lambda task: task)).found
            if not found:
                raise
            return found[0]

    async def _history(self) -> History | None:
        try:
            return await self.find_history() if self.find_history else None
        except CliError:
            return None  # it may not be read; the board Earlier says so

    async def _existing(self, ref: TaskRef) -> dict[str, Any]:
        task = await self.client.get(TASKS, ref.name, ref.namespace)
        if task["metadata"]["uid"] != ref.uid:
            raise NotFound(f"{ref.name} was deleted; another task has its name now")
        return task

    async def log(self, ref: TaskRef, attempt: int | None) -> LogText:
        """Return the last lines of an attempt: from its container, or the workspace's copy."""
        task = await self.get(ref)
        place = find_place(task, attempt)
        try:
            return await self._of_container(ref, place)
        except (NotFound, BadRequest) as error:
            session = Session(
                self.client, ref.namespace, self.access.kubeconfig, self.access.context
            )
            copy = await find_copy(session, task)
            if copy is None:
                raise
            tail = _Tail()
            try:
                async with aclosing(copy.read(place, tail=LOG_LINES)) as chunks:
                    async for part in chunks:
                        if not tail.add(part.data):
                            break
            except CopyError as second:
                raise NotFound(f"{error}; {second}") from second
            return tail.result("The container is gone; this is the copy in the workspace.")

    async def _of_container(self, ref: TaskRef, place: Place) -> LogText:
        if not place.pod:
            raise NotFound(f"attempt {place.attempt} of {place.task} left no worker behind")
        # One line more than is shown tells whether something was left out.
        options = LogOptions(tail_lines=LOG_LINES + 1)
        log = self.client.stream_log(place.pod, ref.namespace, place.container, options=options)
        tail = _Tail()
        async with aclosing(log) as chunks:
            async for chunk in chunks:
                if not tail.add(chunk):
                    break
        return tail.result()

    async def cancel(self, ref: TaskRef) -> None:
        """Ask the Task and its descendants to stop."""
        task = await self._existing(ref)
        if TaskState(parse_task(task).state).terminal and is_complete(task):
            raise CliError(f"{ref.name} has already ended")
        body = {"metadata": {"uid": ref.uid}, "spec": {"cancel": True, "cancelScope": None}}
        await self.client.patch(
            TASKS, ref.name, ref.namespace, body, options=PatchOptions(idempotent=True)
        )

    async def retry(self, ref: TaskRef) -> None:
        """Queue a failed Task again; of a root with tasks those that did not succeed."""
        await self._existing(ref)
        session = Session(self.client, ref.namespace, self.access.kubeconfig, self.access.context)
        if not await Rerunner(session, self.clock).retry(ref.name):
            raise CliError(f"no task of {ref.name} has failed or was cancelled")


class _Tail:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._seen = 0
        self._cut = False

    def add(self, chunk: bytes) -> bool:
        """Take in a chunk; False when that is enough."""
        self._seen += len(chunk)
        self._kept += chunk
        if len(self._kept) > 2 * LOG_BYTES:
            del self._kept[:-LOG_BYTES]
            self._cut = True
        return self._seen <= _READ_BYTES

    def result(self, note: str = "") -> LogText:
        """Return what was kept."""
        kept = bytes(self._kept[-LOG_BYTES:])
        cut = self._cut or len(kept) < len(self._kept)
        lines = kept.split(b"\n")
        if len(lines) > LOG_LINES + 1:
            kept, cut = b"\n".join(lines[-LOG_LINES - 1 :]), True
        if self._seen > _READ_BYTES:
            note = f"{note} The log is longer than what was read of it.".strip()
        return LogText(kept, note, cut)
