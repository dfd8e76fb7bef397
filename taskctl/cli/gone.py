"""Tasks that are gone: where their history is, and a reader that falls back on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from taskctl.api.resources import TASKS
from taskctl.cli.access import Session
from taskctl.cli.durations import short_age
from taskctl.cli.exits import CliError, UsageError
from taskctl.cli.output import counted, note
from taskctl.clock import Clock, SystemClock
from taskctl.constants import FIELD_ROOT_UID
from taskctl.errors import NotFound
from taskctl.history.files import LOCAL_DIRECTORY
from taskctl.history.lines import noted_of
from taskctl.history.reading import Found, Made, Newest, Wanted, read_history, read_newest
from taskctl.kube.interface import ListOptions, ListPage, Reader
from taskctl.kube.resources import Resource
from taskctl.outside import session as sessions
from taskctl.policy.view import TaskView, parse_task

log = logging.getLogger(__name__)

NO_HISTORY: Final = (
    "there is no history: `taskctl local` keeps one unless it is started with --no-history, "
    "`taskctl install --history` one of a cluster, and `taskctl export --follow` writes a file"
)
_EVERYTHING: Final = ListOptions()
_SYSTEM_CLOCK: Final = SystemClock()


class History(Protocol):
    """What was recorded of Tasks."""

    @property
    def name(self) -> str:
        """What it is, in words."""
        ...

    async def read(self, wanted: Wanted) -> list[dict[str, Any]]:
        """Return Tasks as their last lines have them.

        Raises:
            CliError: it cannot be read.
        """
        ...

    async def newest(
        self, wanted: Wanted, limit: int, make: Callable[[dict[str, Any]], Made]
    ) -> Newest[Made]:
        """Return the Tasks that went last, as :func:`taskctl.history.reading.read_newest` does.

        Raises:
            CliError: it cannot be read.
        """
        ...


def readable_tasks(found: Found, source: str) -> list[dict[str, Any]]:
    """Return the Tasks that were read; tell on stderr what could not be.

    Args:
        found: what a history held.
        source: which one, in words.
    """
    for problem in found.problems:
        note(f"{source}: {problem}; the line is left out")
    return found.tasks


@dataclass(frozen=True, slots=True)
class LocalHistory:
    """The history of a local stack.

    Attributes:
        data_dir: of the stack.
    """

    data_dir: Path

    @property
    def name(self) -> str:
        """What it is, in words."""
        return f"the history in {self.data_dir / LOCAL_DIRECTORY}"

    async def read(self, wanted: Wanted) -> list[dict[str, Any]]:
        """Return Tasks as their last lines have them; what cannot be read is told on stderr."""
        try:
            found = await asyncio.to_thread(read_history, self.data_dir, LOCAL_DIRECTORY, wanted)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CliError(f"{self.name} cannot be read: {error.strerror or error}") from error
        return readable_tasks(found, self.name)

    async def newest(
        self, wanted: Wanted, limit: int, make: Callable[[dict[str, Any]], Made]
    ) -> Newest[Made]:
        """Return the Tasks that went last."""
        try:
            return await asyncio.to_thread(
                read_newest, self.data_dir, LOCAL_DIRECTORY, wanted, limit, make
            )
        except FileNotFoundError:
            return Newest()
        except OSError as error:
            raise CliError(f"{self.name} cannot be read: {error.strerror or error}") from error


async def find_history(session: Session) -> History | None:
    """Return the history of the API server that a session is with, or None.

    Raises:
        CliError: there may be one, but not for us; names the right that is missing.
    """
    data_dir = await asyncio.to_thread(sessions.data_dir_of, session.kubeconfig, session.context)
    if data_dir is not None:
        return LocalHistory(data_dir) if (data_dir / LOCAL_DIRECTORY).is_dir() else None
    # Which most runs need not load.
    from taskctl.cli.clusterhistory import find_cluster_history

    client = session.client
    return await find_cluster_history(client, session.namespace, client.namespace)


class WithHistory:
    """A reader of the API server that also knows Tasks that are gone from it.

    Args:
        client: of the API server.
        find: returns the history, or None; it is not looked for before it is needed.
        clock: source of time.

    Attributes:
        gone: what only the history had, by UID.
    """

    def __init__(
        self,
        client: Reader,
        find: Callable[[], Awaitable[History | None]],
        clock: Clock = _SYSTEM_CLOCK,
    ) -> None:
        self._client = client
        self._find = find
        self._history: History | None = None
        self._clock = clock
        self.gone: dict[str, dict[str, Any]] = {}

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Return one object.

        Raises:
            NotFound: neither the API server nor the history has it.
            ApiError: the API server refuses, or is away.
        """
        try:
            return await self._client.get(res, name, namespace)
        except NotFound:
            if res is not TASKS or not await self._has_history():
                raise
            assert self._history is not None
            found = await self._history.read(Wanted(namespace=namespace or "", name=name))
            if not found:
                raise
            task = found[-1]
            self.gone[task["metadata"]["uid"]] = task
            note(f"{name} is gone; this is from {self._history.name}: {when(task, self._clock)}.")
            return task

    async def _has_history(self) -> bool:
        """Whether there is one that may be read."""
        try:
            self._history = await self._find()
        except CliError as error:
            # That the Task is not there is what was asked; a user who asks for the history itself
            # (--history) is told which right is missing.
            log.debug("%s", error)
            return False
        return self._history is not None

    async def list(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        options: ListOptions = _EVERYTHING,
    ) -> ListPage:
        """Return a page of objects of the API server, and of a tree that is gone those."""
        page = await self._client.list(res, namespace, options=options)
        return await self._completed(res, options, page)

    async def list_all(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        options: ListOptions = _EVERYTHING,
    ) -> ListPage:
        """Return all objects of the API server, and of a tree that is gone those."""
        page = await self._client.list_all(res, namespace, options=options)
        return await self._completed(res, options, page)

    async def _completed(self, res: Resource, options: ListOptions, page: ListPage) -> ListPage:
        fields = selected(options)
        root_uid = fields.get(FIELD_ROOT_UID, "")
        roots = {parse_task(task).root_uid for task in self.gone.values()}
        if res is not TASKS or self._history is None or root_uid not in roots:
            return page
        if options.label_selector:
            raise UsageError("--selector: the tree is gone, and a history is not asked for labels")
        there = {task["metadata"]["uid"] for task in page.items}
        found = await self._history.read(Wanted(root_uid=root_uid))
        members = [
            task
            for task in found
            if task["metadata"]["uid"] not in there and has_fields(parse_task(task), fields)
        ]
        self.gone.update((task["metadata"]["uid"], task) for task in members)
        return replace(page, items=[*page.items, *members])


def selected(options: ListOptions) -> dict[str, str]:
    """Return the values that a list asks for, by field."""
    return dict(part.split("=", 1) for part in options.field_selector.split(",") if part)


def has_fields(view: TaskView, wanted: Mapping[str, str]) -> bool:
    """Whether a Task has the values that a list asks for."""
    # A root is not a member of its own tree, as in the API server.
    fields = {
        "status.state": view.state.value,
        "spec.clusterName": view.cluster,
        FIELD_ROOT_UID: "" if view.is_root else view.root_uid,
    }
    return all(fields[field] == value for field, value in wanted.items())


def when(task: Mapping[str, Any], clock: Clock) -> str:
    """Return since when a Task from a history is as it is there, in words."""
    noted = noted_of(task)
    if noted.at is None:
        return "as it was recorded last"
    age = short_age(max((clock.now() - noted.at).total_seconds(), 0.0))
    if not noted.deleted:
        return f"as it was {age} ago"
    return f"deleted {'before that, noticed ' if noted.late else ''}{age} ago"


def tasks_gone(count: int) -> str:
    """Return words for so many Tasks that were deleted."""
    return f"{counted(count, 'task')} that {'is' if count == 1 else 'are'} gone"


def latest(tasks: Iterable[Mapping[str, Any]], clock: Clock = _SYSTEM_CLOCK) -> str:
    """Return how old the newest of them is, as the end of a sentence."""
    moments = [noted.at for task in tasks if (noted := noted_of(task)).at is not None]
    if not moments:
        return ""
    age = short_age(max((clock.now() - max(moments)).total_seconds(), 0.0))
    return f"; the last one was deleted {age} ago"
