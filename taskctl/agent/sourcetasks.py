"""Which Tasks ``spec.inputFrom`` means, and how they stand: many are found by a few lists."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from taskctl.agent.context import Context
from taskctl.agent.listing import collect
from taskctl.agent.objects import read_object
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.agent.resultread import CONCURRENT_READS, Returned
from taskctl.api.resources import TASKS
from taskctl.api.states import TaskState
from taskctl.kube.interface import KubeObject
from taskctl.policy.view import TaskView, parse_task

FEW: Final = 16  # so many are read one by one


@dataclass(slots=True)
class Source:
    """A Task whose result is a part of an input, as last seen.

    Attributes:
        name: of the Task.
        uid: of the Task.
        state: of the Task.
        created: when.
        returned: where its result is; None: it has none.
    """

    name: str
    uid: str
    state: TaskState
    created: str
    returned: Returned | None

    @property
    def ended(self) -> bool:
        """Whether the task has ended."""
        return self.state.terminal


class SourceTasks:
    """Finds Tasks whose results are parts of inputs.

    Args:
        context: of the agent.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reads = asyncio.Semaphore(CONCURRENT_READS)

    async def of(self, view: TaskView) -> list[list[Source]]:
        """Return the tasks of each entry of ``spec.inputFrom``, in the order of the results.

        Raises:
            Refusal: ``rejected``: one does not exist, or is of another tree.
            ApiError: the API server refused, or was away for 20 s.
        """
        entries = view.spec.get("inputFrom") or ()
        names = dict.fromkeys(name for entry in entries for name in _names(entry))
        known = await self._named(view, names)
        groups: dict[str, list[Source]] = {}
        for entry in entries:
            group = entry.get("group")
            if group and group not in groups:
                groups[group] = await self._members(view, group)
        return [
            groups[entry["group"]]
            if entry.get("group")
            else [known[name] for name in _names(entry)]
            for entry in entries
        ]

    async def renew(self, view: TaskView, source: Source) -> None:
        """Look at a task once more.

        Raises:
            Refusal: ``rejected``: it does not exist any more.
            ApiError: the API server refused, or was away for 20 s.
        """
        seen = await self._read(view, source.name)
        source.uid, source.state, source.returned = seen.uid, seen.state, seen.returned

    async def _named(self, view: TaskView, names: Iterable[str]) -> dict[str, Source]:
        wanted = set(names)
        known: dict[str, Source] = {}
        if len(wanted) > FEW and view.parent_uid:
            # They are siblings as a rule: what one task has spawned.
            siblings = await collect(
                self._context,
                TASKS,
                lambda task: _source(task) if task["metadata"]["name"] in wanted else None,
                field_selector=f"spec.lineage.parentUID={view.parent_uid}",
            )
            known = {source.name: source for source in siblings}
        missing = sorted(wanted - set(known))
        read = await asyncio.gather(*(self._read(view, name) for name in missing))
        return known | {source.name: source for source in read}

    async def _read(self, view: TaskView, name: str) -> Source:
        async with self._reads:
            task = await read_object(self._context, TASKS, name)
        if task is None:
            raise rejected(name, "does not exist (any more)")
        if not _may_read(view, parse_task(task)):
            raise rejected(name, f"belongs to another tree than {view.name}")
        return _source(task)

    async def _members(self, view: TaskView, group: str) -> list[Source]:
        """Return the members of a group that have ended, in the order of their creation.

        One that was created after this task had started may be open: it was not waited for.
        """
        found = await collect(
            self._context,
            TASKS,
            lambda task: _member(view, task),
            field_selector=f"spec.group={group}",
        )
        return sorted(found, key=lambda source: (source.created, source.name))


def _names(entry: dict[str, Any]) -> list[str]:
    if entry.get("tasks") is not None:
        return list(entry["tasks"])
    return [entry["task"]] if entry.get("task") else []


def _source(task: KubeObject) -> Source:
    view = parse_task(task)
    good = view.state is TaskState.SUCCEEDED
    returned = Returned.by(view.uid, view.status) if good else None
    return Source(view.name, view.uid, view.state, view.created, returned)


def _member(view: TaskView, task: KubeObject) -> Source | None:
    other = parse_task(task)
    if other.uid == view.uid or other.root_uid != view.root_uid or not other.state.terminal:
        return None
    return _source(task)


def _may_read(view: TaskView, source: TaskView) -> bool:
    """Whether a Task may be given another's result: of its tree; to a root, that of a root.

    A root is made by a person, who may read them; a child by task code, which may not.
    """
    return source.root_uid == view.root_uid or (view.is_root and source.is_root)


def rejected(name: str, problem: str) -> Refusal:
    """Return the refusal of a result that cannot be had."""
    return Refusal(ErrorCode.REJECTED, f"inputFrom: task {name} {problem}")
