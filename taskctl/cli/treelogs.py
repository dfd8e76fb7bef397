"""``taskctl logs --tree``: what a task and its descendants write, each line with its task."""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from taskctl.cli.access import Session
from taskctl.cli.exits import CliError, ExitCode
from taskctl.cli.loggroup import LogGroup
from taskctl.cli.logprint import LogRequest
from taskctl.cli.logsink import ChunkWriter, LineWriter
from taskctl.cli.output import counted, note, wants_colour
from taskctl.cli.tables import natural
from taskctl.cli.terminal import one_line
from taskctl.constants import FIELD_ROOT_UID
from taskctl.outside.outcome import is_complete
from taskctl.policy.view import parse_task

if TYPE_CHECKING:
    from taskctl.kube.follow import Change
    from taskctl.kube.interface import Reader

# 31 (red) and 32 (green) say how a task ended elsewhere.
_COLOURS: Final = (36, 33, 35, 34, 96, 93, 95, 94)
_WIDTH_MAX: Final = 40
_STEPS_MAX: Final = 1000


class Prefixes:
    """Makes the names in front of the lines; each task keeps its colour.

    Args:
        colour: with colours.
        aligned: as wide as the widest so far, so that a person can read the lines.
    """

    def __init__(self, *, colour: bool, aligned: bool) -> None:
        self._colour = colour
        self._aligned = aligned
        self._width = 0

    def of(self, name: str) -> str:
        """Return the prefix of a task's lines."""
        text = one_line(name)
        if self._aligned:
            self._width = min(_WIDTH_MAX, max(self._width, len(text)))
            text = text.ljust(self._width)
        if not self._colour:
            return f"{text} | "
        code = _COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]
        return f"\x1b[{code}m{text} |\x1b[0m "


async def print_tree_logs(
    session: Session, name: str, wanted: LogRequest, reader: Reader | None = None
) -> int:
    """Print the logs of a Task and its descendants; returns the exit code.

    Without ``wanted.follow`` one after the other, in the order in which the tasks were created.
    With it as they are written, those of tasks that appear later too, until all have ended.

    Args:
        session: client and namespace.
        name: of the Task at the top.
        wanted: what to print.
        reader: knows the Tasks; None: the session's client. Those that are followed are its.

    Raises:
        CliError: there is no such Task, or it was deleted meanwhile.
    """
    terminal = sys.stdout.isatty()
    prefixes = Prefixes(colour=wants_colour(), aligned=terminal)

    def writer_for(task: dict[str, Any]) -> ChunkWriter:
        return LineWriter(prefixes.of(task["metadata"]["name"]), filtered=wanted.filtered)

    group = LogGroup(session, writer_for, wanted)
    try:
        if wanted.follow:
            await _follow(session, name, group)
        else:
            await _print(reader or session.client, session.namespace, name, group)
    finally:
        await group.close()
    return ExitCode.FAILED if group.lost else ExitCode.OK


async def _print(reader: Reader, namespace: str, name: str, group: LogGroup) -> None:
    tasks = [task for task in await _load(reader, namespace, name) if not parse_task(task).is_graph]
    printed = await group.print_all(tasks)
    if printed < len(tasks):
        left = len(tasks) - printed
        have = "has" if left == 1 else "have"
        note(f"({counted(left, 'task')} {have} not run, and so no log)")


async def _load(reader: Reader, namespace: str, name: str) -> list[dict[str, Any]]:
    """Return a Task and its descendants, raw, in the order of their creation."""
    from taskctl.api.resources import TASKS
    from taskctl.kube.interface import ListOptions

    top = await reader.get(TASKS, name, namespace)
    options = ListOptions(field_selector=f"{FIELD_ROOT_UID}={parse_task(top).root_uid}")
    page = await reader.list_all(TASKS, namespace, options=options)
    family = Family(top)
    # Of a root the list does not have itself.
    tasks = {task["metadata"]["uid"]: task for task in [top, *family.add(page.items)]}
    return sorted(tasks.values(), key=_by_creation)


def _by_creation(task: dict[str, Any]) -> tuple[Any, ...]:
    view = parse_task(task)
    created = (view.status.get("times") or {}).get("created") or view.created
    return created, natural(view.name)


class Family:
    """Which tasks descend from one, found out task by task.

    Args:
        top: the raw Task at the top.
    """

    def __init__(self, top: dict[str, Any]) -> None:
        view = parse_task(top)
        self.uid = view.uid
        self._is_root = view.root_uid == view.uid
        self._open = {view.uid} - ({view.uid} if view.state.terminal else set())
        self._uids = {view.uid}
        self._waiting: dict[str, dict[str, dict[str, Any]]] = {}
        self._complete = is_complete(top)

    @property
    def ended(self) -> bool:
        """Whether all have ended; a task that has ended makes no more."""
        return self._complete if self._is_root else not self._open

    def add(self, tasks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Take raw Tasks of the tree, new or changed; returns those that belong to the family.

        One whose parent was not seen yet waits for it.
        """
        found, stack = [], list(tasks)[::-1]
        while stack:
            task = stack.pop()
            view = parse_task(task)
            if view.uid not in self._uids and view.parent_uid not in self._uids:
                self._waiting.setdefault(view.parent_uid, {})[view.uid] = task
                continue
            found.append(task)
            self._uids.add(view.uid)
            (self._open.discard if view.state.terminal else self._open.add)(view.uid)
            if view.uid == self.uid:
                self._complete = is_complete(task)
            stack += self._waiting.pop(view.uid, {}).values()
        return found

    def remove(self, uids: Iterable[str]) -> None:
        """Note that Tasks were deleted."""
        self._open.difference_update(uids)


async def _follow(session: Session, name: str, group: LogGroup) -> None:
    from taskctl.api.resources import TASKS

    top = await session.client.get(TASKS, name, session.namespace)
    family = Family(top)
    tasks = await _load(session.client, session.namespace, name)
    for task in family.add(tasks):
        group.see(task, latest_only=True)
    if not family.ended:
        await _watch(session, top, family, group)
    # The watches end with the root; what they have not told of others is looked up.
    for task in await _load(session.client, session.namespace, name):
        group.see(task)
    await group.drained()


async def _watch(session: Session, top: dict[str, Any], family: Family, group: LogGroup) -> None:
    """Tell the group of all changes, until the family has ended."""
    from taskctl.api.resources import TASKS
    from taskctl.kube.follow import Selection, follow

    view = parse_task(top)
    selectors = (f"metadata.name={view.name}", f"{FIELD_ROOT_UID}={view.root_uid}")
    steps: asyncio.Queue[tuple[bool, Change | Exception]] = asyncio.Queue(_STEPS_MAX)

    async def read(selector: str, *, of_top: bool) -> None:
        selection = Selection(TASKS, session.namespace, field_selector=selector)
        try:
            async with aclosing(follow(session.client, selection)) as changes:
                async for change in changes:
                    await steps.put((of_top, change))
        except Exception as error:  # noqa: BLE001 - handed to the reader, who raises it
            await steps.put((of_top, error))

    readers = [
        asyncio.create_task(read(selector, of_top=number == 0), name=f"watch of {selector}")
        for number, selector in enumerate(selectors)
    ]
    try:
        while not family.ended:
            of_top, change = await steps.get()
            if isinstance(change, Exception):
                raise change
            if change.deleted:
                family.remove(task["metadata"]["uid"] for task in change.objects)
            else:
                for task in family.add(change.objects):
                    group.see(task)
            there = not change.deleted and any(
                task["metadata"]["uid"] == family.uid for task in change.objects
            )
            if of_top and not there:
                raise CliError(f"{view.name} was deleted", ExitCode.NOT_FOUND)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
